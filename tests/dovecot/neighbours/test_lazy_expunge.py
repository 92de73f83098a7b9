"""lazy_expunge: what can't be read is kept as it is on disk, and keeps nothing else from going."""

from __future__ import annotations

import re

import pytest
from conf import plugins, settings
from harness import CryptConfig, UserConfig, words
from harness.spoil import LOCKED, READABLE, SPOILT, spoil

STORAGES = ("maildir", "sdbox", "mdbox")
EXPUNGED = "Expunged"


@pytest.fixture(scope="module")
def server(shared_dovecot):
    crypt = CryptConfig(password="of-the-key")
    users = {f"{storage}-{way}": UserConfig(crypt, storage=storage) for storage in STORAGES for way in ("imap", "doveadm")}
    extra = plugins("lazy_expunge") + settings({"lazy_expunge": EXPUNGED}, f"lazy_expunge_mailbox = {EXPUNGED}\n")
    return shared_dovecot(users=users, fetch_failure="no-after", extra=extra)


@pytest.mark.packaged_defect("nothing is expunged")
@pytest.mark.parametrize("way", ("imap", "doveadm"))
@pytest.mark.parametrize("storage", STORAGES)
def test_a_mail_that_cannot_be_read_is_expunged_as_it_is(server, storage, way):
    spoilt = spoil(server, f"{storage}-{way}")
    user = spoilt.user
    spoilt.expect()
    mark = server.log.mark()
    on_disk = sorted(mail.data for mail in server.store.stored(user))
    with server.imap(user) as session:
        session.folder()
        if way == "imap":
            session.uid("STORE", "1:*", "+FLAGS", r"(\Deleted)")
            assert session.expunge()[0] == "OK"
            assert session.noop()[0] == "OK"
            for uid in SPOILT:
                spoilt.named(uid, mark)
        else:
            done = server.doveadm("expunge", "-u", user, "mailbox", "INBOX", "all")
            for uid in SPOILT:
                assert re.search(rf"UID[= ]{uid}: mail_crypt".encode(), done.stderr)
    with server.imap(user) as session:
        assert session.folder() == 0
        assert session.folder(EXPUNGED) == len(spoilt.mails)
        answer = session.fetch_uids()
    assert list(answer.items.values()) == [spoilt.mails[uid].data for uid in READABLE]
    assert answer.status == "NO"
    # To the byte: a copy of the damage says what it was, and the key may come back.
    kept = [mail.data for mail in server.store.stored(user)]
    assert len(set(on_disk).intersection(kept)) >= len(SPOILT)
    spoilt.unlock()
    with server.imap(user) as session:
        session.folder(EXPUNGED)
        assert spoilt.mails[LOCKED].data in session.fetch_uids().items.values()
    assert spoilt.in_files() == []


@pytest.mark.packaged_defect("hands out the damaged mail")
def test_where_a_mail_cannot_be_kept_as_it_is_there_is_a_way_out(dovecot):
    extra = plugins("lazy_expunge") + settings({"lazy_expunge": EXPUNGED}, f"lazy_expunge_mailbox = {EXPUNGED}\n")
    alice = UserConfig(CryptConfig(password="of-the-key"))
    server = dovecot(users={"alice": alice}, fetch_failure="no-after", extra=extra + "maildir_copy_with_hardlinks = no\n")
    spoilt = spoil(server, "alice")
    all_of_it = ("expunge", "-u", "alice", "mailbox", "INBOX", "all")
    assert server.doveadm(*all_of_it, check=False).returncode != 0
    spoilt.check()
    off = "lazy_expunge_mailbox=" if words.is_24() else "plugin/lazy_expunge="
    server.doveadm("-o", off, *all_of_it[:-1], "uid", ",".join(map(str, SPOILT)))
    server.doveadm(*all_of_it)
    with server.imap("alice") as session:
        assert session.folder() == 0
        assert session.bodies(EXPUNGED) == list(spoilt.readable.values())
