"""Dovecot 2.4's settings: what can't be used is said by its name, and nothing is stored instead."""

from __future__ import annotations

import pytest
from harness import CryptConfig, DovecotVersion, Key, Mail, Store, UserConfig
from harness import forge

pytestmark = pytest.mark.skipif(
    DovecotVersion.installed().line != "2.4", reason="these are Dovecot 2.4's settings"
)

KEY = "crypt_user_key_encryption_key"

#: userdb fields, and what the log must name
REFUSED = {
    "no-object-identifier": ({"crypt_write_algorithm": "aes-256-ctr-sha256"}, "crypt_write_algorithm: "),
    "unknown-algorithm": ({"crypt_write_algorithm": "rot13-sha256"}, "crypt_write_algorithm: "),
    "curve": ({"crypt_user_key_curve": "ED25519"}, "crypt_user_key_curve: .*use prime256v1"),
    "old-name": ({"mail_crypt_private_password": "x"}, "use crypt_user_key_password"),
    "old-name-in-plugin": ({"plugin/mail_crypt_private_key2": "x"}, f"use {KEY}"),
    "unparsable-key": (
        {KEY: "main", f"{KEY}/main/crypt_private_key_file": "inline:hunter2"},
        f"{KEY} main: crypt_private_key_file",
    ),
    "no-key-in-block": (
        {KEY: "main", f"{KEY}/main/crypt_private_key_password": "x"},
        f"{KEY} main: crypt_private_key_file is empty or not set",
    ),
    "no-protection": (
        {"crypt_user_key_require_encrypted": "yes"},
        f"crypt_user_key_require_encrypted is set, and neither crypt_user_key_password nor {KEY}",
    ),
}


@pytest.mark.packaged_refuses("other words, and some it takes")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cant_be_used_is_named_and_nothing_is_stored(dovecot, case):
    fields, said = REFUSED[case]
    server = dovecot(users={"alice": UserConfig(extra=tuple(fields.items()))})
    server.log.expect("Error:")
    mark = server.log.mark()
    assert server.try_deliver("alice", Mail.make())
    server.log.wait_for(said, mark)
    assert "hunter2" not in server.log.text()
    assert server.store.mail_files("alice") == []


@pytest.mark.parametrize("algorithm", ("aes-256-cbc-sha256", "chacha20-poly1305-sha256"))
@pytest.mark.packaged_refuses("crashes, or writes the wrong integrity flag")
def test_the_algorithm_is_written_and_read_back(dovecot, algorithm):
    server = dovecot(users={"alice": UserConfig(extra=(("crypt_write_algorithm", algorithm),))})
    mail = Mail.make()
    server.deliver("alice", mail)
    assert server.store.stored("alice")[0].data.startswith(forge.MAGIC)
    with server.imap("alice") as session:
        (body,) = session.bodies()
    assert body.endswith(mail.data)


def test_an_empty_algorithm_reads_only(dovecot):
    with Store() as store:
        server = dovecot(store=store, users={"alice": UserConfig()})
        server.deliver("alice", Mail.make())
        server.set_user("bob", UserConfig(CryptConfig(save_version=0), home="alice"))
        server.deliver("bob", Mail.make())
        encrypted = [m.data.startswith(forge.MAGIC) for m in store.stored("alice")]
        assert encrypted == [True, False]
        with server.imap("bob") as session:
            assert len(session.bodies()) == 2


def test_every_block_is_tried(dovecot):
    one, two = Key.ec(), Key.ec()
    with Store() as store:
        first = UserConfig(CryptConfig(user_key_keys=(one.setting(),)))
        both = UserConfig(CryptConfig(user_key_keys=(two.setting(), one.setting())), home="alice")
        server = dovecot(store=store, users={"alice": first, "bob": both})
        server.deliver("alice", Mail.make())
        with server.imap("bob") as session:
            assert len(session.bodies()) == 1
