#!/usr/bin/python3
"""Has the real TREES plugin write the files in this folder: see README.md.

    make.py LIB18_TREES_PLUGIN_SO
"""

import ctypes
import hashlib
import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "dovecot"))

from harness import Instance, UserConfig, modules  # noqa: E402

SODIUM = ctypes.CDLL("libsodium.so.23")
PASSWORD = "c0rrect-h0rse"
#: user -> algorithm, opslimit, memlimit
USERS = {"argon2i": (0, 3, 8 << 20), "argon2id": (1, 2, 8 << 20)}
CHUNK = 8192
#: name -> size of what is stored
MAILS = {"short": 300, "chunk-less-1": CHUNK - 1, "chunk": CHUNK, "chunk-and-1": CHUNK + 1, "chunks": 3 * CHUNK + 100}


def key(algorithm, opslimit, memlimit):
    """A user's fields, as trees-create makes them, with libsodium itself."""
    public, private = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
    SODIUM.crypto_box_keypair(public, private)
    salt, nonce, unlock = os.urandom(16), os.urandom(24), ctypes.create_string_buffer(32)
    size, box = ctypes.c_ulonglong, ctypes.create_string_buffer(48)
    # libsodium's numbers: crypto_pwhash_ALG_ARGON2I13 and crypto_pwhash_ALG_ARGON2ID13
    how = (size(opslimit), ctypes.c_size_t(memlimit), (1, 2)[algorithm])
    done = SODIUM.crypto_pwhash(unlock, size(32), PASSWORD.encode(), size(len(PASSWORD)), salt, *how)
    assert done == 0
    SODIUM.crypto_secretbox_easy(box, private, size(32), nonce, unlock)
    fields = {
        "trees_enabled": "1",
        "trees_version": "1",
        "trees_public_key": public.raw.hex(),
        "trees_locked_secretbox": box.raw.hex(),
        "trees_sk_nonce": nonce.hex(),
        "trees_pwhash_algo": str(algorithm),
        "trees_pwhash_opslimit": str(opslimit),
        "trees_pwhash_memlimit": str(memlimit),
        "trees_pwhash_salt": salt.hex(),
    }
    return fields, unlock.raw.hex()


def mail(name, size):
    """A mail of so many bytes once its lines end in LF."""
    text = f"From: a@example.org\nTo: b@example.org\nSubject: {name}\n\n"
    number = 0
    while len(text) < size:
        text += f"line {number} of {name}, so that no chunk is like another\n"
        number += 1
    return (text[: size - 1] + "\n").encode()


def stored(server, user):
    """The file of the user's last mail."""
    return max(server.store.mail_files(user), key=lambda f: f.stat().st_mtime_ns)


def main():
    staged = modules.stage("none", modules.copies_folder())
    shutil.copy(sys.argv[1], staged / "lib18_trees_plugin.so")
    keys = {name: key(*how) for name, how in USERS.items()}
    users = {}
    for name, (fields, _) in keys.items():
        given = {**fields, "trees_password": PASSWORD}
        for storage in ("maildir", "sdbox"):
            users[f"{name}-{storage}"] = UserConfig(extra=tuple(given.items()), storage=storage)
    extra = "mail_plugins = trees\n"
    sums = []
    with Instance(plugin="none", users=users, extra=extra) as server:
        for name, (fields, unlock) in keys.items():
            text = "".join(f"{field}={value}\n" for field, value in fields.items())
            (HERE / f"{name}.fields").write_text(text)
            (HERE / f"{name}.secretbox-key").write_text(unlock + "\n")
        for name, size in MAILS.items():
            user = "argon2i-maildir" if name == "short" else "argon2id-maildir"
            keep(server, user, name, mail(name, size), sums)
        keep(server, "argon2id-sdbox", "sdbox", mail("sdbox", 700), sums)
        with server.imap("argon2id-maildir") as session:
            session.folder()
            expected = [mail(n, s).replace(b"\n", b"\r\n") for n, s in MAILS.items() if n != "short"]
            assert session.bodies() == expected
    (HERE / "SHA256SUMS").write_text("".join(sums))


def keep(server, user, name, data, sums):
    """Have a mail stored, and take its file."""
    with server.imap(user) as session:
        session.put(data.replace(b"\n", b"\r\n"))
    file = stored(server, user)
    print(name, file.name, file.stat().st_size)
    (HERE / f"{name}.trees").write_bytes(file.read_bytes())
    sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")


main()
