"""Clients: they deliver, append, read and compare, copy, move and expunge, and make and delete folders."""

from __future__ import annotations

import imaplib
import re
import smtplib
import threading
import time
import traceback

import admin
from side import Side

#: What a client sees of a server that dies.
BROKEN = (OSError, imaplib.IMAP4.error, smtplib.SMTPException)
#: A folder with more mails than this is thinned out.
CROWDED = 40
_COPYUID = re.compile(r"\[COPYUID \d+ (\S+) (\S+)\]")


class Worker(threading.Thread):
    """A client of all users."""

    def __init__(self, side: Side, number: int):
        super().__init__(daemon=True, name=f"client{number}")
        self.side = side
        self.model = side.model
        self.number = number
        self.dice = side.dice(self.name)
        self.admin = admin.Admin(side, self.dice)
        self.made = 0
        self.session = None

    def run(self) -> None:
        doing = {self.deliver: 40, self.use_imap: 40} | self.admin.weights()
        todo, weights = list(doing), list(doing.values())
        while not self.side.over.is_set():
            (what,) = self.dice.choices(todo, weights)
            user = self.dice.choice(self.model.users)
            started = time.monotonic()
            try:
                what(user)
            except BROKEN as e:
                self.side.diary.counts[f"broken: {what.__name__} {type(e).__name__}"] += 1
                time.sleep(0.05)
            except Exception:  # pylint: disable=broad-except
                self.side.diary.wrong.append("the test itself: " + traceback.format_exc())
                return
            self.side.took(f"{what.__name__} {user}", started)

    # LMTP

    def deliver(self, user: str) -> None:
        """One mail to one or several users."""
        others = [u for u in self.model.users if u != user]
        users = [user, *self.dice.sample(others, min(len(others), self.dice.choice((0, 0, 1, 2))))]
        name, data = self.side.mails.make()
        stored: list[str] = []
        with self.side.gates.shared(*users) as entered:
            if not entered:
                return
            try:
                connection = self.side.instance.lmtp(timeout=30)
                try:
                    refused = connection.transaction(users, data, stored)
                finally:
                    connection.close()
                for who, (code, text) in refused.items():
                    self.side.diary.refused("LMTP", f"{code} {text.decode()} ({who})")
            finally:
                for who in stored:
                    self.model.stored(who, "INBOX", name, "deliver")

    # IMAP

    def use_imap(self, user: str) -> None:
        """A session of some steps."""
        with self.side.gates.shared(user) as entered:
            if not entered:
                return
            with self.side.imap(user) as self.session:
                for _ in range(self.dice.randint(1, 8)):
                    if self.side.over.is_set():
                        break
                    steps = (self.append, self.look, self.make_folder, self.delete_folder)
                    (step,) = self.dice.choices(steps, (30, 60, 5, 5))
                    step(user)

    def append(self, user: str) -> None:
        """APPEND."""
        folder = self.model.pick_folder(user, self.dice)
        with self.side.gates.shared((user, folder)) as entered:
            if not entered:
                return
            name, data = self.side.mails.make()
            status, text = self.session.put(data, folder)
            if status == "OK":
                self.model.stored(user, folder, name, "append")
            else:
                self.side.diary.refused("APPEND", text)

    def look(self, user: str) -> None:
        """Read some mails of a folder, and do something with them."""
        folder = self.model.pick_folder(user, self.dice)
        to = self.model.pick_folder(user, self.dice, without=folder)
        with self.side.gates.shared((user, folder), (user, to)) as entered:
            if not entered:
                return
            try:
                count = self.session.folder(folder)
            except imaplib.IMAP4.abort:
                raise
            except imaplib.IMAP4.error as e:
                self.side.diary.refused("SELECT", str(e))
                return
            if count:
                self._change(user, folder, to, self._read(user, folder))

    def _read(self, user: str, folder: str) -> dict[int, str]:
        """Fetch a few mails that stand together; what they are by uid."""
        uids = self.session.uids()
        if not uids:
            return {}
        first = self.dice.randrange(len(uids))
        wanted = uids[first : first + self.dice.randint(1, 8)]
        answer = self.session.fetch_uids("BODY.PEEK[]", ",".join(map(str, wanted)))
        if answer.status != "OK":
            self.side.diary.refused("FETCH", answer.text)
        found = {}
        for uid, data in answer.items.items():
            name = self.side.mails.recognise(data)
            if name:
                found[uid] = name
            else:
                self.side.diary.wrong.append(
                    f"served to {user} from {folder}, uid {uid}: {data[:60]!r} ({len(data)} bytes)"
                )
        self.side.diary.counts["compared"] += len(found)
        return found

    def _change(self, user: str, folder: str, to: str | None, mails: dict[int, str]) -> None:
        crowd = len(self.model.all_of(user)) > CROWDED * len(self.model.folders[user])
        doing = (None, self.copy, self.move, self.expunge)
        (do,) = self.dice.choices(doing, (10, 5 if crowd else 40, 30, 60 if crowd else 15))
        names = list(mails.values())
        if do is None or not names or (to is None and do != self.expunge):
            return
        names = [name for name in names if names.count(name) == 1]
        if do != self.expunge:
            names = [name for name in names if not self.model.has(user, to, name)]
        with self.model.claim(user, folder, names) as claimed:
            uids = {uid: claimed[name] for uid, name in mails.items() if name in claimed}
            if uids:
                do(folder, to, uids)

    def _ask(self, command: str) -> tuple[bool, dict[int, int]]:
        """Was it done, and the new uids by the old ones."""
        answer, untagged = self.session.raw(command)
        # After a COPY that failed Dovecot quotes an error that it has freed: no fault of the plugin.
        self.side.diary.counts["garbled answers"] += "\\x" in answer
        uids: dict[int, int] = {}
        for line in [*untagged, answer]:
            if found := _COPYUID.search(line):
                uids |= zip(_uids(found.group(1)), _uids(found.group(2)))
        if not answer.startswith("OK"):
            self.side.diary.refused(command.split()[1], answer)
        return answer.startswith("OK"), uids

    def copy(self, _folder: str, to: str, uids: dict) -> None:
        """UID COPY."""
        done, copied = self._ask(f'UID COPY {_set(uids)} "{to}"')
        for uid, placement in uids.items():
            if done and uid in copied:
                self.model.stored(placement.user, to, placement.mail, "copy")

    def move(self, folder: str, to: str, uids: dict) -> None:
        """UID MOVE."""
        before = {uid: placement.where for uid, placement in uids.items()}
        for placement in uids.values():
            self.model.moving(placement, to)
        done, moved = self._ask(f'UID MOVE {_set(uids)} "{to}"')
        for uid, placement in uids.items():
            if done and uid in moved:
                self.model.moved(placement, folder, to)
            elif done:
                placement.where = before[uid]

    def expunge(self, folder: str, _to: str | None, uids: dict) -> None:
        """UID EXPUNGE, of these mails alone."""
        self.model.drop(list(uids.values()))
        flagged, _ = self._ask(f"UID STORE {_set(uids)} +FLAGS.SILENT (\\Deleted)")
        if flagged and self._ask(f"UID EXPUNGE {_set(uids)}")[0]:
            self.model.expunged(list(uids.values()), folder)

    # Folders

    def make_folder(self, user: str) -> None:
        """CREATE."""
        if len(self.model.folders[user]) > 6:
            return
        self.made += 1
        name = f"F{self.number}x{self.made}"
        if self.session.create(name)[0] == "OK":
            self.model.add_folder(user, name)

    def delete_folder(self, user: str) -> None:
        """DELETE, with all that is in it."""
        folder = self.model.pick_folder(user, self.dice, without="INBOX")
        if folder is None or len(self.model.folders[user]) < 4:
            return
        with self.side.gates.alone((user, folder)) as entered:
            if entered:
                self.model.drop_folder(user, folder)
                self.session.delete(folder)


def _set(uids) -> str:
    return ",".join(map(str, sorted(uids)))


def _uids(text: str) -> list[int]:
    found = []
    for part in text.split(","):
        first, _, last = part.partition(":")
        found += range(int(first), int(last or first) + 1)
    return found
