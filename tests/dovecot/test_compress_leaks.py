"""Large compressed mail: no plaintext in any file, whatever a client does, and bounded memory.

The compression plugin keeps what it decompresses in a file in mail_temp_dir.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import itertools
import lzma
import os
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import CryptConfig, Instance, Key, Mail, Store, UserConfig, forge, words

STORAGES = ("maildir", "sdbox", "mdbox")
ALGORITHMS = ("gz", "bz2", "lz4", "zstd")
MB = 1024 * 1024
LEAK = "keeps decrypted or decompressed mail in a plaintext temporary file"

password = CryptConfig(password="secret")


@pytest.fixture(scope="module")
def server(shared_dovecot):
    users = {
        f"{storage}-{name}": UserConfig(password, storage=storage, compress=name)
        for storage, name in itertools.product(STORAGES, ALGORITHMS)
    }
    for storage, number in itertools.product(STORAGES, (0, 1)):
        users[f"{storage}-none-{number}"] = UserConfig(password, storage=storage)
    for number in range(8):
        users[f"gz-{number}"] = UserConfig(password, compress="gz")
    return shared_dovecot(users=users, fetch_failure="no-after")


def leaks(server: Instance, pid: int, words: tuple[str, ...]) -> list[str]:
    """Where the words stand: in a process's deleted files, under mail_temp_dir, in the store."""
    found = []
    for name, path in server.open_files(pid).items():
        if "(deleted)" in name and path.is_file():
            data = path.read_bytes()
            found += [f"{name}: {word}" for word in words if word.encode() in data]
    if server.temp_dir.is_dir():
        found += Store.find_words(server.temp_dir, words)
    return found + Store.find_words(server.store.path, words)


def spooled(server: Instance, pid: int) -> int:
    """Bytes in the process's deleted files of mail_temp_dir."""
    inside = f"{server.temp_dir}/"
    files = server.open_files(pid).items()
    return sum(p.stat().st_size for n, p in files if inside in n and p.is_file())


def partially(session, uid: int, size: int, step: int = MB) -> bytes:
    """A mail in pieces, one FETCH each."""
    pieces = []
    for start in range(0, size, step):
        answer = session.fetch_uids(f"BODY.PEEK[]<{start}.{step}>", str(uid))
        assert answer.status == "OK", answer.text
        pieces.append(answer.items[uid])
    return b"".join(pieces)


def compressible(size: int) -> Mail:
    """A mail that shrinks to next to nothing."""
    mail = Mail.make(2000)
    lines = b"the same again and again and again and again\r\n" * (size // 46)
    return Mail(mail.data + lines + mail.words[2].encode() + b"\r\n", mail.words, mail.subject)


@pytest.mark.packaged_defect(LEAK)
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_read_is_in_no_file(server, storage, algorithm):
    check_reading(server, f"{storage}-{algorithm}", Mail.make(4 * MB))


@pytest.mark.packaged_defect(LEAK)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_small_only_on_disk_is_in_no_file(server, algorithm):
    mail = compressible(20 * MB)
    check_reading(server, f"maildir-{algorithm}", mail)


def check_reading(server: Instance, user: str, mail: Mail) -> None:
    with server.imap(user, timeout=60) as session:
        assert session.put(mail.data)[0] == "OK"
        session.folder()
        uid = session.uids()[-1]
        pid = server.process_of(session)
        head = hashlib.sha256()
        seen = 0
        for data in session.stream(f"UID FETCH {uid} BODY.PEEK[]"):
            head.update(data)
            seen += len(data)
            if seen - len(data) < len(mail.data) // 2 <= seen:
                assert not leaks(server, pid, mail.words), "during FETCH"
        assert head.digest() == hashlib.sha256(mail.data).digest()
        assert not leaks(server, pid, mail.words), "after FETCH"
        assert spooled(server, pid) >= len(mail.lines) // 2, "where is it, then?"
        assert partially(session, uid, len(mail.data)) == mail.data
        assert not leaks(server, pid, mail.words), "after partial FETCH"
        assert session.uids("BODY", mail.words[2]) == [uid]
        assert not leaks(server, pid, mail.words), "after SEARCH"
        assert session.sizes()[-1] == len(mail.data)


@pytest.mark.packaged_defect(LEAK)
@pytest.mark.parametrize("storage", STORAGES)
def test_a_copied_mail_is_in_no_file(server, storage):
    mail = Mail.make(4 * MB)
    with server.imap(f"{storage}-gz") as session:
        session.put(mail.data)
        session.folder()
        session.create("Copies")
        uid = session.uids()[-1]
        assert session.uid("COPY", str(uid), "Copies")[0] == "OK"
        pid = server.process_of(session)
        assert not leaks(server, pid, mail.words)
        session.folder("Copies")
        assert session.fetch_uids(uids="*").items.popitem()[1] == mail.data
        assert not leaks(server, pid, mail.words)


@pytest.mark.packaged_defect(LEAK)
def test_a_mail_read_by_pop3_is_in_no_file(server):
    mail = Mail.make(4 * MB)
    with server.imap("gz-0") as session:
        session.put(mail.data)
    session = server.pop3("gz-0")
    _, lines, _ = session.retr(1)
    assert b"\r\n".join(lines) + b"\r\n" == mail.data
    (pid,) = server.processes("pop3")
    found = leaks(server, pid, mail.words)
    session.quit()
    assert not found


@pytest.mark.packaged_defect(LEAK)
def test_a_small_mail_needs_no_file(server):
    mail = Mail.make(300_000)
    with server.imap("gz-1") as session:
        session.put(mail.data)
        session.folder()
        pid = server.process_of(session)
        assert session.fetch_uids().items[1] == mail.data
        assert spooled(server, pid) == 0
        assert not leaks(server, pid, mail.words)


def test_pieces_cost_no_more_than_the_whole(server):
    """A FETCH of a piece must not decrypt and decompress everything before it."""
    mail = Mail.make(20 * MB)

    def used(pid: int) -> int:
        fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    with server.imap("gz-2", timeout=60) as session:
        session.put(mail.data)
    times = []
    for whole in (True, False):
        with server.imap("gz-2", timeout=60) as session:
            session.folder()
            pid = server.process_of(session)
            before = used(pid)
            if whole:
                assert session.fetch_uids().items[1] == mail.data
            else:
                assert partially(session, 1, len(mail.data)) == mail.data
            times.append(used(pid) - before)
    assert times[1] < 4 * times[0] + 20, times


@pytest.fixture
def bad_folder():
    """A name for a folder that can't be used."""
    path = Path("/tmp") / f"mct-{secrets.token_hex(8)}"
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.packaged_refuses("logs errors, and keeps all of it in memory")
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kind", ["missing", "read-only", "full"])
def test_without_a_usable_mail_temp_dir_everything_is_read_as_well(
    dovecot, bad_folder, storage, kind
):
    if kind == "read-only":
        if os.getuid() != 0:
            pytest.skip("needs a folder of another user")
        bad_folder.mkdir(mode=0o755)
    # bzip2 is slow enough for one
    names = ALGORITHMS if (kind, storage) == ("missing", "maildir") else ("gz",)
    users = {name: UserConfig(password, storage=storage, compress=name) for name in names}
    temp_dir = None if kind == "full" else str(bad_folder)
    server = dovecot(users=users, temp_dir=temp_dir)
    if kind == "full":
        fill_up(server)
    for name in names:
        mail = Mail.make(2 * MB)
        with server.imap(name, timeout=60) as session:
            assert session.put(mail.data)[0] == "OK"
            session.folder()
            pid = server.process_of(session)
            assert session.fetch_uids().items == {1: mail.data}, name
            # there and back
            for start in (MB + 1, 17, 2 * MB - 100, 0):
                what = f"BODY.PEEK[]<{start}.200000>"
                piece = mail.data[start : start + 200_000]
                assert session.fetch_uids(what).items[1] == piece, (name, what)
            assert session.uids("BODY", mail.words[2]) == [1]
            assert not leaks(server, pid, mail.words)
            assert spooled(server, pid) == 0
    assert len(server.log.lines("mail_crypt: .*temporary file")) >= len(names)


def fill_up(server: Instance) -> None:
    """Put a file system with room for nothing over the instance's mail_temp_dir."""
    master = server._master.pid
    done = subprocess.run(
        ["nsenter", "-m", "-t", str(master), "mount", "-t", "tmpfs", "-o", "size=256k,mode=1777",
         "tmpfs", str(server.temp_dir)],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"can't mount: {done.stderr.decode()}")


@pytest.mark.timeout(300)
def test_memory_is_bounded_for_a_mail_of_200_mb(plugin, dovecot):
    """At most 32 MB above what Dovecot takes for the same without any encryption."""
    peaks = {}
    size = 200 * MB
    for which in ("none", plugin):
        server = dovecot(
            plugin=which,
            users={"user": UserConfig(password, compress="gz")},
            extra=words.plugin("zlib_save_level = 1"),
        )
        mail = Mail.make(size)
        with server.imap("user", timeout=100) as session:
            assert session.put(mail.data)[0] == "OK"
        digest = hashlib.sha256(mail.data).digest()
        del mail
        with server.imap("user", timeout=100) as session:
            session.folder()
            got = hashlib.sha256()
            for data in session.stream("UID FETCH 1 BODY.PEEK[]"):
                got.update(data)
            assert got.digest() == digest
            session.fetch_uids(f"BODY.PEEK[]<{size // 2}.{MB}>")
            status = open(f"/proc/{server.process_of(session)}/status").read()
            peaks[which] = int(status.split("VmHWM:")[1].split()[0])
        server.close()
    print("VmHWM in KB:", peaks)
    assert peaks[plugin] < peaks["none"] + 32 * 1024, peaks


# What Dovecot itself would not compress, or not so


@pytest.mark.parametrize("size", [2000, 3 * MB], ids=["small", "large"])
def test_a_mail_that_only_looks_compressed_comes_back_as_it_was(server, size):
    mail = b"BZh9: so does bzip2 begin\r\n" + Mail.make(size).data
    with server.imap("gz-3") as session:
        status, text = session.put(mail)
        assert status == "OK", text
        session.folder()
        uid = session.uids()[-1]
        for _ in range(2):
            assert session.fetch_uids("BODY.PEEK[]", str(uid)).items[uid] == mail
        assert partially(session, uid, len(mail)) == mail
        header = session.fetch_uids("BODY.PEEK[HEADER]", str(uid)).items[uid]
        assert header == mail[: len(header)] and header.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("size", [2000, 3 * MB], ids=["small", "large"])
def test_a_mail_that_the_client_compressed_is_refused_where_saving_does_not(
    server, storage, size
):
    with server.imap(f"{storage}-none-{int(size > MB)}") as session:
        status, text = session.put(gzip.compress(Mail.make(size).lines))
        assert status == "NO"
        assert "compressed" in text
        assert session.folder() == 0
        mail = Mail.make(size)
        assert session.put(mail.data)[0] == "OK"
        session.folder()
        assert list(session.fetch_uids().items.values()) == [mail.data]


@pytest.fixture(scope="module")
def key():
    return Key.ec()


@pytest.fixture(scope="module")
def forgeable(shared_dovecot, key):
    """Users with one global key: so that a test can write the files."""
    crypt = CryptConfig(
        curve=None, global_public=key.public_setting(), global_private=(key.setting(),)
    )
    names = [f"u{number}" for number in range(30)]
    server = shared_dovecot(
        users={name: UserConfig(crypt, compress="gz") for name in names},
        attribute_dict=None,
        fetch_failure="no-after",
    )
    return server, iter(names)


def put_packed(forgeable, key, mail: Mail, packed: bytes) -> str:
    """A user whose only mail is compressed so."""
    server, names = forgeable
    user = next(names)
    with server.imap(user) as session:
        session.put(mail.data)
    (stored,) = server.store.stored(user)
    stored.replace(forge.Stream(packed, key).data())
    return user


#: Its compression plugin serves such mail as it is, encrypted or not.
needs_xz = pytest.mark.skipif(words.is_24(), reason="Dovecot 2.4 knows no xz")


def in_parts(data: bytes) -> bytes:
    """gzip allows that files are put together."""
    half = len(data) // 2
    return gzip.compress(data[:half]) + gzip.compress(data[half:])


@pytest.mark.packaged_defect(LEAK)
@pytest.mark.parametrize(
    "pack",
    [
        pytest.param(lzma.compress, id="xz", marks=needs_xz),
        pytest.param(in_parts, id="parts"),
        pytest.param(bz2.compress, id="bz2"),
    ],
)
@pytest.mark.parametrize("size", [200_000, 3 * MB], ids=["small", "large"])
def test_what_other_programs_compressed_is_read(forgeable, key, pack, size):
    server, _ = forgeable
    mail = Mail.make(size)
    with server.imap(put_packed(forgeable, key, mail, pack(mail.lines))) as session:
        session.folder()
        assert session.fetch_uids().items == {1: mail.data}
        pid = server.process_of(session)
        assert partially(session, 1, len(mail.data)) == mail.data
        assert not leaks(server, pid, mail.words)


def changed(packed: bytes) -> bytes:
    data = bytearray(packed)
    data[len(data) * 3 // 4] ^= 0x55
    return bytes(data)


DAMAGE = {
    "cut": lambda data: gzip.compress(data)[:-500],
    "changed": lambda data: changed(gzip.compress(data)),
    "only-magic": lambda data: b"\x1f\x8b" + data,
    "bz2-cut": lambda data: bz2.compress(data)[:-30],
    "xz-cut": lambda data: lzma.compress(data)[:-30],
}


@pytest.mark.parametrize(
    "damage", [pytest.param(d, marks=needs_xz if d.startswith("xz") else ()) for d in DAMAGE]
)
@pytest.mark.parametrize("size", [2000, 3 * MB], ids=["small", "large"])
@pytest.mark.packaged_defect("notices it in the middle of the literal and ends the session")
def test_a_mail_that_cannot_be_decompressed_is_an_error_of_that_mail_only(
    forgeable, key, damage, size
):
    server, _ = forgeable
    spoilt, intact = Mail.make(size), Mail.make()
    user = put_packed(forgeable, key, spoilt, DAMAGE[damage](spoilt.lines))
    server.log.expect("can't be decompressed", "read.*failed")
    with server.imap(user) as session:
        session.put(intact.data)
        session.folder()
        pid = server.process_of(session)
        answer = session.fetch_uids()
        assert answer.status == "NO"
        assert answer.items == {2: intact.data}
        # the session lives, and the mail can be got rid of
        session.store("1", "+FLAGS", r"(\Deleted)")
        session.expunge()
        assert session.fetch_uids().items == {2: intact.data}
        assert server.process_of(session) == pid
