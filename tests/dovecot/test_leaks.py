"""No word of a mail lies on any disk in the clear, and a large one takes no more memory."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
from harness import CryptConfig, Instance, Key, Mail, UserConfig, words
from harness.version import libexec_dir

STORAGES = ("maildir", "sdbox", "mdbox")
USERS = {"alice": UserConfig(CryptConfig(password="c0rrect-h0rse"))}
MB = 1024 * 1024


def plain_files(server, pid, words):
    """The files that a process has open and in which one of the words stands, deleted ones too."""
    found = []
    for name, path in server.open_files(pid).items():
        if path.is_file():
            data = path.read_bytes()
            found += [f"{name}: {word}" for word in words if word.encode() in data]
    return found


class Watch:
    """Looks at the open files of a process again and again while something runs."""

    def __init__(self, server, pid, words):
        self.found = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(server, pid, words))

    def _run(self, server, pid, words):
        while not self._stop.is_set():
            try:
                self.found += plain_files(server, pid, words)
            except OSError:
                pass

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


@pytest.mark.parametrize("storage", STORAGES)
def test_no_file_holds_a_word_of_a_body(dovecot, storage):
    server = dovecot(storage=storage, users=dict(USERS), quota=True)
    mails = [Mail.make(2000), Mail.make(90_000)]
    words = tuple(word for mail in mails for word in mail.words)
    for mail in mails:
        server.deliver("alice", mail)
    server.lda("alice", mails[0])
    with server.imap("alice") as session:
        session.put(mails[1].data)
        session.create("Copied")
        session.create("Moved")
        session.folder()
        assert len(session.bodies()) == 4
        for word in words:
            assert session.uids("BODY", word)
        session.uid("FETCH", "1:*", "(ENVELOPE BODYSTRUCTURE)")
        session.uid("COPY", "1:4", "Copied")
        session.uid("MOVE", "1:2", "Moved")
    server.doveadm("fetch", "-u", "alice", "text", "ALL")
    server.pop3("alice").retr(1)
    for folder in (server.store.path, server.temp_dir, server.run):
        assert not server.store.find_words(folder, words)


@pytest.mark.packaged_defect("a plaintext temp file")
@pytest.mark.parametrize("size", (200_000, 20 * MB), ids=("200K", "20M"))
def test_nothing_plain_is_open_while_a_mail_is_fetched(dovecot, size):
    server = dovecot(users=dict(USERS))
    mail = Mail.make(size)
    with server.imap("alice", window=4096) as session:
        session.put(mail.data)
        session.folder()
        pid = server.process_of(session)
        got = bytearray()
        # Halfway through, with the server waiting for us, and at the end.
        for chunk in session.stream("UID FETCH 1 (BODY.PEEK[])", size // 4):
            got += chunk
            assert not plain_files(server, pid, mail.words)
        assert got == mail.data
        assert not plain_files(server, pid, mail.words)


@pytest.mark.packaged_defect("a plaintext temp file")
def test_nothing_plain_is_open_while_mails_are_searched_and_copied(dovecot):
    server = dovecot(users=dict(USERS))
    mail = Mail.make(5 * MB)
    with server.imap("alice") as session:
        session.put(mail.data)
        session.create("Copied")
        session.folder()
        with Watch(server, server.process_of(session), mail.words) as watch:
            for _ in range(3):
                assert session.uids("BODY", mail.words[2]) == [1]
                assert session.uid("COPY", "1", "Copied")[0] == "OK"
                session.fetch_uids("BODY.PEEK[]<3000000.1000>")
        assert not watch.found


@pytest.mark.packaged_defect("a plaintext temp file")
def test_nothing_plain_is_open_while_pop3_reads(dovecot):
    server = dovecot(users=dict(USERS))
    mail = Mail.make(MB)
    with server.imap("alice") as session:
        session.put(mail.data)
    session = server.pop3("alice")
    (pid,) = server.processes("pop3")
    with Watch(server, pid, mail.words) as watch:
        session.retr(1)
    assert not watch.found
    assert not plain_files(server, pid, mail.words)
    session.quit()


def test_the_watch_sees_a_plaintext_file(dovecot):
    """What the tests above rely on: a plaintext mail file is found in the process."""
    server = dovecot(users={"alice": UserConfig(plugin=False)})
    mail = Mail.make(20 * MB)
    with server.imap("alice", window=4096) as session:
        session.put(mail.data)
        session.folder()
        pid = server.process_of(session)
        stream = session.stream("UID FETCH 1 (BODY.PEEK[])", MB)
        next(stream)
        assert plain_files(server, pid, mail.words)
        assert len(list(stream)) > 0


# Memory


def peak(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024


def peaks(server, mail) -> dict[str, int]:
    """What one session each takes to do something with a very large mail."""
    found = {}
    with server.imap("alice", timeout=100) as session:
        session.put(mail.data)
        found["append"] = peak(server.process_of(session))
    with server.imap("alice", timeout=100) as session:
        session.folder()
        size = sum(map(len, session.stream("UID FETCH 1 (BODY.PEEK[])", MB)))
        assert size == len(mail.data)
        found["fetch"] = peak(server.process_of(session))
    with server.imap("alice", timeout=100) as session:
        session.folder()
        offset = len(mail.data) - 100
        answer = session.fetch_uids(f"BODY.PEEK[]<{offset}.50>")
        assert answer.items[1] == mail.data[offset : offset + 50]
        found["partial"] = peak(server.process_of(session))
    with server.imap("alice", timeout=100) as session:
        session.create("Copied")
        session.folder()
        assert session.uid("COPY", "1", "Copied")[0] == "OK"
        found["copy"] = peak(server.process_of(session))
    return found


def test_a_200_mb_mail_takes_less_than_32_mb_more_than_without_encryption(plugin):
    mail = Mail.make(200 * MB)
    found = {}
    for one in ("none", plugin):
        with Instance(plugin=one, users=dict(USERS)) as server:
            found[one] = peaks(server, mail)
            if one != "none":
                assert not server.store.find_words(server.store.path, mail.words)
    more = {step: (found[plugin][step] - found["none"][step]) // MB for step in found["none"]}
    assert all(size < 32 for size in more.values()), more


# Indexes


def test_indexes_in_memory_leave_no_header_and_no_preview_on_disk(dovecot):
    """With maildir: an sdbox or mdbox can't do without its index."""
    crypt = CryptConfig(password="c0rrect-h0rse")
    server = dovecot(users={"memory": UserConfig(crypt, index="memory"), "disk": UserConfig(crypt)})
    mail = Mail.make(5000)
    for user in server.users:
        server.deliver(user, mail)
        with server.imap(user) as session:
            assert session.bodies()[0].endswith(mail.data)
            session.uid("FETCH", "1", "(ENVELOPE BODYSTRUCTURE PREVIEW)")
            assert session.uids("SUBJECT", mail.subject) == [1]
            assert session.uids("BODY", mail.words[0]) == [1]
    store = server.store
    assert not store.find_words(store.home("memory"), (mail.subject, *mail.words))
    assert not [p for p in store.files("memory") if p.name.startswith("dovecot.index")]
    # Why one would want that: Dovecot's cache keeps headers and the preview, and does not encrypt.
    found = store.find_words(store.home("disk"), (mail.subject, *mail.words))
    assert found and all("dovecot.index.cache: " in line for line in found), found


# The end of a process

#: Says when libcrypto is cleaned up, and what the core frees after that.
_WATCH = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>

static int cleaned;
static char *path;

/* Dovecot empties the environment. */
__attribute__((constructor)) static void begin(void)
{
	path = strdup(getenv("WATCH_LOG"));
}

static void say(const char *text)
{
	int fd = open(path, O_WRONLY | O_APPEND);

	if (write(fd, text, strlen(text)) < 0)
		abort();
	close(fd);
}

void OPENSSL_cleanup(void)
{
	say("cleanup\n");
	cleaned = 1;
	((void (*)(void))dlsym(RTLD_NEXT, "OPENSSL_cleanup"))();
}

#define WATCHED(name) \
void name(void *object) \
{ \
	Dl_info caller; \
	if (dladdr(__builtin_return_address(0), &caller) != 0 && \
	    strstr(caller.dli_fname, "libmail_crypt_core") != NULL) \
		say(cleaned ? #name " after cleanup\n" : "free\n"); \
	((void (*)(void *))dlsym(RTLD_NEXT, #name))(object); \
}
WATCHED(BN_free)
WATCHED(EC_GROUP_free)
WATCHED(EC_POINT_free)
WATCHED(EVP_PKEY_free)
"""


def ends(server, log):
    """Wait until a process has cleaned up libcrypto, and is gone."""
    until = time.monotonic() + 20
    while "cleanup" not in log.read_text() or server.processes("lmtp"):
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)


def tls_files(folder):
    """A certificate and its key, by openssl."""
    files = folder / "certificate", folder / "certificate-key"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*argv, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


@pytest.mark.packaged_refuses("it has no core to watch")
@pytest.mark.parametrize("kind", ("ec", "rsa"))
def test_no_key_is_freed_after_libcrypto_was_cleaned_up(dovecot, tmp_path, kind):
    """Dovecot cleans it up where it has TLS, before the threads' own memory is freed."""
    library, log, program = tmp_path / "watch.so", tmp_path / "log", tmp_path / "lmtp"
    argv = ["cc", "-shared", "-fPIC", "-o", library, "-x", "c", "-", "-ldl"]
    subprocess.run(argv, input=_WATCH.encode(), check=True)
    program.write_text(
        f'#!/bin/sh\nexec env LD_PRELOAD={library} WATCH_LOG={log} {libexec_dir()}/lmtp "$@"\n'
    )
    key = {"ec": Key.ec, "rsa": Key.rsa}[kind]()
    certificate, certificate_key = tls_files(tmp_path)
    crypt = CryptConfig(global_public=key.public_setting(), global_private=(key.setting(),))
    server = dovecot(users={"alice": UserConfig(crypt)})
    for path in (program, tmp_path, *tmp_path.parents[:-2]):
        path.chmod(0o755)
    log.touch()
    log.chmod(0o666)
    server.restart(extra=words.lmtp_with_tls(str(program), str(certificate), str(certificate_key)))
    # The one that was only greeted to see what it has loaded.
    ends(server, log)
    log.write_text("")
    mark = server.log.mark()
    server.deliver("alice", Mail.make())
    server.log.wait_for("Disconnect from local", mark)
    ends(server, log)
    said = log.read_text().splitlines()
    assert "free" in said, said
    assert not [line for line in said if "after" in line], said
