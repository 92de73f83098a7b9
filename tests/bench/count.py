#!/usr/bin/env python3
"""Counts the instructions that no plugin, Dovecot's own and ours take.

    make bench-count [MAILS=30] [LARGE=10] [RUNS=2] [TOP=5] [SIDES=ours,none]

Prints a table, and where ours needs more than no plugin; writes all of it to
build/bench. A command's count is without what came before it in the session.
Nothing is judged: an instruction is not a time (see CONTRIBUTING.md). It fails
if the sides served different things.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "dovecot")]

import callgrind  # noqa: E402
import raw  # noqa: E402
import table  # noqa: E402
from arena import PASSWORD, SIDES, Side  # noqa: E402
from callgrind import Profile  # noqa: E402
from harness import CryptConfig, DovecotVersion, Instance, Mail, UserConfig  # noqa: E402
from harness.version import libexec_dir  # noqa: E402

FIRST = "imap: the first mail in a new session"
FURTHER = "imap: each further mail"
AGAIN = "imap: a mail again, same session"
LATER_FIRST = "imap: the first mail in a later session"
LATER = "imap: each further mail in a later session"
PROTECTED_START = "imap: start, log in, SELECT; the key is under a password"
PROTECTED_FIRST = "imap: the first mail; the key is under a password"
STOCK_FIRST = "imap: a mail that stock wrote, the first time"
STOCK_LATER = "imap: a mail that stock wrote, a later session"
LARGE = "imap: {large} MB, new session"
LARGE_AGAIN = "imap: {large} MB again, same session"
END = "imap: 4 KB near the end of {large} MB, new session"
END_AGAIN = "imap: 4 KB near the end again, same session"
START = "imap: start, log in, SELECT"
DOVEADM = "doveadm fetch: a mail, the first time"
DOVEADM_LATER = "doveadm fetch: a mail, later"
LMTP_FIRST = "lmtp: the first mail of a user, who gets keys"
LMTP = "lmtp: each further mail over the same connection"
LDA = "lda: a mail, from start to end"

#: the order of the table
ROWS = (
    START, FIRST, FURTHER, AGAIN, LATER_FIRST, LATER, PROTECTED_START, PROTECTED_FIRST,
    STOCK_FIRST, STOCK_LATER, LARGE, LARGE_AGAIN, END, END_AGAIN, DOVEADM, DOVEADM_LATER, LMTP_FIRST, LMTP, LDA,
)  # fmt: skip

#: where the program ends
END_OF_PROGRAM = "master_service_deinit"


@dataclass
class Found:
    """What all runs have counted: side, row, one count a run."""

    counts: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    #: of the last run, and how many mails it is about
    profiles: dict[str, dict[str, tuple[Profile, int]]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    def keep(self, side: Side, row: str, profile: Profile, mails: int = 1) -> None:
        """Another count."""
        self.counts[side.name][row].append(profile.total / mails)
        self.profiles[side.name][row] = (profile, mails)


def imap(side: Side, user: str, *commands: str) -> list[Profile]:
    """A session. What led up to SELECT, then each command; the answers are kept, too."""
    lines = ["SELECT INBOX", *commands, "LOGOUT"]
    script = "".join(f"t{number} {line}\r\n" for number, line in enumerate(lines))
    program = [str(libexec_dir() / "imap"), "-c", str(side.instance.places.config), "-u", user]
    steps = ("cmd_select", "cmd_fetch", "cmd_logout")
    parts, said = callgrind.run(side.instance, program, steps, script.encode())
    if len(parts) != len(commands) + 2 or said.count(b" OK ") < len(lines):
        raise AssertionError(f"{side.name}: a session went wrong: {said[-300:]!r}")
    side.got("imap " + " ".join(commands), memoryview(said))
    return parts


def small(side: Side, found: Found, user: str, mails: int, stock: bool = False) -> None:
    """All mails in a new session, again, and in a later session."""
    fetches = ("FETCH 1 (BODY.PEEK[])", "FETCH 2:* (BODY.PEEK[])")
    _, _, first, further, again = imap(side, user, *fetches, "FETCH 1:* (BODY.PEEK[])")
    start, select, later_first, later = imap(side, user, *fetches)
    if stock:
        found.keep(side, STOCK_FIRST, further, mails - 1)
        found.keep(side, STOCK_LATER, later, mails - 1)
        return
    found.keep(side, START, start + select)
    found.keep(side, FIRST, first)
    found.keep(side, FURTHER, further, mails - 1)
    found.keep(side, AGAIN, again, mails)
    found.keep(side, LATER_FIRST, later_first)
    found.keep(side, LATER, later, mails - 1)


def protected(side: Side, found: Found, user: str) -> None:
    """A later session of somebody whose key is under a password."""
    fetch = "FETCH 1 (BODY.PEEK[])"
    imap(side, user, fetch)
    start, select, first = imap(side, user, fetch)
    found.keep(side, PROTECTED_START, start + select)
    found.keep(side, PROTECTED_FIRST, first)


def large(side: Side, found: Found, user: str, megabytes: int) -> None:
    """Whole, and a part."""
    _, _, whole, again = imap(side, user, *["FETCH 1 (BODY.PEEK[])"] * 2)
    found.keep(side, LARGE, whole)
    found.keep(side, LARGE_AGAIN, again)
    at = (megabytes << 20) - (64 << 10)
    parts = (f"FETCH 1 (BODY.PEEK[]<{at + n * 4096}.4096>)" for n in range(2))
    _, _, end, again = imap(side, user, *parts)
    found.keep(side, END, end)
    found.keep(side, END_AGAIN, again)


def doveadm(side: Side, found: Found, user: str, mails: int) -> None:
    """The text of all mails, twice; starting the program doesn't count."""
    config = str(side.instance.places.config)
    program = ["doveadm", "-c", config, "fetch", "-u", user, "text", "mailbox", "INBOX", "all"]
    for row in (DOVEADM, DOVEADM_LATER):
        steps = ("doveadm_mail_iter_init", END_OF_PROGRAM)
        (_, *parts), said = callgrind.run(side.instance, program, steps)
        if said.count(b"text:") < mails:
            raise AssertionError(f"{side.name}: doveadm fetched too little: {said[-300:]!r}")
        found.keep(side, row, sum(parts, Profile()), mails)


def lmtp(side: Side, found: Found, user: str, mails: list[bytes]) -> None:
    """To a user who never got any."""
    envelope = f"MAIL FROM:<sender@example.org>\r\nRCPT TO:<{user}>\r\nDATA\r\n".encode()
    script = b"LHLO bench.example.org\r\n" + b"".join(envelope + raw.dotted(m) for m in mails)
    program = [str(libexec_dir() / "lmtp"), "-c", str(side.instance.places.config)]
    steps = ("smtp_server_cmd_mail", "smtp_server_cmd_quit")
    parts, said = callgrind.run(side.instance, program, steps, script + b"QUIT\r\n", waits=True)
    if said.count(b"Saved") != len(mails) or len(parts) != len(mails) + 1:
        raise AssertionError(f"{side.name}: a delivery went wrong: {said[-300:]!r}")
    found.keep(side, LMTP_FIRST, parts[1])
    found.keep(side, LMTP, sum(parts[2:], Profile()), len(mails) - 1)


def lda(side: Side, found: Found, user: str, mail: bytes) -> None:
    """To a user who has keys."""
    program = [str(libexec_dir() / "dovecot-lda"), "-c", str(side.instance.places.config), "-d", user]
    parts, _ = callgrind.run(side.instance, program, (END_OF_PROGRAM,), mail)
    found.keep(side, LDA, sum(parts, Profile()))


def count(args: argparse.Namespace, found: Found) -> list[Side]:
    """All of it, on every side."""
    mails = [Mail.make(2000).data for _ in range(args.mails)]
    dotted = [raw.dotted(mail) for mail in mails]
    big = [raw.dotted(Mail.make(args.large << 20).data)]
    names = [f"{what}{run}" for run in range(args.runs) for what in ("small", "foreign", "large", "doveadm", "lmtp")]
    secrets = [f"secret{run}" for run in range(args.runs)]
    with contextlib.ExitStack() as stack:
        sides = []
        for name in args.sides:
            users = {user: UserConfig() for user in names}
            users |= {user: UserConfig(CryptConfig(password=PASSWORD)) for user in secrets}
            instance = Instance(plugin=name, users=users)
            sides.append(Side(name, stack.enter_context(instance)))
        for run in range(args.runs):
            for side in sides:
                for user, what in (("small", dotted), ("doveadm", dotted), ("large", big), ("secret", dotted[:1])):
                    side.deliver(f"{user}{run}", what)
            packaged = next((side for side in sides if side.name == "packaged"), None)
            for side in sides:
                _say(f"run {run + 1}: {side.name} ..")
                if side.name == "ours" and packaged:
                    side.copy_home(f"doveadm{run}", packaged, f"foreign{run}")
                    small(side, found, f"foreign{run}", args.mails, stock=True)
                small(side, found, f"small{run}", args.mails)
                protected(side, found, f"secret{run}")
                large(side, found, f"large{run}", args.large)
                doveadm(side, found, f"doveadm{run}", args.mails)
                lmtp(side, found, f"lmtp{run}", mails)
                lda(side, found, f"lmtp{run}", mails[0])
            # What is compared with it on the other sides.
            for side in sides if packaged else []:
                if side.name != "ours":
                    for row, like in ((STOCK_FIRST, FURTHER), (STOCK_LATER, LATER)):
                        profile, many = found.profiles[side.name][like]
                        found.keep(side, row, profile, many)
    return sides


def lines(found: Found, megabytes: int) -> list[dict]:
    """The table's, as they go into the JSON."""
    result = []
    for row in ROWS:
        counts = {name: found.counts[name][row] for name in SIDES if found.counts[name].get(row)}
        if not counts:
            continue
        average = {name: mean(values) for name, values in counts.items()}
        spread = max(((max(v) - min(v)) / mean(v) for v in counts.values() if len(v) > 1), default=None)
        result.append({
            "row": row.format(large=megabytes),
            "instructions": average,
            "all": counts,
            "spread": spread,
            "more than none": _surplus(found, row),
            "ours inclusive": _inclusive(found, row),
            "ours calls": _calls(found, row),
        })
    return result


def _surplus(found: Found, row: str) -> dict[str, dict]:
    """Where ours differs from none, a mail: by file, and by function."""
    if row not in found.profiles["ours"] or row not in found.profiles["none"]:
        return {}
    (ours, mails), (none, others) = (found.profiles[name][row] for name in ("ours", "none"))
    files, plain_files = ours.by_file(), none.by_file()
    by_file = {file: files[file] / mails - plain_files[file] / others for file in files | plain_files}
    by_function = {
        f"{name} ({file})": ours.own[name, file] / mails - none.own[name, file] / others
        for name, file in ours.own | none.own
    }
    return {"files": _sorted(by_file), "functions": _sorted(by_function, 40)}


def _inclusive(found: Found, row: str) -> dict[str, float]:
    """What our own functions take, with all that they call."""
    if row not in found.profiles["ours"]:
        return {}
    profile, mails = found.profiles["ours"][row]
    own = {name: count / mails for (name, file), count in profile.inclusive.items() if "mail_crypt" in file}
    return _sorted(own, 40)


def _calls(found: Found, row: str) -> dict[str, float]:
    """What our modules and the core have other libraries do."""
    if row not in found.profiles["ours"]:
        return {}
    profile, mails = found.profiles["ours"][row]
    calls: Counter[str] = Counter()
    for (caller, (name, file)), count in profile.called.items():
        if "mail_crypt" in caller and "mail_crypt" not in file:
            calls[f"{name} ({file})"] += count / mails
    return _sorted(calls, 40)


def _sorted(counts: dict[str, float], most: int | None = None) -> dict[str, float]:
    order = sorted(counts, key=lambda name: -abs(counts[name]))
    return {name: round(counts[name]) for name in order[:most]}


HEAD = ["thousand instructions", "none", "packaged", "ours", "ours/none", "ours/packaged", "spread"]


def _cells(line: dict) -> list[str]:
    counts = line["instructions"]

    def ratio(to: str) -> str:
        return f"{counts['ours'] / counts[to]:.2f}" if "ours" in counts and counts.get(to) else ""

    spread = "" if line["spread"] is None else f"{line['spread']:.2%}"
    thousands = (f"{counts[name] / 1000:,.0f}" if name in counts else "" for name in SIDES)
    return [line["row"], *thousands, ratio("none"), ratio("packaged"), spread]


def where(line: dict, top: int) -> str:
    """Where the difference to no plugin is."""
    said = [f"\n{line['row']}: ours - none, in instructions"]
    surplus = line["more than none"]
    for name, count in list(surplus["files"].items())[:6]:
        said.append(f"  {count:+14,}  {name}")
    said.append("  the functions, each alone:")
    for name, count in list(surplus["functions"].items())[:top]:
        said.append(f"  {count:+14,}  {name}")
    said.append("  ours, with all that they call:")
    for name, count in list(line["ours inclusive"].items())[:top]:
        said.append(f"  {count:14,}  {name}")
    said.append("  what ours has other libraries do:")
    for name, count in list(line["ours calls"].items())[:top]:
        said.append(f"  {count:14,}  {name}")
    return "\n".join(said)


def main() -> int:
    """Count and print."""
    args = _arguments()
    found = Found()
    sides = count(args, found)
    result = lines(found, args.large)
    shown = [HEAD, *(_cells(line) for line in result)]
    differing = [line for line in result if line["more than none"]]
    about = {
        "dovecot": str(DovecotVersion.installed()),
        "mails": args.mails,
        "large": args.large,
        "runs": args.runs,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "count.json").write_text(json.dumps({"about": about, "rows": result}, indent=1) + "\n")
    (args.out / "count.md").write_text(table.markdown(shown))
    (args.out / "count.txt").write_text("".join(where(line, 40) + "\n" for line in differing))
    print(table.text(shown))
    for line in differing:
        print(where(line, args.top))
    print(f"\nDovecot {about['dovecot']}, {args.runs} runs; more functions: {args.out}/count.txt; "
          f"all of it: {args.out}/count.json")
    served = {row: [side.served[row] for side in sides if row in side.served] for side in sides for row in side.served}
    wrong = [row for row, answers in served.items() if any(answer != answers[0] for answer in answers)]
    for row in wrong:
        print(f"{row}: the sides served different things")
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mails", type=int, default=30, help="mails of 2 KB")
    parser.add_argument("--large", type=int, default=10, help="MB of the large mail")
    parser.add_argument("--runs", type=int, default=2, help="to see that they count the same")
    parser.add_argument("--top", type=int, default=5, help="functions to print for each row")
    parser.add_argument("--sides", type=lambda text: tuple(text.replace(",", " ").split()), default=SIDES)
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "build" / "bench")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
