"""Programs of a private Dovecot under valgrind's callgrind: how many instructions, and where.

A count has none of a clock's noise. Counters are written out and start anew
each time the program enters one of some functions (`steps`), so that a run
comes apart into what led up to each.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator

from harness import Instance

#: a function and the file that it is in
Function = tuple[str, str]


@dataclass
class Profile:
    """Instructions, by function: its own, and with all that it called."""

    own: Counter[Function] = field(default_factory=Counter)
    inclusive: Counter[Function] = field(default_factory=Counter)
    #: what a file's functions had others do: with the file that called
    called: Counter[tuple[str, Function]] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All of them."""
        return self.own.total()

    def by_file(self) -> Counter[str]:
        """By program and library."""
        found: Counter[str] = Counter()
        for (_, file), count in self.own.items():
            found[file] += count
        return found

    def __add__(self, other: "Profile") -> "Profile":
        return Profile(
            self.own + other.own, self.inclusive + other.inclusive, self.called + other.called
        )


#: "(12) name", and from then on "(12)"
_NAME = re.compile(r"\((\d+)\)(?: (.*))?")
_COST = re.compile(r"[+*\d-]\S* (\d+)$")


class _Reader:
    """Callgrind's format, as far as this needs it."""

    def __init__(self) -> None:
        self.names: dict[tuple[str, str], str] = {}
        self.profile = Profile()
        self.said = 0

    def name(self, kind: str, text: str) -> str:
        """A name that may stand for itself from now on."""
        found = _NAME.fullmatch(text)
        if not found:
            return text
        number, name = found.groups()
        if name is not None:
            self.names[kind, number] = name
        return self.names[kind, number]

    def read(self, path: Path) -> Profile:
        """One of its files."""
        file = function = called_file = ""
        called: Function | None = None
        for line in path.read_text(errors="replace").splitlines():
            if cost := _COST.match(line):
                count = int(cost[1])
                if called is None:
                    self.profile.own[function, file] += count
                elif called[1] != file:
                    self.profile.called[file, called] += count
                # What a function does by calling itself it would count again and again.
                if called != (function, file):
                    self.profile.inclusive[function, file] += count
                called = None
            elif line.startswith("ob="):
                file = _short(self.name("ob", line[3:]))
            elif line.startswith("fn="):
                function, called_file = self.name("fn", line[3:]), ""
            elif line.startswith("cob="):
                called_file = _short(self.name("ob", line[4:]))
            elif line.startswith("cfn="):
                called = (self.name("fn", line[4:]), called_file or file)
                called_file = ""
            elif line.startswith("totals: "):
                self.said = int(line.split()[1])
        if self.profile.total != self.said:
            raise ValueError(f"{path}: {self.profile.total} instructions found, {self.said} told")
        return self.profile


def read(path: Path) -> Profile:
    """What is in one of callgrind's files."""
    return _Reader().read(path)


def _short(path: str) -> str:
    """A file's name without folder and version."""
    return re.sub(r"\.so\.[\d.]*$", ".so", Path(path).name)


@contextmanager
def room() -> Iterator[Path]:
    """A folder in which programs of any user can leave their files."""
    path = Path(tempfile.mkdtemp(prefix="mcb-"))
    path.chmod(0o777)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def run(
    instance: Instance,
    argv: list[str],
    steps: tuple[str, ...],
    stdin: bytes = b"",
    waits: bool = False,
) -> tuple[list[Profile], bytes]:
    """Run a program; what it did up to each of its steps, and what it said.

    `steps` are functions that the program or a library exports. What comes
    after the last is lost: by then the program may not write where it could.
    What it says goes to a file, which never makes it wait; `waits`: it wants
    something to wait for, and gets a pipe.
    """
    with room() as where:
        counted = [
            "valgrind", "--tool=callgrind", "--quiet", "--vgdb=no",
            # Where -c is given, it executes doveconf, which executes it again.
            "--trace-children=yes",
            f"--callgrind-out-file={where}/out.%p",
            *(f"--dump-before={step}" for step in steps),
            *argv,
        ]  # fmt: skip
        if not waits:
            counted = ["sh", "-c", 'out=$1; shift; exec "$@" > "$out"', "sh", f"{where}/said", *counted]
        done = instance.run_program(counted, stdin, check=False, timeout=900)
        said = done.stdout if waits else (where / "said").read_bytes()
        parts = sorted(where.glob("out.*.*"), key=lambda path: int(path.suffix[1:]))
        if not parts:
            error = done.stderr.decode("utf-8", "replace")
            raise AssertionError(f"{' '.join(argv)}: counted nothing\n{error}")
        return [read(path) for path in parts], said
