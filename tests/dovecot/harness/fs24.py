"""A lib-fs driver's parameters, as 2.3 writes them -> blocks of Dovecot 2.4's configuration."""

from __future__ import annotations

from .version import NotHere

#: the filter that the blocks are put into, by which `doveadm fs` names them
FILTER = "mail_ext_attachment"

_CRYPT = {
    "algo": "crypt_write_algorithm",
    "public_key_path": "crypt_global_public_key_file",
}
_PRIVATE_KEY = {
    "private_key_path": "crypt_private_key_file",
    "password": "crypt_private_key_password",
}


def has_keys(args: str) -> bool:
    """Do the parameters name keys? Else those of the settings are meant."""
    return "_key_path=" in args


def blocks(driver: str, args: str) -> str:
    """`crypt`, `algo=..:posix:prefix=..` -> the filter with a block for each driver."""
    words = [driver, *args.split(":")]
    found = []
    while words and words[0]:
        name = words.pop(0)
        given = []
        while words and ("=" in words[0] or name == "compress" and len(given) < 2):
            given.append(words.pop(0))
        found.append((name, given))
    if found[-1][0] == "crypt":
        raise NotHere("Dovecot 2.4 has parents in blocks of their own")
    body = "".join(_block(n, name, given) for n, (name, given) in enumerate(found))
    key = next((_private_key(given) for name, given in found if name == "crypt"), "")
    return f"{key}{FILTER} {{\n{body}}}\n"


def _block(number: int, name: str, given: list[str]) -> str:
    if name == "mail-crypt":
        raise NotHere("Dovecot 2.4 has one driver for both")
    if name == "compress":
        lines = f"fs_compress_write_method = {given[0]}\n"
    elif name == "crypt":
        lines = _crypt(dict(word.split("=", 1) for word in given))
    else:
        lines = "".join(f"fs_{name}_{word.replace('=', ' = ', 1)}\n" for word in given)
    return f"fs f{number} {{\nfs_driver = {name}\n{lines}}}\n"


def _crypt(given: dict[str, str]) -> str:
    for name in given:
        if name not in _CRYPT and name not in _PRIVATE_KEY:
            raise NotHere(f"Dovecot 2.4 has nothing like {name}=")
    return "".join(f"{_CRYPT[k]} = {v}\n" for k, v in given.items() if k in _CRYPT)


def _private_key(given: list[str]) -> str:
    """Outside of the driver's own block, where the packaged driver doesn't find it."""
    named = [word.split("=", 1) for word in given]
    body = "".join(f"{_PRIVATE_KEY[k]} = {v}\n" for k, v in named if k in _PRIVATE_KEY)
    return f"crypt_global_private_key main {{\n{body}}}\n" if body else ""
