"""Everything a client or an administrator does with mail, on every storage."""

from __future__ import annotations

import itertools
import re

import pytest
from harness import CryptConfig, Mail, UserConfig, forge

STORAGES = ("maildir", "sdbox", "mdbox")
COMPRESS = ("plain", "gz")
#: Users that a test may use up, of each storage and compression.
SUPPLY = 80


@pytest.fixture(scope="module")
def server(shared_dovecot):
    users = {}
    for storage, compress, number in itertools.product(STORAGES, COMPRESS, range(SUPPLY)):
        users[f"{storage}-{compress}-{number}"] = UserConfig(
            CryptConfig(password="c0rrect-h0rse"),
            storage=storage,
            compress=None if compress == "plain" else compress,
        )
    for storage in STORAGES:
        for number in range(SUPPLY):
            users[f"open-{storage}-{number}"] = UserConfig(storage=storage, plugin=False)
    return shared_dovecot(users=users, quota=True)


@pytest.fixture(scope="module")
def fresh(server):
    """Names of users that no test has used."""
    used = {}

    def take(kind: str) -> str:
        number = used[kind] = used.get(kind, -1) + 1
        return f"{kind}-{number}"

    return take


@pytest.fixture(params=[f"{s}-{c}" for s in STORAGES for c in COMPRESS])
def user(request, fresh):
    """A fresh encrypted user, for every storage and compression."""
    return fresh(request.param)


@pytest.fixture(params=STORAGES)
def storage(request):
    return request.param


# IMAP


def test_appended_mail_is_fetched_in_every_form(server, user):
    mail = Mail.make(30_000)
    head, text = mail.data.split(b"\r\n\r\n", 1)
    with server.imap(user) as session:
        assert session.put(mail.data, flags=r"(\Flagged)")[0] == "OK"
        session.folder()
        for what, expected in (
            ("BODY.PEEK[]", mail.data),
            ("BODY.PEEK[HEADER]", head + b"\r\n\r\n"),
            ("BODY.PEEK[TEXT]", text),
            ("BODY[1]", text),
            ("RFC822", mail.data),
            ("BODY.PEEK[HEADER.FIELDS (SUBJECT)]", f"Subject: {mail.subject}\r\n\r\n".encode()),
        ):
            assert session.fetch_uids(what).items == {1: expected}, what
        assert session.sizes() == [len(mail.data)]
        _, (row,) = session.uid("FETCH", "1", "(FLAGS ENVELOPE BODYSTRUCTURE)")
        assert mail.subject.encode() in row
        assert b"\\Flagged" in row and b"\\Seen" in row
        assert f"{len(text)} {text.count(bytes([10]))}".encode() in row
    assert not server.store.find_words(server.store.home(user), mail.words)


def test_partial_fetch_gives_the_right_bytes(server, user):
    mail = Mail.make(300_000)
    size = len(mail.data)
    with server.imap(user) as session:
        session.put(mail.data)
        session.folder()
        for offset, length in (
            (0, 100),
            (4000, 1),
            (8191, 2),
            (65_530, 70_000),
            (size - 10, 100),
            (size - 1, 1),
            (size, 10),
            (100, 50),
        ):
            answer = session.fetch_uids(f"BODY.PEEK[]<{offset}.{length}>")
            assert answer.items[1] == mail.data[offset : offset + length], (offset, length)
        chunks = [
            session.fetch_uids(f"BODY.PEEK[]<{at}.50000>").items[1]
            for at in range(0, size, 50_000)
        ]
    assert b"".join(chunks) == mail.data


def test_mails_of_every_size_come_back(server, user):
    sizes = (0, 1, 2, 15, 16, 17, 31, 511, 4095, 4096, 4097, 8175, 8176, 8192, 8193, 65_536, 131_073)
    mails = []
    with server.imap(user) as session:
        for size in sizes:
            mail = b"A: b\r\n\r\n" + (b"0123456789abcdef" * (size // 16 + 1))[:size]
            assert session.put(mail)[0] == "OK"
            mails.append(mail)
        assert session.bodies() == mails
        assert session.sizes() == [len(mail) for mail in mails]


@pytest.mark.parametrize(
    "mail",
    [
        b"\r\n",
        b"x",
        b"Subject: no body",
        b"Subject: x\r\n\r\nno newline at the end",
        b"Subject: eight bits\r\n\r\n" + bytes(range(128, 256)) + b"\r\n",
        b"Subject: long line\r\n\r\n" + b"y" * 100_000 + b"\r\n",
        b"\r\n\r\nno header\r\n",
    ],
    ids=lambda mail: repr(mail[:20]),
)
def test_odd_mails_come_back(server, user, mail):
    with server.imap(user) as session:
        assert session.put(mail)[0] == "OK"
        assert session.bodies() == [mail]
        assert session.sizes() == [len(mail)]


def test_search_finds_words_of_header_and_body(server, user):
    mails = [Mail.make(size) for size in (1000, 20_000, 200_000)]
    with server.imap(user) as session:
        for mail in mails:
            session.put(mail.data)
        session.folder()
        for uid, mail in enumerate(mails, 1):
            for word in mail.words:
                assert session.uids("BODY", word) == [uid]
                assert session.uids("TEXT", word) == [uid]
            assert session.uids("SUBJECT", mail.subject) == [uid]
            assert session.uids("TEXT", mail.subject) == [uid]
            assert session.uids("BODY", mail.subject) == []
        assert session.uids("BODY", "notthere") == []
        assert session.uids("LARGER", "10000") == [2, 3]
        sizes = [len(mail.data) for mail in mails]
        assert session.uids("SMALLER", str(sizes[1])) == [1]


def test_copied_and_moved_mail_is_under_the_key_of_its_folder(server, user):
    store = server.store
    mails = [Mail.make(2000), Mail.make(50_000), Mail.make(300)]
    with server.imap(user) as session:
        for mail in mails:
            session.put(mail.data)
        session.create("Copied")
        session.create("Moved")
        session.folder()
        assert session.uid("COPY", "1:3", "Copied")[0] == "OK"
        assert session.uid("COPY", "2", "INBOX")[0] == "OK"
        assert session.uid("MOVE", "1:2", "Moved")[0] == "OK"
        assert session.bodies() == [mails[2].data, mails[1].data]
        assert session.bodies("Copied") == [m.data for m in mails]
        assert session.bodies("Moved") == [m.data for m in mails[:2]]
    by_folder = store.folder_keys(user)
    assert sorted(len(keys) for keys in by_folder.values()) == [1, 1, 1]
    keys_of = {f: by_folder[server.guid(user, f)] for f in ("INBOX", "Copied", "Moved")}
    if user.startswith("mdbox"):
        return
    for path in store.mail_files(user):
        folder = next((f for f in ("Copied", "Moved") if f in str(path)), "INBOX")
        data = path.read_bytes()
        assert set(forge.header(data[data.index(forge.MAGIC) :]).key_ids) == keys_of[folder], path


def test_expunged_mail_is_gone_and_its_neighbours_are_not(server, user):
    mails = [Mail.make(size) for size in (500, 1500, 2500)]
    with server.imap(user) as session:
        for mail in mails:
            session.put(mail.data)
        session.folder()
        session.uid("STORE", "2", "+FLAGS", r"(\Deleted)")
        assert session.expunge()[0] == "OK"
        assert session.uids() == [1, 3]
        assert session.bodies() == [mails[0].data, mails[2].data]
    if user.startswith("mdbox"):
        server.doveadm("purge", "-u", user)
        with server.imap(user) as session:
            assert session.bodies() == [mails[0].data, mails[2].data]


def test_mail_that_arrives_during_idle_is_announced_and_read(server, user):
    mail = Mail.make()
    with server.imap(user) as session:
        session.folder()
        line = session.idle_until(r"\* 1 EXISTS", lambda: server.deliver(user, mail))
        assert "EXISTS" in line
        assert session.fetch_uids().items[1].endswith(mail.data)


def test_a_large_mail_comes_back(server, user):
    mail = Mail.make(5_000_000)
    with server.imap(user) as session:
        session.put(mail.data)
        assert session.bodies() == [mail.data]
        assert session.uids("BODY", mail.words[2]) == [1]


def test_one_session_fetches_many_mails_in_any_order(server, user):
    mails = [Mail.make(500 + 37 * i) for i in range(30)]
    with server.imap(user) as session:
        for mail in mails:
            session.put(mail.data)
        session.folder()
        for uid in [30, 1, 15, 15, 2, 29, 1]:
            assert session.fetch_uids(uids=str(uid)).items == {uid: mails[uid - 1].data}
            assert session.fetch_uids("BODY.PEEK[]<10.20>", str(uid)).items == {
                uid: mails[uid - 1].data[10:30]
            }
        assert session.bodies() == [m.data for m in mails]


# POP3


def test_pop3_reads_sizes_lists_and_deletes(server, user):
    mails = [Mail.make(1000), Mail.make(40_000)]
    server.deliver(user, mails[0])
    server.deliver(user, mails[1])
    with server.imap(user) as imap:
        sizes = [len(body) for body in imap.bodies()]
    session = server.pop3(user)
    assert session.stat() == (2, sum(sizes))
    assert [int(line.split()[1]) for line in session.list()[1]] == sizes
    for number, mail in enumerate(mails, 1):
        lines = session.retr(number)[1]
        assert (b"\r\n".join(lines) + b"\r\n").endswith(mail.data)
    top = session.top(2, 1)[1]
    assert mails[1].words[0].encode() in top
    assert mails[1].words[1].encode() not in top
    session.dele(1)
    session.quit()
    with server.imap(user) as imap:
        (left,) = imap.bodies()
    assert left.endswith(mails[1].data)


# Delivery


@pytest.mark.parametrize("size", (2000, 400_000))
@pytest.mark.parametrize("order", ("encrypted-first", "open-first", "mixed"))
def test_one_transaction_to_encrypted_and_open_users(server, fresh, storage, order, size):
    secret = [fresh(f"{storage}-plain"), fresh(f"{storage}-plain")]
    plain = [fresh(f"open-{storage}"), fresh(f"open-{storage}")]
    recipients = {
        "encrypted-first": secret + plain,
        "open-first": plain + secret,
        "mixed": [secret[0], plain[0], secret[1], plain[1]],
    }[order]
    mail = Mail.make(size)
    server.deliver(*recipients, mail)
    for user in recipients:
        with server.imap(user) as session:
            (body,) = session.bodies()
        assert body.endswith(mail.data), user
        found = server.store.find_words(server.store.home(user), mail.words)
        assert bool(found) == (user in plain), user
        content = b"".join(p.read_bytes() for p in server.store.mail_files(user))
        assert (forge.MAGIC in content) == (user in secret), user
    # Two encrypted users never share a file: their keys differ.
    ids = [server.store.user_keys(user) for user in secret]
    assert all(len(i) == 1 for i in ids) and ids[0] != ids[1]


def test_dovecot_lda_encrypts(server, user):
    mail = Mail.make(20_000)
    server.lda(user, mail)
    server.lda(user, mail, "-m", "Work", "-o", "lda_mailbox_autocreate=yes")
    with server.imap(user) as session:
        assert session.bodies()[0].endswith(mail.data)
        assert session.bodies("Work")[0].endswith(mail.data)
    assert not server.store.find_words(server.store.home(user), mail.words)


# doveadm


def test_doveadm_fetches_searches_and_expunges(server, user):
    mails = [Mail.make(1000), Mail.make(30_000)]
    with server.imap(user) as session:
        for mail in mails:
            session.put(mail.data)
    text = server.doveadm("fetch", "-u", user, "text", "ALL").stdout
    for mail in mails:
        assert all(word.encode() in text for word in mail.words)
    found = server.doveadm("search", "-u", user, "BODY", mails[1].words[2]).stdout
    assert found.split()[1::2] == [b"2"]
    sizes = server.doveadm("-f", "tab", "fetch", "-u", user, "size.virtual", "ALL").stdout
    assert [int(s) for s in sizes.split()[1:]] == [len(m.data) for m in mails]
    server.doveadm("expunge", "-u", user, "mailbox", "INBOX", "BODY", mails[0].words[0])
    with server.imap(user) as session:
        assert session.bodies() == [mails[1].data]


def test_doveadm_saves_copies_and_moves(server, user):
    mail = Mail.make(20_000)
    server.doveadm("save", "-u", user, "-m", "INBOX", stdin=mail.data)
    for folder in ("Copied", "Moved"):
        server.doveadm("mailbox", "create", "-u", user, folder)
    server.doveadm("copy", "-u", user, "Copied", "mailbox", "INBOX", "ALL")
    server.doveadm("move", "-u", user, "Moved", "mailbox", "INBOX", "ALL")
    with server.imap(user) as session:
        assert session.bodies() == []
        assert session.bodies("Copied") == [mail.data]
        assert session.bodies("Moved") == [mail.data]
    assert not server.store.find_words(server.store.home(user), mail.words)


@pytest.mark.parametrize("verb", ("sync", "backup"))
@pytest.mark.parametrize("target", ("encrypted", "open"))
def test_doveadm_sync_and_backup_carry_mail(server, fresh, user, verb, target):
    storage = user.split("-")[0]
    other = fresh(f"{storage}-gz") if target == "encrypted" else fresh(f"open-{storage}")
    mails = {"INBOX": Mail.make(2000), "Work": Mail.make(60_000)}
    with server.imap(user) as session:
        session.create("Work")
        for folder, mail in mails.items():
            session.put(mail.data, folder)
    remote = ["doveadm", "-c", str(server.places.config), "dsync-server", "-u", other]
    server.doveadm(verb, "-u", user, *remote)
    with server.imap(other) as session:
        for folder, mail in mails.items():
            assert session.bodies(folder) == [mail.data]
    words = tuple(w for mail in mails.values() for w in mail.words)
    found = server.store.find_words(server.store.home(other), words)
    if target == "encrypted":
        assert not found
        assert server.store.user_keys(user) != server.store.user_keys(other)
    else:
        content = b"".join(p.read_bytes() for p in server.store.mail_files(other))
        assert forge.MAGIC not in content
    back = fresh(f"{storage}-plain")
    home = ["doveadm", "-c", str(server.places.config), "dsync-server", "-u", back]
    server.doveadm(verb, "-u", other, *home)
    with server.imap(back) as session:
        for folder, mail in mails.items():
            assert session.bodies(folder) == [mail.data]


def test_force_resync_loses_and_changes_nothing(server, user):
    mails = [Mail.make(1000), Mail.make(50_000)]
    with server.imap(user) as session:
        for mail in mails:
            session.put(mail.data)
    if "dbox" in user:
        server.log.expect("fscking index file", "rebuilding", "Rebuilding", "fsck")
    server.doveadm("force-resync", "-u", user, "INBOX")
    with server.imap(user) as session:
        assert session.bodies() == [m.data for m in mails]
        assert session.sizes() == [len(m.data) for m in mails]


def test_sizes_are_right_again_after_the_cache_is_lost(server, user):
    mails = [Mail.make(1000), Mail.make(50_000)]
    with server.imap(user) as session:
        for mail in mails:
            session.put(mail.data)
    for path in server.store.files(user):
        if path.name == "dovecot.index.cache" or (
            user.startswith("maildir") and path.name.startswith("dovecot.index")
        ):
            path.unlink()
    with server.imap(user) as session:
        session.folder()
        assert session.sizes() == [len(m.data) for m in mails]
        assert session.bodies() == [m.data for m in mails]


def test_quota_counts_the_plaintext(server, user):
    mails = [Mail.make(100_000), Mail.make(50_000)]
    total = sum(len(m.data) for m in mails)
    with server.imap(user) as session:
        for mail in mails:
            session.put(mail.data)
        _, lines = session.raw('GETQUOTAROOT "INBOX"')
    used = int(re.search(r"STORAGE (\d+)", " ".join(lines)).group(1))
    assert used == -(-total // 1024) or used == total // 1024
    server.doveadm("quota", "recalc", "-u", user)
    answer = server.doveadm("-f", "tab", "quota", "get", "-u", user).stdout.decode()
    rows = [line.split("\t") for line in answer.splitlines()[1:]]
    assert {row[1]: int(row[2]) for row in rows}["STORAGE"] == used
    vsize = server.doveadm("-f", "flow", "mailbox", "status", "-u", user, "vsize", "INBOX")
    assert int(vsize.stdout.decode().strip().rsplit("=", 1)[1]) == total
