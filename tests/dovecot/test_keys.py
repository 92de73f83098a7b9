"""Keys: made and protected as configured, found again; settings that can't be right are named."""

from __future__ import annotations

import re
import time

import pytest
from harness import CryptConfig, Key, KeySetting, Mail, UserConfig, words

EC = Key.ec()
#: Words that no message has by chance.
PASSWORD = "c0rrect-h0rse"
MISTAKEN = "batt3ry-stap1e"
OTHER = Key.ec()
RSA = Key.rsa()


def alice(**crypt):
    return {"alice": UserConfig(CryptConfig(**crypt))}


def protection(store, user="alice"):
    """How the user's one private key is stored: "0" open, "1" under a key, "2" under a password."""
    (value,) = [v for k, v in store.private_keys(user).items() if "/pvt/server/" in k]
    return value.split(":")[2]


def deliver_and_read(server, user="alice"):
    mail = Mail.make()
    server.deliver(user, mail)
    with server.imap(user) as session:
        assert session.bodies()[-1].endswith(mail.data)
    assert not server.store.find_words(server.store.home(user), mail.words)


def check_refused(server, user="alice", names=(), timeout=5, look=True):
    """A delivery fails for now, quickly, and leaves nothing; the log names what is wrong.

    Answers the mail. `look`: look for its words on disk.
    """
    server.log.expect("Error:")
    mail = Mail.make()
    mark = server.log.mark()
    begin = time.monotonic()
    refused = server.try_deliver(user, mail, timeout=timeout)
    assert time.monotonic() - begin < timeout
    assert user in refused, "the mail was taken"
    code, text = refused[user]
    assert 400 <= code < 500, (code, text)
    assert not re.search(rb"/|uid|gid|0x", text), text
    for name in names:
        server.log.wait_for(name, mark)
    assert not look or not server.store.find_words(server.store.home(user), mail.words)
    return mail


# The modes


@pytest.mark.parametrize(
    "crypt, kind",
    [
        pytest.param(dict(), "0", id="unprotected"),
        pytest.param(dict(password=PASSWORD), "2", id="password"),
        pytest.param(dict(password="pässwörd#\"'=;"), "2", id="odd-password"),
        pytest.param(
            dict(user_key_keys=(EC.setting(),)),
            "1",
            id="ec-pem",
            marks=pytest.mark.packaged_defect("segmentation fault"),
        ),
        pytest.param(
            dict(user_key_keys=(EC.setting("0pens-it"),)),
            "1",
            id="ec-pem-with-password",
            marks=pytest.mark.packaged_defect("segmentation fault"),
        ),
        pytest.param(
            dict(user_key_keys=(KeySetting(EC.dovecot_private()),)),
            "1",
            id="ec-dovecot",
            marks=pytest.mark.packaged_defect("segmentation fault"),
        ),
        pytest.param(
            dict(user_key_keys=(KeySetting(EC.dovecot_private_under_password("pw-f0r-it"), "pw-f0r-it"),)),
            "1",
            id="ec-dovecot-with-password",
            marks=pytest.mark.packaged_defect("segmentation fault"),
        ),
        pytest.param(
            dict(user_key_keys=(RSA.setting(),)),
            "1",
            id="rsa",
            marks=pytest.mark.packaged_defect("segmentation fault"),
        ),
    ],
)
def test_a_user_key_is_made_and_protected_as_configured(dovecot, crypt, kind):
    server = dovecot(users=alice(**crypt))
    server.log.expect("Warning:")
    for _ in range(2):
        deliver_and_read(server)
    assert protection(server.store) == kind
    assert len(server.store.user_keys("alice")) == 1
    if kind == "1":
        key = crypt["user_key_keys"][0]
        (stored,) = [
            v for k, v in server.store.private_keys("alice").items() if "/pvt/server/" in k
        ]
        expected = RSA.id if key.value == RSA.setting().value else EC.id
        assert stored.split(":")[-2] == expected


@pytest.mark.packaged_defect("segmentation fault")
def test_a_user_key_that_ours_made_under_an_ec_key_is_used_by_the_packaged_plugin(
    dovecot, store, plugin
):
    users = alice(user_key_keys=(EC.setting(),))
    ours = dovecot(store=store, users=dict(users))
    deliver_and_read(ours)
    packaged = dovecot(store=store, plugin="packaged", users=dict(users))
    deliver_and_read(packaged)
    with packaged.imap("alice") as session:
        assert len(session.bodies()) == 2
    deliver_and_read(ours)


@pytest.mark.packaged_defect("keys under an RSA key never load again")
def test_a_user_key_under_an_rsa_key_loads(dovecot):
    server = dovecot(users=alice(user_key_keys=(RSA.setting(),)))
    key = Key.ec()
    server.seed_user_key("alice", key, key.dovecot_private_under_key(RSA))
    deliver_and_read(server)
    assert server.store.user_keys("alice") == {key.id}


@pytest.mark.parametrize("place", (1, 2))
def test_the_key_that_opens_the_user_key_may_be_any_of_the_configured(dovecot, place):
    keys = [OTHER, Key.ec()]
    keys.insert(place, EC)
    server = dovecot(users=alice(user_key_keys=tuple(k.setting() for k in keys)))
    key = Key.ec()
    server.seed_user_key("alice", key, key.dovecot_private_under_key(EC))
    deliver_and_read(server)


def test_global_mail_is_opened_by_any_of_the_configured_keys(dovecot, store):
    def users(public, *private):
        return alice(
            curve=None,
            global_public=public.public_setting(),
            global_private=tuple(k.setting() for k in private),
        )

    mails = [Mail.make() for _ in range(3)]
    for public, mail in zip((EC, OTHER, RSA), mails):
        server = dovecot(store=store, users=users(public, public))
        with server.imap("alice") as session:
            session.put(mail.data)
    with dovecot(store=store, users=users(OTHER, OTHER, EC, RSA)).imap("alice") as session:
        assert session.bodies() == [mail.data for mail in mails]
    assert not store.attributes("alice")


def test_a_global_key_may_have_a_password(dovecot):
    users = alice(
        curve=None, global_public=EC.dovecot_public(), global_private=(EC.setting("0pens-it"),)
    )
    deliver_and_read(dovecot(users=users))


def test_delivery_needs_no_private_key_in_global_mode(dovecot, store):
    writer = dovecot(store=store, users=alice(curve=None, global_public=EC.public_setting()))
    mail = Mail.make()
    # Dovecot itself wants to read the Message-ID of the first mail, for its log.
    writer.log.expect("rivate key")
    writer.deliver("alice", mail)
    assert not store.find_words(store.home("alice"), mail.words)
    reader = dovecot(
        store=store,
        users=alice(
            curve=None, global_public=EC.public_setting(), global_private=(EC.setting(),)
        ),
    )
    with reader.imap("alice") as session:
        assert session.bodies()[0].endswith(mail.data)


def test_mail_of_before_is_read_without_settings_to_write(dovecot, store):
    mail = Mail.make()
    dovecot(store=store, users=alice(password=PASSWORD)).deliver("alice", mail)
    server = dovecot(store=store, users=alice(save_version=0, password=PASSWORD))
    with server.imap("alice") as session:
        assert session.bodies()[0].endswith(mail.data)
        session.create("Copied")
        session.uid("COPY", "1", "Copied")
        assert session.bodies("Copied")[0].endswith(mail.data)


@pytest.mark.packaged_defect("finds keys by the id under which they are stored only")
@pytest.mark.parametrize("password", (None, "c0ffee5ec12e7000"))
def test_new_mail_under_old_keys_is_read(dovecot, password):
    server = dovecot(users=alice(password=password))
    key, folder = Key.ec(), Key.ec()
    stored = key.v1_private_under_password(password) if password else key.v1_private()
    server.seed_old_keys("alice", key, stored, {"INBOX": folder})
    deliver_and_read(server)
    assert server.store.user_keys("alice") == {key.old_id}


@pytest.mark.packaged_defect("opens INBOX for every look-up", on="2.3")
def test_inbox_is_opened_for_keys_once_a_session(dovecot):
    server = dovecot(users=alice(password=PASSWORD), debug=True)
    with server.imap("alice") as session:
        for number in range(6):
            session.create(f"Folder{number}")
            session.put(Mail.make().data, f"Folder{number}")
    # The log comes from a process of its own: what the first session said may still be on its way.
    server.log.wait_for("Disconnected: Logged out")
    mark = server.log.mark()
    with server.imap("alice") as session:
        for number in range(6):
            assert len(session.bodies(f"Folder{number}")) == 1
    server.log.wait_for("Disconnected: Logged out", mark)
    assert len(server.log.lines(r"Mailbox INBOX: Mailbox opened", mark)) <= 1


# Settings


other_words = pytest.mark.packaged_defect("doesn't name the setting", on="2.4")
BAD_KEYS = {
    "garbage": ("garbage", None),
    "truncated": ("2:1.2.840.10045.3.1.7:0:00:00", None),
    "public-key": (EC.public_setting(), None),
    "pem-wrong-password": (EC.setting("r1ght-0ne").value, MISTAKEN),
    "pem-no-password": (EC.setting("r1ght-0ne").value, None),
    "wrong-password": (EC.dovecot_private_under_password("r1ght-0ne"), MISTAKEN),
    "no-password": (EC.dovecot_private_under_password("r1ght-0ne"), None),
}


@pytest.mark.parametrize("bad", BAD_KEYS)
@pytest.mark.parametrize(
    "setting",
    [
        pytest.param("user", marks=pytest.mark.packaged_defect("loops, or crashes")),
        pytest.param("user-2", marks=pytest.mark.packaged_defect("loops, or crashes")),
        pytest.param("global", marks=other_words),
        pytest.param("global-2", marks=other_words),
    ],
)
def test_a_bad_key_setting_is_named_and_never_shown(dovecot, setting, bad):
    value, password = BAD_KEYS[bad]
    check_bad_setting(dovecot, setting, KeySetting(value, password))


@pytest.mark.packaged_defect("panics or hangs")
@pytest.mark.parametrize("rounds", (0, 200_000_000))
@pytest.mark.parametrize("setting", ("user", "global"))
def test_rounds_of_a_key_setting_are_bounded(dovecot, setting, rounds):
    value = EC.dovecot_private_under_password("r1ght-0ne", rounds)
    check_bad_setting(dovecot, setting, KeySetting(value, "r1ght-0ne"))


def check_bad_setting(dovecot, setting, bad):
    keys = (EC.setting(), bad) if setting.endswith("-2") else (bad,)
    if setting.startswith("user"):
        server = dovecot(users=alice(user_key_keys=keys))
        name = "mail_crypt_private_key"
    else:
        server = dovecot(
            users=alice(curve=None, global_public=EC.public_setting(), global_private=keys)
        )
        name = "mail_crypt_global_private_key"
    check_refused(server, names=[words.key_setting(name, len(keys))])
    assert bad.value not in server.log.text()
    assert not server.store.private_keys("alice")


@pytest.mark.parametrize(
    "crypt, name",
    [
        pytest.param(dict(curve="no-such-curve"), "mail_crypt_curve", id="curve"),
        pytest.param(dict(save_version=7), "mail_crypt_save_version", id="save-version"),
        pytest.param(
            dict(curve=None, global_public="garbage"),
            "mail_crypt_global_public_key",
            id="public-key",
            marks=other_words,
        ),
        pytest.param(
            dict(curve=None, global_public=EC.setting().value),
            "mail_crypt_global_public_key",
            id="public-key-is-private",
            marks=other_words,
        ),
        pytest.param(dict(curve=None), "mail_crypt_curve", id="no-curve"),
    ],
)
def test_a_bad_setting_fails_the_user_and_is_named(dovecot, crypt, name):
    fine = UserConfig(CryptConfig(password=PASSWORD))
    users = alice(**crypt) | {"bob": fine}
    server = dovecot(crypt=CryptConfig(curve=None), users=users)
    check_refused(server, names=[words.setting(name)])
    deliver_and_read(server, "bob")


# require_encrypted


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("no", marks=pytest.mark.packaged_defect("counts as yes", on="2.3")),
        pytest.param(False, marks=pytest.mark.packaged_defect("counts as yes", on="2.3")),
        None,
    ],
)
def test_an_unprotected_user_key_is_made_where_it_is_not_forbidden(dovecot, value):
    server = dovecot(users=alice(require_encrypted=value))
    server.log.expect("Warning:")
    deliver_and_read(server)
    assert protection(server.store) == "0"


@pytest.mark.packaged_defect("lmtp panics", on="2.3")
def test_an_unprotected_user_key_is_refused_where_it_is_forbidden(dovecot):
    server = dovecot(users=alice(require_encrypted=True))
    check_refused(server, names=[words.setting("mail_crypt_require_encrypted_user_key")])
    assert not server.store.private_keys("alice")


@pytest.mark.parametrize(
    "crypt",
    [
        pytest.param(dict(password=PASSWORD), id="password"),
        pytest.param(
            dict(user_key_keys=(EC.setting(),)),
            id="key",
            marks=pytest.mark.packaged_defect("segmentation fault"),
        ),
    ],
)
def test_a_protected_user_key_is_made_where_it_must_be(dovecot, crypt):
    server = dovecot(users=alice(require_encrypted=True, **crypt))
    deliver_and_read(server)
    assert protection(server.store) != "0"


@pytest.mark.packaged_defect("says nothing")
def test_an_unprotected_user_key_is_warned_of_once_a_session(dovecot):
    server = dovecot(users=alice())
    mark = server.log.mark()
    with server.imap("alice") as session:
        for folder in ("INBOX", "One", "Two"):
            session.create(folder)
            session.put(Mail.make().data, folder)
    lines = server.log.wait_for(r"Warning: .*(unprotected|not protected|without)", mark)
    assert len(lines) == 1, lines


@pytest.mark.packaged_defect("2048 rounds")
def test_a_password_is_stretched_and_the_packaged_plugin_still_opens_the_key(dovecot, store):
    users = alice(password=PASSWORD)
    deliver_and_read(dovecot(store=store, users=dict(users)))
    (stored,) = [v for k, v in store.private_keys("alice").items() if "/pvt/server/" in k]
    assert int(stored.split(":")[6]) >= 10_000
    deliver_and_read(dovecot(store=store, plugin="packaged", users=dict(users)))
