"""Shared folders: an unencrypted key is there for those who have none, while they may read, unless it is forbidden."""

from __future__ import annotations

import pytest
from harness import CryptConfig, Mail, UserConfig, words
from harness.folder import Folder
from test_sharing import READ, defect, folder, server  # noqa: F401

OTHERS = ("anyone", "authenticated", "group=staff", "group-override=staff")


@defect("the unencrypted copy stays")
def test_a_sharee_without_a_key_reads_until_revoked(folder):
    folder.acl("set", "user=carol", *READ)
    assert folder.copies() == {"": folder.keys}
    folder.read_by("carol")
    folder.acl("set", "user=bob", *READ)
    folder.acl("delete", "user=bob")
    folder.read_by("carol")
    folder.acl("delete", "user=carol")
    assert folder.copies() == {}
    folder.hidden_from("carol")


@defect("the unencrypted copy stays")
@pytest.mark.parametrize("how", ("set", "generate"))
def test_a_sharee_who_got_a_key_is_upgraded(server, folder, how):
    late = f"late-{how}"
    server.set_user(late, UserConfig(CryptConfig(password="l")))
    folder.acl("set", f"user={late}", *READ)
    assert folder.copies() == {"": folder.keys}
    server.deliver(late, Mail.make())
    if how == "set":
        folder.acl("set", f"user={late}", *READ)
    else:
        # Makes none: there is one.
        server.doveadm("mailbox", "cryptokey", "generate", "-u", "alice", folder.name)
    assert folder.copies() == {late: folder.keys}
    folder.read_by(late)


@defect("any change of rights stores the unencrypted copy")
@pytest.mark.parametrize("who", OTHERS)
def test_rights_without_reading_store_no_unencrypted_key(folder, who):
    folder.acl("set", who, "lookup")
    assert folder.copies() == {}
    folder.acl("delete", who)
    assert folder.copies() == {}


@defect("the unencrypted copy stays")
def test_the_unencrypted_copy_goes_with_the_last_reader(server, folder):
    for who in OTHERS:
        folder.acl("set", who, *READ)
        assert folder.copies() == {"": folder.keys}
    folder.read_by("dave")
    for who in OTHERS[:3]:
        folder.acl("delete", who)
        assert folder.copies() == {"": folder.keys}
        folder.read_by("dave")
    # The entry stays, the right goes.
    folder.acl("remove", OTHERS[3], "read")
    assert folder.copies() == {}


@defect("rights change before it is known that keys can't")
@pytest.mark.parametrize("who", (*OTHERS, "user=carol"))
def test_secure_sharing_refuses_whoever_has_no_key(server, who):
    folder = Folder(server, "secure").make()
    folder.acl("set", "user=bob", *READ)
    before = folder.rights()
    done = folder.acl("set", who, *READ, check=False)
    assert folder.rights() == before
    assert done.returncode != 0
    assert words.setting("mail_crypt_acl_require_secure_key_sharing").encode() in done.stderr
    folder.acl("set", who, "lookup")
    folder.acl("delete", who)
    assert folder.copies() == {"bob": folder.keys}
    folder.read_by("bob")


def test_secure_sharing_that_is_off_is_off(server):
    crypt = CryptConfig(password="u", require_secure_sharing="no")
    server.set_user("unsure", UserConfig(crypt))
    folder = Folder(server, "unsure").make()
    folder.acl("set", "user=carol", *READ)
    folder.read_by("carol")


@defect("secure sharing refuses groups also where there is nothing to share")
def test_with_a_global_key_there_is_nothing_to_share(server):
    folder = Folder(server, "global").make()
    folder.acl("set", "anyone", *READ)
    folder.acl("set", "user=bob", *READ)
    assert server.store.attributes("global") == {}
