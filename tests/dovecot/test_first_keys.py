"""The first keys of users and folders: one each, however many mails come at once, and whoever is killed meanwhile."""

from __future__ import annotations

import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import CryptConfig, Mail, UserConfig
from test_doveadm import cryptokey
from test_keys import PASSWORD


def together(count, work):
    """Run `work(0..count-1)` at the same moment in threads; the first exception is raised."""
    barrier = threading.Barrier(count)

    def one(number):
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.mark.packaged_defect("makes up to 4 user keys and 4 folder keys")
@pytest.mark.parametrize("storage", ("maildir", "mdbox"))
def test_parallel_first_deliveries_make_one_key_each(dovecot, storage):
    names = [f"user{i}" for i in range(6)]
    users = {name: UserConfig(CryptConfig(password=PASSWORD)) for name in names}
    server = dovecot(storage=storage, users=users)
    store = server.store
    found = []
    for name in names:
        mails = [Mail.make() for _ in range(8)]
        if storage != "maildir":
            # Two processes that make an INBOX of dbox at once deadlock in Dovecot, plugin or not.
            server.guid(name)
        together(8, lambda i: server.deliver(name, mails[i]))
        with server.imap(name) as session:
            bodies = session.bodies()
        assert len(bodies) == 8
        for mail in mails:
            assert sum(body.endswith(mail.data) for body in bodies) == 1
        found.append((len(store.user_keys(name)), *map(len, store.folder_keys(name).values())))
        assert len(store.private_keys(name)) == 2, "a private key without its public key"
    assert found == [(1, 1)] * len(names)


@pytest.mark.packaged_defect("makes several user keys")
def test_parallel_first_mails_to_many_folders_share_one_user_key(dovecot):
    names = [f"user{i}" for i in range(5)]
    users = {name: UserConfig(CryptConfig(password=PASSWORD)) for name in names}
    server = dovecot(users=users)
    found = []
    for name in names:
        mails = [Mail.make() for _ in range(8)]
        with server.imap(name) as session:
            for number in range(4):
                session.create(f"Folder{number}")
        sessions = [server.imap(name) for _ in mails]

        def append(number):
            with sessions[number] as session:
                assert session.put(mails[number].data, f"Folder{number % 4}")[0] == "OK"

        together(8, append)
        with server.imap(name) as session:
            for number in range(4):
                bodies = session.bodies(f"Folder{number}")
                assert sorted(bodies) == sorted([mails[number].data, mails[number + 4].data])
        keys = server.store.folder_keys(name)
        found.append((len(server.store.user_keys(name)), *map(len, keys.values())))
    assert found == [(1, 1, 1, 1, 1)] * len(names)


def greeted(server):
    """An LMTP connection. One that meets a process as it dies is closed at once, and tried again, as an MTA does."""
    for _ in range(20):
        try:
            return server.lmtp()
        except OSError:
            time.sleep(0.1)
    return server.lmtp()


def test_a_first_delivery_that_is_killed_leaves_a_usable_store(dovecot, plugin):
    random.seed(20)
    names = [f"user{i}" for i in range(30)]
    users = {name: UserConfig(CryptConfig(password=PASSWORD)) for name in names}
    server = dovecot(users=users)
    server.log.expect("killed with signal 9", "Connection lost", "stale", "startup failed")
    begin = time.monotonic()
    server.deliver(names.pop(), Mail.make())
    whole = time.monotonic() - begin
    killed = 0
    for number, name in enumerate(names):
        first, second = Mail.make(), Mail.make()
        # Greeted: a process that dies sooner makes the master wait before it starts another.
        mark = server.log.mark()
        connection = server.lmtp(20)
        line = server.log.wait_for(r"lmtp\(\d+\): Info: Connect", mark)[0]
        pid = int(re.search(r"lmtp\((\d+)\)", line).group(1))
        timer = threading.Timer(1.1 * whole * number / len(names), server.kill, [pid])
        timer.start()
        try:
            taken = not connection.transaction([name], first.data)
        except OSError:
            taken = False
        timer.join()
        killed += not taken
        # Dovecot's own locks of maildir, index and file dict, which it breaks after a minute.
        for path in server.store.files(name):
            if path.name.endswith("lock"):
                path.unlink(missing_ok=True)
        assert not greeted(server).transaction([name], second.data)
        with server.imap(name) as session:
            bodies = session.bodies()
        # Dovecot may find the first one only now: then it comes second.
        for mail in (first, second) if taken else (second,):
            assert sum(body.endswith(mail.data) for body in bodies) == 1
        assert len(server.store.user_keys(name)) == 1
        assert [len(k) for k in server.store.folder_keys(name).values()] == [1]
        if plugin == "ours":
            assert len(server.store.private_keys(name)) == 2, "a private key that nobody uses"
    assert killed, "no delivery was killed: the test proves nothing"


@pytest.mark.packaged_defect("ends the session")
def test_a_first_key_under_the_password_of_an_open_session_can_be_put_under_the_new_one(dovecot):
    """Nothing tells the session that there is a new one: there was no key that it could have been put on."""
    server = dovecot(users={"alice": UserConfig(CryptConfig(password="old"))}, fetch_failure="no-after")
    login = server.users["alice"].password
    mail = Mail.make()
    with server.imap("alice") as session:
        session.folder()
        server.set_user("alice", UserConfig(CryptConfig(password="new"), password=login))
        assert session.put(mail.data)[0] == "OK"
    server.log.expect("Error:.*wrong password")
    with server.imap("alice") as session:
        session.folder()
        assert session.fetch_uids().status == "NO"
    cryptokey(server, "password", "-o", "old", "-n", "new")
    with server.imap("alice") as session:
        assert session.bodies() == [mail.data]
