"""Mail that was encrypted already when it was stored: as after a restore without the plugin, into a folder with it."""

from __future__ import annotations

import re

import pytest
from harness import CryptConfig, Key, Mail, UserConfig, forge

STORAGES = ("maildir", "sdbox", "mdbox")
KEY = Key.ec()


@pytest.fixture(scope="module")
def server(shared_dovecot):
    crypt = CryptConfig(curve=None, global_public=KEY.public_setting(), global_private=(KEY.setting(),))
    users = {f"{s}-{n}": UserConfig(crypt, storage=s) for s in STORAGES for n in (2000, 700_000)}
    users |= {f"{s}-gz": UserConfig(crypt, storage=s, compress="gz") for s in STORAGES}
    return shared_dovecot(users=users, fetch_failure="no-after")


def ciphertext(mail: Mail) -> bytes:
    """The mail, encrypted. There is no line break in its header: doveadm save would change it, and it would be no header
    any more."""
    while True:
        data = forge.Stream(mail.lines, KEY).data()
        if b"\n" not in data[:400]:
            return data


@pytest.mark.packaged_defect("serves the ciphertext")
@pytest.mark.parametrize("which", ("2000", "700000", "gz"))
@pytest.mark.parametrize("storage", STORAGES)
def test_ciphertext_inside_of_a_mail_is_refused_with_the_reason(server, storage, which):
    user = f"{storage}-{which}"
    server.log.expect("encrypted twice")
    mails = [Mail.make(1000), Mail.make(700_000 if which == "700000" else 2000), Mail.make(1000)]
    inner = ciphertext(mails[1])
    with server.imap(user) as session:
        assert session.put(mails[0].data)[0] == "OK"
    # IMAP changes NUL bytes; what restores mail doesn't.
    server.doveadm("save", "-u", user, stdin=inner)
    with server.imap(user) as session:
        assert session.put(mails[2].data)[0] == "OK"
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
