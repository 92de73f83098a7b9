"""Whatever one plugin writes the other reads, and goes on writing.

One store, two servers on it at the same time: the packaged plugin and ours.
Every user stands for one row of the matrix.
"""

from __future__ import annotations

import itertools

import pytest
from harness import CryptConfig, DovecotVersion, Key, Mail, Store, UserConfig
from harness import forge

STORAGES = ("maildir", "sdbox", "mdbox")
COMPRESS = ("plain", "gz")
MODES = ("unprotected", "password", "private-key", "global-ec", "global-rsa")
#: Dovecot 2.4 writes no streams of version 1.
VERSIONS = (1, 2) if DovecotVersion.installed().line == "2.3" else (2,)
FIRST = ("packaged-first", "ours-first")

FOLDERS = ("INBOX", "Archive", "Later")

EC = Key.ec()
RSA = Key.rsa()
#: Hex, since that is what keys of version 1 want.
PASSWORD = "c0ffee5ec12e7000"


def crypt(mode: str, save_version: int) -> CryptConfig:
    """The settings of one mode."""
    if mode == "unprotected":
        return CryptConfig(save_version)
    if mode == "password":
        return CryptConfig(save_version, password=PASSWORD)
    if mode == "private-key":
        return CryptConfig(save_version, user_key_keys=(EC.setting(),))
    key = EC if mode == "global-ec" else RSA
    return CryptConfig(
        save_version,
        curve=None,
        global_public=key.public_setting(),
        global_private=(key.setting(),),
    )


def rows():
    for row in itertools.product(STORAGES, COMPRESS, MODES, VERSIONS, FIRST):
        # Version 1 has no place for RSA.
        if row[2:4] != ("global-rsa", 1):
            yield row


def name(*row) -> str:
    return "-".join(str(part) for part in row)


def users():
    found = {}
    for row in rows():
        storage, compress, mode, version, _ = row
        found[name(*row)] = UserConfig(
            crypt(mode, version),
            storage=storage,
            compress=None if compress == "plain" else compress,
        )
    return found


@pytest.fixture(scope="module")
def both(shared_dovecot, plugin):
    everyone = users()
    with Store() as store:
        yield {
            "packaged": shared_dovecot(store=store, plugin="packaged", users=dict(everyone)),
            "ours": shared_dovecot(store=store, plugin=plugin, users=dict(everyone)),
        }


def seed(server, user, mode, version, packaged):
    """Make the keys that the packaged plugin can't make itself."""
    key = Key.ec()
    if mode.startswith("global"):
        return
    if version == 1:
        # Version 1 writes mail but makes no keys, and a mail of version 1 names the
        # old id of its key: such stores come from the first releases.
        stored = {
            "unprotected": key.v1_private,
            "password": lambda: key.v1_private_under_password(PASSWORD),
            "private-key": lambda: key.v1_private_under_key(EC),
        }[mode]()
        server.seed_old_keys(user, key, stored, {folder: Key.ec() for folder in FOLDERS})
    elif mode == "private-key" and packaged:
        server.seed_user_key(user, key, key.dovecot_private_under_key(EC))


def check_files(store, user, version):
    """Every mail file is encrypted, and in the version that was asked for."""
    files = store.mail_files(user)
    assert files
    for path in files:
        data = path.read_bytes()
        at = data.find(forge.MAGIC)
        assert at >= 0, f"{path} is not encrypted"
        assert data[at + 9] == version


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: name(*row))
def test_each_reads_what_the_other_writes(both, plugin, row):
    _, _, mode, version, first = row
    user = name(*row)
    one, other = ("packaged", "ours") if first == "packaged-first" else ("ours", "packaged")
    writer, reader = both[one], both[other]
    store = writer.store
    seed(writer, user, mode, version, "packaged" in (one, plugin))
    mails = {folder: [] for folder in FOLDERS}

    def write(server, size):
        mail = Mail.make(size)
        server.deliver(user, mail)
        mails["INBOX"].append(mail)

    def append(server, folder, size):
        mail = Mail.make(size)
        with server.imap(user) as session:
            session.create(folder)
            assert session.put(mail.data, folder)[0] == "OK"
        mails[folder].append(mail)

    def read(server):
        with server.imap(user) as session:
            for folder, expected in mails.items():
                if not expected:
                    continue
                bodies = session.bodies(folder)
                assert len(bodies) == len(expected)
                for body, mail in zip(bodies, expected):
                    assert body.endswith(mail.data)
                assert session.sizes() == [len(body) for body in bodies]

    write(writer, 2000)
    append(writer, "Archive", 40_000)
    read(reader)
    write(reader, 3000)
    append(reader, "Later", 1000)
    append(reader, "Archive", 100)
    read(writer)
    read(reader)

    check_files(store, user, version)
    words = tuple(word for mail in sum(mails.values(), []) for word in mail.words)
    assert not store.find_words(store.home(user), words)
    if mode.startswith("global"):
        assert not store.attributes(user)
    else:
        assert len(store.user_keys(user)) == 1
        assert all(len(keys) == 1 for keys in store.folder_keys(user).values())


@pytest.mark.parametrize("algorithm", ("bz2", "lz4", "zstd"))
@pytest.mark.parametrize("first", FIRST)
def test_every_compression_goes_both_ways(store, dovecot, plugin, algorithm, first):
    everyone = {"alice": UserConfig(CryptConfig(password="c0rrect-h0rse"), compress=algorithm)}
    order = ("packaged", plugin) if first == "packaged-first" else (plugin, "packaged")
    writer, reader = (dovecot(store=store, plugin=p, users=dict(everyone)) for p in order)
    mails = [Mail.make(3000), Mail.make(200_000)]
    writer.deliver("alice", mails[0])
    reader.deliver("alice", mails[1])
    for server in (reader, writer):
        with server.imap("alice") as session:
            bodies = session.bodies()
        assert [b.endswith(m.data) for b, m in zip(bodies, mails)] == [True, True]


@pytest.mark.parametrize("curve", ("secp384r1", "secp521r1"))
@pytest.mark.parametrize("first", FIRST)
def test_every_curve_goes_both_ways(store, dovecot, plugin, curve, first):
    everyone = {"alice": UserConfig(CryptConfig(curve=curve, password="c0rrect-h0rse"))}
    order = ("packaged", plugin) if first == "packaged-first" else (plugin, "packaged")
    writer, reader = (dovecot(store=store, plugin=p, users=dict(everyone)) for p in order)
    mail = Mail.make()
    writer.deliver("alice", mail)
    reader.deliver("alice", mail)
    for server in (reader, writer):
        with server.imap("alice") as session:
            assert [b.endswith(mail.data) for b in session.bodies()] == [True, True]
