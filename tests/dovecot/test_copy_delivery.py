"""Mail that moves between folders, users and setups, also when some of it can't be read."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from harness import CryptConfig, Instance, Key, Mail, UserConfig, forge, words

STORAGES = ("maildir", "sdbox", "mdbox")
CRYPT = CryptConfig(password="c0rrect-h0rse")
#: Where the key id and the payload of a mail for one P-256 key begin.
KEY_ID, PAYLOAD = 50, 255


def damage(server, user, number, how):
    """Make one mail unreadable; its size stays, as an mdbox needs it to."""
    stored = server.store.stored(user)[number]
    if how == "tampered":
        stored.flip(PAYLOAD + 5)
    else:
        stored.flip(KEY_ID)


# Mail that can't be decrypted


@pytest.mark.packaged_defect("disconnects, panics, or copies what was tampered with")
@pytest.mark.parametrize("how", ("tampered", "no-key"))
@pytest.mark.parametrize("storage", STORAGES)
def test_an_unreadable_mail_can_be_managed_but_not_copied(dovecot, storage, how):
    server = dovecot(storage=storage, users={"alice": UserConfig(CRYPT)}, fetch_failure="no-after")
    mails = [Mail.make(1000), Mail.make(2000), Mail.make(3000)]
    with server.imap("alice") as session:
        for mail in mails:
            session.put(mail.data)
    damage(server, "alice", 1, how)
    server.log.expect("Error: Mailbox")
    with server.imap("alice") as session:
        for folder in ("Copied", "Moved"):
            session.create(folder)
        session.folder()
        for verb, folder in (("COPY", "Copied"), ("MOVE", "Moved")):
            for uids in ("2", "1:3"):
                status, data = session.uid(verb, uids, folder)
                assert status == "NO", (verb, uids, data)
                text = data[0].decode()
                assert not re.search(r"/|read\(|uid=|Internal error", text), text
                assert session.noop()[0] == "OK"
        assert session.uids() == [1, 2, 3]
        # All or nothing: no part of what failed was copied.
        assert session.bodies("Copied") == []
        assert session.bodies("Moved") == []
        session.folder()
        assert session.uid("STORE", "2", "+FLAGS", r"(\Flagged Keyword)")[0] == "OK"
        _, (row,) = session.uid("FETCH", "2", "(FLAGS INTERNALDATE)")
        assert b"Flagged" in row and b"Keyword" in row
        assert session.uid("COPY", "1,3", "Copied")[0] == "OK"
        assert session.uid("STORE", "2", "+FLAGS", r"(\Deleted)")[0] == "OK"
        assert session.expunge()[0] == "OK"
        assert session.bodies() == [mails[0].data, mails[2].data]
        assert session.bodies("Copied") == [mails[0].data, mails[2].data]


@pytest.mark.packaged_defect("copies what was tampered with, or fails for all")
@pytest.mark.parametrize("how", ("tampered", "no-key"))
def test_doveadm_reports_an_unreadable_mail(dovecot, how):
    server = dovecot(users={"alice": UserConfig(CRYPT)})
    mails = [Mail.make(1000), Mail.make(2000)]
    with server.imap("alice") as session:
        for mail in mails:
            session.put(mail.data)
    damage(server, "alice", 0, how)
    server.log.expect("Error: ")
    done = server.doveadm("fetch", "-u", "alice", "text", "uid", "1", check=False)
    assert done.returncode != 0
    assert re.search(b"UID[= ]1", done.stderr), done.stderr
    assert not any(word.encode() in done.stdout for word in mails[0].words)
    good = server.doveadm("fetch", "-u", "alice", "text", "uid", "2").stdout
    assert mails[1].words[2].encode() in good
    server.doveadm("mailbox", "create", "-u", "alice", "Copied")
    done = server.doveadm("copy", "-u", "alice", "Copied", "mailbox", "INBOX", "uid", "1", check=False)
    assert done.returncode != 0
    server.doveadm("expunge", "-u", "alice", "mailbox", "INBOX", "uid", "1")
    with server.imap("alice") as session:
        assert session.bodies("Copied") == []
        assert session.bodies() == [mails[1].data]


@pytest.mark.packaged_defect("says nothing of the mail, or fails for all")
@pytest.mark.parametrize("storage", STORAGES)
def test_a_damaged_mail_is_one_line_however_often_it_is_opened_to_be_logged(dovecot, storage):
    server = dovecot(storage=storage, users={"alice": UserConfig(with_global(Key.ec()))})
    with server.imap("alice") as session:
        session.create("Copied")
        for _ in range(3):
            session.put(Mail.make().data)
    damage(server, "alice", 1, "tampered")
    server.stop()
    for path in server.store.files("alice"):
        # What is cached needs no look at the mail.
        if path.name == "dovecot.index.cache":
            path.unlink()
    server.restart(extra=words.logging_mails("uid", "msgid", "from", "subject"))
    server.log.expect("tampered")
    with server.imap("alice") as session:
        session.folder()
        for command in (("COPY", "1:3", "Copied"), ("STORE", "1:3", "+FLAGS", r"(\Deleted)"), ("EXPUNGE", "1:3")):
            mark = server.log.mark()
            assert session.uid(*command)[0] == "OK"
            # The last thing that is logged of it.
            server.log.wait_for("Info: .*uid=3", mark)
            lines = server.log.lines("tampered", mark)
            assert len(lines) == 1, "\n".join(lines)


# Between users


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("source, target", [("alice", "bob"), ("alice", "open"), ("open", "alice")])
def test_copies_between_users_are_stored_as_the_target_says(dovecot, storage, source, target):
    users = {
        "alice": UserConfig(CRYPT),
        "bob": UserConfig(CryptConfig(password="an0ther-0ne")),
        "open": UserConfig(plugin=False),
    }
    server = dovecot(storage=storage, users=users)
    mails = [Mail.make(1000), Mail.make(100_000)]
    with server.imap(source) as session:
        for mail in mails:
            session.put(mail.data)
    server.doveadm("copy", "-u", target, "INBOX", "user", source, "mailbox", "INBOX", "ALL")
    for user in (source, target):
        with server.imap(user) as session:
            assert session.bodies() == [m.data for m in mails]
    words = tuple(w for m in mails for w in m.words)
    store = server.store
    assert bool(store.find_words(store.home(target), words)) == (target == "open")
    encrypted = [stored.data.startswith(forge.MAGIC) for stored in store.stored(target)]
    assert encrypted == [target != "open"] * 2


# Plaintext of before


@pytest.mark.parametrize("storage", STORAGES)
def test_mail_of_before_the_plugin_is_read_and_encrypted_when_it_moves(dovecot, store, storage):
    mails = [Mail.make(1000), Mail.make(100_000)]
    users = {"alice": UserConfig(CRYPT)}
    before = dovecot(plugin="none", store=store, storage=storage, users=dict(users))
    with before.imap("alice") as session:
        for mail in mails:
            session.put(mail.data)
    server = dovecot(store=store, storage=storage, users=dict(users))
    new = Mail.make()
    with server.imap("alice") as session:
        session.put(new.data)
        session.create("Moved")
        assert session.bodies() == [*(m.data for m in mails), new.data]
        session.folder()
        assert session.uid("MOVE", "1:2", "Moved")[0] == "OK"
        assert session.bodies("Moved") == [m.data for m in mails]
        assert session.bodies() == [new.data]
    if storage == "mdbox":
        server.doveadm("purge", "-u", "alice")
    words = tuple(w for m in [*mails, new] for w in m.words)
    assert not store.find_words(store.home("alice"), words)


@pytest.mark.packaged_defect("nobody can read the copies")
@pytest.mark.parametrize("storage", STORAGES)
def test_mail_of_before_the_global_key_moves_under_it(dovecot, storage):
    """Under one key for all, copies are made without a look inside: but not of what is under another."""
    new = Key.ec()
    server = dovecot(storage=storage, users={"alice": UserConfig(CRYPT)})
    mails = [Mail.make(1000) for _ in range(3)]
    with server.imap("alice") as session:
        for folder in ("Old", "Moved"):
            session.create(folder)
        session.put(mails[0].data, "Old")
    for mail, crypt in ((mails[1], CryptConfig(save_version=0)), (mails[2], with_global(new))):
        server.set_user("alice", UserConfig(crypt))
        with server.imap("alice") as session:
            session.put(mail.data, "Old")
    with server.imap("alice") as session:
        session.folder("Old")
        assert session.uid("COPY", "1:3", "Moved")[0] == "OK"
        assert session.uid("MOVE", "1:3", "Moved")[0] == "OK"
        assert session.bodies("Moved") == [m.data for m in mails] * 2
    if storage == "mdbox":
        server.doveadm("purge", "-u", "alice")
    stored = [s.data for s in server.store.stored("alice")]
    assert stored and all(bytes.fromhex(new.id) in data for data in stored)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_server_without_the_private_key_moves_all_that_it_stores(dovecot, storage):
    """Wherever in its file a mail begins, what is read at once of it or of the one before it may end within its header."""
    key = Key.ec()
    public = CryptConfig(curve=None, global_public=key.public_setting())
    server = dovecot(storage=storage, users={"alice": UserConfig(public)})
    mails = [Mail.make(900 + 37 * (n % 29)) for n in range(300)]
    with server.imap("alice") as session:
        session.create("Copied")
        session.create("Moved")
        for mail in mails:
            assert session.put(mail.data)[0] == "OK"
    before = {bytes(stored.data) for stored in server.store.stored("alice")}
    with server.imap("alice") as session:
        session.folder()
        assert session.uid("COPY", "1:*", "Copied")[0] == "OK"
        assert session.uid("MOVE", "1:*", "Moved")[0] == "OK"
    server.set_user("alice", UserConfig(replace(public, global_private=(key.setting(),))))
    with server.imap("alice") as session:
        for folder in ("Copied", "Moved"):
            assert session.bodies(folder) == [mail.data for mail in mails]
    # As they were on disk: nothing was encrypted anew.
    assert {bytes(stored.data) for stored in server.store.stored("alice")} == before


def with_global(key):
    """The user's own keys as before, and one for everything that is new."""
    return replace(CRYPT, global_public=key.public_setting(), global_private=(key.setting(),))


# Delivery


@pytest.mark.parametrize("storage", STORAGES)
def test_a_sieve_script_files_into_several_folders(dovecot, storage):
    server = dovecot(
        storage=storage,
        users={"alice": UserConfig(CRYPT)},
        extra=words.sieve("~/script.sieve"),
    )
    script = server.store.home("alice") / "script.sieve"
    script.write_text(
        'require ["fileinto", "mailbox", "copy"];\n'
        'fileinto :create :copy "One";\nfileinto :create :copy "Two";\n'
    )
    mail = Mail.make(30_000)
    server.deliver("alice", mail)
    with server.imap("alice") as session:
        for folder in ("INBOX", "One", "Two"):
            assert session.bodies(folder)[0].endswith(mail.data), folder
    assert not server.store.find_words(server.store.home("alice"), mail.words)
    keys = server.store.folder_keys("alice")
    assert [len(k) for k in keys.values()] == [1] * 3


@pytest.mark.parametrize("storage", STORAGES)
def test_a_client_that_hangs_up_leaves_nothing(dovecot, storage):
    server = dovecot(storage=storage, users={"alice": UserConfig(CRYPT)})
    mail = Mail.make(200_000)
    session = server.imap("alice")
    session.send(f"a APPEND INBOX {{{len(mail.data)}}}\r\n".encode())
    assert session.readline().startswith(b"+")
    session.send(mail.data[:150_000])
    mark = server.log.mark()
    session.shutdown()
    server.log.wait_for("Disconnected", mark)
    assert not server.store.mail_files("alice")
    assert not server.store.find_words(server.store.home("alice"), mail.words)
    with server.imap("alice") as session:
        assert session.bodies() == []
        session.put(mail.data)
        assert session.bodies() == [mail.data]


# mail_temp_dir


@pytest.mark.parametrize(
    "state",
    [
        pytest.param("missing", marks=pytest.mark.packaged_defect("wants its plaintext file")),
        pytest.param("read-only", marks=pytest.mark.packaged_defect("wants its plaintext file")),
        "full",
    ],
)
@pytest.mark.parametrize("storage", STORAGES)
def test_the_temp_dir_makes_no_difference(dovecot, storage, state):
    server = dovecot(storage=storage, users={"alice": UserConfig(CRYPT)}, temp_dir=state)
    mails = [Mail.make(1000), Mail.make(400_000)]
    server.deliver("alice", mails[0])
    with server.imap("alice") as session:
        assert session.put(mails[1].data)[0] == "OK"
        session.create("Copied")
        first, second = session.bodies()
        assert first.endswith(mails[0].data) and second == mails[1].data
        session.folder()
        assert session.uids("BODY", mails[1].words[2]) == [2]
        assert session.uid("COPY", "1:2", "Copied")[0] == "OK"
        assert session.bodies("Copied") == [first, second]
        session.folder()
        answer = session.fetch_uids("BODY.PEEK[]<300000.50>", "2")
        assert answer.items == {2: mails[1].data[300_000:300_050]}
    lines = server.pop3("alice").retr(2)[1]
    assert b"\r\n".join(lines) + b"\r\n" == mails[1].data
    out = server.doveadm("fetch", "-u", "alice", "text", "ALL").stdout
    assert mails[1].words[2].encode() in out


def test_the_temp_dir_is_in_the_state_that_the_tests_say():
    """What the test above relies on: as the mail user sees it, nothing can be written there."""
    for state in ("missing", "read-only", "full"):
        users = {"alice": UserConfig(plugin=False)}
        with Instance(plugin="none", users=users, temp_dir=state) as server:
            uid, gid = server.mail_ids
            drop = []
            if server.account.is_root:
                drop = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
            write = f"head -c 100000 /dev/zero > {server.temp_dir}/x"
            done = server.run_program([*drop, "sh", "-c", write], check=False)
            assert done.returncode != 0, state


@pytest.mark.packaged_defect("reads the first recipient's copy to store the others'")
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("size", (1000, 400_000))
def test_delivery_to_several_needs_nobodys_private_key(dovecot, storage, size):
    """LMTP stores the mails of later recipients from the first one's copy."""
    names = ("alice", "bob", "carol")
    users = {name: UserConfig(CryptConfig(password=f"key-of-{name}")) for name in names}
    server = dovecot(storage=storage, users=users)
    mails = [Mail.make(), Mail.make(size)]
    server.deliver(*names, mails[0])
    locked = {name: UserConfig(CryptConfig(password="another-one")) for name in names}
    server.restart(users=locked)
    server.deliver(*names, mails[1])
    server.restart(users=users)
    for name in names:
        with server.imap(name) as session:
            bodies = session.bodies()
        assert [body.endswith(mail.data) for body, mail in zip(bodies, mails)] == [True, True]
