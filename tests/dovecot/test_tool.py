"""The offline tool against what a real Dovecot wrote, and the other way round."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from harness import CryptConfig, Key, Mail, UserConfig, modules

TOOL = Path(os.environ.get("MAIL_CRYPT_TOOL") or modules.build_folder() / "bin" / "mail-crypt")

REPOSITORY = Path(__file__).resolve().parents[2]

PASSWORD = "correct-horse"
GLOBAL = Key.ec()
STORAGES = ("maildir", "sdbox", "mdbox")
COMPRESS = ("gz", "bz2", "lz4", "zstd")


def tool(*args, stdin: bytes = b"", code: int = 0) -> bytes:
    """Runs the tool; whatever else happens, it never crashes."""
    done = subprocess.run(
        [TOOL, *map(str, args)], input=stdin, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr.decode()
    assert (code == 0) or not done.stdout, "something was written before the error was found"
    return done.stdout


@pytest.fixture(scope="module")
def server(shared_dovecot):
    managed = CryptConfig(password=PASSWORD)
    users = {storage: UserConfig(managed, storage=storage) for storage in STORAGES}
    users |= {name: UserConfig(managed, compress=name) for name in COMPRESS}
    users["global"] = UserConfig(
        CryptConfig(
            curve=None,
            global_public=GLOBAL.public_setting(),
            global_private=(GLOBAL.setting(),),
        )
    )
    return shared_dovecot(users=users)


def dict_file(server, user) -> Path:
    return server.store.home(user) / "dovecot-attributes"


def delivered(server, user, size) -> tuple[Mail, object]:
    mail = Mail.make(size)
    server.deliver(user, mail)
    return mail, server.store.stored(user)[-1]


def number(server, user) -> tuple:
    """`--message` for the last mail of a file that holds many."""
    path = server.store.stored(user)[-1].path
    count = sum(stored.path == path for stored in server.store.stored(user))
    return ("--message", count) if path.name.startswith(("u.", "m.")) else ()


@pytest.mark.parametrize("size", (2000, 900_000))
@pytest.mark.parametrize("user", STORAGES + COMPRESS)
def test_a_mail_is_restored_with_the_dict_and_the_password(server, user, size):
    mail, stored = delivered(server, user, size)
    plain = tool(
        "decrypt", stored.path, *number(server, user),
        "--attributes", dict_file(server, user), "--password-stdin",
        stdin=PASSWORD.encode() + b"\n",
    )
    assert plain.replace(b"\r\n", b"\n").endswith(mail.lines)


def test_a_wrong_or_missing_password_is_said(server):
    _, stored = delivered(server, "maildir", 2000)
    attributes = ("--attributes", dict_file(server, "maildir"))
    tool("decrypt", stored.path, *attributes, "--password-stdin", stdin=b"wrong\n", code=6)
    tool("decrypt", stored.path, *attributes, code=5)
    tool("decrypt", stored.path, code=2)


@pytest.mark.parametrize("size", (2000, 900_000))
def test_nothing_of_a_tampered_mail_is_written(server, size, tmp_path):
    _, stored = delivered(server, "maildir", size)
    copy = tmp_path / "mail"
    data = bytearray(stored.data)
    data[-20] ^= 1
    copy.write_bytes(data)
    args = ("--attributes", dict_file(server, "maildir"), "--password-stdin")
    out = tmp_path / "out"
    tool("decrypt", copy, *args, "-o", out, stdin=PASSWORD.encode(), code=4)
    assert not out.exists()


def test_a_global_key_decrypts(server, tmp_path):
    mail, stored = delivered(server, "global", 3000)
    key = tmp_path / "key"
    key.write_text(GLOBAL.setting().value)
    assert tool("decrypt", stored.path, "--key", key).endswith(mail.lines)
    other = tmp_path / "other"
    other.write_text(Key.ec().setting().value)
    tool("decrypt", stored.path, "--key", other, code=5)


def test_inspect_says_what_the_header_says(server):
    _, stored = delivered(server, "maildir", 2000)
    facts = json.loads(tool("inspect", stored.path, "--json"))
    assert facts["encrypted"] and facts["version"] == 2
    assert facts["cipher"] == "aes-256-gcm" and facts["digest"] == "sha256"
    assert facts["size"] == stored.size
    assert facts["header_size"] + facts["payload_size"] + facts["tag_size"] == stored.size
    (ids,) = server.store.folder_keys("maildir").values()
    assert facts["recipients"][0]["key_id"] in ids
    text = tool("inspect", stored.path).decode()
    assert facts["recipients"][0]["key_id"] in text


def test_inspect_knows_plaintext_and_damage(tmp_path, server):
    mail = tmp_path / "plain"
    mail.write_bytes(Mail.make().data)
    assert json.loads(tool("inspect", mail, "--json"))["encrypted"] is False
    _, stored = delivered(server, "maildir", 2000)
    mail.write_bytes(stored.data[:100])
    tool("inspect", mail, code=3)


@pytest.mark.parametrize("size", (2000, 900_000))
def test_a_mail_whose_first_bytes_are_damaged_is_restored(server, size, tmp_path):
    """The server refuses it, and says so; all that proves the mail is still there."""
    mail, stored = delivered(server, "maildir", size)
    copy = tmp_path / "mail"
    copy.write_bytes(b"From: <a@" + stored.data[9:])
    args = ("--attributes", dict_file(server, "maildir"), "--password-stdin")
    assert tool("decrypt", copy, *args, stdin=PASSWORD.encode()).endswith(mail.lines)
    facts = json.loads(tool("inspect", copy, "--json"))
    assert facts["encrypted"] and facts["damaged"] == "the first bytes"
    copy.write_bytes(b"From: <a@" + stored.data[9:-1])
    tool("decrypt", copy, *args, stdin=PASSWORD.encode(), code=4)


@pytest.mark.parametrize("compressed", (False, True))
@pytest.mark.parametrize("size", (2000, 900_000))
def test_a_mail_that_is_encrypted_twice_is_told_and_can_be_restored(tmp_path, size, compressed):
    key, public, once, twice = (tmp_path / name for name in ("key", "public", "once", "twice"))
    tool("keygen", "--curve", "prime256v1", "-o", key)
    tool("key", "convert", key, "--public", "--format", "pem", "-o", public)
    mail = Mail.make(size).data
    once.write_bytes(tool("encrypt", "--to", public, stdin=gzip.compress(mail, mtime=0) if compressed else mail))
    inner = once.read_bytes()
    twice.write_bytes(tool("encrypt", "--to", public, stdin=gzip.compress(inner, mtime=0) if compressed else inner))
    assert tool("decrypt", once, "--key", key) == mail
    tool("decrypt", twice, "--key", key, code=7)
    assert tool("decrypt", twice, "--key", key, "--twice") == mail
    assert tool("decrypt", once, "--key", key, "--twice") == mail
    assert tool("decrypt", twice, "--key", key, "--raw") == (gzip.compress(inner, mtime=0) if compressed else inner)
    said = [json.loads(tool("inspect", file, "--key", key, "--json"))["encrypted_twice"] for file in (once, twice)]
    assert said == [False, True]
    assert "encrypted_twice: true" in tool("inspect", twice, "--key", key).decode()
    # Without a key nobody knows what is inside.
    assert "encrypted_twice" not in json.loads(tool("inspect", twice, "--json"))
    damaged = bytearray(inner)
    damaged[-1] ^= 1
    twice.write_bytes(tool("encrypt", "--to", public, stdin=bytes(damaged)))
    tool("decrypt", twice, "--key", key, "--twice", code=4)


def test_what_the_tool_encrypts_dovecot_reads(server, tmp_path):
    public, private = tmp_path / "public", tmp_path / "private"
    public.write_text(GLOBAL.public_setting())
    private.write_text(GLOBAL.setting().value)
    mail, stored = delivered(server, "global", 2000)
    plain = tool("decrypt", stored.path, "--key", private)
    before = stored.data
    stored.replace(tool("encrypt", "--to", public, stdin=plain))
    assert stored.path.read_bytes() != before
    with server.imap("global") as session:
        session.folder()
        assert session.bodies("INBOX")[-1].endswith(mail.data)


@pytest.mark.parametrize("curve", ("prime256v1", "secp384r1", "secp521r1", "X25519"))
def test_keys_survive_every_conversion(tmp_path, curve):
    pem, dovecot, back, public = (tmp_path / name for name in ("pem", "dovecot", "back", "public"))
    tool("keygen", "--curve", curve, "-o", pem)
    assert pem.stat().st_mode & 0o077 == 0
    tool("key", "convert", pem, "--format", "dovecot", "-o", dovecot)
    tool("key", "convert", dovecot, "--format", "pem", "-o", back)
    assert back.read_bytes() == pem.read_bytes()
    tool("key", "convert", pem, "--format", "dovecot", "--public", "-o", public)
    ids = {json.loads(tool("key", "show", key, "--json"))["id"] for key in (pem, dovecot, public)}
    assert len(ids) == 1
    sealed = tmp_path / "sealed"
    sealed.write_bytes(tool("encrypt", "--to", public, stdin=b"words"))
    assert tool("decrypt", sealed, "--key", pem) == b"words"


def test_a_protected_key_needs_its_password(tmp_path):
    key = tmp_path / "key"
    tool("keygen", "--curve", "prime256v1", "--password-stdin", "-o", key, stdin=b"secret\n")
    shown = json.loads(tool("key", "show", key, "--json"))
    assert shown["protected_by"] == "password"
    tool("key", "convert", key, "--format", "dovecot", code=5)
    tool("key", "convert", key, "--format", "dovecot", "--password-stdin", stdin=b"no\n", code=6)
    done = tool("key", "convert", key, "--format", "dovecot", "--password-stdin", stdin=b"secret\n")
    assert done.startswith(b"2:1.2.840.10045.3.1.7:0:")


def test_what_the_docs_say_restores_a_mail(server, tmp_path):
    text = (REPOSITORY / "docs" / "behaviour.md").read_text()
    commands = re.findall(r"^\$ mail-crypt (.*)$", text, re.MULTILINE)
    assert len(commands) == 2
    mail, stored = delivered(server, "maildir", 2000)
    out = tmp_path / "mail.eml"
    for command in commands:
        words = command.replace("--password-prompt", "--password-stdin").split()
        there = {
            "cur/1700000000.M1P1.host:2,S": stored.path,
            "dovecot-attributes": dict_file(server, "maildir"),
            "mail.eml": out,
        }
        tool(*(there.get(word, word) for word in words), stdin=PASSWORD.encode())
    assert out.read_bytes().endswith(mail.lines)


def test_output_that_fails_is_an_error_and_leaves_no_half_of_it(tmp_path):
    key, public, sealed, out = (tmp_path / name for name in ("key", "public", "sealed", "out"))
    tool("keygen", "--curve", "prime256v1", "-o", key)
    tool("key", "convert", key, "--public", "--format", "pem", "-o", public)
    packed = gzip.compress(os.urandom(500_000))[:-1000]
    sealed.write_bytes(tool("encrypt", "--to", public, stdin=packed))
    tool("decrypt", sealed, "--key", key, "-o", out, code=1)
    assert not out.exists()
    tool("decrypt", sealed, "--key", key, "--raw", "-o", out)
    assert out.read_bytes() == packed
    for command in (("inspect", sealed), ("key", "show", key, "--json"), ("--help",)):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([TOOL, *command], stdout=full, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 1 and b"No space left" in done.stderr, done.stderr


@pytest.mark.parametrize("flag", ("--help", "-h"))
def test_every_command_takes_help(flag, tmp_path):
    told = tool(flag)
    # decrypt has two lines.
    commands = set(re.findall(rb"^  mail-crypt ((?:key )?[a-z]+) ", told, re.MULTILINE))
    assert len(commands) == 8
    out = tmp_path / "out"
    for command in (*commands, b"key"):
        words = command.decode().split()
        assert tool(*words, flag) == told
        assert tool(*words, *(() if words == ["key"] else ("-o", out)), flag) == told
    assert not out.exists()
    tool("key", code=2)


def test_an_existing_file_is_never_overwritten(tmp_path):
    key = tmp_path / "key"
    key.write_text("precious")
    tool("keygen", "--curve", "prime256v1", "-o", key, code=1)
    assert key.read_text() == "precious"
