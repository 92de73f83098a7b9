"""Mail that was encrypted already when it was stored: as after a restore without the plugin, into a folder with it."""

from __future__ import annotations

import re
import textwrap

import pytest
from harness import CryptConfig, Key, Mail, Store, UserConfig, forge

STORAGES = ("maildir", "sdbox", "mdbox")
#: Its id is in every header: see `ciphertext`.
KEY = next(key for key in iter(Key.ec, None) if "0a" not in textwrap.wrap(key.id, 2))


@pytest.fixture(scope="module")
def store():
    with Store() as store:
        yield store


@pytest.fixture(scope="module")
def users():
    crypt = CryptConfig(curve=None, global_public=KEY.public_setting(), global_private=(KEY.setting(),))
    users = {f"{s}-{n}": UserConfig(crypt, storage=s) for s in STORAGES for n in (2000, 700_000)}
    users |= {f"{s}-gz": UserConfig(crypt, storage=s, compress="gz") for s in STORAGES}
    return users | {f"{name}-twice": user for name, user in users.items()}


@pytest.fixture(scope="module")
def server(shared_dovecot, store, users):
    return shared_dovecot(users=dict(users), store=store, fetch_failure="no-after")


@pytest.fixture(scope="module")
def packaged(shared_dovecot, store, users):
    """It stores what is encrypted already."""
    return shared_dovecot(users=dict(users), store=store, plugin="packaged")


def ciphertext(mail: Mail) -> bytes:
    """The mail, encrypted. There is no line break in its header: doveadm save would change it, and it would be no header
    any more."""
    while True:
        data = forge.Stream(mail.lines, KEY).data()
        if b"\n" not in data[:400]:
            return data


def save(server, user: str, way: str, data: bytes) -> str:
    """Has the data stored; what is said if it isn't."""
    if way == "doveadm":
        done = server.doveadm("save", "-u", user, stdin=data, check=False)
        return done.stderr.decode() if done.returncode else ""
    if way == "lda":
        return "failed" if server.lda(user, data, check=False).returncode else ""
    with server.imap(user) as session:
        tag = session._new_tag()
        session.send(tag + b" APPEND INBOX ~{%d+}\r\n" % len(data) + data + b"\r\n")
        while not (line := session.readline()).startswith(tag):
            assert line
    return "" if line.startswith(tag + b" OK") else line.decode()


@pytest.mark.packaged_defect("stores it, without its CRs, and serves what is left")
@pytest.mark.parametrize("way", ("doveadm", "lda", "append"))
@pytest.mark.parametrize("which", ("2000", "700000", "gz"))
@pytest.mark.parametrize("storage", STORAGES)
def test_a_mail_that_is_encrypted_already_is_not_stored(server, storage, which, way):
    """Dovecot keeps no CR before an LF, and so couldn't keep it."""
    user = f"{storage}-{which}"
    server.log.expect("encrypted already")
    with server.imap(user) as session:
        before = session.bodies()
    said = save(server, user, way, ciphertext(Mail.make(700_000 if which == "700000" else 2000)))
    assert "encrypted already" in said or (way == "lda" and said), said
    mail = Mail.make()
    assert not save(server, user, way, mail.data)
    with server.imap(user) as session:
        *old, new = session.bodies()
    assert old == before and new.endswith(mail.data)


@pytest.mark.packaged_defect("serves the ciphertext")
@pytest.mark.parametrize("which", ("2000", "700000", "gz"))
@pytest.mark.parametrize("storage", STORAGES)
def test_ciphertext_inside_of_a_mail_is_refused_with_the_reason(server, packaged, storage, which):
    user = f"{storage}-{which}-twice"
    mails = [Mail.make(1000), Mail.make(700_000 if which == "700000" else 2000), Mail.make(1000)]
    inner = ciphertext(mails[1])
    for data in (mails[0].data, inner, mails[2].data):
        # IMAP changes NUL bytes; what restores mail doesn't.
        packaged.doveadm("save", "-u", user, stdin=data)
    server.log.expect("encrypted twice")
    mark = server.log.mark()
    for _ in range(3):
        with server.imap(user, timeout=20) as session:
            session.create("Copied")
            for _ in range(2):
                session.folder()
                answer = session.fetch_uids()
                assert (answer.items, answer.status) == ({1: mails[0].data, 3: mails[2].data}, "NO")
                assert "encrypted in a way" in answer.text
            for part in ("BODY.PEEK[]<100.50>", "BODY.PEEK[TEXT]"):
                session.folder()
                assert not session.fetch_uids(part, "2").items
            assert session.noop()[0] == "OK"
    lines = server.log.wait_for("encrypted twice", mark)
    assert all(re.search(rf"\({user}\).*INBOX.*(UID|uid)[= ]2\b.*--twice", line) for line in lines), lines


def test_a_mail_that_only_begins_with_the_magic_is_served(server):
    """A client may send anything, and the magic alone is nothing encrypted."""
    user = "maildir-2000"
    odd = forge.MAGIC + b"\x02 looks encrypted\r\n\r\nbody\r\n"
    with server.imap(user) as session:
        session.create("Odd")
        assert session.put(odd, "Odd")[0] == "OK"
        assert session.bodies("Odd") == [odd]
