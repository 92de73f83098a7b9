"""Folders that get another GUID: keys are kept under it, and must not stay behind."""

from __future__ import annotations

import secrets

import pytest
from harness import CryptConfig, Key, Mail, UserConfig

STORAGES = ("maildir", "sdbox", "mdbox")
LOST = "mail is under a key that the new GUID doesn't have"


def change_guid(server, user: str, folder: str = "INBOX", guid: str = "") -> str:
    """Gives the folder this or a random GUID; the new one."""
    guid = guid or secrets.token_hex(16)
    server.doveadm("mailbox", "update", "-u", user, "--mailbox-guid", guid, folder)
    assert server.guid(user, folder) == guid
    return guid


@pytest.mark.packaged_defect(LOST)
@pytest.mark.parametrize("storage", STORAGES)
def test_mail_stays_readable_under_another_guid(dovecot, storage):
    alice = UserConfig(crypt=CryptConfig(password="of-her-key"))
    server = dovecot(storage=storage, users={"alice": alice})
    mails = {"INBOX": [Mail.make()], "Work": [Mail.make(60_000)]}
    with server.imap("alice") as session:
        session.create("Work")
        for folder, (mail,) in mails.items():
            session.put(mail.data, folder)
    keys = server.store.folder_keys("alice")
    for folder, stored in mails.items():
        old = server.guid("alice", folder)
        new = change_guid(server, "alice", folder)
        assert server.store.folder_keys("alice").get(new) == keys[old]
        stored.append(Mail.make())
        with server.imap("alice") as session:
            session.put(stored[-1].data, folder)
    with server.imap("alice") as session:
        for folder, stored in mails.items():
            assert session.bodies(folder) == [mail.data for mail in stored]
    assert len(server.store.user_keys("alice")) == 1
    assert len(set.union(*server.store.folder_keys("alice").values())) == 2


@pytest.mark.packaged_defect(LOST)
def test_a_guid_that_has_keys_already_keeps_them_and_gets_more(dovecot):
    server = dovecot(users={"alice": UserConfig()})
    mails = [Mail.make()]
    with server.imap("alice") as session:
        session.put(mails[0].data)
    first = server.guid("alice")
    kept = server.store.attributes("alice")
    # As if another host had made the folder, and the two had never met.
    server.store.drop_attributes("alice", "")
    second = change_guid(server, "alice")
    with server.imap("alice") as session:
        mails.append(Mail.make())
        session.put(mails[1].data)
    server.store.put_attributes("alice", kept)
    change_guid(server, "alice", guid=first)
    with server.imap("alice") as session:
        assert session.bodies() == [mail.data for mail in mails]
    found = server.store.attributes("alice")
    assert found | kept == found
    assert len(server.store.folder_keys("alice").get(first, ())) == 2
    assert second in server.store.folder_keys("alice")


def test_a_guid_changes_where_there_are_no_attributes(dovecot):
    key = Key.ec()
    crypt = CryptConfig(curve=None, global_public=key.public_setting(), global_private=(key.setting(),))
    server = dovecot(attribute_dict=None, users={"alice": UserConfig(crypt=crypt)})
    mail = Mail.make()
    with server.imap("alice") as session:
        session.put(mail.data)
    change_guid(server, "alice")
    with server.imap("alice") as session:
        assert session.bodies() == [mail.data]


@pytest.mark.packaged_defect(LOST)
@pytest.mark.parametrize("storage", STORAGES)
def test_two_inboxes_that_dsync_makes_one_stay_readable_on_both_sides(dovecot, storage):
    """Two users are the two hosts: each made an INBOX before they met."""
    users = {name: UserConfig() for name in ("one", "two")}
    server = dovecot(storage=storage, users=users)
    mails = {name: Mail.make() for name in users}
    for name, mail in mails.items():
        with server.imap(name) as session:
            session.put(mail.data)
    assert server.guid("one") != server.guid("two")
    remote = ["doveadm", "-c", str(server.places.config), "dsync-server", "-u", "two"]
    # -1 says whose GUID it is: without, Dovecot before 2.3.20 lets the two on Maildir swap theirs.
    server.doveadm("sync", "-1", "-f", "-u", "one", *remote)
    server.doveadm("sync", "-f", "-u", "one", *remote)
    assert server.guid("one") == server.guid("two")
    expected = sorted(mail.data for mail in mails.values())
    for name in users:
        with server.imap(name) as session:
            assert sorted(session.bodies()) == expected
