"""Whatever way a save ends, it leaves a whole mail or nothing, and the next one is as good as the first."""

from __future__ import annotations

import os

import pytest
from harness import CryptConfig, Key, Mail, UserConfig, forge, words

STORAGES = ("maildir", "sdbox", "mdbox")
CRYPT = CryptConfig(password="c0rrect-h0rse")
DISGUISED = forge.MAGIC + b"\x02 looks encrypted\r\n\r\nbody\r\n"
ACTIVE = "vendor/vendor.dovecot/pvt/crypt/active"


def multiappend(session, *mails, folder="INBOX", between=None, end=b""):
    """APPEND of several mails; `between` is called before each but the first. The tagged answer."""
    tag = session._new_tag()
    session.send(tag + f" APPEND {folder}".encode())
    for number, mail in enumerate(mails):
        if number and between:
            between()
        session.send(f" {{{len(mail)}}}\r\n".encode())
        line = session.readline()
        if not line.startswith(b"+"):
            return line.removeprefix(tag).strip().decode()
        session.send(mail)
    session.send(end + b"\r\n")
    while not (line := session.readline()).startswith(tag):
        assert line, "connection closed"
    return line.removeprefix(tag).strip().decode()


def left_behind(server, user):
    """Files of mails that are in no folder."""
    return [p for p in server.store.files(user) if p.parent.name == "tmp" or p.name.startswith("temp.")]


# Refused mails


@pytest.fixture
def foreign(dovecot):
    """A Maildir in which every other mail is still encrypted, for bob, who encrypts none."""

    def make(storage):
        users = {"alice": UserConfig(plugin=False, storage="maildir"), "bob": UserConfig(CryptConfig(save_version=0))}
        server = dovecot(storage=storage, users=users)
        mails = [Mail.make(), Mail.make()]
        server.deliver("alice", mails[0])
        for number, mail in enumerate((*mails, mails[1])):
            if number != 1:
                mail = forge.Stream(mail.data, Key.ec()).data()
                put_file(server, "alice", f"17000000{number}.M{number}P1.host", mail)
            else:
                server.deliver("alice", mail)
        return server, mails

    return make


def put_file(server, user, name, data):
    """A mail in the Maildir, without its size in the name."""
    folder = server.store.home(user) / "Maildir" / "new"
    path = folder / name
    path.write_bytes(data)
    os.chown(path, folder.stat().st_uid, folder.stat().st_gid)


def bring(server, how):
    """The mails of alice's, as they are on disk, for bob."""
    if how == "import":
        location = words.import_location("maildir", str(server.store.home("alice") / "Maildir"))
        return server.doveadm("import", "-u", "bob", "-U", "alice", location, "", "ALL", check=False)
    return server.doveadm("copy", "-u", "bob", "INBOX", "user", "alice", "mailbox", "INBOX", "ALL", check=False)


@pytest.mark.packaged_defect("takes mail that it can't read")
@pytest.mark.parametrize("how", ("import", "copy"))
@pytest.mark.parametrize("storage", STORAGES)
def test_a_refused_mail_leaves_nothing_in_a_transaction_of_many(foreign, storage, how):
    server, mails = foreign(storage)
    server.log.expect("Error:")
    done = bring(server, how)
    assert done.returncode not in (0, -6, 134), done.stderr
    assert b"Panic" not in done.stderr
    assert b"isn't supported" in done.stderr
    with server.imap("bob") as session:
        bodies = session.bodies()
        assert len(bodies) == 2
        assert all(body.endswith(mail.data) for body, mail in zip(bodies, mails))
        assert session.put(mails[0].data)[0] == "OK"
        assert len(session.bodies()) == 3
    assert not left_behind(server, "bob")


@pytest.mark.packaged_defect("stores what was tampered with, or loses all of them")
@pytest.mark.parametrize("verb", ("copy", "move"))
@pytest.mark.parametrize("unreadable", (0, 1, 2))
@pytest.mark.parametrize("storage", STORAGES)
def test_no_mail_is_lost_beside_one_that_cant_be_saved(dovecot, storage, unreadable, verb):
    """doveadm commits what could be saved, and expunges what it has moved."""
    server = dovecot(storage=storage, users={"alice": UserConfig(CRYPT)})
    mails = [Mail.make(), Mail.make(), Mail.make()]
    with server.imap("alice") as session:
        session.create("Other")
        for mail in mails:
            session.put(mail.data)
    server.store.stored("alice")[unreadable].flip(-1)
    server.log.expect("Error:")
    done = server.doveadm(verb, "-u", "alice", "Other", "mailbox", "INBOX", "ALL", check=False)
    assert done.returncode != 0
    good = [mail.data for number, mail in enumerate(mails) if number != unreadable]
    with server.imap("alice") as session:
        assert session.bodies("Other") == good
        left = {unreadable + 1} if verb == "move" else {1, 2, 3}
        session.folder()
        assert set(session.uids()) == left


# One session, several transactions


def delete_key(server, user):
    """The key of INBOX is replaced and deleted, by force."""
    guid = server.guid(user)
    (key,) = server.store.folder_keys(user)[guid]
    server.doveadm("mailbox", "cryptokey", "delete", "-u", user, "-f", "-m", "INBOX", key)


@pytest.mark.packaged_refuses("it has no delete")
@pytest.mark.parametrize("how", ("bad syntax", "cancelled by an error", "key deleted meanwhile"))
@pytest.mark.parametrize("storage", STORAGES)
def test_what_became_of_a_transaction_is_no_matter_of_the_next(dovecot, storage, how):
    server = dovecot(storage=storage, users={"alice": UserConfig(CRYPT)})
    mails = [Mail.make() for _ in range(3)]
    server.log.expect("was deleted while a mail was being encrypted to it")
    with server.imap("alice") as session:
        # Then APPEND uses this object of INBOX each time.
        session.folder()
        if how == "bad syntax":
            answer = multiappend(session, mails[0].data, end=b" nonsense")
        elif how == "cancelled by an error":
            answer = multiappend(session, mails[0].data, b"")
        else:
            between = lambda: delete_key(server, "alice")  # noqa: E731
            answer = multiappend(session, *(m.data for m in mails[:2]), between=between)
        assert answer.startswith(("NO", "BAD")), answer
        if how != "key deleted meanwhile":
            delete_key(server, "alice")
        assert session.put(mails[2].data)[0] == "OK"
        assert session.bodies() == [mails[2].data]
    assert not left_behind(server, "alice")


@pytest.mark.packaged_defect("accepts it, and can't read it")
@pytest.mark.parametrize("storage", STORAGES)
def test_a_refused_mail_of_several_refuses_all_of_them_and_nothing_after(dovecot, storage):
    server = dovecot(storage=storage, users={"alice": UserConfig(CryptConfig(save_version=0))})
    mails = [Mail.make() for _ in range(3)]
    with server.imap("alice") as session:
        # Then APPEND uses this object of INBOX each time.
        session.folder()
        for several in ((mails[0].data, DISGUISED, mails[1].data), (DISGUISED, mails[0].data), (mails[0].data, DISGUISED)):
            answer = multiappend(session, *several)
            assert answer.startswith("NO") and "isn't supported" in answer, answer
            assert session.uids() == []
        assert multiappend(session, *(m.data for m in mails)).startswith("OK")
        assert session.bodies() == [m.data for m in mails]
    assert not left_behind(server, "alice")


# Saves that can't begin


@pytest.mark.packaged_refuses("it looks for the key once a session")
@pytest.mark.parametrize("first", (0, 1))
@pytest.mark.parametrize("storage", STORAGES)
def test_a_save_that_cant_begin_leaves_nothing(dovecot, storage, first):
    """The store's part of it has begun by then."""
    server = dovecot(storage=storage, users={"alice": UserConfig(CRYPT)})
    mails = [Mail.make() for _ in range(4)]
    with server.imap("alice") as session:
        session.put(mails[0].data)
        session.folder()
        active = f"shared/{server.guid('alice')}/{ACTIVE}"
        good = server.store.attributes("alice")[active]
        spoil = lambda: server.store.put_attributes("alice", {active: "nonsense"})  # noqa: E731
        server.log.expect("id is malformed")
        if first == 0:
            spoil()
        answer = multiappend(session, *(m.data for m in mails[1:3]), between=spoil)
        assert answer.startswith("NO"), answer
        server.store.put_attributes("alice", {active: good})
        assert session.put(mails[3].data)[0] == "OK"
        assert session.bodies() == [mails[0].data, mails[3].data]
    assert not left_behind(server, "alice")


@pytest.mark.packaged_defect("makes the key")
@pytest.mark.parametrize("how", ("import", "copy"))
@pytest.mark.parametrize("storage", STORAGES)
def test_saves_of_which_none_can_begin_leave_nothing_to_commit(dovecot, storage, how):
    users = {"alice": UserConfig(plugin=False, storage="maildir"), "bob": UserConfig(CryptConfig(require_encrypted=True))}
    server = dovecot(storage=storage, users=users)
    for _ in range(3):
        server.deliver("alice", Mail.make())
    server.log.expect("Error:")
    done = bring(server, how)
    assert done.returncode not in (0, -6, 134) and b"Panic" not in done.stderr, done.stderr
    assert words.setting("mail_crypt_require_encrypted_user_key").encode() in done.stderr
    with server.imap("bob") as session:
        assert session.bodies() == []
    assert not server.store.mail_files("bob") or storage == "mdbox"
    assert not left_behind(server, "bob")


# Storage that keeps text only


@pytest.fixture
def mbox(dovecot):
    """alice encrypts; old and open don't; carol is alice before she got mail_crypt."""
    users = {
        "alice": UserConfig(CRYPT),
        "old": UserConfig(CryptConfig(save_version=0)),
        "open": UserConfig(plugin=False),
        "carol": UserConfig(plugin=False, home="alice"),
    }
    return dovecot(storage="mbox", users=users)


@pytest.mark.packaged_defect("stores plaintext")
@pytest.mark.parametrize("way", ("append", "multiappend", "copy", "move", "lmtp", "lda", "import", "doveadm copy", "save"))
def test_where_nothing_can_be_encrypted_nothing_is_saved(mbox, way):
    server = mbox
    old, new = Mail.make(), Mail.make()
    server.deliver("carol", old)
    server.deliver("open", new)
    server.doveadm("mailbox", "create", "-u", "carol", "Other")
    server.log.expect("mbox can't keep encrypted mail")
    said = ""
    with server.imap("alice") as session:
        session.folder()
        if way == "append":
            status, said = session.put(new.data)
            assert status == "NO"
        elif way == "multiappend":
            said = multiappend(session, new.data, new.data)
            assert said.startswith("NO")
        elif way in ("copy", "move"):
            status, (said,) = session.uid(way.upper(), "1", "Other")
            assert status == "NO"
            said = said.decode()
    if way == "lmtp":
        refused = server.try_deliver("alice", new)
        assert "alice" in refused
        said = refused["alice"][1].decode()
    location = words.import_location("mbox", str(server.store.home("open") / "mbox"))
    argv = {
        "import": ("import", "-u", "alice", "-U", "open", location, "", "ALL"),
        "doveadm copy": ("copy", "-u", "alice", "INBOX", "user", "open", "mailbox", "INBOX", "ALL"),
        "save": ("save", "-u", "alice"),
    }
    if way == "lda":
        assert server.lda("alice", new, check=False).returncode != 0
    elif way in argv:
        done = server.doveadm(*argv[way], stdin=new.data, check=False)
        assert done.returncode not in (0, -6, 134) and b"Panic" not in done.stderr, done.stderr
        assert b"mbox can't keep encrypted mail" in done.stderr
        assert words.setting("mail_crypt_save_version").encode() in done.stderr
    else:
        (line,) = server.log.wait_for("mbox can't keep encrypted mail")[:1]
        assert words.setting("mail_crypt_save_version") in line and "alice" in line
    assert "/" not in said.split(" (")[0], "paths are not the client's business"
    assert not server.store.find_words(server.store.home("alice"), new.words)
    with server.imap("alice") as session:
        (body,) = session.bodies()
        assert body.endswith(old.data)
        assert session.bodies("Other") == []


@pytest.mark.parametrize("user", ("old", "open", "carol"))
def test_mbox_is_what_it_was_where_nothing_is_to_be_encrypted(mbox, user):
    mails = [Mail.make(), Mail.make()]
    mbox.deliver(user, mails[0])
    with mbox.imap(user) as session:
        assert session.put(mails[1].data)[0] == "OK"
        session.create("Other")
        session.folder()
        assert session.uid("COPY", "1:2", "Other")[0] == "OK"
        for folder in ("INBOX", "Other"):
            bodies = session.bodies(folder)
            assert [b.endswith(m.data) for b, m in zip(bodies, mails, strict=True)] == [True, True]
