"""Settings that say nothing, or nothing that can be used: named where they are needed, and never taken for something else."""

from __future__ import annotations

import pytest
from harness import CryptConfig, DovecotVersion, Key, KeySetting, Mail, UserConfig, forge, words
from harness.clients import Imap
from harness.config import IMAP_PORT
from test_keys import MISTAKEN, PASSWORD, alice, check_refused, deliver_and_read, protection

EC = Key.ec()
IS_24 = DovecotVersion.installed().line == "2.4"
PASSWORD_SETTING = words.setting("mail_crypt_private_password")

only_23 = pytest.mark.skipif(IS_24, reason="these are Dovecot 2.3's settings")


def with_field(name: str, value: str, **crypt) -> dict[str, UserConfig]:
    """alice, with a userdb field as it stands."""
    return {"alice": UserConfig(CryptConfig(**crypt), extra=((words.setting(name), value),))}


def line_of(name: str, value: str) -> str:
    """A setting for all, as it stands in dovecot.conf."""
    return f"{words.setting(name)} = {value}\n" if IS_24 else f"plugin {{\n{name} = {value}\n}}\n"


# An empty password


@pytest.mark.packaged_defect("makes the key under the password yes, or unprotected")
@pytest.mark.parametrize("required", (None, True))
def test_an_empty_password_in_userdb_makes_no_key(dovecot, required):
    server = dovecot(users=with_field("mail_crypt_private_password", "", require_encrypted=required))
    check_refused(server, names=[rf"alice.* no user key is made: {PASSWORD_SETTING} is empty"])
    assert not server.store.private_keys("alice")
    made = server.doveadm("mailbox", "cryptokey", "generate", "-u", "alice", "-U", check=False)
    assert made.returncode != 0 and b"is empty" in made.stderr
    assert not server.store.attributes("alice")
    server.set_user("alice", UserConfig(CryptConfig(password=PASSWORD)))
    deliver_and_read(server)
    assert protection(server.store) == "2"


@only_23
@pytest.mark.packaged_defect("makes the key under the password yes")
@pytest.mark.parametrize("name", ("mail_crypt_private_password", "plugin/mail_crypt_private_password"))
def test_a_field_without_a_value_is_no_password(dovecot, name):
    server = dovecot(users={"alice": UserConfig(extra=((name, ""),))})
    check_refused(server, names=["mail_crypt_private_password is empty"])
    assert not server.store.private_keys("alice")


@pytest.mark.packaged_defect("makes the key unprotected, or dies")
def test_a_password_that_is_empty_for_one_user_makes_no_key(dovecot):
    value = "%{user | domain}" if IS_24 else "%d"
    server = dovecot(
        users=alice(), extra=line_of("mail_crypt_private_password", value)
    )
    check_refused(server, names=[f"{PASSWORD_SETTING} is empty"])
    assert not server.store.private_keys("alice")


def test_without_its_password_mail_goes_to_keys_that_are_there(dovecot, store):
    users = {"alice": UserConfig(CryptConfig(password=PASSWORD))}
    deliver_and_read(dovecot(store=store, users=dict(users)))
    server = dovecot(store=store, users=with_field("mail_crypt_private_password", ""))
    server.log.expect("Error:")
    mail = Mail.make()
    server.deliver("alice", mail)
    assert not store.find_words(store.home("alice"), mail.words)
    with dovecot(store=store, users=dict(users)).imap("alice") as session:
        assert session.bodies()[1].endswith(mail.data)


def seed_under_yes(server) -> Key:
    key = Key.ec()
    server.seed_user_key("alice", key, key.dovecot_private_under_password("yes"))
    return key


def repair(server, key):
    """As the message says; it works and the mail is read."""
    done = server.doveadm(
        "mailbox", "cryptokey", "password", "-u", "alice", "-o", "yes", "-n", PASSWORD
    )
    assert b"1 key" in done.stdout
    server.set_user("alice", UserConfig(CryptConfig(password=PASSWORD)))
    with server.imap("alice") as session:
        assert len(session.bodies()) == 1
    (stored,) = [v for k, v in server.store.private_keys("alice").items() if key.id in k]
    assert stored.split(":")[2] == "2"


@pytest.mark.packaged_refuses("doesn't say so")
@pytest.mark.parametrize("password", (MISTAKEN, None))
def test_a_key_under_yes_is_named_with_what_to_do(dovecot, password):
    server = dovecot(users=alice(password=password), fetch_failure="no-after")
    key = seed_under_yes(server)
    server.deliver("alice", Mail.make())
    server.log.expect("Error:")
    mark = server.log.mark()
    with server.imap("alice") as session:
        session.folder()
        assert session.fetch_uids().status == "NO"
    server.log.wait_for(
        f"key {key.id} of user alice is under the password 'yes'.* "
        f"cryptokey password -u alice -o yes",
        mark,
    )
    repair(server, key)


@pytest.mark.packaged_refuses("doesn't say so")
def test_with_an_empty_password_a_key_under_yes_is_read_with_a_warning(dovecot):
    server = dovecot(users=with_field("mail_crypt_private_password", ""))
    key = seed_under_yes(server)
    server.deliver("alice", Mail.make())
    mark = server.log.mark()
    with server.imap("alice") as session:
        assert len(session.bodies()) == 1
    lines = server.log.wait_for(
        f"Warning: .*key {key.id} of user alice is under the password 'yes'", mark
    )
    assert len(lines) == 1
    repair(server, key)


@only_23
def test_what_the_packaged_plugin_made_of_an_empty_field_is_read(dovecot, store, plugin):
    users = with_field("mail_crypt_private_password", "")
    mail = Mail.make()
    dovecot(store=store, plugin="packaged", users=dict(users)).deliver("alice", mail)
    with dovecot(store=store, plugin=plugin, users=dict(users)).imap("alice") as session:
        assert session.bodies()[0].endswith(mail.data)


# Empty keys


@pytest.mark.packaged_refuses("other words, and some it takes")
@pytest.mark.parametrize(
    "name",
    ("mail_crypt_global_public_key", "mail_crypt_global_private_key", "mail_crypt_private_key"),
)
def test_an_empty_key_in_userdb_is_not_one_that_is_not_set(dovecot, name):
    server = dovecot(users=with_field(name, ""))
    check_refused(server, names=[f"alice.*{words.setting(name)} is (set, but )?empty"])
    assert not server.store.attributes("alice")


@pytest.mark.packaged_refuses("other words, and some it takes")
@pytest.mark.parametrize(
    "name",
    ("mail_crypt_global_public_key", "mail_crypt_global_private_key", "mail_crypt_private_key"),
)
def test_an_empty_key_file_is_not_one_that_is_not_set(dovecot, tmp_path, name):
    tmp_path.chmod(0o755)
    path = tmp_path / "empty.pem"
    path.write_text("")
    if IS_24 and name != "mail_crypt_global_public_key":
        extra = f"{words.setting(name)} main {{\ncrypt_private_key_file = {path}\n}}\n"
        said = f"{words.setting(name)} main: crypt_private_key_file: {path} is empty"
    elif IS_24:
        extra = line_of(name, str(path))
        said = f"{words.setting(name)}: {path} is empty"
    else:
        extra, said = line_of(name, f"<{path}"), f"{name} is set, but empty"
    server = dovecot(users={"alice": UserConfig()}, extra=extra)
    check_refused(server, names=[said])
    assert not server.store.attributes("alice")
    if name == "mail_crypt_global_public_key":
        # What is only needed for writing stops nobody from reading.
        with server.imap("alice") as session:
            assert session.bodies() == []


@only_23
@pytest.mark.packaged_defect("passes over the third key")
def test_an_empty_key_does_not_end_the_list_of_keys(dovecot, store):
    writer = dovecot(store=store, users=alice(curve=None, global_public=EC.public_setting()))
    writer.log.expect("rivate key")
    writer.deliver("alice", Mail.make())
    keys = (Key.ec().setting(), KeySetting(""), EC.setting())
    server = dovecot(store=store, users=alice(curve=None, global_private=keys))
    server.log.expect("Error:")
    mark = server.log.mark()
    with pytest.raises(Imap.error):
        with server.imap("alice") as session:
            session.bodies()
    server.log.wait_for("mail_crypt_global_private_key2 is set, but empty", mark)


# Somebody else's password


MASTER = "m4ster-p4ss"


def as_master(server) -> Imap:
    return Imap(server.places.address, IMAP_PORT, "alice*boss", MASTER)


def master_passdb() -> str:
    if IS_24:
        return f"passdb static {{\nmaster = yes\npassdb_static_password = {MASTER}\n}}\nauth_master_user_separator = *\n"
    return (
        f"passdb {{\ndriver = static\nmaster = yes\nargs = password={MASTER}\n}}\n"
        "auth_master_user_separator = *\n"
    )


@pytest.mark.packaged_defect("makes the key under whatever password is at hand")
def test_a_master_users_session_makes_no_user_key_under_a_password(dovecot):
    server = dovecot(users=alice(password=PASSWORD), extra=master_passdb())
    server.log.expect("Error:")
    mails = [Mail.make(), Mail.make()]
    mark = server.log.mark()
    with as_master(server) as session:
        assert session.put(mails[0].data)[0] == "NO"
        assert session.bodies() == []
    server.log.wait_for("no user key is made while 'boss' is logged in as this user", mark)
    assert not server.store.attributes("alice")
    with server.imap("alice") as session:
        assert session.put(mails[0].data)[0] == "OK"
    # Keys that are there work as ever.
    with as_master(server) as session:
        session.create("New")
        assert session.put(mails[1].data, "New")[0] == "OK"
        assert session.bodies() == [mails[0].data]
    with server.imap("alice") as session:
        assert session.bodies("New") == [mails[1].data]
    assert len(server.store.user_keys("alice")) == 1


def test_a_login_by_another_spelling_is_the_users_own(dovecot):
    """Dovecot then says who has logged in, too."""
    extra = "auth_username_format = %{user | lower}\n" if IS_24 else "auth_username_format = %Lu\n"
    server = dovecot(users=alice(password=PASSWORD), extra=extra)
    with Imap(server.places.address, IMAP_PORT, "ALICE", server.users["alice"].password) as session:
        assert session.put(Mail.make().data)[0] == "OK"
    assert protection(server.store) == "2"


# What is only needed for writing


WRITING = [
    pytest.param("mail_crypt_curve", "secp160r1", "secp160r1.*use prime256v1", id="curve"),
    pytest.param("mail_crypt_curve", "ED25519", "ED25519.*use prime256v1", id="no-curve"),
    pytest.param("mail_crypt_global_public_key", "garbage", "not a public key", id="public-key"),
    pytest.param(
        "mail_crypt_save_version", "2.0", "save_version is '2.0'.*use 2", marks=only_23, id="2.0"
    ),
    pytest.param("mail_crypt_save_version", "", "save_version is empty", marks=only_23, id="empty"),
    pytest.param(
        "mail_crypt_save_version",
        "rot13-sha256",
        "crypt_write_algorithm: .*rot13",
        marks=pytest.mark.skipif(not IS_24, reason="an algorithm is set in Dovecot 2.4"),
        id="algorithm",
    ),
]


@pytest.mark.packaged_refuses("it fails the user, or stores mail all the same")
@pytest.mark.parametrize("name, value, said", WRITING)
def test_what_is_only_needed_for_writing_stops_no_reading(dovecot, store, name, value, said):
    mail = Mail.make()
    dovecot(store=store, users=alice(password=PASSWORD)).deliver("alice", mail)
    value = f"inline:{value}" if IS_24 and value == "garbage" else value
    users = with_field(name, value, password=PASSWORD)
    server = dovecot(store=store, users=users)
    server.log.expect("Error:")
    with server.imap("alice") as session:
        assert session.bodies()[0].endswith(mail.data)
        # A folder without a key of its own.
        session.create("New")
        mark = server.log.mark()
        assert session.put(Mail.make().data, "New")[0] == "NO"
        server.log.wait_for(said, mark)
        assert session.uid("COPY", "1", "New")[0] == "NO"
        assert session.bodies()[0].endswith(mail.data)
    assert [key for key in store.folder_keys("alice").values() if key] != []
    assert len(store.stored("alice")) == 1


@only_23
@pytest.mark.packaged_refuses("it takes whatever begins with a 2")
def test_a_version_with_a_blank_is_shown_as_it_is(dovecot):
    server = dovecot(
        users=alice(save_version=None),
        crypt=CryptConfig(save_version=None),
        extra='plugin {\nmail_crypt_save_version = "2 "\n}\n',
    )
    check_refused(server, names=["mail_crypt_save_version is '2 '"])


@pytest.mark.parametrize("curve", ("brainpoolP160r1", "prime192v1", "secp160r1"))
def test_stores_on_small_curves_are_read_and_written(dovecot, store, plugin, curve):
    users = alice(curve=curve, password=PASSWORD)
    mails = [Mail.make(), Mail.make()]
    dovecot(store=store, plugin="packaged", users=dict(users)).deliver("alice", mails[0])
    server = dovecot(store=store, plugin=plugin, users=dict(users))
    server.deliver("alice", mails[1])
    for reader in (server, dovecot(store=store, plugin="packaged", users=dict(users))):
        with reader.imap("alice") as session:
            bodies = session.bodies()
        assert [b.endswith(m.data) for b, m in zip(bodies, mails)] == [True, True]
    assert len(store.user_keys("alice")) == 1


# Users without settings


@pytest.mark.packaged_defect("lmtp dies", on="2.3")
def test_settings_can_be_in_userdb_alone(dovecot):
    """Dovecot's own user for mail on its way in has none."""
    crypt = CryptConfig(password=PASSWORD)
    server = dovecot(crypt=None, users={"alice": UserConfig(crypt), "bob": UserConfig(crypt)})
    check_all_ways_in(server)


@pytest.mark.packaged_refuses("lmtp dies")
def test_a_key_can_be_in_userdb_alone(dovecot):
    """What stands in dovecot.conf can't be used without it."""
    name = "mail_crypt_private_key"
    if IS_24:
        block = f"{words.setting(name)} main"
        extra = f"{block} {{\ncrypt_private_key_password = 0pens-it\n}}\n"
        field = f"{words.setting(name)}/main/crypt_private_key_file"
        value = f"inline:{EC.setting('0pens-it').value}"
        fields = ((words.setting(name), "main"), (field, value))
    else:
        extra = line_of(name, "-") + line_of(f"{name}_password", "0pens-it")
        fields = ((name, EC.setting("0pens-it").value),)
    users = {user: UserConfig(extra=fields) for user in ("alice", "bob")}
    server = dovecot(users=users, extra=extra)
    check_all_ways_in(server)
    assert protection(server.store) == "1"


def check_all_ways_in(server):
    mails = [Mail.make() for _ in range(4)]
    for number in range(2):
        with_lmtp = server.lmtp()
        assert not with_lmtp.transaction(["alice", "bob"], mails[number].data)
    server.lda("alice", mails[2])
    with server.imap("alice") as session:
        session.put(mails[3].data)
        bodies = session.bodies()
    assert len(bodies) == 4
    for mail in mails:
        assert sum(mail.data in body for body in bodies) == 1
    script = server.run / "script.sieve"
    script.write_text("keep;\n")
    server.run_program(["sievec", "-c", str(server.places.config), str(script)])
    assert all(m.data.startswith(forge.MAGIC) for m in server.store.stored("alice"))


# Names that nobody hears


@only_23
@pytest.mark.packaged_defect("passes over the field")
@pytest.mark.parametrize(
    "name", ("mail_crypt_private_pasword", "mail_crypt_password", "crypt_user_key_password")
)
def test_no_unprotected_key_is_made_beside_a_field_that_nobody_hears(dovecot, name):
    server = dovecot(users={"alice": UserConfig(extra=((name, PASSWORD),))})
    check_refused(server, names=[f"userdb field {name} .*use mail_crypt_private_password"])
    assert not server.store.private_keys("alice")
    server.set_user("alice", UserConfig(CryptConfig(password=PASSWORD), extra=((name, "x"),)))
    deliver_and_read(server)


# What is said


@only_23
@pytest.mark.packaged_refuses("other words")
@pytest.mark.parametrize(
    "name",
    ("mail_crypt_global_public_key", "mail_crypt_global_private_key", "mail_crypt_private_key"),
)
def test_a_path_in_a_keys_place_is_told_from_a_key(dovecot, name):
    server = dovecot(users=with_field(name, "/etc/dovecot/key.pem"))
    check_refused(server, names=[f"{name}: .* Is it a path.? {name} = </path"])


@pytest.mark.packaged_refuses("other words")
def test_a_wrong_password_says_whose_key_and_which_setting(dovecot):
    server = dovecot(users=alice(password=PASSWORD))
    server.deliver("alice", Mail.make())
    (key,) = server.store.user_keys("alice")
    option = words.option("mail_crypt_private_password", MISTAKEN)
    fetch = ("fetch", "-u", "alice", "text", "mailbox", "INBOX")
    done = server.doveadm("-o", option, *fetch, check=False)
    said = f"wrong password for key {key} of user alice: {PASSWORD_SETTING}, as given with -o"
    assert said in done.stderr.decode()
    change = ("mailbox", "cryptokey", "password", "-u", "alice", "-n", "new-0ne")
    done = server.doveadm(*change, "-o", MISTAKEN, check=False)
    assert f"key {key} of user alice: the old password that was given" in done.stderr.decode()
    server.set_user("alice", UserConfig(CryptConfig(password=MISTAKEN)))
    done = server.doveadm(*fetch, check=False)
    assert f"{PASSWORD_SETTING}, as configured" in done.stderr.decode()
    done = server.doveadm(*change, check=False)
    assert f"{PASSWORD_SETTING} (no old password was given)" in done.stderr.decode()


@pytest.mark.packaged_refuses("other words")
def test_a_server_without_the_global_private_key_says_so_where_mail_is_read(dovecot):
    server = dovecot(
        users=alice(curve=None, global_public=EC.public_setting()), fetch_failure="no-after"
    )
    server.deliver("alice", Mail.make())
    name = words.setting("mail_crypt_global_private_key")
    said = f"no private key {EC.id}, which is that of .*{name} is not set"
    assert not server.log.lines("Error:")
    server.log.expect("private key")
    mark = server.log.mark()
    with server.imap("alice") as session:
        session.folder()
        assert session.fetch_uids().status == "NO"
    server.log.wait_for(said, mark)
    assert "GUID" not in server.log.text()


@pytest.mark.packaged_refuses("says nothing")
def test_an_unprotected_key_is_not_announced_where_none_can_be_made(dovecot):
    server = dovecot(users=alice(curve=None), crypt=CryptConfig(curve=None))
    check_refused(server, names=[words.setting("mail_crypt_curve")])
    assert "unprotected" not in server.log.text()
