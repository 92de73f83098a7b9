"""The hosts of a scenario: started, cut off, asked, taken down."""

from __future__ import annotations

import json
import os
import shutil
import smtplib
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "dovecot"))

from harness import clients, mail  # noqa: E402

Mail = mail.Mail

#: How long anything may take that isn't about time, on a slow and busy machine.
PATIENCE = 180

IMAP, LMTP = 143, 24


def docker(*args: str, check: bool = True, timeout: float = PATIENCE, stdin: bytes | None = None) -> bytes:
    """Run docker; what it says on stdout."""
    done = subprocess.run(
        ["docker", *args], input=stdin or b"", capture_output=True, timeout=timeout, check=False
    )
    if check and done.returncode != 0:
        raise AssertionError(f"docker {' '.join(args)}: exit {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}")
    return done.stdout


def until(condition, what: str, patience: float = PATIENCE):
    """Wait until `condition()` answers something true; what raises meanwhile is not yet true."""
    end = time.monotonic() + patience
    while True:
        problem: object = "it is not so"
        try:
            if found := condition():
                return found
        except (AssertionError, OSError, EOFError, smtplib.SMTPException, clients.imaplib.IMAP4.error) as error:
            problem = error
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience} s for: {what}; last: {problem!r}")
        time.sleep(0.2)


class Lmtp(clients.Lmtp):
    """LMTP over TCP."""

    def __init__(self, address: str):
        smtplib.LMTP.__init__(self, address, LMTP, timeout=PATIENCE)


class Host:
    """A mail server in a container."""

    def __init__(self, container: str, network: str):
        self.container = container
        self._network = network

    @property
    def address(self) -> str:
        """Its address for clients."""
        (found,) = json.loads(docker("inspect", self.container))
        return found["NetworkSettings"]["Networks"][self._network]["IPAddress"]

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command on it."""
        return docker("exec", self.container, *command, check=check).decode("utf-8", "replace")

    def log(self) -> str:
        """What it logged."""
        done = subprocess.run(
            ["docker", "logs", self.container], capture_output=True, timeout=PATIENCE, check=False
        )
        return (done.stdout + done.stderr).decode("utf-8", "replace")

    def try_deliver(self, user: str, message: Mail) -> dict[str, tuple[int, bytes]]:
        """By LMTP; answers the refusal, if it is one."""
        client = Lmtp(self.address)
        try:
            return client.transaction([user], message.data)
        finally:
            client.close()

    def deliver(self, user: str, message: Mail) -> None:
        """The same; a refusal raises."""
        refused = self.try_deliver(user, message)
        assert not refused, f"LMTP refused: {refused}\n{self.log()[-4000:]}"

    def imap(self, user: str) -> clients.Imap:
        """An IMAP session."""
        return clients.Imap(self.address, IMAP, user, "secret", PATIENCE)

    def guid(self, user: str) -> str:
        """The GUID of INBOX."""
        return self.run("doveadm", "-f", "flow", "mailbox", "status", "-u", user, "guid", "INBOX").split("guid=")[1].strip()

    def read(self, user: str, folder: str = "INBOX") -> list[bytes]:
        """Every mail of a folder, through IMAP."""
        with self.imap(user) as session:
            return session.bodies(folder)

    def assert_reads(self, user: str, mails: list[Mail], folder: str = "INBOX") -> None:
        """Exactly these mails are in the folder, in any order, and all can be read."""
        bodies = self.read(user, folder)
        assert len(bodies) == len(mails), f"{len(bodies)} mails, not {len(mails)}"
        for message in mails:
            assert any(body.endswith(message.data) for body in bodies), f"{message.subject} is not there"

    def files_in_clear(self, user: str, words: tuple[str, ...]) -> str:
        """The files below the home in which one of the words stands."""
        patterns = [part for word in words for part in ("-e", word)]
        return self.run("grep", "-rlF", *patterns, f"/mail/{user}", check=False)

    def mail_files(self, user: str) -> list[str]:
        """The names of all files with mail."""
        found = self.run("find", f"/mail/{user}", "-path", "*/new/*", "-o", "-path", "*/cur/*", check=False)
        return found.split()

    def assert_encrypted(self, user: str, mails: list[Mail]) -> None:
        """There are as many mail files, each encrypted, and no word of a body is on the disk."""
        files = self.mail_files(user)
        assert len(files) == len(mails)
        for name in files:
            assert self.run("head", "-c", "7", name) == "CRYPTED", name
        words = tuple(word for message in mails for word in message.words[1:])
        assert not self.files_in_clear(user, words)

    def ready(self) -> bool:
        """Does it answer?"""
        client = Lmtp(self.address)
        client.close()
        return True


class SingleHost(Host):
    """A mail server of one line on a volume with mail, keys in a file beside the mail."""

    def __init__(self, line: str, plugin: str, volume: str):
        found = docker(
            "run", "-d", "--init", "-e", "DICT=file", "-e", f"PLUGIN={plugin}",
            "-v", f"{volume}:/mail", "-v", f"mail-crypt-target-{line}:/target:ro", "-v", f"{HERE}:/scenarios:ro",
            f"mail-crypt-test:{line}", "/scenarios/host.sh",
        )  # fmt: skip
        super().__init__(found.decode().strip(), "bridge")
        self.plugin = plugin

    def __enter__(self) -> "SingleHost":
        try:
            until(self.ready, "LMTP answers")
            self.prove_plugin()
            return self
        except BaseException as error:
            error.args = (*error.args, self.log()[-4000:])
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            # Dovecot goes in an orderly way: what it had to write is written.
            docker("exec", self.container, "doveadm", "stop", check=False)
            docker("wait", self.container)
        finally:
            self.close()

    def close(self) -> None:
        """Nothing of it stays but the volume."""
        docker("rm", "-f", "-v", self.container, check=False)

    def prove_plugin(self) -> None:
        """Is the plugin the one that it should be?"""
        linked = self.run("sh", "-c", "ldd $(find /usr/lib/dovecot -name lib10_mail_crypt_plugin.so)")
        assert ("libmail_crypt_core" in linked) == (self.plugin == "ours"), linked


class Scenario:
    """compose.yml up and running, with one kind of dict."""

    def __init__(self, line: str, dict_kind: str):
        self.dict_kind = dict_kind
        self.project = f"mailcrypt{os.getpid()}{dict_kind}"
        self.environment = dict(
            os.environ,
            COMPOSE_PROJECT_NAME=self.project,
            DICT=dict_kind,
            HOST_IMAGE=f"mail-crypt-test:{line}",
            SERVICES_IMAGE="mail-crypt-services:bookworm",
            BUILT_VOLUME=f"mail-crypt-target-{line}",
            **{f"MAIL{n}": "mail" if self.one_store else f"mail{n}" for n in (1, 2)},
        )

    def compose(self, *args: str) -> str:
        """docker-compose, or `docker compose` where that is what there is."""
        program = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
        done = subprocess.run(
            [*program, "-f", str(HERE / "compose.yml"), *args],
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=2 * PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"compose {' '.join(args)}: {done.stdout}{done.stderr}"
        return done.stdout

    def __enter__(self) -> "Scenario":
        try:
            self.compose("up", "-d", self.database, "backend1", "backend2")
            self.containers = {
                name: self.compose("ps", "-q", name).strip()
                for name in (self.database, "backend1", "backend2")
            }
            until(self.database_ready, f"{self.database} answers")
            self.hosts = [
                Host(self.containers[f"backend{n}"], f"{self.project}_access{n}") for n in (1, 2)
            ]
            for host in self.hosts:
                until(host.ready, "LMTP answers")
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self.compose("down", "-t", "1", "--remove-orphans", "--volumes")

    @property
    def database(self) -> str:
        """The database's service."""
        return "redis" if self.dict_kind == "redis" else "postgres"

    def _in_database(self, *command: str) -> str:
        return docker("exec", self.containers[self.database], *command).decode()

    def database_ready(self) -> bool:
        """Is it there, and with its tables?"""
        if self.dict_kind == "redis":
            return "PONG" in self._in_database("redis-cli", "-a", "attributes", "ping")
        return "user_privkeys" in self.sql(r"\dt")

    def sql(self, command: str) -> str:
        """One answer of PostgreSQL."""
        return self._in_database("psql", "-U", "postgres", "-d", "mail", "-A", "-t", "-h", "127.0.0.1", "-c", command).strip()

    def database_down(self) -> None:
        """The database goes; whoever connects is refused."""
        self._in_database("touch", "/tmp/down")
        if self.dict_kind == "redis":
            # Its last words are an error: the connection is gone with it.
            docker("exec", self.containers["redis"], "redis-cli", "-a", "attributes", "shutdown", check=False)
        else:
            self._in_database("su", "postgres", "-c", "$(echo /usr/lib/postgresql/*/bin)/pg_ctl -D /data -m fast -w stop")

    def database_up(self) -> None:
        """And it is back."""
        self._in_database("rm", "-f", "/tmp/down")
        until(self.database_ready, f"{self.database} is back")

    def cut_off(self, number: int) -> None:
        """Take a backend from the network on which the others are."""
        docker("network", "disconnect", f"{self.project}_mail", self.containers[f"backend{number}"])

    def reconnect(self, number: int) -> None:
        """And back, under its name."""
        name = f"backend{number}"
        docker("network", "connect", "--alias", name, f"{self.project}_mail", self.containers[name])

    @property
    def one_store(self) -> bool:
        """Do both backends work on the same mail? doveadm sync lists attributes, which Dovecot's Redis dict can't do."""
        return self.dict_kind == "redis"

    def try_sync(self, user: str, source: int = 1, *options: str) -> int:
        """Replicate a user between both, started on one; doveadm's exit code, 2 where Dovecot asks for it once more."""
        command = ("doveadm", "-o", "mail_fsync=never", "sync", *options, "-u", user, f"tcp:backend{3 - source}:2425")
        done = subprocess.run(
            ["docker", "exec", self.hosts[source - 1].container, *command],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode in (0, 2), f"exit {done.returncode}: {done.stdout.decode()}{done.stderr.decode()}"
        return done.returncode

    def sync(self, user: str, source: int = 1, *options: str) -> None:
        """The same, until all is done; nothing where both work on the same mail."""
        if not self.one_store:
            until(lambda: self.try_sync(user, source, *options) == 0, "they have replicated", 30)
