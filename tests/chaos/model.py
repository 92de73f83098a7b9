"""What has been acknowledged: which mail must be where, however the server dies.

A command that was not answered may have been carried out or not: a mail that it would have
taken away need not be there any more, one that it would have moved must be in one of two places.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

KINDS = ("deliver", "append", "copy", "move")


@dataclass(eq=False)
class Placement:
    """A mail that must be in one of these folders of a user."""

    user: str
    mail: str
    #: how it came there
    kind: str
    #: None: anywhere in the user's folders
    where: frozenset[str] | None
    busy: bool = False

    def may_be_in(self, folder: str) -> bool:
        """Is this one of its folders?"""
        return self.where is None or folder in self.where


@dataclass
class Model:
    """All users of one side."""

    users: list[str]
    #: user -> the folders that clients work in
    folders: dict[str, list[str]] = field(default_factory=dict)
    acknowledged: Counter = field(default_factory=Counter)
    #: (user, mail, folder) that an EXPUNGE or MOVE was acknowledged for
    taken: set = field(default_factory=set)

    def __post_init__(self):
        self._lock = threading.RLock()
        self._placements: dict[tuple[str, str], list[Placement]] = {}
        for user in self.users:
            self.folders[user] = ["INBOX"]

    def stored(self, user: str, folder: str, mail: str, kind: str) -> None:
        """The server has said that it has it."""
        with self._lock:
            self.acknowledged[format_of(user), kind] += 1
            self.taken.discard((user, mail, folder))
            placement = Placement(user, mail, kind, frozenset([folder]))
            self._placements.setdefault((user, mail), []).append(placement)

    def has(self, user: str, folder: str, mail: str) -> bool:
        """May it be there already?"""
        with self._lock:
            found = self._placements.get((user, mail), [])
            return any(p.may_be_in(folder) for p in found)

    @contextlib.contextmanager
    def claim(self, user: str, folder: str, mails: list[str]):
        """Those of the mails that nobody else handles just now, by name, for the time of a command."""
        with self._lock:
            claimed = {}
            for mail in mails:
                for placement in self._placements.get((user, mail), []):
                    if placement.may_be_in(folder) and not placement.busy:
                        placement.busy = True
                        claimed[mail] = placement
                        break
        try:
            yield claimed
        finally:
            with self._lock:
                for placement in claimed.values():
                    placement.busy = False

    def drop(self, placements: list[Placement]) -> None:
        """They need not be there any more."""
        with self._lock:
            for placement in placements:
                found = self._placements[placement.user, placement.mail]
                if placement in found:
                    found.remove(placement)

    def moving(self, placement: Placement, to: str) -> None:
        """It is on its way: here or there."""
        if placement.where is not None:
            placement.where |= {to}

    def moved(self, placement: Placement, source: str, to: str) -> None:
        """It is there."""
        with self._lock:
            self.drop([placement])
            self.stored(placement.user, to, placement.mail, "move")
            self.taken.add((placement.user, placement.mail, source))

    def expunged(self, placements: list[Placement], folder: str) -> None:
        """The server has said that they are gone."""
        with self._lock:
            self.taken |= {(p.user, p.mail, folder) for p in placements}

    def add_folder(self, user: str, folder: str) -> None:
        """Clients may use it."""
        with self._lock:
            self.folders[user].append(folder)

    def drop_folder(self, user: str, folder: str) -> None:
        """It is about to be deleted."""
        with self._lock:
            self.folders[user].remove(folder)
            self.drop([p for p in self.all_of(user) if p.may_be_in(folder)])

    def scatter(self, user: str, folder: str) -> None:
        """What is in it may afterwards be in any folder of the user: mdbox knows only where a mail began."""
        with self._lock:
            for placement in self.all_of(user):
                if placement.may_be_in(folder):
                    placement.where = None

    def all_of(self, user: str) -> list[Placement]:
        """What must be somewhere in this user's folders."""
        with self._lock:
            lists = [found for (owner, _), found in self._placements.items() if owner == user]
            return [placement for found in lists for placement in found]

    def pick_folder(self, user: str, dice: random.Random, without: str | None = None) -> str | None:
        """A folder to work in; INBOX more often than others."""
        with self._lock:
            found = [f for f in self.folders[user] if f != without]
        if not found:
            return None
        return "INBOX" if "INBOX" in found and dice.random() < 0.3 else dice.choice(found)


class Gates:
    """Who works on something may do so with others, or alone."""

    def __init__(self):
        self._changed = threading.Condition()
        self._inside: Counter = Counter()
        self._closed: set = set()

    @contextlib.contextmanager
    def shared(self, *things):
        """Yields whether all of them are open; never waits, so that nobody waits for each other."""
        with self._changed:
            entered = not any(thing in self._closed for thing in things)
            if entered:
                self._inside.update(things)
        try:
            yield entered
        finally:
            if entered:
                with self._changed:
                    self._inside.subtract(things)
                    self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self, thing, patience: float = 0, others: int = 0):
        """Yields whether nobody else is in; waits for those who are, and lets nobody follow them.

        `others`: how often the caller itself is in.
        """
        until = time.monotonic() + patience
        with self._changed:
            entered = thing not in self._closed
            if entered:
                self._closed.add(thing)
                while self._inside[thing] > others and (left := until - time.monotonic()) > 0:
                    self._changed.wait(left)
                if self._inside[thing] > others:
                    self._closed.discard(thing)
                    entered = False
        try:
            yield entered
        finally:
            if entered:
                with self._changed:
                    self._closed.discard(thing)


def format_of(user: str) -> str:
    """The storage format of a user."""
    return user.rstrip("0123456789")
