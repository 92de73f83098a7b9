"""After the storm: what is there, what opens, and what should be."""

from __future__ import annotations

import imaplib
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from admin import KEYS, Admin
from mails import MARKER
from mischief import unlock_all
from model import format_of
from side import Side

BATCH = 50
BROKEN = (OSError, imaplib.IMAP4.error)


@dataclass
class Seen:
    """Everything that is in the folders of all users."""

    #: user -> folder -> mails by name
    found: dict = field(default_factory=lambda: defaultdict(lambda: defaultdict(Counter)))
    #: user, folder, uid and what the client was told
    unreadable: list[tuple[str, str, int, str]] = field(default_factory=list)
    #: folders that don't open
    closed: list[str] = field(default_factory=list)
    #: what is no mail of ours, byte for byte
    wrong: list[str] = field(default_factory=list)


def calm(side: Side) -> None:
    """Finishes what was interrupted, and starts the server anew."""
    for user in list(side.pending):
        if not Admin(side, side.dice("calm")).finish_password(user):
            side.diary.wrong.append(f"{user}: the change of the password can't be finished")
    side.instance.stop()
    unlock_all(side)
    side.instance.start()


def look(side: Side) -> Seen:
    """Reads every mail of every user."""
    seen = Seen()
    for user in side.model.users:
        for folder in _folders(side, user, seen):
            _read_folder(side, user, folder, seen)
    return seen


def _folders(side: Side, user: str, seen: Seen) -> list[str]:
    """All that can be selected."""
    try:
        with side.imap(user) as session:
            _, rows = session.list()
    except BROKEN as e:
        seen.closed.append(f"{user}: LIST: {e}")
        return list(side.model.folders[user])
    found = []
    for row in rows:
        flags, name = re.match(rb'\(([^)]*)\) "." "?([^"]*)"?', row).groups()
        if b"\\Noselect" not in flags:
            found.append(name.decode())
    return found


def _read_folder(side: Side, user: str, folder: str, seen: Seen) -> None:
    reader = _Reader(side, user, folder)
    try:
        uids = reader.uids()
        for at in range(0, len(uids), BATCH):
            batch = uids[at : at + BATCH]
            items, _ = reader.fetch(batch)
            for uid in batch:
                data, why = items.get(uid), ""
                if data is None:
                    # By itself: another one may have ended the session.
                    alone, why = reader.fetch([uid])
                    data = alone.get(uid)
                if data is None:
                    seen.unreadable.append((user, folder, uid, why))
                elif name := side.mails.recognise(data):
                    seen.found[user][folder][name] += 1
                else:
                    seen.wrong.append(f"{user} {folder} uid {uid}: {data[:60]!r} ({len(data)} bytes)")
    except BROKEN as e:
        seen.closed.append(f"{user} {folder}: {e}")
    finally:
        reader.close()


class _Reader:
    """Reads a folder, in a new session where one has ended."""

    def __init__(self, side: Side, user: str, folder: str):
        self._side, self._user, self._folder = side, user, folder
        self._session = None

    def _open(self):
        if self._session is None:
            self._session = self._side.imap(self._user)
            self._session.folder(self._folder, readonly=True)
        return self._session

    def uids(self) -> list[int]:
        """All of them; a folder that doesn't open raises."""
        return self._open().uids()

    def fetch(self, uids: list[int]) -> tuple[dict[int, bytes], str]:
        """What could be read of these, and what the server said about the rest."""
        try:
            answer = self._open().fetch_uids("BODY.PEEK[]", ",".join(map(str, uids)))
            return answer.items, answer.text
        except BROKEN as e:
            self.close()
            return {}, f"{type(e).__name__} {e}"

    def close(self) -> None:
        """The session ends."""
        session, self._session = self._session, None
        if session is not None:
            session.shutdown()


def store_everywhere(side: Side, seen: Seen) -> None:
    """One more mail into each folder: nothing that happened may keep a folder from taking mail."""
    for user, folders in seen.found.items():
        for folder in folders:
            name, data = side.mails.make()
            try:
                with side.imap(user) as session:
                    status, text = session.put(data, folder)
            except BROKEN as e:
                status, text = "", str(e)
            if status == "OK":
                side.model.stored(user, folder, name, "append")
            else:
                side.diary.wrong.append(f"{user} {folder} takes no mail in the end: {text}")


def missing(side: Side, seen: Seen) -> list:
    """The placements that aren't where they must be."""
    lost = []
    for user in side.model.users:
        folders = seen.found[user]
        for placement in side.model.all_of(user):
            where = placement.where or folders
            if not any(folders[f][placement.mail] for f in where if f in folders):
                lost.append(placement)
    return lost


def returned(side: Side, seen: Seen) -> int:
    """Mails that were taken away, and are there."""
    return sum(1 for user, mail, folder in side.model.taken if seen.found[user][folder][mail])


def resync(side: Side) -> None:
    """As an administrator does who misses mail."""
    for user in side.model.users:
        code, _, errors = side.doveadm("force-resync", "-u", user, "*")
        if code != 0:
            side.diary.refused("force-resync in the end", errors)


def keys(side: Side, seen: Seen) -> list[str]:
    """What is wrong with the keys: there is one active user key, and one in each folder that has mail."""
    wrong = []
    for user in side.model.users if side.has_keys else []:
        for what in (("-U",), ("*",)):
            code, out, errors = side.doveadm("-f", "json", *KEYS, "list", "-u", user, *what)
            rows = json.loads(out) if out.strip().startswith("[") else []
            active = Counter(row["box"] for row in rows if row["active"] == "yes")
            if code != 0 and not rows:
                wrong.append(f"{user}: cryptokey list {what[0]}: {errors.strip()}")
            for box in sorted({row["box"] for row in rows}):
                if active[box] != 1 and (not box or box in seen.found[user]):
                    wrong.append(f"{user} {box or '(user)'}: {active[box]} active keys")
    return wrong


def guids_with_user_keys(side: Side) -> dict[str, int]:
    """Under how many GUIDs user keys are filed, where that is more than one: INBOX has had them all."""
    found = {}
    for user in side.model.users if side.has_keys else []:
        names = side.instance.store.attributes(user)
        guids = {name.split("/")[1] for name in names if re.match("shared/[0-9a-f]{32}/.*/server/.*/active$", name)}
        if len(guids) > 1:
            found[user] = len(guids)
    return found


def missing_keys(side: Side, since: int) -> dict[str, int]:
    """Of the keys that were asked for and not found since this mark of the log: how many are in the dict all the same."""
    stored = {user: side.instance.store.attributes(user) for user in side.model.users if side.has_keys}
    found = Counter()
    asked = set()
    for line in side.instance.log.lines("no private key|neither a user key", since):
        user = re.search(r"\((\w+)\)", line).group(1)
        last = line.partition("is encrypted to")[2] or line.partition("no private key")[2]
        asked |= {(user, key) for key in re.findall(r"\b[0-9a-f]{64}\b", last)}
    for user, key in asked:
        there = any("/privkeys/" in name and name.endswith(key) for name in stored.get(user, ()))
        found["under another GUID" if there else "nowhere"] += 1
    return dict(found)


def plaintext(side: Side) -> list[str]:
    """The files in which a mail's text stands as it is."""
    if not side.has_keys:
        return []
    found = []
    for user in side.model.users:
        found += [str(f) for f in side.instance.store.files(user) if MARKER in f.read_bytes()]
    return found


def by_format(things) -> Counter:
    """How many of them for each format; things begin with the user, or have one."""
    return Counter(format_of(t.user if hasattr(t, "user") else t[0]) for t in things)
