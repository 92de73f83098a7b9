"""Damaged and forged mail: never served, always named, never in the way of the rest."""

from __future__ import annotations

import itertools
import re
import struct
import time

import pytest
from harness import CryptConfig, Key, Mail, UserConfig, forge

STORAGES = ("maildir", "sdbox", "mdbox")
SUPPLY = 120
GLOBAL = Key.ec()
#: What the log says of each kind of damage.
TAMPERED = "tampered|changed|tag"
CORRUPT = "corrupt|invalid|does not|doesn't|must|more than|too|beyond|limit"
TRUNCATED = "truncated|ends|cut"
UNSUPPORTED = "unsupported|unknown|not supported"
NO_KEY = "no (private )?key|key .*not"


@pytest.fixture(scope="module")
def server(shared_dovecot):
    """Everything to one global key: so that files can be forged from outside."""
    crypt = CryptConfig(
        global_public=GLOBAL.public_setting(), global_private=(GLOBAL.setting(),)
    )
    names = itertools.product(STORAGES, range(SUPPLY))
    users = {f"{s}-{n}": UserConfig(storage=s) for s, n in names}
    return shared_dovecot(users=users, crypt=crypt, fetch_failure="no-after")


@pytest.fixture(scope="module")
def supply():
    return {storage: iter(range(SUPPLY)) for storage in STORAGES}


@pytest.fixture
def three(server, supply):
    """A fresh user with three mails; the second one is for the test to spoil."""

    def make(storage, size=2000):
        user = f"{storage}-{next(supply[storage])}"
        mails = [Mail.make(1000), Mail.make(size), Mail.make(3000)]
        with server.imap(user) as session:
            for mail in mails:
                session.put(mail.data)
        return user, mails

    return make


def check_isolated(server, user, mails, spoilt, reason):
    """One FETCH over all: the others arrive, the session lives, one line says why."""
    server.log.expect("Error:")
    others = {u: m.data for u, m in enumerate(mails, 1) if u != spoilt}
    with server.imap(user, timeout=15) as session:
        session.folder()
        mark = server.log.mark()
        answer = session.fetch_uids()
        assert spoilt not in answer.items, answer.items.get(spoilt, b"")[:60]
        assert answer.items == others
        assert answer.status == "NO", answer
        assert "/" not in re.sub(r"\[.*?\]", "", answer.text), "paths are not the client's business"
        assert session.noop()[0] == "OK"
        for uid, data in others.items():
            assert session.fetch_uids(uids=str(uid)).items == {uid: data}
    lines = server.log.wait_for(rf"Error: .*(UID|uid)[= ]{spoilt}\b", mark)
    assert len(lines) == 1, "\n".join(lines)
    assert f"({user})" in lines[0] and "INBOX" in lines[0]
    assert re.search(reason, lines[0], re.IGNORECASE), lines[0]
    with server.imap(user, timeout=15) as session:
        session.folder()
        answer = session.fetch_uids("BODY.PEEK[]<10.20>", str(spoilt))
        assert not answer.items.get(spoilt), answer
        assert answer.status == "NO"


# Damage to what was written properly. Offsets of the v2 header for one EC recipient:
HEADER_LENGTH = 14
CIPHER = 18 + 10
DIGEST = 18 + 11 + 10
ROUNDS = 18 + 11 + 11
KEY_DATA_LENGTH = ROUNDS + 4
RECIPIENTS = ROUNDS + 8
KEY_TYPE = RECIPIENTS + 1
KEY_ID = KEY_TYPE + 1
EPHEMERAL_LENGTH = KEY_ID + 32
EPHEMERAL = EPHEMERAL_LENGTH + 4
WRAPPED_LENGTH = EPHEMERAL + 65
WRAPPED = WRAPPED_LENGTH + 4
HASH_LENGTH = WRAPPED + 64
HASH = HASH_LENGTH + 4
PAYLOAD = HASH + 32


def test_the_offsets_are_right(server, three):
    user, _ = three("maildir")
    data = server.store.stored(user)[1].data
    assert forge.header(data).length == PAYLOAD
    assert data[KEY_ID : KEY_ID + 32].hex() == GLOBAL.id
    assert struct.unpack_from(">I", data, WRAPPED_LENGTH) == (64,)
    assert struct.unpack_from(">I", data, HASH_LENGTH) == (32,)


PAYLOAD_DAMAGE = {
    "first-byte": (PAYLOAD, TAMPERED),
    "a-byte-in-the-middle": (PAYLOAD + 700, TAMPERED),
    "last-byte": (-17, TAMPERED),
    "first-byte-of-the-tag": (-16, TAMPERED),
    "last-byte-of-the-tag": (-1, TAMPERED),
}


@pytest.mark.packaged_defect("hands out tampered mail")
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("place", PAYLOAD_DAMAGE)
def test_tampered_mail_is_never_served(server, three, storage, place):
    offset, reason = PAYLOAD_DAMAGE[place]
    user, mails = three(storage)
    server.store.stored(user)[1].flip(offset)
    check_isolated(server, user, mails, 2, reason)


#: What a client asks for, and what Dovecot answers of a mail of which it has cached nothing.
ITEMS = ("ENVELOPE", "BODY", "BODYSTRUCTURE", "ALL", "BODY.PEEK[HEADER]", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "RFC822.TEXT")
ITEMS += ("BODY.PEEK[1]", "BINARY.PEEK[1]", "BINARY.SIZE[1]", "(UID PREVIEW)")


@pytest.mark.packaged_defect("hands out tampered mail")
@pytest.mark.parametrize("storage", STORAGES)
def test_whatever_is_asked_of_a_tampered_mail_the_session_goes_on(server, three, storage):
    user, _ = three(storage)
    server.store.stored(user)[1].flip(-1)
    server.log.expect("Error:")
    for item in ITEMS:
        for path in server.store.files(user):
            if path.name == "dovecot.index.cache":
                path.unlink()
        with server.imap(user, timeout=15) as session:
            session.folder()
            status, lines = session.raw(f"FETCH 1:* {item}")
            assert status.startswith("NO"), (item, status)
            fetched = [line for line in lines if " FETCH (" in line]
            assert [line.split()[1] for line in fetched] == ["1", "2", "3"], (item, fetched)
            assert not re.search("ENVELOPE|BODY|RFC822.TEXT|BINARY|PREVIEW", fetched[1]), (item, fetched)
            assert session.noop()[0] == "OK"


@pytest.mark.packaged_defect("hands out tampered mail")
def test_large_tampered_mail_is_never_served(server, three):
    user, mails = three("maildir", 3_000_000)
    server.store.stored(user)[1].flip(-1)
    check_isolated(server, user, mails, 2, TAMPERED)


@pytest.mark.packaged_defect("hands out tampered mail")
def test_a_large_mail_changed_after_it_was_read_is_refused_once_that_was_noticed(server, three):
    user, mails = three("maildir", 400_000)
    server.log.expect("Error:")
    others = {1: mails[0].data, 3: mails[2].data}
    with server.imap(user, timeout=15) as session:
        session.folder()
        assert session.fetch_uids().items == {**others, 2: mails[1].data}
        server.store.stored(user)[1].flip(200_000)
        # Looks at each part of the mail, and has no literal to break off in.
        assert session.uid("SEARCH", "TEXT", '"nowhere in it"')[0] == "NO"
        answer = session.fetch_uids()
        assert (answer.items, answer.status) == (others, "NO")
        assert session.noop()[0] == "OK"


HEADER_DAMAGE = {
    "version": (9, 0x0F, UNSUPPORTED),
    "flags-other-integrity": (13, 3, f"{CORRUPT}|{UNSUPPORTED}|{TAMPERED}"),
    "flags-no-integrity": (13, 6, f"{CORRUPT}|{UNSUPPORTED}|{TAMPERED}"),
    "flags-none": (13, 2, f"{CORRUPT}|{UNSUPPORTED}|{TAMPERED}"),
    "flags-unknown": (10, 0x40, f"{CORRUPT}|{UNSUPPORTED}"),
    "header-length": (HEADER_LENGTH + 3, 1, CORRUPT),
    "header-length-huge": (HEADER_LENGTH, 0x7F, f"{CORRUPT}|{TRUNCATED}"),
    "cipher": (CIPHER, 0x70, UNSUPPORTED),
    "digest": (DIGEST, 0x70, UNSUPPORTED),
    "rounds": (ROUNDS + 3, 1, ".*"),
    "key-data-length": (KEY_DATA_LENGTH + 3, 1, CORRUPT),
    "key-data-length-huge": (KEY_DATA_LENGTH, 0x7F, CORRUPT),
    "no-recipient": (RECIPIENTS, 1, CORRUPT),
    "many-recipients": (RECIPIENTS, 0xFE, f"{CORRUPT}|{UNSUPPORTED}"),
    "key-type": (KEY_TYPE, 0x40, f"{UNSUPPORTED}|{CORRUPT}"),
    "key-id": (KEY_ID, 1, NO_KEY),
    "ephemeral-length": (EPHEMERAL_LENGTH + 3, 1, CORRUPT),
    "ephemeral-length-huge": (EPHEMERAL_LENGTH, 0x7F, CORRUPT),
    "ephemeral-key": (EPHEMERAL + 5, 1, ".*"),
    "wrapped-length": (WRAPPED_LENGTH + 3, 1, CORRUPT),
    "wrapped-key": (WRAPPED + 5, 1, ".*"),
    "hash-length": (HASH_LENGTH + 3, 1, CORRUPT),
}


@pytest.mark.packaged_defect("one bad mail ends the session, or is a line too many")
@pytest.mark.parametrize("place", HEADER_DAMAGE)
def test_a_damaged_header_is_an_error_of_that_mail_only(server, three, place):
    offset, bits, reason = HEADER_DAMAGE[place]
    user, mails = three("maildir")
    server.store.stored(user)[1].flip(offset, bits)
    check_isolated(server, user, mails, 2, reason)


@pytest.mark.packaged_defect("ends the session")
def test_a_mail_whose_key_is_right_is_served_or_refused_but_never_changed(server, three):
    """The hash of the key block proves nothing that the tag does not prove as well."""
    user, mails = three("maildir")
    server.store.stored(user)[1].flip(HASH + 5)
    server.log.expect("Error:")
    with server.imap(user) as session:
        session.folder()
        answer = session.fetch_uids(uids="2")
        assert answer.items in ({}, {2: mails[1].data})


CUTS = {
    "one-byte": 1,
    "half-the-tag": 8,
    "the-tag": 16,
    "half-the-mail": 1000,
}


@pytest.mark.packaged_defect("a cut mail ends the session")
@pytest.mark.parametrize("storage", ("maildir", "sdbox"))
@pytest.mark.parametrize("part", CUTS)
def test_a_cut_mail_is_never_served(server, three, storage, part):
    user, mails = three(storage)
    server.store.stored(user)[1].cut(CUTS[part])
    check_isolated(server, user, mails, 2, f"{TAMPERED}|{TRUNCATED}")


@pytest.mark.packaged_defect("a cut mail ends the session")
@pytest.mark.parametrize("left", (10, 13, 17, 30, RECIPIENTS, WRAPPED + 3, PAYLOAD - 1, PAYLOAD, PAYLOAD + 15))
def test_a_mail_cut_in_its_header_is_truncated(server, three, left):
    user, mails = three("maildir")
    stored = server.store.stored(user)[1]
    stored.replace(stored.data[:left])
    check_isolated(server, user, mails, 2, TRUNCATED)


@pytest.mark.packaged_defect("hands out tampered mail")
def test_bytes_behind_the_tag_are_not_overlooked(server, three):
    user, mails = three("maildir")
    stored = server.store.stored(user)[1]
    stored.replace(stored.data + b"more")
    check_isolated(server, user, mails, 2, TAMPERED)


@pytest.mark.packaged_defect("hands out tampered mail")
def test_parts_of_two_mails_do_not_make_one(server, three):
    user, mails = three("maildir")
    one, other = (s.data for s in server.store.stored(user)[1:3])
    server.store.stored(user)[1].replace(one[:PAYLOAD] + other[PAYLOAD:])
    check_isolated(server, user, mails, 2, TAMPERED)


# Forged files

FORGED = {
    "rounds-0": (dict(rounds=0), CORRUPT + "|rounds"),
    "rounds-200M": (dict(rounds=200_000_000, real_rounds=1), CORRUPT + "|rounds"),
    "rounds-max": (dict(rounds=0xFFFFFFFF, real_rounds=1), CORRUPT + "|rounds"),
    "recipients-2": (dict(recipients=2), CORRUPT + "|" + UNSUPPORTED),
    "recipients-255": (dict(recipients=255), CORRUPT + "|" + UNSUPPORTED),
    "recipients-0": (dict(recipients=0), CORRUPT),
    "header-into-payload": (dict(header_length=PAYLOAD + 8), CORRUPT),
    "header-too-short": (dict(header_length=PAYLOAD - 8), CORRUPT),
    "header-inside-itself": (dict(header_length=20), CORRUPT),
    "header-4G": (dict(header_length=0xFFFFFFFF), CORRUPT + "|" + TRUNCATED),
    "key-data-into-payload": (dict(key_data_length=300), CORRUPT),
    "key-data-4G": (dict(key_data_length=0xFFFFFFFF), CORRUPT),
    "ephemeral-into-payload": (dict(ephemeral_length=900), CORRUPT),
    "ephemeral-4G": (dict(ephemeral_length=0xFFFFFFF0), CORRUPT),
    "wrapped-into-payload": (dict(wrapped_length=900), CORRUPT),
    "wrapped-4G": (dict(wrapped_length=0xFFFFFFF0), CORRUPT),
    "hash-into-payload": (dict(hash_length=900), CORRUPT),
    "unknown-cipher": (dict(cipher=bytes.fromhex("06032a0304")), UNSUPPORTED),
    "oid-length-lies": (dict(cipher=bytes.fromhex("067f2a0304")), f"{CORRUPT}|{UNSUPPORTED}|{TRUNCATED}"),
    "unknown-digest": (dict(digest=bytes.fromhex("06032a0304")), UNSUPPORTED),
    "aead-with-cbc": (dict(cipher=forge.AES_CBC), f"{CORRUPT}|{UNSUPPORTED}"),
    "two-integrities": (dict(flags=forge.HMAC | forge.AEAD), f"{CORRUPT}|{UNSUPPORTED}"),
    "rsa-for-an-ec-key": (dict(key_type=1), f"{CORRUPT}|{UNSUPPORTED}|{NO_KEY}"),
    "short-key-block": (dict(block=bytes(44)), f"{CORRUPT}|{TAMPERED}"),
    "long-key-block": (dict(block=bytes(300)), CORRUPT),
    "no-tag": (dict(tag=b""), f"{TAMPERED}|{TRUNCATED}"),
}


@pytest.mark.packaged_defect("panics, hangs, serves or ends the session")
@pytest.mark.parametrize("forgery", FORGED)
def test_a_forged_header_is_refused_before_any_work(server, three, forgery):
    options, reason = FORGED[forgery]
    user, mails = three("maildir")
    data = forge.Stream(mails[1].lines, GLOBAL, **options).data()
    server.store.stored(user)[1].replace(data)
    begin = time.monotonic()
    check_isolated(server, user, mails, 2, reason)
    assert time.monotonic() - begin < 5


def test_the_forger_can_write(server, three):
    """What the tests above rely on: without a lie in it, a forged file is a mail."""
    user, mails = three("maildir")
    mail = mails[1]
    data = forge.Stream(mail.lines, GLOBAL).data()
    assert forge.decrypt(data, GLOBAL) == mail.lines
    server.store.stored(user)[1].replace(data)
    with server.imap(user) as session:
        assert session.bodies() == [m.data for m in mails]


@pytest.mark.parametrize("storage", STORAGES)
def test_what_the_server_writes_is_what_the_format_says(server, three, storage):
    user, mails = three(storage)
    for stored, mail in zip(server.store.stored(user), mails):
        plain = forge.decrypt(stored.data, GLOBAL)
        assert plain.replace(b"\r\n", b"\n") == mail.lines


@pytest.mark.parametrize("rounds", (1, 2, 2048, 10_000))
def test_other_rounds_are_read(server, three, rounds):
    user, mails = three("maildir")
    data = forge.Stream(mails[1].lines, GLOBAL, rounds=rounds).data()
    server.store.stored(user)[1].replace(data)
    with server.imap(user) as session:
        assert session.bodies() == [m.data for m in mails]


def test_a_version_1_mail_is_read(server, three):
    user, mails = three("maildir")
    server.store.stored(user)[1].replace(forge.version1(mails[1].lines, GLOBAL))
    with server.imap(user) as session:
        assert session.bodies() == [m.data for m in mails]


def test_cbc_with_hmac_is_read(server, three):
    user, mails = three("maildir")
    data = forge.Stream(mails[1].lines, GLOBAL, cipher=forge.AES_CBC, flags=forge.HMAC).data()
    server.store.stored(user)[1].replace(data)
    with server.imap(user) as session:
        assert session.bodies() == [m.data for m in mails]


@pytest.mark.packaged_defect("2.3 does not know the cipher", on="2.3")
def test_chacha20_with_hmac_is_read(server, three):
    """As 2.4.0 to 2.4.3 write it: the flag says HMAC, although the cipher is an AEAD."""
    user, mails = three("maildir")
    forged = forge.Stream(
        mails[1].lines, GLOBAL, cipher=forge.CHACHA20_POLY1305, flags=forge.HMAC
    )
    server.store.stored(user)[1].replace(forged.data())
    with server.imap(user) as session:
        assert session.bodies() == [m.data for m in mails]


def test_a_stream_without_integrity_is_read(server, three):
    user, mails = three("maildir")
    forged = forge.Stream(
        mails[1].lines, GLOBAL, cipher=forge.AES_CBC, flags=forge.NO_INTEGRITY
    )
    server.store.stored(user)[1].replace(forged.data())
    with server.imap(user) as session:
        assert session.bodies() == [m.data for m in mails]


@pytest.mark.packaged_defect("hands out tampered mail")
@pytest.mark.parametrize("offset", (PAYLOAD, -40, -1))
@pytest.mark.parametrize(
    "cipher",
    (forge.AES_CBC, forge.AES_GCM, forge.CHACHA20_POLY1305),
    ids=("cbc", "gcm", "chacha20"),
)
def test_tampered_mail_with_hmac_is_never_served(server, three, cipher, offset):
    user, mails = three("maildir")
    stored = server.store.stored(user)[1]
    forged = forge.Stream(mails[1].lines, GLOBAL, cipher=cipher, flags=forge.HMAC)
    stored.replace(forged.data())
    server.store.stored(user)[1].flip(offset)
    check_isolated(server, user, mails, 2, TAMPERED)


# Other ways to a mail


@pytest.mark.packaged_defect("hands out tampered mail")
@pytest.mark.parametrize("storage", STORAGES)
def test_no_way_leads_to_a_tampered_mail(server, three, storage):
    user, mails = three(storage)
    server.store.stored(user)[1].flip(-1)
    server.log.expect("Error:")
    words = mails[1].words
    with server.imap(user, timeout=15) as session:
        session.create("Copied")
        for what in ("BODY.PEEK[TEXT]", "BODY.PEEK[1]", "BODY.PEEK[]<100.50>", "BINARY.PEEK[1]"):
            # Dovecot says NO once for each mail and then BYE, until the folder is selected anew.
            session.folder()
            answer = session.fetch_uids(what, "2")
            assert answer.status == "NO" and not answer.items.get(2), what
        # Under one global key nothing is encrypted anew: the damage may be copied as it is.
        session.uid("COPY", "2", "Copied")
        for word in words:
            session.uid("SEARCH", "BODY", word)
        assert session.noop()[0] == "OK"
        session.folder("Copied")
        assert not session.fetch_uids().items
    done = server.doveadm("fetch", "-u", user, "text", "uid", "2", check=False)
    assert done.returncode != 0
    assert not any(word.encode() in done.stdout for word in words)
    session = server.pop3(user)
    with pytest.raises(Exception):
        session.retr(2)
    session.close()


# save_version = 0


#: IMAP replaces NUL bytes, so a client can't bring a whole header; the magic is enough.
DISGUISED = forge.MAGIC + b"\x02 looks encrypted\r\n\r\nbody\r\n"


@pytest.mark.packaged_defect("accepts it, and can't read it")
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("way", ("append", "doveadm"))
def test_a_read_only_setup_refuses_mail_that_looks_encrypted(dovecot, storage, way):
    server = dovecot(storage=storage, users={"alice": UserConfig(CryptConfig(save_version=0))})
    server.log.expect("Error:")
    if way == "append":
        with server.imap("alice") as session:
            status, text = session.put(DISGUISED)
        assert status == "NO"
        assert re.search("encrypted", text, re.IGNORECASE), text
    else:
        done = server.doveadm("save", "-u", "alice", stdin=DISGUISED, check=False)
        assert done.returncode != 0
        assert b"encrypted" in done.stderr
    with server.imap("alice") as session:
        assert session.bodies() == []


@pytest.mark.parametrize("save_version", (0, 2))
def test_mail_that_looks_encrypted_arrives_by_lmtp(dovecot, save_version):
    """LMTP puts its own header before what it gets, so this is a mail like any other."""
    server = dovecot(users={"alice": UserConfig(CryptConfig(save_version=save_version))})
    server.deliver("alice", DISGUISED)
    with server.imap("alice") as session:
        assert session.bodies()[0].endswith(DISGUISED)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_read_only_setup_stores_and_copies_plaintext(dovecot, storage):
    server = dovecot(storage=storage, users={"alice": UserConfig(CryptConfig(save_version=0))})
    mail = Mail.make()
    server.deliver("alice", mail)
    with server.imap("alice") as session:
        session.create("Copied")
        session.folder()
        assert session.uid("COPY", "1", "Copied")[0] == "OK"
        assert session.bodies("Copied")[0].endswith(mail.data)
    assert not server.store.attributes("alice")
    assert server.store.find_words(server.store.home("alice"), mail.words)


@pytest.mark.parametrize("storage", STORAGES)
def test_mail_that_looks_encrypted_is_wrapped_once_more(server, three, storage):
    """With encryption on, a client's mail may begin with anything."""
    user, _ = three(storage)
    with server.imap(user) as session:
        session.create("Odd")
        assert session.put(DISGUISED, "Odd")[0] == "OK"
        assert session.bodies("Odd") == [DISGUISED]
