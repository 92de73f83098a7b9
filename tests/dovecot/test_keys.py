"""Keys: made once, protected as configured, found again, and never in the way when they are bad."""

from __future__ import annotations

import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import CryptConfig, DovecotVersion, Key, KeySetting, Mail, UserConfig, words

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


# Keys that don't open


@pytest.mark.packaged_defect("drops the connection in the middle of a literal")
@pytest.mark.parametrize("password", (MISTAKEN, None))
def test_a_wrong_password_is_named_before_any_literal(dovecot, store, password):
    mails = [Mail.make(), Mail.make()]
    writer = dovecot(store=store, users=alice(password=PASSWORD))
    for mail in mails:
        writer.deliver("alice", mail)
    (key,) = store.user_keys("alice")
    server = dovecot(store=store, users=alice(password=password), fetch_failure="no-after")
    server.log.expect("Error:")
    mark = server.log.mark()
    with server.imap("alice") as session:
        session.folder()
        answer = session.fetch_uids()
        assert (answer.status, answer.items) == ("NO", {})
        assert session.noop()[0] == "OK"
        assert session.uid("STORE", "1", "+FLAGS", r"(\Deleted)")[0] == "OK"
    lines = server.log.wait_for("wrong password" if password else "password", mark)
    assert key in lines[0]
    # New mail needs the public key only.
    server.deliver("alice", Mail.make())
    assert store.user_keys("alice") == {key}
    with writer.imap("alice") as session:
        assert len(session.bodies()) == 3


@pytest.mark.packaged_defect("panics or hangs")
@pytest.mark.parametrize("under", ("password", "key"))
@pytest.mark.parametrize("rounds", (0, 200_000_000, 4_294_967_295, 99_999_999_999))
def test_rounds_of_a_stored_key_are_bounded(dovecot, under, rounds):
    crypt = dict(password=PASSWORD) if under == "password" else dict(user_key_keys=(EC.setting(),))
    server = dovecot(users=alice(**crypt), fetch_failure="no-after")
    key = Key.ec()
    stored = (
        key.dovecot_private_under_password(PASSWORD, rounds)
        if under == "password"
        else key.dovecot_private_under_key(EC, rounds)
    )
    server.seed_user_key("alice", key, stored)
    server.deliver("alice", Mail.make())
    server.log.expect("Error:")
    mark = server.log.mark()
    with server.imap("alice", timeout=5) as session:
        session.folder()
        answer = session.fetch_uids()
        assert (answer.status, answer.items) == ("NO", {})
        assert session.noop()[0] == "OK"
    server.log.wait_for("rounds", mark)


@pytest.mark.packaged_defect("ends the session")
@pytest.mark.parametrize(
    "value",
    [
        "garbage",
        "",
        "2:1.2.840.10045.3.1.7:0:00",
        "2:1.2.3.4:0:00000001:" + "0" * 64,
        OTHER.dovecot_public(),
        OTHER.dovecot_private(),
        OTHER.dovecot_private_under_key(OTHER),
    ],
    ids=["garbage", "empty", "cut", "unknown-oid", "public", "another-key", "another-lock"],
)
def test_a_bad_stored_key_is_an_error_that_names_the_key(dovecot, value):
    server = dovecot(users=alice(), fetch_failure="no-after")
    key = Key.ec()
    server.seed_user_key("alice", key, value)
    server.log.expect("Error:")
    server.deliver("alice", Mail.make())
    mark = server.log.mark()
    with server.imap("alice", timeout=10) as session:
        session.folder()
        answer = session.fetch_uids()
        assert (answer.status, answer.items) == ("NO", {})
        assert session.noop()[0] == "OK"
    server.log.wait_for(f"Error: .*{key.id}", mark)


@pytest.mark.parametrize("value", ["garbage", "", OTHER.dovecot_private(), OTHER.dovecot_public()],
                         ids=["garbage", "empty", "private", "another-key"])
def test_a_bad_public_key_stores_nothing_in_the_clear(dovecot, value):
    server = dovecot(users=alice())
    key = Key.ec()
    server.seed_user_key("alice", key, key.dovecot_private())
    name = next(k for k in server.store.attributes("alice") if "/pubkeys/" in k)
    server.store.put_attributes("alice", {name: value})
    check_refused(server)


def test_a_private_key_without_the_rest_does_not_matter(dovecot):
    """What a crash of the packaged plugin leaves behind."""
    server = dovecot(users=alice())
    key = Key.ec()
    server.seed_user_key("alice", key, key.dovecot_private())
    server.store.drop_attributes("alice", "active|pubkeys")
    for _ in range(2):
        deliver_and_read(server)
    assert len(server.store.user_keys("alice")) == 1


# The dict


@pytest.mark.packaged_defect("tells the client paths and numbers")
def test_without_the_dict_nothing_is_stored_and_the_client_learns_nothing(dovecot):
    server = dovecot(users=alice(password=PASSWORD), attribute_dict="down")
    check_refused(server, names=["Error: .*dict"])
    with server.imap("alice") as session:
        mail = Mail.make()
        status, text = session.put(mail.data)
        assert status == "NO"
        assert not re.search(r"/|uid|gid|dict|attribute", re.sub(r"\[[A-Z]+\]", "", text)), text
        assert session.noop()[0] == "OK"
        assert session.bodies() == []
    assert not server.store.find_words(server.store.home("alice"), mail.words)


@pytest.mark.packaged_defect("ends the session")
def test_without_the_dict_old_mail_is_an_error_and_the_session_lives(dovecot, store):
    dovecot(store=store, users=alice(password=PASSWORD)).deliver("alice", Mail.make())
    server = dovecot(
        store=store,
        users=alice(password=PASSWORD),
        attribute_dict="down",
        fetch_failure="no-after",
    )
    server.log.expect("Error:")
    with server.imap("alice") as session:
        session.folder()
        answer = session.fetch_uids()
        assert (answer.status, answer.items) == ("NO", {})
        assert session.noop()[0] == "OK"


def test_without_any_dict_nothing_is_stored_in_the_clear(dovecot):
    server = dovecot(users=alice(password=PASSWORD), attribute_dict=None)
    server.log.expect("Error:")
    mail = Mail.make()
    assert server.try_deliver("alice", mail)
    assert not server.store.find_words(server.store.home("alice"), mail.words)


@pytest.mark.packaged_defect("ends the session, and its doveadm aborts")
@pytest.mark.skipif(DovecotVersion.installed().line != "2.3", reason="2.4 needs a dict that lists")
def test_a_dict_that_aborts_when_it_lists_is_not_asked_to(dovecot):
    """Keys of first mails and all later ones work without."""
    server = dovecot(
        users={"alice": UserConfig(CryptConfig(password="secret"))},
        attribute_dict=None,
        extra="mail_attribute_dict = fs:posix:prefix=%h/attributes/",
        fetch_failure="no-after",
    )
    mail = Mail.make()
    with server.imap("alice") as session:
        session.create("Work")
        for folder in ("INBOX", "Work"):
            assert session.put(mail.data, folder)[0] == "OK"
    with server.imap("alice") as session:
        assert session.bodies() == session.bodies("Work") == [mail.data]
    server.log.expect("can't list")
    for path in server.store.home("alice").glob("attributes/**/crypt/privkeys/*"):
        path.unlink()
    with server.imap("alice") as session:
        session.folder()
        assert session.fetch_uids().status == "NO"
        assert session.noop()[0] == "OK"
    listed = server.doveadm("mailbox", "cryptokey", "list", "-u", "alice", "*", check=False)
    assert listed.returncode == 75 and b"can't list" in listed.stderr


@pytest.mark.packaged_defect("tells the client paths")
def test_an_unreadable_dict_file_is_an_error(dovecot):
    server = dovecot(users=alice(password=PASSWORD))
    server.deliver("alice", Mail.make())
    path = server.store.home("alice") / "dovecot-attributes"
    path.chmod(0)
    mail = check_refused(server, names=["Error: .*dovecot-attributes"], look=False)
    path.chmod(0o600)
    assert not server.store.find_words(server.store.home("alice"), mail.words)
    deliver_and_read(server)
    assert len(server.store.user_keys("alice")) == 1


# Many at once


def together(count, work):
    """Run `work(0..count-1)` at the same moment in threads; the first exception is raised."""
    barrier = threading.Barrier(count)

    def one(number):
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.mark.packaged_defect("makes up to 4 user keys and 4 folder keys")
@pytest.mark.parametrize("storage", ("maildir", "mdbox"))
def test_parallel_first_deliveries_make_one_key_each(dovecot, storage):
    names = [f"user{i}" for i in range(6)]
    users = {name: UserConfig(CryptConfig(password=PASSWORD)) for name in names}
    server = dovecot(storage=storage, users=users)
    store = server.store
    found = []
    for name in names:
        mails = [Mail.make() for _ in range(8)]
        if storage != "maildir":
            # Two processes that make an INBOX of dbox at once deadlock in Dovecot, plugin or not.
            server.guid(name)
        together(8, lambda i: server.deliver(name, mails[i]))
        with server.imap(name) as session:
            bodies = session.bodies()
        assert len(bodies) == 8
        for mail in mails:
            assert sum(body.endswith(mail.data) for body in bodies) == 1
        found.append((len(store.user_keys(name)), *map(len, store.folder_keys(name).values())))
        assert len(store.private_keys(name)) == 2, "a private key without its public key"
    assert found == [(1, 1)] * len(names)


@pytest.mark.packaged_defect("makes several user keys")
def test_parallel_first_mails_to_many_folders_share_one_user_key(dovecot):
    names = [f"user{i}" for i in range(5)]
    users = {name: UserConfig(CryptConfig(password=PASSWORD)) for name in names}
    server = dovecot(users=users)
    found = []
    for name in names:
        mails = [Mail.make() for _ in range(8)]
        with server.imap(name) as session:
            for number in range(4):
                session.create(f"Folder{number}")
        sessions = [server.imap(name) for _ in mails]

        def append(number):
            with sessions[number] as session:
                assert session.put(mails[number].data, f"Folder{number % 4}")[0] == "OK"

        together(8, append)
        with server.imap(name) as session:
            for number in range(4):
                bodies = session.bodies(f"Folder{number}")
                assert sorted(bodies) == sorted([mails[number].data, mails[number + 4].data])
        keys = server.store.folder_keys(name)
        found.append((len(server.store.user_keys(name)), *map(len, keys.values())))
    assert found == [(1, 1, 1, 1, 1)] * len(names)


def greeted(server):
    """An LMTP connection. One that meets a process as it dies is closed at once, and tried again, as an MTA does."""
    for _ in range(20):
        try:
            return server.lmtp()
        except OSError:
            time.sleep(0.1)
    return server.lmtp()


def test_a_first_delivery_that_is_killed_leaves_a_usable_store(dovecot, plugin):
    random.seed(20)
    names = [f"user{i}" for i in range(30)]
    users = {name: UserConfig(CryptConfig(password=PASSWORD)) for name in names}
    server = dovecot(users=users)
    server.log.expect("killed with signal 9", "Connection lost", "stale", "startup failed")
    begin = time.monotonic()
    server.deliver(names.pop(), Mail.make())
    whole = time.monotonic() - begin
    killed = 0
    for number, name in enumerate(names):
        first, second = Mail.make(), Mail.make()
        # Greeted: a process that dies sooner makes the master wait before it starts another.
        mark = server.log.mark()
        connection = server.lmtp(20)
        line = server.log.wait_for(r"lmtp\(\d+\): Info: Connect", mark)[0]
        pid = int(re.search(r"lmtp\((\d+)\)", line).group(1))
        timer = threading.Timer(1.1 * whole * number / len(names), server.kill, [pid])
        timer.start()
        try:
            taken = not connection.transaction([name], first.data)
        except OSError:
            taken = False
        timer.join()
        killed += not taken
        # Dovecot's own locks of maildir, index and file dict, which it breaks after a minute.
        for path in server.store.files(name):
            if path.name.endswith("lock"):
                path.unlink(missing_ok=True)
        assert not greeted(server).transaction([name], second.data)
        with server.imap(name) as session:
            bodies = session.bodies()
        # Dovecot may find the first one only now: then it comes second.
        for mail in (first, second) if taken else (second,):
            assert sum(body.endswith(mail.data) for body in bodies) == 1
        assert len(server.store.user_keys(name)) == 1
        assert [len(k) for k in server.store.folder_keys(name).values()] == [1]
        if plugin == "ours":
            assert len(server.store.private_keys(name)) == 2, "a private key that nobody uses"
    assert killed, "no delivery was killed: the test proves nothing"


@pytest.mark.packaged_defect("lmtp panics", on="2.3")
def test_one_users_trouble_is_not_the_next_ones(dovecot, store):
    """One lmtp process, one transaction: good and bad users in turn."""
    good = UserConfig(CryptConfig(password=PASSWORD))
    bad = UserConfig(CryptConfig(require_encrypted=True))
    users = {"good1": good, "bad1": bad, "good2": good, "bad2": bad, "good3": good}
    server = dovecot(store=store, users=users)
    server.log.expect("Error:")
    mail = Mail.make()
    refused = server.try_deliver(*users, mail)
    assert sorted(refused) == ["bad1", "bad2"]
    for name in ("good1", "good2", "good3"):
        with server.imap(name) as session:
            assert session.bodies()[0].endswith(mail.data)
    assert not store.find_words(store.path, mail.words)


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


