"""Attachments outside of their mails: mail_attachment_dir, through the fs drivers."""

from __future__ import annotations

import base64
import imaplib
import os
import secrets
from dataclasses import dataclass, replace

import pytest
from harness import CryptConfig, DovecotVersion, Key, Store, UserConfig, forge, words

KEY = Key.ec("prime256v1")
SETTINGS = {
    "attached_public_key": KEY.public_setting(),
    "attached_private_key": KEY.setting().value,
}
#: The driver, and whether its keys are the user's own, from userdb.
DRIVERS = {
    "files": ("crypt:{files}posix:", False),
    "files-sis": ("crypt:{files}sis:posix:", False),
    "sis-files": ("sis:crypt:{files}posix:", False),
    "mail-crypt": ("mail-crypt:set_prefix=attached:sis:posix:", True),
    "settings": ("crypt:set_prefix=attached:posix:", False),
    "user-settings": ("sis:crypt:set_prefix=attached:posix:", True),
}
#: The packaged driver breaks every process that has no right to ask for the configuration any more.
PACKAGED_BREAKS = ("settings", "user-settings")
STORAGES = ("sdbox", "mdbox")
FIRST = ("packaged-first", "ours-first")


@dataclass(frozen=True)
class Letter:
    """A mail with an attachment, large enough to be taken out of it."""

    data: bytes
    attachment: bytes
    word: str

    @classmethod
    def make(cls, size: int = 200_000) -> "Letter":
        word = "w" + secrets.token_hex(12)
        filler = secrets.token_hex(500).encode() * (size // 1000 + 1)
        attachment = word.encode() + filler[: size - 50] + word.encode()
        data = (
            b"From: <a@example.org>\r\nTo: <b@example.org>\r\nSubject: one\r\nMIME-Version: 1.0\r\n"
            b'Content-Type: multipart/mixed; boundary="part"\r\n\r\n'
            b"--part\r\nContent-Type: text/plain\r\n\r\n" + word.encode() + b"\r\n"
            b"--part\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Disposition: attachment; filename=a.bin\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n"
            + base64.encodebytes(attachment).replace(b"\n", b"\r\n")
            + b"--part--\r\n"
        )
        return cls(data, attachment, word)


def options(driver: str, store: Store, **more) -> dict:
    args, own = DRIVERS[driver]
    files = ""
    for half, text in (("public", KEY.public_pem()), ("private", KEY.pem())):
        path = store.path / f"attached-{half}.pem"
        path.write_text(text)
        path.chmod(0o644)
        files += f"{half}_key_path={path}:"
    if words.is_24():
        extra = words.attachments("%{home}/attachments", args.format(files=files))
        user = UserConfig(CryptConfig(password="c0rrect-h0rse"))
        return {"users": {"alice": user}, "store": store, "extra": extra} | more
    plugin = "" if own else "".join(f"{k} = {v}\n" for k, v in SETTINGS.items())
    extra = tuple(SETTINGS.items()) if own else ()
    user = UserConfig(CryptConfig(password="c0rrect-h0rse"), extra=extra)
    return {
        "users": {"alice": user},
        "store": store,
        "extra": f"mail_attachment_dir = ~/attachments\n"
        f"mail_attachment_fs = {args.format(files=files)}\nplugin {{\n{plugin}}}\n",
    } | more


def attachments(store: Store) -> list:
    """The attachment files of alice; hard links for the next ones to come are no files of their own."""
    folder = store.home("alice") / "attachments"
    found = [p for p in folder.rglob("*") if p.is_file() and "hashes" not in p.parts]
    return sorted(found)


def served(server) -> list[bytes]:
    with server.imap("alice") as session:
        return session.bodies()


def trade(store: Store, writer, reader) -> None:
    """Each writes one, and both read both."""
    letters = [Letter.make(), Letter.make(1_000_000)]
    writer.deliver("alice", letters[0].data)
    reader.deliver("alice", letters[1].data)
    for server in (reader, writer):
        bodies = served(server)
        assert [b.endswith(letter.data) for b, letter in zip(bodies, letters)] == [True, True]
    files = attachments(store)
    assert len(files) == 2
    for path in files:
        data = path.read_bytes()
        assert data.startswith(forge.MAGIC + b"\x02")
        assert forge.header(data).key_ids == (KEY.id,)
    assert not store.find_words(store.home("alice"), tuple(letter.word for letter in letters))


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("driver", [d for d in DRIVERS if d not in PACKAGED_BREAKS])
def test_attachments_go_both_ways(dovecot, store, plugin, driver, storage, first):
    order = ("packaged", plugin) if first == "packaged-first" else (plugin, "packaged")
    trade(store, *(dovecot(**options(driver, store, storage=storage, plugin=p)) for p in order))


@pytest.mark.packaged_defect("a process dies after its first user, or at once")
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("driver", PACKAGED_BREAKS)
def test_keys_come_from_the_settings_in_every_process(dovecot, store, driver, storage):
    server = dovecot(**options(driver, store, storage=storage))
    trade(store, server, server)


#: The driver is loaded as a mail plugin, before its process goes into a chroot.
IN_MAIL_PLUGINS = "mail_plugins {\nfs_crypt = yes\n}\n"
takes_drivers_there = pytest.mark.skipif(
    DovecotVersion.installed() < DovecotVersion.parse("2.4.2"),
    reason="Dovecot takes no fs drivers in mail_plugins before 2.4.2",
)


@takes_drivers_there
@pytest.mark.parametrize("storage", STORAGES)
def test_the_driver_can_be_a_mail_plugin_as_well(dovecot, store, storage):
    config = options("files-sis", store, storage=storage)
    server = dovecot(**config | {"extra": config["extra"] + IN_MAIL_PLUGINS})
    trade(store, server, server)
    server.doveadm("fetch", "-u", "alice", "text", "all")


@takes_drivers_there
def test_attachments_work_in_a_chroot(dovecot, store):
    config = options("files", store, storage="sdbox")
    home = store.home("alice")
    caged = replace(config["users"]["alice"], extra=(("chroot", str(home)), ("home", "/")))
    config["users"] = {"alice": caged}
    config["extra"] += f"{IN_MAIL_PLUGINS}valid_chroot_dirs = {store.path}\nmail_temp_dir = /\n"
    server = dovecot(**config)
    letter = Letter.make()
    with server.imap("alice") as session:
        assert os.readlink(f"/proc/{server.process_of(session)}/root") == str(home)
        assert session.put(letter.data)[0] == "OK"
        assert session.bodies() == [letter.data]
    (path,) = attachments(store)
    assert path.read_bytes().startswith(forge.MAGIC)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_copy_keeps_its_attachment_when_the_first_mail_goes(dovecot, store, storage):
    server = dovecot(**options("files-sis", store, storage=storage))
    letter = Letter.make()
    server.deliver("alice", letter.data)
    with server.imap("alice") as session:
        session.create("Archive")
        session.folder()
        assert session.copy("1", "Archive")[0] == "OK"
        session.store("1", "+FLAGS", "\\Deleted")
        session.expunge()
    if storage == "mdbox":
        server.doveadm("purge", "-u", "alice")
    with server.imap("alice") as session:
        (body,) = session.bodies("Archive")
    assert body.endswith(letter.data)
    assert all(path.read_bytes().startswith(forge.MAGIC) for path in attachments(store))


@pytest.mark.packaged_defect("serves what comes before the damage", on="2.4")
def test_a_tampered_attachment_is_never_served(dovecot, store):
    server = dovecot(**options("files", store, storage="sdbox"))
    server.log.expect("tampered", "Stream is smaller")
    letter = Letter.make()
    server.deliver("alice", letter.data)
    (path,) = attachments(store)
    data = bytearray(path.read_bytes())
    data[-30_000] ^= 1
    path.write_bytes(data)
    answer = b""
    with pytest.raises((OSError, imaplib.IMAP4.error)), server.imap("alice") as session:
        session.folder()
        # Dovecot has announced the size by then: it ends the session where we refuse.
        for chunk in session.stream("FETCH 1 BODY.PEEK[2]"):
            answer += chunk
    for line in base64.encodebytes(letter.attachment).splitlines():
        assert line not in answer


@pytest.mark.packaged_defect("stores the attachment in the clear")
def test_without_a_public_key_the_mail_is_not_taken(dovecot, store):
    """Never an attachment in the clear instead."""
    config = options("settings", store, storage="sdbox")
    config["extra"] = config["extra"].replace("attached_public_key", "forgotten_public_key")
    server = dovecot(**config)
    server.log.expect("no public key")
    letter = Letter.make()
    assert server.try_deliver("alice", mail=letter.data)
    assert not served(server)
    assert not store.find_words(store.home("alice"), (letter.word,))
    server.log.wait_for("set attached_public_key")
