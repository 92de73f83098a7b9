#!/usr/bin/env python3
"""Dovecot version x test group, as a Markdown table, from the results of run.sh.

    table.py FOLDER
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path


def lines_in_order() -> list[str]:
    """The names of the lines, as lines.sh has them."""
    text = (Path(__file__).parent / "lines.sh").read_text()
    return re.findall(r"^    ([a-z-]+):[a-z-]+:[a-z-]+$", text, re.MULTILINE)


def counts(report: Path) -> dict[str, Counter]:
    """Test file -> how many passed, failed, were skipped."""
    found: dict[str, Counter] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        group = re.search(r"test_\w+", case.get("file") or case.get("classname", "")).group()
        kind = "passed"
        if case.find("skipped") is not None:
            kind = "skipped"
        if case.find("failure") is not None or case.find("error") is not None:
            kind = "failed"
        found.setdefault(group, Counter())[kind] += 1
    return found


def cell(count: Counter | None) -> str:
    """`12`, `12 (3 skipped)`, `**1 failed**, 11`, or a dash where nothing ran."""
    if not count or not (count["passed"] or count["failed"]):
        return "–"
    text = str(count["passed"])
    if count["skipped"]:
        text += f" ({count['skipped']} skipped)"
    if count["failed"]:
        text = f"**{count['failed']} failed**, {text}"
    return text


def table(folder: Path) -> str:
    """The whole table, with a line of totals."""
    runs = []
    for line in lines_in_order():
        about, report = folder / f"{line}.json", folder / f"{line}.xml"
        if about.exists() and report.exists():
            runs.append((json.loads(about.read_text()), counts(report)))
    if not runs:
        sys.exit(f"no results in {folder}: make docker-test")
    groups = sorted({group for _, run in runs for group in run})
    rows = [["tests", *(f"{about['dovecot']} ({about['line']}, Rust {about['rust']})" for about, _ in runs)]]
    rows.append(["---"] * len(rows[0]))
    for group in groups:
        rows.append([f"`{group}`", *(cell(run.get(group)) for _, run in runs)])
    rows.append(["all", *(cell(sum(run.values(), Counter())) for _, run in runs)])
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    print(table(parser.parse_args().folder), end="")


if __name__ == "__main__":
    main()
