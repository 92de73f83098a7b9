"""Whatever happens while mail is converted, every mail is there, once, as it was."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from harness import CryptConfig, Instance, Mail, Store, UserConfig
from harness.convert import (
    bodies, convert, encrypted, everything, fill, leftovers, new_keys, pair, rows, total,
)  # fmt: skip
from harness.crash import no_room

STORAGES = ("maildir", "sdbox", "mdbox")
#: With CONVERT_KILLS=all it is killed at each of these; it takes minutes.
KILLS = {
    "renameat2": ("maildir", "sdbox"),
    "unlink": STORAGES,
    "rename": ("mdbox",),
    "fsync": ("maildir", "sdbox"),
    "fdatasync": STORAGES,
    "pwrite64": STORAGES,
    "write": STORAGES,
    "utimensat": ("maildir", "sdbox"),
}
QUICK = ("renameat2", "unlink", "rename")

pytestmark = pytest.mark.packaged_refuses("it has no such command")


@pytest.fixture(scope="module")
def store():
    with Store() as store:
        yield store


@pytest.fixture(scope="module")
def server(shared_dovecot, store):
    users = {}
    copied = {f"mdbox-{call}-copied": UserConfig(CryptConfig(), storage="mdbox") for call in KILLS if "mdbox" in KILLS[call]}
    # Without the plugin, copies are one message.
    with Instance(plugin="none", users=copied, store=store) as bare:
        for user in copied:
            fill(bare, user)
    users |= copied
    for storage in STORAGES:
        for name in ("busy", "qresync", "full", "exchange", "eio", "order", *KILLS):
            users |= pair(f"{storage}-{name}", storage=storage)
        locked = pair(f"{storage}-locked", CryptConfig(password="secret"), storage=storage)
        users |= locked
        user = locked[f"{storage}-locked"]
        users[f"{storage}-locked-admin"] = replace(user, crypt=CryptConfig())
    users |= pair("maildir-two", storage="maildir")
    return shared_dovecot(users=users, store=store)


def traced(
    server, user: str, inject: str, *args: str, output: Path | str = os.devnull
) -> subprocess.CompletedProcess:
    """Runs it with something happening to its system calls; they are written to `output`."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    calls, *happens = inject.split(":", 1)
    argv = ["strace", "-f", "-y", "-s", "4096", "-qq", "-o", str(output), "-e", f"trace={calls}"]
    if happens:
        argv += ["-e", f"inject={inject}"]
    argv += ["doveadm", "-c", str(server.places.config), "-f", "json"]
    done = server.run_program([*argv, "mailbox", "crypt", "convert", "-u", user, *args], check=False)
    if b"PTRACE" in done.stderr or b"attach" in done.stderr:
        pytest.skip("nothing may be traced here")
    # The next one would wait for what is left until it is old.
    for lock in server.store.path.rglob("dovecot-uidlist.lock"):
        lock.unlink()
    return done


def killed(server, user: str, call: str, saved: Path):
    """Runs it again and again from the same state, killed each time a moment later, until it gets through; yields after
    each time."""
    home = server.store.home(user)
    subprocess.run(["cp", "-a", home, saved], check=True)
    for at in range(1, 1000):
        done = traced(server, user, f"{call}:signal=KILL:when={at}")
        if done.returncode not in (-9, 137):
            assert done.returncode == 0 and at > 1, (at, done.stderr)
            return
        yield
        shutil.rmtree(home)
        subprocess.run(["cp", "-a", saved, home], check=True)


def may_take_minutes(call: str) -> None:
    if call not in QUICK and os.environ.get("CONVERT_KILLS") != "all":
        pytest.skip("CONVERT_KILLS=all: it takes minutes")


@pytest.mark.parametrize(("storage", "call"), [(storage, call) for call in KILLS for storage in KILLS[call]])
def test_killed_at_any_moment_it_loses_nothing_and_the_next_run_ends_it(server, tmp_path, storage, call):
    may_take_minutes(call)
    user = f"{storage}-{call}"
    fill(server, f"{user}-before")
    new_keys(server, user)
    before = everything(server, user)
    for _ in killed(server, user, call, tmp_path / "saved"):
        assert bodies(server, user) == before[2]
        assert convert(server, user).returncode == 0
        assert all(encrypted(server, user))
        assert everything(server, user) == before
        assert not leftovers(server, user)
    assert everything(server, user) == before


@pytest.mark.parametrize("call", [call for call in KILLS if "mdbox" in KILLS[call]])
def test_killed_while_copies_get_messages_of_their_own_it_loses_nothing(server, tmp_path, call):
    may_take_minutes(call)
    user = f"mdbox-{call}-copied"
    new_keys(server, user)
    before = everything(server, user)
    for _ in killed(server, user, call, tmp_path / "saved"):
        assert bodies(server, user) == before[2]
        assert convert(server, user).returncode == 0
        # Dovecot may have rebuilt its indexes by itself, as after any process that died while it saved to an mdbox.
        assert bodies(server, user) == before[2]
        assert not leftovers(server, user)
        if not all(encrypted(server, user)):
            # How often a message is referred to is known after that at the latest. It takes copies for one another.
            server.doveadm("force-resync", "-u", user, "*")
            assert convert(server, user).returncode == 0
            server.doveadm("purge", "-u", user)
            assert all(encrypted(server, user))
            assert bodies(server, user) == before[2]
    assert everything(server, user) == before
    assert all(encrypted(server, user))


@pytest.mark.parametrize("storage", ("maildir", "sdbox"))
def test_a_new_file_is_on_the_disk_before_its_name_and_that_before_the_old_one_goes(server, tmp_path, storage):
    user = f"{storage}-order"
    fill(server, f"{user}-before")
    new_keys(server, user)
    calls = tmp_path / "calls"
    traced(server, user, "fsync,fdatasync,renameat2,unlink", output=calls)
    assert all(encrypted(server, user))
    written, unsynced, exchanged = set(), set(), 0
    call = re.compile(r'^\d+ +(\w+)\((?:\d+<([^>]*)>|.*?"([^"]*)"(?:, [^"]*"([^"]*)")?)')
    for line in calls.read_text().splitlines():
        if not (found := call.match(line)):
            continue
        name, synced, path, to = found.groups()
        if name == "renameat2":
            assert path in written, line
            unsynced.add(os.path.dirname(to))
            exchanged += 1
        elif name == "unlink":
            assert "mail-crypt-convert." not in path or not unsynced, line
        else:
            written.add(synced)
            unsynced.discard(synced)
    assert exchanged == len(encrypted(server, user)) and not unsynced


@pytest.mark.parametrize("storage", STORAGES)
def test_without_room_it_stops_and_nothing_is_lost(server, tmp_path, storage):
    user = f"{storage}-full"
    fill(server, f"{user}-before")
    new_keys(server, user)
    before = everything(server, user)
    argv = ["doveadm", "-c", str(server.places.config), "mailbox", "crypt", "convert", "-u", user]
    new_file = "/storage/.temp." if storage == "mdbox" else "mail-crypt-convert."
    done = server.run_program(no_room(tmp_path, argv, 1, new_file), check=False)
    assert done.returncode == 75, done.stderr
    assert b"No space left on device" in done.stderr and b"Stopped" in done.stderr
    assert everything(server, user) == before
    assert not any(encrypted(server, user))
    assert not leftovers(server, user)
    convert(server, user)
    assert all(encrypted(server, user))
    assert everything(server, user) == before


@pytest.mark.parametrize("storage", ("maildir", "sdbox"))
def test_a_disk_that_fails_stops_it_and_nothing_is_lost(server, storage):
    user = f"{storage}-eio"
    fill(server, f"{user}-before")
    new_keys(server, user)
    before = everything(server, user)
    done = traced(server, user, "fsync:error=EIO:when=2")
    assert done.returncode == 75, done.stderr
    assert b"Input/output error" in done.stderr
    assert everything(server, user) == before
    assert encrypted(server, user).count(True) <= 1
    assert not leftovers(server, user)


@pytest.mark.parametrize("storage", ("maildir", "sdbox"))
def test_where_files_cannot_be_exchanged_they_are_replaced(server, storage):
    user = f"{storage}-exchange"
    fill(server, f"{user}-before")
    new_keys(server, user)
    before = everything(server, user)
    done = traced(server, user, "renameat2:error=EINVAL")
    assert total(done, "converted") == len(before[0])
    assert all(encrypted(server, user))
    assert everything(server, user) == before
    assert not leftovers(server, user)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_client_that_is_logged_in_sees_no_change(server, storage):
    user = f"{storage}-qresync"
    fill(server, f"{user}-before")
    new_keys(server, user)
    with server.imap(user) as session, server.imap(user) as late:
        session.enable("QRESYNC")
        session.folder()
        status, lines = session.raw("NOOP")
        late.folder()
        before = late.fetch_uids().items
        state = session.status("INBOX", "(UIDVALIDITY HIGHESTMODSEQ)")[1][0].decode()
        assert total(convert(server, user), "converted")
        # A session that hasn't looked at the folder since
        assert late.fetch_uids().items == before
        for command in ("NOOP", "CHECK"):
            status, lines = session.raw(command)
            assert status.startswith("OK") and not lines, lines
        validity, modseq = re.search(r"UIDVALIDITY (\d+) HIGHESTMODSEQ (\d+)", state).groups()
        session.unselect()
        status, lines = session.raw(f"SELECT INBOX (QRESYNC ({validity} {modseq}))")
        assert status.startswith("OK")
        assert not [line for line in lines if "FETCH" in line or "VANISHED" in line or "EXPUNGE" in line]


@pytest.mark.parametrize("storage", STORAGES)
def test_what_a_locked_key_is_needed_for_is_left(server, storage):
    user, admin = f"{storage}-locked", f"{storage}-locked-admin"
    fill(server, user)
    new_keys(server, user)
    with server.imap(f"{user}-before") as session:
        session.create("Plain")
        plain = Mail.make()
        session.put(plain.data, "Plain")
    server.doveadm("mailbox", "cryptokey", "generate", "-u", user, "-f", "Plain")
    before = everything(server, user)
    done = convert(server, admin, "--rekey", check=False)
    assert done.returncode == 65
    found = rows(done)
    assert found["Plain"]["converted"] == 1
    assert all(found[name]["left"] == found[name]["mails"] for name in ("INBOX", "Work"))
    assert everything(server, user)[1:] == before[1:]
    with server.imap(user) as session:
        assert session.bodies("Plain") == [plain.data]
    assert all(encrypted(server, user))


def test_a_folder_is_converted_by_one_at_a_time(server):
    """What the other one has just made looks as if it were left over."""
    user = "maildir-two"
    fill(server, f"{user}-before")
    maildir = next(path for path in server.store.mail_files(user) if ".Work" not in path.parts).parents[1]
    with open(maildir / "mail-crypt-convert.lock", "w") as lock:
        os.fchown(lock.fileno(), *server.mail_ids)
        fcntl.lockf(lock, fcntl.LOCK_EX)
        done = convert(server, user, check=False)
    assert done.returncode == 75 and b"INBOX: It is being converted already" in done.stderr
    assert set(rows(done)) == {"Work"}
    assert set(rows(convert(server, user))) == {"INBOX", "Work"}
    assert all(encrypted(server, user))


class Client:
    """Delivers, flags, moves, copies and expunges, and knows what must be there."""

    def __init__(self, server, user: str):
        self.server, self.user = server, user
        self.mails: dict[str, dict[str, bytes]] = {"INBOX": {}, "Work": {}}
        self.flagged: set[str] = set()
        self.failed: Exception | None = None
        self.rounds = 0
        self.enough = threading.Event()

    def run(self) -> None:
        try:
            while not self.enough.is_set() or self.rounds < 5:
                self.round()
                self.rounds += 1
        except Exception as error:  # noqa: BLE001
            self.failed = error

    def take_in(self) -> None:
        with self.server.imap(self.user) as session:
            session.create("Work")
            for folder in self.mails:
                for body in session.bodies(folder):
                    self.mails[folder][subject(body)] = body

    def round(self) -> None:
        mail = Mail.make(1500)
        self.server.deliver(self.user, mail)
        with self.server.imap(self.user) as session:
            session.folder()
            arrived = self.uid(session, mail.subject)
            (body,) = session.fetch_uids(uids=arrived).items.values()
            self.mails["INBOX"][mail.subject] = body
            some = sorted(self.mails["INBOX"])[self.rounds % 7 :: 7]
            for what, name in zip(("flag", "copy", "move", "expunge", "flag"), some):
                self.do(session, what, name)

    def do(self, session, what: str, name: str) -> None:
        uid = self.uid(session, name)
        inbox, work = self.mails["INBOX"], self.mails["Work"]
        if what == "flag":
            assert session.uid("STORE", uid, "+FLAGS", r"(\Seen \Flagged)")[0] == "OK"
            self.flagged.add(name)
        elif what == "copy":
            assert session.uid("COPY", uid, "Work")[0] == "OK"
            work[name] = inbox[name]
        elif what == "move":
            assert session.uid("MOVE", uid, "Work")[0] == "OK"
            work[name] = inbox.pop(name)
        else:
            assert session.uid("STORE", uid, "+FLAGS.SILENT", r"\Deleted")[0] == "OK"
            assert session.expunge()[0] == "OK"
            inbox.pop(name)

    @staticmethod
    def uid(session, name: str) -> str:
        return session.uid("SEARCH", "HEADER", "Subject", name)[1][0].split()[0].decode()

    def check(self) -> None:
        assert self.failed is None, self.failed
        with self.server.imap(self.user) as session:
            for folder, mails in self.mails.items():
                found = {subject(body): body for body in session.bodies(folder)}
                assert found == mails
            session.folder()
            for name in self.flagged & set(self.mails["INBOX"]):
                flags = session.uid("FETCH", self.uid(session, name), "(FLAGS)")[1][0]
                assert rb"\Flagged" in flags


def subject(body: bytes) -> str:
    return re.search(rb"Subject: (\S+)", body).group(1).decode()


@pytest.mark.parametrize("storage", STORAGES)
def test_others_go_on_meanwhile(server, storage):
    user = f"{storage}-busy"
    server.doveadm("mailbox", "create", "-u", user, "Work")
    with server.imap(f"{user}-before") as session:
        for _ in range(120):
            session.put(Mail.make(1000).data)
    client = Client(server, user)
    client.take_in()
    worker = threading.Thread(target=client.run)
    worker.start()
    try:
        converted = total(convert(server, user), "converted")
        assert converted
        for _ in range(2):
            new_keys(server, user)
            converted += total(convert(server, user, "--rekey"), "converted")
    finally:
        client.enough.set()
        worker.join()
    client.check()
    assert converted > 200
    assert not leftovers(server, user)
    assert total(convert(server, user), "converted") == 0
    assert all(encrypted(server, user))
