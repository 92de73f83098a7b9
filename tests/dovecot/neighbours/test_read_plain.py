"""mail_crypt_read_plain = no: what somebody has put into a folder in plaintext is no mail, whoever asks for it."""

from __future__ import annotations

import poplib

import pytest
from conf import plugins, settings
from harness import CryptConfig, Mail, UserConfig, words
from test_virtual import make_virtual

pytestmark = pytest.mark.packaged_refuses("it has no such setting")

STORAGES = ("maildir", "sdbox", "mdbox")
WHY = "it is stored in plaintext, and"


def user_of(storage: str, *, write: int = 2, strict: bool = False) -> UserConfig:
    """A user whose mail is written encrypted (2) or not (0), and perhaps served only if it is."""
    extra = ((words.setting("mail_crypt_read_plain"), "no"),) if strict else ()
    return UserConfig(CryptConfig(save_version=write, password="secret"), storage=storage, extra=extra)


@pytest.fixture(scope="module")
def server(shared_dovecot):
    limit = {"virtual_max_open_mailboxes": "1"}
    extra = plugins("virtual") + settings(limit, "virtual_max_open_mailboxes = 1\n")
    place = words.location("virtual", "~/virtual")
    extra += f"namespace virtual {{\nprefix = Virtual/\nseparator = /\n{place}}}\n"
    return shared_dovecot(users={}, fetch_failure="no-after", extra=extra)


@pytest.fixture(params=STORAGES)
def planted(server, request):
    """A user with an encrypted mail, one in plaintext, and another encrypted one."""
    storage, user = request.param, f"{request.param}-{request.function.__name__}"
    mails = [Mail.make() for _ in range(3)]
    for mail, write in zip(mails, (2, 0, 2)):
        server.set_user(user, user_of(storage, write=write))
        with server.imap(user) as session:
            assert session.put(mail.data)[0] == "OK"
    server.set_user(user, user_of(storage, strict=True))
    server.log.expect(WHY)
    return user, mails


def test_clients_get_all_but_the_planted_mail(server, planted):
    user, mails = planted
    make_virtual(server, user)
    mark = server.log.mark()
    for _ in range(2):
        with server.imap(user) as session:
            session.folder()
            answer = session.fetch_uids()
            assert answer.items == {1: mails[0].data, 3: mails[2].data}
            assert answer.status == "NO" and "changed after it was stored" in answer.text
            for part in ("BODY.PEEK[TEXT]", "BODY.PEEK[1]", "BINARY.PEEK[1]", "BODY.PEEK[HEADER.FIELDS (X-OTHER)]"):
                session.folder()
                assert not session.fetch_uids(part, "2").items
            assert session.folder("Virtual/All") == 3
            assert set(session.fetch_uids().items.values()) == {mails[0].data, mails[2].data}
    assert server.log.wait_for(rf"{user}.*INBOX.*UID[= ]2\b.*{WHY} {words.setting('mail_crypt_read_plain')} = no", mark)
    session = server.pop3(user)
    for number, mail in ((1, mails[0]), (3, mails[2])):
        assert b"\r\n".join(session.retr(number)[1]) + b"\r\n" == mail.data
    with pytest.raises((poplib.error_proto, OSError)):
        session.retr(2)


def test_the_planted_mail_is_not_copied_moved_or_exported(server, planted):
    user, mails = planted
    with server.imap(user) as session:
        session.create("Other")
        session.folder()
        for command in ("COPY", "MOVE"):
            assert session.uid(command, "2", "Other")[0] == "NO"
        assert session.folder("Other") == 0
    for command in (("copy", "Other"), ("move", "Other")):
        done = server.doveadm(command[0], "-u", user, *command[1:], "mailbox", "INBOX", "uid", "2", check=False)
        assert done.returncode > 0
    done = server.doveadm("fetch", "-u", user, "text", "mailbox", "INBOX", "uid", "2", check=False)
    assert done.returncode > 0 and mails[1].subject.encode() not in done.stdout
    assert server.doveadm("mailbox", "status", "-u", user, "messages", "INBOX").stdout.strip().endswith(b"=3")


def test_new_mail_comes_in_by_every_way(server, planted):
    user, mails = planted
    later = [Mail.make() for _ in range(4)]
    server.deliver(user, later[0])
    server.lda(user, later[1])
    server.doveadm("save", "-u", user, stdin=later[2].data)
    with server.imap(user) as session:
        assert session.put(later[3].data)[0] == "OK"
        session.folder()
        found = session.fetch_uids(uids="4:*").items
    assert sorted(found) == [4, 5, 6, 7]
    for uid, mail in zip(sorted(found), later):
        assert found[uid].endswith(mail.data)


def test_it_is_served_once_the_user_says_so(server, planted):
    user, mails = planted
    server.set_user(user, user_of(user.split("-")[0]))
    with server.imap(user) as session:
        assert session.bodies() == [mail.data for mail in mails]


def test_it_stops_a_sync_and_gets_to_no_other_side(server, dovecot, planted):
    user, mails = planted
    other = dovecot(users={user: user_of("maildir")})
    there = ["env", "-i", "PATH=/usr/bin:/bin", "doveadm", "-c", str(other.places.config), "dsync-server", "-u", user]
    done = server.doveadm("sync", "-u", user, *there, check=False)
    assert done.returncode != 0 and b"Can't lookup body for UID=2" in done.stderr
    with other.imap(user) as session:
        assert mails[1].data not in session.bodies()
