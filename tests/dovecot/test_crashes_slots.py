"""Whatever changes slots and passwords dies before or after each of its writes: the old or the new secret opens everything."""

from __future__ import annotations

import pytest
from harness import CryptConfig, Key, Mail, UserConfig, words
from harness.crash import crashes, no_room
from test_doveadm import cryptokey
from test_doveadm_keys import FOLDER, readable, stored

pytestmark = pytest.mark.packaged_refuses("it has no slots")
VERB = ("mailbox", "cryptokey")


@pytest.fixture
def server(dovecot):
    server = dovecot(users={"alice": UserConfig(CryptConfig(password="secret"))})
    server.doveadm("mailbox", "create", "-u", "alice", "Work")
    cryptokey(server, "generate", "*")
    return server


def slot(server, *args: str, stdin: bytes = b"") -> str:
    """Runs `slot ..`, and answers what it printed."""
    return server.doveadm(*VERB, "slot", args[0], "-u", "alice", *args[1:], stdin=stdin).stdout.decode().strip()


def opened_by(server, secret: str) -> set[str]:
    """All keys of the user and the folders that a session with this password opens."""
    option = words.option("mail_crypt_private_password", secret)
    found = set()
    for what in ("-U", "*"):
        done = server.doveadm("-o", option, "-f", "tab", *VERB, "export", "-u", "alice", what, check=False)
        for block in done.stdout.decode().split("-----BEGIN PRIVATE KEY-----")[1:]:
            found.add(block.split("-----END")[0])
    return found


def test_adding_and_removing_a_slot(server, tmp_path):
    keys = opened_by(server, "secret")
    assert len(keys) == 3
    for _ in crashes(server, tmp_path, *VERB, "slot", "add", "-u", "alice", "-n", "new", "password", stdin=b"second\n"):
        assert opened_by(server, "secret") == keys
        assert opened_by(server, "second") in (set(), keys)
        # The same again may find what it has just made.
        slot(server, "remove", "-f", "new") if opened_by(server, "second") else None
    assert opened_by(server, "second") == keys
    for _ in crashes(server, tmp_path, *VERB, "slot", "remove", "-u", "alice", "new", gone=65):
        assert opened_by(server, "secret") == keys
    assert opened_by(server, "second") == set()


def test_resetting_with_a_code(server, tmp_path):
    cryptokey(server, "generate", "-U", "-f")
    keys = opened_by(server, "secret")
    code = slot(server, "add", "recovery")
    assert opened_by(server, code) == keys
    seen = []
    reset = crashes(server, tmp_path, *VERB, "reset", "-u", "alice", stdin=f"{code}\nlatest\n".encode(), gone=65)
    for _ in reset:
        ways = [opened_by(server, secret) == keys for secret in ("secret", code, "latest")]
        assert any(ways), ways
        seen.append(ways)
    assert opened_by(server, "latest") == keys
    assert not opened_by(server, "secret")
    # From the old password to the new one at once, and the code opens as long as it is needed.
    assert seen[0] == [True, True, False] and seen[-1] == [False, True, True]


def test_giving_up_what_nothing_opens(server, tmp_path):
    keys = opened_by(server, "secret")
    server.set_user("alice", UserConfig(CryptConfig(password="latest")))
    for _ in crashes(server, tmp_path, *VERB, "reset", "-u", "alice", "-a", stdin=b"latest\n", gone=65):
        assert opened_by(server, "secret") >= keys
        # What says that it has changed the password has changed it.
        kept = server.store.attributes("alice")
        change = ("-o", "secret", "-n", "other!")
        done = server.doveadm(*VERB, "password", "-u", "alice", *change, check=False)
        assert opened_by(server, "other!" if done.returncode == 0 else "secret") >= keys
        server.store.put_attributes("alice", kept)
    mail = Mail.make()
    server.deliver("alice", mail)
    assert readable(server, "alice", mail)
    active = [fields for fields in stored(server, "alice", FOLDER).values()]
    assert len(active) == 4
    for _ in crashes(server, tmp_path, *VERB, "reopen", "-u", "alice", stdin=b"secret\n", gone=65):
        assert opened_by(server, "secret") | opened_by(server, "latest") >= keys
    assert opened_by(server, "latest") >= keys
    # None is passed over any more.
    kept = server.store.attributes("alice")
    server.doveadm(*VERB, "password", "-u", "alice", "-o", "latest", "-n", "newest")
    assert opened_by(server, "newest") >= keys
    server.store.put_attributes("alice", kept)
    assert readable(server, "alice", mail)


def test_rotating(server, tmp_path):
    code = slot(server, "add", "recovery")
    mail = Mail.make()
    server.deliver("alice", mail)
    keys = opened_by(server, "secret")
    for _ in crashes(server, tmp_path, *VERB, "rotate", "-u", "alice", "-b", stdin=b"secret\n"):
        assert opened_by(server, "secret") >= keys
        assert readable(server, "alice", mail)
    everything = opened_by(server, "secret")
    assert everything > keys
    assert opened_by(server, code) == everything


def test_changing_a_password_and_back(server, tmp_path):
    keys = opened_by(server, "secret")
    change = ("password", "-u", "alice", "-o", "secret", "-n", "latest")
    for _ in crashes(server, tmp_path, *VERB, *change):
        assert keys in (opened_by(server, "secret"), opened_by(server, "latest"))
    assert opened_by(server, "latest") == keys
    for _ in crashes(server, tmp_path, *VERB, "password", "-u", "alice", "--undo", gone=65):
        assert keys in (opened_by(server, "secret"), opened_by(server, "latest"))
    assert opened_by(server, "secret") == keys


def test_resetting_with_a_key_file(server, tmp_path):
    key = Key.ec()
    (tmp_path / "public").write_text(key.public_pem())
    (tmp_path / "private").write_text(key.pem())
    keys = opened_by(server, "secret")
    for _ in crashes(server, tmp_path, *VERB, "slot", "add", "-u", "alice", "-k", str(tmp_path / "public"), "key", stdin=b""):
        assert opened_by(server, "secret") == keys
        slot(server, "remove", "-f", "key") if "key " in slot(server, "list") else None
    reset = ("reset", "-u", "alice", "-k", str(tmp_path / "private"))
    for _ in crashes(server, tmp_path, *VERB, *reset, stdin=b"latest\n"):
        assert keys in (opened_by(server, "secret"), opened_by(server, "latest"))
        slot(server, "test", "-k", str(tmp_path / "private"))
    assert opened_by(server, "latest") == keys


@pytest.fixture
def argon():
    """How the password is stretched."""
    return ((words.setting("mail_crypt_password_kdf"), "argon2id"),)


def test_moving_to_argon2id_with_a_login_and_changing_it(server, tmp_path, argon):
    """The string and the slot that it is under are written one after the other."""
    keys = opened_by(server, "secret")
    server.set_user("alice", UserConfig(CryptConfig(password="secret"), extra=argon))
    # A session that opens the key writes it anew.
    for _ in crashes(server, tmp_path, *VERB, "export", "-u", "alice", "-U"):
        assert opened_by(server, "secret") == keys
    change = ("password", "-u", "alice", "-o", "secret", "-n", "latest")
    for _ in crashes(server, tmp_path, *VERB, *change):
        assert keys in (opened_by(server, "secret"), opened_by(server, "latest"))
    assert opened_by(server, "latest") == keys
    server.set_user("alice", UserConfig(CryptConfig(password="latest"), extra=argon))
    code = slot(server, "add", "recovery")
    for _ in crashes(server, tmp_path, *VERB, "password", "-u", "alice", "--undo", gone=65):
        assert keys in (opened_by(server, "secret"), opened_by(server, "latest"))
        assert opened_by(server, code) == keys
    assert opened_by(server, "secret") == keys
    for _ in crashes(server, tmp_path, *VERB, "rotate", "-u", "alice", stdin=b"secret\n"):
        assert opened_by(server, "secret") >= keys and opened_by(server, code) >= keys
    server.set_user("alice", UserConfig(CryptConfig(password="secret")))
    for _ in crashes(server, tmp_path, *VERB, "password", "-u", "alice", "--compat"):
        assert opened_by(server, "secret") >= keys
    assert opened_by(server, code) >= keys


def test_making_escrow_copies_with_a_login(server, tmp_path):
    key = Key.ec()
    value = f"inline:{key.public_setting()}" if words.is_24() else key.public_setting()
    escrow = ((words.setting("mail_crypt_escrow_public_key"), value),)
    keys = opened_by(server, "secret")
    server.set_user("alice", UserConfig(CryptConfig(password="secret"), extra=escrow))
    for _ in crashes(server, tmp_path, *VERB, "export", "-u", "alice", "-U"):
        assert opened_by(server, "secret") == keys
    (tmp_path / "private").write_text(key.pem())
    assert slot(server, "test", "-k", str(tmp_path / "private"))


#: what is done -> its input, the secret that opens afterwards
FULL = {
    "slot add -n new recovery": ("secret\n", "secret"),
    "password -o secret -n latest": ("", "latest"),
    "reset": ("{code}\nlatest\n", "latest"),
    "rotate -b": ("secret\n", "secret"),
    "password --undo": ("", "secret"),
    "slot remove paper": ("", "secret"),
}


@pytest.mark.parametrize("command", FULL)
def test_a_full_disk_takes_no_key(server, tmp_path, command):
    """No room for the first writes, and then again: the old or the new secret opens everything."""
    code = slot(server, "add", "-n", "paper", "recovery")
    keys = opened_by(server, "secret")
    if command == "password --undo":
        server.doveadm(*VERB, "password", "-u", "alice", "-o", "secret", "-n", "latest")
    verb, *args = command.split()
    stdin, after = FULL[command]
    stdin = stdin.format(code=code).encode()
    no_space = 0
    for times in range(1, 9):
        argv = ["doveadm", "-c", str(server.places.config), *VERB, verb, *args[:1], "-u", "alice", *args[1:]]
        if verb != "slot":
            argv = ["doveadm", "-c", str(server.places.config), *VERB, verb, "-u", "alice", *args]
        kept = server.store.attributes("alice")
        done = server.run_program(no_room(tmp_path, argv, times, "dovecot-attributes"), stdin, check=False)
        ways = [opened_by(server, secret) >= keys for secret in ("secret", "latest", code)]
        assert any(ways), (times, ways, done.stderr)
        if done.returncode == 0:
            assert opened_by(server, after) >= keys, done.stderr
        no_space += b"No space left on device" in done.stderr
        # Nothing of it stands in the way of the next try, if anything is left to be done.
        server.run_program(argv, stdin, check=False)
        assert opened_by(server, after) >= keys, (times, done.stderr)
        server.store.put_attributes("alice", kept)
    assert no_space
