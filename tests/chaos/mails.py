"""Mails that a checker knows again: each is made from the seed and a number, and remembered by its digest."""

from __future__ import annotations

import hashlib
import itertools
import random
import re

#: In every line of every body, and nowhere else: where the plugin is, it is on no disk.
MARKER = b"plainchaos"
_HEAD = re.compile(rb"X-Chaos-Id: (m\d+)\r\n")
_LINE = 72


class Mails:
    """Every mail of a run."""

    def __init__(self, seed: str):
        self._seed = seed
        self._numbers = itertools.count(1)
        self._digests: dict[str, bytes] = {}

    def make(self) -> tuple[str, bytes]:
        """A mail that is like no other, and its name."""
        name = f"m{next(self._numbers)}"
        dice = random.Random(f"{self._seed}/{name}")
        size = dice.randint(300, 8_000) if dice.random() > 0.03 else dice.randint(100_000, 180_000)
        head = (
            f"X-Chaos-Id: {name}\r\nFrom: <sender@example.org>\r\nTo: <user@example.org>\r\n"
            f"Message-ID: <{name}@example.org>\r\nDate: Fri, 3 May 2024 10:00:00 +0000\r\n"
            f"Subject: {name}\r\n\r\n"
        )
        text = dice.randbytes(size // 2).hex().encode()
        lines = (text[at : at + _LINE] for at in range(0, len(text), _LINE))
        data = head.encode() + b"".join(MARKER + line + b"\r\n" for line in lines)
        self._digests[name] = hashlib.sha256(data).digest()
        return name, data

    def recognise(self, data: bytes) -> str | None:
        """The mail's name, if this is it, byte for byte, below what LMTP puts in front."""
        found = _HEAD.search(data)
        if not found:
            return None
        name = found.group(1).decode()
        digest = hashlib.sha256(data[found.start() :]).digest()
        return name if self._digests.get(name) == digest else None
