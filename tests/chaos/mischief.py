"""What goes wrong while clients work: processes die, and the disk has no room."""

from __future__ import annotations

import os
import threading
import time
import traceback

from harness import proc

from model import format_of
from side import Side

SERVICES = ("imap", "lmtp", "doveadm")
#: seconds
YOUNG = 0.1


class Mischief(threading.Thread):
    """A thread that is at it until the run is over."""

    def __init__(self, side: Side):
        super().__init__(daemon=True, name=type(self).__name__)
        self.side = side
        self.dice = side.dice(self.name)

    def run(self) -> None:
        try:
            self.work()
        except Exception:  # pylint: disable=broad-except
            self.side.diary.wrong.append("the test itself: " + traceback.format_exc())

    def work(self) -> None:
        """What it does."""
        raise NotImplementedError


class Killer(Mischief):
    """SIGKILL, at random."""

    def work(self) -> None:
        while not self.side.over.wait(self.dice.expovariate(self.side.plan.kill)):
            # doveadm runs less often than the others, and is what changes keys.
            service = self.dice.choice(SERVICES)
            kill = self._doveadm if service == "doveadm" else self._server
            if kill(service):
                self.side.diary.counts[f"killed {service}"] += 1
            unlock(self.side)

    def _doveadm(self, _service: str) -> bool:
        found = self.side.running_doveadms()
        if not found:
            return False
        self.dice.choice(found).kill()
        return True

    def _server(self, service: str) -> bool:
        # The master keeps a service back for seconds if a process dies before it has said that it has started.
        found = [pid for pid in self.side.instance.processes(service) if proc.age(pid) > YOUNG]
        if not found:
            return False
        self.side.instance.kill(self.dice.choice(found))
        return True


def unlock(side: Side) -> None:
    """Removes what locks a Maildir for a process that is dead.

    Dovecot does so itself, but waits for minutes if another process has got that number, or the disk had no room to
    write it down.
    """
    homes = [side.instance.store.home(user) / "Maildir" for user in side.model.users if format_of(user) == "maildir"]
    for folder in [f for home in homes if home.exists() for f in (home, *home.iterdir())]:
        lock = folder / "dovecot-uidlist.lock"
        try:
            pid, age = lock.read_text().partition(":")[0], time.time() - lock.stat().st_mtime
            if not (pid.isdigit() and proc.name(int(pid)) in SERVICES or age < 2):
                lock.unlink()
        except OSError:
            # There is none, as a rule; or the folder has just gone.
            pass


def unlock_all(side: Side) -> None:
    """The same for every lock file of Dovecot's, now that all processes are dead: for that of an index it waits, too."""
    for user in side.model.users:
        for lock in side.instance.store.home(user).rglob("dovecot*.lock"):
            lock.unlink(missing_ok=True)


class Filler(Mischief):
    """A file that takes all room, for a moment; sometimes it leaves a little, so that small writes succeed."""

    def __init__(self, side: Side):
        super().__init__(side)
        self.path = side.disk / "fill"

    def work(self) -> None:
        try:
            # The first quarter has room, so that every user gets keys.
            wait = self.side.plan.seconds / 4
            while not self.side.over.wait(wait):
                with self.side.room:
                    self._fill(self.dice.uniform(0.3, 2.5), self.dice.choice((0, 4096, 65536)))
                self.side.diary.counts["times full"] += 1
                wait = self.dice.uniform(1, 5)
        finally:
            self.path.unlink(missing_ok=True)

    def _fill(self, seconds: float, left: int) -> None:
        until = time.monotonic() + seconds
        zeros = bytes(1 << 20)
        with open(self.path, "wb", buffering=0) as file:
            while time.monotonic() < until and not self.side.over.is_set():
                disk = os.statvfs(self.side.disk)
                room = disk.f_bavail * disk.f_frsize - left
                try:
                    while room > 0:
                        room -= file.write(zeros[: min(room, len(zeros))])
                except OSError:
                    pass
                time.sleep(0.02)
        self.path.unlink()
