"""A Debian 12 that is upgraded, and whose Dovecot comes and goes, under an installed plugin; built in one and the same tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from smtplib import SMTPException

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scenarios"))

from hosts import PATIENCE, Host, Mail, docker, until  # noqa: E402
from test_upgrade import USERS, Written  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
#: what is compiled by others at the same time
PATIENT = 20 * PATIENCE
#: by its ABI, or because it needs what this Dovecot doesn't have
NOT_LOADED = "Couldn't load required plugin"


class Machine(Host):
    """A Debian on which an administrator works."""

    def __init__(self, target: str):
        found = docker(
            "run", "-d", "--init", "-v", f"{ROOT}/vendor:/vendor:ro", "-v", f"{target}:/target",
            "mail-crypt-upgrade:bookworm", "sleep", "infinity",
        )  # fmt: skip
        super().__init__(found.decode().strip(), "bridge")

    def __enter__(self) -> "Machine":
        files = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True,
        ).stdout  # fmt: skip
        tar = ["tar", "-c", "--null", "--files-from=-", "--ignore-failed-read", "--owner=0", "--group=0"]
        sources = subprocess.run(tar, cwd=ROOT, input=files, capture_output=True, check=True).stdout
        docker("exec", "-i", self.container, "sh", "-c", "mkdir /src && tar -x -C /src", stdin=sources)
        self.step("prepare")
        return self

    def __exit__(self, *_: object) -> None:
        docker("rm", "-f", "-v", self.container, check=False)

    def try_step(self, name: str, *args: str) -> subprocess.CompletedProcess:
        """One of inside.sh's steps, whatever comes of it."""
        command = ["docker", "exec", self.container, "/src/tests/docker/upgrade/inside.sh", name, *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENT, check=False)

    def step(self, name: str, *args: str) -> str:
        """One that must not fail."""
        done = self.try_step(name, *args)
        assert done.returncode == 0, f"{name}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def __call__(self, *steps: str) -> None:
        """Several."""
        for step in steps:
            self.step(*step.split())

    def start(self) -> None:
        """Start Dovecot."""
        docker("exec", "-d", self.container, "/src/tests/docker/upgrade/inside.sh", "serve")

    def serve(self) -> None:
        """The same, and wait until it answers."""
        self.start()
        until(self.ready, "LMTP answers")

    def stop(self) -> None:
        """Stop it, and wait until it is gone."""
        self.step("stop")
        until(lambda: not self.run("sh", "-c", "grep -l ^dovecot /proc/[0-9]*/comm", check=False), "Dovecot is gone")

    def abi(self) -> str:
        """Which modules the installed Dovecot takes."""
        return self.run("sh", "-c", "grep -aoE '[0-9.]+ABIv[0-9]+' /usr/lib/dovecot/libdovecot-storage.so.0").split()[0]

    def inventory(self) -> list[str]:
        """All that an installation may change."""
        return self.step("inventory").splitlines()

    def prove_ours(self) -> None:
        """Is it our plugin that a mail process loads?"""
        linked = self.run("ldd", "/usr/lib/dovecot/modules/lib10_mail_crypt_plugin.so")
        assert "/usr/lib/dovecot-mail-crypt/libmail_crypt_core.so.0" in linked, linked


@pytest.fixture(scope="module")
def machine(target):
    with Machine(target) as machine:
        yield machine
        print(f"---- Dovecot's log\n{machine.log()[-8000:]}")


def refuse_old_modules(machine: Machine, built: str) -> None:
    """Between the upgrade and `make && make install`: nothing goes in, least of all in the clear."""
    said, message, taken = machine.log().count(NOT_LOADED), Mail.make(), []

    def asked() -> bool:
        for user in USERS:
            try:
                if not machine.try_deliver(user, message):
                    taken.append(user)
            except (OSError, EOFError, SMTPException):
                pass
        return machine.log().count(NOT_LOADED) > said

    machine.start()
    until(asked, "Dovecot says that the modules aren't its own")
    assert not taken
    assert not any(machine.files_in_clear(user, message.words) for user in USERS)
    machine.stop()
    before = machine.inventory()
    done = machine.run("sh", "-c", f"cd /src && DEPS=no make install-files BUILT={built} 2>&1; echo exit $?")
    assert "was built for Dovecot" in done and "exit 2" in done, done
    assert machine.inventory() == before


def test_mail_stays_readable_through_upgrades_in_place(machine):
    written, abis = Written(), []
    for suite in (None, "backports", "trixie"):
        if suite:
            machine(f"upgrade {suite}")
            refuse_old_modules(machine, built)
        machine("make")
        machine.prove_ours()
        abis.append(machine.abi())
        built = machine.run("sh", "-c", "cd /src && echo build/dovecot-$(dovecot --version | cut -d' ' -f1 | cut -d- -f1)*/built").strip()
        machine.serve()
        written.all_readable(machine) if suite else None
        written.more(machine)
        written.all_readable(machine)
        machine.stop()
    assert len(set(abis)) == 3, abis
    # What was built before is still there, each in its folder.
    assert len(machine.run("sh", "-c", "ls -d /src/build/dovecot-*").split()) == 3


STEPS = {"I": "install", "U": "uninstall", "P": "purge", "D": "remove", "R": "reinstall", "O": "reinstall"}
#: every order of: ours comes and goes, Dovecot's packages go, come back, are unpacked over what is there
WALK = "PRIPRUIPURIROIUPRIDRUPR"


def test_dovecot_and_ours_come_and_go_in_every_order(machine):
    machine("uninstall")
    dovecot, ours, seen = True, False, {}

    def compare(after: str) -> None:
        now = machine.inventory()
        before = seen.setdefault((dovecot, ours), now)
        assert now == before, f"after {after}: " + "\n".join(sorted(set(now) ^ set(before)))

    compare("uninstall")
    for number, step in enumerate(WALK):
        machine(STEPS[step])
        dovecot = {"P": False, "D": False, "R": True, "O": True}.get(step, dovecot)
        ours = {"I": True, "U": False}.get(step, ours)
        compare(WALK[: number + 1])
        if not dovecot:
            assert machine.try_step("install").returncode != 0, "installed into nothing"
            compare(WALK[: number + 1] + ", and an installation that was refused")
    assert set(seen) == {(True, False), (True, True), (False, True), (False, False)}
