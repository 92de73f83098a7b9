"""Folders get other GUIDs when Dovecot rebuilds their indexes. Keys are found by their ids all the same."""

from __future__ import annotations

import re

import pytest
from harness import CryptConfig, DovecotVersion, Mail, UserConfig, words
from test_attachments import Letter, options
from test_doveadm import cryptokey, rows

PASSWORD = CryptConfig(password="of-her-key")
DBOX = ("sdbox", "mdbox")
LOST = "keys lie under the GUID that is gone"


def drop_indexes(server, user="alice"):
    """As a file system check may do it, or an administrator; sdbox and mdbox keep GUIDs there."""
    server.stop()
    for path in server.store.files(user):
        if path.name.startswith(("dovecot.index", "dovecot.map.index", "dovecot-uidlist")):
            path.unlink()
    server.start()
    server.doveadm("force-resync", "-u", user, "*")


def put(server, folder="INBOX", user="alice", size=2000):
    mail = Mail.make(size)
    with server.imap(user) as session:
        session.create(folder)
        session.put(mail.data, folder)
    return mail.data


def bodies(server, folder="INBOX", user="alice"):
    """What was put there, without what delivery puts before it."""
    with server.imap(user) as session:
        return sorted(body[body.index(b"From: <sender") :] for body in session.bodies(folder))


@pytest.mark.packaged_defect(LOST)
@pytest.mark.parametrize("storage", ("maildir", *DBOX))
def test_mail_stays_readable_when_indexes_are_lost(dovecot, storage):
    server = dovecot(storage=storage, users={"alice": UserConfig(PASSWORD)})
    mails = {folder: [put(server, folder)] for folder in ("INBOX", "Work")}
    before = {folder: server.guid("alice", folder) for folder in mails}
    drop_indexes(server)
    for folder in mails:
        assert server.guid("alice", folder) != before[folder]
        assert bodies(server, folder) == mails[folder]
        mails[folder].append(put(server, folder))
        assert bodies(server, folder) == sorted(mails[folder])
    assert len(server.store.user_keys("alice")) == 1


@pytest.mark.packaged_defect(LOST)
@pytest.mark.parametrize("storage", DBOX)
def test_delivery_makes_no_second_user_key_where_inbox_has_another_guid(dovecot, storage):
    server = dovecot(storage=storage, users={"alice": UserConfig(PASSWORD)})
    first, later = put(server), Mail.make()
    drop_indexes(server)
    server.deliver("alice", later)
    assert bodies(server) == sorted([first, later.data])
    assert len(server.store.user_keys("alice")) == 1


@pytest.mark.packaged_refuses("it is the one whose keys are met")
@pytest.mark.parametrize("storage", DBOX)
@pytest.mark.parametrize("met_by", ("reading", "delivery"))
def test_keys_of_the_packaged_plugin_are_found_once_they_were_met(dovecot, storage, met_by):
    server = dovecot(plugin="packaged", storage=storage, users={"alice": UserConfig(PASSWORD)})
    mails = [put(server)]
    server.restart(plugin="ours")
    assert not server.store.keys_by_id("alice")
    if met_by == "reading":
        assert bodies(server) == mails
    else:
        mails.append(Mail.make().data)
        server.deliver("alice", mails[-1])
    drop_indexes(server)
    assert bodies(server) == sorted(mails)
    # And the packaged plugin reads on under the new GUID.
    server.restart(plugin="packaged")
    assert bodies(server) == sorted(mails)


@pytest.mark.packaged_defect(LOST)
def test_a_copy_stays_readable_when_its_source_is_deleted(dovecot):
    """mdbox's rebuild takes mails of one GUID for one mail, and keeps any one's bytes."""
    server = dovecot(storage="mdbox", users={"alice": UserConfig(PASSWORD)})
    mails = [put(server, "Work") for _ in range(4)]
    with server.imap("alice") as session:
        session.create("Copies")
        session.folder("Work")
        session.copy("1:*", "Copies")
    server.doveadm("force-resync", "-u", "alice", "*")
    for folder in ("Work", "Copies"):
        assert bodies(server, folder) == sorted(mails)
    with server.imap("alice") as session:
        session.delete("Work")
    server.doveadm("purge", "-u", "alice")
    server.doveadm("force-resync", "-u", "alice", "*")
    assert bodies(server, "Copies") == sorted(mails)


@pytest.mark.packaged_defect("it is under the other folder's key")
def test_a_mail_that_was_moved_without_the_plugin_is_read(dovecot):
    server = dovecot(users={"alice": UserConfig(PASSWORD)})
    mail = put(server, "Work")
    put(server, "Other")
    server.restart(plugin="none")
    with server.imap("alice") as session:
        session.folder("Work")
        session.raw("MOVE 1 Other")
    server.restart(plugin="ours")
    assert mail in bodies(server, "Other")


@pytest.mark.packaged_refuses("it knows no such keys")
def test_list_shows_keys_that_no_folder_has(dovecot):
    server = dovecot(users={"alice": UserConfig(PASSWORD)})
    put(server, "Work")
    put(server)
    (key,) = (r["pubid"] for r in rows(server, "list", "Work"))
    assert not [r for r in rows(server, "list", "*") if r["box"] == "<no folder>"]
    with server.imap("alice") as session:
        session.delete("Work")
    gone = [r["pubid"] for r in rows(server, "list", "*") if r["box"] == "<no folder>"]
    assert gone == [key]
    # Rekeying reaches it, and so the old user key can go.
    (old,) = server.store.user_keys("alice")
    cryptokey(server, "generate", "-URf")
    cryptokey(server, "delete", "-U", old)
    assert gone == [r["pubid"] for r in rows(server, "list", "*") if r["box"] == "<no folder>"]


@pytest.mark.packaged_refuses("it deletes no keys")
def test_a_key_is_not_deleted_while_mail_in_another_folder_needs_it(dovecot):
    server = dovecot(users={"alice": UserConfig(PASSWORD)})
    mail = put(server, "Work")
    put(server, "Other")
    (old,) = (r["pubid"] for r in rows(server, "list", "Work"))
    server.restart(plugin="none")
    with server.imap("alice") as session:
        session.folder("Work")
        session.raw("MOVE 1 Other")
    server.restart(plugin="ours")
    cryptokey(server, "generate", "-f", "Work")
    refused = cryptokey(server, "delete", "-m", "Work", old, check=False)
    assert refused.returncode == 65 and b"Other" in refused.stderr, refused.stderr
    assert mail in bodies(server, "Other")
    with server.imap("alice") as session:
        session.delete("Work")
    refused = cryptokey(server, "delete", "-m", "INBOX", old, check=False)
    assert refused.returncode == 65 and b"Other" in refused.stderr, refused.stderr


@pytest.mark.packaged_defect(LOST)
def test_whom_a_folder_is_shared_with_reads_when_it_has_another_guid(dovecot):
    users = {name: UserConfig(CryptConfig(password=f"key-of-{name}")) for name in ("alice", "bob")}
    server = dovecot(storage="sdbox", acl=True, users=users)
    put(server, user="bob")
    mail = put(server, "Work")
    server.doveadm("acl", "set", "-u", "alice", "Work", "user=bob", "lookup", "read")
    assert bodies(server, "shared/alice/Work", "bob") == [mail]
    drop_indexes(server)
    assert bodies(server, "Work") == [mail]
    drop_indexes(server)
    assert bodies(server, "shared/alice/Work", "bob") == [mail]


@pytest.mark.packaged_defect("ends the session")
@pytest.mark.parametrize("compress", (None, "gz"))
@pytest.mark.parametrize("size", (2000, 700_000))
@pytest.mark.parametrize("storage", DBOX)
def test_mail_is_read_whose_file_dovecot_has_mended(dovecot, storage, size, compress):
    """Dovecot then notes the size of the ciphertext as the mail's, since that is all that it sees."""
    server = dovecot(storage=storage, users={"alice": UserConfig(PASSWORD, compress=compress)})
    mail = put(server, size=size)
    note_ciphertext_size(server)
    expect_whole(server, mail)


@pytest.mark.packaged_defect("ends the session")
@pytest.mark.parametrize("storage", DBOX)
def test_mail_with_an_outside_attachment_is_read_whose_file_dovecot_has_mended(dovecot, store, storage):
    server = dovecot(**options("files", store, storage=storage))
    letter = Letter.make()
    with server.imap("alice") as session:
        session.put(letter.data)
    note_ciphertext_size(server)
    expect_whole(server, letter.data)


def note_ciphertext_size(server):
    """As Dovecot does when it mends the file of the only mail there is."""
    (stored,) = server.store.stored("alice")
    whole = stored.path.read_bytes()
    (size,) = re.findall(rb"\nV([0-9a-f]+)\n", whole)
    data = stored.data
    wrong = b"%x" % (len(data) + data.count(b"\n") - data.count(b"\r\n"))
    assert wrong != size
    stored.path.write_bytes(whole.replace(b"\nV" + size + b"\n", b"\nV" + wrong + b"\n"))
    for path in server.store.files("alice"):
        if path.name == "dovecot.index.cache":
            path.unlink()


def expect_whole(server, mail):
    """In two sessions: the first one corrects what the index says."""
    for _ in range(2):
        with server.imap("alice") as session:
            session.folder()
            assert session.fetch_uids("BODY.PEEK[HEADER]").status == "OK"
            assert session.fetch_uids().items[1] == mail
            assert session.noop()[0] == "OK"
    with server.imap("alice") as session:
        session.folder()
        _, answer = session.fetch("1", "(RFC822.SIZE)")
    assert f"RFC822.SIZE {len(mail)})".encode() in answer[0]
