"""IMAP, LMTP and POP3 on bare sockets.

A client that parses costs more than a server that sends, and would hide what
is measured. These send a line, take bytes until the answer's last line, and
leave the looking at them for later.
"""

from __future__ import annotations

import re
import secrets
import socket

#: The most that one answer may hold, and memory that is there before the clock starts.
_ROOM = 96 << 20
_buffer = memoryview(bytearray(b"\0") * _ROOM)


class Refused(Exception):
    """The server said no."""


class _Line:
    """A connection that answers a command with bytes up to a known end."""

    def __init__(self, sock: socket.socket):
        self.sock = sock
        self.sock.settimeout(600)
        self._have = 0

    def send(self, data: bytes) -> None:
        """All of it."""
        self.sock.sendall(data)

    def until(self, complete) -> memoryview:
        """Receive until `complete(bytes so far)`; lent until the next call.

        Beyond the room only the end is kept: the answer is then as long as `received` says.
        """
        have = self.received = 0
        while True:
            if have == _ROOM:
                _buffer[:4096] = _buffer[have - 4096 : have]
                have = 4096
            got = self.sock.recv_into(_buffer[have:], min(1 << 20, _ROOM - have))
            if not got:
                raise Refused("the connection was closed")
            have += got
            self.received += got
            if _buffer[have - 1] == 0x0A and complete(_buffer, have):
                return _buffer[:have]

    def line(self) -> bytes:
        """One line, where nothing else can follow it."""
        return bytes(self.until(lambda data, end: True))

    def close(self) -> None:
        """Without a word."""
        self.sock.close()


def _last_line(data: memoryview, end: int) -> bytes:
    tail = bytes(data[max(0, end - 1024) : end])
    return tail[tail.rfind(b"\n", 0, -1) + 1 :]


class Imap(_Line):
    """A session, logged in."""

    def __init__(self, address: str, port: int, user: str, password: str):
        super().__init__(socket.create_connection((address, port)))
        # Nothing in a mail looks like the end of an answer.
        self.tag = secrets.token_hex(8).encode()
        self.line()
        self.command(f"LOGIN {user} {password}")

    def command(self, text: str | bytes) -> memoryview:
        """Send a command; its answer without the last line, lent until the next. No OK raises."""
        text = text.encode() if isinstance(text, str) else text
        self.send(self.tag + b" " + text + b"\r\n")
        return self.answer()

    def answer(self) -> memoryview:
        """The answer to a command that was sent."""
        ok = self.tag + b" OK"
        answer = self.until(lambda data, end: _last_line(data, end).startswith(self.tag))
        last = _last_line(answer, len(answer))
        if not last.startswith(ok):
            raise Refused(last.decode("utf-8", "replace"))
        return answer[: len(answer) - len(last)]

    def append(self, folder: str, mails: list[bytes]) -> None:
        """Store mails, one command each."""
        for mail in mails:
            self.send(b"%s APPEND %s {%d+}\r\n%s\r\n" % (self.tag, folder.encode(), len(mail), mail))
            self.answer()

    def __enter__(self) -> "Imap":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.command("LOGOUT")
        self.close()


class Lmtp(_Line):
    """One connection, over which many mails go."""

    def __init__(self, path: str):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        super().__init__(sock)
        self.line()
        self.ask(b"LHLO bench.example.org\r\n", 1)

    def ask(self, data: bytes, answers: int) -> None:
        """Send, and take that many final lines; a refusal raises."""
        self.send(data)
        finals = re.compile(rb"^(\d)\d\d .*\r\n", re.M)
        answer = self.until(lambda got, end: len(finals.findall(bytes(got[:end]))) >= answers)
        for code in finals.findall(bytes(answer)):
            if code not in b"23":
                raise Refused(bytes(answer).decode("utf-8", "replace"))

    def deliver(self, user: str, dotted: bytes) -> None:
        """One transaction, pipelined as a mail server does; `dotted` ends with a dot alone."""
        self.ask(b"MAIL FROM:<sender@example.org>\r\nRCPT TO:<%s>\r\nDATA\r\n" % user.encode(), 3)
        self.ask(dotted, 1)

    def __enter__(self) -> "Lmtp":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Pop3(_Line):
    """A session, logged in."""

    def __init__(self, address: str, port: int, user: str, password: str):
        super().__init__(socket.create_connection((address, port)))
        self.line()
        self.ask(f"USER {user}")
        self.ask(f"PASS {password}")

    def ask(self, text: str) -> None:
        """A command with an answer of one line."""
        self.send(text.encode() + b"\r\n")
        answer = self.line()
        if not answer.startswith(b"+OK"):
            raise Refused(answer.decode("utf-8", "replace"))

    def retrieve(self, number: int) -> memoryview:
        """One mail, as it comes over the wire."""
        self.send(b"RETR %d\r\n" % number)
        answer = self.until(
            lambda data, end: bytes(data[max(0, end - 5) : end]) == b"\r\n.\r\n"
            or bytes(data[:4]) == b"-ERR"
        )
        if bytes(answer[:3]) != b"+OK":
            raise Refused(bytes(answer[:200]).decode("utf-8", "replace"))
        return answer

    def __enter__(self) -> "Pop3":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def dotted(mail: bytes) -> bytes:
    """A mail as it follows DATA."""
    mail = re.sub(rb"(?m)^\.", b"..", mail)
    return mail + (b"" if mail.endswith(b"\r\n") else b"\r\n") + b".\r\n"
