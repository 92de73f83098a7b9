"""The harness itself: a private Dovecot runs, is what it says, and leaves nothing."""

import os
import time
from pathlib import Path

import pytest
from harness import CryptConfig, Instance, Mail, UserConfig

USERS = {
    "alice": UserConfig(crypt=CryptConfig(password="c0rrect-h0rse")),
    "plain": UserConfig(plugin=False),
}


def accounts():
    return [None, "nobody"] if os.getuid() == 0 else [None]


@pytest.mark.parametrize("run_as", accounts())
def test_a_mail_goes_in_and_comes_out(dovecot, run_as):
    server = dovecot(run_as=run_as, users=dict(USERS))
    mail = Mail.make()
    server.deliver("alice", "plain", mail)
    for user in USERS:
        with server.imap(user) as session:
            (body,) = session.bodies()
        assert body.endswith(mail.data)
        assert server.pop3(user).stat()[0] == 1
    server.lda("alice", mail)
    with server.imap("alice") as session:
        assert len(session.bodies()) == 2
    # 16 bytes are enough to tell ciphertext from a header line.
    assert server.store.mail_files("alice")[0].read_bytes()[:7] == b"CRYPTED"
    assert b"Return-Path" in server.store.mail_files("plain")[0].read_bytes()[:16]
    out = server.doveadm("fetch", "-u", "alice", "text", "ALL").stdout
    assert mail.words[1].encode() in out


def test_nothing_is_left_after_close(plugin):
    server = Instance(plugin=plugin, users=dict(USERS))
    with server:
        master = server._master.pid
        session = server.imap("alice")
        pids = server._all_processes()
        assert len(pids) > 4
    session.shutdown()
    until = time.monotonic() + 5
    while any(alive(pid) for pid in [master, *pids]):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert not server.run.exists()
    assert not server.store.path.exists()


def alive(pid):
    """The dead whose parent died too are gone only when init has looked at them."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_wrong_plugin_is_noticed(plugin):
    with Instance(plugin=plugin, users=dict(USERS)) as server:
        server.options.plugin = "packaged" if plugin == "ours" else "ours"
        with pytest.raises(AssertionError, match="plugin loaded"):
            server.prove_modules()


def test_an_alarm_in_the_log_is_noticed(dovecot):
    server = dovecot(users=dict(USERS))
    with open(server.places.log, "a") as log:
        log.write("imap(alice): Error: no such luck\n")
    assert server.log.unexpected() == ["imap(alice): Error: no such luck"]
