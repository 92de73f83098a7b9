"""Mails whose words can be looked for afterwards."""

from __future__ import annotations

import secrets
from dataclasses import dataclass


@dataclass(frozen=True)
class Mail:
    """A mail as it goes over the wire (CRLF), and words that stand in nothing else."""

    data: bytes
    words: tuple[str, ...]
    subject: str

    @classmethod
    def make(cls, size: int = 2000, subject: str | None = None) -> "Mail":
        """A mail of about `size` bytes with three words of its own.

        The words stand at the beginning, in the middle and at the end of the
        body. Lines are text that compresses badly, so that a compressed mail
        has about its size too.
        """
        words = tuple("w" + secrets.token_hex(12) for _ in range(3))
        subject = subject or "s" + secrets.token_hex(8)
        head = (
            f"From: <sender@example.org>\r\nTo: <user@example.org>\r\n"
            f"Message-ID: <{secrets.token_hex(12)}@example.org>\r\n"
            f"Date: Fri, 3 May 2024 10:00:00 +0000\r\nSubject: {subject}\r\n\r\n"
        ).encode()
        want = max(0, size - len(head) - 3 * (len(words[0]) + 2))
        half = (want // 2) // 76
        rest = want // 76 - half
        body = b"".join(
            [
                words[0].encode() + b"\r\n",
                _filler(half),
                words[1].encode() + b"\r\n",
                _filler(rest),
                words[2].encode() + b"\r\n",
            ]
        )
        return cls(head + body, words, subject)

    @property
    def lines(self) -> bytes:
        """The same with LF, as maildir stores it."""
        return self.data.replace(b"\r\n", b"\n")


def multipart(*parts: bytes) -> bytes:
    """A mail of text parts, each of which ends with a line's end."""
    head = (
        b"From: <sender@example.org>\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="=_b"\r\n\r\n'
    )
    body = b"".join(b"--=_b\r\nContent-Type: text/plain\r\n\r\n" + part + b"\r\n" for part in parts)
    return head + body + b"--=_b--\r\n"


def _filler(lines: int) -> bytes:
    raw = secrets.token_hex(37 * min(lines, 4096)).encode()
    block = b"".join(raw[i : i + 74] + b"\r\n" for i in range(0, len(raw), 74))
    if lines <= 4096:
        return block
    return (block * (lines // 4096 + 1))[: lines * 76]
