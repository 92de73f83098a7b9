"""Mail that is there before it is converted, and what must be the same afterwards."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from .instance import Instance
from .mail import Mail, multipart
from .store import MAGIC, StoredMail
from .users import CryptConfig, UserConfig

#: What doveadm says of each mail, in columns that its bytes on disk have no part in.
FIELDS = (
    "mailbox", "uid", "guid", "flags", "modseq", "date.received", "size.physical", "size.virtual",
    "pop3.uidl", "pop3.order", "hdr.message-id",
)  # fmt: skip


def pair(name: str, crypt: CryptConfig | None = None, **more) -> dict[str, UserConfig]:
    """A user, and NAME-before: the same home, in which mail is stored in the clear."""
    crypt = crypt or CryptConfig()
    user = UserConfig(crypt, home=name, **more)
    return {name: user, f"{name}-before": replace(user, crypt=replace(crypt, save_version=0))}


def fill(server: Instance, user: str) -> list[Mail]:
    """Puts mails of all kinds into INBOX and Work; those of INBOX."""
    mails = [Mail.make(900), Mail.make(300_000), Mail.make(2000), Mail.make(70_000), Mail.make(1500)]
    with server.imap(user) as session:
        session.create("Work")
        for mail, flags in zip(mails, (r"\Seen", r"\Flagged $Label1", None, r"\Answered Important", None)):
            assert session.put(mail.data, flags=flags)[0] == "OK"
        session.folder()
        assert session.uid("COPY", "2,4", "Work")[0] == "OK"
        assert session.uid("STORE", "1", "+FLAGS", r"\Deleted")[0] == "OK"
        assert session.expunge()[0] == "OK"
        parts = multipart(b"one\r\n" * 30, b"two\r\n" * 30)
        assert session.append("Work", None, '"03-May-2020 10:00:00 +0200"', parts)[0] == "OK"
    server.deliver(user, Mail.make(1200))
    # What was deleted is still in files of mdbox.
    server.doveadm("purge", "-u", user)
    return mails[1:]


def new_keys(server: Instance, user: str) -> None:
    """Gives both folders new keys. Dovecot counts them as changes of the folders: nothing else does."""
    server.doveadm("mailbox", "cryptokey", "generate", "-u", user, "-f", "INBOX", "Work")


def convert(server: Instance, user: str, *args: str, check: bool = True, **more) -> subprocess.CompletedProcess:
    """Runs it with the output in JSON."""
    return server.doveadm("-f", "json", "mailbox", "crypt", "convert", "-u", user, *args, check=check, **more)


def rows(done: subprocess.CompletedProcess) -> dict[str, dict[str, int]]:
    """The counts by folder."""
    out = json.loads(done.stdout or "[]")
    return {row.pop("mailbox"): {name: int(number) for name, number in row.items()} for row in out}


def total(done: subprocess.CompletedProcess, column: str) -> int:
    """The sum of a column."""
    return sum(row[column] for row in rows(done).values())


def said_of(server: Instance, user: str) -> list[dict[str, str]]:
    """What doveadm says of each mail."""
    out = server.doveadm("-f", "json", "fetch", "-u", user, " ".join(FIELDS), "all").stdout
    return sorted(json.loads(out), key=lambda row: (row["mailbox"], int(row["uid"])))


def bodies(server: Instance, user: str) -> dict[str, list[bytes]]:
    """The mails, whole."""
    with server.imap(user) as session:
        return {name: session.bodies(name) for name in ("INBOX", "Work")}


def folders(server: Instance, user: str) -> dict[str, str]:
    """What identifies each folder, and its state."""
    with server.imap(user) as session:
        session.enable("QRESYNC")
        return {
            name: session.status(name, "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ UNSEEN)")[1][0].decode()
            for name in ("INBOX", "Work")
        }


def on_disk(server: Instance, user: str) -> dict[str, tuple]:
    """Name, owner, mode and time of each file that is a mail."""
    home = server.store.home(user)
    stats = {path: path.stat() for path in server.store.mail_files(user) if path.name[:2] != "m."}
    return {str(p.relative_to(home)): (s.st_uid, s.st_gid, s.st_mode, s.st_mtime_ns) for p, s in stats.items()}


def everything(server: Instance, user: str) -> tuple:
    """All that must survive."""
    return (said_of(server, user), folders(server, user), bodies(server, user), on_disk(server, user))


def saved_dates(server: Instance, user: str) -> list[tuple[str, str, str]]:
    """When each mail was saved, as clients are told."""
    out = server.doveadm("-f", "json", "fetch", "-u", user, "mailbox uid date.saved.unixtime", "all").stdout
    return sorted((row["mailbox"], row["uid"], row["date.saved.unixtime"]) for row in json.loads(out))


def encrypted(server: Instance, user: str) -> list[bool]:
    """For each mail on disk, whether it is encrypted."""
    return [mail.data.startswith(MAGIC) for mail in server.store.stored(user)]


def inbox(server: Instance, user: str) -> list[StoredMail]:
    """The mails of INBOX on disk, in the order of their UIDs, and each in a file of its own: a copy may be a link.

    Not for mdbox, whose files belong to no folder.
    """
    found = [mail for mail in server.store.stored(user) if "Work" not in str(mail.path)]
    for path in {mail.path for mail in found}:
        own = path.with_name("own")
        shutil.copy2(path, own)
        os.chown(own, path.stat().st_uid, path.stat().st_gid)
        own.rename(path)
    return found


def leftovers(server: Instance, user: str) -> list[Path]:
    """What a conversion has left beside the mails."""
    return [path for path in server.store.files(user) if re.search(r"mail-crypt-convert\.(?!lock)", path.name)]


def next_second() -> None:
    """So that what is noted now differs from what was noted before."""
    now = int(time.time())
    while int(time.time()) == now:
        time.sleep(0.05)
