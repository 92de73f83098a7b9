"""A table: rows of cells, the head first."""

from __future__ import annotations


def text(rows: list[list[str]]) -> str:
    """For a terminal: names to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    )


def markdown(rows: list[list[str]]) -> str:
    """For the documentation."""
    head, *rest = rows
    ruled = [head, ["---", *["--:"] * (len(head) - 1)], *rest]
    return "".join("| " + " | ".join(row) + " |\n" for row in ruled)
