"""The offline tool opens a backup by each of the user's slots."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from harness import CryptConfig, Key, Mail, UserConfig, words
from test_tool import TOOL, delivered, dict_file, tool

PASSWORD = "correct-horse"
SECOND = "battery-staple"
STABLE = "c3RhYmxlIHNlY3JldCBvZiBhIHByb3ZpZGVy"
ESCROW = Key.ec()
TOKEN = Key.ec("secp384r1")
ARGON2ID = ((words.setting("mail_crypt_password_kdf"), "argon2id"),)

pytestmark = pytest.mark.packaged_refuses("it has no slots")


def slot(server, verb, user, *args, stdin=b""):
    """`cryptokey slot ..`; what it printed."""
    done = server.doveadm("mailbox", "cryptokey", "slot", verb, "-u", user, *map(str, args), stdin=stdin)
    return done.stdout.decode().strip()


@pytest.fixture(scope="module")
def server(shared_dovecot, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    public = folder / "escrow.pub.pem"
    public.write_text(ESCROW.public_pem())
    crypt = CryptConfig(password=PASSWORD)
    users = {
        "jane": UserConfig(crypt),
        "bob": UserConfig(crypt),
        "argon": UserConfig(crypt, extra=ARGON2ID),
        "none": UserConfig(crypt),
    }
    public.parent.chmod(0o755)
    escrow = words.setting("mail_crypt_escrow_public_key")
    extra = f"{escrow} = {public}\n" if words.is_24() else f"plugin {{\n{escrow} = <{public}\n}}\n"
    return shared_dovecot(users=users, acl=True, extra=extra)


@pytest.fixture(scope="module")
def secrets(server, tmp_path_factory):
    """What opens jane's slots, by their names: the tool's arguments, and its standard input."""
    server.deliver("jane", Mail.make())
    keys = tmp_path_factory.mktemp("private")
    for key, name in ((ESCROW, "escrow"), (TOKEN, "token")):
        (keys / name).write_text(key.pem())
    (keys / "locked").write_text(ESCROW.pem("of-the-key"))
    (keys / "token.pub").write_text(TOKEN.public_pem())
    code = slot(server, "add", "jane", "recovery")
    app = slot(server, "add", "jane", "app", "-l", "phone")
    slot(server, "add", "jane", "app", "-g", "-n", "sso", stdin=f"{STABLE}\n".encode())
    slot(server, "add", "jane", "password", "-n", "spouse", stdin=f"{SECOND}\n".encode())
    slot(server, "add", "jane", "key", "-n", "token", "-k", keys / "token.pub")
    return {
        "recovery": (("--password-stdin",), code),
        "as typed": (("--password-stdin",), code.lower().replace("-", " ")),
        "app": (("--password-stdin",), app),
        "sso": (("--password-stdin",), STABLE),
        "spouse": (("--password-stdin",), SECOND),
        "token": (("--key", keys / "token"), ""),
        "escrow": (("--key", keys / "escrow"), ""),
        "escrow, locked": (("--key", keys / "locked", "--password-stdin"), "of-the-key"),
    }


@pytest.mark.parametrize(
    "name", ("recovery", "as typed", "app", "sso", "spouse", "token", "escrow", "escrow, locked")
)
def test_every_kind_of_slot_opens_a_backup(server, secrets, name):
    mail, stored = delivered(server, "jane", 2000)
    args, secret = secrets[name]
    plain = tool("decrypt", stored.path, "--attributes", dict_file(server, "jane"), *args, stdin=secret.encode())
    assert plain.endswith(mail.lines)


@pytest.mark.parametrize("by", ("password", "code", "escrow"))
def test_a_key_under_argon2id_opens(server, secrets, by):
    mail, stored = delivered(server, "argon", 2000)
    secret = slot(server, "add", "argon", "recovery").encode() if by == "code" else PASSWORD.encode()
    args = secrets["escrow"][0] if by == "escrow" else ("--password-stdin",)
    plain = tool("decrypt", stored.path, "--attributes", dict_file(server, "argon"), *args, stdin=secret)
    assert plain.endswith(mail.lines)
    (stored_key,) = [v for k, v in server.store.private_keys("argon").items() if "/pvt/server/" in k]
    assert stored_key.split(":")[2] == "1", "it is under its password the old way"


def test_what_opens_nothing_is_told_from_what_is_mistyped(server, secrets, tmp_path):
    _, stored = delivered(server, "jane", 2000)
    args = ("decrypt", stored.path, "--attributes", dict_file(server, "jane"))
    code = secrets["recovery"][1]
    mistyped = code[:-1] + ("7" if code[-1] != "7" else "8")
    tool(*args, "--password-stdin", stdin=mistyped.encode(), code=3)
    told = subprocess.run([TOOL, *args, "--password-stdin"], input=mistyped.encode(), capture_output=True)
    assert b"the code is mistyped" in told.stderr and mistyped.encode() not in told.stderr
    tool(*args, "--password-stdin", stdin=b"wrong\n", code=6)
    other = tmp_path / "other"
    other.write_text(Key.ec().pem())
    tool(*args, "--key", other, code=5)


def test_a_mail_of_a_shared_folder_opens_by_the_sharees_slot(server, secrets):
    """Owner and sharee both have slots: each is looked for in its own dict."""
    mail, stored = delivered(server, "jane", 2000)
    server.deliver("bob", Mail.make())
    with server.imap("jane") as imap:
        assert imap.raw("SETACL INBOX bob lr")[0].startswith("OK")
    code = slot(server, "add", "bob", "recovery")
    for dicts in (("jane", "bob"), ("bob", "jane")):
        files = [arg for user in dicts for arg in ("--attributes", dict_file(server, user))]
        args = ("decrypt", stored.path, "--user", "bob", *files)
        assert tool(*args, "--password-stdin", stdin=code.encode()).endswith(mail.lines)
        assert tool(*args, *secrets["escrow"][0]).endswith(mail.lines)


def test_slots_are_listed_as_doveadm_lists_them(server, secrets):
    args = ("slots", "--attributes", dict_file(server, "jane"), "--password-stdin")
    told = json.loads(tool(*args, "--json", stdin=PASSWORD.encode()))
    out = server.doveadm("-f", "json", "mailbox", "cryptokey", "slot", "list", "-u", "jane").stdout
    assert told == json.loads(out)
    assert {row["slot"]: row["type"] for row in told} == {
        "recovery": "recovery", "app": "app", "sso": "app", "spouse": "password", "token": "key", "escrow": "escrow",
    }
    assert {row["state"] for row in told} == {"sealed"}
    assert "label: phone\n" in tool(*args, stdin=PASSWORD.encode()).decode()
    unopened = json.loads(tool(*args[:3], "--json"))
    assert {row["state"] for row in unopened} == {"not checked"}
    tool("slots", code=2)


def test_a_slot_that_somebody_has_changed_is_named(server, tmp_path):
    server.deliver("none", Mail.make())
    slot(server, "add", "none", "recovery")
    copy = tmp_path / "dict"
    text = dict_file(server, "none").read_text()
    copy.write_text(re.sub(r"(?m)^(1 \d+.*slot )recovery", r"\1recovary", text))
    done = subprocess.run([TOOL, "slots", "--attributes", copy], capture_output=True)
    assert done.returncode == 3 and b"damaged" in done.stdout
    assert b"slot recovary: its line is damaged" in done.stderr
