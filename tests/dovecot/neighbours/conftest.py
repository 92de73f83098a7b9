"""What tests of Dovecot's other plugins have in common."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def open_folder():
    """A folder that the owner of the mail may write to, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="mcn-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)
