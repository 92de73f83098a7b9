#!/usr/bin/env python3
"""Dovecot's programs under valgrind, in short sessions with a bit of everything that our modules do.

    make memcheck [VALGRIND_ARGS=--track-origins=yes]

It fails where valgrind finds that memory is used which was freed, never written or isn't there, and where
our modules lose some for good. What is Dovecot's own, or no error, is in valgrind.supp, with the reason.
What valgrind said is in build/memcheck.
"""

from __future__ import annotations

import base64
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "dovecot"))

from harness import CryptConfig, DovecotVersion, Instance, Mail, UserConfig, words  # noqa: E402
from harness.fs_files import KEY, Files  # noqa: E402
from harness.version import libexec_dir  # noqa: E402

LOGS = HERE.parents[1] / "build" / "memcheck"
VALGRIND = (
    "valgrind", "--quiet", "--vgdb=no",
    # Where -c is given, a program executes doveconf, which executes it again.
    "--trace-children=yes",
    "--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite",
    "--num-callers=30",
    f"--suppressions={HERE}/valgrind.supp",
    *os.environ.get("VALGRIND_ARGS", "").split(),
)  # fmt: skip

ENVIRONMENT = {
    # Modules are then not unloaded at the end: valgrind can name what is in them, and sees that what
    # they keep until then isn't lost.
    "GDB": "1",
    # libcrypto without AVX, whose GHASH valgrind takes for undefined, although all that goes into it is
    # defined, and the tag is right. Without AVX it doesn't.
    "OPENSSL_ia32cap": "~0x1000000000000000",
}
USERS = {
    "alice": UserConfig(CryptConfig(password="of-alice")),
    "bob": UserConfig(CryptConfig(password="of-bob"), storage="mdbox"),
    "zoe": UserConfig(CryptConfig(password="of-zoe"), storage="sdbox", compress="gz"),
}


@dataclass
class Checked:
    """A private Dovecot, and what valgrind says of the programs that are run on its mail."""

    server: Instance
    where: Path
    runs: int = 0

    def run(self, name: str, argv: list[str], stdin: bytes | None = None, expected: int = 0) -> bytes:
        """Run a program; what it printed."""
        self.runs += 1
        log = f"--log-file={self.where}/{self.runs:02}-{name}.%p"
        argv = [*VALGRIND, log, *argv]
        done = self.server.run_program(argv, stdin, check=False, timeout=900)
        if done.returncode != expected:
            said = done.stderr.decode("utf-8", "replace")
            raise AssertionError(f"{' '.join(argv)}: exit {done.returncode}\n{said}")
        return done.stdout

    @property
    def config(self) -> str:
        """dovecot.conf."""
        return str(self.server.places.config)

    def imap(self, user: str, *commands: bytes, refused: int = 0) -> bytes:
        """A session on standard input; so many of its commands are refused."""
        commands = (*commands, b"LOGOUT")
        script = b"".join(b"t%d %s\r\n" % given for given in enumerate(commands))
        said = self.run("imap", [str(libexec_dir() / "imap"), "-c", self.config, "-u", user], script)
        fine = sum(said.count(b"\r\nt%d OK " % number) for number in range(len(commands)))
        if fine != len(commands) - refused:
            raise AssertionError(f"{user}: {fine} of {len(commands)} commands succeeded: {said!r}")
        return said

    def lmtp(self, mails: Iterable[tuple[str, bytes]]) -> None:
        """One connection on standard input, mails for one recipient each."""
        script = b"LHLO memcheck.example.org\r\n"
        for count, (user, mail) in enumerate(mails, 1):
            script += f"MAIL FROM:<sender@example.org>\r\nRCPT TO:<{user}>\r\nDATA\r\n".encode()
            script += mail + b"\r\n.\r\n"
        said = self.run("lmtp", [str(libexec_dir() / "lmtp"), "-c", self.config], script + b"QUIT\r\n")
        if said.count(b" Saved") != count:
            raise AssertionError(f"a delivery went wrong: {said!r}")

    def doveadm(self, *args: str, stdin: bytes | None = None, expected: int = 0) -> bytes:
        """One command."""
        return self.run("doveadm", ["doveadm", "-c", self.config, *args], stdin, expected)

    def findings(self) -> list[Path]:
        """The logs in which something stands."""
        return sorted(path for path in self.where.iterdir() if path.stat().st_size)


def append(mail: bytes, folder: str = "INBOX") -> bytes:
    """APPEND, whose literal isn't waited for."""
    return b"APPEND %s {%d+}\r\n%s" % (folder.encode(), len(mail), mail)


def encoded(mail: Mail) -> bytes:
    """A mail with another one in it as base64."""
    head = b"Subject: encoded\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return head + base64.encodebytes(mail.data).replace(b"\n", b"\r\n")


FETCHES = (
    b"FETCH 1:* (UID FLAGS ENVELOPE BODYSTRUCTURE RFC822.SIZE)",
    b"FETCH 1:* (BODY.PEEK[])",
    b"FETCH 1:* (BODY.PEEK[]<1000.3000>)",
    b"FETCH 2 (BODY.PEEK[]<150000.200000>)",
    b"FETCH 2 (BODY.PEEK[]<350000.200000>)",
    b"FETCH 3 (BINARY.PEEK[1])",
    b"FETCH 3 (BINARY.PEEK[1]<500.100> BINARY.SIZE[1])",
)  # fmt: skip


def mail_in_and_out(checked: Checked) -> None:
    """Small, large and encoded mail, delivered and fetched in two sessions, on each storage."""
    small, large = Mail.make(2000), Mail.make(400_000)
    mails = (small.data, large.data, encoded(large))
    checked.lmtp((user, mail) for mail in mails for user in USERS)
    for user in USERS:
        search = b"SEARCH BODY " + large.words[0].encode()
        said = checked.imap(user, b"SELECT INBOX", *FETCHES, search)
        if small.data not in said or large.data not in said:
            raise AssertionError(f"{user}: a mail isn't what was delivered")
    # By now the index cache has the keys.
    checked.imap("alice", b"SELECT INBOX", *FETCHES[1:4])


def mail_moved(checked: Checked) -> None:
    """APPEND, COPY and MOVE between folders with keys of their own."""
    mail = append(Mail.make(5000).data, "Archive")
    for user in ("alice", "bob"):
        checked.imap(
            user, b"CREATE Archive", mail, b"SELECT INBOX", b"COPY 1:2 Archive", b"MOVE 1 Archive",
            b"SELECT Archive", b"FETCH 1:* (BODY.PEEK[])", b"STORE 1 +FLAGS (\\Deleted)", b"EXPUNGE",
        )  # fmt: skip


def keys(checked: Checked) -> None:
    """The key commands, and a folder's mail by doveadm."""
    key = ("mailbox", "cryptokey")
    checked.doveadm(*key, "generate", "-u", "alice", "-f", "Archive")
    checked.doveadm(*key, "list", "-u", "alice", "*")
    checked.doveadm(*key, "password", "-u", "alice", "-o", "of-alice", "-n", "new")
    checked.server.set_user("alice", UserConfig(CryptConfig(password="new")))
    checked.doveadm(*key, "generate", "-u", "alice", "-URf")
    said = checked.doveadm(*key, "export", "-u", "alice", "*")
    if b"PRIVATE KEY" not in said:
        raise AssertionError(f"no key was exported: {said!r}")
    checked.doveadm("fetch", "-u", "alice", "text", "mailbox", "Archive", "all")


def sharing(checked: Checked) -> None:
    """A folder that another user may read for a while."""
    folder, who = ("alice", "Archive"), b"GETACL Archive"
    checked.imap("alice", b"SETACL Archive bob lr", b"SETACL Archive anyone l", who)
    checked.imap("bob", b"SELECT shared/alice/Archive", b"FETCH 1:* (BODY.PEEK[])")
    checked.doveadm("acl", "remove", "-u", *folder, "user=bob", "read")


def damage(checked: Checked) -> None:
    """One mail changed, one cut."""
    first, second, *_ = checked.server.store.mail_files("alice")
    changed = bytearray(first.read_bytes())
    changed[-100] ^= 1
    first.write_bytes(changed)
    second.write_bytes(second.read_bytes()[:300])
    fetch = b"FETCH 1:* (BODY.PEEK[])"
    checked.imap("alice", b"SELECT INBOX", fetch, b"SELECT Archive", fetch, refused=1)


def files(checked: Checked) -> None:
    """A file of the lib-fs driver, written and read."""
    folder = checked.server.store.home("driver")
    folder.mkdir()
    driver = Files(checked.server, folder)
    args = driver.keys(KEY) + "posix:"
    content = Mail.make(300_000).data
    path = driver.path("file")
    checked.run("fs", driver.argv("put", args, driver.write("input", content), path))
    if checked.run("fs", driver.argv("get", args, path)) != content:
        raise AssertionError("the file isn't what was written")


SESSIONS = (mail_in_and_out, mail_moved, keys, sharing, files, damage)


def main() -> int:
    """Run all sessions; 1 if valgrind found something."""
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    os.environ.update(ENVIRONMENT)
    extra = "".join(words.environment(*variable) for variable in ENVIRONMENT.items())
    with Instance(users=dict(USERS), acl=True, fetch_failure="no-after", extra=extra) as server:
        server.log.expect("mail_crypt", "read.*failed")
        checked = Checked(server, LOGS)
        LOGS.chmod(0o777)
        for session in SESSIONS:
            session(checked)
    found = checked.findings()
    for path in found:
        print(f"\n{path.name}:\n{path.read_text()}")
    print(f"Dovecot {DovecotVersion.installed()}: {checked.runs} programs under valgrind, "
          f"{len(found)} with findings; what it said is in {LOGS}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
