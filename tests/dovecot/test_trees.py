"""Mail that TREES wrote, for people who move over. `vectors/trees/README.md` says how the files were made."""

from __future__ import annotations

import contextlib
import hashlib
import imaplib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import CryptConfig, Mail, UserConfig, modules
from harness.store import MAGIC

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "trees"
PASSWORD = "c0rrect-h0rse"
#: As TREES put them into the files' names: the first one counts the last chunk twice.
SIZES = {
    "short": (600, 309),
    "chunk-less-1": (16382, 8335),
    "chunk": (8192, 8355),
    "chunk-and-1": (8194, 8340),
    "chunks": (24776, 25147),
}
FILES = ("chunk-less-1", "chunk", "chunk-and-1", "chunks")
TOLD = "reading mail that TREES wrote: that it is complete and in order can't be proven"
pytestmark = pytest.mark.packaged_refuses("it knows nothing of TREES")

SUMS = {name: digest for digest, name in (line.split() for line in (VECTORS / "SHA256SUMS").read_text().splitlines())}


def fields(user="argon2id", **others):
    """A user's trees_* fields; None takes one out."""
    lines = (VECTORS / f"{user}.fields").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines) | {"trees_password": PASSWORD}
    found |= {f"trees_{name}": value for name, value in others.items()}
    return tuple((name, value) for name, value in found.items() if value is not None)


def user(extra=None, **options):
    return UserConfig(CryptConfig(password="0urs"), extra=fields() if extra is None else extra, **options)


def put(server, name, files=FILES, change=lambda data: data, sizes=True):
    """Files of TREES in a user's INBOX, as that left them."""
    folder = server.store.home(name) / "Maildir" / "cur"
    if not folder.is_dir():
        server.doveadm("mailbox", "status", "-u", name, "messages", "INBOX")
        folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files):
        data = (VECTORS / f"{file}.trees").read_bytes()
        text = ",S=%d,W=%d" % SIZES[file] if sizes else ""
        path = folder / f"{1600000000 + number}.M{number + 1}P1.host{text}:2,S"
        path.write_bytes(change(data))
    for path in (folder, folder.parent, *folder.iterdir()):
        owner = server.store.home(name).stat()
        if os.getuid() == 0:
            os.chown(path, owner.st_uid, owner.st_gid)
    # They come before all that is stored from now on.
    server.doveadm("mailbox", "status", "-u", name, "messages", "INBOX")


def sums(bodies):
    return [hashlib.sha256(body.replace(b"\r\n", b"\n")).hexdigest() for body in bodies]


def expected(files=FILES):
    return [SUMS[file] for file in files]


def on_disk(server, name):
    return [stored.data for stored in server.store.stored(name)]


@pytest.mark.parametrize("sizes", [True, False], ids=["sizes", "no-sizes"])
@pytest.mark.parametrize("files", [("short",), FILES], ids=["argon2i", "argon2id"])
def test_a_folder_with_both_kinds_of_mail_is_read(dovecot, files, sizes):
    extra = fields("argon2i") if files == ("short",) else fields()
    server = dovecot(users={"alice": user(extra)})
    put(server, "alice", files, sizes=sizes)
    ours = Mail.make(5000)
    with server.imap("alice") as session:
        session.put(ours.data)
    mark = server.log.mark()
    with server.imap("alice") as session:
        bodies = session.bodies()
        assert sums(bodies[:-1]) == expected(files)
        assert bodies[-1] == ours.data
        assert sums(session.bodies()[:-1]) == expected(files)
    assert len(server.log.wait_for(TOLD, mark)) == 1
    with server.imap("alice") as session:
        session.folder()
        sizes = {uid: len(body) for uid, body in zip(session.uids(), bodies)}
        for uid, size in sizes.items():
            answer = session.uid("FETCH", str(uid), "(RFC822.SIZE)")
            assert f"RFC822.SIZE {size}".encode() in answer[1][0]
            start = max(0, size - 300)
            part = session.uid("FETCH", str(uid), f"(BODY.PEEK[]<{start}.300>)")[1][0][1]
            assert part == bodies[list(sizes).index(uid)][start:]


def test_the_key_of_the_box_takes_the_passwords_place(dovecot):
    unlock = (VECTORS / "argon2id.secretbox-key").read_text().strip()
    server = dovecot(users={"alice": user(fields(password=None, secretbox_key=unlock))})
    put(server, "alice")
    with server.imap("alice") as session:
        assert sums(session.bodies()) == expected()


def test_a_copy_of_it_is_encrypted_by_ours(dovecot):
    server = dovecot(users={"alice": user()})
    put(server, "alice")
    with server.imap("alice") as session:
        session.create("Moved")
        session.folder()
        uids = session.uids()
        assert session.uid("COPY", ",".join(map(str, uids)), "Moved")[0] == "OK"
        assert sums(session.bodies("Moved")) == expected()
        # Within the folder it stays what it is.
        session.folder()
        assert session.uid("COPY", str(uids[0]), "INBOX")[0] == "OK"
        assert sums(session.bodies()) == [*expected(), expected()[0]]
    stored = on_disk(server, "alice")
    assert sum(data.startswith(MAGIC) for data in stored) == len(FILES)
    assert sum(data.startswith(b"\xee\xff\xcc") for data in stored) == len(FILES) + 1


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (fields(password="wr0ng"), "trees_password: the box with the private key doesn't open with it"),
        (fields(password=None), "neither trees_password nor trees_secretbox_key is there"),
        (fields(sk_nonce=None), "trees_sk_nonce is not set"),
        (fields(pwhash_salt="c0ffee"), "trees_pwhash_salt: 16 bytes are needed"),
        (fields(pwhash_memlimit="4398046510080"), r"trees_pwhash_\*: .*memlimit 4398046510080"),
        (fields(enabled="0"), "trees_enabled is not 1 for this user"),
        ((), "trees_enabled is not 1 for this user"),
    ],
    ids=["wrong-password", "no-password", "no-nonce", "bad-salt", "too-much-memory", "off", "no-fields"],
)
def test_without_its_key_it_is_an_error_that_names_the_field(dovecot, extra, reason):
    server = dovecot(users={"alice": user(extra)}, fetch_failure="no-after")
    put(server, "alice")
    ours = Mail.make(3000)
    with server.imap("alice") as session:
        session.put(ours.data)
    server.log.expect("Error:")
    with server.imap("alice") as session:
        session.folder()
        *trees, last = session.uids()
        answer = session.fetch_uids()
        assert list(answer.items) == [last] and answer.status == "NO"
        assert session.noop()[0] == "OK"
    for uid in trees:
        assert server.log.wait_for(rf"alice.*(UID|uid)[= ]{uid}\b.*{reason}")
    assert not server.log.lines(TOLD)


def shortened(data):
    return data[:-30]


def without_last_chunk(data):
    return data[: 7 + 8240 * ((len(data) - 7) // 8240)]


def flipped(data):
    return data[:9000] + bytes([data[9000] ^ 1]) + data[9001:]


def start_flipped(data):
    return bytes([data[0] ^ 1]) + data[1:]


def another_version(data):
    return data[:6] + b"\x02" + data[7:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (shortened, "tampered: chunk 4"),
        (without_last_chunk, "truncated: the file's last chunk is missing"),
        (flipped, "tampered: chunk 2"),
        (start_flipped, "corrupt: .*nearly those of a mail that TREES wrote"),
        (another_version, "unsupported: TREES version 2"),
    ],
    ids=lambda change: getattr(change, "__name__", None),
)
def test_a_damaged_mail_is_an_error_of_that_mail(dovecot, change, reason):
    server = dovecot(users={"alice": user()}, fetch_failure="no-after")
    put(server, "alice", ("chunks",), change, sizes=False)
    ours = Mail.make(3000)
    with server.imap("alice") as session:
        session.put(ours.data)
    server.log.expect("Error:")
    with server.imap("alice") as session:
        session.create("Moved")
        session.folder()
        spoilt, last = session.uids()
        answer = session.fetch_uids()
        assert (answer.items, answer.status) == ({last: ours.data}, "NO")
        assert re.search("damaged|changed|can't read", answer.text)
    with server.imap("alice") as session:
        session.folder()
        assert session.uid("COPY", str(spoilt), "Moved")[0] == "NO"
        assert session.folder("Moved") == 0
    assert server.log.wait_for(rf"alice.*(UID|uid)[= ]{spoilt}\b.*{reason}")


def test_a_large_mail_that_changes_while_it_is_read_is_not_served(dovecot):
    """What was verified is what is served: chunks that open by themselves, in each other's place, are not."""
    # Too large to be kept: chunks are read a second time.
    data = (VECTORS / "chunks.trees").read_bytes()
    chunks = [data[7 + n * 8240 : 7 + (n + 1) * 8240] for n in range(3)]
    body = b"".join(chunks[n % 3] for n in range(100))

    def large(_):
        return data[:7] + body + data[7 + 3 * 8240 :]

    server = dovecot(users={"alice": user()})
    put(server, "alice", ("chunks",), large, sizes=False)
    with server.imap("alice", timeout=60) as session:
        session.folder()
        (uid,) = session.uids()
        assert session.fetch_uids().items[uid]
        file = server.store.mail_files("alice")[0]
        times = file.stat()
        with open(file, "r+b") as opened:
            opened.seek(7 + 8240)
            opened.write(chunks[2] + chunks[1])
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        server.log.expect("Error:")
        # Dovecot ends the session, as at any mail that changes while it is read.
        with contextlib.suppress(imaplib.IMAP4.abort):
            part = session.uid("FETCH", str(uid), "(BODY.PEEK[]<0.1000>)")
            assert part[0] == "NO"
    server.log.wait_for("tampered: the file changed while it was read")


def test_dbox_files_of_trees_are_read(dovecot):
    server = dovecot(users={"alice": user(storage="sdbox")})
    with server.imap("alice") as session:
        session.put(Mail.make(700).data)
    (stored,) = server.store.stored("alice")
    shutil.copyfile(VECTORS / "sdbox.trees", stored.path)
    # What Dovecot knows of the mail before, such as its size.
    for index in stored.path.parent.glob("dovecot.index*"):
        index.unlink()
    server.doveadm("force-resync", "-u", "alice", "INBOX")
    with server.imap("alice") as session:
        assert sums(session.bodies()) == expected(("sdbox",))


def test_keys_of_ours_are_deleted_beside_it(dovecot):
    """Looking for mail that needs the key passes over what needs none of ours."""
    server = dovecot(users={"alice": user()})
    put(server, "alice")
    server.deliver("alice", Mail.make(300))
    with server.imap("alice") as session:
        session.folder()
        session.uid("STORE", str(session.uids()[-1]), "+FLAGS", r"(\Deleted)")
        session.expunge()
    (old,) = next(iter(server.store.folder_keys("alice").values()))
    server.doveadm("mailbox", "cryptokey", "generate", "-u", "alice", "-f", "INBOX")
    done = server.doveadm("mailbox", "cryptokey", "delete", "-u", "alice", "-m", "INBOX", old, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_converted_in_its_place(dovecot):
    server = dovecot(users={"alice": user()}, extra="maildir_broken_filename_sizes = yes\n")
    put(server, "alice")
    with server.imap("alice") as session:
        session.folder()
        uids = session.uids()
    done = server.doveadm("mailbox", "crypt", "convert", "-u", "alice", "INBOX")
    assert TOLD.encode() in done.stderr
    assert all(data.startswith(MAGIC) for data in on_disk(server, "alice"))
    server.set_user("alice", user(()))
    with server.imap("alice") as session:
        assert sums(session.bodies()) == expected()
        session.folder()
        assert session.uids() == uids


def test_what_has_a_wrong_size_in_its_name_is_converted_only_where_dovecot_passes_over_that(dovecot):
    """Else a client's session would end at the mail."""
    server = dovecot(users={"alice": user()})
    put(server, "alice")
    done = server.doveadm("mailbox", "crypt", "convert", "-u", "alice", "INBOX", check=False)
    assert done.returncode != 0
    assert done.stderr.count(b"Set maildir_broken_filename_sizes = yes") == 3
    # A mail of whole chunks has the right size.
    assert sum(data.startswith(MAGIC) for data in on_disk(server, "alice")) == 1
    with server.imap("alice") as session:
        assert sums(session.bodies()) == expected()


def test_what_cannot_be_read_is_left_as_it_is(dovecot):
    server = dovecot(users={"alice": user(fields(password="wr0ng"))})
    put(server, "alice", sizes=False)
    before = on_disk(server, "alice")
    server.log.expect("Error:")
    done = server.doveadm("mailbox", "crypt", "convert", "-u", "alice", "INBOX", check=False)
    assert done.returncode != 0
    assert b"trees_password: the box with the private key doesn't open with it" in done.stderr
    assert on_disk(server, "alice") == before


def tool(*args, stdin=b"", code=0):
    path = os.environ.get("MAIL_CRYPT_TOOL") or modules.build_folder() / "bin" / "mail-crypt"
    done = subprocess.run([path, *map(str, args)], input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr.decode()
    assert code == 0 or not done.stdout
    return done


@pytest.mark.parametrize("file", [*FILES, "sdbox"])
def test_the_tool_decrypts_it(file):
    vector = VECTORS / f"{file}.trees"
    options = ("--trees", VECTORS / "argon2id.fields", "--password-stdin")
    done = tool("decrypt", vector, *options, stdin=PASSWORD.encode())
    assert hashlib.sha256(done.stdout).hexdigest() == SUMS[file]
    assert done.stderr.count(b"that it is complete and in order can't be proven") == 1
    facts = json.loads(tool("inspect", vector, "--json").stdout)
    assert (facts["format"], facts["version"], facts["plain_size"]) == ("TREES", 1, len(done.stdout))


def test_the_tool_takes_fields_as_trees_create_prints_them(tmp_path):
    pairs = [(name.removeprefix("trees_"), value) for name, value in fields("argon2i", password=None)]
    path = tmp_path / "fields"
    path.write_text("{\n" + ",\n".join(f'  "{name}": "{value}"' for name, value in pairs) + "\n}\n")
    done = tool("decrypt", VECTORS / "short.trees", "--trees", path, "--password-stdin", stdin=PASSWORD.encode())
    assert hashlib.sha256(done.stdout).hexdigest() == SUMS["short"]
    unlock = (VECTORS / "argon2i.secretbox-key").read_text()
    path.write_text(path.read_text() + f"secretbox_key = {unlock}")
    done = tool("decrypt", VECTORS / "short.trees", "--trees", path)
    assert hashlib.sha256(done.stdout).hexdigest() == SUMS["short"]


def test_the_tool_writes_nothing_of_what_it_cannot_prove(tmp_path):
    vector, given = VECTORS / "chunks.trees", ("--trees", VECTORS / "argon2id.fields", "--password-stdin")
    said = tool("decrypt", vector, *given, stdin=b"wr0ng", code=6).stderr
    assert b"trees_password" in said
    assert b"trees_password" in tool("decrypt", vector, *given[:2], code=5).stderr
    assert b"--trees" in tool("decrypt", vector, "--key", "/dev/null", code=2).stderr
    for change, code in ((flipped, 4), (shortened, 4), (without_last_chunk, 3), (another_version, 7)):
        spoilt = tmp_path / change.__name__
        spoilt.write_bytes(change(vector.read_bytes()))
        tool("decrypt", spoilt, *given, stdin=PASSWORD.encode(), code=code)
