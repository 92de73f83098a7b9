"""The modules as files: what they show to others, and that those of two builds don't work together."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import CryptConfig, Mail, UserConfig, modules

pytestmark = pytest.mark.packaged_refuses("is about our own modules")

#: what Dovecot's module loader and lib-fs look up, and what our other modules do
LOOKED_UP = r"\w+_(init|deinit|version|dependencies|set_infos)|fs_class_\w+|mail_crypt_(user_(get|scan|look)|attachments|acl_entries)"



def with_core() -> list[Path]:
    """The staged modules that need our core."""
    found = [p for p in modules.staged_folder().rglob("*.so") if b"libmail_crypt_core" in p.read_bytes()]
    assert len(found) >= 4
    return found


def ours() -> list[Path]:
    """All of them."""
    return with_core() + list(modules.staged_folder().glob(modules.SETTINGS))


def symbols(file: Path, *which: str) -> set[str]:
    """What a shared object defines for others, or needs from them."""
    done = subprocess.run(["nm", "-D", *which, file], capture_output=True, text=True, check=True)
    return {line.split()[-1].split("@")[0] for line in done.stdout.splitlines()}


def test_a_module_shows_nothing_but_what_is_looked_up_by_name():
    for file in ours():
        shown = symbols(file, "--defined-only")
        assert any(s.endswith(("_init", "_version")) for s in shown), shown
        assert {s for s in shown if not re.fullmatch(LOOKED_UP, s)} == set(), file


def test_the_core_shows_nothing_but_its_boundary():
    (core,) = modules.staged_folder().glob("*/libmail_crypt_core.so.0")
    shown = symbols(core, "--defined-only")
    assert {s for s in shown if not s.startswith("mcrs_")} == set()
    for file in with_core():
        assert "mcrs_init" in symbols(file, "--undefined-only"), file
        assert {s for s in symbols(file, "--undefined-only") if s.startswith("mcrs_")} <= shown, file


def test_every_module_says_for_which_dovecot_it_was_built():
    for file in ours():
        assert any(s.endswith("_version") for s in symbols(file, "--defined-only")), file


def test_what_every_doveconf_loads_needs_nothing():
    for file in modules.staged_folder().glob(modules.SETTINGS):
        dynamic = subprocess.run(["readelf", "-d", file], capture_output=True, text=True, check=True)
        needed = set(re.findall(r"NEEDED.*\[(.*)\]", dynamic.stdout))
        assert needed <= {"libc.so.6"}
        own = {s for s in symbols(file, "--undefined-only") if not s.startswith(("_", "__"))}
        assert own == set()


def with_another_version(tmp_path: Path) -> Path:
    """A module folder whose mail plugin was built for another core."""
    include = tmp_path / "include"
    include.mkdir()
    header = (modules.REPOSITORY / "include" / "mail_crypt_core.h").read_text()
    changed, count = re.subn(r"#define MCRS_VERSION .*", "#define MCRS_VERSION 1", header)
    assert count == 1
    (include / "mail_crypt_core.h").write_text(changed)

    folder = tmp_path / "modules"
    shutil.copytree(modules.staged_folder(), folder)
    folder.chmod(0o755)
    build, name = tmp_path / "build", "lib10_mail_crypt_plugin.so"
    build.mkdir()
    shutil.copy(next(folder.glob("*/libmail_crypt_core.so.0")), build / "libmail_crypt_core.so")
    make = ["make", "--no-print-directory", "-s"]
    asked = [*make, "--eval=flags: ; @echo '$(shim_cflags)'", "flags"]
    flags = subprocess.run(asked, cwd=modules.REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    assert "-Iinclude " in flags
    flags = flags.replace("-Iinclude ", f"-I{include} ")
    built = [*make, f"BUILD={build}", f"shim_cflags={flags}", f"{build}/staged/{name}"]
    subprocess.run(built, cwd=modules.REPOSITORY, check=True, timeout=120)
    shutil.copy(build / "staged" / name, folder / name)
    return folder


def test_a_module_refuses_a_core_of_another_build(dovecot, tmp_path):
    if not modules.can_mount():
        pytest.skip("modules can't be put in the place of others here")
    server = dovecot(users={"alice": UserConfig(crypt=CryptConfig(password="c0rrect-h0rse"))})
    mail = Mail.make()
    server.deliver("alice", mail)
    fetch = ["doveadm", "-c", str(server.places.config), "fetch", "-u", "alice", "text", "ALL"]

    def run(folder: Path) -> subprocess.CompletedProcess:
        command = modules.command(folder, server.account, fetch)
        return subprocess.run(command, cwd="/", capture_output=True, timeout=60, check=False)

    assert mail.words[1].encode() in run(modules.staged_folder()).stdout
    refused = run(with_another_version(tmp_path))
    assert refused.returncode != 0
    assert b"libmail_crypt_core are of different versions" in refused.stderr, refused
    assert mail.words[1].encode() not in refused.stdout
