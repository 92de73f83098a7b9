#!/usr/bin/env python3
"""Times of the core's parts alone, next to libcrypto's own.

    make bench-micro [SECONDS=2] [ONLY=open]

Runs the benches in tests/bench/micro, and `openssl speed` twice
after them; prints a table and writes it to build/bench.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import table

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]

#: what the benches hand over at once; libcrypto gets no more at once either
PIECE = 128 * 1024

#: the agreement or decryption that opening a mail can't do without
RAW_KEYS = {
    "P-256": "ecdhp256", "P-384": "ecdhp384", "P-521": "ecdhp521", "X25519": "ecdhx25519",
    "RSA-2048": "rsa2048",
}  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """What criterion found out about one bench."""

    group: str
    name: str
    size: str
    #: bytes that were worked on
    bytes: int | None
    #: seconds, the median and its confidence interval
    time: float
    low: float
    high: float


@dataclass
class Raw:
    """`openssl speed`, each question asked at two times."""

    seconds: int
    answers: dict[tuple[str, ...], list[float]] = field(default_factory=dict)

    def ask(self, *args: str) -> None:
        """Bytes or operations a second; remembered."""
        command = ["openssl", "speed", "-elapsed", "-mr", "-seconds", str(self.seconds), *args]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = [line for line in done.stdout.splitlines() if re.match(r"\+F\d*:", line)]
        if not found:
            raise AssertionError(f"{' '.join(command)} said\n{done.stdout}{done.stderr}")
        kind, *fields = found[-1].split(":")
        # Bulk: number, name, bytes a second. Keys: number, bits, operations a second, ..
        value = float(fields[-1] if kind == "+F" else fields[2])
        self.answers.setdefault(args, []).append(value)

    def again(self) -> None:
        """Everything once more."""
        for args in self.answers:
            self.ask(*args)

    def mean(self, *args: str) -> float | None:
        """What was answered."""
        return mean(self.answers[args]) if args in self.answers else None

    def drift(self) -> float:
        """The most by which two answers to the same question differ: how much to believe."""
        return max((max(a) / min(a) - 1 for a in self.answers.values()), default=0.0)


def questions(bench: Bench) -> list[tuple[str, ...]]:
    """What to ask `openssl speed` for a comparison with a bench."""
    if bench.bytes is None:
        # Later openings do without.
        kind = bench.group.removeprefix("open, ")
        return [(RAW_KEYS[kind],)] if kind in RAW_KEYS and bench.name.startswith("first") else []
    cipher, digest = bench.group.rsplit("-", 1)
    size = ("-bytes", str(min(bench.bytes, PIECE)))
    way = () if bench.name == "encrypt" else ("-decrypt",)
    asked = [(*size, *way, "-evp", cipher)]
    if "gcm" not in cipher and "poly1305" not in cipher:
        asked.append((*size, "-hmac", digest))
    return asked


def raw_time(bench: Bench, raw: Raw) -> float | None:
    """Seconds that libcrypto alone takes for the same."""
    speeds = [raw.mean(*asked) for asked in questions(bench)]
    if not speeds or None in speeds:
        return None
    return sum((bench.bytes or 1) / speed for speed in speeds)


def build() -> Path:
    """The benches' program."""
    cargo = [os.environ.get("CARGO", "scripts/cargo"), "bench", "--no-run", "--message-format=json-render-diagnostics"]
    manifest = HERE / "micro" / "Cargo.toml"
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "micro"
    where = ["--manifest-path", str(manifest), "--target-dir", str(target)]
    done = subprocess.run([*cargo, *where], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    found = [(m["target"], m["executable"]) for m in said if m.get("executable")]
    (program,) = (program for target, program in found if "bench" in target["kind"])
    return Path(program)


def libcrypto(program: str | Path) -> str:
    """The libcrypto that a program is linked with."""
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    found = re.search(r"libcrypto\S* => (\S+)", said)
    if not found:
        raise AssertionError(f"{program} has no libcrypto:\n{said}")
    return str(Path(found[1]).resolve())


def run(program: Path, seconds: float, only: str, home: Path) -> None:
    """All benches, or some; criterion leaves its findings in `home`."""
    times = ["--warm-up-time", str(seconds / 4), "--measurement-time", str(seconds)]
    args = ["--bench", "--noplot", "--sample-size", "20", *times]
    environ = os.environ | {"CRITERION_HOME": str(home)}
    with (home / "log").open("ab") as log:
        subprocess.run([str(program), *args, *filter(None, [only])], env=environ, check=True, stdout=log, stderr=log)


def results(home: Path) -> list[Bench]:
    """What criterion left there, in the order in which it ran."""
    found = []
    for path in sorted(home.rglob("new/benchmark.json"), key=lambda path: path.stat().st_mtime_ns):
        about = json.loads(path.read_text())
        median = json.loads((path.parent / "estimates.json").read_text())["median"]
        within = median["confidence_interval"]
        found.append(
            Bench(
                about["group_id"],
                about["function_id"],
                about["value_str"] or "",
                (about["throughput"] or {}).get("Bytes"),
                median["point_estimate"] / 1e9,
                within["lower_bound"] / 1e9,
                within["upper_bound"] / 1e9,
            )
        )
    return found


def line(bench: Bench, raw: Raw) -> dict:
    """A row, as it goes into the JSON."""
    alone = raw_time(bench, raw)
    return {
        "group": bench.group,
        "bench": " ".join(filter(None, (bench.name, bench.size))),
        "bytes": bench.bytes,
        "seconds": bench.time,
        "within": [bench.low, bench.high],
        "libcrypto seconds": alone,
        "libcrypto": [" ".join(asked) for asked in questions(bench)],
        "times libcrypto": bench.time / alone if alone else None,
    }


HEAD = ["", "µs", "+-", "MB/s", "libcrypto µs", "libcrypto MB/s", "times libcrypto"]


def cells(row: dict) -> list[str]:
    """A row of the table."""
    seconds, alone = row["seconds"], row["libcrypto seconds"]

    def speed(time: float | None) -> str:
        return f"{row['bytes'] / time / 1e6:,.0f}" if row["bytes"] and time else ""

    def micro(time: float | None) -> str:
        return f"{time * 1e6:,.1f}" if time else ""

    low, high = row["within"]
    return [
        f"{row['group']}: {row['bench']}",
        micro(seconds),
        f"{(high - low) / 2 / seconds:.1%}",
        speed(seconds),
        micro(alone),
        speed(alone),
        f"{row['times libcrypto']:.2f}" if alone else "",
    ]


def main() -> int:
    """Measure and print."""
    args = _arguments()
    program = build()
    used, other = libcrypto(program), libcrypto(shutil.which("openssl") or "openssl")
    if used != other:
        sys.exit(f"openssl speed is about {other}, the benches are linked with {used}")
    home = args.out / "criterion"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    run(program, args.seconds, args.only, home)
    found = results(home)
    if not found:
        sys.exit(f"no bench matches '{args.only}'")
    raw = Raw(args.raw_seconds)
    for asked in dict.fromkeys(asked for bench in found for asked in questions(bench)):
        raw.ask(*asked)
    raw.again()
    rows = [line(bench, raw) for bench in found]
    version = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout.strip()
    about = {"openssl": version, "libcrypto": used, "seconds": args.seconds, "drift": raw.drift()}
    (args.out / "micro.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    shown = [HEAD, *(cells(row) for row in rows)]
    (args.out / "micro.md").write_text(table.markdown(shown))
    print(table.text(shown))
    print(f"\n{version}; openssl speed differed from itself by up to {about['drift']:.0%}; "
          f"all of it: {args.out}/micro.json")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2, help="for each bench")
    parser.add_argument("--raw-seconds", type=int, default=1, help="for each run of openssl speed")
    parser.add_argument("--only", default="", help="benches whose name matches this expression")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build" / "bench")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    return args


if __name__ == "__main__":
    sys.exit(main())
