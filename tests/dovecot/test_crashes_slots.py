"""Whatever changes slots and passwords dies before or after each of its writes: the old or the new secret opens everything."""

from __future__ import annotations

import pytest
from harness import CryptConfig, Mail, UserConfig, words
from harness.crash import crashes
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
    mail = Mail.make()
    server.deliver("alice", mail)
    assert readable(server, "alice", mail)
    active = [fields for fields in stored(server, "alice", FOLDER).values()]
    assert len(active) == 4
    for _ in crashes(server, tmp_path, *VERB, "reopen", "-u", "alice", stdin=b"secret\n", gone=65):
        assert opened_by(server, "secret") | opened_by(server, "latest") >= keys
    assert opened_by(server, "latest") >= keys
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
