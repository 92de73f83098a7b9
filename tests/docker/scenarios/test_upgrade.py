"""A store that was written under Dovecot 2.3 is opened under 2.4, and taken back."""

from __future__ import annotations

import secrets

import pytest
from hosts import Mail, SingleHost, docker

#: alice's key is protected by a password, bob's by nothing; frank's password-protected, his mail in an mdbox
USERS = ("alice", "bob", "frank")


@pytest.fixture
def volume():
    name = f"mail-crypt-store-{secrets.token_hex(6)}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", "-f", name, check=False)


class Written:
    """What has been stored so far; a host writes more of it, and all can be read."""

    def __init__(self):
        self.inbox = {user: [] for user in USERS}
        self.archive = {user: [] for user in USERS}

    def more(self, host) -> None:
        """A small and a large mail for each user, and one in a folder."""
        for user in USERS:
            for size in (2000, 200_000):
                message = Mail.make(size)
                host.deliver(user, message)
                self.inbox[user].append(message)
            message = Mail.make(20_000)
            with host.imap(user) as session:
                session.create("Archive")
                assert session.put(message.data, "Archive")[0] == "OK"
            self.archive[user].append(message)

    def all_readable(self, host) -> None:
        """Every mail, in every folder; and no word of them on the disk."""
        for user in USERS:
            host.assert_reads(user, self.inbox[user])
            host.assert_reads(user, self.archive[user], "Archive")
            mails = self.inbox[user] + self.archive[user]
            assert not host.files_in_clear(user, tuple(word for m in mails for word in m.words[1:]))


def user_keys(host, user: str) -> int:
    """How many private user keys there are."""
    rows = host.run("cat", f"/mail/{user}/dovecot-attributes").splitlines()
    names = [row.split("/") for row in rows if "/pvt/server/" in row and "/privkeys/" in row]
    # Each is filed under INBOX's GUID and by its id, beside the name of the active one.
    return len({name[-1] for name in names} - {"active"})


@pytest.mark.parametrize("new", ("ours", "packaged"))
@pytest.mark.parametrize("old", ("packaged", "ours"))
def test_a_store_of_2_3_is_read_under_2_4_and_back(volume, old, new):
    written = Written()
    with SingleHost("bookworm", old, volume) as host:
        written.more(host)
        written.all_readable(host)
    with SingleHost("trixie", new, volume) as host:
        written.all_readable(host)
        written.more(host)
        written.all_readable(host)
        assert [user_keys(host, user) for user in USERS] == [1, 1, 1]
    with SingleHost("bookworm", old, volume) as host:
        written.all_readable(host)
        written.more(host)
        written.all_readable(host)
