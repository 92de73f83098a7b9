"""The rows of the table, and the workloads that they come from.

A workload prepares every side once, and then runs on one side at a time; what
it measures it names. Sessions are opened before the clock starts, unless a row
says otherwise: starting a process costs the same on all sides and would hide
what differs. Selecting the folder, finding keys and unlocking them counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable

from arena import Arena, Sample, Side, peak_memory

#: Everything that a client downloads of a mail, without marking it as read.
ALL = "UID FETCH 1:* (BODY.PEEK[])"


@dataclass(frozen=True)
class Bound:
    """What ours may take: so many times what another side takes, or so much more than it."""

    of: str
    times: float
    #: for memory: MB above the other side
    above: bool = False


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    bound: Bound | None = None
    unit: str = "s"


def none(times: float) -> Bound:
    """At most so many times what it takes without encryption."""
    return Bound("none", times)


def packaged(times: float) -> Bound:
    """At most so many times what it takes with the packaged plugin."""
    return Bound("packaged", times)


@dataclass(frozen=True)
class Workload:
    """Where rows come from."""

    name: str
    rows: tuple[Row, ...]
    prepare: Callable[[Arena], None]
    run: Callable[[Arena, Side, int], None]
    #: rounds, if it takes so long that fewer must do
    at_most: int = 1000


WORKLOADS: list[Workload] = []


def workload(name: str, *rows: Row, prepare: Callable[[Arena], None] = lambda arena: None, at_most: int = 1000):
    """Registers what follows as a workload."""

    def add(run):
        WORKLOADS.append(Workload(name, rows, prepare, run, at_most))
        return run

    return add


def _fetch_all(side: Side, row: str, user: str, *again: str) -> None:
    """Everything in a new session, then in the same one."""
    with side.imap(user) as session:
        pid = side.process(session)
        with side.clock(row, pid):
            session.command("SELECT INBOX")
            answer = session.command(ALL)
        side.got(row, answer)
        for name in again:
            with side.clock(name, pid):
                answer = session.command(ALL)
            side.got(row, answer)


# Delivery


@workload("deliver", Row("deliver {mails} by LMTP, one connection", none(1.15)))
def deliver(arena: Arena, side: Side, number: int) -> None:
    """Each round for another user, whose keys are made with the first mail."""
    with side.lmtp() as lmtp:
        (pid, *_) = side.instance.processes("lmtp")
        with side.clock("deliver {mails} by LMTP, one connection", pid):
            for mail in arena.dotted:
                lmtp.deliver(f"deliver{number}", mail)


# Small mails


@workload(
    "open",
    Row("log in and SELECT (a process is started)"),
    prepare=Arena.fill_small,
)
def open_session(arena: Arena, side: Side, number: int) -> None:
    """What a short session costs before it does anything."""
    with side.clock("log in and SELECT (a process is started)"):
        session = side.imap("small")
        session.command("SELECT INBOX")
    session.close()


@workload(
    "fetch",
    Row("FETCH all, new session", none(3)),
    Row("FETCH all again, same session", none(1.5)),
    prepare=Arena.fill_small,
)
def fetch(arena: Arena, side: Side, number: int) -> None:
    """Mails that one process delivered."""
    _fetch_all(side, "FETCH all, new session", "small", "FETCH all again, same session")


@workload(
    "stock",
    Row("FETCH all that stock wrote, first time", packaged(0.3)),
    Row("FETCH all that stock wrote, a later session", none(2)),
    prepare=Arena.fill_small,
)
def stock(arena: Arena, side: Side, number: int) -> None:
    """Ours gets a copy of what the packaged plugin wrote, each round one that it never saw."""
    user, other = "small", arena.side("packaged")
    if side.name == "ours":
        if other is None:
            return
        user = f"foreign{number}"
        side.copy_home("small", other, user)
    _fetch_all(side, "FETCH all that stock wrote, first time", user)
    _fetch_all(side, "FETCH all that stock wrote, a later session", user)


@workload("search", Row("SEARCH BODY over all", none(2.5)), prepare=Arena.fill_small)
def search(arena: Arena, side: Side, number: int) -> None:
    """For a word that is in none: every mail is read and decoded."""
    row = "SEARCH BODY over all"
    with side.imap("small") as session:
        with side.clock(row, side.process(session)):
            session.command("SELECT INBOX")
            answer = session.command("UID SEARCH BODY zebra-in-no-mail")
        side.got(row, answer)


@workload("copy", Row("COPY {mails} to another folder", packaged(0.4)), prepare=Arena.fill_small)
def copy(arena: Arena, side: Side, number: int) -> None:
    """To a folder of its own each round, whose keys are made with the first mail."""
    row = "COPY {mails} to another folder"
    with side.imap("small") as session:
        session.command(f"CREATE copy{number}")
        session.command("SELECT INBOX")
        with side.clock(row, side.process(session)):
            session.command(f"UID COPY 1:* copy{number}")
        session.command(f"SELECT copy{number}")
        side.got(row, session.command("UID FETCH 1:* (RFC822.SIZE)"))


def _fill_folders(arena: Arena) -> None:
    def fill(side: Side) -> None:
        with side.imap("folders") as session:
            for number in range(arena.sizes.folders):
                session.command(f"CREATE f{number}")
                session.append(f"f{number}", arena.mails[:2])

    arena.fill("folders", fill)


@workload("folders", Row("{folders} folders, 2 mails each", none(2.5)), prepare=_fill_folders)
def folders(arena: Arena, side: Side, number: int) -> None:
    """What a client does that synchronizes everything: every folder has a key."""
    row = "{folders} folders, 2 mails each"
    with side.imap("folders") as session:
        with side.clock(row, side.process(session)):
            for folder in range(arena.sizes.folders):
                session.command(f"SELECT f{folder}")
                answer = session.command(ALL)
        side.got(row, answer)


# A large mail


def _fill_large(arena: Arena) -> None:
    arena.fill_large("large", arena.sizes.large)


def _large(side: Side, row: str, *fetches: str) -> None:
    with side.imap("large") as session:
        with side.clock(row, side.process(session)):
            session.command("SELECT INBOX")
            for what in fetches:
                answer = session.command(f"FETCH 1 ({what})")
        side.got(row, answer)


@workload(
    "large",
    Row("FETCH {large} MB, first time"),
    Row("FETCH {large} MB", none(1.3)),
    prepare=_fill_large,
)
def large(arena: Arena, side: Side, number: int) -> None:
    """In one piece. The first time is slower only once: each round starts without the indexes."""
    side.drop_indexes("large")
    with side.imap("large") as session:
        session.command("SELECT INBOX")
    _large(side, "FETCH {large} MB, first time", "BODY.PEEK[]")
    _large(side, "FETCH {large} MB", "BODY.PEEK[]")


def _fill_parts(arena: Arena) -> None:
    arena.fill_parts("parts", arena.sizes.large)


@workload("part", Row("FETCH the last part of {large} MB"), prepare=_fill_parts)
def part(arena: Arena, side: Side, number: int) -> None:
    """As a webmail does: a session for each part."""
    row = "FETCH the last part of {large} MB"
    with side.imap("parts") as session:
        with side.clock(row, side.process(session)):
            session.command("SELECT INBOX")
            answer = session.command("FETCH 1 (BODY.PEEK[3])")
        side.got(row, answer)


@workload("end", Row("FETCH 4 KB near its end", none(1.3)), prepare=_fill_large)
def near_end(arena: Arena, side: Side, number: int) -> None:
    """As a client does that goes on after an interruption."""
    start = (arena.sizes.large << 20) - (64 << 10)
    _large(side, "FETCH 4 KB near its end", f"BODY.PEEK[]<{start}.4096>")


@workload("chunks", Row("{large} MB in 1 MB chunks", none(1.3)), prepare=_fill_large)
def chunks(arena: Arena, side: Side, number: int) -> None:
    """As most clients do."""
    fetches = (f"BODY.PEEK[]<{n << 20}.{1 << 20}>" for n in range(arena.sizes.large))
    _large(side, "{large} MB in 1 MB chunks", *fetches)


# What else there is


def _fill_separate(arena: Arena) -> None:
    def fill(side: Side) -> None:
        for mail in arena.mails[: _separate(arena)]:
            side.instance.lda("separate", mail)

    arena.fill("separate", fill)


def _separate(arena: Arena) -> int:
    return max(1, arena.sizes.mails // 5)


@workload(
    "separate",
    Row("FETCH {separate} mails, each delivered by a process of its own, first time"),
    Row("the same in a later session", none(3)),
    prepare=_fill_separate,
)
def separate(arena: Arena, side: Side, number: int) -> None:
    """The first time is cheap only once: each round starts without the indexes."""
    side.drop_indexes("separate")
    with side.imap("separate") as session:
        session.command("SELECT INBOX")
    _fetch_all(
        side, "FETCH {separate} mails, each delivered by a process of its own, first time", "separate"
    )
    _fetch_all(side, "the same in a later session", "separate")


@workload(
    "password",
    Row("FETCH all, new session, the user's key under a password"),
    Row("again, same session", none(1.5)),
    prepare=lambda arena: arena.fill_small("locked"),
)
def password(arena: Arena, side: Side, number: int) -> None:
    """Unlocking is slow on purpose, and happens once a session."""
    _fetch_all(
        side, "FETCH all, new session, the user's key under a password", "locked", "again, same session"
    )


@workload("mdbox", Row("FETCH all, mdbox", none(3)), prepare=lambda arena: arena.fill_small("mdbox"))
def mdbox(arena: Arena, side: Side, number: int) -> None:
    """Many mails in one file."""
    _fetch_all(side, "FETCH all, mdbox", "mdbox")


@workload("zlib", Row("FETCH all, compressed", none(3)), prepare=lambda arena: arena.fill_small("zlib"))
def zlib(arena: Arena, side: Side, number: int) -> None:
    """Compressed, and then encrypted."""
    _fetch_all(side, "FETCH all, compressed", "zlib")


@workload("pop3", Row("POP3: RETR all", none(3)), prepare=Arena.fill_small)
def pop3(arena: Arena, side: Side, number: int) -> None:
    """One after another, since many clients don't pipeline."""
    with side.pop3("small") as session:
        with side.clock("POP3: RETR all"):
            for mail in range(1, arena.sizes.mails + 1):
                answer = session.retrieve(mail)
        side.got("POP3: RETR all", answer)
        session.ask("QUIT")


def _fill_many(arena: Arena) -> None:
    times = -(-arena.sizes.many // len(arena.dotted))
    mails = (arena.dotted * times)[: arena.sizes.many]
    arena.fill("many", lambda side: side.deliver("many", mails))


@workload(
    "many",
    Row("FETCH all of {many}, new session", none(3)),
    Row("FETCH all of {many} again, same session", none(1.5)),
    prepare=_fill_many,
    at_most=3,
)
def many(arena: Arena, side: Side, number: int) -> None:
    """More than the session's memory of secrets has room for."""
    _fetch_all(
        side, "FETCH all of {many}, new session", "many", "FETCH all of {many} again, same session"
    )


@workload(
    "memory",
    Row("peak memory of imap, FETCH {larger} MB", Bound("none", 32, above=True), unit="MB"),
    prepare=lambda arena: arena.fill_large("larger", 4 * arena.sizes.large),
    at_most=1,
)
def memory(arena: Arena, side: Side, number: int) -> None:
    """One session that reads a mail, whole and then a part of it."""
    with side.imap("larger") as session:
        session.command("SELECT INBOX")
        session.command("FETCH 1 (BODY.PEEK[])")
        session.command(f"FETCH 1 (BODY.PEEK[]<{arena.sizes.large << 20}.4096>)")
        peak = peak_memory(side.process(session))
    side.keep("peak memory of imap, FETCH {larger} MB", Sample(0, None, peak))


def _fill_cold(arena: Arena) -> None:
    mail = [arena.megabyte()] * arena.sizes.cold
    arena.fill("cold", lambda side: side.deliver("cold", mail))


@workload(
    "cold",
    Row("ENVELOPE of {cold} mails of 1 MB, index deleted"),
    Row("ENVELOPE of the same, index kept"),
    prepare=_fill_cold,
    at_most=3,
)
def cold(arena: Arena, side: Side, number: int) -> None:
    """The price of checking a mail before its header is shown, where nothing is cached."""
    side.drop_indexes("cold")
    for row in ("ENVELOPE of {cold} mails of 1 MB, index deleted", "ENVELOPE of the same, index kept"):
        with side.imap("cold") as session:
            with side.clock(row, side.process(session)):
                session.command("SELECT INBOX")
                answer = session.command("UID FETCH 1:* (ENVELOPE)")
            side.got(row, answer)


def title(row: str, arena: Arena) -> str:
    """A row's name with its numbers."""
    sizes = arena.sizes
    numbers = vars(sizes) | {"separate": _separate(arena), "larger": 4 * sizes.large}
    return re.sub(r"\{(\w+)\}", lambda found: f"{numbers[found[1]]:,}", row)
