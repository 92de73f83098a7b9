"""`cryptokey delete` at every moment of a mail's way into a folder: the key stays, or the mail isn't stored."""

from __future__ import annotations

import select
import subprocess
import time
from itertools import count

import pytest
from harness import CryptConfig, DovecotVersion, Mail, UserConfig
from harness.moment import Moments
from test_doveadm import cryptokey, rows
from test_doveadm_keys import new_verb, readable

pytestmark = new_verb
STORAGES = ("maildir", "sdbox", "mdbox")


def active(server) -> str:
    """The id of INBOX's active key."""
    (key_id,) = [r["pubid"] for r in rows(server, "list", "INBOX") if r["active"] == "yes"]
    return key_id


def meanwhile(server, moments, pid, *commands) -> list[int]:
    """Runs doveadm commands, one after the other, while a process is stopped; their exit codes.

    Where one waits for a lock that the process holds, it goes on.
    """
    codes = []
    if pid is None:
        moments.resume(None)
        return []
    for command in commands:
        argv = ["doveadm", "-c", str(server.places.config), "mailbox", "cryptokey", *command]
        process = subprocess.Popen(
            server._wrap(argv, dies_with_us=True),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            codes.append(process.wait(1.5))
        except subprocess.TimeoutExpired:
            moments.resume(pid)
            pid = None
            codes.append(process.wait(60))
    if pid is not None:
        moments.resume(pid)
    return codes


def judge(server, stored: bool, mail: Mail) -> None:
    """Whoever was told that the mail is stored can read it, nobody else has it; then it goes."""
    with server.imap("alice") as imap:
        bodies = imap.bodies()
        assert [body.endswith(mail.data) for body in bodies] == [True] * stored
    server.doveadm("expunge", "-u", "alice", "mailbox", "INBOX", "all")


def server_of(dovecot, storage, service, extra=""):
    users = {"alice": UserConfig(CryptConfig(password="secret"))}
    server = dovecot(users=users, storage=storage, extra=extra)
    server.deliver("alice", Mail.make())
    server.doveadm("expunge", "-u", "alice", "mailbox", "INBOX", "all")
    return server, Moments(server, service)


@pytest.mark.parametrize("storage", STORAGES)
def test_an_appended_mail_is_never_left_under_a_deleted_key(dovecot, storage):
    server, moments = server_of(dovecot, storage, "imap")
    server.log.expect("was deleted while a mail was being encrypted to it")
    outcomes = set()
    for at in count(1):
        mail = Mail.make(60_000)
        old = active(server)
        with server.imap("alice") as imap:
            tag = imap._new_tag()
            imap.send(tag + b" APPEND INBOX {%d}\r\n" % len(mail.data))
            assert imap.readline().startswith(b"+")
            imap.send(mail.data[:50_000])
            until = time.monotonic() + 10
            # Storing it has begun, and its key is chosen.
            while sum(p.stat().st_size for p in server.store.files("alice")) < 20_000:
                assert time.monotonic() < until
                time.sleep(0.01)
            cryptokey(server, "generate", "-f", "INBOX")
            moments.arm(at)
            imap.send(mail.data[50_000:] + b"\r\n")
            answered = lambda: select.select([imap.sock], [], [], 0)[0]  # noqa: E731
            pid = moments.stopped(answered)
            codes = meanwhile(server, moments, pid, ("delete", "-u", "alice", "-m", "INBOX", old))
            deleted = codes[-1] == 0 if codes else None
            while not (line := imap.readline()).startswith(tag):
                assert line
        stored = line.startswith(tag + b" OK")
        judge(server, stored, mail)
        outcomes.add((deleted, stored))
        if pid is None:
            break
    assert outcomes >= {(True, False), (False, True), (None, True)}


@pytest.mark.parametrize("storage, locked", [*((s, False) for s in STORAGES), ("maildir", True)])
def test_a_delivered_mail_is_never_left_under_a_deleted_key(dovecot, storage, locked):
    """`locked`: somebody else has locked the Maildir, and delivery doesn't wait for that."""
    # Since 2.4.2 attachments give keywords to a mail, and a Maildir's keywords need the lock.
    no_keywords = locked and DovecotVersion.installed() >= DovecotVersion.parse("2.4.2")
    extra = "mail_attachment_detection_options =\n" if no_keywords else ""
    server, moments = server_of(dovecot, storage, "lmtp", extra)
    server.log.expect("was deleted while a mail was being encrypted to it")
    refused = set()
    outcomes = set()
    for at in count(1):
        mail = Mail.make()
        old = active(server)
        (uidlist,) = [p for p in server.store.files("alice") if p.name == "dovecot-uidlist"] or [None]
        lock = uidlist and uidlist.with_name("dovecot-uidlist.lock")
        if locked:
            lock.write_text("1:elsewhere")
        moments.arm(at)
        with server.lmtp() as client:
            client.ehlo()
            client.mail("sender@example.org")
            client.rcpt("alice")
            client.putcmd("data")
            assert client.getreply()[0] == 354
            client.send(mail.data + b".\r\n")
            answered = lambda: select.select([client.sock], [], [], 0)[0]  # noqa: E731
            pid = moments.stopped(answered)
            if locked:
                lock.unlink(missing_ok=True)
            codes = meanwhile(
                server,
                moments,
                pid,
                ("generate", "-u", "alice", "-f", "INBOX"),
                ("delete", "-u", "alice", "-m", "INBOX", old),
            )
            deleted = codes[-1] == 0 if codes else None
            code, _ = client.getreply()
        stored = code == 250
        refused |= {code} - {250}
        judge(server, stored, mail)
        outcomes.add((deleted, stored))
        if pid is None:
            break
    assert outcomes >= {(False, True), (None, True)}, outcomes
    # Where both get in each other's way, both may give up.
    assert outcomes & {(True, False), (False, False)}, outcomes
    # The sender tries again.
    assert refused == {451}


def test_a_first_folder_key_is_never_left_under_a_deleted_user_key(dovecot):
    server, moments = server_of(dovecot, "maildir", "imap")
    outcomes = set()
    for at in count(1):
        mail, user = Mail.make(), f"u{at}"
        server.set_user(user, UserConfig(CryptConfig(password="secret")))
        cryptokey(server, "generate", "-U", user=user)
        (old,) = server.store.user_keys(user)
        with server.imap(user) as imap:
            moments.arm(at)
            tag = imap._new_tag()
            imap.send(tag + b" APPEND INBOX {%d+}\r\n" % len(mail.data) + mail.data + b"\r\n")
            answered = lambda: select.select([imap.sock], [], [], 0)[0]  # noqa: E731
            pid = moments.stopped(answered)
            made = server.store.folder_keys(user)
            codes = meanwhile(
                server,
                moments,
                pid,
                ("generate", "-u", user, "-U", "-f"),
                ("delete", "-u", user, "-U", old),
            )
            while not (line := imap.readline()).startswith(tag):
                assert line
        assert line.startswith(tag + b" OK"), line
        assert readable(server, user, mail)
        if made:
            break
        outcomes.add(codes[-1] == 0)
    assert outcomes == {True, False}
