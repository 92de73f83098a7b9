"""The fs drivers, through `doveadm fs`: what one implementation writes the other reads, with any settings and parents."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from harness import UserConfig, forge, fs24, words
from harness.fs_files import (
    DOVEADM_EX_NOTFOUND,
    EX_TEMPFAIL,
    KEY,
    KEYS,
    Files,
    said,
    server_options,
)

#: What the packaged driver can write on this Dovecot, beside what is default.
ALGORITHMS = (
    "aes-256-gcm-sha256",
    "aes-128-gcm-sha1",
    "aes-192-gcm-sha512",
    "aes-256-gcm-sha384",
    "aria-256-gcm-sha256",
    "aes-256-cbc-sha256",
    "aes-128-cbc-sha512",
    "aes-256-cfb-sha256",
    "aes-256-ofb-sha1",
    "camellia-256-cbc-sha384",
    "camellia-256-ctr-sha256",
    "aria-256-ctr-sha512",
    "des-ede3-cbc-sha256",
)
#: One byte, some blocks and a bit, more than is decrypted at once.
SIZES = (1, 5003, 300_001)


@pytest.fixture(scope="module")
def folder():
    path = Path(tempfile.mkdtemp(prefix="mcf-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


no_such_24 = pytest.mark.skipif(
    words.is_24(), reason="Dovecot 2.4 reads key files with its configuration, or has no such parameter"
)


@pytest.fixture(scope="module")
def files(shared_dovecot, folder):
    """The drivers that the tests are about."""
    return Files(shared_dovecot(**server_options(folder)), folder)


@pytest.fixture(scope="module")
def pair(files, shared_dovecot, folder):
    """Who writes and who reads, by direction."""
    packaged = Files(shared_dovecot(plugin="packaged", **server_options(folder)), folder)
    return {"packaged-writes": (packaged, files), "packaged-reads": (files, packaged)}


DIRECTIONS = ("packaged-writes", "packaged-reads")


# Both implementations


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_one_writes_the_other_reads(pair, direction, kind, algorithm):
    writer, reader = pair[direction]
    keys = writer.keys(KEYS[kind], kind)
    for size in SIZES:
        data = secrets.token_bytes(size)
        path = writer.put(f"algo={algorithm}:{keys}posix:", data)
        stored = path.read_bytes()
        assert stored.startswith(forge.MAGIC + b"\x02")
        assert data[:16] not in stored or size == 1
        expected = forge.AEAD if "gcm" in algorithm else forge.HMAC
        assert forge.header(stored).flags == expected
        assert reader.get(f"{keys}posix:", path) == data
        path.unlink()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_an_empty_file_is_an_empty_file(pair, direction):
    writer, reader = pair[direction]
    path = writer.put(writer.keys(KEY) + "posix:", b"")
    assert path.read_bytes() == b""
    # Nothing to decrypt takes no key.
    assert reader.get(reader.public(KEY) + "posix:", path) == b""


PARENTS = {
    "prefix": "posix:prefix={folder}/",
    "sis": "sis:posix:prefix={folder}/",
    "metawrap": "metawrap:posix:prefix={folder}/",
    "compress": "compress:gz:6:posix:prefix={folder}/",
    "twice": "crypt:{keys}posix:prefix={folder}/",
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("parent", PARENTS)
def test_any_parent_will_do(pair, direction, parent):
    writer, reader = pair[direction]
    keys = writer.keys(KEY)
    args = keys + PARENTS[parent].format(keys=keys, folder=writer.folder)
    for size in SIZES:
        data = secrets.token_bytes(size)
        # sis wants a hash in the name
        name = f"{secrets.token_hex(20)}-1"
        path = writer.put(args, data, name)
        assert data not in path.read_bytes() or size == 1
        assert reader.get(args, name) == data
        # written again, it is another
        writer.put(args, data[::-1], name)
        assert reader.get(args, name) == data[::-1]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("outer", ["compress:gz:6:", "sis:", "metawrap:"])
def test_it_can_be_a_parent(pair, direction, outer):
    writer, reader = pair[direction]
    driver, rest = outer.split(":", 1)
    args = f"{rest}crypt:{writer.keys(KEY)}posix:prefix={writer.folder}/"
    for size in (5003, 300_001):
        data = (secrets.token_hex(600).encode() * 500)[:size]
        name = f"{secrets.token_hex(20)}-1"
        path = writer.put(args, data, name, driver=driver)
        assert path.read_bytes().startswith(forge.MAGIC)
        assert reader.get(args, name, driver=driver) == data
        # 2.3's sis compares with what is there, and links the same; 2.4's finds nothing the same
        again = writer.put(args, data, name[:-1] + "2", driver=driver)
        assert reader.get(args, again.name, driver=driver) == data
        if driver == "sis" and not words.is_24():
            assert again.stat().st_nlink == 3


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_keys_come_from_the_settings(pair, direction):
    writer, reader = pair[direction]
    prefixes = [("", KEY), ("set_prefix=other:", KEYS["RSA"])]
    for prefix, key in prefixes[: 1 if words.is_24() else 2]:
        path = writer.put(prefix + "posix:", b"some words")
        assert forge.header(path.read_bytes()).key_ids == (key.id,)
        assert reader.get(prefix + "posix:", path) == b"some words"
    if not words.is_24():
        reader.refuse("set_prefix=other:posix:", writer.put("posix:", b"x"), "no private key")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_key_files_are_taken_in_every_form(pair, direction):
    writer, reader = pair[direction]
    forms = {
        "pem": (KEY.public_pem(), KEY.pem()),
        "base64": (KEY.public_setting(), KEY.setting().value),
        "dovecot": (KEY.dovecot_public(), KEY.dovecot_private()),
        "version1": (KEY.v1_public(), KEY.v1_private()),
    }
    for form, (public, private) in forms.items():
        public = writer.write(f"{form}.public", public)
        private = writer.write(f"{form}.private", private)
        path = writer.put(f"public_key_path={public}:posix:", form.encode())
        assert reader.get(f"private_key_path={private}:posix:", path) == form.encode()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_private_key_opens_with_its_password(pair, direction):
    writer, reader = pair[direction]
    path = writer.put(writer.public(KEY) + "posix:", b"some words")
    locked = reader.private(KEY, "locked", "secret")
    assert reader.get(f"{locked}password=secret:posix:", path) == b"some words"
    stored = reader.write("stored.private", KEY.dovecot_private_under_password("secret"))
    assert reader.get(f"private_key_path={stored}:password=secret:posix:", path) == b"some words"


only_24 = pytest.mark.skipif(not words.is_24(), reason="Dovecot 2.3 has parameters instead")


def with_blocks(files: Files, settings: str, command: str, *paths):
    """`doveadm fs` with these settings in the driver's own block."""
    config = files.server.run / f"fs-{secrets.token_hex(8)}.conf"
    driver = f"fs crypt {{\n{settings}}}\nfs posix {{\n}}\n"
    text = files.server.places.config.read_text()
    config.write_text(f"{text}{fs24.FILTER} {{\n{driver}}}\n")
    argv = ["doveadm", "-c", str(config), "fs", command, fs24.FILTER, *map(str, paths)]
    return files.server.run_program(argv, check=False)


BOTH_HALVES = """
crypt_global_public_key_file = {folder}/global.public
crypt_global_private_key main {{
crypt_private_key_file = {folder}/global-two.private
crypt_private_key_password = secret
}}
"""


@only_24
@pytest.mark.packaged_defect("finds no private key in the driver's own block")
def test_all_settings_can_be_in_the_drivers_own_block(files):
    settings = BOTH_HALVES.format(folder=files.folder)
    source, target = files.write("input", b"some words"), files.path("in-block")
    assert with_blocks(files, settings, "put", source, target).returncode == 0
    assert forge.header(target.read_bytes()).key_ids == (KEY.id,)
    assert with_blocks(files, settings, "get", target).stdout == b"some words"


@only_24
@pytest.mark.packaged_defect("knows no such file to be damaged, and serves it as it is")
def test_with_the_fallback_plain_files_are_served_and_damaged_ones_are_not(files):
    settings = BOTH_HALVES.format(folder=files.folder) + "fs_crypt_read_plain_fallback = yes\n"
    for plain in (b"", b"\n", b"From: a\n\nplain", b"CRYPTED\x03", b"x" * 300_000):
        done = with_blocks(files, settings, "get", files.write("plain", plain))
        assert (done.returncode, done.stdout) == (0, plain)
    data = bytearray(files.put(files.keys(KEY) + "posix:", b"some words").read_bytes())
    encrypted = files.write("encrypted", bytes(data))
    assert with_blocks(files, settings, "get", encrypted).stdout == b"some words"
    data[-1] ^= 1
    done = with_blocks(files, settings, "get", files.write("damaged", bytes(data)))
    assert (done.returncode, done.stdout) == (EX_TEMPFAIL, b"")


@only_24
@pytest.mark.packaged_defect("finds no private key in the driver's own block")
def test_an_empty_algorithm_writes_what_it_is_given(files):
    settings = BOTH_HALVES.format(folder=files.folder) + "crypt_write_algorithm =\n"
    target = files.path("as-it-is")
    done = with_blocks(files, settings, "put", files.write("input", b"some words"), target)
    assert done.returncode == 0, done
    assert target.read_bytes() == b"some words"


# What an administrator does


def test_copies_stay_encrypted_and_readable(files):
    args = files.keys(KEY) + "posix:"
    path = files.put(args, b"some words")
    copy = files.path("copy")
    assert files.run("copy", args, path, copy).returncode == 0
    assert copy.read_bytes() == path.read_bytes()
    assert files.get(args, copy) == b"some words"
    done = files.run("copy", args, files.path("nothing"), copy)
    assert done.returncode == DOVEADM_EX_NOTFOUND


def test_the_other_commands_are_the_parents(files):
    args = files.keys(KEY) + "posix:"
    folder = files.path("listed")
    folder.mkdir()
    path = files.put(args, b"some words", folder / "one")
    listed = files.run("iter", args, folder)
    assert listed.stdout == b"one\n", listed
    size = path.stat().st_size
    assert files.run("stat", args, path).stdout.strip() == f"{path} size={size}".encode()
    done = files.run("metadata", args, path)
    assert done.returncode == 0 and b"OrigPath" in done.stdout, done
    assert files.run("delete", args, path).returncode == 0
    assert not path.exists()
    assert files.run("delete", args, path).returncode == DOVEADM_EX_NOTFOUND
    assert files.run("stat", args, path).returncode == DOVEADM_EX_NOTFOUND


@no_such_24
def test_commands_without_content_need_no_keys(files):
    path = files.write("no-keys", b"anything")
    args = "public_key_path=/nonexistent:private_key_path=/nonexistent:posix:"
    assert files.run("stat", args, path).returncode == 0
    assert files.run("copy", args, path, files.path("no-keys2")).returncode == 0
    assert files.run("delete", args, path).returncode == 0


def test_a_missing_file_is_just_missing(files):
    unreadable = () if words.is_24() else ("private_key_path=/nonexistent:",)
    for args in (files.keys(KEY), files.public(KEY), *unreadable):
        done = files.run("get", args + "posix:", files.path("nothing"))
        assert done.returncode == DOVEADM_EX_NOTFOUND, done
        assert done.stdout == b""


@pytest.mark.packaged_defect("knows no parent without parameters", on="2.3")
def test_a_parent_needs_no_parameters(files):
    keys = files.keys(KEY)
    path = files.put(keys + "posix", b"some words")
    assert files.get(keys + "posix", path) == b"some words"


@no_such_24
@pytest.mark.parametrize(
    "args, expected",
    [
        ("", "parameters"),
        ("algo=aes-256-gcm-sha256:", "parameters"),
        ("passwrd=hunter2:posix:", "invalid parameter 'passwrd'"),
        ("no-such-driver:", "unknown fs driver: no-such-driver"),
    ],
)
def test_bad_parameters_are_named(files, args, expected):
    done = files.run("get", args, files.path("nothing"))
    assert done.returncode != 0
    said(done, "crypt: ", expected)
    assert b"hunter2" not in done.stderr


# Legacy and odd


@pytest.mark.parametrize("kind", ["P-256", "P-521"])
@pytest.mark.parametrize("size", SIZES)
def test_a_version_1_file_is_read(files, kind, size):
    data = secrets.token_bytes(size)
    path = files.write("version1", forge.version1(data, KEYS[kind]))
    assert files.get(files.keys(KEYS[kind], kind) + "posix:", path) == data


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 5003, 300_001])
@pytest.mark.parametrize("kind", KEYS)
def test_a_file_without_integrity_is_read(files, kind, size):
    if files.server.options.plugin == "packaged" and size < 17:
        pytest.skip("the packaged driver can't read the shortest")
    data = secrets.token_bytes(size)
    stream = forge.Stream(data, KEYS[kind], flags=forge.NO_INTEGRITY, cipher=forge.AES_CBC)
    path = files.write("without", stream.data())
    assert files.get(files.keys(KEYS[kind], kind) + "posix:", path) == data


# Resources


def test_large_files_take_little_memory_and_no_temporary_file(files, plugin, dovecot):
    if plugin == "packaged":
        pytest.skip("has no such limits")
    server = dovecot(users={"alice": UserConfig()}, temp_dir="/nonexistent/folder")
    here = Files(server, files.folder)
    args = files.keys(KEY) + "posix:"
    data = os.urandom(1 << 20) * 50
    small, large = here.write("small", b"x"), here.write("large", data)

    def peak(command, *paths) -> tuple[int, bytes]:
        """Kilobytes, and what was printed."""
        argv = here.argv(command, args, *paths)
        done = server.run_program([sys.executable, "-c", MEASURE, *argv])
        assert done.stderr.count(b"\n") == 1, done.stderr
        return int(done.stderr), done.stdout

    here.put(args, b"x", here.path("small.crypt"))
    base, _ = peak("get", here.path("small.crypt"))
    writing, _ = peak("put", large, here.path("large.crypt"))
    reading, got = peak("get", here.path("large.crypt"))
    assert got == data
    assert writing - base < 8 * 1024, (base, writing)
    assert reading - base < 8 * 1024, (base, reading)
    for path in (large, here.path("large.crypt"), small):
        path.unlink()


MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(done.returncode)
"""


def test_plaintext_of_a_file_is_nowhere(files):
    word = secrets.token_hex(20).encode()
    args = files.keys(KEY) + "posix:"
    temp = files.server.temp_dir
    path = files.put(args, word * 20_000)
    files.path("input").unlink()
    assert files.get(args, path) == word * 20_000
    for place in (files.folder, temp):
        for found in place.rglob("*"):
            assert not found.is_file() or word not in found.read_bytes(), found


def test_a_process_without_a_mail_store_can_use_it(files, dovecot):
    """The dict service has none of Dovecot's storage code."""
    keys = files.keys(KEY)
    place = files.path("dict")
    place.mkdir()
    place.chmod(0o777)
    for key_file in files.folder.glob("key.*"):
        key_file.chmod(0o644)
    files.folder.chmod(0o755)
    extra, name = words.fs_dict("encrypted", f"{keys}posix:prefix={place}/")
    server = dovecot(users={"alice": UserConfig()}, attribute_dict=None, extra=extra)
    server.doveadm("dict", "set", "-u", "alice", name, "shared/name", "some words")
    answer = server.doveadm("dict", "get", "-u", "alice", name, "shared/name").stdout
    assert answer.strip() == b"some words"
    (stored,) = [p for p in place.rglob("*") if p.is_file()]
    assert stored.read_bytes().startswith(forge.MAGIC)
