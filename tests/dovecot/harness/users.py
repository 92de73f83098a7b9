"""What a test says about users and keys, in no Dovecot version's own words."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from .keys import KeySetting


@dataclass(frozen=True)
class CryptConfig:
    """The settings of the plugin. None means: not set.

    In an `Instance` they hold for every user, in a `UserConfig` for that user,
    from userdb.
    """

    #: 0 read only, 1 legacy streams, 2 current streams
    save_version: int | None = 2
    #: curve of generated keys, by OpenSSL's name
    curve: str | None = "prime256v1"
    #: password of the user's key
    password: str | None = None
    #: keys under which the user's key is stored; the first one is written with
    user_key_keys: tuple[KeySetting, ...] = ()
    #: refuse to make an unprotected user key; text is passed on as it stands
    require_encrypted: bool | str | None = None
    #: never store a shared key unencrypted; text is passed on as it stands
    require_secure_sharing: bool | str | None = None
    #: global mode: the public key that everything is encrypted to
    global_public: str | None = None
    #: global mode: the private keys that are tried
    global_private: tuple[KeySetting, ...] = ()


@dataclass(frozen=True)
class UserConfig:
    """One user. None means: as the instance says."""

    crypt: CryptConfig | None = None
    #: "maildir", "sdbox", "mdbox"
    storage: str | None = None
    #: "gz", "bz2", "lz4", "zstd"
    compress: str | None = None
    #: "memory" keeps this user's indexes off the disk
    index: str | None = None
    #: False: the plugin is not loaded for this user
    plugin: bool = True
    #: the folder of the home; without it the user's name. Two users may share a
    #: home: one whose settings made the keys, one whose settings are tested.
    home: str | None = None
    #: the login password
    password: str = field(default_factory=lambda: secrets.token_hex(8), repr=False)
    #: further userdb fields, in the words of the Dovecot at hand
    extra: tuple[tuple[str, str], ...] = ()
