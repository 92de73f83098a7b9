#!/usr/bin/env python3
"""Draws what bench measured last, as an SVG on standard output: chart.py build/bench/bench.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
# The same numbers give the same file, and its text stays text.
matplotlib.rcParams |= {"svg.hashsalt": "mail_crypt", "svg.fonttype": "none", "font.family": "sans-serif"}

import matplotlib.pyplot as plt  # noqa: E402

SIDES = {"packaged": "#c0504d", "ours": "#4f81bd"}
BAR = 0.38


def ratios(rows: list[dict], side: str) -> list[float]:
    """The side's time, with no plugin's as 1."""
    return [row["median"][side] / row["median"]["none"] for row in rows]


def main() -> int:
    """Draw."""
    found = json.loads(Path(sys.argv[1]).read_text())
    rows = [row for row in found["rows"] if row["unit"] == "s" and set(row["median"]) >= {"none", *SIDES}]
    figure, axes = plt.subplots(figsize=(9, 0.9 + 0.42 * len(rows)))
    for number, (side, colour) in enumerate(SIDES.items()):
        places = [at + (number - 0.5) * BAR for at in range(len(rows))]
        values = ratios(rows, side)
        axes.barh(places, values, BAR, color=colour, label=side)
        for place, value in zip(places, values, strict=True):
            axes.text(value * 1.04, place, f"{value:.3g}", va="center", fontsize=7)
    axes.axvline(1, color="#444", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("times as long as without a plugin")
    axes.set_yticks(range(len(rows)), [row["row"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    figure.tight_layout()
    figure.savefig(sys.stdout.buffer, format="svg", metadata={"Date": None})
    return 0


if __name__ == "__main__":
    sys.exit(main())
