"""One run: a private Dovecot with one of the plugins, and everything that happens to it."""

from __future__ import annotations

import random
import re
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from harness import CryptConfig, Instance, Store, UserConfig, words

from mails import Mails
from model import Gates, Model

#: How long a client waits for an answer. Nothing here takes long but a lock whose holder is dead.
PATIENCE = 15
#: What is reported as slow.
SLOW = 10


@dataclass
class Plan:
    """What a run is to be like."""

    seed: str = "1"
    seconds: float = 60
    formats: tuple[str, ...] = ("maildir", "sdbox", "mdbox")
    #: users of each format
    users: int = 2
    clients: int = 6
    #: processes killed in a second, on average
    kill: float = 5
    #: the disk is full at times
    full: bool = True
    #: indexes are deleted and rebuilt at times
    rebuild: bool = True
    #: MB of the file system that mail is on
    disk: int = 256


@dataclass
class Diary:
    """What happened, for the report."""

    counts: Counter = field(default_factory=Counter)
    #: what a server must never do
    wrong: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    refusals: Counter = field(default_factory=Counter)
    samples: dict[str, str] = field(default_factory=dict)

    def refused(self, what: str, text: str) -> None:
        """A command that was answered with a refusal."""
        kind = f"{what}: " + re.sub(r"\[\d{4}-.*?\]|<[^>]*>|[0-9a-f]{16,}|\d+\.\d+ ?\w*", "*", text)
        self.refusals[kind[:200]] += 1
        self.samples.setdefault(kind[:200], time.strftime("%H:%M:%S ") + text[:300])


class Side:
    """A Dovecot under attack."""

    def __init__(self, plugin: str, plan: Plan, disk: Path):
        self.plugin = plugin
        self.plan = plan
        self.disk = disk
        names = [f"{form}{n}" for form in plan.formats for n in range(1, plan.users + 1)]
        self.model = Model(names)
        self.mails = Mails(plan.seed)
        self.gates = Gates()
        self.diary = Diary()
        #: user -> the password that userdb has, and one that keys may be under already; the first
        #: user of each format has one, the others' keys are unprotected
        self.passwords = {name: f"secret-0-{name}" for name in names[:: plan.users]}
        self.pending: dict[str, str] = {}
        self.password_locks = {name: threading.Lock() for name in names}
        self._userdb = threading.Lock()
        #: nobody rebuilds what was deleted while the disk is full
        self.room = threading.Lock()
        self.over = threading.Event()
        self._doveadms: set[subprocess.Popen] = set()
        self._doveadms_lock = threading.Lock()
        self.instance = Instance(
            plugin=plugin,
            users={name: self.settings(name) for name in names},
            fetch_failure="no-after",
            store=Store(disk / "homes"),
        )

    def settings(self, user: str) -> UserConfig:
        """What userdb has about a user."""
        form = user.rstrip("0123456789")
        crypt = CryptConfig(password=self.passwords.get(user))
        return UserConfig(crypt=crypt, storage=form, password=f"login-{user}")

    @property
    def has_keys(self) -> bool:
        """Is there a plugin?"""
        return self.plugin != "none"

    def dice(self, who: str) -> random.Random:
        """Chance of one's own, the same at each run of a seed."""
        return random.Random(f"{self.plan.seed}/{who}")

    def set_password(self, user: str, password: str) -> None:
        """userdb has this one from now on."""
        with self._userdb:
            self.passwords[user] = password
            self.instance.set_user(user, self.settings(user))

    def imap(self, user: str):
        """A session."""
        return self.instance.imap(user, timeout=PATIENCE)

    def doveadm(self, *args: str, timeout: float = 20) -> tuple[int | None, str, str]:
        """Exit code (None: killed or not done in time), what it printed, and its errors."""
        argv = ["doveadm", "-c", str(self.instance.places.config), *args]
        started = time.monotonic()
        process = self.instance.start_program(argv)
        with self._doveadms_lock:
            self._doveadms.add(process)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        finally:
            with self._doveadms_lock:
                self._doveadms.discard(process)
        self.took("doveadm " + " ".join(args), started)
        code = None if process.returncode < 0 else process.returncode
        return code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    def took(self, what: str, started: float) -> None:
        """Note what took long."""
        seconds = time.monotonic() - started
        if seconds > SLOW:
            self.diary.slow.append(f"{time.strftime('%H:%M:%S')} {seconds:.0f} s: {what}")

    def running_doveadms(self) -> list[subprocess.Popen]:
        """Those that can be killed."""
        with self._doveadms_lock:
            return list(self._doveadms)

    def option(self, password: str) -> list[str]:
        """doveadm's option for another password than userdb's."""
        return ["-o", words.option("mail_crypt_private_password", password)]
