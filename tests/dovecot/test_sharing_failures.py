"""Shared folders: rights and keys change together or not at all."""

from __future__ import annotations

import os

import pytest
from harness import CryptConfig, Mail, UserConfig
from harness.folder import Folder
from test_sharing import READ, defect, folder, server  # noqa: F401


@defect("rights change before it is known that keys can't")
@pytest.mark.parametrize("who", ("user=bob", "anyone"))
def test_keys_that_cant_be_unlocked_change_no_rights(server, folder, who):
    locked = Folder(server, "alice-locked", folder.name)
    done = locked.acl("set", who, *READ, check=False)
    assert folder.rights() == {}
    assert folder.copies() == {}
    assert done.returncode != 0
    assert b"wrong password" in done.stderr


@defect("rights change before keys do")
def test_a_dict_that_fails_changes_no_rights(server, folder):
    folder.acl("set", "user=bob", *READ)
    rights, copies = folder.rights(), folder.copies()
    # The dict writes a new file beside the old one.
    home = server.store.home("alice")
    home.chmod(0o500)
    try:
        for words in (("set", "user=eve", *READ), ("delete", "user=bob"), ("set", "anyone", *READ)):
            assert folder.acl(*words, check=False).returncode != 0
    finally:
        home.chmod(0o700)
    assert (folder.rights(), folder.copies()) == (rights, copies)
    folder.read_by("bob")


def test_an_acl_that_cant_be_written_changes_no_keys(server, folder):
    folder.acl("set", "user=bob", *READ)
    rights, copies = folder.rights(), folder.copies()
    path = server.store.home("alice") / "Maildir" / f".{folder.name}"
    path.chmod(0o500)
    try:
        for words in (("set", "user=eve", *READ), ("delete", "user=bob"), ("set", "anyone", *READ)):
            assert folder.acl(*words, check=False).returncode != 0
    finally:
        path.chmod(0o700)
    assert (folder.rights(), folder.copies()) == (rights, copies)
    folder.read_by("bob")


@defect("logs it in other words", on="2.4")
def test_a_client_is_told_that_rights_were_not_changed(server, folder):
    server.log.expect("mail_crypt_acl: Mailbox .* no user nobody", "Failed to (set|update) ACL", "nobody")
    with server.imap("alice") as session:
        answer, _ = session.raw(f"SETACL {folder.name} nobody lr")
        assert answer.startswith("NO"), answer
        # The session goes on, and its log lines are about its own user.
        assert session.folder(folder.name) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root's Dovecot serves users of several uids")
@defect("the process dies when it becomes the sharee, after the rights changed")
def test_a_sharee_whose_keys_cant_be_read_gets_no_rights(server, folder):
    own = (("uid", "30251"), ("gid", "30251"))
    server.set_user("other", UserConfig(CryptConfig(password="o"), extra=own))
    os.chown(server.store.home("other"), 30251, 30251)
    server.deliver("other", Mail.make())
    done = folder.acl("set", "user=other", *READ, check=False)
    assert folder.rights() == {}
    assert folder.copies() == {}
    assert done.returncode != 0
    assert b"the key of user other" in done.stderr
