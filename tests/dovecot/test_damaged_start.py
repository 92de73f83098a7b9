"""Mail that was encrypted, and doesn't look so any more: damage at its very beginning, and other mail in its place."""

from __future__ import annotations

import itertools
import re

import pytest
from harness import CryptConfig, Key, Mail, UserConfig, forge

STORAGES = ("maildir", "sdbox", "mdbox")
SUPPLY = 30
MAGIC_SIZE = 9
#: Maildir puts no size into the names of files that it doesn't write itself, as after a migration.
KINDS = (*STORAGES, "maildir-unsized")
GLOBAL = Key.ec()
REFUSED = "mail_crypt: (corrupt|truncated|tampered): not the mail that was stored"


@pytest.fixture(scope="module")
def server(shared_dovecot):
    names = itertools.product(STORAGES, range(SUPPLY))
    users = {f"{s}-{n}": UserConfig(CryptConfig(password="c0rrect-h0rse"), storage=s) for s, n in names}
    users |= {f"{s}-plain": UserConfig(CryptConfig(save_version=0), storage=s) for s in STORAGES}
    users |= {f"{s}-arrived": UserConfig(CryptConfig(password="c0rrect-h0rse"), storage=s) for s in STORAGES}
    users |= {f"{s}-late": UserConfig(plugin=False, storage=s) for s in STORAGES}
    return shared_dovecot(users=users, fetch_failure="no-after")


@pytest.fixture(scope="module")
def supply():
    return {storage: iter(range(SUPPLY)) for storage in STORAGES}


@pytest.fixture
def three(server, supply):
    """A fresh user with three mails; the last one is for the test to spoil."""

    def make(kind, size=2000, read=False):
        storage = kind.split("-")[0]
        user = f"{storage}-{next(supply[storage])}"
        mails = [Mail.make(1000), Mail.make(3000), Mail.make(size)]
        for mail in mails:
            with server.imap(user) as session:
                session.put(mail.data)
        if kind == "maildir-unsized":
            for path in server.store.mail_files(user):
                # Under another name it is a new mail.
                path.rename(path.with_name(re.sub(",[SW]=[0-9]+", "", path.name)))
        if read:
            with server.imap(user, timeout=60) as session:
                assert session.bodies() == [m.data for m in mails]
        return user, mails

    return make


def check_refused(server, user, mails, reason=REFUSED):
    """The last mail is an error of its own, in the log with all that names it; it can't be copied, either."""
    server.log.expect("Error:")
    with server.imap(user) as session:
        session.folder()
        *uids, spoilt = session.uids()
    others = {uid: mail.data for uid, mail in zip(uids, mails)}
    mark = server.log.mark()
    with server.imap(user, timeout=15) as session:
        session.create("Copied")
        session.folder()
        answer = session.fetch_uids()
        assert (answer.items, answer.status) == (others, "NO")
        assert re.search("damaged|changed", answer.text)
        assert session.noop()[0] == "OK"
    with server.imap(user, timeout=15) as session:
        session.folder()
        assert session.uid("COPY", str(spoilt), "Copied")[0] == "NO"
        assert session.folder("Copied") == 0
    lines = server.log.wait_for(rf"Error: .*(UID|uid)[= ]{spoilt}\b", mark)
    assert all(f"({user})" in line and "INBOX" in line and re.search(reason, line) for line in lines), lines


@pytest.mark.packaged_defect("serves the ciphertext, or ends the session")
@pytest.mark.parametrize("size", (2000, 300_000))
@pytest.mark.parametrize("kind", KINDS)
def test_ciphertext_is_never_served_as_a_mail(server, three, kind, size):
    user, mails = three(kind, size)
    stored = server.store.stored(user)[-1]
    stored.flip(4)
    check_refused(server, user, mails)


@pytest.mark.packaged_defect("serves the ciphertext, or ends the session")
@pytest.mark.parametrize("byte", range(MAGIC_SIZE))
def test_any_byte_of_the_magic_may_be_damaged(server, three, byte):
    user, mails = three("sdbox")
    server.store.stored(user)[-1].flip(byte, 0x20)
    check_refused(server, user, mails)


@pytest.mark.packaged_defect("serves the ciphertext, or ends the session")
@pytest.mark.parametrize("kind", STORAGES)
def test_a_mail_whose_first_block_is_gone_is_refused_by_its_size(server, three, kind):
    user, mails = three(kind)
    stored = server.store.stored(user)[-1]
    stored.replace(bytes(512) + stored.data[512:])
    check_refused(server, user, mails)


@pytest.mark.packaged_defect("ends the session, or serves what is left")
@pytest.mark.parametrize("left", (0, 1, 8))
@pytest.mark.parametrize("kind", KINDS)
def test_a_mail_of_which_no_more_than_a_few_bytes_are_left_is_refused(server, three, kind, left):
    # Without a size in its name, that of a file is known once it was read.
    user, mails = three(kind, read=kind not in STORAGES)
    stored = server.store.stored(user)[-1]
    stored.replace(stored.data[:left])
    check_refused(server, user, mails)


@pytest.mark.packaged_defect("serves it")
@pytest.mark.parametrize("kind", KINDS)
def test_plaintext_is_not_served_for_a_mail_that_is_known_to_be_encrypted(server, three, kind):
    user, mails = three(kind, read=True)
    server.store.stored(user)[-1].replace(Mail.make(2000).lines)
    check_refused(server, user, mails, "mail_crypt: tampered: not the mail that was stored: .*index.cache")


@pytest.mark.parametrize("storage", STORAGES)
def test_a_plaintext_copy_is_served_whatever_is_known_of_the_mail_that_it_was_made_of(server, three, storage):
    """A copy inherits what is cached of a mail."""
    user, mails = three(storage, read=True)
    with server.imap(user) as session:
        session.create("Copied")
        session.folder()
    saved = server.users[user]
    server.set_user(user, UserConfig(CryptConfig(save_version=0, password="c0rrect-h0rse"), storage=storage, password=saved.password))
    with server.imap(user) as session:
        session.folder("Copied")
        session.folder()
        assert session.uid("COPY", "1:*", "Copied")[0] == "OK"
    # Twice, since Dovecot knows what is in the cache only once a mail was looked at.
    for _ in range(2):
        with server.imap(user) as session:
            assert session.bodies("Copied") == [m.data for m in mails]
    assert server.store.find_words(server.store.home(user), mails[0].words)


#: What a mail may begin with; the last ones are no proper mail, but somebody has them.
PLAIN = {
    "usual": b"From: <a@example.org>\n\nbody\n",
    "magic-name": b"CRYPTED: a header\n\nbody\n",
    "magic-word": b"CRYPTED\n\nno header at all\n",
    "escape": b"Subject: \x1b$B%\x1b(B\n\nISO-2022-JP as it is\n",
    "no-header": b"\n\na body alone\n",
    "short": b"a: b\n\n",
    "one-byte": b"X",
    "none": b"",
    "zeros": bytes(300) + b"\n\nbody\n",
    "binary": bytes(range(1, 100)),
}


@pytest.mark.parametrize("sized", (False, True))
@pytest.mark.parametrize("which", PLAIN)
def test_mail_that_was_never_encrypted_is_served(server, which, sized):
    user = "maildir-plain"
    data = PLAIN[which]
    with server.imap(user) as session:
        session.create("Brought")
        before = session.folder("Brought")
    folder = server.store.home(user) / "Maildir" / ".Brought" / "new"
    path = folder / (f"17000000{before:02}.M1P{which}.host" + (f",S={len(data)}" if sized else ""))
    path.write_bytes(data)
    path.chmod(0o644)
    wanted = data.replace(b"\n", b"\r\n").replace(b"\0", b"\x80")
    for _ in range(2):
        with server.imap(user) as session:
            assert session.folder("Brought") == before + 1
            answer = session.fetch_uids(uids="*")
            assert (list(answer.items.values()), answer.status) == ([wanted], "OK")


@pytest.mark.parametrize("storage", STORAGES)
def test_mail_that_arrives_may_look_like_a_damaged_one(server, storage):
    user = f"{storage}-arrived"
    odd = bytearray(forge.Stream(Mail.make().lines, GLOBAL).data())
    odd[3] ^= 1
    mails = [bytes(odd), b"CRYPTEX\x03\x07 and text\n\nbody\n", b"CRY"]
    for mail in mails:
        server.lda(user, mail)
    with server.imap(user) as session:
        bodies = session.bodies()
    assert len(bodies) == 3
    for mail, body in zip(mails, bodies):
        plain = mail.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").replace(b"\0", b"\x80")
        assert body.endswith(plain) or body.rstrip().endswith(plain.rstrip())


@pytest.mark.parametrize("storage", STORAGES)
def test_mail_of_before_encryption_is_served(server, storage):
    user = f"{storage}-late"
    mails = [Mail.make() for _ in range(3)]
    with server.imap(user) as session:
        for mail in mails:
            session.put(mail.data)
    password = server.users[user].password
    server.set_user(user, UserConfig(CryptConfig(password="c0rrect-h0rse"), storage=storage, password=password))
    for _ in range(2):
        with server.imap(user) as session:
            assert session.bodies() == [m.data for m in mails]
