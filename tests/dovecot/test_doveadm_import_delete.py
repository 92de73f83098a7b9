"""`doveadm mailbox cryptokey import` and `delete`: keys come back from their export, and go when nothing needs them."""

from __future__ import annotations

import imaplib
import time

import pytest
from harness import CryptConfig, Key, Mail, UserConfig
from test_doveadm import cryptokey, over_http, rows
from test_doveadm_keys import (  # noqa: F401
    FOLDER,
    USER,
    export,
    fails,
    new_verb,
    protection,
    readable,
    server,
    shared_folder,
    stored,
    user,
)


# import


@new_verb
def test_a_code_opens_a_user_key_that_is_imported_later(server, user):
    mail = Mail.make()
    server.deliver(user, mail)
    slot = ("mailbox", "cryptokey", "slot")
    code = server.doveadm(*slot, "add", "-u", user, "recovery", stdin=b"").stdout
    refused = Key.ec()
    fails(server, "import", "-U", user=user, stdin=refused.pem().encode())
    other = Key.ec()
    cryptokey(server, "import", "-U", "-f", user=user, stdin=other.pem().encode())
    told = server.doveadm(*slot, "test", "-u", user, stdin=code).stdout.decode()
    assert all(key_id in told for key_id in stored(server, user, USER))
    cryptokey(server, "reset", user=user, stdin=code + b"secreu\n")
    server.set_user(user, UserConfig(CryptConfig(password="secreu")))
    assert readable(server, user, mail)


@new_verb
@pytest.mark.parametrize("way", ["stdin", "file", "socket", "http"])
@pytest.mark.parametrize("level", ["user", "folder"])
def test_a_lost_key_is_restored_from_its_export(server, user, level, way):
    mail, later = Mail.make(), Mail.make()
    server.deliver(user, mail)
    where = ("-U",) if level == "user" else ("-m", "INBOX")
    ((key_id, pem),) = export(server, user, *where[-1:]).items()
    server.store.drop_attributes(user, f"^priv.*privkeys/{key_id}$")
    server.log.expect(key_id)
    with pytest.raises(imaplib.IMAP4.error):
        readable(server, user, mail)
    if way == "stdin":
        cryptokey(server, "import", *where, user=user, stdin=pem.encode())
    elif way == "socket":
        path = str(server.places.base / "doveadm-server")
        cryptokey(server, "import", "-S", path, *where, user=user, stdin=pem.encode())
    elif way == "file":
        path = server.run / f"{key_id}.pem"
        path.write_text(pem)
        cryptokey(server, "import", *where, str(path), user=user)
    else:
        target = {"userKey": True} if level == "user" else {"mailbox": "INBOX"}
        name, found = over_http(
            server, "mailboxCryptokeyImport", user=user, file=pem, **target
        )
        assert name == "doveadmResponse" and found[0]["pubid"] == key_id
    fields = stored(server, user, USER if level == "user" else FOLDER)[key_id]
    assert protection(fields) is not None
    server.deliver(user, later)
    assert readable(server, user, mail) and readable(server, user, later)


@new_verb
def test_keys_are_imported_in_every_form_that_is_exported(server, user):
    """PEM and key strings, as they are and on one line."""
    server.deliver(user, Mail.make())
    (folder,) = rows(server, "list", "INBOX", user=user)
    key = Key.ec("secp384r1")
    forms = [
        key.pem(),
        key.setting().value,
        key.dovecot_private(),
        key.dovecot_private_under_password("secret"),
        key.pem("secret"),
        key.v1_private(),
    ]
    for form in forms:
        cryptokey(server, "import", "-f", "-m", "INBOX", user=user, stdin=form.encode())
        assert set(stored(server, user, FOLDER)) == {folder["pubid"], key.id}
        cryptokey(server, "delete", "-m", "INBOX", key.id, user=user)
    active = [r["pubid"] for r in rows(server, "list", "INBOX", user=user) if r["active"] == "yes"]
    assert active == [folder["pubid"]]


@new_verb
def test_a_key_that_does_not_belong_there_is_not_imported(server, user):
    server.deliver(user, Mail.make())
    key = Key.ec()
    for where in (("-U",), ("-m", "INBOX")):
        assert key.id in fails(server, "import", *where, user=user, stdin=key.pem().encode())
    for garbage in (b"", b"hunter2", b"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"):
        said = fails(server, "import", "-f", "-m", "INBOX", user=user, stdin=garbage)
        assert "hunter2" not in said
    fails(server, "import", user=user, stdin=key.pem().encode())
    fails(server, "import", "-U", "-m", "INBOX", user=user, stdin=key.pem().encode())
    fails(server, "import", "-f", "-m", "NoSuchFolder", user=user, stdin=key.pem().encode())
    assert "wrong" not in fails(
        server, "import", "-f", "-m", "INBOX", user=user, stdin=key.public_pem().encode()
    )


# delete


@new_verb
@pytest.mark.parametrize("storage", ["maildir", "sdbox", "mdbox"])
@pytest.mark.parametrize("compress", [None, "gz"])
def test_a_folder_key_is_deleted_when_no_mail_needs_it(dovecot, storage, compress):
    users = {"alice": UserConfig(CryptConfig(password="secret"))}
    server = dovecot(users=users, storage=storage, compress=compress)
    first, second = Mail.make(), Mail.make(300_000)
    server.deliver("alice", first)
    (old,) = stored(server, "alice", FOLDER)
    assert "active" in fails(server, "delete", "-m", "INBOX", old, user="alice")
    cryptokey(server, "generate", "-f", "INBOX")
    server.deliver("alice", second)
    assert "UID 1" in fails(server, "delete", "-m", "INBOX", old, user="alice")
    # Having looked at it harms nothing.
    with server.imap("alice") as imap:
        bodies = imap.bodies()
        assert [b.endswith(m.data) for b, m in zip(bodies, (first, second))] == [True] * 2
        assert imap.sizes() == [len(body) for body in bodies]
        imap.folder()
        imap.uid("STORE", "1", "+FLAGS", r"(\Deleted)")
        imap.expunge()
    (row,) = rows(server, "delete", "-m", "INBOX", old)
    assert row["pubid"] == old
    assert not [name for name in server.store.attributes("alice") if old in name]
    assert readable(server, "alice", second)


@new_verb
@pytest.mark.parametrize("storage", ["maildir", "sdbox", "mdbox"])
def test_a_mail_that_is_still_being_sent_is_not_stored_under_a_deleted_key(dovecot, storage):
    users = {"alice": UserConfig(CryptConfig(password="secret"))}
    server = dovecot(users=users, storage=storage)
    first, slow = Mail.make(), Mail.make(200_000)
    server.deliver("alice", first)
    (old,) = stored(server, "alice", FOLDER)
    with server.imap("alice") as imap:
        tag = imap._new_tag().decode()
        imap.send(f"{tag} APPEND INBOX {{{len(slow.data)}}}\r\n".encode())
        assert imap.readline().startswith(b"+")
        imap.send(slow.data[:150_000])
        until = time.monotonic() + 10
        # Storing it has begun: what there is so far lies somewhere.
        while sum(p.stat().st_size for p in server.store.files("alice")) < 100_000:
            assert time.monotonic() < until
            time.sleep(0.01)
        cryptokey(server, "generate", "-f", "INBOX")
        assert "UID 1" in fails(server, "delete", "-m", "INBOX", old, user="alice")
        server.doveadm("expunge", "-u", "alice", "mailbox", "INBOX", "all")
        cryptokey(server, "delete", "-m", "INBOX", old)
        server.log.expect(old)
        imap.send(slow.data[150_000:] + b"\r\n")
        while not (line := imap.readline()).startswith(tag.encode()):
            pass
        assert line.startswith(f"{tag} NO ".encode()), line
        assert imap.bodies() == []
        assert imap.put(slow.data)[0] == "OK"
        assert imap.bodies() == [slow.data]


@new_verb
def test_the_keys_of_another_users_folder_are_not_deleted(dovecot):
    server, mail = shared_folder(dovecot)
    (old,) = [r["pubid"] for r in rows(server, "list", "Work")]
    cryptokey(server, "generate", "-f", "Work")
    before = server.store.attributes("alice")
    for force in ((), ("-f",)):
        fails(server, "delete", *force, "-m", "shared/alice/Work", old, user="bob")
    assert server.store.attributes("alice") == before


@new_verb
def test_a_user_key_is_deleted_when_no_folder_needs_it(server, user):
    mail = Mail.make()
    server.doveadm("mailbox", "create", "-u", user, "Work")
    cryptokey(server, "generate", "Work", user=user)
    server.deliver(user, mail)
    (old,) = stored(server, user, USER)
    assert "active" in fails(server, "delete", "-U", old, user=user)
    cryptokey(server, "generate", "-U", "-f", user=user)
    said = fails(server, "delete", "-U", old, user=user)
    assert "Work" in said and old in said
    cryptokey(server, "generate", "-R", user=user)
    cryptokey(server, "delete", "-U", old, user=user)
    assert old not in stored(server, user, USER)
    assert readable(server, user, mail)


@new_verb
def test_a_user_key_is_not_deleted_while_a_folder_of_somebody_else_needs_it(dovecot):
    server, mail = shared_folder(dovecot)
    (old,) = stored(server, "bob", USER)
    cryptokey(server, "generate", "-URf", user="bob")
    assert "shared/alice/Work" in fails(server, "delete", "-U", old, user="bob")
    server.doveadm("acl", "set", "-u", "alice", "Work", "user=bob", "lookup", "read")
    cryptokey(server, "delete", "-U", old, user="bob")
    with server.imap("bob") as imap:
        assert imap.bodies("shared/alice/Work") == [mail.data]


@new_verb
def test_deleting_is_forced(server, user):
    server.deliver(user, Mail.make())
    (key_id,) = stored(server, user, FOLDER)
    cryptokey(server, "delete", "-f", "-m", "INBOX", key_id, user=user)
    assert stored(server, user, FOLDER) == {}
    later = Mail.make()
    server.deliver(user, later)
    (new,) = stored(server, user, FOLDER)
    assert new != key_id
    fails(server, "delete", "-m", "INBOX", key_id, user=user)
    fails(server, "delete", "-m", "INBOX", "nonsense", user=user)
    fails(server, "delete", "-m", "INBOX", user=user)
    fails(server, "delete", key_id, user=user)


@new_verb
def test_a_mail_that_nobody_can_read_keeps_its_key(server, user):
    """What a damaged mail needs can't be known."""
    server.deliver(user, Mail.make())
    (old,) = stored(server, user, FOLDER)
    cryptokey(server, "generate", "-f", "INBOX", user=user)
    (mail,) = server.store.stored(user)
    mail.replace(mail.data[:60])
    assert "UID 1" in fails(server, "delete", "-m", "INBOX", old, user=user)


@new_verb
def test_an_unencrypted_mail_needs_no_key(server, user):
    server.set_user(user, UserConfig(CryptConfig(save_version=0, password="secret")))
    server.deliver(user, Mail.make())
    cryptokey(server, "generate", "INBOX", user=user)
    (old,) = stored(server, user, FOLDER)
    cryptokey(server, "generate", "-f", "INBOX", user=user)
    cryptokey(server, "delete", "-m", "INBOX", old, user=user)
