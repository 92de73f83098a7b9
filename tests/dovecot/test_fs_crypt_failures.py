"""The fs drivers where keys are missing or files damaged: the error says why, and no byte is served or left behind."""

from __future__ import annotations

import secrets

import pytest
from harness import forge, words
from harness.fs_files import EX_TEMPFAIL, KEY, KEYS, Files, said
from test_fs_crypt import files, folder, no_such_24  # noqa: F401

#: It calls a key by its block, and a file by its name.
other_words = pytest.mark.packaged_defect("doesn't name the setting", on="2.4")


# Keys that aren't there


def refuse_to_write(files: Files, args: str, *expected: str, driver: str = "crypt") -> None:
    """No file, above all no plaintext."""
    target = files.path(secrets.token_hex(8))
    done = files.run("put", args, files.write("input", b"some words"), target, driver=driver)
    assert not target.exists(), target.read_bytes()[:20]
    assert done.returncode == EX_TEMPFAIL
    said(done, *expected)
    assert not [p for p in files.folder.iterdir() if "temp" in p.name.lower()]


@pytest.mark.packaged_defect("writes plaintext without a word")
@pytest.mark.parametrize("args", ["private", "settings"])
def test_without_a_public_key_nothing_is_written(files, args):
    if args == "private":
        refuse_to_write(files, files.private(KEY) + "posix:", "no public key", "public_key_path")
    else:
        refuse_to_write(files, "set_prefix=unset:posix:", "no public key", "unset_public_key")


def test_without_a_private_key_nothing_is_read(files):
    path = files.put(files.keys(KEY) + "posix:", b"some words")
    files.refuse(files.public(KEY) + "posix:", path, "private key")
    if not words.is_24():
        files.refuse("set_prefix=unset:posix:", path, "private key")


@pytest.mark.packaged_defect("doesn't say which key it would take")
def test_a_missing_private_key_is_named_by_its_id(files):
    path = files.put(files.keys(KEY) + "posix:", b"some words")
    other = files.private(KEYS["P-521"], "other")
    files.refuse(other + "posix:", path, KEY.id, "private_key_path=")


@no_such_24
@pytest.mark.parametrize("parameter", ["public_key_path", "private_key_path"])
def test_a_missing_key_file_is_named(files, parameter):
    path = files.put(files.keys(KEY) + "posix:", b"some words")
    args = f"{parameter}=/nonexistent/key:posix:"
    refuse_to_write(files, args, parameter, "/nonexistent/key", "no such file")
    files.refuse(args, path, parameter, "/nonexistent/key", "no such file")


@no_such_24
@pytest.mark.packaged_refuses("other words")
def test_an_empty_key_file_is_named_and_stops_no_reading_where_it_is_for_writing(files):
    empty = files.write("empty", "")
    for parameter in ("public_key_path", "private_key_path"):
        refuse_to_write(files, f"{parameter}={empty}:posix:", parameter, f"{empty} is empty")
    args = f"public_key_path={empty}:{files.private(KEY)}posix:"
    refuse_to_write(files, args, "public_key_path", f"{empty} is empty")
    path = files.put(files.keys(KEY) + "posix:", b"some words")
    assert files.get(args, path) == b"some words"


@other_words
@pytest.mark.parametrize("parameter", ["public_key_path", "private_key_path"])
def test_an_unusable_key_file_is_named_and_not_shown(files, parameter):
    key = files.write("unusable", "hunter2")
    for args in (f"{parameter}={key}:posix:", "set_prefix=broken:posix:")[: 1 if words.is_24() else 2]:
        done = files.run("put", args, files.write("input", b"x"), files.path("never"))
        assert done.returncode == EX_TEMPFAIL
        said(done, parameter if "path" in args else "broken_public_key")
        assert b"hunter2" not in done.stderr
        assert not files.path("never").exists()


@other_words
def test_the_wrong_half_of_a_key_is_refused(files):
    private = files.write("wrong-half.private", KEY.pem())
    public = files.write("wrong-half.public", KEY.public_pem())
    refuse_to_write(files, f"public_key_path={private}:posix:", "public_key_path")
    path = files.put(files.keys(KEY) + "posix:", b"some words")
    files.refuse(f"private_key_path={public}:posix:", path, "private_key_path")


@other_words
@pytest.mark.parametrize("form", ["pem", "dovecot"])
def test_a_wrong_password_is_an_error_and_not_shown(files, form):
    path = files.put(files.keys(KEY) + "posix:", b"some words")
    text = KEY.pem("secret") if form == "pem" else KEY.dovecot_private_under_password("secret")
    locked = f"private_key_path={files.write('locked', text)}:"
    files.refuse(locked + "posix:", path, "password")
    done = files.run("get", locked + "password=hunter2:posix:", path)
    assert (done.returncode, done.stdout) == (EX_TEMPFAIL, b"")
    said(done, "private_key_path" if files.server.options.plugin == "packaged" else "password=")
    assert b"hunter2" not in done.stderr and b"secret" not in done.stderr


@pytest.mark.packaged_defect("opaque error")
def test_a_wrong_password_in_the_settings_is_named(files):
    path = files.put(files.keys(KEY) + "posix:", b"some words")
    files.refuse("set_prefix=locked:posix:", path, "locked_private_key_password")


@pytest.mark.packaged_defect("opaque error")
@pytest.mark.parametrize("algorithm", ["aes-256-ctr-sha256", "no-such", "sha256"])
def test_an_algorithm_that_cannot_be_written_is_named(files, algorithm):
    keys = files.keys(KEY)
    refuse_to_write(files, f"algo={algorithm}:{keys}posix:", "algo=", algorithm)
    # It is no reason not to read.
    path = files.put(keys + "posix:", b"some words")
    assert files.get(f"algo={algorithm}:{keys}posix:", path) == b"some words"


def test_mail_crypt_without_a_user_takes_key_files_only(files):
    keys = files.keys(KEY)
    path = files.put(keys + "posix:", b"some words", driver="mail-crypt")
    assert files.get(keys + "posix:", path, driver="mail-crypt") == b"some words"
    refuse_to_write(files, "posix:", "storage", driver="mail-crypt")
    files.refuse("posix:", path, "storage", driver="mail-crypt")


# Damage


def damages(data: bytes):
    """Name, damaged file."""
    start = forge.header(data).length
    places = {"flags": 13, "cipher": 27, "key-id": 60, "ephemeral": 110, "wrapped": 170,
              "hash": start - 5, "first": start, "middle": (start + len(data)) // 2,
              "before-tag": -17, "tag": -16, "last": -1}
    for name, place in places.items():
        changed = bytearray(data)
        changed[place] ^= 1
        yield name, bytes(changed)
    for cut in (1, 15, 16, 17, 31, 32, 33, len(data) - start, len(data) - start + 1, len(data) - 5):
        yield f"cut-by-{cut}", data[:-cut]
    yield "longer", data + b"\0"
    yield "twice", data + data


@pytest.mark.packaged_defect("hands out what it can't verify")
@pytest.mark.parametrize("algorithm", ["aes-256-gcm-sha256", "aes-256-cbc-sha256", "camellia-256-ctr-sha256"])
@pytest.mark.parametrize("size", [3000, 300_001])
def test_not_a_byte_of_a_damaged_file_is_served(files, algorithm, size):
    keys = files.keys(KEY)
    plain = secrets.token_bytes(size)
    data = files.put(f"algo={algorithm}:{keys}posix:", plain).read_bytes()
    for name, damaged in damages(data):
        path = files.write("damaged", damaged)
        done = files.run("get", keys + "posix:", path)
        if name == "hash" and "gcm" in algorithm and done.stdout == plain:
            # The tag proves key and content: nobody needs this hash.
            continue
        assert done.stdout == b"", (name, len(done.stdout))
        assert done.returncode == EX_TEMPFAIL, (name, done)
        said(done)


NOT_ENCRYPTED = {
    "a line": b"\n",
    "a mail": b"From: a\n\nplain",
    "less than the magic": b"CRYPTED\x03",
    "nearly the magic": b"CRYPTED\x03\x06" + bytes(9000),
}


@pytest.mark.parametrize("kind", NOT_ENCRYPTED)
def test_a_file_that_is_not_encrypted_is_not_served(files, kind):
    path = files.write("plain", NOT_ENCRYPTED[kind])
    files.refuse(files.keys(KEY) + "posix:", path)
