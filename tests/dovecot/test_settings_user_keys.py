"""How user keys are stretched and who gets copies: settings that the packaged plugin doesn't have. They are needed where a
user key is written, and never stop reading."""

from __future__ import annotations

import contextlib
import imaplib

import pytest
from harness import CryptConfig, DovecotVersion, Key, UserConfig, words
from test_keys import PASSWORD, check_refused, deliver_and_read, protection

pytestmark = pytest.mark.packaged_refuses("it has no such settings")

IS_24 = DovecotVersion.installed().line == "2.4"
ROUNDS = "mail_crypt_password_rounds"
KDF = "mail_crypt_password_kdf"
ESCROW = "mail_crypt_escrow_public_key"
ESCROWS = (ESCROW, *(f"{ESCROW}{number}" for number in (2, 3, 4)))


def value(name: str, text: str) -> str:
    """As userdb has it: 2.4 takes keys from files, or from the field itself."""
    return f"inline:{text}" if IS_24 and ESCROW in name and text else text


def alice(**fields: str) -> dict[str, UserConfig]:
    """alice, with a password and these userdb fields, by 2.3's names."""
    extra = tuple((words.setting(name), value(name, text)) for name, text in fields.items())
    return {"alice": UserConfig(CryptConfig(password=PASSWORD), extra=extra)}


def for_all(name: str, text: str) -> str:
    """The setting, as it stands in dovecot.conf."""
    return f"{words.setting(name)} = {text}\n" if IS_24 else f"plugin {{\n{name} = {text}\n}}\n"


def rounds(store) -> int:
    """How often the password of alice's key is stretched."""
    assert protection(store) == "2"
    (stored,) = (v for k, v in store.private_keys("alice").items() if "/pvt/server/" in k)
    return int(stored.split(":")[6])


def test_a_password_is_stretched_as_often_as_userdb_says(dovecot):
    server = dovecot(users=alice(mail_crypt_password_rounds="1"), extra=for_all(ROUNDS, "7"))
    deliver_and_read(server)
    assert rounds(server.store) == 1


def test_a_password_is_stretched_as_often_as_dovecot_conf_says(dovecot):
    server = dovecot(users=alice(), extra=for_all(ROUNDS, "7"))
    deliver_and_read(server)
    assert rounds(server.store) == 7


def test_a_password_is_stretched_a_hundred_thousand_times(dovecot):
    server = dovecot(users=alice())
    deliver_and_read(server)
    assert rounds(server.store) == 100_000


#: what can't be used, and what the log says
MISTAKES = {
    "no-number": ({ROUNDS: "many"}, ROUNDS, "is 'many', .*use 100000"),
    "no-rounds": ({ROUNDS: "0"}, ROUNDS, "is '0', .*use 100000"),
    "empty-rounds": ({ROUNDS: ""}, ROUNDS, "is empty, .*use 100000"),
    "unknown-kdf": ({KDF: "scrypt"}, KDF, "is 'scrypt', .*use pbkdf2"),
    "empty-kdf": ({KDF: ""}, KDF, "is empty, .*use pbkdf2"),
    "no-key": ({ESCROW: "hunter2"}, ESCROW, ": "),
    "no-fourth-key": ({ESCROW: Key.ec().public_setting(), ESCROWS[3]: "hunter2"}, ESCROWS[3], ": "),
    "empty-key": ({ESCROWS[1]: ""}, ESCROWS[1], "is (set, but )?empty"),
    "private-key": ({ESCROW: Key.ec().setting().value}, ESCROW, ": .*private key"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_cant_be_used_makes_no_user_key_and_stops_no_reading(dovecot, case):
    fields, name, said = MISTAKES[case]
    server = dovecot(users=alice(**fields))
    check_refused(server, names=[rf"alice.*{words.setting(name)} ?{said}"])
    assert not server.store.attributes("alice")
    assert "hunter2" not in server.log.text()

    server.set_user("alice", alice()["alice"])
    deliver_and_read(server)
    server.set_user("alice", alice(**fields)["alice"])
    deliver_and_read(server)
    assert rounds(server.store) == 100_000


def test_argon2id_takes_no_more_than_a_quarter_of_the_services_memory(dovecot):
    limit = "service lmtp {\nvsz_limit = 200M\n}\n"
    server = dovecot(users=alice(mail_crypt_password_kdf="argon2id-strong"), extra=limit)
    name = words.setting(KDF)
    check_refused(
        server,
        names=[rf"alice.*{name} is argon2id-strong, .*64 MiB, .* 200 MiB.* vsz_limit = 256M, or use argon2id"],
    )
    assert not server.store.attributes("alice")
    server.set_user("alice", alice(mail_crypt_password_kdf="argon2id")["alice"])
    deliver_and_read(server)


def test_a_password_under_argon2id_needs_memory_or_an_error_says_so(dovecot, store):
    """A service with less memory than the one that wrote the key doesn't crash."""
    users = alice(mail_crypt_password_kdf="argon2id-strong")
    deliver_and_read(dovecot(store=store, users=users))
    limit = "service imap {\nvsz_limit = 72M\n}\n"
    server = dovecot(store=store, users=users, extra=limit)
    server.log.expect("Error:")
    with server.imap("alice") as session, contextlib.suppress(imaplib.IMAP4.abort):
        session.folder()
        session.raw("FETCH 1 BODY[]")
    server.log.wait_for("no 64 MiB of memory for Argon2id: give this service a higher vsz_limit")


def test_up_to_four_keys_get_copies_of_a_users_key(dovecot):
    keys = [Key.ec() for _ in ESCROWS]
    fields = {name: key.public_setting() for name, key in zip(ESCROWS, keys)}
    one = fields.pop(ESCROWS[2])
    server = dovecot(users=alice(**fields), extra="" if IS_24 else for_all(ESCROWS[2], one))
    deliver_and_read(server)
    stored = " ".join(server.store.attributes("alice").values())
    wanted = [True, True, not IS_24, True]
    assert [key.id in stored for key in keys] == wanted
