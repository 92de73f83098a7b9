"""make's folders: what was built for one Dovecot, or with other flags, is never taken for another."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import modules

pytestmark = pytest.mark.packaged_refuses("is about how ours is built")


def make(*args: str, **environment: str) -> subprocess.CompletedProcess:
    """make, as from a shell: what an outer make has set doesn't count."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "DOVECOT_CONFIG", "CARGO_TARGET"))}
    command = ["make", "--no-print-directory", "-s", *args]
    return subprocess.run(
        command, cwd=modules.REPOSITORY, env=env | environment, capture_output=True, text=True, timeout=120, check=False
    )


def folder(*args: str, **environment: str) -> str:
    """Where it is built."""
    done = make("build-folder", *args, **environment)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.strip()


def value(name: str, *args: str, **environment: str) -> str:
    """What one of make's variables holds."""
    done = make(f"--eval=say-it: ; @echo '$({name})'", "say-it", *args, **environment)
    assert done.returncode == 0, done
    return done.stdout.strip()


@pytest.fixture
def other(tmp_path):
    """Another Dovecot's development files: the same as here, until a test changes them."""
    installed = Path(value("DOVECOT_CONFIG_FILE")).read_text()
    (include,) = re.findall(r"^dovecot_pkgincludedir=(.*)$", installed, re.MULTILINE)
    headers = tmp_path / "include"
    shutil.copytree(include, headers)
    config = tmp_path / "dovecot-config"
    config.write_text(installed.replace(f"dovecot_pkgincludedir={include}", f"dovecot_pkgincludedir={headers}"))
    return config


def change(header: Path, old: str, new: str) -> None:
    """Edits a header; its times stay what they were, as with files from a package."""
    text, times = header.read_text(), header.stat()
    assert old in text
    header.write_text(text.replace(old, new))
    os.utime(header, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_another_dovecot_is_built_elsewhere(other):
    config = f"DOVECOT_CONFIG={other}"
    before, target = folder(config), value("TARGET", config)
    assert before != folder(), "the folders and flags of another dovecot-config"
    assert folder(config) == before, "asked twice"
    (other.parent / "include" / "lib.h").touch()
    assert folder(config) == before, "nothing but the time has changed"
    change(other.parent / "include" / "mail-storage.h", "#define ", "#define  ")
    assert folder(config) != before
    assert value("TARGET", config) != target
    version = value("DOVECOT_ID", config).split("-")[1]
    change(other.parent / "include" / "config.h", f'PACKAGE_VERSION "{version}', 'PACKAGE_VERSION "9.9.9')
    assert "/build/dovecot-9.9.9-" in folder(config)


def test_dovecot_config_counts_on_the_command_line_and_in_the_environment(other):
    other.write_text(other.read_text() + "dovecot_moduledir=/opt/modules\n")
    for how in ({"args": [f"DOVECOT_CONFIG={other}"]}, {"environment": {"DOVECOT_CONFIG": str(other)}}):
        args, environment = how.get("args", []), how.get("environment", {})
        assert value("MODULEDIR", *args, **environment) == "/opt/modules"
        assert str(other.parent) in value("shim_cflags", *args, **environment)


@pytest.mark.parametrize("flag", ("CFLAGS=-O0", "CPPFLAGS=-DX='a b'", "LDFLAGS=-Wl,-O1", "COREDIR=/opt/core"))
def test_other_flags_are_built_elsewhere(flag):
    assert folder(flag) != folder()


def test_cargo_keeps_to_the_folder_that_it_is_given(tmp_path):
    name = Path(value("TARGET")).name
    base = f"CARGO_TARGET_DIR={tmp_path}"
    assert value("TARGET", base) == f"{tmp_path}/{name}"
    # What make hands on to a script, which asks again, stays as it is.
    assert value("TARGET", f"CARGO_TARGET_DIR={tmp_path}/{name}") == f"{tmp_path}/{name}"


def test_without_a_dovecot_make_still_answers(tmp_path):
    done = make("help", f"DOVECOT_CONFIG={tmp_path}/none")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_bill_of_materials_has_what_is_compiled_in():
    """The crates whose licences the package has; and the same file each time."""
    script = modules.REPOSITORY / "scripts" / "sbom.py"
    written = [subprocess.run([script], capture_output=True, text=True, timeout=120, check=True).stdout for _ in range(2)]
    assert written[0] == written[1]
    bill = json.loads(written[0])
    required = {c["name"]: c for c in bill["components"] if c["scope"] == "required"}
    licences = modules.REPOSITORY / "scripts" / "cargo-licences.sh"
    listed = subprocess.run([licences], capture_output=True, text=True, timeout=120, check=True).stdout
    rows = re.findall(r"^(\S+) (\S+): (.+)$", listed.split("\n\n")[1], re.MULTILINE)
    found = [(c["name"], c["version"], c["licenses"][0]["expression"]) for c in required.values()]
    assert sorted(found) == sorted((name, version, licence.replace("/", " OR ")) for name, version, licence in rows)
    parts = {name: {p["value"] for p in c["properties"]} for name, c in required.items()}
    assert parts["openssl"] == {"core", "tool"} and parts["bzip2"] == {"tool"}
    refs = {c["bom-ref"] for c in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    assert {d["ref"] for d in bill["dependencies"]} == refs
    assert {need for d in bill["dependencies"] for need in d["dependsOn"]} < refs
