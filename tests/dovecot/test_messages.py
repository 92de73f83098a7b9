"""What clients and logs are told where there is no key, or none that opens: which of the two, and what to do."""

from __future__ import annotations

import time

import pytest
from harness import CryptConfig, Key, Mail, UserConfig, words
from test_doveadm_keys import shared_folder

pytestmark = pytest.mark.packaged_refuses("it has words of its own")

GLOBAL = Key.ec()
NO_KEY = "There is no key for this mail"
LOCKED = "The key of this mail can't be unlocked"
KEYLESS = "This folder has no key that mail could be encrypted to"


def answer(server, user: str = "alice", folder: str = "INBOX") -> str:
    """What a client gets for a mail that can't be read."""
    with server.imap(user) as imap:
        imap.folder(folder, readonly=True)
        answer = imap.fetch_uids()
    assert answer.status == "NO"
    return answer.text


def logged(server, since: int) -> list[str]:
    """The log's lines about mail_crypt."""
    return server.log.lines("mail_crypt: ", since)


def said(server, since: int, count: int = 1) -> list[str]:
    """The same, once there are so many: another process writes them."""
    until = time.monotonic() + 10
    while len(logged(server, since)) < count and time.monotonic() < until:
        time.sleep(0.01)
    return logged(server, since)


@pytest.mark.parametrize("notified", [False, True])
def test_a_mail_under_the_global_key_asks_for_its_private_key_once(dovecot, notified):
    """A server that only receives mail looks at what it has stored, as often as its plugins ask."""
    crypt = CryptConfig(curve=None, global_public=GLOBAL.public_setting())
    extra = words.mail_log("lmtp") if notified else ""
    server = dovecot(users={"alice": UserConfig(crypt)}, extra=extra, fetch_failure="no-after")
    server.log.expect("global")
    setting = words.setting("mail_crypt_global_private_key")
    for number in (1, 2):
        mark = server.log.mark()
        server.deliver("alice", Mail.make())
        lines = logged(server, mark)
        assert len(lines) <= 1, lines
        mark = server.log.mark()
        assert NO_KEY in answer(server)
        fetched = said(server, mark, number)
        assert len(fetched) == number
        lines += fetched
        for line in lines:
            assert GLOBAL.id in line and f"{setting} is not set" in line and "GUID" not in line
    other = CryptConfig(
        curve=None, global_public=GLOBAL.public_setting(), global_private=(Key.ec().setting(),)
    )
    server.set_user("alice", UserConfig(other))
    mark = server.log.mark()
    assert NO_KEY in answer(server)
    assert f"no {setting} belongs to it" in said(server, mark)[0]


def test_a_key_that_does_not_open_is_not_called_missing(dovecot):
    above = Key.ec()
    users = {
        "alice": UserConfig(CryptConfig(password="secret")),
        "bob": UserConfig(CryptConfig(user_key_keys=(above.setting(),))),
    }
    server = dovecot(users=users, fetch_failure="no-after")
    for user, setting in (
        ("alice", "mail_crypt_private_password"),
        ("bob", "mail_crypt_private_key"),
    ):
        server.deliver(user, Mail.make())
        server.set_user(user, UserConfig(CryptConfig()))
        server.log.expect(words.setting(setting))
        mark = server.log.mark()
        assert LOCKED in answer(server, user)
        (line,) = said(server, mark)
        assert words.setting(setting) in line


def test_a_folder_that_can_have_no_key_says_so(dovecot):
    server, _ = shared_folder(dovecot)
    with server.imap("alice") as imap:
        imap.create("New")
    server.doveadm("acl", "set", "-u", "alice", "New", "user=bob", "lookup", "read", "insert")
    server.log.expect("its owner has to store a mail there first")
    with server.imap("bob") as imap:
        status, text = imap.put(Mail.make().data, "shared/alice/New")
    assert status == "NO" and KEYLESS in text
