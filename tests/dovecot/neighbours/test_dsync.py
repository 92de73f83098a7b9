"""dsync, by hand and by 2.3's replicator: what can't be read stops it, and is lost on neither side."""

from __future__ import annotations

import time

import pytest
from conf import plugins, settings
from harness import CryptConfig, Mail, UserConfig, words
from harness.spoil import LOCKED, SPOILT, spoil

KEY = CryptConfig(password="of-the-key")


def dsync_server(other) -> list[str]:
    """The command that is the other side."""
    # What one doveadm leaves in the environment has the next one take its configuration.
    return ["env", "-i", "PATH=/usr/bin:/bin", "doveadm", "-c", str(other.places.config), "dsync-server", "-u", "alice"]


def sync(one, other, *options: str):
    return one.doveadm("sync", "-u", "alice", *options, *dsync_server(other), check=False)


@pytest.fixture
def two(dovecot):
    """Two servers, each with its own store, and the same password for alice's key."""
    return [dovecot(users={"alice": UserConfig(KEY)}, fetch_failure="no-after") for _ in range(2)]


def bodies(server, folder: str = "INBOX") -> list[bytes]:
    with server.imap("alice") as session:
        return session.bodies(folder)


@pytest.mark.packaged_defect("hands out the damaged mail")
def test_what_cannot_be_read_stops_a_sync_and_is_lost_on_neither_side(two):
    here, there = two
    spoilt = spoil(here, "alice")
    done = sync(here, there)
    assert done.returncode != 0
    assert f"Exporting mailbox INBOX failed: Can't lookup body for UID={LOCKED}".encode() in done.stderr
    spoilt.check()
    # The way out, as README has it.
    here.doveadm("expunge", "-u", "alice", "mailbox", "INBOX", "uid", ",".join(map(str, SPOILT)))
    for _ in range(2):
        assert sync(here, there).returncode == 0
        for server in two:
            assert bodies(server) == list(spoilt.readable.values())
    assert spoilt.in_files(there.store.path) == []


def test_folders_that_are_synced_stay_readable_on_both_sides(two):
    here, there = two
    mails = {folder: Mail.make() for folder in ("INBOX", "Work", "Late")}
    with here.imap("alice") as session:
        session.create("Work")
        for folder in ("INBOX", "Work"):
            session.put(mails[folder].data, folder)
    assert sync(here, there).returncode == 0
    with there.imap("alice") as session:
        session.create("Late")
        session.put(mails["Late"].data, "Late")
    assert sync(here, there).returncode == 0
    for server in two:
        assert [bodies(server, folder) for folder in mails] == [[mail.data] for mail in mails.values()]
        found = [word for mail in mails.values() for word in mail.words]
        assert server.store.find_words(server.store.path, tuple(found)) == []


def test_a_replicator_brings_what_arrives(dovecot):
    if words.is_24():
        pytest.skip("replication is gone in 2.4")
    there = dovecot(users={"alice": UserConfig(KEY)})
    command = " ".join(dsync_server(there))
    extra = plugins("notify", "replication") + settings({"mail_replica": "remote:there"}, "")
    extra += f"dsync_remote_cmd = {command}\n"
    extra += "service aggregator {\nfifo_listener replication-notify-fifo {\nmode = 0666\n}\nunix_listener replication-notify {\nmode = 0666\n}\n}\n"
    extra += "service replicator {\nprocess_min_avail = 1\nunix_listener replicator-doveadm {\nmode = 0600\n}\n}\n"
    here = dovecot(users={"alice": UserConfig(KEY)}, extra=extra)
    mail = Mail.make()
    here.deliver("alice", mail)
    # A session there would change what is being synced, and the replicator tries again only minutes later.
    until = time.monotonic() + 30
    while not there.store.mail_files("alice"):
        assert time.monotonic() < until, here.doveadm("replicator", "status", "alice").stdout
        time.sleep(0.1)
    arrived = bodies(there)
    assert len(arrived) == 1 and arrived[0].endswith(mail.data)
    assert there.store.find_words(there.store.path, mail.words) == []
