#!/usr/bin/env python3
"""Measures the plugin against Dovecot's own and against none, side by side.

    make bench [ROUNDS=7] [MAILS=500] [LARGE=50] [MANY=10000] [COLD=200] [FOLDERS=50]
               [ROWS=fetch,copy] [JUDGE=no]

Prints a table, writes it with all measurements to build/bench, and fails if a
row is beyond its bound.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "dovecot")]

import report  # noqa: E402
from arena import SIDES, Arena, Sizes  # noqa: E402
from harness import DovecotVersion  # noqa: E402
from rows import WORKLOADS, Workload  # noqa: E402


def main() -> int:
    """Measure, print, judge."""
    args = _arguments()
    sizes = Sizes(**{name: getattr(args, name) for name in vars(Sizes())})
    wanted = [w for w in WORKLOADS if not args.rows or w.name in args.rows]
    unknown = set(args.rows) - {w.name for w in wanted}
    if unknown:
        sys.exit(f"no such workload: {', '.join(sorted(unknown))}")
    started = time.monotonic()
    with Arena(sizes, args.sides) as arena:
        for workload in wanted:
            _say(f"{workload.name} ..")
            workload.prepare(arena)
            _run(arena, workload)
        complaints = arena.complaints()
        lines = report.lines(arena, wanted)
    about = {
        "dovecot": str(DovecotVersion.installed()),
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "sizes": vars(sizes),
        "seconds": round(time.monotonic() - started),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "bench.json").write_text(json.dumps({"about": about, "rows": lines}, indent=1) + "\n")
    (args.out / "bench.md").write_text(report.markdown(lines))
    print(report.text(lines))
    print(f"\n{about['cpus']} CPUs ({about['cpu']}), Dovecot {about['dovecot']}, "
          f"{sizes.rounds} rounds, {about['seconds']} s; all of it: {args.out}/bench.json")
    for complaint in complaints:
        print(f"in a server's log: {complaint}")
    wrong = [line for line in lines if not line["same"]]
    for line in wrong:
        print(f"{line['row']}: the sides served different things")
    missed = [line for line in lines if line["ok"] is False]
    if missed:
        print(f"{len(missed)} of {sum(1 for line in lines if line['bound'])} bounds missed")
    return 1 if complaints or wrong or (missed and args.judge) else 0


def _run(arena: Arena, workload: Workload) -> None:
    """Rounds in which the sides take turns, so that what disturbs one disturbs all."""
    rounds = min(arena.sizes.rounds, workload.at_most)
    for number in range(rounds + 1):
        turn = number % len(arena.sides)
        for side in arena.sides[turn:] + arena.sides[:turn]:
            side.counts = number > 0
            workload.run(arena, side, number)


def _arguments() -> argparse.Namespace:
    default = Sizes()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--mails", type=int, default=default.mails, help="mails of 2 KB")
    parser.add_argument("--large", type=int, default=default.large, help="MB of the large mail")
    parser.add_argument("--many", type=int, default=default.many, help="mails of the huge folder")
    parser.add_argument("--cold", type=int, default=default.cold, help="mails of 1 MB to list")
    parser.add_argument("--folders", type=int, default=default.folders)
    parser.add_argument("--rows", type=_names, default=(), help="workloads: " + ",".join(w.name for w in WORKLOADS))
    parser.add_argument("--sides", type=_names, default=SIDES)
    parser.add_argument("--no-judge", dest="judge", action="store_false", help="never fail because of a time")
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "build" / "bench")
    return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.replace(",", " ").split())


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
