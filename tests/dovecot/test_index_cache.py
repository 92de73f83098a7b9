"""Dovecot's index cache, in which the plugin keeps fields of its own: what it says of a mail is true."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from harness import CryptConfig, Mail, UserConfig, words

STORAGES = ("maildir", "sdbox", "mdbox")
FOLDERS = ("INBOX", "A", "B", "C", "D", "E", "F")
#: What a client asks for when it shows a folder.
LIST = "(UID ENVELOPE BODY.PEEK[HEADER.FIELDS (FROM SUBJECT MESSAGE-ID)])"


@pytest.fixture(scope="module")
def server(shared_dovecot):
    """A virtual folder in which one folder at a time is open, so that each is opened many times."""
    crypt = CryptConfig(password="c0rrect-h0rse")
    users = {s + n: UserConfig(crypt, storage=s) for s in STORAGES for n in ("", "-spoilt")}
    return shared_dovecot(users=users, extra=words.virtual_folders("~/virtual", 1))


def virtual_folder(server, user: str, name: str = "All") -> None:
    """A virtual folder of all of the user's mail."""
    home = server.store.home(user)
    folder = home / "virtual" / name
    folder.mkdir(parents=True)
    # Not "*": that would be the virtual folder itself, too.
    (folder / "dovecot-virtual").write_text("".join(f"{f}\n" for f in FOLDERS) + "  all\n")
    owner = home.stat()
    for path in (folder.parent, folder, folder / "dovecot-virtual"):
        os.chown(path, owner.st_uid, owner.st_gid)


def listed(session, uids: str = "1:*") -> str:
    """What the list of these mails shows."""
    status, rows = session.uid("FETCH", uids, LIST)
    assert status == "OK"
    return b"\n".join(b"".join(row) if isinstance(row, tuple) else row for row in rows).decode("latin-1")


def check(session, folder: str, mails: list[Mail]) -> None:
    """The list is that of these mails, and a search finds each."""
    session.folder(folder, readonly=True)
    text = listed(session)
    assert not re.search(r"[^\x20-\x7e\r\n]", text), "bytes that are in no header"
    assert text.count("From: <sender@example.org>\r\n") == len(mails)
    # ENVELOPE's from, sender and reply-to.
    assert text.count('"sender" "example.org"') == 3 * len(mails)
    for mail in mails:
        assert text.count(f'"{mail.subject}"') == 1 and text.count(f"Subject: {mail.subject}\r\n") == 1
        assert len(session.uids("HEADER", "SUBJECT", mail.subject)) == 1
    assert len(session.uids("FROM", "sender@example.org")) == len(mails)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_folder_that_is_opened_many_times_is_listed_right(server, storage):
    mails = {folder: [Mail.make() for _ in range(3)] for folder in FOLDERS}
    virtual_folder(server, storage)
    with server.imap(storage) as session:
        for folder in FOLDERS[1:]:
            session.create(folder)
    # Of the mails that one session stores, only the first one's key is worth an entry.
    for folder, kept in mails.items():
        for mail in kept:
            with server.imap(storage) as session:
                assert session.put(mail.data, folder)[0] == "OK"
    everything = [mail for kept in mails.values() for mail in kept]
    # Mail by mail, or else all folders stay open. In which order a folder's fields come to be known depends on what is
    # asked first after it was opened.
    count = len(everything)
    for third in (1, 2, 3):
        with server.imap(storage) as session:
            session.folder("virtual/All")
            for uid in range(third, count + 1, 3):
                assert session.fetch_uids(uids=str(uid)).status == "OK"
            for uid in range(1, count + 1):
                listed(session, str(uid))
            for uid in range(1, count + 1):
                assert session.fetch_uids(uids=str(uid)).status == "OK"
    with server.imap(storage) as session:
        check(session, "virtual/All", everything)
    # What was cached stays, and others look at it.
    with server.imap(storage) as session:
        for folder, kept in mails.items():
            check(session, folder, kept)


def caches(server, user: str) -> list[Path]:
    return [path for path in server.store.files(user) if path.name == "dovecot.index.cache"]


@pytest.mark.packaged_refuses("has no fields in the cache")
@pytest.mark.parametrize("storage", STORAGES)
def test_a_cache_that_an_earlier_release_may_have_spoilt_is_made_anew(server, storage):
    """It named its fields otherwise, and could put what belongs into them into a header's field."""
    user = f"{storage}-spoilt"
    mails = [Mail.make() for _ in range(3)]
    for mail in mails:
        with server.imap(user) as session:
            assert session.put(mail.data)[0] == "OK"
    with server.imap(user) as session:
        assert session.bodies() == [mail.data for mail in mails]
        check(session, "INBOX", mails)
    (path,) = caches(server, user)
    cache = path.read_bytes()
    assert b"mail_crypt.content-key" in cache and mails[1].subject.encode() in cache
    old = cache.replace(b"mail_crypt.content-key", b"mail_crypt.content_key")
    path.write_bytes(old.replace(mails[1].subject.encode(), os.urandom(len(mails[1].subject)).replace(b"\n", b" ")))
    server.log.expect("Deleting corrupted cache")
    mark = server.log.mark()
    for _ in range(3):
        with server.imap(user) as session:
            check(session, "INBOX", mails)
            assert session.bodies() == [mail.data for mail in mails]
    assert len(server.log.lines("Deleting corrupted cache: mail_crypt: ", mark)) == 1
    (path,) = caches(server, user)
    assert b"mail_crypt.content_key" not in path.read_bytes()
    assert b"mail_crypt.content-key" in path.read_bytes()
