"""What administrators do meanwhile: passwords, keys, rebuilt indexes."""

from __future__ import annotations

import random
import time
from pathlib import Path

from model import format_of
from side import Side

#: Below the home: where a format keeps the index of a folder.
_FOLDERS = {
    "maildir": ("Maildir", "Maildir/.{}"),
    "sdbox": ("sdbox/mailboxes/INBOX/dbox-Mails", "sdbox/mailboxes/{}/dbox-Mails"),
    "mdbox": ("mdbox/mailboxes/INBOX/dbox-Mails", "mdbox/mailboxes/{}/dbox-Mails"),
}
KEYS = ("mailbox", "cryptokey")


class Admin:
    """One administrator, of all users."""

    def __init__(self, side: Side, dice: random.Random):
        self.side = side
        self.dice = dice

    def weights(self) -> dict:
        """What is done how often, beside a client's own 80."""
        doing = {self.resync: 1, self.purge: 1}
        if self.side.plan.rebuild:
            doing |= {self.delete_indexes: 1}
        if self.side.has_keys:
            doing |= {self.change_password: 1, self.make_keys: 2}
        return doing

    # Keys

    def change_password(self, user: str) -> None:
        """A new password, for the keys and then in userdb."""
        if user not in self.side.passwords:
            return
        lock = self.side.password_locks[user]
        # A session that is older than the password would make the first key under the old one.
        if not self.side.model.all_of(user) or not lock.acquire(blocking=False):
            return
        try:
            self.finish_password(user)
            number = int(self.side.passwords[user].split("-")[1]) + 1
            self.side.pending[user] = f"secret-{number}-{user}"
            self.finish_password(user)
        finally:
            lock.release()

    def finish_password(self, user: str) -> bool:
        """The change that was begun, once more if it may not have come to its end."""
        if user not in self.side.pending:
            return True
        new = self.side.pending[user]
        change = ("password", "-u", user, "-o", self.side.passwords[user], "-n", new)
        for _ in range(3):
            code, _, errors = self.side.doveadm(*KEYS, *change)
            if code == 0:
                self.side.set_password(user, new)
                del self.side.pending[user]
                self.side.diary.counts["passwords changed"] += 1
                return True
            if code is not None:
                self.side.diary.refused("cryptokey password", errors)
        return False

    def make_keys(self, user: str) -> None:
        """One of the ways to make keys."""
        folder = self.side.model.pick_folder(user, self.dice)
        args = self.dice.choice(
            ((folder,), ("-f", folder), ("*",), ("-U", "-R"), ("-U", "-f", "-R"))
        )
        with self.side.gates.shared((user, folder)) as entered:
            if not entered:
                return
            code, _, errors = self.side.doveadm(*KEYS, "generate", "-u", user, *args)
        if code == 0:
            self.side.diary.counts["keys made"] += 1
        elif code is not None:
            self.side.diary.refused(f"cryptokey generate {args[0]}", errors)

    # Indexes

    def resync(self, user: str) -> None:
        """force-resync, of one folder or all, while others work in them."""
        folder = self.dice.choice((self.side.model.pick_folder(user, self.dice), "*"))
        self._resync(user, folder)

    def _resync(self, user: str, folder: str, until: float = 0) -> None:
        """Once, or until it was done."""
        again = True
        while again:
            again = time.monotonic() < until
            code, _, errors = self.side.doveadm("force-resync", "-u", user, folder)
            if code == 0:
                self.side.diary.counts["resynced"] += 1
                return
            if code is not None:
                self.side.diary.refused("force-resync", errors)

    def purge(self, user: str) -> None:
        """What mdbox does instead of deleting files."""
        if format_of(user) == "mdbox":
            self.side.doveadm("purge", "-u", user)

    def delete_indexes(self, user: str) -> None:
        """Indexes are deleted and made anew, as by hand: nobody is in meanwhile."""
        with self.side.gates.alone(user, patience=5) as entered, self.side.room:
            if not entered:
                return
            # Those whose client has gone may still be at it.
            time.sleep(0.1)
            pattern = self._which(user)
            for file in self.side.instance.store.home(user).glob(pattern):
                file.unlink()
            self.side.diary.counts["indexes deleted"] += 1
            self._resync(user, "*", until=time.monotonic() + 30)

    def _which(self, user: str) -> str:
        """The files to delete."""
        form = format_of(user)
        folder = self.side.model.pick_folder(user, self.dice)
        place = _FOLDERS[form][folder != "INBOX"].format(folder)
        if form == "maildir" and self.dice.random() < 0.5:
            return str(Path(place) / "dovecot-uidlist")
        if form == "mdbox":
            if self.dice.random() < 0.7:
                return "mdbox/storage/dovecot.map.index*"
            self.side.model.scatter(user, folder)
        return str(Path(place) / "dovecot.index*")
