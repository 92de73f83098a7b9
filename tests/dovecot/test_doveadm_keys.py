"""`doveadm mailbox cryptokey generate` and `password`: what they do to keys, and to who reads what.

Passwords that follow one another are of one length: Dovecot sees that its
user file is another by its size.
"""

from __future__ import annotations

import random
import subprocess
import time

import pytest
from harness import CryptConfig, Key, Mail, UserConfig, words
from test_doveadm import EXTRA, cryptokey, rows

FOLDER = "vendor/vendor.dovecot/pvt/crypt/"
#: import and delete
new_verb = pytest.mark.packaged_refuses("it has no such verb")
USER = "vendor/vendor.dovecot/pvt/server/vendor/vendor.dovecot/pvt/crypt/"


@pytest.fixture(scope="module")
def server(shared_dovecot):
    return shared_dovecot(users={}, extra=EXTRA)


@pytest.fixture
def user(server, request):
    """A user of the test's own, with a mail in INBOX."""
    name = f"u{abs(hash(request.node.name)) % 10**9}"
    crypt = getattr(request, "param", None) or CryptConfig(password="secret")
    server.set_user(name, UserConfig(crypt))
    return name


def stored(server, user, level):
    """The user's stored private keys of a level by id, split into their fields."""
    found = {}
    for name, value in server.store.private_keys(user).items():
        own, key_id = name.startswith("priv/"), name.rsplit("/", 1)[1]
        if own and ("/pvt/server/" in name) == (level == USER):
            found[key_id] = value.split(":")
    return found


def protection(fields):
    """What a private key is under: a password, a key's id, or nothing."""
    return {"0": None, "1": fields[-2], "2": "password"}[fields[2]]


def export(server, user, *args):
    """The exported keys by id."""
    return {row["name"]: row["key"].strip() + "\n" for row in rows(server, "export", *args, user=user)}


def fails(server, verb, *args, user, **more):
    """Run it, see it fail and change nothing; what it said."""
    before = server.store.attributes(user)
    done = cryptokey(server, verb, *args, user=user, check=False, **more)
    assert done.returncode > 0, done.stdout
    assert server.store.attributes(user) == before
    return (done.stdout + done.stderr).decode()


def readable(server, user, mail):
    """Is the mail there, in a session of its own? LMTP puts lines before it."""
    with server.imap(user) as imap:
        return any(body.endswith(mail.data) for body in imap.bodies())


# generate


@pytest.mark.packaged_defect("it aborts")
def test_the_key_of_a_shared_folder_is_listed_when_it_is_there(server, user):
    server.deliver(user, Mail.make())
    ((key_id, _),) = stored(server, user, FOLDER).items()
    server.set_user("bob", UserConfig())
    copy = Key.ec().dovecot_private_under_key(Key.ec())
    name = f"shared/{server.guid(user)}/{FOLDER}privkeys/{b'bob'.hex()}/{key_id}"
    server.store.put_attributes(user, {name: copy})
    before = server.store.attributes(user)
    (row,) = rows(server, "generate", "INBOX", user=user)
    assert (row["success"], row["box"], row["pubid"]) == ("✓", "INBOX", key_id)
    assert server.store.attributes(user) == before


@pytest.mark.packaged_defect("-R re-encrypts nothing, -UR returns before it")
@pytest.mark.parametrize("flags", ["-URf", "-R"])
def test_folder_keys_are_put_under_the_new_user_key(server, user, flags):
    mail, later = Mail.make(), Mail.make()
    server.doveadm("mailbox", "create", "-u", user, "Work", "Work/Deep")
    cryptokey(server, "generate", "*", user=user)
    cryptokey(server, "generate", "-f", "Work/*", user=user)
    server.deliver(user, mail)
    folder_keys = set(stored(server, user, FOLDER))
    assert len(folder_keys) == 4
    (old,) = stored(server, user, USER)
    if flags == "-R":
        cryptokey(server, "generate", "-U", "-f", user=user)
    found = rows(server, "generate", flags, user=user)
    active = server.store.attributes(user)[f"shared/{server.guid(user)}/{USER}active"]
    assert active != old and set(stored(server, user, USER)) == {old, active}
    done = {row["pubid"] for row in found if row["box"] != "<userkey>"}
    assert done == folder_keys == set(stored(server, user, FOLDER))
    for fields in stored(server, user, FOLDER).values():
        assert protection(fields) == active
    server.deliver(user, later)
    assert readable(server, user, mail) and readable(server, user, later)


HIDDEN = """
namespace hidden {
prefix = Hidden/
separator = /
list = no
subscriptions = no
%s
}
"""


@new_verb
@pytest.mark.parametrize("storage", ["maildir", "sdbox", "mdbox"])
def test_folders_that_are_not_shown_are_rekeyed_and_keep_their_user_key(dovecot, storage):
    """One is in a namespace that isn't listed, one is hidden by its owner's own rights."""
    server = dovecot(
        users={"alice": UserConfig(CryptConfig(password="secret"))},
        storage=storage,
        acl=True,
        extra=HIDDEN % words.location(storage, "~/hidden"),
    )
    folders = ("INBOX", "Shown", "Unseen", "Hidden/Work")
    mails = {}
    with server.imap("alice") as imap:
        for folder in folders:
            mails[folder] = Mail.make().data
            imap.create(folder)
            imap.put(mails[folder], folder)
    server.doveadm("acl", "set", "-u", "alice", "Unseen", "owner", "read")
    # Nor are they left out of a backup.
    assert set(export(server, "alice", "*")) == set(stored(server, "alice", FOLDER))
    for folder in folders:
        assert len(export(server, "alice", folder)) == 1
    (old,) = stored(server, "alice", USER)
    cryptokey(server, "generate", "-U", "-f")
    kept = fails(server, "delete", "-U", old, user="alice")
    assert all(folder in kept for folder in folders), kept
    cryptokey(server, "generate", "-R")
    (new,) = {protection(f) for f in stored(server, "alice", FOLDER).values()}
    assert new != old
    cryptokey(server, "delete", "-U", old)
    server.doveadm("acl", "delete", "-u", "alice", "Unseen", "owner")
    for folder, mail in mails.items():
        with server.imap("alice") as imap:
            assert imap.bodies(folder) == [mail]


def test_rekeying_that_is_killed_loses_no_key(server, user, plugin):
    """Whenever it dies, every folder key opens with a user key that is there."""
    if plugin == "packaged":
        pytest.skip("it re-encrypts nothing")
    server.set_user(user, UserConfig(CryptConfig()))
    names = [f"F{n}" for n in range(12)]
    server.doveadm("mailbox", "create", "-u", user, *names)
    cryptokey(server, "generate", "*", user=user)
    keys = export(server, user, "*")
    assert len(keys) >= len(names)
    for _ in range(10):
        argv = ["doveadm", "-c", str(server.places.config), "mailbox", "cryptokey"]
        process = subprocess.Popen(
            server._wrap([*argv, "generate", "-URf", "-u", user]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(random.uniform(0.02, 0.1))
        process.kill()
        process.wait()
        # The next one would wait for it until it is a minute old.
        assert not (server.store.home(user) / "dovecot-attributes.lock").exists()
        assert export(server, user, "*") == keys
    cryptokey(server, "generate", "-R", user=user)
    assert export(server, user, "*") == keys
    active = server.store.attributes(user)[f"shared/{server.guid(user)}/{USER}active"]
    assert {protection(f) for f in stored(server, user, FOLDER).values()} == {active}


def test_no_folder_key_is_put_under_a_user_key_that_cannot_be_had(server, user, plugin):
    if plugin == "packaged":
        pytest.skip("it re-encrypts nothing")
    mail = Mail.make()
    server.deliver(user, mail)
    (old,) = stored(server, user, USER)
    cryptokey(server, "generate", "-U", "-f", user=user)
    (new,) = set(stored(server, user, USER)) - {old}
    server.store.drop_attributes(user, f"privkeys/{new}$")
    assert new in fails(server, "generate", "-R", user=user)
    assert readable(server, user, mail)


@pytest.mark.packaged_defect("a new user key is made all the same")
@pytest.mark.parametrize("flags", ["-Uf", "-URf"])
def test_a_new_user_key_leaves_no_folder_key_behind(server, user, flags):
    """Under a password that isn't that of the older one nobody could read on, nor change a password."""
    mail = Mail.make()
    server.doveadm("mailbox", "create", "-u", user, "Work")
    cryptokey(server, "generate", "Work", user=user)
    server.deliver(user, mail)
    folder_keys = stored(server, user, FOLDER)
    (user_key,) = stored(server, user, USER)
    for password in ("other!", None):
        server.set_user(user, UserConfig(CryptConfig(password=password)))
        for _ in range(2):
            said = fails(server, "generate", flags, user=user)
            assert words.setting("mail_crypt_private_password") in said
            assert all(key_id in said for key_id in (*folder_keys, user_key)), said
    server.set_user(user, UserConfig(CryptConfig(password="secret")))
    assert readable(server, user, mail)
    # With the password it works, and says what stays behind.
    done = cryptokey(server, "generate", flags, user=user)
    assert (b"2 folder key(s)" in done.stderr) == (flags == "-Uf"), done.stderr
    cryptokey(server, "password", "-o", "secret", "-n", "latest", user=user)
    server.set_user(user, UserConfig(CryptConfig(password="latest")))
    assert readable(server, user, mail)


@pytest.mark.packaged_defect("nothing is said")
def test_a_user_key_that_does_not_open_any_more_is_named(server, user):
    cryptokey(server, "generate", "-U", user=user)
    (old,) = stored(server, user, USER)
    server.set_user(user, UserConfig(CryptConfig(password="other!")))
    done = cryptokey(server, "generate", "-U", "-f", user=user)
    assert old.encode() in done.stderr, done.stderr
    cryptokey(server, "delete", "-U", old, user=user)
    cryptokey(server, "password", "-o", "other!", "-n", "latest", user=user)


@pytest.mark.packaged_defect("it aborts", on="2.3")
@pytest.mark.parametrize("user", [CryptConfig(require_encrypted=True)], indirect=True)
def test_a_user_key_that_must_be_protected_is_not_made_without(server, user):
    said = fails(server, "generate", "-U", user=user)
    assert words.setting("mail_crypt_require_encrypted_user_key") in said


def shared_folder(dovecot, **options):
    """A server on which bob may read alice's folder Work, in which there is a mail."""
    server = dovecot(
        users={"alice": UserConfig(CryptConfig(password="of alice")), "bob": UserConfig()},
        acl=True,
        **options,
    )
    server.deliver("bob", Mail.make())
    mail = Mail.make()
    with server.imap("alice") as imap:
        imap.create("Work")
        imap.put(mail.data, "Work")
    server.doveadm("acl", "set", "-u", "alice", "Work", "user=bob", "lookup", "read")
    return server, mail


@pytest.mark.parametrize("revoked", [False, True], ids=["shared", "revoked"])
def test_a_new_folder_key_reaches_those_who_may_read(dovecot, revoked):
    server, mail = shared_folder(dovecot)
    if revoked:
        server.doveadm("acl", "delete", "-u", "alice", "Work", "user=bob")
    cryptokey(server, "generate", "-f", "Work")
    later = Mail.make()
    with server.imap("alice") as imap:
        imap.put(later.data, "Work")
    active = [r["pubid"] for r in rows(server, "list", "Work") if r["active"] == "yes"]
    copies = [n for n in server.store.private_keys("alice") if f"{b'bob'.hex()}/{active[0]}" in n]
    assert len(copies) == (0 if revoked else 1)
    if not revoked:
        with server.imap("bob") as imap:
            assert imap.bodies("shared/alice/Work") == [mail.data, later.data]


@new_verb
def test_a_new_key_that_reaches_nobody_is_a_failure(dovecot):
    """The mail plugin alone doesn't know about ACLs."""
    extra = words.only_plugins("doveadm", "mail_crypt", "acl")
    server, _ = shared_folder(dovecot)
    server.restart(extra=extra)
    done = cryptokey(server, "generate", "-f", "Work", check=False)
    assert done.returncode > 0 and b"mail_crypt_acl" in done.stderr


# password


@pytest.mark.packaged_defect("the protection is silently removed")
def test_an_old_password_alone_removes_nothing(server, user):
    server.deliver(user, Mail.make())
    assert "-C" in fails(server, "password", "-o", "secret", user=user)


@pytest.mark.packaged_defect("fails as soon as a password is configured")
def test_a_password_is_cleared(server, user):
    mail = Mail.make()
    server.deliver(user, mail)
    cryptokey(server, "password", "-o", "secret", "-C", user=user)
    (fields,) = stored(server, user, USER).values()
    assert protection(fields) is None
    assert readable(server, user, mail)


@pytest.mark.packaged_defect("a '-' is taken for the password")
def test_passwords_come_from_standard_input(server, user):
    mail = Mail.make()
    server.deliver(user, mail)
    done = cryptokey(server, "password", "-o", "-", "-n", "-", user=user, stdin=b"secret\nn\xc3\xa4xt!\n")
    assert done.stdout == b"result: Changed password for 1 key(s)\n"
    server.set_user(user, UserConfig(CryptConfig(password="näxt!")))
    assert readable(server, user, mail)
    cryptokey(server, "password", "-o", "näxt!", "-n", "-", user=user, stdin=b"latest")
    server.set_user(user, UserConfig(CryptConfig(password="latest")))
    assert readable(server, user, mail)
    for stdin in (b"", b"latest\n", b"latest\n\n", b"latest\nne\0xt\n"):
        fails(server, "password", "-o", "-", "-n", "-", user=user, stdin=stdin)
    fails(server, "password", "-o", "latest", "-n", "-", user=user, stdin=b"x" * 70000)


@pytest.mark.parametrize("remote", [False, True], ids=["here", "on a server"])
def test_passwords_are_asked_for(server, user, remote, plugin):
    """Where the command was typed, whoever does the work."""
    if remote and plugin == "packaged":
        pytest.skip("the server would have to ask")
    mail = Mail.make()
    server.deliver(user, mail)
    way = ("-S", str(server.places.base / "doveadm-server")) if remote else ()
    cryptokey(server, "password", *way, "-O", "-N", user=user, stdin=b"secret\nnext\nnext\n")
    server.set_user(user, UserConfig(CryptConfig(password="next")))
    assert readable(server, user, mail)
    for stdin in (b"next\nlast\nlost\n", b"secret\nlast\nlast\n"):
        server.log.expect("wrong password")
        fails(server, "password", *way, "-O", "-N", user=user, stdin=stdin)
    cryptokey(server, "password", *way, "-o", "next", "-N", user=user, stdin=b"last\nlast\n")
    server.set_user(user, UserConfig(CryptConfig(password="last")))
    assert readable(server, user, mail)


def test_all_keys_change_their_password_or_none(server, user):
    server.deliver(user, Mail.make())
    for _ in range(2):
        cryptokey(server, "generate", "-U", "-f", user=user)
    done = cryptokey(server, "password", "-o", "secret", "-n", "next", user=user)
    assert b"for 3 key(s)" in done.stdout
    ids = stored(server, user, USER)
    said = fails(server, "password", "-o", "wrong", "-n", "other", user=user)
    assert any(key_id in said for key_id in ids)
    # One of the three is under a password of its own.
    odd = Key.ec()
    name = f"priv/{server.guid(user)}/{USER}privkeys/{odd.id}"
    server.store.put_attributes(user, {name: odd.dovecot_private_under_password("odd")})
    assert odd.id in fails(server, "password", "-o", "next", "-n", "other", user=user)


def test_the_packaged_plugin_and_ours_take_each_others_passwords(dovecot, store, plugin):
    users = {"alice": UserConfig(CryptConfig(password="first"))}
    packaged = dovecot(store=store, plugin="packaged", users=dict(users))
    ours = dovecot(store=store, plugin=plugin, users=dict(users))
    mail = Mail.make()
    packaged.deliver("alice", mail)
    if plugin != "packaged":
        cryptokey(ours, "generate", "-URf")
    old = "first"
    for new, by in (("other", ours), ("third", packaged), ("forth", ours)):
        cryptokey(by, "password", "-o", old, "-n", new)
        for server in (packaged, ours):
            server.set_user("alice", UserConfig(CryptConfig(password=new)))
            assert readable(server, "alice", mail)
        packaged.deliver("alice", Mail.make())
        old = new


@pytest.mark.packaged_defect("'Changed password', and then the key is under none")
def test_a_key_under_a_settings_key_is_reported_and_stays(server, user):
    above = Key.ec()
    server.set_user(user, UserConfig(CryptConfig(user_key_keys=(above.setting(),))))
    key = Key.ec()
    server.seed_user_key(user, key, key.dovecot_private_under_key(above))
    said = fails(server, "password", "-n", "next", user=user)
    assert key.id in said and above.id in said


@pytest.mark.packaged_defect("an unprotected key is made all the same")
def test_a_required_password_is_not_cleared(server, user):
    server.deliver(user, Mail.make())
    crypt = CryptConfig(password="secret", require_encrypted=True)
    server.set_user(user, UserConfig(crypt))
    said = fails(server, "password", "-o", "secret", "-C", user=user)
    assert words.setting("mail_crypt_require_encrypted_user_key") in said
