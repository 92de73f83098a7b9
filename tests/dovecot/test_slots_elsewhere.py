"""Slots beside everything else: the packaged plugin, shared folders, METADATA, dsync, Argon2id, sessions at the same time."""

from __future__ import annotations

import contextlib
import imaplib
import shutil
import threading

import pytest
from harness import CryptConfig, Key, Mail, UserConfig, words
from test_doveadm import cryptokey, rows
from test_doveadm_keys import FOLDER, USER, shared_folder, stored
from test_slots import CODE, PASSWORD, listed, log_in, run

pytestmark = pytest.mark.packaged_refuses("it has no slots")

NEW = "quite-another-one"


def read(server, user: str, secret: str | None, *mails: Mail) -> None:
    """A session with this secret reads exactly these."""
    log_in(server, user, secret)
    with server.imap(user) as imap:
        found = imap.bodies()
    assert len(found) == len(mails)
    assert all(body.endswith(mail.data) for body, mail in zip(found, mails))


# The packaged plugin


def test_the_packaged_plugin_reads_before_and_after_each_command(dovecot, store, tmp_path):
    users = {"alice": UserConfig(CryptConfig(password=PASSWORD))}
    packaged = dovecot(store=store, plugin="packaged", users=dict(users))
    ours = dovecot(store=store, users=dict(users))
    mails = [Mail.make()]
    packaged.deliver("alice", mails[0])
    password = PASSWORD

    def check() -> None:
        for server in (packaged, ours):
            read(server, "alice", password, *mails)

    key = Key.ec()
    (tmp_path / "private").write_text(key.pem())
    (tmp_path / "public").write_text(key.public_pem())
    code = run(ours, "slot add", "recovery", user="alice", secrets=(password,))
    check()
    run(ours, "slot add", "password", user="alice", secrets=(password, "second-of-two"))
    run(ours, "slot add", "-k", str(tmp_path / "public"), "key", user="alice", secrets=(password,))
    check()
    # The packaged plugin makes keys and changes passwords meanwhile.
    mails.append(Mail.make())
    packaged.deliver("alice", mails[-1])
    cryptokey(packaged, "password", "-o", password, "-n", "theirs")
    password = "theirs"
    check()
    read(ours, "alice", code, *mails)
    run(ours, "rotate", user="alice", secrets=(password,))
    check()
    mails.append(Mail.make())
    packaged.deliver("alice", mails[-1])
    run(ours, "rotate", "-b", user="alice", secrets=(password,))
    check()
    password = NEW
    run(ours, "reset", "-k", str(tmp_path / "private"), user="alice", secrets=(password,))
    check()
    run(ours, "password", "-z", user="alice")
    password = "theirs"
    check()
    run(ours, "slot remove", "password", user="alice")
    check()
    old = [row["pubid"] for row in rows(ours, "list", "-U") if row["active"] == "no"]
    cryptokey(ours, "delete", "-U", *old)
    check()
    # Given up: what is new is read by both, and what is old again by both.
    password = NEW
    log_in(ours, "alice", password)
    run(ours, "reset", "-a", user="alice", secrets=(password,))
    mails.append(Mail.make())
    packaged.deliver("alice", mails[-1])
    for server in (packaged, ours):
        log_in(server, "alice", password)
        with server.imap("alice") as imap:
            imap.folder()
            (body,) = imap.fetch_uids(uids=str(len(mails))).items.values()
            assert body.endswith(mails[-1].data)
    run(ours, "reopen", user="alice", secrets=("theirs", password))
    check()
    run(ours, "rotate", user="alice", secrets=(password,))
    check()
    # The code opens what it opened before; a new one opens everything.
    run(ours, "slot remove", "recovery", user="alice")
    code = run(ours, "slot add", "recovery", user="alice", secrets=(password,))
    read(ours, "alice", code, *mails)


@pytest.mark.skipif(words.is_24(), reason="2.4's plugin tells it from a missing key by nothing")
def test_the_packaged_plugin_says_that_it_cannot_open_argon2id(dovecot, store):
    argon = (words.setting("mail_crypt_password_kdf"), "argon2id")
    users = {"alice": UserConfig(CryptConfig(password=PASSWORD), extra=(argon,))}
    ours = dovecot(store=store, users=dict(users))
    mail = Mail.make()
    ours.deliver("alice", mail)
    with ours.imap("alice") as imap:
        assert len(imap.bodies()) == 1
    packaged = dovecot(store=store, plugin="packaged", users={"alice": UserConfig(CryptConfig(password=PASSWORD))})
    packaged.log.expect("Error:")
    with packaged.imap("alice") as imap, contextlib.suppress(imaplib.IMAP4.abort):
        imap.folder()
        imap.raw("FETCH 1 BODY[]")
    packaged.log.wait_for("Cannot decrypt key .*: Private key .* not available")
    log_in(ours, "alice", PASSWORD)
    run(ours, "password", "-P", user="alice")
    read(packaged, "alice", PASSWORD, mail)
    read(ours, "alice", PASSWORD, mail)


# Argon2id


@pytest.fixture
def argon(dovecot):
    """A user whose password is stretched with Argon2id, with a mail."""
    server = dovecot(users={"alice": UserConfig(CryptConfig(password=PASSWORD), extra=ARGON)})
    server.mail = Mail.make()
    server.deliver("alice", server.mail)
    return server


ARGON = ((words.setting("mail_crypt_password_kdf"), "argon2id"),)


def reads(server, secret: str) -> bool:
    server.set_user("alice", UserConfig(CryptConfig(password=secret), extra=ARGON))
    server.log.expect("wrong password|encrypted to key|is under a password")
    found = []
    with server.imap("alice") as imap, contextlib.suppress(imaplib.IMAP4.abort):
        found = imap.bodies()
    assert all(body.endswith(server.mail.data) for body in found)
    server.set_user("alice", UserConfig(CryptConfig(password=None), extra=ARGON))
    return bool(found)


def test_all_commands_with_argon2id(argon):
    server = argon
    code = run(server, "slot add", "recovery", user="alice", secrets=(PASSWORD,))
    run(server, "slot add", "password", user="alice", secrets=(PASSWORD, "second-of-two"))
    names = {row["slot"]: row["opens"] for row in listed(server, "alice")}
    (user_key,) = stored(server, "alice", USER)
    assert names == {"login": user_key, "recovery": user_key, "password": user_key}
    for secret in (PASSWORD, code, "second-of-two"):
        assert reads(server, secret)
    assert not reads(server, "none-of-them")
    done = run(server, "slot remove", "login", user="alice", check=False)
    assert done.returncode == 65 and b"is the password's own" in done.stderr
    run(server, "rotate", user="alice", secrets=(PASSWORD,))
    cryptokey(server, "password", "-o", PASSWORD, "-n", NEW)
    assert reads(server, NEW) and not reads(server, PASSWORD) and reads(server, code)
    run(server, "password", "-z", user="alice")
    assert reads(server, PASSWORD) and not reads(server, NEW)
    code = run(server, "reset", user="alice", secrets=(code, NEW))
    assert CODE.fullmatch(code)
    assert reads(server, NEW) and reads(server, code) and reads(server, "second-of-two") and not reads(server, PASSWORD)
    cryptokey(server, "password", "-o", NEW, "-n", PASSWORD, "-Z")
    assert reads(server, PASSWORD) and not reads(server, NEW)
    # Nothing of older passwords is left.
    assert sum(row["slot"].startswith("login") for row in listed(server, "alice")) == 1
    run(server, "reset", "-a", user="alice", secrets=(NEW,))
    assert not reads(server, NEW)
    run(server, "reopen", user="alice", secrets=(PASSWORD, NEW))
    assert reads(server, NEW) and not reads(server, PASSWORD)
    assert reads(server, code) and reads(server, "second-of-two")
    run(server, "slot remove", "recovery", user="alice")
    run(server, "slot remove", "password", user="alice")
    assert reads(server, NEW) and not reads(server, code)


def test_a_password_moves_to_argon2id_and_back_with_the_logins(dovecot):
    server = dovecot(users={"alice": UserConfig(CryptConfig(password=PASSWORD))})
    mail = server.mail = Mail.make()
    server.deliver("alice", mail)
    code = run(server, "slot add", "recovery", user="alice", secrets=())
    assert reads(server, PASSWORD)
    assert [row["slot"] for row in listed(server, "alice")] == ["recovery", "login"]
    assert reads(server, code) and reads(server, PASSWORD)
    log_in(server, "alice", PASSWORD)
    run(server, "password", "-P", user="alice")
    assert [row["slot"] for row in listed(server, "alice") if row["slot"] == "login"] in ([], ["login"])
    read(server, "alice", PASSWORD, mail)
    read(server, "alice", code, mail)


# Escrow


def test_who_only_gets_mail_has_an_escrow_copy_from_the_first_one(dovecot, tmp_path):
    key = Key.ec()
    name = words.setting("mail_crypt_escrow_public_key")
    value = f"inline:{key.public_setting()}" if words.is_24() else key.public_setting()
    crypt = CryptConfig(password=PASSWORD)
    server = dovecot(users={"alice": UserConfig(crypt, extra=((name, value),))})
    mail = Mail.make()
    server.deliver("alice", mail)
    (row,) = listed(server, "alice")
    assert (row["slot"], row["type"], row["opens"]) == ("escrow", "escrow", *stored(server, "alice", USER))
    # The rotated one as well, and a removed one with the next session.
    run(server, "rotate", user="alice", secrets=())
    assert len(listed(server, "alice")[0]["opens"].split()) == 2
    run(server, "slot remove", "escrow", user="alice")
    with server.imap("alice") as imap:
        assert len(imap.bodies()) == 1
    assert [row["type"] for row in listed(server, "alice")] == ["escrow"]
    (tmp_path / "escrow").write_text(key.pem("of-the-safe"))
    run(server, "reset", "-k", str(tmp_path / "escrow"), user="alice", secrets=("of-the-safe", NEW))
    read(server, "alice", NEW, mail)


# Others


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_shared_folders_are_read_after_the_owner_or_the_sharee_has_rotated(dovecot, who):
    server, mail = shared_folder(dovecot)
    server.set_user("bob", UserConfig(CryptConfig(password="of-bob")))
    cryptokey(server, "password", "-n", "of-bob", user="bob")
    run(server, "rotate", "-b", user=who)
    later = Mail.make()
    with server.imap("alice") as imap:
        imap.put(later.data, "Work")
        assert imap.bodies("Work") == [mail.data, later.data]
    with server.imap("bob") as imap:
        assert imap.bodies("shared/alice/Work") == [mail.data, later.data]
    # What is still needed is not deleted, and what can go can go.
    done = server.doveadm("mailbox", "cryptokey", "list", "-U", "-n", "-u", who)
    (old,) = [row["pubid"] for row in rows(server, "list", "-U", user=who) if row["active"] == "no"]
    needed = f"{old} is needed by nothing".encode() not in done.stderr
    done = cryptokey(server, "delete", "-U", old, user=who, check=False)
    assert (done.returncode != 0) == needed, done.stderr
    for name, folder in (("alice", "Work"), ("bob", "shared/alice/Work")):
        with server.imap(name) as imap:
            assert imap.bodies(folder) == [mail.data, later.data]


def test_metadata_does_not_reach_the_slots(dovecot):
    server = dovecot(users={"alice": UserConfig(CryptConfig(password=PASSWORD))}, extra="imap_metadata = yes\n")
    server.deliver("alice", Mail.make())
    run(server, "slot add", "recovery", user="alice", secrets=())
    before = server.store.attributes("alice")
    (name,) = {n.split("/", 2)[2] for n in before if n.startswith("priv/") and n.endswith("/slots") and "6d61" not in n}
    with server.imap("alice") as imap:
        for scope in ("private", "shared"):
            for box in ('""', "INBOX"):
                for entry in (name, "vendor/vendor.dovecot/pvt/server/" + name, name.replace("vendor/vendor.dovecot/pvt/server/", "")):
                    answer, _ = imap.raw(f'GETMETADATA (DEPTH infinity) {box} "/{scope}/{entry}"')
                    said = imap.raw(f'GETMETADATA {box} "/{scope}/{entry}"')
                    assert b"recovery" not in repr(said).encode()
                    imap.raw(f'SETMETADATA {box} ("/{scope}/{entry}" "1 99")')
    assert server.store.attributes("alice")[f"priv/{server.guid('alice')}/{name}"].startswith("1 1\nslot recovery")


def dsync_server(other) -> list[str]:
    return ["env", "-i", "PATH=/usr/bin:/bin", "doveadm", "-c", str(other.places.config), "dsync-server", "-u", "alice"]


def test_a_synced_user_has_the_slots_on_the_other_side(dovecot):
    here, there = (dovecot(users={"alice": UserConfig(CryptConfig(password=PASSWORD))}) for _ in range(2))
    mail = Mail.make()
    here.deliver("alice", mail)
    code = run(here, "slot add", "recovery", user="alice", secrets=())
    assert here.doveadm("sync", "-u", "alice", *dsync_server(there)).returncode == 0
    # The mail was there before the keys: it is under a user key of the other side's own, which has sealed no slot.
    done = there.doveadm("mailbox", "cryptokey", "slot", "list", "-u", "alice", check=False)
    assert done.returncode == 65 and b"has not sealed it" in done.stderr
    run(there, "slot remove", "recovery", user="alice")
    code = run(there, "slot add", "recovery", user="alice", secrets=())
    run(there, "rotate", user="alice")
    read(there, "alice", code, mail)
    log_in(there, "alice", PASSWORD)
    run(there, "slot add", "-n", "another", "app", user="alice", secrets=(PASSWORD,))
    assert here.doveadm("sync", "-u", "alice", *dsync_server(there)).returncode == 0
    for server in (here, there):
        assert {row["slot"] for row in listed(server, "alice")} == {"recovery", "another"}


def test_slots_survive_another_guid_of_inbox(dovecot):
    server = dovecot(users={"alice": UserConfig(CryptConfig(password=PASSWORD))})
    mail = Mail.make()
    server.deliver("alice", mail)
    code = run(server, "slot add", "recovery", user="alice", secrets=())
    guid = server.guid("alice")
    kept = server.store.home("alice") / "dovecot-attributes"
    server.restart()
    shutil.copy(kept, server.run / "attributes")
    for path in server.store.home("alice").rglob("dovecot*"):
        if path != kept and path.is_file():
            path.unlink()
    assert server.guid("alice") != guid
    read(server, "alice", code, mail)
    log_in(server, "alice", PASSWORD)
    run(server, "slot add", "-n", "later", "app", user="alice", secrets=())
    assert [row["slot"] for row in listed(server, "alice")] == ["recovery", "later"]
    run(server, "reset", user="alice", secrets=(code, NEW))
    read(server, "alice", NEW, mail)


def test_commands_at_the_same_time_lose_nothing(dovecot):
    server = dovecot(users={"alice": UserConfig(CryptConfig(password=PASSWORD))})
    mail = Mail.make()
    server.deliver("alice", mail)
    verbs = [("slot", "add", "-u", "alice", "recovery")] * 5 + [("rotate", "-u", "alice")] * 2
    said = {}

    def work(number: int, args: tuple[str, ...]) -> None:
        said[number] = server.doveadm("mailbox", "cryptokey", *args, stdin=b"", check=False)

    threads = [threading.Thread(target=work, args=item) for item in enumerate(verbs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = [said[n].stdout.decode().strip() for n in range(5)]
    assert all(said[n].returncode == 0 for n in range(5)), said
    # One that comes second may find that it can't know its own work any more.
    assert all(said[n].returncode in (0, 75) for n in (5, 6)), said
    found = listed(server, "alice")
    active = next(row["pubid"] for row in rows(server, "list", "-U") if row["active"] == "yes")
    assert len(found) == 5 and all(active in row["opens"] and row["state"] == "sealed" for row in found)
    run(server, "rotate", user="alice", secrets=())
    for code in codes:
        read(server, "alice", code, mail)
