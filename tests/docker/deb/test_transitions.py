"""The package comes, changes and goes, while Dovecot does: by the real apt and dpkg, in a container."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scenarios"))

from hosts import PATIENCE, Host, docker, until  # noqa: E402
from test_upgrade import Written  # noqa: E402

HERE = Path(__file__).resolve().parent
OURS = "dovecot-mail-crypt"
#: apt and dpkg on a machine with other work
PATIENT = 4 * PATIENCE


class Machine(Host):
    """A Debian with its Dovecot, on which an administrator works."""

    def __init__(self, line: str):
        found = docker(
            "run", "-d", "--init", "-v", f"{HERE}:/deb-test:ro", "-v", f"{HERE.parents[2]}/build/docker/deb:/built:ro",
            "-v", f"{HERE.parent}/scenarios:/scenarios:ro", f"mail-crypt-deb:{line}", "sleep", "infinity",
        )  # fmt: skip
        super().__init__(found.decode().strip(), "bridge")

    def __enter__(self) -> "Machine":
        self.step("prepare")
        return self

    def __exit__(self, *_: object) -> None:
        docker("rm", "-f", "-v", self.container, check=False)

    def try_step(self, *words: str) -> subprocess.CompletedProcess:
        """One of inside.sh's steps, whatever comes of it."""
        command = ["docker", "exec", self.container, "/deb-test/inside.sh", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENT, check=False)

    def step(self, *words: str) -> str:
        """One that must not fail."""
        done = self.try_step(*words)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def refused(self, *words: str) -> str:
        """One that must fail; what it says."""
        done = self.try_step(*words)
        assert done.returncode != 0, f"{' '.join(words)} was done: {done.stdout[-4000:]}"
        return done.stdout + done.stderr

    def apt(self, *words: str) -> str:
        """apt-get, which must not fail."""
        return self.step("apt", *words)

    def sources(self, *folders: str) -> None:
        """What apt knows of from now on."""
        self.step("sources", *folders)

    def inventory(self) -> list[str]:
        """All that a package may change."""
        return self.step("inventory").splitlines()

    def module(self) -> list[str]:
        """The ABI and the origin of what Dovecot would load."""
        return self.step("module").split()

    def state(self, package: str) -> str:
        """Is it installed, and which version?"""
        return self.step("state", package).strip()

    def told_to_restart(self) -> bool:
        """Was Dovecot, since this was asked last?"""
        return any(line.startswith("dovecot ") and "restart" in line for line in self.step("asked").splitlines())

    def serve(self) -> None:
        """Start Dovecot, and wait until it answers."""
        docker("exec", "-d", self.container, "/deb-test/inside.sh", "serve")
        until(self.ready, "LMTP answers")

    def stop(self) -> None:
        """Stop it, and wait until it is gone."""
        self.step("stop")
        until(lambda: not self.run("sh", "-c", "grep -l ^dovecot /proc/[0-9]*/comm", check=False), "Dovecot is gone")

    def serve_and_read(self, written: Written) -> None:
        """All mail that there is can be read, and more is delivered and encrypted."""
        self.serve()
        written.all_readable(self)
        written.more(self)
        written.all_readable(self)
        self.stop()


@pytest.fixture
def machine(line):
    with Machine(line) as machine:
        yield machine
        print(f"---- Dovecot's log\n{machine.log()[-8000:]}")


def test_mail_is_read_by_ours_and_by_dovecots_own_after_removal(machine):
    written, before = Written(), machine.inventory()
    abi, _ = machine.module()
    machine.sources("own", "ours")
    machine.apt("install", OURS)
    assert machine.told_to_restart()
    assert machine.module() == [abi, "ours"]
    machine.serve()
    written.more(machine)
    written.all_readable(machine)
    machine.stop()
    for remove, back in (("remove", "install"), ("purge", "install")):
        machine.apt(remove, OURS)
        assert machine.told_to_restart()
        assert machine.inventory() == before
        machine.serve_and_read(written)
        machine.apt(back, OURS)
        assert machine.module() == [abi, "ours"]
        machine.serve_and_read(written)


#: what an administrator does: the letter, the step, and what is there afterwards (None: as before)
STEPS = {
    "I": (("apt", "install", f"{OURS}"), None, "ours"),
    "A": (("apt", "install", "--reinstall", OURS), None, None),
    "N": (("dpkg-in", "newer", OURS), None, "newer"),
    "B": (("dpkg-in", "ours", OURS), None, "ours"),
    "R": (("apt", "remove", OURS), None, ""),
    "P": (("apt", "purge", OURS), None, ""),
    "X": (("apt", "purge", "dovecot-*"), "", ""),
    "F": (("force-remove",), "", None),
    "D": (("apt", "install", "dovecot-core", "dovecot-imapd", "dovecot-lmtpd"), "own", None),
    "S": (("dpkg-in", "security", "dovecot-core"), "security", None),
    "O": (("dpkg-in", "own", "dovecot-core"), "own", None),
}
#: every step in every state in which it can be taken
WALK = "IANBRNPISAOFDNFDRFDXDIXDSIR"


def test_ours_and_dovecot_come_and_go_in_every_order(machine):
    machine.sources("own", "ours")
    machine.apt("purge", "dovecot-*")
    machine.apt("install", "dovecot-core", "dovecot-imapd", "dovecot-lmtpd")
    dovecot, ours, seen = "own", "", {}
    abi, _ = machine.module()

    def compare(after: str) -> None:
        now = machine.inventory()
        before = seen.setdefault((dovecot, ours), now)
        assert now == before, f"after {after}: " + "\n".join(sorted(set(now) ^ set(before)))
        wanted = [abi, "ours"] if ours else [abi, "packaged"] if dovecot else []
        assert machine.module() == wanted, f"after {after}"

    compare("the beginning")
    for number, letter in enumerate(WALK):
        words, with_dovecot, with_ours = STEPS[letter]
        machine.step(*words)
        dovecot = dovecot if with_dovecot is None else with_dovecot
        ours = ours if with_ours is None else with_ours
        compare(WALK[: number + 1])
    assert {("own", ""), ("own", "ours"), ("own", "newer"), ("security", ""), ("security", "ours"), ("", ""), ("", "ours")} <= set(seen)


def test_what_fails_changes_nothing(machine):
    machine.sources("own", "ours")
    before = machine.inventory()
    # It can't be unpacked: dovecot-core has a file of that name.
    assert "trying to overwrite" in machine.refused("dpkg-in", "broken", OURS)
    machine.step("dpkg", "--purge", OURS)
    assert machine.inventory() == before
    # What lies where Dovecot's own would go is somebody's.
    aside = "/usr/lib/dovecot/modules/lib05_mail_crypt_acl_plugin.so.distrib"
    machine.run("sh", "-c", f"echo mine >{aside}")
    with_it = machine.inventory()
    machine.refused("dpkg-in", "ours", OURS)
    machine.step("dpkg", "--purge", OURS)
    assert machine.inventory() == with_it
    machine.run("rm", aside)
    # An upgrade that fails leaves the version that was there.
    machine.apt("install", OURS)
    installed = machine.inventory()
    assert "trying to overwrite" in machine.refused("dpkg-in", "broken", OURS)
    assert machine.inventory() == installed
    machine.apt("purge", OURS)
    assert machine.inventory() == before


def test_never_under_a_dovecot_of_another_abi(machine):
    written = Written()
    machine.sources("own", "ours")
    machine.apt("install", OURS)
    installed, core, ours = machine.inventory(), machine.state("dovecot-core"), machine.state(OURS)
    machine.serve()
    written.more(machine)
    machine.stop()

    # Held back where nothing may be removed, by apt and by dpkg.
    machine.sources("next", "ours")
    assert "kept back" in machine.apt("upgrade")
    assert machine.inventory() == installed
    machine.refused("dpkg-in", "next", "dovecot-core")
    assert (machine.state("dovecot-core"), machine.state(OURS)) == (core, ours)
    assert machine.inventory() == installed

    # Removed where that is allowed: Dovecot's own plugin of the new release takes over, and reads all.
    machine.apt("dist-upgrade")
    assert "dovecot-core" in machine.run("dpkg", "-S", "/usr/lib/dovecot/modules/lib10_mail_crypt_plugin.so")
    assert machine.state("dovecot-core") != core
    assert not machine.state(OURS).startswith("installed")
    abi, origin = machine.module()
    assert origin == "packaged"
    assert not any(OURS in line for line in machine.inventory())
    machine.serve_and_read(written)
    upgraded = machine.inventory()

    # And the old package isn't for it.
    machine.refused("dpkg-in", "ours", OURS)
    machine.try_step("dpkg", "--purge", OURS)
    assert machine.inventory() == upgraded
    machine.refused("apt", "install", OURS)
    assert machine.inventory() == upgraded


def test_both_go_to_the_next_release_together(machine):
    machine.sources("own", "ours")
    machine.apt("install", OURS)
    core = machine.state("dovecot-core")
    machine.step("asked")
    machine.sources("next", "for-next")
    machine.apt("dist-upgrade")
    assert machine.state("dovecot-core") != core
    assert machine.state(OURS).startswith("installed 3:")
    assert machine.module()[1] == "ours"
    assert machine.told_to_restart()
    assert not [line for line in machine.inventory() if line.startswith("??")]
    machine.apt("purge", OURS)
    assert machine.module()[1] == "packaged"
    assert not any(OURS in line for line in machine.inventory())
