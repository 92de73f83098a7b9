"""The table, and whether it is good enough."""

from __future__ import annotations

import math
import re
from collections import Counter


def total(table: dict) -> int:
    """Of a table by format and kind, or by format alone."""
    return sum(total(v) if isinstance(v, dict) else v for v in table.values())


def text(runs: list[dict]) -> str:
    """A line for each run and format."""
    columns = ("plugin", "disk", "format", "acknowledged", "lost", "unreadable", "lost by kind")
    rows = [columns]
    for run in runs:
        name = (run["plugin"], "full at times" if run["full"] else "has room")
        for form, acknowledged in run["acknowledged"].items():
            lost = run["lost"].get(form, {})
            kinds = ", ".join(f"{kind} {number}" for kind, number in lost.items())
            counts = (total(acknowledged), total(lost), run["unreadable"].get(form, 0))
            rows.append((*name, form, *map(str, counts), kinds))
        counts = (total(run["acknowledged"]), total(run["lost"]), total(run["unreadable"]))
        rows.append((*name, "all", *map(str, counts), ""))
    widths = [max(len(row[n]) for row in rows) for n in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join(lines + [_happened(run) for run in runs])


def _happened(run: dict) -> str:
    counts = run["counts"]
    killed = [f"{k.removeprefix('killed ')} {n}" for k, n in counts.items() if k.startswith("killed ")]
    also = ("times full", "indexes deleted", "passwords changed", "keys made", "compared")
    return f"{run['plugin']}: killed {', '.join(killed) or 'nothing'}; " + ", ".join(
        f"{what} {counts[what]}" for what in also if what in counts
    )


def judge(runs: list[dict]) -> list[str]:
    """What must not be. The other plugins are there to compare with."""
    complaints = []
    for run in runs:
        name = run["plugin"] + (", full disk" if run["full"] else "")
        complaints += [f"{name}: {what}" for what in _own_fault(run)]
        if run["plugin"] != "ours":
            continue
        if number := total(run["unreadable"]):
            complaints.append(f"{name}: {number} mails can't be read")
        complaints += [f"{name}: {what}" for what in _lost(run, runs)]
        # Dovecot fails assertions of its own without room, and where two processes rebuild an index.
        own = r"signal 6" if not run["full"] else r"signal 6|Panic:"
        crashes = [line for line in run["crashes"] if not re.search(own + "|Resource deadlock avoided", line)]
        for what, lines in (("keys", run["keys"]), ("plaintext", run["plaintext"]), ("crashes", crashes)):
            complaints += [f"{name}: {what}: {line}" for line in lines]
    return complaints


def _lost(run: dict, runs: list[dict]) -> list[str]:
    """Is more lost than without a plugin?

    By itself Dovecot loses nothing of Maildir and sdbox as long as there is room. Of mdbox, and of all without room, it
    does now and then: what was lost together, from one folder, then counts once, and may differ by chance.
    """
    complaints = []
    same = [r for r in runs if r["plugin"] == "none" and r["full"] == run["full"]]
    for form, kinds in run["lost"].items():
        mails, folders = total(kinds), run["losses"].get(form, 0)
        others = same[0]["losses"].get(form, 0) if same else 0
        chance = 3 * math.sqrt(others) + 2 if same and (run["full"] or form == "mdbox") else 0
        if folders > others + chance:
            complaints.append(f"{form}: {mails} acknowledged mails are lost, from {folders} folders; without a plugin from {others}")
    return complaints


def _own_fault(run: dict) -> list[str]:
    """Where the test itself failed, or a mail was served that nobody sent."""
    if not total(run["acknowledged"]):
        return ["no mail was stored at all"]
    return run["wrong"]


def kinds_of_errors(log: str, most: int = 40) -> list[list]:
    """How often which error was logged, and one of each as it stands."""
    counts: Counter = Counter()
    samples: dict[str, str] = {}
    for line in log.splitlines():
        if not re.search(r"(Error|Fatal|Panic|Warning):", line):
            continue
        kind = re.sub(r"<[^>]*>|\([^)]*\)|[0-9a-f]{16,}|\b\d+\b|/\S+|F\d+x\d+", "*", line[27:])[:200]
        counts[kind] += 1
        samples.setdefault(kind, line[:400])
    return [[number, samples[kind]] for kind, number in counts.most_common(most)]
