"""virtual: one folder over all, of which one backend at a time is open."""

from __future__ import annotations

import os

import pytest
from conf import plugins, settings
from harness import CryptConfig, Mail, UserConfig, words
from harness.spoil import READABLE, spoil

STORAGES = ("maildir", "sdbox", "mdbox")


@pytest.fixture(scope="module")
def server(shared_dovecot):
    crypt = CryptConfig(password="of-the-key")
    users = {storage: UserConfig(crypt, storage=storage) for storage in STORAGES}
    limit = {"virtual_max_open_mailboxes": "1"}
    extra = plugins("virtual") + settings(limit, "virtual_max_open_mailboxes = 1\n")
    place = words.location("virtual", "~/virtual")
    extra += f"namespace virtual {{\nprefix = Virtual/\nseparator = /\n{place}}}\n"
    return shared_dovecot(users=users, fetch_failure="no-after", extra=extra)


def make_virtual(server, user: str) -> None:
    """Virtual/All has all mail of the user."""
    folder = server.store.home(user) / "virtual" / "All"
    folder.mkdir(parents=True)
    (folder / "dovecot-virtual").write_text("*\n  all\n")
    for path in (folder.parent, folder, folder / "dovecot-virtual"):
        os.chown(path, *server.mail_ids)


@pytest.mark.packaged_defect("hands out the damaged mail")
@pytest.mark.parametrize("storage", STORAGES)
def test_a_virtual_folder_serves_what_its_backends_can(server, storage):
    make_virtual(server, storage)
    spoilt = spoil(server, storage, "Spoilt")
    others = {folder: Mail.make() for folder in ("First", "Second", "Third")}
    readable = [spoilt.mails[uid] for uid in READABLE] + list(others.values())
    with server.imap(storage) as session:
        for folder, mail in others.items():
            session.create(folder)
            assert session.put(mail.data, folder)[0] == "OK"
    spoilt.expect()
    # The second session has what the first one's index cache says.
    for _ in range(2):
        mark = server.log.mark()
        with server.imap(storage) as session:
            assert session.folder("Virtual/All") == len(readable) + 2
            answer = session.fetch_uids()
            assert sorted(answer.items.values()) == sorted(mail.data for mail in readable)
            assert answer.status == "NO"
            for mail in readable:
                (uid,) = [uid for uid, data in answer.items.items() if data == mail.data]
                _, (line, *_) = session.uid("FETCH", str(uid), "(ENVELOPE)")
                assert f'"{mail.subject}"'.encode() in line
                assert b'"sender" "example.org"' in line
            assert session.noop()[0] == "OK"
        for uid in (1, 3):
            assert server.log.wait_for(rf"Spoilt.*UID[= ]{uid}: mail_crypt: ", mark)
    # A backend goes, while the virtual folder is open.
    with server.imap(storage) as session, server.imap(storage) as other:
        session.folder("Virtual/All")
        assert other.delete("Second")[0] == "OK"
        session.noop()
        answer = session.fetch_uids()
        left = {mail.data for mail in readable} - {others["Second"].data}
        assert set(answer.items.values()) >= left
        session.folder("Virtual/All")
        assert set(session.fetch_uids().items.values()) == left
    spoilt.check()
    assert spoilt.in_files() == []
