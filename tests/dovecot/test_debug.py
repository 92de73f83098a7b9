"""What debugging shows: which key was chosen, where it was found and what opened it. Never a secret."""

from __future__ import annotations

import pytest
from harness import CryptConfig, Key, Mail, UserConfig, words

pytestmark = pytest.mark.packaged_refuses("it has words of its own")

PASSWORD = "a-password-f0r-the-log"
GLOBAL = Key.ec()


def deliver_and_read(server, last: str) -> str:
    """Delivers a mail and reads it in another session. Answers the lines about it, `last` among them."""
    mark = server.log.mark()
    mail = Mail.make()
    server.deliver("alice", mail)
    server.log.wait_for("mail_crypt: saving to", mark)
    with server.imap("alice") as imap:
        assert imap.bodies()[-1].endswith(mail.data)
    server.log.wait_for(f"mail_crypt: {last}", mark)
    lines = server.log.lines("mail_crypt: ", mark)
    assert all("Debug: " in line for line in lines), lines
    return "\n".join(lines)


def key_ids(server) -> tuple[str, str]:
    """The user's key and the folder's."""
    names = server.store.private_keys("alice")
    user = {name.rsplit("/", 1)[1] for name in names if "/pvt/server/" in name}
    folder = {name.rsplit("/", 1)[1] for name in names if "/pvt/server/" not in name}
    (user_key,), (folder_key,) = user, folder
    return user_key, folder_key


def test_debugging_shows_every_decision_about_keys(dovecot):
    crypt = CryptConfig(password=PASSWORD)
    server = dovecot(debug=True, crypt=crypt, users={"alice": UserConfig()})
    lines = deliver_and_read(server, last="unlocked key .* with key")
    user_key, folder_key = key_ids(server)
    password = words.setting("mail_crypt_private_password")
    for decision in (
        f"made key {user_key} of user alice",
        f"made key {folder_key} of mailbox INBOX",
        f"saving to INBOX: its key {folder_key}",
        f"reading from INBOX: key {folder_key}, found by its mailbox's GUID and by its id",
        f"unlocked key {user_key} with {password}",
        f"unlocked key {folder_key} with key {user_key}",
    ):
        assert decision in lines
    assert PASSWORD not in lines


def test_debugging_shows_that_the_global_key_was_taken(dovecot):
    crypt = CryptConfig(
        curve=None, global_public=GLOBAL.public_setting(), global_private=(GLOBAL.setting(),)
    )
    server = dovecot(debug=True, crypt=crypt, users={"alice": UserConfig()})
    lines = deliver_and_read(server, last="reading from")
    assert f"saving to INBOX: global key {GLOBAL.id}" in lines
    assert f"reading from INBOX: global key {GLOBAL.id}" in lines


def test_nothing_is_said_where_nobody_asks(dovecot):
    server = dovecot(users={"alice": UserConfig()})
    server.deliver("alice", Mail.make())
    with server.imap("alice") as imap:
        assert len(imap.bodies()) == 1
    assert not server.log.lines("mail_crypt: (saving|reading|made)")


def test_the_category_alone_shows_decisions_and_events(dovecot):
    crypt = CryptConfig(password=PASSWORD)
    server = dovecot(crypt=crypt, users={"alice": UserConfig()}, extra="log_debug = category=mail-crypt\n")
    lines = deliver_and_read(server, last="mail_crypt_decrypt_finished: ")
    for said in (
        "mail_crypt_key_created_finished: level=user protected=yes",
        "mail_crypt_encrypt_finished: source=mail format=2 algorithm=aes-256-gcm-sha256 bytes=",
        "mail_crypt_unlock_finished: slot_type=password kdf=pbkdf2",
        "saving to INBOX: its key",
    ):
        assert said in lines


def test_debugging_shows_how_a_mail_is_copied(dovecot):
    crypt = CryptConfig(
        curve=None, global_public=GLOBAL.public_setting(), global_private=(GLOBAL.setting(),)
    )
    server = dovecot(debug=True, crypt=crypt, users={"alice": UserConfig()})
    server.deliver("alice", Mail.make())
    mark = server.log.mark()
    with server.imap("alice") as imap:
        imap.create("Archive")
        imap.folder()
        assert imap.uid("COPY", "1", "Archive")[0] == "OK"
    server.log.wait_for("mail_crypt: mailbox Archive: UID 1 of INBOX is copied as it is on disk", mark)
