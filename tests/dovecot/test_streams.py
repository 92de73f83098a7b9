"""The stream classes, driven by programs without a server: what no client can make a server do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from harness import Key, modules

ROOT = modules.REPOSITORY


@pytest.fixture(scope="module")
def program():
    """Builds a program of `streams/`, and runs it with a key in a folder."""

    def run(name: str, folder: Path) -> subprocess.CompletedProcess:
        path = (modules.build_folder() / "tests" / name).relative_to(ROOT)
        subprocess.run(["make", "--no-print-directory", "-s", path], cwd=ROOT, check=True, timeout=120)
        key = Key.ec()
        (folder / "private").write_text(key.setting().value)
        (folder / "public").write_text(key.public_setting())
        core = next(modules.staged_folder().glob("*/libmail_crypt_core.so.0"))
        env = {**os.environ, "LD_LIBRARY_PATH": str(core.parent)}
        return subprocess.run(
            [str(ROOT / path), str(folder)], env=env, capture_output=True, text=True, timeout=120
        )

    return run


@pytest.mark.packaged_refuses("is about our own stream class")
def test_streams_over_one_mail_do_not_disturb_each_other(program, tmp_path):
    done = program("siblings", tmp_path)
    assert done.returncode == 0, done.stderr
