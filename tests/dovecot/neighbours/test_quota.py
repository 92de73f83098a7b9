"""quota, kept in a dict: what counts is the mail as its owner sees it."""

from __future__ import annotations

import re
import time

import pytest
from conf import plugins, settings
from harness import CryptConfig, Mail, UserConfig, words
from harness.spoil import DAMAGED, LOCKED, spoil

STORAGES = ("maildir", "sdbox", "mdbox")


def configuration() -> str:
    """2.4 has no quota that is counted in a dict; there quota_clone writes to one what is counted."""
    if words.is_24():
        return plugins("quota", "quota_clone") + (
            'quota "User quota" {\ndriver = count\nstorage_size = 1M\n}\nquota_storage_grace = 0\n'
            "quota_clone {\ndict file {\npath = %{home}/quota\n}\n}\n"
        )
    old = {"quota": "dict:User quota::file:%h/quota", "quota_rule": "*:storage=1M", "quota_grace": "0%%", "quota_vsizes": "yes"}
    return plugins("quota") + settings(old, "")


@pytest.fixture(scope="module")
def server(shared_dovecot):
    crypt = CryptConfig(password="of-the-key")
    users = {storage: UserConfig(crypt, storage=storage) for storage in STORAGES}
    return shared_dovecot(users=users, fetch_failure="no-after", extra=configuration())


def check_used(server, user: str, size: int, mails: int) -> None:
    """Bytes and mails, by the dict; a clone is written a little later."""
    until = time.monotonic() + 20
    while True:
        text = (server.store.home(user) / "quota").read_text()
        used = [int(re.search(rf"quota/{kind}\n(\d+)", text).group(1)) for kind in ("storage", "messages")]
        if used == [size, mails]:
            return
        assert time.monotonic() < until, used
        time.sleep(0.05)


@pytest.mark.packaged_defect("hands out the damaged mail")
@pytest.mark.parametrize("storage", STORAGES)
def test_what_cannot_be_read_counts_until_it_is_expunged(server, storage):
    spoilt = spoil(server, storage)
    spoilt.check()
    sizes = {uid: len(mail.data) for uid, mail in spoilt.mails.items()}
    check_used(server, storage, sum(sizes.values()), len(sizes))
    with server.imap(storage) as session:
        session.folder()
        session.uid("STORE", f"{LOCKED},{DAMAGED}", "+FLAGS", r"(\Deleted)")
        assert session.expunge()[0] == "OK"
        status, text = session.put(Mail.make(1_200_000).data)
        assert status == "NO" and "quota" in text.lower(), text
        session.folder()
        assert session.fetch_uids().items == spoilt.readable
    left = sum(sizes[uid] for uid in (2, 4))
    check_used(server, storage, left, 2)
    assert server.doveadm("quota", "recalc", "-u", storage).returncode == 0
    check_used(server, storage, left, 2)
    assert spoilt.in_files() == []
