"""Our words -> Dovecot 2.4's configuration; beside `config.py`, which has 2.3's."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from .config import IMAP_PORT, POP3_PORT, REVISION, Config23, temp_dir, text_of
from .keys import KeySetting
from .users import CryptConfig, UserConfig
from .version import NotHere

_ROOTS = {"maildir": "Maildir", "sdbox": "sdbox", "mdbox": "mdbox", "mbox": "mbox"}


class Config24(Config23):
    """Dovecot 2.4, which renamed every setting and takes keys from files."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._key_files: dict[str, tuple[Path, str]] = {}

    # The pieces

    def plugins(self, crypt: bool = True) -> list[str]:
        """mail_plugins, for a user with or without the plugin."""
        return ["mail_compress" if name == "zlib" else name for name in super().plugins(crypt)]

    def key_file(self, key: str) -> str:
        """The file for a key; what a setting of 2.3 has in base64 is PEM in it."""
        if key not in self._key_files:
            try:
                content = base64.b64decode(key, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                content = key
            path = self.places.run / f"key-{self.revision}-{len(self._key_files)}"
            self._key_files[key] = (path, content)
        return str(self._key_files[key][0])

    def crypt_fields(self, crypt: CryptConfig) -> dict[str, str]:
        """The plugin's settings, for userdb and dovecot.conf alike."""
        if crypt.save_version == 1:
            raise NotHere("Dovecot 2.4 writes no streams of version 1")
        if crypt.save_version not in (None, 0, 2):
            raise NotHere("Dovecot 2.4 has no versions of streams")
        o: dict[str, str] = {}
        if crypt.save_version == 0:
            o["crypt_write_algorithm"] = ""
        if crypt.curve is not None:
            o["crypt_user_key_curve"] = crypt.curve
        if crypt.password is not None:
            o["crypt_user_key_password"] = crypt.password
        o |= self._key_blocks("crypt_user_key_encryption_key", crypt.user_key_keys)
        if crypt.require_encrypted is not None:
            o["crypt_user_key_require_encrypted"] = text_of(crypt.require_encrypted)
        if crypt.require_secure_sharing is not None:
            o["crypt_acl_require_secure_key_sharing"] = text_of(crypt.require_secure_sharing)
        if crypt.global_public is not None:
            o["crypt_global_public_key_file"] = self.key_file(crypt.global_public)
        return o | self._key_blocks("crypt_global_private_key", crypt.global_private)

    def _key_blocks(self, kind: str, keys: tuple[KeySetting, ...]) -> dict[str, str]:
        # Without the list of their names Dovecot doesn't see blocks from userdb.
        names = ",".join(f"key{number}" for number in range(1, len(keys) + 1))
        o = {kind: names} if names else {}
        for number, key in enumerate(keys, 1):
            block = f"{kind}/key{number}"
            o[f"{block}/crypt_private_key_file"] = self.key_file(key.value)
            if key.password is not None:
                o[f"{block}/crypt_private_key_password"] = key.password
        return o

    def place(self, user: UserConfig | None = None, home: str = "~") -> dict[str, str]:
        """Where the mail is and of which kind."""
        storage = (user and user.storage) or self.options.storage
        index = (user and user.index) or self.options.index
        o = {"mail_driver": storage, "mail_path": f"{home}/{_ROOTS[storage]}"}
        if index == "memory":
            o["mail_index_path"] = "MEMORY"
        return o

    def user_line(self, name: str, user: UserConfig) -> str:
        """A line of the passwd-file."""
        fields: dict[str, str] = {}
        if user.storage or user.index:
            fields |= self.place(user)
        if user.compress is not None:
            fields["mail_compress_write_method"] = user.compress
        if user.crypt is not None and self.options.plugin != "none":
            fields |= self.crypt_fields(user.crypt)
        if not user.plugin:
            for plugin in set(self.plugins()) - set(self.plugins(crypt=False)):
                fields[f"mail_plugins/{plugin}"] = "no"
        fields.update(user.extra)
        fields[REVISION] = str(self.revision)
        extra = " ".join(f"userdb_{key}={value}" for key, value in fields.items())
        uid, gid = self.mail_ids
        home = self.homes / (user.home or name)
        return f"{name}:{{PLAIN}}{user.password}:{uid}:{gid}::{home}::{extra}\n"

    # The files

    def files(self) -> dict[Path, str]:
        """Every file to write before the start; the keys come with what names them."""
        found = super().files()
        return dict(self._key_files.values()) | found

    def main(self) -> str:
        """dovecot.conf."""
        o, p, a = self.options, self.places, self.account
        settings = {
            "dovecot_config_version": "2.4.0",
            "dovecot_storage_version": "2.4.0",
            "base_dir": p.base,
            "state_dir": p.state,
            "instance_name": p.run.name,
            "log_path": p.log,
            "log_timestamp": '"%Y-%m-%d %H:%M:%S.%{usecs} "',
            "protocols": "imap lmtp pop3",
            "listen": p.address,
            "ssl": "no",
            "auth_allow_cleartext": "yes",
            "auth_failure_delay": "0",
            "first_valid_uid": "1",
            "mail_temp_dir": temp_dir(o, p),
            "mail_plugins": " ".join(self.plugins()),
            "hostname": "localhost",
            "postmaster_address": "postmaster@localhost",
            "mail_max_userip_connections": "100",
            "mail_fsync": "never",
        }
        settings |= self.place()
        if o.debug:
            settings["log_debug"] = "category=mail"
        if not a.is_root:
            settings |= {
                "default_internal_user": a.name,
                "default_internal_group": a.group,
                "default_login_user": a.name,
            }
        if p.plugins:
            settings["mail_plugin_dir"] = p.plugins
        if o.fetch_failure:
            settings["imap_fetch_failure"] = o.fetch_failure
        if o.crypt is not None and o.plugin != "none":
            settings |= self._top(self.crypt_fields(o.crypt))
        if o.compress:
            settings["mail_compress_write_method"] = o.compress
        text = "".join(f"{key} = {value}\n" for key, value in settings.items())
        if o.crypt is not None and o.plugin != "none":
            text += self._blocks(self.crypt_fields(o.crypt))
        text += self._attributes() + self._quota_and_acl() + self._services() + self._fixed()
        return text + o.extra + "\n"

    @staticmethod
    def _top(fields: dict[str, str]) -> dict[str, str]:
        blocks = {key.split("/")[0] for key in fields if "/" in key}
        return {k: v for k, v in fields.items() if "/" not in k and k not in blocks}

    @staticmethod
    def _blocks(fields: dict[str, str]) -> str:
        found: dict[tuple[str, str], str] = {}
        for key, value in fields.items():
            if "/" in key:
                kind, name, setting = key.split("/")
                found[kind, name] = found.get((kind, name), "") + f"{setting} = {value}\n"
        return "".join(f"{kind} {name} {{\n{body}}}\n" for (kind, name), body in found.items())

    def _attributes(self) -> str:
        dicts = {
            None: "",
            "file": "dict file {\npath = %{home}/dovecot-attributes\nlock_method = flock\n}\n",
            "down": f"dict proxy {{\nname = attributes\nsocket_path = {self.places.base}/no-such-dict\n}}\n",
        }
        found = dicts[self.options.attribute_dict]
        return found and f"mail_attribute {{\n{found}}}\n"

    def _quota_and_acl(self) -> str:
        text = ""
        if self.options.quota:
            text += 'quota "User quota" {\ndriver = count\nstorage_size = 1G\n}\n'
        if self.options.acl:
            text += (
                "acl_driver = vfile\nimap_acl_allow_anyone = yes\n"
                f"acl_sharing_map {{\ndict file {{\npath = {self.homes}/shared-mailboxes\n}}\n}}\n"
            )
        return text

    def _services(self) -> str:
        owner = "" if self.account.is_root else "chroot =\n"

        def login(name: str, port: int) -> str:
            return (
                f"service {name}-login {{\n{owner}restart_request_count = unlimited\n"
                f"inet_listener {name} {{\nport = {port}\n}}\n"
                f"inet_listener {name}s {{\nport = 0\n}}\n}}\n"
            )

        return (
            login("imap", IMAP_PORT)
            + login("pop3", POP3_PORT)
            + f"service anvil {{\n{owner}}}\nservice stats {{\n{owner}}}\n"
            + "service lmtp {\nunix_listener lmtp {\nmode = 0600\n}\n}\n"
        )

    def _fixed(self) -> str:
        more = [f"imap_{name}" for name in ("quota", "acl") if getattr(self.options, name)]
        switched = "".join(f"{name} = yes\n" for name in more)
        imap = f"protocol imap {{\nmail_plugins {{\n{switched}}}\n}}\n" if more else ""
        lookup = f"passwd-file {{\npasswd_file_path = {self.places.users}\n}}\n"
        return (
            f"passdb {lookup}userdb {lookup}{imap}"
            "namespace inbox {\ninbox = yes\nseparator = /\n}\n" + self._shared()
        )

    def _shared(self) -> str:
        if not self.options.acl:
            return ""
        place = self.place(home="%{owner_home}")
        body = "".join(f"{key} = {value}\n" for key, value in place.items())
        return (
            "namespace shared {\ntype = shared\nprefix = shared/$user/\nseparator = /\n"
            f"{body}subscriptions = no\nlist = children\n}}\n"
        )
