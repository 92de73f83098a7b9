"""What the Dovecot at hand calls things that tests quote: settings in errors, pieces of configuration.

Tests speak of settings by their 2.3 names.
"""

from __future__ import annotations

from . import fs24
from .version import DovecotVersion

#: 2.3's name -> 2.4's
SETTINGS = {
    "mail_crypt_save_version": "crypt_write_algorithm",
    "mail_crypt_curve": "crypt_user_key_curve",
    "mail_crypt_private_password": "crypt_user_key_password",
    "mail_crypt_private_key": "crypt_user_key_encryption_key",
    "mail_crypt_require_encrypted_user_key": "crypt_user_key_require_encrypted",
    "mail_crypt_acl_require_secure_key_sharing": "crypt_acl_require_secure_key_sharing",
    "mail_crypt_global_public_key": "crypt_global_public_key_file",
    "mail_crypt_global_private_key": "crypt_global_private_key",
    "mail_crypt_read_plain": "crypt_read_plain",
    "mail_crypt_password_rounds": "crypt_password_rounds",
    "mail_crypt_password_kdf": "crypt_password_kdf",
    "mail_crypt_escrow_public_key": "crypt_escrow_public_key_file",
    "mail_crypt_escrow_public_key2": "crypt_escrow_public_key2_file",
    "mail_crypt_escrow_public_key3": "crypt_escrow_public_key3_file",
    "mail_crypt_escrow_public_key4": "crypt_escrow_public_key4_file",
    "mail_attribute_dict": "mail_attribute",
    "zlib_save_level = 1": "compress_gz_level = 1",
}


def is_24() -> bool:
    """Is it Dovecot 2.4?"""
    return DovecotVersion.installed().line == "2.4"


def setting(name: str) -> str:
    """The setting's name here."""
    return SETTINGS[name] if is_24() else name


def key_setting(name: str, number: int) -> str:
    """A pattern for what an error calls the key with this number, or its password."""
    if is_24():
        return rf"{SETTINGS[name]} key{number}: crypt_private_key_(file|password)"
    return rf"{name}{'' if number == 1 else number}(_password)?\b"


def plugin(line: str) -> str:
    """A plugin's setting, for dovecot.conf."""
    return f"{SETTINGS[line]}\n" if is_24() else f"plugin {{\n{line}\n}}\n"


def environment(name: str, value: str) -> str:
    """A variable in the environment of every process."""
    if is_24():
        return f"import_environment {{\n{name} = {value}\n}}\n"
    return f"import_environment = $import_environment {name}={value}\n"


def option(name: str, value: str) -> str:
    """doveadm's -o, for a plugin's setting."""
    return f"{SETTINGS[name]}={value}" if is_24() else f"plugin/{name}={value}"


def only_plugins(service: str, *plugins: str) -> str:
    """A service has these mail plugins, whatever others have."""
    if is_24() and not plugins:
        # An empty list would change nothing.
        names = ("mail_crypt", "mail_crypt_acl", "acl", "quota", "mail_compress")
        switches = "".join(f"{name} = no\n" for name in names)
        return f"protocol {service} {{\nmail_plugins {{\n{switches}}}\n}}\n"
    return f"protocol {service} {{\nmail_plugins = {' '.join(plugins)}\n}}\n"


def compressing(method: str, *others: str) -> tuple[tuple[str, str], ...]:
    """userdb: the mail of this user is compressed, whose other plugins are these, and no one else's."""
    if is_24():
        return ("mail_plugins/mail_compress", "yes"), ("mail_compress_write_method", method)
    return ("mail_plugins", ",".join((*others, "zlib"))), ("zlib_save", method)


def location(storage: str, path: str) -> str:
    """Where a namespace of its own keeps its mail."""
    if is_24():
        return f"mail_driver = {storage}\nmail_path = {path}\n"
    return f"location = {storage}:{path}\n"


def shared_namespace() -> str:
    """Everybody's folders under shared/USER, where mail is in ~/Maildir."""
    if is_24():
        place = "mail_driver = maildir\nmail_path = %{owner_home}/Maildir\n"
        prefix = "shared/$user/"
    else:
        place, prefix = "location = maildir:%%h/Maildir\n", "shared/%%u/"
    return (
        f"namespace shared {{\ntype = shared\nprefix = {prefix}\nseparator = /\n"
        f"{place}subscriptions = no\nlist = children\n}}\n"
    )


def virtual_folders(path: str, open_at_once: int) -> str:
    """Virtual folders under virtual/, each a folder in `path`; so many of their folders are open at once."""
    if is_24():
        place, plugins = f"mail_driver = virtual\nmail_path = {path}\n", "mail_plugins {\nvirtual = yes\n}\n"
        limit = f"virtual_max_open_mailboxes = {open_at_once}\n"
    else:
        place, plugins = f"location = virtual:{path}\n", "mail_plugins = $mail_plugins virtual\n"
        limit = f"plugin {{\nvirtual_max_open_mailboxes = {open_at_once}\n}}\n"
    return f"{plugins}{limit}namespace virtual {{\nprefix = virtual/\nseparator = /\n{place}}}\n"


#: a 2.3 fs driver's parameter, as errors name it -> 2.4's setting
_PARAMETERS = {
    "public_key_path": SETTINGS["mail_crypt_global_public_key"],
    "public_key_path=": SETTINGS["mail_crypt_global_public_key"],
    "private_key_path": SETTINGS["mail_crypt_global_private_key"],
    "private_key_path=": SETTINGS["mail_crypt_global_private_key"],
    "password=": "crypt_private_key_password",
    "algo=": SETTINGS["mail_crypt_save_version"],
}


def parameter(name: str) -> str:
    """What an error calls an fs driver's parameter here; other words stay as they are."""
    return _PARAMETERS.get(name, name) if is_24() else name


def fs_dict(name: str, args: str) -> tuple[str, str]:
    """A dict of the dict service, in files of the crypt driver; and how doveadm is told which one."""
    if is_24():
        key, drivers = fs24.blocks("crypt", args).split(fs24.FILTER + " {\n")
        return (
            f"{key}dict_server {{\ndict {name} {{\ndriver = fs\n{drivers}}}\n"
            f"mail_attribute {{\ndict proxy {{\nname = {name}\n}}\n}}\n",
            "mail_attribute",
        )
    return f"dict {{\n{name} = fs:crypt:{args}\n}}\n", f"proxy::{name}"


def attachments(folder: str, driver: str) -> str:
    """2.4: attachments are in this folder, through the driver, as 2.3 would be told."""
    return f"mail_ext_attachment_path = {folder}\n" + fs24.blocks(*driver.split(":", 1))


def sieve(script: str) -> str:
    """LMTP runs a Sieve script."""
    if is_24():
        return (
            "protocol lmtp {\nmail_plugins {\nsieve = yes\n}\n}\n"
            f"sieve_script personal {{\ntype = personal\npath = {script}\n}}\n"
        )
    return f"protocol lmtp {{\nmail_plugins = $mail_plugins sieve\n}}\nplugin {{\nsieve = file:{script}\n}}\n"


def mail_log(service: str) -> str:
    """The service logs what it saves, and looks at the mail for that."""
    events = "mail_log_events = save\nmail_log_fields = uid box msgid size from subject\n"
    if is_24():
        return f"protocol {service} {{\nmail_plugins {{\nnotify = yes\nmail_log = yes\n}}\n}}\n{events}"
    return (
        f"protocol {service} {{\nmail_plugins = $mail_plugins notify mail_log\n}}\n"
        f"plugin {{\n{events}}}\n"
    )


def proxied_to(host: str, port: int) -> str:
    """Every user is on another server."""
    fields = {"proxy": "y", "host": host, "port": str(port), "nopassword": "y"}
    if is_24():
        body = "".join(f"{key} = {value}\n" for key, value in fields.items())
        return f"passdb static {{\nfields {{\n{body}}}\n}}\n"
    args = " ".join(f"{key}={value}" for key, value in fields.items())
    return f"passdb {{\ndriver = static\nargs = {args}\n}}\n"


def logging_mails(*fields: str) -> str:
    """What becomes of mails is logged, with these of their fields."""
    if is_24():
        switches = "mail_plugins {\nnotify = yes\nmail_log = yes\n}\n"
        return switches + f"mail_log_events = copy delete expunge\nmail_log_fields = {' '.join(fields)}\n"
    return (
        "mail_plugins = $mail_plugins notify mail_log\n"
        f"plugin {{\nmail_log_events = copy delete expunge\nmail_log_fields = {' '.join(fields)}\n}}\n"
    )


def dotlocked_attributes() -> str:
    """The attribute dict is under a dotlock: then whoever only reads it, opens it for reading only."""
    if is_24():
        return "mail_attribute {\ndict file {\nlock_method = dotlock\n}\n}\n"
    return "mail_attribute_dict = file:%h/dovecot-attributes\n"


def lmtp_with_tls(program: str, certificate: str, key: str) -> str:
    """LMTP is this program, with TLS at hand, and a new process for each connection."""
    if is_24():
        once, tls = "restart_request_count", f"ssl_server_cert_file = {certificate}\nssl_server_key_file = {key}\n"
    else:
        once, tls = "service_count", f"ssl_cert = <{certificate}\nssl_key = <{key}\n"
    return f"ssl = yes\n{tls}service lmtp {{\nexecutable = {program}\n{once} = 1\n}}\n"


def import_location(storage: str, path: str) -> str:
    """`doveadm import`: where the mail comes from."""
    return f"{storage}:{path}"
