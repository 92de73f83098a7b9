"""Files that `doveadm fs` writes and reads through the drivers, with keys from files or from the settings."""

from __future__ import annotations

import secrets
from pathlib import Path

from . import fs24, words
from .keys import Key
from .users import UserConfig

KEYS = {"P-256": Key.ec("prime256v1"), "P-521": Key.ec("secp521r1"), "RSA": Key.rsa()}
KEY = KEYS["P-256"]

EX_TEMPFAIL = 75
DOVEADM_EX_NOTFOUND = 68


class Files:
    """A folder with keys and files, and the drivers of one Dovecot."""

    def __init__(self, server, folder: Path):
        self.server = server
        self.folder = folder

    def path(self, name: str) -> Path:
        return self.folder / name

    def write(self, name: str, data: bytes | str) -> Path:
        path = self.path(name)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def keys(self, key: Key, name: str = "key") -> str:
        """Parameters with both halves of a key in files."""
        return self.public(key, name) + self.private(key, name)

    def public(self, key: Key, name: str = "key") -> str:
        return f"public_key_path={self.write(name + '.public', key.public_pem())}:"

    def private(self, key: Key, name: str = "key", password: str | None = None) -> str:
        return f"private_key_path={self.write(name + '.private', key.pem(password))}:"

    def run(self, command: str, args: str, *paths: Path | str, driver: str = "crypt"):
        """`doveadm fs`; answers what it is answered."""
        return self.server.run_program(self.argv(command, args, *paths, driver=driver), check=False)

    def argv(self, command: str, args: str, *paths: Path | str, driver: str = "crypt") -> list[str]:
        """The command line of that."""
        more = [str(path) for path in paths]
        if not words.is_24():
            config = str(self.server.places.config)
            return ["doveadm", "-c", config, "fs", command, driver, args, *more]
        # A configuration of its own: that of the server, and the driver in it.
        config = self.server.run / f"fs-{secrets.token_hex(8)}.conf"
        settings = "" if fs24.has_keys(args) else _GLOBAL_24.format(folder=self.folder)
        text = self.server.places.config.read_text() + settings + fs24.blocks(driver, args)
        config.write_text(text)
        return ["doveadm", "-c", str(config), "fs", command, fs24.FILTER, *more]

    def put(self, args: str, data: bytes, name: str | Path | None = None, driver: str = "crypt") -> Path:
        """Write a file through the driver; it must work. Answers its path."""
        target = self.path(str(name or secrets.token_hex(8)))
        done = self.run("put", args, self.write("input", data), name or target, driver=driver)
        assert (done.returncode, done.stderr) == (0, b""), done
        return target

    def get(self, args: str, path: Path | str, driver: str = "crypt") -> bytes:
        """Read a file through the driver; it must work."""
        done = self.run("get", args, path, driver=driver)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
        return done.stdout

    def refuse(self, args: str, path: Path | str, *expected: str, driver: str = "crypt") -> None:
        """Read a file through the driver: not a byte of it, and the words in the error."""
        done = self.run("get", args, path, driver=driver)
        assert done.stdout == b"", done.stdout[:60]
        assert done.returncode == EX_TEMPFAIL
        said(done, *expected)


def said(done, *expected: str) -> None:
    """The error has these words; it isn't a crash."""
    text = done.stderr.decode()
    assert "Panic" not in text and "backtrace" not in text, text
    for word in expected:
        assert words.parameter(word).lower() in text.lower(), text


#: Keys for the drivers whose parameters name none, good and bad ones.
_SETTINGS = {
    "mail_crypt_global_public_key": KEY.public_setting(),
    "mail_crypt_global_private_key": KEYS["P-521"].setting().value,
    "mail_crypt_global_private_key2": KEY.setting("secret").value,
    "mail_crypt_global_private_key2_password": "secret",
    "other_public_key": KEYS["RSA"].public_setting(),
    "other_private_key": KEYS["RSA"].setting().value,
    "locked_public_key": KEY.public_setting(),
    "locked_private_key": KEY.setting("secret").value,
    "locked_private_key_password": "wrong",
    "broken_public_key": "hunter2",
    "broken_private_key": "hunter2",
}

#: What there is of them in Dovecot 2.4, whose keys are in files.
_GLOBAL_24 = """
crypt_global_public_key_file = {folder}/global.public
crypt_global_private_key one {{
crypt_private_key_file = {folder}/global-one.private
}}
crypt_global_private_key two {{
crypt_private_key_file = {folder}/global-two.private
crypt_private_key_password = secret
}}
"""


def server_options(folder: Path) -> dict:
    """What an instance is to be, so that the drivers find those settings."""
    if not words.is_24():
        return {"users": {"alice": UserConfig()}, "extra": _plugin_block(_SETTINGS)}
    (folder / "global.public").write_text(KEY.public_pem())
    (folder / "global-one.private").write_text(KEYS["P-521"].pem())
    (folder / "global-two.private").write_text(KEY.pem("secret"))
    return {"users": {"alice": UserConfig()}}


def _plugin_block(settings: dict[str, str]) -> str:
    return "plugin {\n" + "".join(f"{k} = {v}\n" for k, v in settings.items()) + "}\n"
