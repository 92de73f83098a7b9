"""Our words -> Dovecot's configuration. With `config24` the only place that knows its settings.

One class per release line. A test never names a setting (but for `extra`,
which is for what no class here covers).
"""

from __future__ import annotations

import itertools
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from .modules import Account
from .users import CryptConfig, UserConfig
from .version import DovecotVersion

#: Every private Dovecot listens on an address of its own in 127/8, so fixed
#: ports never meet.
IMAP_PORT = 20143
POP3_PORT = 20110

#: A userdb field without a meaning; tells that Dovecot has seen a change.
REVISION = "harness_revision"

_numbers = itertools.count()


@dataclass
class Options:
    """What an instance is to be; the arguments of `Instance`, explained there."""

    plugin: str = "ours"
    storage: str = "maildir"
    compress: str | None = None
    # Without mail_crypt_save_version the packaged lmtp dies before any user is known.
    crypt: CryptConfig | None = CryptConfig()
    users: dict[str, UserConfig] = field(default_factory=dict)
    acl: bool = False
    quota: bool = False
    attribute_dict: str | None = "file"
    index: str | None = None
    fetch_failure: str | None = None
    temp_dir: str | None = None
    debug: bool = False
    extra: str = ""


@dataclass(frozen=True)
class Places:
    """Where an instance keeps its things."""

    run: Path
    address: str
    #: where mail plugins are, if it is not Dovecot's own folder
    plugins: Path | None = None

    @property
    def base(self) -> Path:
        """Sockets and master.pid."""
        return self.run / "base"

    @property
    def state(self) -> Path:
        """Dovecot's state folder."""
        return self.run / "state"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.run / "dovecot.log"

    @property
    def users(self) -> Path:
        """The passwd-file."""
        return self.run / "users"

    @property
    def config(self) -> Path:
        """dovecot.conf."""
        return self.run / "dovecot.conf"

    @property
    def lmtp(self) -> Path:
        """LMTP's socket."""
        return self.base / "lmtp"


class Config23:
    """Dovecot 2.3."""

    def __init__(
        self,
        options: Options,
        places: Places,
        account: Account,
        homes: Path,
        mail_ids: tuple[int, int],
        revision: int,
    ):
        self.options = options
        self.places = places
        self.account = account
        self.homes = homes
        self.mail_ids = mail_ids
        self.revision = revision

    # The pieces

    def plugins(self, crypt: bool = True) -> list[str]:
        """mail_plugins, for a user with or without the plugin."""
        o = self.options
        found = []
        if crypt and o.plugin != "none":
            found.append("mail_crypt")
        if o.compress or any(u.compress for u in o.users.values()):
            found.append("zlib")
        if o.acl:
            found.append("acl")
            if crypt and o.plugin != "none":
                found.append("mail_crypt_acl")
        if o.quota:
            found.append("quota")
        return found

    def crypt_fields(self, crypt: CryptConfig) -> dict[str, str]:
        """The plugin's settings."""
        o: dict[str, str] = {}
        if crypt.save_version is not None:
            o["mail_crypt_save_version"] = str(crypt.save_version)
        if crypt.curve is not None:
            o["mail_crypt_curve"] = crypt.curve
        if crypt.password is not None:
            o["mail_crypt_private_password"] = crypt.password
        for number, key in enumerate(crypt.user_key_keys, 1):
            name = "mail_crypt_private_key" + ("" if number == 1 else str(number))
            o[name] = key.value
            if key.password is not None:
                o[name + "_password"] = key.password
        if crypt.require_encrypted is not None:
            o["mail_crypt_require_encrypted_user_key"] = text_of(crypt.require_encrypted)
        if crypt.require_secure_sharing is not None:
            o["mail_crypt_acl_require_secure_key_sharing"] = text_of(crypt.require_secure_sharing)
        if crypt.global_public is not None:
            o["mail_crypt_global_public_key"] = crypt.global_public
        for number, key in enumerate(crypt.global_private, 1):
            name = "mail_crypt_global_private_key" + ("" if number == 1 else str(number))
            o[name] = key.value
            if key.password is not None:
                o[name + "_password"] = key.password
        return o

    def location(self, user: UserConfig | None = None) -> str:
        """mail_location."""
        storage = (user and user.storage) or self.options.storage
        index = (user and user.index) or self.options.index
        root = {"maildir": "~/Maildir", "sdbox": "~/sdbox", "mdbox": "~/mdbox", "mbox": "~/mbox"}[storage]
        return f"{storage}:{root}" + (":INDEX=MEMORY" if index == "memory" else "")

    def attribute_dict(self) -> str | None:
        """The dict that holds the keys."""
        return {
            None: None,
            "file": "file:%h/dovecot-attributes:lock=flock",
            "down": f"proxy:{self.places.base}/no-such-dict:attributes",
        }[self.options.attribute_dict]

    def user_line(self, name: str, user: UserConfig) -> str:
        """A line of the passwd-file."""
        fields: dict[str, str] = {}
        if user.storage or user.index:
            fields["mail"] = self.location(user)
        if user.compress is not None:
            fields["zlib_save"] = user.compress
        if user.crypt is not None and self.options.plugin != "none":
            fields.update(self.crypt_fields(user.crypt))
        if not user.plugin:
            # An empty value would be taken for "yes".
            fields["mail_plugins"] = ",".join(self.plugins(crypt=False)) or ","
        fields.update(user.extra)
        fields[REVISION] = str(self.revision)
        extra = " ".join(f"userdb_{key}={value}" for key, value in fields.items())
        uid, gid = self.mail_ids
        return f"{name}:{{PLAIN}}{user.password}:{uid}:{gid}::{self.homes / (user.home or name)}::{extra}\n"

    # The files

    def files(self) -> dict[Path, str]:
        """Every file to write before the start."""
        users = "".join(self.user_line(n, u) for n, u in self.options.users.items())
        # Dovecot looks at size and whole seconds to see that the file is another.
        padding = "#" * self.revision + "\n"
        return {self.places.config: self.main(), self.places.users: users + padding}

    def main(self) -> str:
        """dovecot.conf."""
        o, p, a = self.options, self.places, self.account
        settings = {
            "base_dir": p.base,
            "state_dir": p.state,
            "instance_name": p.run.name,
            "log_path": p.log,
            "log_timestamp": '"%Y-%m-%d %H:%M:%S.%{usecs} "',
            "protocols": "imap lmtp pop3",
            "listen": p.address,
            "ssl": "no",
            "disable_plaintext_auth": "no",
            "auth_failure_delay": "0",
            "first_valid_uid": "1",
            "mail_location": self.location(),
            "mail_temp_dir": temp_dir(o, p),
            "mail_plugins": " ".join(self.plugins()),
            "mail_debug": text_of(o.debug),
            "hostname": "localhost",
            "postmaster_address": "postmaster@localhost",
            "mail_max_userip_connections": "100",
            # fsync costs more than everything else here and proves nothing.
            "mail_fsync": "never",
        }
        if not a.is_root:
            settings |= {
                "default_internal_user": a.name,
                "default_internal_group": a.group,
                "default_login_user": a.name,
            }
        if p.plugins:
            settings["mail_plugin_dir"] = p.plugins
        attributes = self.attribute_dict()
        if attributes:
            settings["mail_attribute_dict"] = attributes
        if o.fetch_failure:
            settings["imap_fetch_failure"] = o.fetch_failure
        plugin: dict[str, str] = {}
        if o.crypt is not None and o.plugin != "none":
            plugin |= self.crypt_fields(o.crypt)
        if o.compress:
            plugin["zlib_save"] = o.compress
        if o.quota:
            plugin["quota"] = "count:User quota"
            plugin["quota_vsizes"] = "yes"
            plugin["quota_rule"] = "*:storage=1G"
        if o.acl:
            plugin["acl"] = "vfile"
            plugin["acl_shared_dict"] = f"file:{self.homes}/shared-mailboxes"
            plugin["acl_anyone"] = "allow"
        text = "".join(f"{key} = {value}\n" for key, value in settings.items())
        text += _block("plugin", plugin) + self._services() + self._fixed()
        return text + o.extra + "\n"

    def _services(self) -> str:
        owner = "" if self.account.is_root else "chroot =\n"
        def listener(name: str, port: int) -> str:
            return f"inet_listener {name} {{\nport = {port}\n}}\ninet_listener {name}s {{\nport = 0\n}}\n"

        return (
            f"service imap-login {{\n{owner}{listener('imap', IMAP_PORT)}service_count = 0\n}}\n"
            f"service pop3-login {{\n{owner}{listener('pop3', POP3_PORT)}service_count = 0\n}}\n"
            f"service anvil {{\n{owner}}}\n"
            f"service stats {{\n{owner}}}\n"
            "service lmtp {\nunix_listener lmtp {\nmode = 0600\n}\n}\n"
        )

    def _fixed(self) -> str:
        imap = ""
        if self.options.quota or self.options.acl:
            more = ("imap_quota " if self.options.quota else "") + (
                "imap_acl" if self.options.acl else ""
            )
            imap = f"protocol imap {{\nmail_plugins = $mail_plugins {more}\n}}\n"
        lookup = f"{{\ndriver = passwd-file\nargs = username_format=%u {self.places.users}\n}}\n"
        return (
            f"passdb {lookup}userdb {lookup}{imap}"
            "namespace inbox {\ninbox = yes\nseparator = /\n}\n" + self._shared()
        )

    def _shared(self) -> str:
        """Everybody's folders under shared/USER, as far as the ACLs let them be seen."""
        if not self.options.acl:
            return ""
        location = self.location().replace("~/", "%%h/")
        return (
            "namespace shared {\ntype = shared\nprefix = shared/%%u/\nseparator = /\n"
            f"location = {location}\nsubscriptions = no\nlist = children\n}}\n"
        )


def temp_dir(options: Options, places: Places) -> Path:
    """mail_temp_dir."""
    if options.temp_dir == "missing":
        return places.run / "no-such-folder"
    if options.temp_dir in (None, "read-only", "full"):
        return places.run / "tmp"
    return Path(options.temp_dir)


def writer(version: DovecotVersion):
    """The class that writes for a version."""
    if version.line == "2.3":
        return Config23
    if version.line == "2.4":
        # It builds on this module.
        from .config24 import Config24

        return Config24
    raise NotImplementedError(f"no configuration writer for Dovecot {version}")


def own_address(number: int, pid: int) -> str:
    """An address in 127/8 for the instance `number` of the process `pid`.

    The first four of a process can't meet another process's: a process id has
    22 bits at most. Later ones can; `claim` and `is_free` tell.
    """
    bits = ((((pid & 0x3FFFFF) << 2) + number) & 0xFFFFFF) ^ 0x800000
    return "127." + ".".join(str(bits >> shift & 0xFF) for shift in (16, 8, 0))


def free_address() -> tuple[str, socket.socket]:
    """A free address, and what keeps it ours."""
    while True:
        address = own_address(next(_numbers), os.getpid())
        held = claim(address)
        if held and is_free(address):
            return address, held
        if held:
            held.close()


def claim(address: str) -> socket.socket | None:
    """Take an address for as long as the socket is open; None if another harness has it."""
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind(f"\0mail-crypt-tests/{address}")
    except OSError:
        held.close()
        return None
    return held


def is_free(address: str) -> bool:
    """Can an instance listen there?"""
    for port in (IMAP_PORT, POP3_PORT):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


def text_of(value: bool | str) -> str:
    """A boolean as Dovecot writes it; text as it stands."""
    return value if isinstance(value, str) else ("yes" if value else "no")


def _block(name: str, settings: dict[str, str]) -> str:
    body = "".join(f"{key} = {value}\n" for key, value in settings.items())
    return f"{name} {{\n{body}}}\n"
