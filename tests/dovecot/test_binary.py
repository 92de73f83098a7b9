"""IMAP's BINARY: the same answers as without encryption, and nothing decoded in any file.

Dovecot itself keeps every decoded part above 8 KB in a file in mail_temp_dir.
"""

from __future__ import annotations

import base64
import quopri
import random
import re
import secrets

import pytest
from harness import CryptConfig, Mail, Store, UserConfig

MB = 1024 * 1024
STORAGES = ("maildir", "sdbox", "mdbox")
LEAK = "keeps decoded parts in a plaintext temporary file"
HEAD = (
    "From: <sender@example.org>\r\nTo: <user@example.org>\r\nMIME-Version: 1.0\r\n"
    "Date: Fri, 3 May 2024 10:00:00 +0000\r\nSubject: parts\r\n"
)


def leaf(encoding: str | None, data: bytes, kind: str = "application/octet-stream") -> bytes:
    """A part with this content, encoded so."""
    if encoding == "base64":
        body = base64.encodebytes(data).replace(b"\n", b"\r\n")
    elif encoding == "quoted-printable":
        body = quopri.encodestring(data).replace(b"\n", b"\r\n")
    else:
        body = data
    line = f"Content-Transfer-Encoding: {encoding}\r\n" if encoding else ""
    return f"Content-Type: {kind}\r\n{line}\r\n".encode() + body


def multipart(*parts: bytes, kind: str = "mixed", preamble: bytes = b"") -> bytes:
    mark = secrets.token_hex(8)
    head = f'Content-Type: multipart/{kind}; boundary="{mark}"\r\n\r\n'.encode()
    middle = b"".join(f"--{mark}\r\n".encode() + p + b"\r\n" for p in parts)
    return head + preamble + middle + f"--{mark}--\r\n".encode()


def message(inner: bytes) -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\n" + whole(inner)


def whole(part: bytes) -> bytes:
    return HEAD.encode() + part


def binary(size: int) -> bytes:
    """All bytes, NUL too."""
    return random.Random(size).randbytes(size)


MAILS = {
    "text": whole(leaf(None, b"plain\r\ntext\r\n", "text/plain")),
    "no-body": whole(b"Content-Transfer-Encoding: base64\r\n\r\n"),
    "header-only": HEAD.encode() + b"\r\n",
    "base64": whole(leaf("base64", binary(5000))),
    "large-base64": whole(leaf("base64", binary(3 * MB))),
    "attachments": whole(
        multipart(
            leaf("quoted-printable", "Grüße\r\n".encode() * 500, "text/plain; charset=utf-8"),
            leaf("base64", binary(100_000), "image/png"),
            leaf("8bit", "Grüße\r\n".encode() * 3000, "text/plain"),
            leaf("7bit", b"x\r\n" * 3),
            preamble=b"for older readers\r\n",
        )
    ),
    "nested": whole(
        multipart(
            multipart(
                leaf("quoted-printable", b"a = b\r\n", "text/plain"),
                leaf("base64", b"<b>a</b>\r\n" * 900, "text/html"),
                kind="alternative",
            ),
            message(multipart(leaf("base64", binary(30_000)), leaf(None, b"end\r\n"))),
            message(leaf("quoted-printable", b"= alone =\r\n")),
        )
    ),
    "unknown": whole(multipart(leaf("rot13", b"uryyb"), leaf("base64", b"known"))),
    "invalid": whole(multipart(leaf("7bit", b"-"), leaf("BASE64", b"!")))
    .replace(b"BASE64\r\n\r\n!", b"base64\r\n\r\n!!! this = is not base64 !!!"),
}
SECTIONS = ("", "1", "2", "3", "4", "1.1", "1.2", "2.1", "2.2", "2.1.1", "5")


@pytest.fixture(scope="module")
def servers(shared_dovecot, plugin):
    """The plugin's and one without encryption, with the same users."""
    users = {
        f"{storage}-{compress or 'plain'}": UserConfig(
            CryptConfig(password="secret"), storage=storage, compress=compress
        )
        for storage in STORAGES
        for compress in (None, "gz")
    }
    users |= {f"user{n}": UserConfig(CryptConfig(password="secret")) for n in range(4)}
    return {which: shared_dovecot(plugin=which, users=dict(users)) for which in (plugin, "none")}


def answers(server, user: str, mail: bytes, ranges: tuple[str, ...]) -> dict[str, object]:
    """What BINARY says of every section; and that BINARY.SIZE agrees with it."""
    found: dict[str, object] = {}
    with server.imap(user) as session:
        assert session.put(mail)[0] == "OK"
        session.folder()
        uid = session.uids()[-1]
        for section in SECTIONS:
            for part in ranges:
                what = f"BINARY.PEEK[{section}]{part}"
                answer = session.fetch_uids(what, str(uid))
                reason = re.sub(r" \([\d.]+ \+ .*", "", answer.text)
                found[what] = (answer.status, reason, answer.items.get(uid))
    return found


def check_sizes(server, user: str, found: dict[str, object]) -> None:
    """Of the last mail; Dovecot's own are wrong for mails within mails, and cached ones."""
    with server.imap(user) as session:
        session.folder()
        uid = session.uids()[-1]
        for section in SECTIONS:
            status, _, data = found[f"BINARY.PEEK[{section}]"]
            got, rows = session.uid("FETCH", str(uid), f"(BINARY.SIZE[{section}])")
            session.untagged_responses.clear()
            assert got == status, section
            if status == "OK":
                size = int(re.search(rb"BINARY.SIZE\[.*\] (\d+)", rows[0]).group(1))
                assert size == len(data or b""), section


@pytest.mark.packaged_defect("BINARY.SIZE is wrong")
def test_a_size_is_that_of_the_answer(servers, plugin):
    server = servers[plugin]
    server.log.expect("Invalid data in MIME part", "read.*failed")
    for mail in MAILS.values():
        found = answers(server, "user1", mail, ("",))
        check_sizes(server, "user1", found)


@pytest.mark.parametrize("name", MAILS)
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("compress", ["plain", "gz"])
def test_binary_answers_as_without_encryption(servers, plugin, name, storage, compress):
    for server in servers.values():
        server.log.expect("Invalid data in MIME part", "read.*failed")
    ranges = ("", "<0.100>", "<3000.70000>", "<1500000.9000>") if storage == "maildir" else ("",)
    given = f"{storage}-{compress}", MAILS[name], ranges
    got = answers(servers[plugin], *given)
    expected = answers(servers["none"], *given)
    for what, answer in expected.items():
        assert got[what] == answer, what


@pytest.mark.packaged_defect("takes a folded line for an unknown encoding")
def test_a_folded_encoding_is_known(servers, plugin):
    server = servers[plugin]
    mail = whole(b"Content-Transfer-Encoding:\r\n base64\r\n\r\n" + base64.encodebytes(b"known"))
    with server.imap("user2") as session:
        session.put(mail)
        session.folder()
        assert session.fetch_uids("BINARY.PEEK[1]").items == {1: b"known"}


@pytest.mark.packaged_defect(LEAK)
@pytest.mark.parametrize("size", [20_000, 3 * MB], ids=["small", "large"])
def test_a_decoded_part_is_in_no_file(servers, plugin, size):
    server = servers[plugin]
    mail = Mail.make(size)
    data = whole(multipart(leaf(None, b"see below\r\n"), leaf("base64", mail.data)))
    with server.imap("user0") as session:
        session.put(data)
        session.folder()
        uid = str(session.uids()[-1])
        pid = server.process_of(session)
        for _ in range(2):
            for what in ("BINARY.PEEK[2]", "BINARY.PEEK[2]<100.7000>", "BINARY.PEEK[]"):
                answer = session.fetch_uids(what, uid)
                assert answer.status == "OK", answer.text
                if what == "BINARY.PEEK[2]":
                    assert answer.items[int(uid)] == mail.data
                for file, path in server.open_files(pid).items():
                    if "(deleted)" in file and path.is_file():
                        content = path.read_bytes()
                        assert not [w for w in mail.words if w.encode() in content], (file, what)
        assert not Store.find_words(server.temp_dir, mail.words)


@pytest.mark.packaged_refuses("logs errors, and keeps all of it in memory")
def test_without_mail_temp_dir_parts_are_decoded_as_well(dovecot):
    server = dovecot(
        users={"user": UserConfig(CryptConfig(password="secret"), compress="gz")},
        temp_dir=f"/tmp/mct-{secrets.token_hex(8)}",
    )
    content = binary(3 * MB)
    with server.imap("user") as session:
        session.put(whole(multipart(leaf(None, b"-"), leaf("base64", content))))
        session.folder()
        for _ in range(2):
            assert session.fetch_uids("BINARY.PEEK[2]").items[1] == content
            for start in (2 * MB, 10, MB):
                answer = session.fetch_uids(f"BINARY.PEEK[2]<{start}.300000>")
                assert answer.items[1] == content[start : start + 300_000]
        status, (row,) = session.uid("FETCH", "1", "(BINARY.SIZE[2])")
        assert f"{len(content)}".encode() in row
