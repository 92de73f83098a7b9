"""Memory that was freed is never read, and keys that are done with are in none.

Freed memory is overwritten for these tests, so that who still reads it goes wrong.
"""

from __future__ import annotations

import base64

import pytest
from harness import CryptConfig, Key, Mail, UserConfig, forge, proc, words

#: What a freed byte becomes; what glibc keeps for the thread itself would stay as it was.
PERTURB = "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0"
STORAGES = ("maildir", "sdbox", "mdbox")
SIZES = (2000, 300_000, 3_000_000)


@pytest.fixture(scope="module")
def server(shared_dovecot):
    users = {
        f"{storage}-{kind}": UserConfig(
            CryptConfig(password="secret"), storage=storage, compress="gz" if kind == "gz" else None
        )
        for storage in STORAGES
        for kind in ("plain", "gz")
    }
    return shared_dovecot(users=users, extra=words.environment("GLIBC_TUNABLES", PERTURB))


def encoded(mail: Mail) -> bytes:
    """A mail whose content is another one, in base64."""
    head = b"Subject: encoded\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return head + base64.encodebytes(mail.data).replace(b"\n", b"\r\n")


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kind", ["plain", "gz"])
def test_a_kept_mail_never_reads_from_what_was_freed(server, storage, kind):
    mails = [Mail.make(size) for size in SIZES]
    with server.imap(f"{storage}-{kind}") as session:
        for mail in mails:
            assert session.put(mail.data)[0] == "OK"
            assert session.put(encoded(mail))[0] == "OK"
        session.folder()
        uids = session.uids()
        for _ in range(2):
            for number, mail in enumerate(mails):
                uid = uids[2 * number]
                assert session.fetch_uids("BODY.PEEK[]", str(uid)).items == {uid: mail.data}
                part = session.fetch_uids("BODY.PEEK[]<1000.500>", str(uid))
                assert part.items == {uid: mail.data[1000:1500]}
                uid = uids[2 * number + 1]
                for _ in range(2):
                    decoded = session.fetch_uids("BINARY.PEEK[1]", str(uid))
                    assert decoded.items == {uid: mail.data}


def test_the_key_of_a_written_mail_stays_in_no_memory(dovecot):
    key = Key.ec()
    crypt = CryptConfig(curve=None, global_public=key.public_setting(), global_private=(key.setting(),))
    server = dovecot(users={"alice": UserConfig(crypt)})
    with server.lmtp() as session:
        # Two, for what only the next one would overwrite.
        for size in (2000, 400_000):
            assert not session.one(["alice"], Mail.make(size).data)
        stored = [path.read_bytes() for path in server.store.mail_files("alice")]
        blocks = [forge.key_block(data, key) for data in stored]
        memory = [part for pid in server.processes("lmtp") for part in proc.memory(pid)]
        # What is kept for the next mail shows that this looks where it should.
        assert any(bytes.fromhex(key.id) in part for part in memory)
        for block in blocks:
            for secret in (block[:16], block[16:32], block[44:]):
                assert not any(secret in part for part in memory)
