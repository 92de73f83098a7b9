"""A folder in which two mails can't be read: one is damaged, one is under a key that can't be unlocked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .instance import Instance
from .mail import Mail

#: The uids, in the order of arrival.
LOCKED, GOOD, DAMAGED, LATER = 1, 2, 3, 4
SPOILT = (LOCKED, DAMAGED)
READABLE = (GOOD, LATER)


@dataclass(frozen=True)
class Spoilt:
    """Such a folder, and what was stored in it."""

    server: Instance
    user: str
    folder: str
    mails: dict[int, Mail]
    #: attributes as they were before the key was locked
    unlocked: dict[str, str]

    def unlock(self) -> None:
        """The key comes back, as from a backup."""
        self.server.store.put_attributes(self.user, self.unlocked)

    @property
    def readable(self) -> dict[int, bytes]:
        """What FETCH of all mails must bring."""
        return {uid: self.mails[uid].data for uid in READABLE}

    @property
    def words(self) -> tuple[str, ...]:
        """Words of the bodies, which must stand in no file."""
        return tuple(word for mail in self.mails.values() for word in mail.words)

    def check(self) -> None:
        """The good mails are served, the two others are an error each, and the log names them."""
        self.expect()
        mark = self.server.log.mark()
        with self.server.imap(self.user) as session:
            session.folder(self.folder, readonly=True)
            answer = session.fetch_uids()
            assert answer.items == self.readable
            assert answer.status == "NO", answer
            assert session.noop()[0] == "OK"
        for uid in SPOILT:
            self.named(uid, mark)

    def named(self, uid: int, mark: int = 0) -> str:
        """What the log says of a mail that can't be read; it must name it."""
        pattern = rf"[(>]{self.user}\).*{self.folder}.*(UID|uid)[= ]{uid}\b.*mail_crypt: "
        return self.server.log.wait_for(pattern, mark)[0]

    def expect(self) -> None:
        """The log says that these two can't be read, and the test is about that."""
        self.server.log.expect(r"Error: .*mail_crypt: ", r"Error: .*(Failed to read|failed to read|read\(.*\) failed)")

    def in_files(self, *more: Path) -> list[str]:
        """`file: word` for each word of a body that is on disk in the clear."""
        server = self.server
        found = [line for folder in (server.store.path, server.temp_dir, *more) for line in server.store.find_words(folder, self.words)]
        return sorted(found)


def spoil(server: Instance, user: str, folder: str = "INBOX", sizes: Iterable[int] = (900, 1000, 1100, 1200)) -> Spoilt:
    """Fill a folder that has no mail yet; it is made if need be."""
    mails = dict(zip((LOCKED, GOOD, DAMAGED, LATER), map(Mail.make, sizes)))
    store = server.store
    if folder != "INBOX":
        with server.imap(user) as session:
            session.create(f'"{folder}"')

    def put(uid: int) -> None:
        """Not as a client: imapsieve of 2.4.5 has scripts for flags run at APPEND, on Maildir."""
        server.doveadm("save", "-u", user, "-m", folder, stdin=mails[uid].data)

    put(LOCKED)
    unlocked = lock(server, user, folder)
    server.doveadm("mailbox", "cryptokey", "generate", "-u", user, "-f", folder)
    put(GOOD)
    before = {(mail.path, mail.start) for mail in store.stored(user)}
    put(DAMAGED)
    (damaged,) = [mail for mail in store.stored(user) if (mail.path, mail.start) not in before]
    put(LATER)
    damaged.flip(-1)
    return Spoilt(server, user, folder, mails, unlocked)


def lock(server: Instance, user: str, folder: str) -> dict[str, str]:
    """Nothing unlocks the folder's keys any more, wherever they are stored; what the attributes were."""
    guid = server.guid(user, folder)
    attributes = server.store.attributes(user)
    stored = {v for k, v in attributes.items() if f"/{guid}/" in k and "/pvt/server/" not in k and "/privkeys/" in k}
    assert stored
    values = {}
    for name, value in attributes.items():
        if value in stored:
            fields = value.split(":")
            fields[-2] = "ab" * 32
            values[name] = ":".join(fields)
    server.store.put_attributes(user, values)
    return {name: attributes[name] for name in values}
