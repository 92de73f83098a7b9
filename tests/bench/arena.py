"""The sides of the comparison: private Dovecots that differ in the plugin alone.

Every side has the same users and gets the same mails. What it measures, it
keeps under the name of a row; what a client got is kept as a digest, so that no
side can win by serving something else.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from harness import CryptConfig, Instance, Mail, UserConfig, config, multipart, words

import raw

SIDES = ("none", "packaged", "ours")

PASSWORD = "correct-horse-battery"


@dataclass
class Sizes:
    """How much of everything; smaller for a trial."""

    rounds: int = 7
    #: mails of 2 KB in the folders that most rows are about
    mails: int = 500
    #: MB of the large mail; the row about memory takes one of four times that
    large: int = 50
    #: mails in the huge folder
    many: int = 10_000
    #: mails of 1 MB in the folder that is listed without an index
    cold: int = 200
    folders: int = 50


@dataclass
class Sample:
    """One measurement of one side."""

    #: seconds that the client waited
    wall: float
    #: seconds that the server's process computed, where one process serves the whole
    cpu: float | None
    #: for rows about memory: MB instead of seconds
    value: float | None = None


def users(sizes: Sizes, plugin: str) -> dict[str, UserConfig]:
    """Everybody who occurs, since adding users takes time."""
    plain = UserConfig
    # zlib for one user alone: where it is loaded, it looks into every mail.
    zlib = words.compressing("gz", *([] if plugin == "none" else ["mail_crypt"]))
    found = {
        "small": plain(),
        "large": plain(),
        "larger": plain(),
        "parts": plain(),
        "folders": plain(),
        "separate": plain(),
        "many": plain(),
        "cold": plain(),
        "locked": plain(crypt=CryptConfig(password=PASSWORD)),
        "mdbox": plain(storage="mdbox"),
        "zlib": plain(extra=zlib),
    }
    for number in range(sizes.rounds + 1):
        found[f"deliver{number}"] = plain()
        found[f"foreign{number}"] = plain()
    return found


@dataclass
class Side:
    """One Dovecot, and what was measured of it."""

    name: str
    instance: Instance
    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    served: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: the first round warms everything up
    counts: bool = False

    def imap(self, user: str) -> raw.Imap:
        """A new session: a new imap process."""
        instance = self.instance
        return raw.Imap(
            instance.places.address, config.IMAP_PORT, user, instance.users[user].password
        )

    def pop3(self, user: str) -> raw.Pop3:
        """A new session."""
        instance = self.instance
        return raw.Pop3(
            instance.places.address, config.POP3_PORT, user, instance.users[user].password
        )

    def lmtp(self) -> raw.Lmtp:
        """A connection."""
        return raw.Lmtp(str(self.instance.places.lmtp))

    def deliver(self, user: str, mails: list[bytes]) -> None:
        """Over one connection."""
        with self.lmtp() as lmtp:
            for mail in mails:
                lmtp.deliver(user, mail)

    def process(self, session: raw.Imap) -> int:
        """The process that serves a session."""
        return self.instance.process_of(session)

    @contextlib.contextmanager
    def clock(self, row: str, pid: int | None = None):
        """Measure what happens inside."""
        cpu = _cpu(pid)
        start = time.perf_counter()
        yield
        wall = time.perf_counter() - start
        self.keep(row, Sample(wall, None if pid is None else _cpu(pid) - cpu))

    def keep(self, row: str, sample: Sample) -> None:
        """Remember a measurement, unless this is for warming up."""
        if self.counts:
            self.samples[row].append(sample)

    def got(self, row: str, answer: memoryview) -> None:
        """Remember what a client got, for a comparison with the other sides.

        The mails as they were sent, without what each delivery puts before them; of any other
        answer its size.
        """
        mails = _MAIL.findall(bytes(answer))
        found = hashlib.sha256(b"".join(mails)).hexdigest() if mails else str(len(answer))
        self.served[row].add(found)

    def copy_home(self, user: str, other: "Side", name: str) -> None:
        """Give this side's user `name` a copy of the home of another side's `user`."""
        target = self.instance.store.home(name)
        shutil.rmtree(target)
        source = other.instance.store.home(user)
        subprocess.run(["cp", "-a", str(source), str(target)], check=True)

    def drop_indexes(self, user: str) -> None:
        """As after a move without them."""
        for path in self.instance.store.home(user).rglob("dovecot.index*"):
            path.unlink()


class Arena:
    """All sides, started together."""

    def __init__(self, sizes: Sizes, names: tuple[str, ...] = SIDES):
        self.sizes = sizes
        self.mails = [Mail.make(2000).data for _ in range(sizes.mails)]
        self.dotted = [raw.dotted(mail) for mail in self.mails]
        self._stack = contextlib.ExitStack()
        self._names = names
        self._filled: set[str] = set()
        self.sides: list[Side] = []

    def __enter__(self) -> "Arena":
        try:
            for name in self._names:
                instance = Instance(plugin=name, users=users(self.sizes, name), extra=_EXTRA)
                self._stack.enter_context(contextlib.closing(instance))
                self.sides.append(Side(name, instance.start()))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def side(self, name: str) -> Side | None:
        """The side of that name, if it takes part."""
        return next((side for side in self.sides if side.name == name), None)

    def complaints(self) -> list[str]:
        """What the servers logged that they shouldn't have."""
        return [f"{s.name}: {line}" for s in self.sides for line in s.instance.log.unexpected()]

    def fill(self, user: str, how) -> None:
        """Once a run, on every side: `how(side)`."""
        if user not in self._filled:
            for side in self.sides:
                how(side)
            self._filled.add(user)

    def megabyte(self) -> bytes:
        """A mail of 1 MB, as it follows DATA."""
        return raw.dotted(Mail.make(1 << 20).data)

    def fill_small(self, user: str = "small") -> None:
        """The mails of 2 KB."""
        self.fill(user, lambda side: side.deliver(user, self.dotted))

    def fill_parts(self, user: str, megabytes: int) -> None:
        """A single mail whose second part of three is of that size."""
        _, _, text = Mail.make(megabytes << 20).data.partition(b"\r\n\r\n")
        mail = raw.dotted(multipart(b"a few words\r\n", text, b"a few more\r\n"))
        self.fill(user, lambda side: side.deliver(user, [mail]))

    def fill_large(self, user: str, megabytes: int) -> None:
        """A single mail of that size."""
        mail: list[bytes] = []

        def deliver(side: Side) -> None:
            if not mail:
                mail.append(raw.dotted(Mail.make(megabytes << 20).data))
            side.deliver(user, mail)

        self.fill(user, deliver)


#: A mail of the harness, from its first header on.
_MAIL = re.compile(rb"^From: <sender@example\.org>\r\n.*?^(?:\)|\.)\r\n", re.M | re.S)

#: The harness turns fsync off. Here it is as an administrator has it.
_EXTRA = "mail_fsync = optimized"


def peak_memory(pid: int) -> float:
    """The most memory that a process had, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"no VmHWM of {pid}")


def _cpu(pid: int | None) -> float:
    """Seconds that a process has computed."""
    if pid is None:
        return 0.0
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
