"""From measurements to a table."""

from __future__ import annotations

from statistics import median

from arena import SIDES, Arena, Side
from rows import Row, Workload, title


def lines(arena: Arena, workloads: list[Workload]) -> list[dict]:
    """One for each row, as it goes into the JSON."""
    return [_line(arena, row) for workload in workloads for row in workload.rows]


def _line(arena: Arena, row: Row) -> dict:
    values = {side.name: _values(side, row) for side in arena.sides}
    middle = {name: median(found) for name, found in values.items() if found}
    measured = {side.name: _cpu(side, row) for side in arena.sides}
    cpu = {name: value for name, value in measured.items() if value is not None}
    served = [side.served[row.name] for side in arena.sides if row.name in side.served]
    line = {
        "row": title(row.name, arena),
        "unit": row.unit,
        "median": middle,
        "cpu": cpu,
        "all": values,
        "ours/none": _ratio(middle, "none"),
        "ours/packaged": _ratio(middle, "packaged"),
        "cpu ours/none": _ratio(cpu, "none"),
        "cpu ours/packaged": _ratio(cpu, "packaged"),
        "bound": None,
        "ok": None,
        "same": all(len(got) == 1 and got == served[0] for got in served),
    }
    bound = row.bound
    if bound and bound.of in middle and "ours" in middle:
        if bound.above:
            line["bound"] = f"<= {bound.of} + {bound.times:g} {row.unit}"
            line["ok"] = middle["ours"] <= middle[bound.of] + bound.times
        else:
            line["bound"] = f"<= {bound.times:g} x {bound.of}"
            line["ok"] = middle["ours"] <= bound.times * middle[bound.of]
    return line


def _values(side: Side, row: Row) -> list[float]:
    return [s.wall if s.value is None else s.value for s in side.samples[row.name]]


def _cpu(side: Side, row: Row) -> float | None:
    found = [s.cpu for s in side.samples[row.name] if s.cpu is not None]
    return median(found) if found else None


def _ratio(of: dict[str, float], to: str) -> float | None:
    if "ours" not in of or not of.get(to):
        return None
    return of["ours"] / of[to]


def _cells(line: dict) -> list[str]:
    digits = 1 if line["unit"] == "MB" else 4

    def number(value: float | None, digits: int = 2) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    verdict = {True: "yes", False: "NO", None: ""}[line["ok"]]
    return [
        line["row"],
        *(number(line["median"].get(name), digits) for name in SIDES),
        number(line["ours/none"]),
        number(line["ours/packaged"]),
        number(line["cpu ours/none"]),
        line["bound"] or "",
        verdict,
    ]


HEAD = ["workload", "none s", "packaged s", "ours s", "ours/none", "ours/packaged", "CPU ours/none", "bound", "met"]


def text(found: list[dict]) -> str:
    """The table for a terminal."""
    rows = [HEAD, *(_cells(line) for line in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in (0, 7, 8) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    )


def markdown(found: list[dict]) -> str:
    """The table for the documentation."""
    rows = [HEAD, ["---"] + ["--:"] * 6 + ["---", "---"], *(_cells(line) for line in found)]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)
