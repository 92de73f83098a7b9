"""A folder that its owner shares: its mails, its ACL, and the keys that others have of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from .instance import Instance
from .mail import Mail

_numbers = itertools.count()


@dataclass
class Folder:
    """A folder, as its owner and as others see it."""

    server: Instance
    owner: str = "alice"
    name: str = ""

    def __post_init__(self):
        self.name = self.name or f"F{next(_numbers)}"
        self.mails: list[Mail] = []

    def make(self) -> "Folder":
        """Create it and put a mail into it."""
        self.create()
        self.append()
        return self

    def create(self) -> "Folder":
        with self.server.imap(self.owner) as session:
            assert session.create(self.name)[0] == "OK"
        return self

    def append(self, server: Instance | None = None) -> None:
        mail = Mail.make()
        with (server or self.server).imap(self.owner) as session:
            assert session.put(mail.data, self.name)[0] == "OK"
        self.mails.append(mail)

    def acl(self, verb: str, *words: str, by: str | None = None, server=None, check=True):
        """`doveadm acl`, as the owner or as somebody else."""
        name = self.name if by is None else self.path
        by = by or self.owner
        return (server or self.server).doveadm("acl", verb, "-u", by, "--", name, *words, check=check)

    def rights(self, **options) -> dict[str, set[str]]:
        """The folder's ACL."""
        done = self.server.doveadm("-f", "tab", "acl", "get", "-u", self.owner, self.name)
        rows = [line.split("\t") for line in done.stdout.decode().splitlines()[1:]]
        return {row[0]: set(row[-1].split()) for row in rows}

    @property
    def path(self) -> str:
        """Its name for everybody else."""
        return f"shared/{self.owner}/{self.name}"

    def read_by(self, user: str, server: Instance | None = None) -> None:
        """See that a user can read every mail in it."""
        name = self.name if user == self.owner else self.path
        with (server or self.server).imap(user) as session:
            bodies = session.bodies(name)
        assert len(bodies) == len(self.mails)
        assert all(body.endswith(m.data) for body, m in zip(bodies, self.mails))

    def hidden_from(self, user: str) -> None:
        with self.server.imap(user) as session:
            assert session.select(f'"{self.path}"')[0] == "NO"

    def copies(self) -> dict[str, set[str]]:
        """The ids of the keys that are shared, by user; those for everybody under ""."""
        found: dict[str, set[str]] = {}
        prefix = f"shared/{self.guid}/vendor/vendor.dovecot/pvt/crypt/privkeys/"
        for name, value in self.server.store.attributes(self.owner).items():
            if name.startswith(prefix):
                user, _, key = name[len(prefix) :].rpartition("/")
                # The third field says how it is protected.
                assert value.split(":")[2] == ("1" if user else "0")
                found.setdefault(bytes.fromhex(user).decode(), set()).add(key)
        return found

    @property
    def guid(self) -> str:
        done = self.server.doveadm(
            "-f", "flow", "mailbox", "status", "-u", self.owner, "guid", self.name
        )
        return done.stdout.decode().strip().rsplit("guid=", 1)[1]

    @property
    def keys(self) -> set[str]:
        """The ids of its keys."""
        return self.server.store.folder_keys(self.owner).get(self.guid, set())
