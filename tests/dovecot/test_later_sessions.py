"""Large mails in later sessions: no more is read than asked for, and what is served is still checked."""

from __future__ import annotations

import imaplib
import os
from pathlib import Path

import pytest
from harness import DovecotVersion, Mail, UserConfig, multipart

STORAGES = ("maildir", "sdbox", "mdbox")
SIZE = 6_000_000


@pytest.fixture(scope="module")
def server(shared_dovecot):
    names = ("part", "whole", "silent", "known", "shown", "moved", "again")
    users = {f"{s}-{n}": UserConfig(storage=s) for s in STORAGES for n in names}
    return shared_dovecot(users=users, fetch_failure="no-after")


def read_by(pid: int) -> int:
    """The bytes that a process has read so far, from wherever."""
    return int(Path(f"/proc/{pid}/io").read_text().split("rchar:")[1].split()[0])


def first_session(server, user: str, mail: bytes) -> None:
    """Reads a mail for the first time, once it is stored."""
    with server.imap(user) as session:
        session.put(mail)
    with server.imap(user, timeout=60) as session:
        session.folder()
        assert session.fetch_uids().items == {1: mail}


@pytest.mark.packaged_defect("decrypts all that comes before the part")
@pytest.mark.parametrize("storage", STORAGES)
def test_a_later_session_reads_no_more_of_a_large_mail_than_it_asks_for(server, storage):
    user = f"{storage}-part"
    parts = [b"a few words\r\n", Mail.make(SIZE).data.partition(b"\r\n\r\n")[2], b"a few more\r\n"]
    mail = multipart(*parts)
    first_session(server, user, mail)
    # Dovecot looks for the parts once, and remembers where they are.
    with server.imap(user, timeout=60) as session:
        session.folder()
        assert session.fetch_uids("BODY.PEEK[3]").items == {1: parts[2]}
    with server.imap(user, timeout=60) as session:
        session.folder()
        pid = server.process_of(session)
        before = read_by(pid)
        assert session.fetch_uids("BODY.PEEK[3]").items == {1: parts[2]}
        assert session.fetch_uids("BODY.PEEK[1]").items == {1: parts[0]}
        assert read_by(pid) - before < SIZE / 4
        assert session.fetch_uids("BODY.PEEK[2]").items == {1: parts[1]}
        assert session.fetch_uids().items == {1: mail}


@pytest.mark.parametrize("storage", STORAGES)
def test_a_large_mail_is_the_same_in_every_session(server, storage):
    user = f"{storage}-whole"
    mail = Mail.make(SIZE)
    first_session(server, user, mail.data)
    for _ in range(2):
        with server.imap(user, timeout=60) as session:
            session.folder()
            answer = session.fetch_uids("BODY.PEEK[]<5000000.1000>")
            assert answer.items == {1: mail.data[5_000_000:5_001_000]}
            assert session.uid("SEARCH", "TEXT", mail.words[2])[1] == [b"1"]
            assert session.bodies() == [mail.data]


@pytest.mark.packaged_defect("hands out tampered mail")
@pytest.mark.parametrize("storage", STORAGES)
def test_damage_that_no_date_shows_is_not_served_in_a_later_session(server, storage):
    user = f"{storage}-silent"
    mail = Mail.make(SIZE)
    first_session(server, user, mail.data)
    server.store.stored(user)[0].flip(5_000_000)
    server.log.expect("Error:")
    with server.imap(user, timeout=60) as session:
        session.folder()
        # It is found with the chunk that it is in: looking through all of the mail comes upon it.
        assert session.uid("SEARCH", "TEXT", '"nowhere in it"')[0] == "NO"
        # From then on before the first byte.
        answer = session.fetch_uids()
        assert (answer.items, answer.status) == ({}, "NO")
        assert session.noop()[0] == "OK"


@pytest.mark.packaged_defect("hands out tampered mail")
@pytest.mark.parametrize("storage", STORAGES)
def test_damage_that_no_date_shows_ends_one_session_at_most(server, storage):
    """A client that comes back for the mail again and again must get past it."""
    user = f"{storage}-known"
    mail = Mail.make(SIZE)
    first_session(server, user, mail.data)
    stored = server.store.stored(user)[0]
    stored.flip(1000)
    server.log.expect("Error:")
    # Its size was announced before the damage was found.
    with server.imap(user, timeout=60) as session, pytest.raises(imaplib.IMAP4.abort):
        session.folder()
        session.fetch_uids()
    for what in ("BODY.PEEK[]", "BODY.PEEK[HEADER]", "BODY.PEEK[]<5000000.1000>"):
        with server.imap(user, timeout=60) as session:
            session.folder()
            answer = session.fetch_uids(what)
            assert (answer.items, answer.status) == ({}, "NO")
            assert session.noop()[0] == "OK"
    # What was put back is read.
    stored.flip(1000)
    with server.imap(user, timeout=60) as session:
        assert session.bodies() == [mail.data]


@pytest.mark.packaged_defect("hands out tampered mail")
@pytest.mark.parametrize("storage", STORAGES)
def test_damage_that_the_file_s_date_shows_is_found_before_the_first_byte(server, storage):
    user = f"{storage}-shown"
    mail = Mail.make(SIZE)
    first_session(server, user, mail.data)
    stored = server.store.stored(user)[0]
    stored.flip(5_000_000)
    os.utime(stored.path)
    server.log.expect("Error:")
    with server.imap(user, timeout=60) as session:
        session.folder()
        answer = session.fetch_uids("BODY.PEEK[]<100.1000>")
        assert (answer.items, answer.status) == ({}, "NO")
        assert session.noop()[0] == "OK"


@pytest.mark.packaged_defect("decrypts all that comes before the part")
@pytest.mark.skipif(DovecotVersion.installed().line != "2.3", reason="2.4's index cache takes nothing twice")
@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_known_of_a_changed_file_is_known_anew(server, storage):
    """An mdbox file changes with each mail that is appended to it, any file when it is put back from a backup."""
    user = f"{storage}-again"
    parts = [Mail.make(SIZE).data.partition(b"\r\n\r\n")[2], b"a few words\r\n"]
    first_session(server, user, multipart(*parts))

    def read_for_the_last_part() -> int:
        with server.imap(user, timeout=60) as session:
            session.folder()
            pid = server.process_of(session)
            before = read_by(pid)
            assert session.fetch_uids("BODY.PEEK[2]").items == {1: parts[1]}
            return read_by(pid) - before

    read_for_the_last_part()
    assert read_for_the_last_part() < SIZE / 4
    for _ in range(3):
        os.utime(server.store.stored(user)[0].path)
        assert read_for_the_last_part() > SIZE / 2
        assert read_for_the_last_part() < SIZE / 4


@pytest.mark.parametrize("storage", STORAGES)
def test_a_file_that_was_put_back_from_a_backup_is_read(server, storage):
    user = f"{storage}-moved"
    mail = Mail.make(SIZE)
    first_session(server, user, mail.data)
    path = server.store.stored(user)[0].path
    old = path.with_name(f".{path.name}.old")
    path.rename(old)
    path.write_bytes(old.read_bytes())
    os.chown(path, old.stat().st_uid, old.stat().st_gid)
    old.unlink()
    with server.imap(user, timeout=60) as session:
        session.folder()
        assert session.fetch_uids("BODY.PEEK[]<5000000.1000>").items == {1: mail.data[5_000_000:5_001_000]}
        assert session.bodies() == [mail.data]
