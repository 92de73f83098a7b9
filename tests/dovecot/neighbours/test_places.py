"""Folders and files in unusual places: separate CONTROL, INDEX and VOLATILEDIR, escaped names, a public namespace."""

from __future__ import annotations

import os

import pytest
from conf import plugins
from harness import CryptConfig, Key, Mail, UserConfig, forge, words
from harness.spoil import spoil

KEY = CryptConfig(password="of-the-key")
GLOBAL, FOREIGN = Key.ec(), Key.ec()


@pytest.mark.packaged_defect("hands out the damaged mail")
@pytest.mark.parametrize("storage", ("maildir", "sdbox", "mdbox"))
def test_control_index_and_volatile_files_elsewhere(dovecot, storage, open_folder):
    root = open_folder / storage
    place = {"CONTROL": root / "control", "INDEX": root / "index", "VOLATILEDIR": root / "volatile"}
    if words.is_24():
        names = {"CONTROL": "mail_control_path", "INDEX": "mail_index_path", "VOLATILEDIR": "mail_volatile_path"}
        extra = tuple((names[kind], str(path)) for kind, path in place.items())
    else:
        options = "".join(f":{kind}={path}" for kind, path in place.items())
        extra = (("mail", f"{storage}:~/{storage}{options}"),)
    alice = UserConfig(KEY, storage=storage if words.is_24() else None, extra=extra)
    server = dovecot(users={"alice": alice}, fetch_failure="no-after")
    spoilt = spoil(server, "alice", "Work")
    spoilt.check()
    # Without its indexes, which nobody backs up, the mail is still there, and so are the keys of a Maildir.
    if storage == "maildir":
        server.stop()
        for path in (root / "index").rglob("dovecot.*index*"):
            path.unlink()
        server.start()
        spoilt.check()
    assert spoilt.in_files(root) == []


def escaping() -> str:
    """Names may have the characters that Maildir++ has no place for."""
    return 'mailbox_list_storage_escape_char = "\\\\"\n' if words.is_24() else plugins("listescape")


@pytest.mark.packaged_defect("hands out the damaged mail")
def test_folders_with_escaped_names(dovecot):
    server = dovecot(users={"alice": UserConfig(KEY)}, fetch_failure="no-after", extra=escaping())
    spoilt = spoil(server, "alice", "v1.2~x")
    spoilt.check()
    with server.imap("alice") as session:
        assert session.rename('"v1.2~x"', '"new.name/v2.0"')[0] == "OK"
        session.folder("new.name/v2.0")
        assert session.fetch_uids().items == spoilt.readable
    assert spoilt.in_files() == []


@pytest.mark.packaged_defect("hands out the damaged mail")
@pytest.mark.parametrize("storage", ("maildir", "sdbox"))
def test_a_public_namespace_under_a_global_key(dovecot, storage, open_folder):
    root = open_folder / f"public-{storage}"
    crypt = CryptConfig(global_public=GLOBAL.public_setting(), global_private=(GLOBAL.setting(),))
    place = words.location(storage, str(root))
    extra = f"namespace public {{\ntype = public\nprefix = Public/\nseparator = /\nsubscriptions = no\n{place}}}\n"
    users = {name: UserConfig(storage=storage) for name in ("alice", "bob")}
    server = dovecot(users=users, crypt=crypt, fetch_failure="no-after", extra=extra)
    mails = [Mail.make(size) for size in (900, 1000, 1100, 1200)]
    with server.imap("alice") as session:
        session.create("Public/Board")
        for mail in mails:
            assert session.put(mail.data, "Public/Board")[0] == "OK"
    stored = sorted((p for p in root.rglob("*") if p.parent.name in ("new", "cur") or p.name.startswith("u.")), key=lambda p: p.stat().st_size)
    spoil_file(stored[0], lambda data: forge.Stream(mails[0].lines, FOREIGN).data(), storage)
    spoil_file(stored[2], lambda data: data[:-200] + bytes([data[-200] ^ 1]) + data[-199:], storage)
    server.log.expect("Error: .*mail_crypt: ")
    for user in users:
        mark = server.log.mark()
        with server.imap(user) as session:
            session.folder("Public/Board")
            answer = session.fetch_uids()
            assert answer.items == {2: mails[1].data, 4: mails[3].data}
            assert answer.status == "NO" and session.noop()[0] == "OK"
        for uid in (1, 3):
            assert server.log.wait_for(rf"\({user}\).*Public/Board.*UID[= ]{uid}: mail_crypt: ", mark)
    assert server.store.find_words(root, tuple(word for mail in mails for word in mail.words)) == []


def spoil_file(path, change, storage: str) -> None:
    """Change the stream in a file of one mail, and leave the rest as it is."""
    data = path.read_bytes()
    start = data.index(forge.MAGIC)
    if storage == "maildir":
        new = change(data)
    else:
        size = int(data[start - 17 : start - 1], 16)
        stream = change(data[start : start + size])
        new = data[: start - 17] + b"%016X\n" % len(stream) + stream + data[start + size :]
    stat = path.stat()
    path.write_bytes(new)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
