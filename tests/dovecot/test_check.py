"""`doveadm mailbox crypt check`: every kind of mail and key that isn't as it should be is found, and named."""

from __future__ import annotations

import json
import os
import re

import pytest
from harness import CryptConfig, Key, Mail, UserConfig, forge, words
from harness.folder import Folder
from harness.spoil import DAMAGED, GOOD, LATER, LOCKED, spoil
from test_attachments import Letter
from test_doveadm import EXTRA, cryptokey, over_http
from test_index_cache import virtual_folder
from test_slots import summed

pytestmark = pytest.mark.packaged_refuses("it has no such command")

STORAGES = ("maildir", "sdbox", "mdbox")
FINDINGS = 65
PASSWORD = CryptConfig(password="of-her-key")


@pytest.fixture(scope="module")
def server(shared_dovecot):
    """One server for all; each test has a user of its own."""
    return shared_dovecot(users={}, acl=True, extra=EXTRA)


@pytest.fixture
def user(server, request):
    """A user of the test's own, on the storage that it asks for."""
    name = f"u{abs(hash(request.node.name)) % 10**9}"
    server.set_user(name, UserConfig(PASSWORD, storage=getattr(request, "param", "maildir")))
    return name


on_each_storage = pytest.mark.parametrize("user", STORAGES, indirect=True)


def run(server, *args, user=None, fmt="json", who=()):
    """Its exit code, and what it printed."""
    who = who or ("-u", user)
    form = ("-f", fmt) if fmt else ()
    done = server.doveadm(*form, "mailbox", "crypt", "check", *who, *args, check=False)
    out = done.stdout.decode()
    if fmt == "json":
        out = json.loads(out) if out.strip() else []
    return done.returncode, out, done.stderr.decode()


def check(server, user, *args):
    """The problems and notes, with the exit code that they must have."""
    code, rows, said = run(server, *args, user=user)
    problems = [row for row in rows if row["level"] == "problem"]
    assert code == (FINDINGS if problems else 0), said
    return problems, [row for row in rows if row["level"] == "note"], rows


def of(rows, record, state=None):
    """The rows about such a record."""
    return [row for row in rows if row["record"] == record and state in (None, row["state"])]


def put(server, user, folder="INBOX", data=None):
    """A mail, stored as the administrator does it."""
    mail = Mail.make()
    if folder != "INBOX":
        server.doveadm("mailbox", "create", "-u", user, folder, check=False)
    server.doveadm("save", "-u", user, "-m", folder, stdin=data or mail.data)
    return mail


def everything(server, user):
    """Each file of the user's home: its bytes, times, inode and place."""
    found = {}
    for path in server.store.files(user):
        stat = path.stat()
        found[path] = (path.read_bytes(), stat.st_mtime_ns, stat.st_ino)
    return found


def settle(server, user):
    """Maildir looks again, and writes its index, as long as a folder may have changed within a second."""
    for path in server.store.home(user).rglob("*"):
        if path.name in ("cur", "new"):
            os.utime(path, (1_700_000_000, 1_700_000_000))
    server.doveadm("mailbox", "status", "-u", user, "all", "*")
    if words.is_24():
        # The first session that looks tidies the index cache up.
        run(server, user=user)


# Mails


@on_each_storage
def test_nothing_is_wrong_with_a_user_whose_mail_is_encrypted(server, user):
    for folder in ("INBOX", "Work", "Work"):
        put(server, user, folder)
    problems, _, rows = check(server, user, "--full")
    assert not problems
    assert {(r["box"], r["mails"]) for r in of(rows, "folder", "active")} == {("INBOX", "1"), ("Work", "2")}
    sizes = sum(mail.size for mail in server.store.stored(user))
    assert sum(int(row["bytes"]) for row in of(rows, "folder")) == sizes
    keys = of(rows, "key")
    assert {(r["box"], r["state"], r["opens"], r["mails"]) for r in keys} == {
        ("INBOX", "active", "yes", "1"), ("Work", "active", "yes", "2")
    }  # fmt: skip
    assert {row["key"] for row in keys} == set().union(*server.store.folder_keys(user).values())
    (user_key,) = of(rows, "user-key")
    assert (user_key["state"], user_key["opens"]) == ("active", "yes")


@on_each_storage
def test_a_plain_mail_in_an_encrypted_folder_is_a_problem_of_its_own(server, user):
    put(server, user)
    server.set_user(user, UserConfig(CryptConfig(save_version=0, password="of-her-key"), storage=server.users[user].storage))
    put(server, user)
    # Who writes no encrypted mail has asked for it.
    problems, _, rows = check(server, user)
    assert not problems and of(rows, "folder", "plain")[0]["mails"] == "1"
    server.set_user(user, UserConfig(PASSWORD, storage=server.users[user].storage))
    put(server, user)
    (problem,), _, rows = check(server, user)
    assert (problem["record"], problem["box"], problem["uid"], problem["state"]) == ("mail", "INBOX", "2", "plain")
    assert "crypt convert 'INBOX'" in problem["advice"]
    guid = server.doveadm("-f", "flow", "fetch", "-u", user, "guid", "mailbox", "INBOX", "uid", "2").stdout.decode()
    assert problem["guid"] and f"guid={problem['guid']}" in guid
    assert of(rows, "folder", "active")[0]["mails"] == "2"


@on_each_storage
def test_mail_under_an_older_key_is_counted_and_needs_that_key(server, user):
    put(server, user)
    old = server.store.folder_keys(user)[server.guid(user)]
    cryptokey(server, "generate", "-f", "INBOX", user=user)
    put(server, user)
    problems, notes, rows = check(server, user)
    assert not problems
    (note,) = of(notes, "folder")
    assert (note["state"], note["mails"]) == ("older-key", "1") and "--rekey" in note["advice"]
    assert {(r["key"] in old, r["state"], r["opens"]) for r in of(rows, "key")} == {
        (True, "older", "yes"), (False, "active", "yes")
    }  # fmt: skip


@on_each_storage
def test_what_nothing_opens_is_named_at_once_and_damage_with_full(server, user):
    spoilt = spoil(server, user)
    problems, _, rows = check(server, user)
    assert [(p["uid"], p["state"]) for p in of(problems, "mail")] == [(str(LOCKED), "unreadable")]
    assert "reopen" in of(problems, "mail")[0]["advice"]
    assert {row["opens"] for row in of(rows, "key")} == {"no", "yes"}
    problems, _, rows = check(server, user, "--full")
    found = {int(p["uid"]): p["reason"] for p in of(problems, "mail")}
    assert set(found) == {LOCKED, DAMAGED} and found[DAMAGED].startswith("tampered: ")
    assert of(rows, "folder", "active")[0]["mails"] == "2"
    assert {GOOD, LATER}.isdisjoint(found)
    spoilt.unlock()
    problems, _, _ = check(server, user)
    assert not problems


@on_each_storage
def test_the_last_byte_of_a_large_mail_is_verified(server, user):
    put(server, user, data=Mail.make(700_000).data)
    put(server, user)
    stored = server.store.stored(user)[0]
    stored.flip(-1)
    assert not check(server, user)[0]
    (problem,), _, _ = check(server, user, "--full")
    assert (problem["uid"], problem["state"]) == ("1", "unreadable")
    # What begins otherwise than it did needs no verifying.
    stored.flip(-1)
    stored.flip(0)
    (problem,), _, _ = check(server, user)
    assert (problem["uid"], problem["state"]) == ("1", "unreadable")


@on_each_storage
@pytest.mark.parametrize("size", (2000, 700_000))
def test_a_mail_that_is_encrypted_twice_is_found_with_full(server, user, size):
    storage = server.users[user].storage
    key = Key.ec()
    crypt = CryptConfig(curve=None, global_public=key.public_setting(), global_private=(key.setting(),))
    inner = forge.Stream(Mail.make(size).lines, key).data()
    server.set_user(user, UserConfig(crypt, storage=storage))
    put(server, user)
    (outer,) = server.store.stored(user)
    outer.replace(forge.Stream(inner, key).data())
    assert not of(check(server, user)[0], "mail")
    (problem,), _, rows = check(server, user, "--full")
    assert (problem["state"], problem["uid"]) == ("twice", "1") and "--twice" in problem["advice"]
    assert of(rows, "folder", "twice")[0]["mails"] == "1"


@pytest.mark.skipif(words.is_24(), reason="Dovecot 2.4 writes no version 1")
def test_version_1_is_counted(server, user):
    put(server, user)
    server.set_user(user, UserConfig(CryptConfig(save_version=1, password="of-her-key")))
    put(server, user)
    server.set_user(user, UserConfig(PASSWORD))
    problems, notes, _ = check(server, user, "--full")
    # Version 1 names its key by another id, and it is the same key.
    assert not problems and not of(notes, "key")
    assert [note["mails"] for note in of(notes, "folder", "version-1")] == ["1"]


# Keys


def test_keys_that_were_given_up_are_told_from_those_that_nothing_opens(server, user):
    put(server, user)
    server.set_user(user, UserConfig(CryptConfig()))
    cryptokey(server, "reset", "-a", user=user, stdin=b"new-password\n")
    server.set_user(user, UserConfig(CryptConfig(password="new-password")))
    put(server, user)
    problems, notes, rows = check(server, user)
    assert not problems
    assert of(notes, "folder", "locked")[0]["mails"] == "1"
    assert "reopen" in of(notes, "folder", "locked")[0]["advice"]
    assert {(row["state"], row["opens"]) for row in of(rows, "user-key")} == {("active", "yes"), ("older", "locked")}


def test_a_key_without_mail_is_a_note(server, user):
    put(server, user)
    cryptokey(server, "generate", "-f", "INBOX", user=user)
    cryptokey(server, "generate", "-f", "INBOX", user=user)
    put(server, user)
    problems, notes, _ = check(server, user)
    assert not problems
    (note,) = of(notes, "key")
    assert note["mails"] == "0" and note["state"] == "older" and "cryptokey delete" in note["advice"]
    # Of a part of the folders nobody can say what no mail needs.
    assert not of(check(server, user, "INBOX")[1], "key")


def test_a_user_key_that_nothing_is_under_is_a_note(server, user):
    put(server, user)
    cryptokey(server, "generate", "-URf", user=user)
    problems, notes, _ = check(server, user)
    (note,) = of(notes, "user-key")
    assert not problems and note["state"] == "older" and "delete -U" in note["advice"]


def test_a_folder_without_an_active_key_is_a_problem(server, user):
    put(server, user)
    server.store.drop_attributes(user, f"shared/{server.guid(user)}/vendor/vendor.dovecot/pvt/crypt/active")
    (problem,), _, _ = check(server, user)
    assert (problem["record"], problem["box"]) == ("folder", "INBOX")
    assert "no active key" in problem["reason"]


def test_keys_of_deleted_folders_and_old_guids_are_notes(server, user):
    put(server, user)
    put(server, user, "Gone")
    server.doveadm("mailbox", "delete", "-u", user, "Gone")
    name = f"priv/{'ab' * 16}/vendor/vendor.dovecot/pvt/crypt/privkeys/{'cd' * 32}"
    server.store.put_attributes(user, {name: "2:key"})
    problems, notes, _ = check(server, user)
    assert not problems
    assert "no folder has it" in of(notes, "key")[0]["reason"]
    (litter,) = of(notes, "litter")
    assert re.search(r"under [12] GUIDs? that no folder", litter["reason"])


def add_slot(server, user, name):
    """A recovery code."""
    server.doveadm("mailbox", "cryptokey", "slot", "add", "-u", user, "-n", name, "recovery", stdin=b"")


def test_a_slot_with_a_wrong_seal_is_a_problem(server, user):
    put(server, user)
    add_slot(server, user, "mine")
    add_slot(server, user, "other")
    assert not check(server, user)[0]
    attributes = server.store.attributes(user)
    names = [name for name in attributes if name.endswith("/crypt/slots")]
    lines = attributes[names[0]].split("\n")
    (at,) = [n for n, line in enumerate(lines) if line.startswith("slot mine")]
    fields = lines[at].split(" ")[:-1]
    fields[6] = Key.ec().dovecot_public()
    lines[at] = " ".join([*fields, summed(" ".join(fields))])
    server.store.put_attributes(user, {name: "\n".join(lines) for name in names})
    (problem,), _, _ = check(server, user)
    assert (problem["record"], problem["state"]) == ("slot", "wrong-seal") and "slot mine" in problem["reason"]


# Shares


@pytest.fixture
def shared(server, user):
    """A folder of the user's that `bob` may read."""
    server.set_user("bob", UserConfig(CryptConfig(password="of bob")))
    put(server, "bob")
    folder = Folder(server, user).make()
    folder.acl("set", "user=bob", "lookup", "read")
    assert folder.copies() == {"bob": folder.keys}
    assert not check(server, user)[0]
    return folder


def test_a_reader_without_a_share_is_a_problem_that_setting_the_right_solves(server, user, shared):
    server.store.drop_attributes(user, f"shared/.*/privkeys/{b'bob'.hex()}/")
    (problem,), _, _ = check(server, user)
    assert (problem["record"], problem["box"]) == ("share", shared.name) and "bob may read" in problem["reason"]
    shared.acl("set", "user=bob", "lookup", "read")
    assert not check(server, user)[0]


def test_a_share_without_a_reader_is_a_problem_that_its_advice_solves(server, user, shared):
    copies = {n: v for n, v in server.store.attributes(user).items() if f"/privkeys/{b'bob'.hex()}/" in n}
    shared.acl("delete", "user=bob")
    server.store.put_attributes(user, copies)
    (problem,), _, _ = check(server, user)
    assert (problem["record"], problem["box"]) == ("share", shared.name) and "bob has its keys" in problem["reason"]
    shared.acl("set", "user=bob", "lookup", "read")
    shared.acl("delete", "user=bob")
    assert not check(server, user)[0]


# What lies in the clear


@on_each_storage
def test_what_the_index_cache_shows_is_a_note(server, user):
    mail = put(server, user)
    if not words.is_24():
        # There saving keeps headers, too.
        assert not of(check(server, user)[1], "clear")
    with server.imap(user) as session:
        session.folder()
        session.fetch_uids("ENVELOPE", "1")
        session.fetch_uids("BODY.PEEK[HEADER.FIELDS (X-OWN)]", "1")
    _, notes, _ = check(server, user)
    (note,) = of(notes, "clear", "index-cache")
    assert note["mails"] == "1" and {"hdr.subject", "hdr.x-own"} <= set(note["reason"].lower().split())
    assert mail.subject not in json.dumps(notes)


@pytest.mark.parametrize("storage", STORAGES[1:])
@pytest.mark.parametrize("driver", ("posix", "crypt"))
def test_attachments_outside_that_are_not_encrypted_are_a_problem(dovecot, storage, driver):
    if words.is_24():
        pytest.skip("test_attachments.py says how 2.4 is told")
    key = Key.ec()
    extra = (
        "mail_attachment_dir = ~/attachments\n"
        f"mail_attachment_fs = {'crypt:set_prefix=attached:' * (driver == 'crypt')}posix:\n"
        f"plugin {{\nattached_public_key = {key.public_setting()}\nattached_private_key = {key.setting().value}\n}}\n"
    )
    server = dovecot(users={"alice": UserConfig(PASSWORD)}, storage=storage, extra=extra)
    letter = Letter.make()
    server.doveadm("save", "-u", "alice", stdin=letter.data)
    attached = [path for path in server.store.files("alice") if "attachments" in path.parts]
    assert attached
    problems, _, _ = check(server, "alice", "--full")
    if driver == "posix":
        (problem,) = problems
        assert (problem["record"], problem["state"], problem["mails"]) == ("clear", "attachments", "1")
    else:
        assert not problems
        attached[0].write_bytes(attached[0].read_bytes()[:-1])
        assert not check(server, "alice")[0]
        (problem,), _, _ = check(server, "alice", "--full")
        assert (problem["record"], problem["uid"]) == ("mail", "1") and "attachment" in problem["reason"]


def test_mail_is_not_counted_again_in_virtual_folders(dovecot):
    server = dovecot(users={"alice": UserConfig(PASSWORD)}, extra=words.virtual_folders("~/virtual", 10))
    put(server, "alice")
    virtual_folder(server, "alice")
    _, _, rows = check(server, "alice", "--full")
    assert [(row["box"], row["mails"]) for row in of(rows, "folder")] == [("INBOX", "1")]
    assert b"uid" in server.doveadm("fetch", "-u", "alice", "uid", "mailbox", "virtual/All").stdout


# Ways to run it


@on_each_storage
def test_nothing_is_changed(server, user):
    """Whatever it finds, and with or without all that opens."""
    spoil(server, user)
    put(server, user, "Work")
    add_slot(server, user, "mine")
    settle(server, user)
    storage = server.users[user].storage
    for crypt in (PASSWORD, CryptConfig(), CryptConfig(password="wrong")):
        server.set_user(user, UserConfig(crypt, storage=storage))
        before = everything(server, user)
        for args in ((), ("--full",), ("--summary",), ("INBOX",)):
            run(server, *args, user=user)
        assert everything(server, user) == before


def test_a_user_without_an_inbox_gets_none(server, user):
    code, rows, said = run(server, user=user)
    assert (code, rows) == (0, []) and "no INBOX" in said
    home = server.store.home(user)
    assert not [path for path in home.rglob("*") if path.name in ("cur", "mailboxes", "dovecot-attributes")]


@on_each_storage
def test_without_the_password_states_are_told_and_keys_are_not_blamed(server, user):
    put(server, user)
    put(server, user, "Work")
    storage = server.users[user].storage
    server.set_user(user, UserConfig(CryptConfig(), storage=storage))
    problems, _, rows = check(server, user, "--full")
    assert not problems
    assert {row["opens"] for row in of(rows, "key") + of(rows, "user-key")} == {"not tried"}
    assert {row["state"] for row in of(rows, "folder")} == {"active"}
    # A wrong one is no excuse.
    server.set_user(user, UserConfig(CryptConfig(password="wrong"), storage=storage))
    problems, _, _ = check(server, user)
    assert {p["state"] for p in of(problems, "mail")} == {"unreadable"} and of(problems, "user-key")


def test_without_the_private_key_of_all_users_nothing_is_blamed(server, user):
    key = Key.ec()
    server.set_user(user, UserConfig(CryptConfig(curve=None, global_public=key.public_setting())))
    server.deliver(user, Mail.make())
    problems, _, rows = check(server, user, "--full")
    assert not problems
    assert [(row["key"], row["opens"]) for row in of(rows, "key")] == [(key.id, "not tried")]


def test_masks_choose_folders_and_a_missing_one_is_an_error(server, user):
    for folder in ("INBOX", "Work", "Work/Deep"):
        put(server, user, folder)
    _, _, rows = check(server, user, "Work*", "Work")
    assert sorted(row["box"] for row in of(rows, "folder")) == ["Work", "Work/Deep"]
    code, _, said = run(server, "Nowhere", user=user)
    assert code == 68 and "Nowhere" in said


def test_people_get_sentences(server, user):
    put(server, user)
    code, out, _ = run(server, user=user, fmt=None)
    assert code == 0
    lines = out.splitlines()
    assert any(line.startswith("INBOX: 1 mail, ") and line.endswith(": encrypted to the active key") for line in lines)
    for fmt in ("tab", "flow", "pager", "table"):
        code, out, _ = run(server, user=user, fmt=fmt)
        assert code == 0 and "encrypted to the active key" in out


def test_a_server_and_the_http_api_tell_the_same(server, user):
    put(server, user)
    put(server, user)
    server.store.stored(user)[0].flip(0)
    code, direct, _ = run(server, "--full", user=user)
    assert code == FINDINGS
    path = str(server.places.base / "doveadm-server")
    assert run(server, "--full", "-S", path, user=user)[:2] == (code, direct)
    assert run(server, "--summary", "-S", path, user=user)[1][0]["problems"] == "1"
    assert over_http(server, "mailboxCryptCheck", user=user, full=True, summary=False) == ("doveadmResponse", direct)
    name, (row,) = over_http(server, "mailboxCryptCheck", user=user, summary=True)
    assert (name, row["mails"], row["problems"]) == ("doveadmResponse", "2", "1")


def test_all_users_are_a_line_each_and_a_total(dovecot):
    users = {name: UserConfig(PASSWORD) for name in ("alice", "bob")}
    users |= {"off": UserConfig(plugin=False), "new": UserConfig(PASSWORD)}
    server = dovecot(users=users)
    for name in ("alice", "bob"):
        put(server, name)
    code, rows, said = run(server, who=("-A",))
    assert code == 0, said
    assert [row["username"] for row in rows] == ["alice", "bob", "TOTAL"]
    assert [row["mails"] for row in rows] == ["1", "1", "2"]
    assert all(row["problems"] == "0" and row["active"] == row["mails"] for row in rows)
    assert "new has no INBOX" in said and "off" in said
    (stored,) = server.store.stored("bob")
    stored.flip(0)
    code, rows, _ = run(server, who=("-A",))
    assert code == FINDINGS
    assert [(row["unreadable"], row["problems"]) for row in rows] == [("0", "0"), ("1", "1"), ("1", "1")]
    code, out, _ = run(server, who=("-A",), fmt=None)
    assert code == FINDINGS and len(out.splitlines()) == 3 and out.splitlines()[2].startswith("TOTAL of 2 users: ")
    code, rows, _ = run(server, "--summary", user="bob")
    assert code == FINDINGS and [row["problems"] for row in rows] == ["1"]


def test_exit_codes(server, user):
    put(server, user)
    assert run(server, user=user)[0] == 0
    assert run(server, user="nobody-there")[0] == 67
    server.set_user("off", UserConfig(plugin=False))
    assert run(server, user="off")[0] == 78
    assert run(server, "--no-such-option", user=user, fmt=None)[0] == 64
    # What can't be looked at is no finding.
    home = server.store.home(user)
    attributes = home / "dovecot-attributes"
    data = attributes.read_bytes()
    if os.getuid() == 0:
        attributes.unlink()
        attributes.mkdir()
        server.log.expect(r"Error: .*dovecot-attributes")
        assert run(server, user=user)[0] == 75
        attributes.rmdir()
        attributes.write_bytes(data)
