"""Full-text search: a mail that can't be read is passed over; a store that can't be read is not."""

from __future__ import annotations

import re

import pytest
from conf import need, plugins, settings
from harness import CryptConfig, Mail, UserConfig, words
from harness.spoil import LATER, LOCKED, READABLE, SPOILT, spoil
from test_attachments import Letter, attachments, options

#: engine -> the package that it is in
ENGINES = {"xapian": "dovecot-fts-xapian", "flatcurve": "dovecot-flatcurve"}
KEY = CryptConfig(password="of-the-key")
NO_KEY = CryptConfig()


def configuration(engine: str) -> str:
    # A search that the index can't answer fails, but for bob's.
    old = {"fts": engine, "fts_enforced": "yes"}
    if engine == "xapian":
        old["fts_xapian"] = "partial=3 full=20 verbose=0"
    new = f"fts {engine} {{\n}}\nfts_search_add_missing = yes\nfts_search_read_fallback = no\nlanguage en {{\ndefault = yes\nlanguage_filters =\n}}\nlanguage_tokenizers = generic email-address\n"
    return (
        plugins("fts", f"fts_{engine}")
        + settings(old, new)
        + f"service indexer-worker {{\nvsz_limit = {'unlimited' if words.is_24() else 0}\n}}\n"
    )


@pytest.fixture(scope="module", params=ENGINES)
def server(request, shared_dovecot):
    engine = request.param
    need(f"lib21_fts_{engine}_plugin.so", ENGINES[engine])
    users = {"alice": UserConfig(KEY), "bob": bob(KEY)}
    return shared_dovecot(users=users, fetch_failure="no-after", extra=configuration(engine))


def bob(crypt: CryptConfig) -> UserConfig:
    """Searches of his read the mails where the index has them not."""
    fallback = ("fts_search_read_fallback", "yes") if words.is_24() else ("fts_enforced", "no")
    return UserConfig(crypt, extra=(fallback,))


def found(server, user: str, word: str) -> list[int]:
    with server.imap(user) as session:
        session.folder()
        return session.uids("BODY", word)


@pytest.mark.packaged_defect("the index stops there")
def test_an_index_passes_over_mails_that_cannot_be_read(server):
    spoilt = spoil(server, "alice")
    spoilt.expect()
    mark = server.log.mark()
    done = server.doveadm("index", "-u", "alice", "INBOX", check=False)
    for uid in SPOILT:
        assert re.search(rf"UID[= ]{uid}: mail_crypt".encode(), done.stderr), done.stderr
    assert done.returncode == 0, done.stderr
    for uid in READABLE:
        assert found(server, "alice", spoilt.mails[uid].words[1]) == [uid]
    assert found(server, "alice", "nowhereinit") == []
    spoilt.check()
    # What comes later is indexed as if nothing were the matter.
    more = Mail.make()
    server.deliver("alice", more)
    assert found(server, "alice", more.words[1]) == [LATER + 1]
    # As README has it, once the key is back.
    spoilt.unlock()
    server.doveadm("fts", "rescan", "-u", "alice")
    server.doveadm("index", "-u", "alice", "INBOX")
    assert found(server, "alice", spoilt.mails[LOCKED].words[1]) == [LOCKED]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_index_passes_over_a_mail_whose_attachment_is_damaged(dovecot, store, engine):
    need(f"lib21_fts_{engine}_plugin.so", ENGINES[engine])
    config = options("files", store, storage="sdbox")
    config["extra"] += configuration(engine)
    server = dovecot(**config, fetch_failure="no-after")
    server.log.expect("tampered", "Stream is smaller")
    for subject in (b"first", b"second"):
        server.deliver("alice", Letter.make().data.replace(b"Subject: one", b"Subject: " + subject))
    for damaged in attachments(store)[:1]:
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert server.doveadm("index", "-u", "alice", "INBOX", check=False).returncode == 0
    with server.imap("alice") as session:
        session.folder()
        ((readable, _),) = session.fetch_uids().items.items()
        assert session.uids("SUBJECT", "second" if readable == 2 else "first") == [readable]


def test_an_index_passes_over_nothing_where_the_password_is_not_at_hand(server):
    """As in the background, where it is that of the login: the index must not say that it has all mail."""
    mails = [Mail.make(), Mail.make()]
    for mail in mails:
        server.deliver("bob", mail)
    server.log.expect("Error: ")
    with server.imap("bob") as session:
        session.folder()
        server.set_user("bob", bob(NO_KEY))
        for uid, mail in enumerate(mails, 1):
            assert session.uids("BODY", mail.words[1]) == [uid]
    for _ in range(2):
        done = server.doveadm("index", "-u", "bob", "INBOX", check=False)
        assert done.returncode != 0, done.stderr
    server.set_user("bob", bob(KEY))
    server.doveadm("index", "-u", "bob", "INBOX")
    assert [found(server, "bob", mail.words[1]) for mail in mails] == [[1], [2]]
