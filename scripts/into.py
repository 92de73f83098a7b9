#!/usr/bin/env python3
"""Puts standard input between the marks `<!-- NAME: begin -->` and `<!-- NAME: end -->` of a file: into.py FILE NAME."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Nothing is written if there is nothing to put there, or no place for it."""
    path, name = Path(sys.argv[1]), sys.argv[2]
    made = sys.stdin.read()
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, marked, rest = path.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not (made.strip() and marked and ended):
        sys.exit(f"nothing to put there, or no {begin} and {end} in {path}")
    path.write_text(f"{before}{begin}\n{made}{end}{after}")


if __name__ == "__main__":
    main()
