"""Shared folders: whoever may read has the keys, and nobody else.

One server for all tests; every test has a folder of its own. So it is in
test_sharing_unencrypted.py and test_sharing_failures.py, with the same users.
"""

from __future__ import annotations

import os
import threading

import pytest
from harness import CryptConfig, DovecotVersion, Instance, Key, Mail, Store, UserConfig, words
from harness.folder import Folder
from harness.store import key_attributes

defect = pytest.mark.packaged_defect

#: The user key of `frank`, which is made here so that folder keys can be made too.
FRANK = Key.ec()

#: The user key of `grace`, whose keys and mails are as the first releases made them.
GRACE = Key.ec()

USERS = {
    "alice": UserConfig(CryptConfig(password="of alice")),
    # The same home, by somebody who doesn't know the password.
    "alice-locked": UserConfig(CryptConfig(password="wrong"), home="alice"),
    "secure": UserConfig(CryptConfig(password="s", require_secure_sharing=True)),
    "frank": UserConfig(CryptConfig()),
    "global": UserConfig(
        CryptConfig(
            curve=None,
            require_secure_sharing=True,
            global_public=FRANK.public_setting(),
            global_private=(FRANK.setting(),),
        )
    ),
    "bob": UserConfig(CryptConfig(password="of bob")),
    "eve": UserConfig(CryptConfig()),
    # These two have no key.
    "carol": UserConfig(CryptConfig()),
    "dave": UserConfig(CryptConfig(), extra=(("acl_groups", "staff"),)),
}

#: Dovecot 2.4 writes no version 1.
OLD_FORMAT = DovecotVersion.installed().line == "2.3"
if OLD_FORMAT:
    USERS["grace"] = UserConfig(CryptConfig(save_version=1))

#: SETACL of the packaged plugin finds users only where the home is not from userdb.
IMAP = pytest.param("imap", marks=defect("IMAP's SETACL doesn't ask userdb about the sharee"))
READ = ("lookup", "read")


@pytest.fixture(scope="module")
def server(shared_dovecot):
    server = shared_dovecot(users=dict(USERS), acl=True)
    prepare(server)
    return server


def prepare(server: Instance) -> None:
    """Give keys to those who shall have one."""
    server.seed_user_key("frank", FRANK, FRANK.dovecot_private())
    server.deliver("bob", "eve", Mail.make())


@pytest.fixture
def folder(server):
    """A folder of alice's with one mail."""
    return Folder(server).make()


# One sharee


@pytest.mark.parametrize("way", ("doveadm", IMAP))
def test_a_sharee_reads_until_revoked(server, folder, way):
    def acl(imap: str, verb: str, *words: str):
        if way == "doveadm":
            return folder.acl(verb, "user=bob", *words)
        with server.imap("alice") as session:
            answer, _ = session.raw(imap.format(folder.name))
        assert answer.startswith("OK"), answer

    folder.hidden_from("bob")
    acl("SETACL {} bob lr", "set", *READ)
    assert folder.copies() == {"bob": folder.keys}
    folder.append()
    folder.read_by("bob")
    folder.read_by("alice")
    acl("DELETEACL {} bob", "delete")
    assert folder.copies() == {}
    folder.hidden_from("bob")
    folder.read_by("alice")


@pytest.mark.parametrize(
    "storage", (pytest.param("sdbox", marks=defect("the process dies", on="2.4")), "mdbox")
)
def test_every_storage_can_be_shared(dovecot, storage):
    server = dovecot(users=dict(USERS), acl=True, storage=storage)
    prepare(server)
    folder = Folder(server).make()
    folder.acl("set", "user=bob", *READ)
    folder.read_by("bob")
    folder.acl("delete", "user=bob")
    assert folder.copies() == {}


def test_rights_can_be_added_and_taken_away_one_by_one(folder):
    folder.acl("add", "user=bob", "lookup")
    assert folder.copies() == {}
    folder.acl("add", "user=bob", "read", "insert")
    assert folder.copies() == {"bob": folder.keys}
    folder.acl("remove", "user=bob", "insert")
    folder.read_by("bob")
    folder.acl("remove", "user=bob", "read")
    assert folder.copies() == {}
    assert folder.rights()["user=bob"] == {"lookup"}


def test_recalculating_acls_leaves_keys_alone(server, folder):
    folder.acl("set", "user=bob", *READ)
    server.doveadm("acl", "recalc", "-u", "alice")
    folder.read_by("bob")


@defect("negative rights are not looked at")
def test_who_is_denied_reading_gets_no_key(folder):
    folder.acl("set", "user=bob", *READ, "-read")
    assert folder.copies() == {}
    folder.acl("remove", "user=bob", "-read")
    folder.read_by("bob")
    folder.acl("add", "user=bob", "-read")
    assert folder.copies() == {}


def test_owners_reach_their_folders_also_as_others_do(server, folder):
    folder.acl("set", "user=alice", *READ, "insert")
    new = Folder(server, name=folder.name + "-new").create()
    new.acl("set", "user=alice", *READ, "insert")
    mail = Mail.make()
    with server.imap("alice") as session:
        assert [b.endswith(folder.mails[0].data) for b in session.bodies(folder.path)] == [True]
        assert session.put(mail.data, new.path)[0] == "OK"
    new.mails.append(mail)
    new.read_by("alice")


@defect("INBOX has to be opened")
def test_keys_are_had_whatever_the_acl_of_inbox_says(dovecot):
    """The user's key is among the attributes of INBOX, which is no reason to need rights there."""
    server = dovecot(users={"alice": UserConfig(CryptConfig(password="of alice"))}, acl=True)
    folder = Folder(server).make()
    folder.read_by("alice")
    server.doveadm("acl", "set", "-u", "alice", "INBOX", "owner", "lookup")
    folder.append()
    folder.read_by("alice")


@defect("all keys but the first are stored under concatenated ids")
def test_every_key_of_a_folder_is_shared_under_its_own_id(server):
    folder = Folder(server, "frank").create()
    for number in range(3):
        key = Key.ec()
        private = key.dovecot_private_under_key(FRANK)
        values = key_attributes(folder.guid, key.id, key.dovecot_public(), private)
        server.store.put_attributes("frank", values)
        folder.append()
    folder.acl("set", "user=bob", *READ)
    assert len(folder.keys) == 3
    assert folder.copies() == {"bob": folder.keys}
    folder.read_by("bob")
    folder.acl("delete", "user=bob")
    assert folder.copies() == {}


@defect("an unknown user gets rights, and the command succeeds")
def test_nobody_gets_rights_without_keys(folder):
    done = folder.acl("set", "user=nobody", *READ, check=False)
    assert done.returncode != 0
    assert b"no user nobody" in done.stderr
    assert folder.rights() == {}
    # Without reading, keys don't come into it.
    folder.acl("set", "user=nobody", "lookup")
    folder.acl("delete", "user=nobody")


# Keys that are made later


@pytest.mark.parametrize("way", ("imap", "lda", "lmtp"))
@defect("the key of a folder that is shared already is shared with nobody")
def test_a_new_key_reaches_those_who_read(server, way):
    folder = Folder(server).create() if way != "lmtp" else Folder(server, "secure", "INBOX")
    folder.acl("set", "user=bob", *READ)
    folder.acl("set", "user=eve", "lookup")
    if way == "imap":
        folder.append()
    else:
        mail = Mail.make()
        if way == "lda":
            server.lda("alice", mail, "-m", folder.name)
        else:
            # Others in the same transaction get their mail too.
            before = server.log.mark()
            server.deliver("bob", "secure", "eve", mail)
            for user in ("bob", "secure", "eve"):
                server.log.wait_for(rf"lmtp\({user}\).*saved mail to INBOX", before)
        folder.mails.append(mail)
    assert folder.copies() == {"bob": folder.keys}
    folder.read_by("bob")


@defect("the key of a folder that is shared already is shared with nobody")
def test_a_folder_inside_a_shared_one_is_shared(server, folder):
    folder.acl("set", "user=bob", *READ)
    folder.acl("set", "group=staff", *READ)
    child = Folder(server, name=folder.name + "/Child").make()
    assert child.rights() == folder.rights()
    assert child.copies() == {"bob": child.keys, "": child.keys}
    child.read_by("bob")
    child.read_by("dave")


@defect("the key of a folder that is shared already is shared with nobody")
def test_a_mail_doesnt_wait_for_sharees_who_are_gone(server):
    server.set_user("ghost", UserConfig(CryptConfig()))
    server.deliver("ghost", Mail.make())
    folder = Folder(server).create()
    for user in ("ghost", "bob"):
        folder.acl("set", f"user={user}", *READ)
    server.options.users.pop("ghost")
    server.set_user("dave", USERS["dave"])
    folder.append()
    assert folder.copies() == {"bob": folder.keys}
    folder.read_by("bob")
    folder.read_by("alice")


@pytest.mark.packaged_refuses("it doesn't look at who reads")
@pytest.mark.parametrize("what", ("mail", "acl"))
def test_nobody_waits_for_a_reader_who_takes_long_to_look_up(dovecot, what):
    """The reader's key stands in a file that can't be read yet; whoever has the lock meanwhile keeps it."""
    server = dovecot(users=dict(USERS), acl=True, extra=words.dotlocked_attributes())
    prepare(server)
    folder, other = Folder(server).create(), Folder(server).create()
    attributes = server.store.home("bob") / "dovecot-attributes"
    content, owner = attributes.read_bytes(), attributes.stat()

    def give():
        folder.acl("set", "user=bob", *READ)

    def take():
        attributes.unlink()
        os.mkfifo(attributes)
        os.chown(attributes, owner.st_uid, owner.st_gid)

    if what == "mail":
        give()
    else:
        folder.append()
    take()
    slow = threading.Thread(target=folder.append if what == "mail" else give)
    slow.start()
    # It blocks until somebody reads.
    pipe = os.open(attributes, os.O_WRONLY)
    try:
        other.append()
        assert slow.is_alive() and other.keys and folder.copies() == {}
    finally:
        new = attributes.with_name("new")
        new.write_bytes(content)
        os.chown(new, owner.st_uid, owner.st_gid)
        new.rename(attributes)
        os.write(pipe, content)
        os.close(pipe)
        slow.join()
    assert folder.copies() == {"bob": folder.keys}
    folder.read_by("bob")


@pytest.mark.packaged_refuses("who of them gets the key is a matter of luck")
def test_rights_and_mails_at_the_same_time_leave_nobody_out(server):
    folder = Folder(server).create()
    mail = Mail.make()
    sharees = ("bob", "eve", "frank")
    work = [lambda u=u: folder.acl("set", f"user={u}", *READ) for u in sharees]
    work += [lambda: server.lda("alice", mail, "-m", folder.name)] * 2
    folder.mails += [mail, mail]
    threads = [threading.Thread(target=w) for w in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folder.keys) == 1
    assert folder.copies() == {user: folder.keys for user in sharees}
    for user in ("alice", *sharees):
        folder.read_by(user)


# Sharees who do more than read


@defect("keys that are shared with an administrator are not shared on")
def test_an_administrator_who_isnt_the_owner_shares_keys(folder):
    folder.acl("set", "user=bob", *READ, "admin")
    folder.acl("set", "user=eve", *READ, by="bob")
    assert folder.copies() == {"bob": folder.keys, "eve": folder.keys}
    folder.read_by("eve")
    folder.acl("delete", "user=eve", by="bob")
    assert folder.copies() == {"bob": folder.keys}


@pytest.mark.parametrize("how", ("append", "copy"))
def test_what_a_sharee_stores_everybody_reads(server, folder, how):
    folder.acl("set", "user=bob", *READ, "insert")
    folder.acl("set", "user=eve", *READ)
    mail = Mail.make()
    with server.imap("bob") as session:
        if how == "append":
            assert session.put(mail.data, folder.path)[0] == "OK"
        else:
            assert session.put(mail.data)[0] == "OK"
            count = session.folder()
            assert session.copy(str(count), f'"{folder.path}"')[0] == "OK"
    folder.mails.append(mail)
    assert len(folder.keys) == 1
    for user in ("alice", "bob", "eve"):
        folder.read_by(user)


@defect("a key is made that the owner can't read")
def test_a_sharee_makes_no_key_that_the_owner_cant_read(server):
    folder = Folder(server).create()
    folder.acl("set", "user=bob", *READ, "insert")
    server.log.expect("its owner has to store a mail there first")
    mail = Mail.make()
    with server.imap("bob") as session:
        status, said = session.put(mail.data, folder.path)
    assert status == "NO" and "no key" in said and "decrypt" not in said
    assert folder.keys == set()
    assert not server.store.find_words(server.store.home("alice"), mail.words)


# One store, both plugins


@pytest.fixture(scope="module")
def both(shared_dovecot, plugin):
    with Store() as store:
        made = {
            name: shared_dovecot(store=store, plugin=p, users=dict(USERS), acl=True)
            for name, p in (("packaged", "packaged"), ("ours", plugin))
        }
        prepare(made["packaged"])
        yield made


@pytest.mark.parametrize("first", ("packaged", "ours"))
@pytest.mark.parametrize("sharee", ("bob", "carol", "dave"))
def test_each_reads_and_revokes_what_the_other_shares(both, plugin, first, sharee):
    one, other = both[first], both["ours" if first == "packaged" else "packaged"]
    who = {"bob": "user=bob", "carol": "user=carol", "dave": "group=staff"}[sharee]
    folder = Folder(one).make()
    folder.acl("set", who, *READ)
    folder.read_by(sharee, other)
    folder.append(other)
    folder.read_by(sharee, one)
    assert folder.copies() == {"bob" if sharee == "bob" else "": folder.keys}
    folder.acl("delete", who, server=other)
    folder.hidden_from(sharee)
    # The packaged plugin leaves the unencrypted copy; the next change by ours removes it.
    if plugin == "ours":
        folder.acl("set", "user=eve", "lookup", server=both["ours"])
        assert folder.copies() == {}


@pytest.mark.skipif(not OLD_FORMAT, reason="Dovecot 2.4 writes no version 1")
@pytest.mark.packaged_defect("stores the copy under an id that no mail names")
@pytest.mark.parametrize("sharee", ("bob", "carol"))
@pytest.mark.parametrize("first", ("packaged", "ours"))
def test_mail_of_the_first_releases_can_be_shared(both, first, sharee):
    folder = Folder(both[first], "grace")
    both[first].seed_old_keys("grace", GRACE, GRACE.v1_private(), {folder.name: Key.ec()})
    folder.append()
    folder.acl("set", f"user={sharee}", *READ)
    folder.read_by(sharee, both["ours"])
    folder.read_by("grace", both["packaged"])
