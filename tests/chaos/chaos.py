#!/usr/bin/env python3
"""Many clients, processes that are killed, a disk that is full at times: no mail may be lost by it.

    make chaos [SECONDS=60] [PLUGIN="none ours"] [SEED=1] [FORMATS="maildir sdbox mdbox"]
               [KILL=5] [FULL=both|yes|no] [REBUILD=no] [CLIENTS=6] [USERS=2]

Two runs for each PLUGIN (none, packaged, ours), SECONDS in all: one with room on the disk, one
with none at times. What a server has acknowledged must be there in the end, and open. It fails if
anything can't be read with ours, or if more is lost with ours than without a plugin. build/chaos
has all of it, and the servers' logs.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "dovecot")]
sys.dont_write_bytecode = True

import check  # noqa: E402
import report  # noqa: E402
from harness import DovecotVersion, available  # noqa: E402
from mischief import Filler, Killer  # noqa: E402
from side import PATIENCE, Plan, Side  # noqa: E402
from workers import Worker  # noqa: E402

PLUGINS = ("none", "packaged", "ours")
#: Beyond the time that clients work, for a side: the last answers, and reading everything.
GRACE = 420


def main() -> int:
    """Run the sides, print, judge."""
    args = _arguments()
    for plugin in args.plugin:
        if plugin not in PLUGINS or not available(plugin):
            sys.exit(f"plugin '{plugin}' is not there (of {', '.join(PLUGINS)})")
    fulls = {"yes": (True,), "no": (False,), "both": (False, True)}[args.full]
    if why := _own_mounts():
        if args.full == "yes":
            sys.exit(f"no file system of its own to fill ({why}): run it as root")
        fulls = (False,)
        _say(f"no file system of its own to fill ({why}): left out")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    # Whatever hangs: it ends.
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("a run doesn't come to its end"))
    args.out.mkdir(parents=True, exist_ok=True)
    runs = []
    for full in fulls:
        for plugin in args.plugin:
            plan = Plan(
                seed=args.seed, seconds=args.seconds / len(fulls), formats=args.formats, users=args.users,
                clients=args.clients, kill=args.kill, full=full, rebuild=args.rebuild,
            )
            signal.alarm(int(plan.seconds) + GRACE)
            runs.append(run(plugin, plan, args.out))
            signal.alarm(0)
    verdict = report.judge(runs)
    about = {"dovecot": str(DovecotVersion.installed()), "seed": args.seed, "seconds": args.seconds}
    result = {"about": about, "runs": runs, "complaints": verdict}
    (args.out / "chaos.json").write_text(json.dumps(result, indent=1) + "\n")
    print(report.text(runs))
    print(f"\nDovecot {about['dovecot']}, seed {args.seed}; all of it: {args.out}/chaos.json")
    for complaint in verdict:
        print(f"FAILED: {complaint}")
    return 1 if verdict else 0


def run(plugin: str, plan: Plan, out: Path) -> dict:
    """One side from its start to its end: what came of it."""
    _say(f"{plugin}{', the disk full at times' if plan.full else ''}: {plan.seconds:g} s ..")
    disk = Path(tempfile.mkdtemp(prefix="mcc-", dir="/tmp"))
    disk.chmod(0o755)
    if plan.full:
        how = ["-t", "tmpfs", "-o", f"size={plan.disk}m,mode=755"]
        subprocess.run(["mount", *how, "chaos", str(disk)], check=True)
    side = None
    try:
        side = Side(plugin, plan, disk)
        side.instance.start()
        for user in side.model.users:
            # Two processes that make an INBOX at once can meet a deadlock that is Dovecot's own.
            side.instance.guid(user)
        took = _storm(side)
        return _result(side, took)
    finally:
        if side:
            log = side.instance.log.path
            if log.exists():
                shutil.copy(log, out / f"{plugin}{'-full' if plan.full else ''}.log")
            side.instance.close()
        if plan.full:
            subprocess.run(["umount", "--lazy", str(disk)], check=False)
        shutil.rmtree(disk, ignore_errors=True)


def _storm(side: Side) -> float:
    """Everybody at work at once; how long it took."""
    started = time.monotonic()
    workers = [Worker(side, number) for number in range(side.plan.clients)]
    mischief = [Killer(side)] if side.plan.kill > 0 else []
    if side.plan.full:
        mischief.append(Filler(side))
    threads: list[threading.Thread] = [*workers, *mischief]
    for thread in threads:
        thread.start()
    until = started + side.plan.seconds
    while time.monotonic() < until and any(w.is_alive() for w in workers):
        time.sleep(0.2)
    side.over.set()
    until = time.monotonic() + 6 * PATIENCE
    for thread in threads:
        thread.join(max(0, until - time.monotonic()))
        if thread.is_alive():
            side.diary.wrong.append(f"{thread.name} hangs")
    return time.monotonic() - started


def _result(side: Side, took: float) -> dict:
    """Look at everything twice: as it is, and after force-resync."""
    check.calm(side)
    mark = side.instance.log.mark()
    _say(f"{side.plugin}: reading everything ..")
    first = check.look(side)
    late = check.missing(side, first)
    check.store_everywhere(side, first)
    keys = check.keys(side, first)
    plain = check.plaintext(side)
    check.resync(side)
    last = check.look(side)
    lost = check.missing(side, last)
    diary, model = side.diary, side.model
    log = side.instance.log.text()
    unreadable = max(first.unreadable, last.unreadable, key=len)
    return {
        "plugin": side.plugin,
        "full": side.plan.full,
        "plan": vars(side.plan),
        "seconds": round(took, 1),
        "acknowledged": _table(model.acknowledged),
        "lost": _table(Counter((check.format_of(p.user), p.kind) for p in lost)),
        "losses": dict(Counter(check.format_of(user) for user, _ in {(p.user, p.where) for p in lost})),
        "missing before force-resync": _table(Counter((check.format_of(p.user), p.kind) for p in late)),
        "unreadable": dict(check.by_format(unreadable)),
        "unreadable before and after force-resync": [len(first.unreadable), len(last.unreadable)],
        "examples": [str(u) for u in unreadable[:20]],
        "lost mails": [f"{p.user} {p.mail} {p.kind} {sorted(p.where or ['anywhere'])}" for p in lost[:200]],
        "folders that don't open": first.closed + last.closed,
        "back again": check.returned(side, last),
        "wrong": diary.wrong + first.wrong + last.wrong,
        "keys": keys,
        "keys that were not found": check.missing_keys(side, mark),
        "user keys under so many GUIDs": check.guids_with_user_keys(side),
        "plaintext": plain[:20],
        "counts": dict(sorted(diary.counts.items())),
        "slow": diary.slow,
        "refused": [[n, kind, diary.samples[kind]] for kind, n in diary.refusals.most_common(40)],
        "crashes": [line for line in log.splitlines() if re.search(r"Panic:|signal (?!9\b|15\b)\d+", line)][:20],
        "errors logged": report.kinds_of_errors(log),
    }


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _table(counts: Counter) -> dict[str, dict[str, int]]:
    """By format, and by kind in it."""
    found: dict[str, dict[str, int]] = {}
    for (form, kind), number in sorted(counts.items()):
        found.setdefault(form, {})[kind] = number
    return found


def _own_mounts() -> str | None:
    """What is mounted from here on, only this process and those that it starts can see; or why that can't be."""
    clone_newns, ms_rec, ms_private = 0x20000, 0x4000, 1 << 18
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(clone_newns) != 0 or libc.mount(b"none", b"/", None, ms_rec | ms_private, None) != 0:
        return os.strerror(ctypes.get_errno())
    return None


def _arguments() -> argparse.Namespace:
    plan = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=plan.seconds, help="of each plugin")
    parser.add_argument("--plugin", type=_names, default=("none", "ours"))
    parser.add_argument("--seed", default=plan.seed)
    parser.add_argument("--formats", type=_names, default=plan.formats)
    parser.add_argument("--kill", type=float, default=plan.kill, help="processes in a second")
    parser.add_argument("--full", choices=("both", "yes", "no"), default="both", help="the disk is full at times")
    parser.add_argument("--rebuild", type=_yes, default=plan.rebuild, help="indexes are deleted at times")
    parser.add_argument("--clients", type=int, default=plan.clients)
    parser.add_argument("--users", type=int, default=plan.users, help="of each format")
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "build" / "chaos")
    return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise argparse.ArgumentTypeError("yes or no")
    return text == "yes"


if __name__ == "__main__":
    sys.exit(main())
