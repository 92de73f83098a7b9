"""What lies on disk: homes, mail files, the attribute dict."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"CRYPTED\x03\x07"

#: What keys are filed under besides their folder's GUID.
BY_ID = b"mail_crypt-by-id".hex()

#: What stands before each mail in an sdbox or mdbox file.
_DBOX_MAIL = re.compile(rb"\x01\x02N {10}([0-9A-F]{16})\n")


@dataclass(frozen=True)
class StoredMail:
    """One mail as it lies on disk: a file, or a part of one."""

    path: Path
    start: int
    size: int

    @property
    def data(self) -> bytes:
        """Its bytes: for an encrypted mail, the stream."""
        return self.path.read_bytes()[self.start : self.start + self.size]

    def replace(self, data: bytes) -> None:
        """Put other bytes in its place.

        Owner and times stay. In an mdbox, whose index knows where each mail
        begins, only the last mail of a file may change its size.
        """
        whole = self.path.read_bytes()
        head, tail = whole[: self.start], whole[self.start + self.size :]
        if len(data) != self.size:
            if self.path.name.startswith("m.") and _DBOX_MAIL.search(tail):
                raise ValueError("another mail follows in this file")
            if head:
                head = head[:-17] + b"%016X\n" % len(data)
        _write_in_place(self.path, head + data + tail)

    def flip(self, offset: int, bits: int = 1) -> None:
        """Change one byte; a negative offset counts from the end."""
        data = bytearray(self.data)
        data[offset] ^= bits
        self.replace(bytes(data))

    def cut(self, by: int) -> None:
        """Take `by` bytes from its end."""
        self.replace(self.data[:-by])


class Store:
    """The homes of all users. It outlives the instances that work on it.

    Two instances may be given one store: "packaged writes, ours reads".
    """

    def __init__(self, path: Path | None = None):
        self._own = path is None
        self.path = path or Path(tempfile.mkdtemp(prefix="mcs-", dir="/tmp"))
        self.path.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Delete it, unless the path was given from outside."""
        if self._own:
            shutil.rmtree(self.path, ignore_errors=True)

    def home(self, user: str) -> Path:
        """A user's home."""
        return self.path / user

    def files(self, user: str) -> list[Path]:
        """Every regular file under a user's home."""
        return sorted(p for p in self.home(user).rglob("*") if p.is_file() and not p.is_symlink())

    def mail_files(self, user: str) -> list[Path]:
        """The files in which mails are: one a mail, for mdbox many a file.

        In the order of arrival.
        """

        def is_mail(path: Path) -> bool:
            if path.parent.name in ("cur", "new"):
                return True
            return path.name.startswith(("u.", "m.")) and path.suffix[1:].isdigit()

        def order(path: Path) -> tuple:
            dbox = re.fullmatch(r"[um]\.(\d+)", path.name)
            if dbox:
                return (int(dbox.group(1)), 0)
            maildir = re.match(r"(\d+)\.M(\d+)P", path.name)
            return (int(maildir.group(1)), int(maildir.group(2)))

        return sorted((p for p in self.files(user) if is_mail(p)), key=order)

    def stored(self, user: str) -> list[StoredMail]:
        """Every mail on disk, ordered as `mail_files` and by place."""
        found = []
        for path in self.mail_files(user):
            if path.parent.name in ("cur", "new"):
                found.append(StoredMail(path, 0, path.stat().st_size))
                continue
            data, at = path.read_bytes(), 0
            while mail := _DBOX_MAIL.search(data, at):
                size = int(mail.group(1), 16)
                found.append(StoredMail(path, mail.end(), size))
                at = mail.end() + size
        return found

    def attributes(self, user: str) -> dict[str, str]:
        """The user's attribute dict, if it is a file dict."""
        path = self.home(user) / "dovecot-attributes"
        if not path.exists():
            return {}
        lines = path.read_text().split("\n")
        return dict(zip(lines[0::2], map(_unescape, lines[1::2])))

    def put_attributes(self, user: str, values: dict[str, str]) -> None:
        """Set attributes behind Dovecot's back."""
        home = self.home(user)
        path = home / "dovecot-attributes"
        everything = self.attributes(user) | values
        new = path.with_name(".new-attributes")
        new.write_text("".join(f"{k}\n{_escape(v)}\n" for k, v in everything.items()))
        new.chmod(0o600)
        if os.getuid() == 0:
            os.chown(new, home.stat().st_uid, home.stat().st_gid)
        new.rename(path)

    def drop_attributes(self, user: str, pattern: str) -> None:
        """Delete the attributes whose names match."""
        keep = {k: v for k, v in self.attributes(user).items() if not re.search(pattern, k)}
        (self.home(user) / "dovecot-attributes").unlink()
        self.put_attributes(user, keep)

    def user_keys(self, user: str) -> set[str]:
        """The ids of the user's own public keys."""
        return {
            key.rsplit("/", 1)[1]
            for key in self.attributes(user)
            if "/pvt/server/" in key and "/crypt/pubkeys/" in key
        }

    def folder_keys(self, user: str) -> dict[str, set[str]]:
        """The ids of the folders' public keys, by mailbox GUID."""
        found: dict[str, set[str]] = {}
        for key in self.attributes(user):
            if BY_ID not in key and "/pvt/server/" not in key and "/crypt/pubkeys/" in key:
                found.setdefault(key.split("/")[1], set()).add(key.rsplit("/", 1)[1])
        return found

    def private_keys(self, user: str) -> dict[str, str]:
        """Every private key that is stored under a GUID, by its attribute."""
        found = self.attributes(user).items()
        return {k: v for k, v in found if BY_ID not in k and "/crypt/privkeys/" in k}

    def keys_by_id(self, user: str) -> dict[str, str]:
        """What is filed by ids, by its attribute."""
        return {k: v for k, v in self.attributes(user).items() if BY_ID in k}

    def drop_keys_by_id(self, user: str) -> None:
        """Leave only what the packaged plugin stores, too."""
        self.drop_attributes(user, BY_ID)

    # Looking for words

    @staticmethod
    def find_words(folder: Path, words: tuple[str, ...]) -> list[str]:
        """`file: word` for every word that stands in a file under `folder`."""
        found = []
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                found += [f"{path}: {w}" for w in words if w.encode() in data]
        return found


def key_attributes(
    guid: str, key_id: str, public: str, private: str, of_user: bool = False
) -> dict[str, str]:
    """The three attributes of an active key of a folder, or (on INBOX's GUID) of a user."""
    root = "vendor/vendor.dovecot/pvt/"
    if of_user:
        root += "server/vendor/vendor.dovecot/pvt/"
    return {
        f"shared/{guid}/{root}crypt/active": key_id,
        f"shared/{guid}/{root}crypt/pubkeys/{key_id}": public,
        f"priv/{guid}/{root}crypt/privkeys/{key_id}": private,
    }


def _write_in_place(path: Path, data: bytes) -> None:
    stat = path.stat()
    with open(path, "r+b") as file:
        file.truncate(0)
        file.write(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _escape(value: str) -> str:
    for plain, escaped in (("\001", "1"), ("\0", "0"), ("\t", "t"), ("\r", "r"), ("\n", "n")):
        value = value.replace(plain, "\001" + escaped)
    return value


def _unescape(value: str) -> str:
    out, it = [], iter(value)
    for char in it:
        if char == "\001":
            out.append({"0": "\0", "1": "\001", "t": "\t", "r": "\r", "n": "\n"}.get(next(it, ""), "?"))
        else:
            out.append(char)
    return "".join(out)
