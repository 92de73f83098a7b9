"""IMAP's own extensions: CATENATE, URLAUTH, COMPRESS, and a client that hibernates."""

from __future__ import annotations

import re
import time
import zlib

import pytest
from conf import plugins
from harness import CryptConfig, Mail, UserConfig, words
from harness.spoil import READABLE, SPOILT, spoil

KEY = CryptConfig(password="of-the-key")


def configuration() -> str:
    """Every process may reach the sockets that only Dovecot's own user can by default."""
    text = "imap_urlauth_host = localhost\nimap_hibernate_timeout = 1s\n"
    text += "service imap {\nunix_listener imap-master {\nmode = 0666\n}\n}\n"
    text += "service imap-hibernate {\nunix_listener imap-hibernate {\nmode = 0666\n}\n}\n"
    text += "service imap-urlauth-login {\nunix_listener imap-urlauth {\nmode = 0666\n}\n}\n"
    text += "service imap-urlauth {\nunix_listener token-login/imap-urlauth {\nmode = 0666\n}\n}\n"
    text += "service imap-urlauth-worker {\nunix_listener imap-urlauth-worker {\nmode = 0666\n}\n}\n"
    return text if words.is_24() else text + plugins("imap_zlib", protocol="imap")


@pytest.fixture(scope="module")
def server(shared_dovecot):
    names = ("catenate", "urlauth-owner", "urlauth-reader", "reader", "compress", "asleep")
    return shared_dovecot(users={name: UserConfig(KEY) for name in names}, fetch_failure="no-after", extra=configuration())


def catenate(session, uid: int) -> tuple[str, bytes]:
    """APPEND of a mail that is made of another one's text; status and answer."""
    head = b"From: <sender@example.org>\r\nSubject: made of parts\r\n\r\n"
    tag = session._new_tag()
    session.send(tag + f' APPEND Made CATENATE (TEXT {{{len(head)}+}}\r\n'.encode() + head)
    session.send(f' URL "/INBOX/;UID={uid}/;SECTION=TEXT")\r\n'.encode())
    while not (line := session.readline()).startswith(tag):
        assert line, "the session has ended"
    return line.split()[1].decode(), line


@pytest.mark.packaged_defect("makes mails of damaged ones")
def test_catenate_takes_no_part_of_a_mail_that_cannot_be_read(server):
    spoilt = spoil(server, "catenate")
    spoilt.check()
    server.log.expect("Error: ")
    mark = server.log.mark()
    with server.imap("catenate") as session:
        session.create("Made")
        session.folder()
        for uid in SPOILT:
            assert catenate(session, uid)[0] == "NO"
        for uid in READABLE:
            assert catenate(session, uid)[0] == "OK"
        made = session.bodies("Made")
    texts = [spoilt.mails[uid].data.split(b"\r\n\r\n", 1)[1] for uid in READABLE]
    assert [body.split(b"\r\n\r\n", 1)[1] for body in made] == texts
    for uid in SPOILT:
        spoilt.named(uid, mark)
    assert spoilt.in_files() == []


@pytest.mark.packaged_defect("hands out the damaged mail")
@pytest.mark.parametrize("reader", ("owner", "reader"))
def test_a_url_of_a_mail_that_cannot_be_read_gives_nothing(server, reader):
    if reader != "owner" and not words.is_24():
        pytest.skip("imap-urlauth-login of 2.3 panics whatever is loaded (sasl_server_auth_begin)")
    owner = f"urlauth-{reader}"
    spoilt = spoil(server, owner)
    spoilt.check()
    server.log.expect("Error: ")
    late = Mail.make(1300)
    with server.imap(owner) as session:
        assert session.put(late.data)[0] == "OK"
        session.folder()
        urls = {uid: generate(session, owner, uid) for uid in (*spoilt.mails, 5)}
    # No new URLs for what can't be read; one that is older gives nothing.
    assert [uid for uid, url in urls.items() if url] == [*READABLE, 5]
    server.store.stored(owner)[-1].flip(-1)
    mark = server.log.mark()
    with server.imap(owner if reader == "owner" else reader) as session:
        for uid, mail in ((2, spoilt.mails[2].data), (5, None), (4, spoilt.mails[4].data)):
            assert url_fetch(session, urls[uid]) == mail
        assert session.noop()[0] == "OK"
    spoilt.named(5, mark)
    assert spoilt.in_files() == []


def generate(session, owner: str, uid: int) -> str | None:
    """GENURLAUTH for everybody who can log in; None if it is refused."""
    url = f"imap://{owner}@localhost/INBOX/;UID={uid};URLAUTH=authuser"
    _, lines = session.raw(f'GENURLAUTH "{url}" INTERNAL')
    found = [re.search(r'GENURLAUTH "?([^"]+)"?$', line) for line in lines]
    return found[0].group(1) if found and found[0] else None


def url_fetch(session, url: str) -> bytes | None:
    """URLFETCH; None where there is nothing."""
    tag = session._new_tag()
    session.send(tag + f' URLFETCH "{url}"\r\n'.encode())
    data = None
    while not (line := session.readline()).startswith(tag):
        assert line, "the session has ended"
        if size := re.search(rb"\{(\d+)\}\r\n$", line):
            data = session.read(int(size.group(1)))
    return data


@pytest.mark.packaged_defect("hands out the damaged mail")
def test_a_compressed_session(server):
    spoilt = spoil(server, "compress")
    spoilt.check()
    with server.imap("compress") as session:
        assert session.raw("COMPRESS DEFLATE")[0].startswith("OK")
        pack, unpack = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)
        sock, got = session.sock, b""
        for tag, command in (("z1", "SELECT INBOX"), ("z2", "UID FETCH 1:* (UID BODY.PEEK[])"), ("z3", "NOOP")):
            sock.sendall(pack.compress(f"{tag} {command}\r\n".encode()) + pack.flush(zlib.Z_SYNC_FLUSH))
            while not re.search(rb"^%s (OK|NO)" % tag.encode(), got, re.MULTILINE):
                data = sock.recv(65536)
                assert data, got
                got += unpack.decompress(data)
        # What the harness says last would not be compressed.
        session.logout = session.shutdown
    assert b"z2 NO" in got and b"z3 OK" in got
    assert [uid for uid, mail in spoilt.mails.items() if mail.data in got] == list(READABLE)
    assert not any(word.encode() in got for uid in SPOILT for word in spoilt.mails[uid].words)
    assert spoilt.in_files() == []


@pytest.mark.packaged_defect("hands out the damaged mail")
def test_a_client_that_was_asleep_reads_what_it_could_before(server):
    spoilt = spoil(server, "asleep")
    spoilt.check()
    late = Mail.make()

    def deliver_when_asleep():
        until = time.monotonic() + 20
        while server.processes("imap"):
            assert time.monotonic() < until, "the client isn't hibernated"
            time.sleep(0.05)
        server.deliver("asleep", late)

    with server.imap("asleep") as session:
        session.folder()
        assert session.fetch_uids().items == spoilt.readable
        session.idle_until(r"\* 5 EXISTS", deliver_when_asleep)
        mark = server.log.mark()
        answer = session.fetch_uids()
        assert answer.status == "NO" and answer.items.pop(5).endswith(late.data)
        assert answer.items == spoilt.readable
        assert session.noop()[0] == "OK"
    for uid in SPOILT:
        spoilt.named(uid, mark)
    assert spoilt.in_files() == []
