"""A private Dovecot."""

from __future__ import annotations

import atexit
import os
import poplib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from dataclasses import replace
from pathlib import Path

from . import clients, config, modules, proc
from .keys import Key
from .log import ServerLog
from .mail import Mail
from .store import Store, key_attributes
from .users import UserConfig
from .version import DovecotVersion, libexec_dir

#: As root, mail belongs to this user, who need not exist.
MAIL_UID = MAIL_GID = 30201

_running: "weakref.WeakSet[Instance]" = weakref.WeakSet()


class Instance:
    """A Dovecot in a temporary folder, on a loopback address of its own.

    Arguments (all by name):

    plugin          "ours", "packaged" or "none"
    storage         "maildir", "sdbox" or "mdbox"
    compress        "gz", "bz2", "lz4", "zstd" or None
    crypt           the plugin's settings for all users; where a UserConfig says
                    otherwise, that holds
    users           name -> UserConfig
    acl             load the ACL plugins; everybody's folders are under shared/USER/
    quota           load the quota plugins
    attribute_dict  "file" (in the home), "down" (can't be reached) or None
    index           "memory": no index on disk
    fetch_failure   imap_fetch_failure
    temp_dir        mail_temp_dir: None (one of the instance's own), "missing",
                    "read-only", "full", or a path
    debug           mail_debug
    extra           more configuration, in the words of the Dovecot at hand
    store           a Store to work on; without it one that lives as long as this
    run_as          name of the account that runs it; without it the caller's.
                    Only root can choose.

    Root's Dovecot runs as Dovecot usually does and stores mail as MAIL_UID;
    an ordinary user's does everything as that user.

    `with` starts and stops it. `start`, `stop` and `restart` do so by hand;
    `restart(plugin="packaged")` changes options on the way. Whatever happens,
    `close` leaves no process and no file.
    """

    def __init__(self, *, store: Store | None = None, run_as: str | None = None, **options):
        self.options = config.Options(**options)
        self.version = DovecotVersion.installed()
        self.account = modules.account(run_as)
        self._own_store = store is None
        self.store = store or Store()
        self.run = Path(tempfile.mkdtemp(prefix="mci-", dir="/tmp"))
        address, self._claim = config.free_address()
        self.places = config.Places(self.run, address)
        self.log = ServerLog(self.places.log)
        self._master: subprocess.Popen | None = None
        self._group: str | int | None = None
        self._held: int | None = None
        self._revision = 0
        self._prepare_folders()

    # Life

    def __enter__(self) -> "Instance":
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self.stop()
            said = [] if kind else self.log.unexpected()
        finally:
            self.close()
        if said:
            raise AssertionError("unexpected in the server's log:\n" + "\n".join(said))

    def start(self) -> "Instance":
        """Start it, and see that the right modules are in it."""
        self._modules = modules.stage(self.options.plugin, modules.copies_folder())
        if not modules.can_mount():
            self.places = replace(self.places, plugins=self._modules)
        self._write_config()
        mark = self.log.mark()
        for _ in range(3):
            self._launch()
            if self._logs(mark):
                break
            # Rarely, on a busy machine, Dovecot's log process doesn't come up, and no line ever does.
            self.stop()
        else:
            raise RuntimeError("nothing is logged")
        self.prove_modules()
        return self

    def _launch(self) -> None:
        _running.add(self)
        self._master = subprocess.Popen(
            self._wrap(["dovecot", "-F", "-c", str(self.places.config)], dies_with_us=True),
            stdin=subprocess.DEVNULL,
            stdout=open(self.run / "stdout", "wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=self.run,
        )
        self._wait_until_ready()
        self._group = proc.group(self._master.pid)
        self._hold_group()

    def stop(self) -> None:
        """Stop it. Dovecot's own shutdown takes a second: we kill what is left sooner."""
        master, self._master = self._master, None
        if master is None:
            return
        try:
            if master.poll() is None:
                master.send_signal(signal.SIGTERM)
                master.wait(0.3)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if master.poll() is None:
                master.kill()
                master.wait()
            self._kill_leftovers()
            _running.discard(self)

    def restart(self, **changes) -> "Instance":
        """Stop, change options, start."""
        self.stop()
        for name, value in changes.items():
            if not hasattr(self.options, name):
                raise TypeError(f"no option {name!r}")
            setattr(self.options, name, value)
        self._set_temp_dir_mode()
        return self.start()

    def close(self) -> None:
        """Stop it and delete everything of it; a store that was given stays."""
        try:
            self.stop()
        finally:
            self._claim.close()
            shutil.rmtree(self.run, ignore_errors=True)
            if self._own_store:
                self.store.remove()

    # Users

    @property
    def users(self) -> dict[str, UserConfig]:
        """The users as they are now."""
        return self.options.users

    def set_user(self, name: str, user: UserConfig) -> None:
        """Add or change a user of a running instance.

        Sessions and processes that already serve the user keep what they know.
        """
        self.options.users[name] = user
        self._make_home(name)
        self._revision += 1
        self._write_config(users_only=True)
        until = time.monotonic() + 10
        seen = ["doveadm", "-c", str(self.places.config), "user", "-f", config.REVISION, name]
        while self.run_program(seen, check=False).stdout.decode().strip() != str(self._revision):
            if time.monotonic() > until:
                raise AssertionError(f"Dovecot does not see the new settings of {name}")
            time.sleep(0.05)

    # As clients do

    def deliver(self, *recipients_and_mail, mail: Mail | bytes | None = None) -> None:
        """`deliver("alice", mail)`: by LMTP, in one transaction; a refusal raises."""
        refused = self.try_deliver(*recipients_and_mail, mail=mail)
        if refused:
            raise AssertionError(f"LMTP refused: {refused}")

    def try_deliver(
        self, *recipients_and_mail, mail: Mail | bytes | None = None, timeout: float = 60
    ) -> dict[str, tuple[int, bytes]]:
        """The same; answers the refused recipients with code and text."""
        given = list(recipients_and_mail)
        if mail is None:
            mail = given.pop()
        data = mail.data if isinstance(mail, Mail) else mail
        return clients.lmtp(str(self.places.lmtp), given, data, timeout)

    def lmtp(self, timeout: float = 60) -> clients.Lmtp:
        """An LMTP connection, greeted."""
        return clients.Lmtp(str(self.places.lmtp), timeout)

    def imap(self, user: str, timeout: float = 30, window: int | None = None) -> clients.Imap:
        """An IMAP session, logged in; `window`: the size of the client's receive buffer."""
        return clients.Imap(
            self.places.address,
            config.IMAP_PORT,
            user,
            self.users[user].password,
            timeout,
            window,
        )

    def pop3(self, user: str) -> poplib.POP3:
        """A POP3 session, logged in."""
        return clients.pop3(
            self.places.address, config.POP3_PORT, user, self.users[user].password
        )

    # As the administrator does

    def doveadm(self, *args: str, stdin: bytes | None = None, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess:
        """Run doveadm; stdout and stderr are bytes. `check`: a failure raises."""
        return self.run_program(["doveadm", "-c", str(self.places.config), *args], stdin, check, timeout)

    def lda(self, user: str, mail: Mail | bytes, *args: str, check: bool = True) -> subprocess.CompletedProcess:
        """Deliver with dovecot-lda."""
        data = mail.data if isinstance(mail, Mail) else mail
        program = str(libexec_dir() / "dovecot-lda")
        return self.run_program(
            [program, "-c", str(self.places.config), "-d", user, *args], data, check
        )

    def guid(self, user: str, folder: str = "INBOX") -> str:
        """A folder's GUID, as the attribute dict names it; the folder is made if need be."""
        if folder != "INBOX":
            self.doveadm("mailbox", "create", "-u", user, folder, check=False)
        done = self.doveadm("-f", "flow", "mailbox", "status", "-u", user, "guid", folder)
        return done.stdout.decode().strip().rsplit("guid=", 1)[1]

    def seed_user_key(self, user: str, key: Key, private: str) -> None:
        """Give a user without keys this user key; `private` is the stored private key."""
        values = key_attributes(self.guid(user), key.id, key.dovecot_public(), private, True)
        self.store.put_attributes(self.users[user].home or user, values)

    def seed_old_keys(self, user: str, key: Key, private: str, folders: dict[str, Key]) -> None:
        """Give a user keys as the first releases stored them: version 1 under old ids.

        `key` is the user's, `private` how it is stored; the folders are made.
        """
        values = key_attributes(self.guid(user), key.old_id, key.v1_public(), private, True)
        for folder, folder_key in folders.items():
            stored = folder_key.v1_private_under_key(key)
            values |= key_attributes(
                self.guid(user, folder), folder_key.old_id, folder_key.v1_public(), stored
            )
        self.store.put_attributes(self.users[user].home or user, values)

    def run_program(self, argv: list[str], stdin: bytes | None = None, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess:
        """Run any program where the instance's modules are Dovecot's modules."""
        process = self.start_program(argv, stdin is not None)
        try:
            out, err = process.communicate(stdin, timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        done = subprocess.CompletedProcess(argv, process.returncode, out, err)
        if check and done.returncode != 0:
            raise AssertionError(
                f"{' '.join(argv)}: exit {done.returncode}\n{err.decode('utf-8', 'replace')}"
            )
        return done

    def start_program(self, argv: list[str], stdin: bool = False) -> subprocess.Popen:
        """The same, not waited for; its process is the program's own, in a session of its own."""
        return subprocess.Popen(
            self._wrap(argv, dies_with_us=True),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd=self.run,
        )

    # Processes

    def processes(self, name: str) -> list[int]:
        """The process ids of this instance's processes of that name ("imap", "lmtp")."""
        return [pid for pid in self._all_processes() if proc.name(pid) == name]

    def process_of(self, session: clients.Imap) -> int:
        """The imap process that serves a session."""
        port = session.sock.getsockname()[1]
        inode = proc.socket_inode(self.places.address, config.IMAP_PORT, port)
        for pid in self.processes("imap"):
            if inode in proc.links(pid):
                return pid
        raise AssertionError("no imap process serves this session")

    def kill(self, *pids: int) -> None:
        """SIGKILL some of this instance's processes, who may be gone already; then they are."""
        for pid in pids:
            try:
                if proc.group(pid) != self._group:
                    continue
                os.kill(pid, signal.SIGKILL)
                # Until it has died, it can still accept the connection that is meant for the next.
                while proc.group(pid) == self._group:
                    time.sleep(0.001)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                # Who is dying can't be looked into any more.
                pass

    def open_files(self, pid: int) -> dict[str, Path]:
        """What a process has open, deleted files too: link text -> path to read it by."""
        return proc.open_files(pid)

    def prove_modules(self) -> None:
        """See in the lmtp process which plugin is loaded; raise if it is another."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(10)
            probe.connect(str(self.places.lmtp))
            probe.recv(200)
            (pid, *_) = self.processes("lmtp")
            try:
                files = modules.mapped_files(pid)
            except PermissionError:
                # A container's root may not look into processes that aren't dumpable.
                files = self._files_of_doveadm()
        names = {Path(f).name for f in files}
        loaded = modules.PACKAGED in names
        core = any(n.startswith(modules.CORE) for n in names)
        expected = {"ours": (True, True), "packaged": (True, False), "none": (False, False)}
        want = expected[self.options.plugin]
        if not any(u.plugin for u in self.users.values()) and self.users:
            want = (loaded, core)
        if (loaded, core) != want:
            raise AssertionError(
                f"plugin={self.options.plugin}: plugin loaded: {loaded}, our core: {core}\n"
                + "\n".join(sorted(files))
            )

    def _files_of_doveadm(self) -> set[str]:
        """What a process of the same configuration loads, as it says itself."""
        user = next(iter(self.users), "nobody")
        said = self.doveadm("-D", "mailbox", "list", "-u", user, check=False).stderr.decode()
        return modules.with_core(set(re.findall(r"Module loaded: (\S+)", said)))

    def secrets(self) -> set[str]:
        """What must stand in no log: passwords and private keys of the configuration."""
        found = set()
        for crypt in [self.options.crypt, *(u.crypt for u in self.users.values())]:
            if crypt is None:
                continue
            found.add(crypt.password)
            for key in (*crypt.user_key_keys, *crypt.global_private):
                found |= {key.value, key.password}
        return {secret for secret in found if secret and len(secret) > 3}

    # Inside

    @property
    def mail_ids(self) -> tuple[int, int]:
        """uid and gid that own the mail."""
        return (MAIL_UID, MAIL_GID) if self.account.is_root else (self.account.uid, self.account.gid)

    @property
    def temp_dir(self) -> Path:
        """mail_temp_dir."""
        return config.temp_dir(self.options, self.places)

    def _prepare_folders(self) -> None:
        owner = (self.account.uid, self.account.gid)
        self.run.chmod(0o755)
        for folder in (self.places.base, self.places.state):
            folder.mkdir(mode=0o755)
        (self.run / "tmp").mkdir()
        self._set_temp_dir_mode()
        if os.getuid() == 0:
            for folder in (self.run, self.places.base, self.places.state):
                os.chown(folder, *owner)
            os.chown(self.store.path, *self.mail_ids)
        self.store.path.chmod(0o755)
        for name in self.users:
            self._make_home(name)

    def _set_temp_dir_mode(self) -> None:
        mode = 0o555 if self.options.temp_dir == "read-only" else 0o1777
        (self.run / "tmp").chmod(mode)

    def _make_home(self, name: str) -> None:
        home = self.store.home(self.users[name].home or name)
        if not home.exists():
            home.mkdir(mode=0o700)
        if os.getuid() == 0:
            os.chown(home, *self.mail_ids)

    def _write_config(self, users_only: bool = False) -> None:
        writer = config.writer(self.version)(
            self.options,
            self.places,
            self.account,
            self.store.path,
            self.mail_ids,
            self._revision,
        )
        for path, text in writer.files().items():
            if users_only and path == self.places.config:
                continue
            new = path.with_name(path.name + ".new")
            new.write_text(text)
            if os.getuid() == 0:
                os.chown(new, self.account.uid, self.account.gid)
            new.chmod(0o644)
            # Dovecot reads it again if its size or its second has changed.
            second = int(time.time()) + self._revision
            os.utime(new, (second, second))
            new.rename(path)

    def _wrap(self, argv: list[str], dies_with_us: bool = False) -> list[str]:
        full = self.temp_dir if self.options.temp_dir == "full" else None
        return modules.command(self._modules, self.account, argv, dies_with_us, full)

    def _wait_until_ready(self, timeout: float = 10) -> None:
        until = time.monotonic() + timeout
        pid_file = self.places.base / "master.pid"
        while True:
            if self._master.poll() is not None:
                self._fail_start(f"dovecot ended with {self._master.returncode}")
            if pid_file.exists() and self._answers():
                return
            if time.monotonic() > until:
                self._fail_start(f"dovecot is not ready after {timeout} s")
            time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(5)
            try:
                probe.connect((self.places.address, config.IMAP_PORT))
                return probe.recv(10).startswith(b"* OK")
            except OSError:
                return False

    def _logs(self, since: int, timeout: float = 5) -> bool:
        """Whether another process than the master says something: the login process was asked, at least."""
        until = time.monotonic() + timeout
        while not self.log.lines(r"^\S+ \S+ (?!master:)", since):
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def _fail_start(self, why: str) -> None:
        said = (self.run / "stdout").read_text() + self.log.text()
        self.stop()
        raise RuntimeError(f"{why}\n{said}")

    def _all_processes(self) -> list[int]:
        return [] if self._group is None else proc.members(self._group)

    def _kill_leftovers(self) -> None:
        """Everything that is still in the group, which only the instance has."""
        until = time.monotonic() + 5
        while (left := self._all_processes()) and time.monotonic() < until:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.01)
        self._group = None
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _hold_group(self) -> None:
        """Keep the namespace: the number of one that is gone is given to the next one.

        Else, looking for leftovers, we would kill another instance's processes.
        """
        if modules.can_mount():
            self._held = os.open(f"/proc/{self._master.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def running() -> list[Instance]:
    """Every instance of this process that is up."""
    return list(_running)


@atexit.register
def _stop_all() -> None:
    for instance in running():
        instance.close()
