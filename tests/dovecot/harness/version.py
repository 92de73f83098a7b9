"""Which Dovecot is installed, and where it keeps its things."""

from __future__ import annotations

import functools
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path


class NotHere(Exception):
    """What was asked for does not exist with the Dovecot at hand; conftest skips such a test."""


@dataclass(frozen=True, order=True)
class DovecotVersion:
    """`2.3.19.1` as (2, 3, 19, 1), to be compared."""

    parts: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> "DovecotVersion":
        """Read what `dovecot --version` prints."""
        found = re.match(r"(\d+(?:\.\d+)*)", text)
        if not found:
            raise ValueError(f"not a Dovecot version: {text!r}")
        return cls(tuple(int(part) for part in found.group(1).split(".")))

    @classmethod
    def installed(cls) -> "DovecotVersion":
        """The version of the Dovecot on this machine."""
        return _installed()

    @property
    def line(self) -> str:
        """The release line: "2.3" or "2.4"."""
        return ".".join(str(part) for part in self.parts[:2])

    def __str__(self) -> str:
        return ".".join(str(part) for part in self.parts)


@functools.cache
def _installed() -> DovecotVersion:
    done = subprocess.run(
        ["dovecot", "--version"], check=True, capture_output=True, text=True
    )
    return DovecotVersion.parse(done.stdout)


@functools.cache
def module_dir() -> Path:
    """The folder from which this Dovecot loads its modules, compiled in."""
    config = Path("/usr/lib/dovecot/dovecot-config")
    if config.exists():
        found = re.search(
            r'^(?:dovecot_)?moduledir="?([^"\n]+)"?$', config.read_text(), re.MULTILINE
        )
        if found and "$" not in found.group(1):
            return Path(found.group(1))
    return Path("/usr/lib/dovecot/modules")


@functools.cache
def libexec_dir() -> Path:
    """The folder of Dovecot's own programs (dovecot-lda)."""
    return Path("/usr/lib/dovecot")
