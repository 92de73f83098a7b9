"""What one plugin's doveadm does to keys, the other plugin uses: one store, both plugins."""

from __future__ import annotations

import imaplib
import re

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from harness import CryptConfig, Mail, UserConfig, words
from test_doveadm import cryptokey
from test_doveadm_keys import readable

FIRST = ("packaged", "ours")


def export(server, *args: str) -> dict[str, str]:
    """The exported keys by id. The packaged module forgets a column: only the values count, and as JSON 2.4 panics."""
    out = cryptokey(server, "export", *args, fmt="pager").stdout.decode()
    found = re.findall(r"\b([0-9a-f]{64})\b.*?(-----BEGIN .*?-----END [A-Z ]*-----\n)", out, re.DOTALL)
    return dict(found)


def number(pem: str) -> int:
    """A private key's secret number."""
    return load_pem_private_key(pem.encode(), None).private_numbers().private_value


@pytest.fixture
def both(dovecot, store, plugin):
    """A server of each plugin, with a user who has a mail from each."""
    made = {}
    for name, each in (("packaged", "packaged"), ("ours", plugin)):
        user = UserConfig(CryptConfig(password="first-one"))
        made[name] = dovecot(store=store, plugin=each, users={"alice": user})
    return made


@pytest.fixture
def mails(both):
    found = [Mail.make(), Mail.make()]
    for server, mail in zip(both.values(), found):
        server.deliver("alice", mail)
    return found


@pytest.mark.parametrize("first", FIRST)
def test_a_password_that_one_changes_opens_for_the_other(both, mails, first):
    cryptokey(both[first], "password", "-o", "first-one", "-n", "the-next")
    for server in both.values():
        server.set_user("alice", UserConfig(CryptConfig(password="the-next")))
        assert all(readable(server, "alice", mail) for mail in mails)


@pytest.mark.parametrize("first", FIRST)
def test_a_password_may_be_any_bytes(both, mails, first):
    """It may be what a user's client sent at login, in whatever encoding."""
    latin = "\udce4\udcff not UTF-8"  # how Python names such bytes
    cryptokey(both[first], "password", "-o", "first-one", "-n", latin)
    for server in both.values():
        option = ("-o", words.option("mail_crypt_private_password", latin))
        done = server.doveadm(*option, "mailbox", "cryptokey", "export", "-u", "alice", "-U")
        assert b"BEGIN PRIVATE KEY" in done.stdout


def test_both_export_the_same(both, mails):
    for level in ("-U", "INBOX"):
        # The same number: a PEM has the public point in one of two forms.
        (ours, theirs) = (
            {key_id: number(pem) for key_id, pem in export(server, level).items()}
            for server in both.values()
        )
        assert ours == theirs and len(ours) == 1


@pytest.mark.packaged_refuses("it has no import")
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("level", ("user", "folder"))
def test_what_one_exports_is_restored_for_both(both, mails, store, first, level):
    where = ("-U",) if level == "user" else ("-m", "INBOX")
    ((key_id, pem),) = export(both[first], where[-1]).items()
    store.drop_attributes("alice", f"^priv.*privkeys/{key_id}$")
    both["ours"].log.expect(key_id)
    with pytest.raises(imaplib.IMAP4.error):
        readable(both["ours"], "alice", mails[0])
    cryptokey(both["ours"], "import", *where, stdin=pem.encode())
    for server in both.values():
        assert all(readable(server, "alice", mail) for mail in mails)


@pytest.mark.parametrize("first", FIRST)
def test_a_key_that_one_generates_is_written_to_by_the_other(both, mails, store, first):
    cryptokey(both[first], "generate", "-f", "INBOX")
    assert [len(keys) for keys in store.folder_keys("alice").values()] == [2]
    later = [Mail.make(), Mail.make()]
    for server, mail in zip(both.values(), later):
        server.deliver("alice", mail)
    for server in both.values():
        assert all(readable(server, "alice", mail) for mail in mails + later)
