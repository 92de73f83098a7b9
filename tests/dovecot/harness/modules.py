"""Which modules a private Dovecot loads.

`mail_plugin_dir` covers the mail plugins only; doveadm modules, lib-fs drivers
and dcrypt are loaded from the compiled-in folder. So every program of a private
Dovecot runs in a mount namespace of its own in which a staged folder is bound
over that folder. Nothing on the system changes.

Where nobody may mount (a container without privileges) `mail_plugin_dir` is all
there is: mail plugins are the staged ones, everything else is the system's.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import grp
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .version import NotHere, module_dir

#: the file that is in a process only if ours was loaded
CORE = "libmail_crypt_core.so"
PACKAGED = "lib10_mail_crypt_plugin.so"

#: what Dovecot 2.4's config process loads; no package has it
SETTINGS = "settings/libmail_crypt_settings.so"

REPOSITORY = Path(__file__).resolve().parents[3]

_copies: Path | None = None


class Unavailable(Exception):
    """The modules that were asked for are not there."""


@functools.cache
def build_folder() -> Path:
    """Where make puts what it builds for the Dovecot at hand."""
    command = ["make", "--no-print-directory", "-s", "build-folder"]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


def staged_folder() -> Path:
    """Where `make stage` puts the folder with ours in it."""
    return Path(os.environ.get("MAIL_CRYPT_STAGE") or build_folder() / "stage" / "modules")


def available(plugin: str) -> bool:
    """Can an instance be started with this plugin?"""
    if plugin == "ours":
        return (staged_folder() / PACKAGED).exists()
    if plugin == "packaged":
        return (module_dir() / PACKAGED).exists()
    return True


def stage(plugin: str, under: Path) -> Path:
    """A copy of the module folder for `plugin`, readable by everyone.

    It is a copy since an ordinary user must be able to reach it wherever the
    repository lies. Made once in `under`, whatever the number of processes.
    """
    if not available(plugin):
        raise Unavailable(f"no modules for plugin={plugin!r} in {staged_folder()}")
    source = staged_folder() if plugin == "ours" else module_dir()
    kind = "ours" if plugin == "ours" else "packaged"
    target = under / f"modules-{kind}"
    with open(under / f".{kind}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            unfinished = under / f".{kind}.copy"
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(source, unfinished, symlinks=plugin != "ours")
            if kind == "packaged":
                _undo_diversions(unfinished)
                (unfinished / SETTINGS).unlink(missing_ok=True)
            unfinished.chmod(0o755)
            unfinished.rename(target)
    return target


def copies_folder() -> Path:
    """One folder per process for the copies of the module folders."""
    global _copies
    if _copies is None:
        _copies = Path(tempfile.mkdtemp(prefix="mcm-", dir="/tmp"))
        _copies.chmod(0o755)
        atexit.register(shutil.rmtree, _copies, ignore_errors=True)
    return _copies


def _undo_diversions(folder: Path) -> None:
    """Where ours is installed on the system, put the diverted files back in the copy."""
    done = subprocess.run(
        ["dpkg-divert", "--list", f"{module_dir()}/*"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        words = line.split()
        paths = [Path(w) for w in words if w.startswith(str(module_dir()))]
        if len(paths) == 2 and paths[1].exists():
            shutil.copy2(paths[1], folder / paths[0].relative_to(module_dir()))


@dataclass(frozen=True)
class Account:
    """Who runs the private Dovecot."""

    uid: int
    gid: int
    name: str
    group: str

    @property
    def is_root(self) -> bool:
        """Root's Dovecot switches to a mail user, an ordinary user's stays what it is."""
        return self.uid == 0


def account(name: str | None) -> Account:
    """The account of that name, or the caller's own."""
    entry = pwd.getpwnam(name) if name else pwd.getpwuid(os.getuid())
    if name and os.getuid() not in (0, entry.pw_uid):
        raise PermissionError(f"only root can run Dovecot as {name}")
    return Account(
        entry.pw_uid, entry.pw_gid, entry.pw_name, grp.getgrgid(entry.pw_gid).gr_name
    )


@functools.cache
def can_mount() -> bool:
    """Can there be a private mount namespace?"""
    how = [] if os.getuid() == 0 else ["--map-root-user"]
    probe = ["unshare", *how, "--mount", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@functools.cache
def _has_user_namespaces(account: Account) -> bool:
    """May an ordinary user have one? Not inside of chroot, nor in most containers."""
    ids = [f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
    probe = ["setpriv", *ids, "unshare", "--map-root-user", "--mount", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def command(
    folder: Path,
    account: Account,
    argv: list[str],
    dies_with_us: bool = False,
    full: Path | None = None,
) -> list[str]:
    """`argv`, to be run with `folder` bound over Dovecot's module folder.

    `full`: a folder that is to have no room left, by a file system of one page.

    As an ordinary user this takes two user namespaces: one that is root inside,
    to mount, and one in it that has the user's own ids again, so that Dovecot
    sees the ordinary user that it is. Every step is an exec: the process id
    that is started is the program's own.

    Where nothing can be mounted, `argv` runs as it is, as that account.
    """
    script = 'mount --bind "$1" "$2" && shift 2'
    places = [str(folder), str(module_dir())]
    if full:
        script += ' && mount -t tmpfs -o size=4k,mode=1777 none "$1" && echo no room > "$1/full" && shift'
        places.append(str(full))
    shell = ["sh", "-c", script + ' && exec "$@"', "sh", *places]
    last = (["setpriv", "--pdeathsig", "TERM"] if dies_with_us else []) + argv
    drop = []
    if os.getuid() == 0 and not account.is_root:
        drop = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
    if not can_mount():
        return [*drop, *last]
    if account.is_root:
        return ["unshare", "--mount", "--propagation", "private", *shell, *last]
    if os.getuid() == 0 and not _has_user_namespaces(account):
        raise NotHere(f"{account.name} may have no user namespace here")
    back = ["unshare", "--user", f"--map-user={account.uid}", f"--map-group={account.gid}"]
    return [*drop, "unshare", "--map-root-user", "--mount", *shell, *back, *last]


def mapped_files(pid: int) -> set[str]:
    """The files that are mapped into a process."""
    found = set()
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[5].startswith("/"):
            found.add(fields[5])
    return found


def with_core(files: set[str]) -> set[str]:
    """The same, and our core where one of the modules needs it."""
    needing = any(CORE.encode() in Path(f).read_bytes() for f in files)
    return files | ({CORE} if needing else set())
