"""IMAP, LMTP and POP3 as a client sees them: the standard library's, a little widened."""

from __future__ import annotations

import imaplib
import poplib
import re
import smtplib
import socket
from dataclasses import dataclass, field

# A mail may be larger than imaplib thinks a line can be.
imaplib._MAXLINE = 10_000_000
poplib._MAXLINE = 1_000_000


@dataclass
class Fetched:
    """The answer to one FETCH."""

    #: "OK", "NO" or "BAD", and the text after it
    status: str
    text: str
    #: what arrived, by uid
    items: dict[int, bytes] = field(default_factory=dict)


class Imap(imaplib.IMAP4):
    """A session. `with` logs out, however far it got."""

    def __init__(
        self,
        address: str,
        port: int,
        user: str,
        password: str,
        timeout: float = 30,
        window: int | None = None,
    ):
        self._window = window
        super().__init__(address, port, timeout=timeout)
        self.login(user, password)

    def _create_socket(self, timeout):
        """`window` keeps the receive buffer small, so that the server has to wait for us."""
        made = socket.socket()
        made.settimeout(timeout)
        if self._window:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._window)
        made.connect((self.host, self.port))
        return made

    def __exit__(self, *args: object) -> None:
        try:
            self.logout()
        except (OSError, imaplib.IMAP4.error):
            self.shutdown()

    def folder(self, name: str = "INBOX", readonly: bool = False) -> int:
        """Select a folder and answer the number of mails in it."""
        status, data = self.select(f'"{name}"', readonly)
        if status != "OK":
            raise imaplib.IMAP4.error(f"SELECT {name}: {data!r}")
        return int(data[0])

    def put(self, mail: bytes, folder: str = "INBOX", flags: str | None = None) -> tuple[str, str]:
        """APPEND; the status and the text."""
        status, data = self.append(f'"{folder}"', flags, None, mail)
        return status, data[0].decode()

    def fetch_uids(self, what: str = "BODY.PEEK[]", uids: str = "1:*") -> Fetched:
        """UID FETCH of one data item, whatever the outcome."""
        status, data = self.uid("FETCH", uids, f"(UID {what})")
        if status == "OK":
            rows, text = data, ""
        else:
            text = data[0].decode() if data and data[0] else ""
            rows = self.untagged_responses.pop("FETCH", [])
        answer = Fetched(status, text)
        for row in rows:
            if isinstance(row, tuple):
                uid = re.search(rb"UID (\d+)", row[0])
                answer.items[int(uid.group(1)) if uid else 0] = row[1]
        return answer

    def bodies(self, folder: str = "INBOX") -> list[bytes]:
        """Every mail of a folder, whole, in the order of uids; an error raises."""
        if self.folder(folder, readonly=True) == 0:
            return []
        answer = self.fetch_uids()
        if answer.status != "OK":
            raise imaplib.IMAP4.error(f"FETCH: {answer.status} {answer.text}")
        return [answer.items[uid] for uid in sorted(answer.items)]

    def stream(self, command: str, chunk: int = 65536):
        """Send a FETCH of one literal and yield its bytes as they come; at most `chunk` a time.

        What is not read yet, the server has yet to send.
        """
        tag = self._new_tag().decode()
        self.send(f"{tag} {command}\r\n".encode())
        line = self.readline()
        size = re.search(rb"\{(\d+)\}\r\n$", line)
        if not size:
            raise imaplib.IMAP4.error(f"no literal: {line!r}")
        left = int(size.group(1))
        while left:
            data = self.read(min(left, chunk))
            if not data:
                raise imaplib.IMAP4.abort(f"{left} bytes of the literal never came")
            left -= len(data)
            yield data
        while not (line := self.readline()).startswith(tag.encode()):
            if not line:
                raise imaplib.IMAP4.abort("connection closed")
        if not line.startswith(f"{tag} OK".encode()):
            raise imaplib.IMAP4.error(line.decode())

    def sizes(self) -> list[int]:
        """RFC822.SIZE of every mail of the selected folder."""
        _, rows = self.uid("FETCH", "1:*", "(RFC822.SIZE)")
        return [int(re.search(rb"RFC822.SIZE (\d+)", row).group(1)) for row in rows if row]

    def uids(self, *criteria: str) -> list[int]:
        """UID SEARCH."""
        status, data = self.uid("SEARCH", *(criteria or ("ALL",)))
        if status != "OK":
            raise imaplib.IMAP4.error(f"SEARCH: {data!r}")
        return [int(uid) for uid in data[0].split()]

    def raw(self, line: str) -> tuple[str, list[str]]:
        """Send one command as it stands: the tagged answer and the untagged lines.

        For answers without literals.
        """
        tag = self._new_tag().decode()
        self.send(f"{tag} {line}\r\n".encode())
        untagged = []
        while True:
            answer = self.readline().decode("utf-8", "backslashreplace")
            if not answer:
                raise imaplib.IMAP4.abort("connection closed")
            if answer.startswith(tag):
                return answer[len(tag) + 1 :].strip(), untagged
            untagged.append(answer.strip())

    def idle_until(self, pattern: str, then) -> str:
        """IDLE, call `then`, and answer the first line in which `pattern` is found."""
        tag = self._new_tag().decode()
        self.send(f"{tag} IDLE\r\n".encode())
        assert self.readline().startswith(b"+")
        then()
        while True:
            line = self.readline().decode()
            if not line:
                raise imaplib.IMAP4.abort("connection closed")
            if re.search(pattern, line):
                break
        self.send(b"DONE\r\n")
        while not self.readline().decode().startswith(tag):
            pass
        return line.strip()


def lmtp(socket_path: str, recipients: list[str], mail: bytes, timeout: float = 60) -> dict[str, tuple[int, bytes]]:
    """Deliver in one transaction; the refused recipients with code and text."""
    client = Lmtp(socket_path, timeout)
    try:
        return client.transaction(recipients, mail)
    finally:
        client.close()


class Lmtp(smtplib.LMTP):
    """smtplib takes only the first of the answers that LMTP gives after the data."""

    def __init__(self, path: str, timeout: float):
        super().__init__(path, timeout=timeout)
        self.sock.settimeout(timeout)

    def transaction(
        self, recipients: list[str], mail: bytes, stored: list[str] | None = None
    ) -> dict[str, tuple[int, bytes]]:
        """One mail, then QUIT; the refused recipients with code and text.

        Those for whom it was stored are added to `stored` as the answers come.
        """
        refused = self.one(recipients, mail, stored)
        self.putcmd("quit")
        return refused

    def one(
        self, recipients: list[str], mail: bytes, stored: list[str] | None = None
    ) -> dict[str, tuple[int, bytes]]:
        """One of several mails."""
        self.ehlo_or_helo_if_needed()
        code, text = self.mail("sender@example.org")
        if code != 250:
            raise smtplib.SMTPSenderRefused(code, text, "sender@example.org")
        refused: dict[str, tuple[int, bytes]] = {}
        accepted = []
        for recipient in recipients:
            code, text = self.rcpt(recipient)
            if code == 250:
                accepted.append(recipient)
            else:
                refused[recipient] = (code, text)
        if not accepted:
            return refused
        self.putcmd("data")
        code, text = self.getreply()
        if code != 354:
            raise smtplib.SMTPDataError(code, text)
        dotted = re.sub(rb"(?m)^\.", b"..", mail)
        self.send(dotted + (b"" if dotted.endswith(b"\r\n") else b"\r\n") + b".\r\n")
        for recipient in accepted:
            code, text = self.getreply()
            if code != 250:
                refused[recipient] = (code, text)
            elif stored is not None:
                stored.append(recipient)
        return refused


def pop3(address: str, port: int, user: str, password: str, timeout: float = 30) -> poplib.POP3:
    """A POP3 session, logged in."""
    session = poplib.POP3(address, port, timeout=timeout)
    session.user(user)
    session.pass_(password)
    return session
