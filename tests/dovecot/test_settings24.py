"""Dovecot 2.4's settings: what can't be used is said by its name, and nothing is stored instead."""

from __future__ import annotations

import pytest
from harness import CryptConfig, DovecotVersion, Key, KeySetting, Mail, Store, UserConfig
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
    # From 2.4.5 on Dovecot itself refuses it.
    "old-name-in-plugin": (
        {"plugin/mail_crypt_private_key2": "x"},
        f"use {KEY}|Unknown setting 'plugin' \\(in plugin/mail_crypt_private_key2\\)",
    ),
    "block-without-list": (
        {f"{KEY}/main/crypt_private_key_file": "inline:hunter2"},
        f"userdb field {KEY}/main/crypt_private_key_file: .* add {KEY}=main",
    ),
    "list-without-block": ({KEY: "main"}, f"{KEY} main: "),
    "unparsable-key": (
        {KEY: "main", f"{KEY}/main/crypt_private_key_file": "inline:hunter2"},
        f"{KEY} main: crypt_private_key_file",
    ),
    "no-key-in-block": (
        {KEY: "main", f"{KEY}/main/crypt_private_key_password": "x"},
        f"{KEY} main: crypt_private_key_file is empty or not set",
    ),
    "unparsable-key-that-must-be-there": (
        {
            KEY: "main",
            f"{KEY}/main/crypt_private_key_file": "inline:hunter2",
            "crypt_user_key_require_encrypted": "yes",
        },
        f"{KEY} main: crypt_private_key_file",
    ),
    "no-such-setting": (
        {"crypt_user_key_pasword": "x"},
        "userdb field crypt_user_key_pasword: .* use crypt_user_key_password",
    ),
    "no-such-setting-without-a-value": (
        {"crypt_user_private_key": ""},
        "userdb field crypt_user_private_key: .* use ",
    ),
    # From 2.4.5 on Dovecot itself refuses it.
    "no-such-setting-in-block": (
        {KEY: "main", f"{KEY}/main/crypt_private_key": "inline:hunter2"},
        f"userdb field {KEY}/main/crypt_private_key: .* use {KEY}/main/crypt_private_key_"
        "|Unknown setting 'crypt_private_key'",
    ),
    # 2.4.1 passes over it, without a word.
    "empty-with-prefix": (
        {"set/crypt_user_key_password": ""},
        "userdb field (crypt_user_key_password is empty|set/crypt_user_key_password: .* use crypt_user_key_password)",
    ),
    "outside-of-a-block": (
        {"crypt_private_key_file": "inline:hunter2"},
        f"userdb field crypt_private_key_file: .* use {KEY}/NAME/crypt_private_key_file",
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
    assert not server.store.attributes("alice")


@pytest.mark.parametrize(
    "algorithm",
    [
        pytest.param("aes-256-cbc-sha256", marks=pytest.mark.packaged_defect("lmtp crashes")),
        "chacha20-poly1305-sha256",
    ],
)
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


@pytest.mark.packaged_defect("segmentation fault")
def test_every_block_is_tried(dovecot):
    one, two = Key.ec(), Key.ec()
    with Store() as store:
        first = UserConfig(CryptConfig(user_key_keys=(one.setting(),)))
        both = UserConfig(CryptConfig(user_key_keys=(two.setting(), one.setting())), home="alice")
        server = dovecot(store=store, users={"alice": first, "bob": both})
        server.deliver("alice", Mail.make())
        with server.imap("bob") as session:
            assert len(session.bodies()) == 1


@pytest.mark.packaged_defect("skips the key at debug level, and stores the user key unprotected")
@pytest.mark.parametrize("required", (None, True))
def test_no_user_key_is_stored_unprotected_because_its_key_cant_be_read(dovecot, required):
    for value in ("garbage", Key.ec().setting("r1ght-0ne").value):
        crypt = CryptConfig(user_key_keys=(KeySetting(value),), require_encrypted=required)
        server = dovecot(users={"alice": UserConfig(crypt)})
        server.log.expect("Error:")
        server.try_deliver("alice", Mail.make())
        assert not server.store.private_keys("alice")


@pytest.mark.packaged_defect("panics, and leaves a user key behind")
def test_a_curve_for_signatures_leaves_nothing_behind(dovecot):
    server = dovecot(users={"alice": UserConfig(CryptConfig(curve="ED25519"))})
    server.log.expect("crypt_user_key_curve: ")
    assert server.try_deliver("alice", Mail.make())
    assert not server.store.attributes("alice")


@pytest.mark.parametrize("curve", ("X25519", "X448", "secp521r1"))
@pytest.mark.parametrize("first", ("packaged", "ours"))
def test_keys_on_its_curves_go_both_ways(dovecot, store, plugin, first, curve):
    users = {"alice": UserConfig(CryptConfig(curve=curve, password="c0rrect-h0rse"))}
    order = ("packaged", plugin) if first == "packaged" else (plugin, "packaged")
    one, two = (dovecot(store=store, plugin=p, users=dict(users)) for p in order)
    mails = [Mail.make(), Mail.make()]
    one.deliver("alice", mails[0])
    two.deliver("alice", mails[1])
    for server in (one, two):
        with server.imap("alice") as session:
            bodies = session.bodies()
        assert [b.endswith(m.data) for b, m in zip(bodies, mails)] == [True, True]
    assert len(store.user_keys("alice")) == 1


def test_a_key_file_may_be_roots_own(dovecot, tmp_path):
    """It is read with the configuration, not by the process of the user."""
    key = Key.ec()
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_text(key.pem())
    public.write_text(key.public_pem())
    for path in (private, public):
        path.chmod(0o600)
    settings = (
        f"crypt_global_public_key_file = {public}\n"
        f"crypt_global_private_key main {{\ncrypt_private_key_file = {private}\n}}\n"
    )
    server = dovecot(crypt=None, extra=settings, users={"alice": UserConfig()})
    read_back(server)


def test_a_missing_key_file_stops_dovecot(dovecot):
    with pytest.raises(RuntimeError, match="/nonexistent/key"):
        dovecot(extra="crypt_global_public_key_file = /nonexistent/key\n", users={})


def test_a_key_may_stand_in_the_field(dovecot):
    key = Key.ec()
    fields = {
        "crypt_global_public_key_file": f"inline:{key.public_setting()}",
        "crypt_global_private_key": "main",
        "crypt_global_private_key/main/crypt_private_key_file": f"inline:{key.setting().value}",
    }
    server = dovecot(users={"alice": UserConfig(extra=tuple(fields.items()))})
    read_back(server)


@pytest.mark.packaged_refuses("ignores both")
def test_an_old_name_beside_the_new_one_serves_both_lines(dovecot):
    fields = {"mail_crypt_private_password": "old-0ne", "crypt_user_key_password": "new-0ne"}
    server = dovecot(users={"alice": UserConfig(extra=tuple(fields.items()))})
    read_back(server)
    (stored,) = (v for k, v in server.store.private_keys("alice").items() if "/pvt/server/" in k)
    assert stored.split(":")[2] == "2"


def test_an_old_name_in_dovecot_conf_is_dovecots_to_refuse(dovecot):
    with pytest.raises(RuntimeError, match="plugin"):
        dovecot(extra="plugin {\nmail_crypt_curve = prime256v1\n}\n", users={})


def read_back(server):
    mail = Mail.make()
    server.deliver("alice", mail)
    assert server.store.stored("alice")[0].data.startswith(forge.MAGIC)
    with server.imap("alice") as session:
        assert session.bodies()[0].endswith(mail.data)
