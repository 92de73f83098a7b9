"""Shared folders: whoever may read has the keys, and nobody else.

One server for all tests; every test has a folder of its own.
"""

from __future__ import annotations

import itertools
import os
import threading
from dataclasses import dataclass

import pytest
from harness import CryptConfig, DovecotVersion, Instance, Key, Mail, Store, UserConfig, words
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
OTHERS = ("anyone", "authenticated", "group=staff", "group-override=staff")


@pytest.fixture(scope="module")
def server(shared_dovecot):
    server = shared_dovecot(users=dict(USERS), acl=True)
    prepare(server)
    return server


def prepare(server: Instance) -> None:
    """Give keys to those who shall have one."""
    server.seed_user_key("frank", FRANK, FRANK.dovecot_private())
    server.deliver("bob", "eve", Mail.make())


_numbers = itertools.count()


@pytest.fixture
def folder(server):
    """A folder of alice's with one mail."""
    return Folder(server).make()


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


# Those who have no key


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


# Together or not at all


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
