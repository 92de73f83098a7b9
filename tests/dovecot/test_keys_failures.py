"""Keys that don't open, dicts that don't answer: an error says so, nothing is stored in the clear, all else goes on."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from harness import CryptConfig, DovecotVersion, Key, Mail, UserConfig
from test_keys import EC, MISTAKEN, OTHER, PASSWORD, alice, check_refused, deliver_and_read


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


@pytest.mark.packaged_refuses("says it in words of its own")
def test_the_log_says_why_libcrypto_refused(dovecot):
    locked = replace(EC.setting("right"), password="mistaken")
    crypt = {"global_public": EC.public_setting(), "global_private": (locked,)}
    server = dovecot(users=alice(curve=None, **crypt))
    server.log.expect("Error:", "wrong password for the key")
    server.try_deliver("alice", mail=Mail.make())
    server.doveadm("fetch", "-u", "alice", "text", "all", check=False)
    for line in server.log.wait_for("wrong password for the key"):
        # Its library and its reason.
        assert re.search(r"wrong password for the key \([^():]+: [^()]+\)", line), line


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


# The next user


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
