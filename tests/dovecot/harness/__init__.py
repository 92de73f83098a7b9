"""Private Dovecot servers for tests, demos and measurements.

The parts, from the outside in:

- `instance.Instance`  a private Dovecot: started, asked, torn down
- `users.UserConfig`, `users.CryptConfig`  what a test says about users and keys
- `config`             the only place that knows the names of Dovecot's settings
- `modules`            which modules that Dovecot loads: ours, the packaged ones, none
- `proc`               what /proc says about its processes
- `clients`            IMAP, LMTP and POP3 as a client sees them
- `mail`               mails whose words can be looked for afterwards
- `store`              what lies on disk: mail files, the attribute dict, damage
- `folder`             a folder as its owner and others see it
- `fs_files`           files that go through the fs drivers
- `keys`, `forge`      keys and encrypted files made without Dovecot and without our code

A first example:

    with Instance(plugin="packaged", users={"alice": UserConfig(
            crypt=CryptConfig(password="secret"))}) as dovecot:
        dovecot.deliver("alice", Mail.make())
        print(dovecot.imap("alice").bodies())
        print(dovecot.store.mail_files("alice"))
"""

from .instance import Instance
from .keys import Key, KeySetting
from .mail import Mail, multipart
from .modules import Unavailable, available
from .store import Store, StoredMail
from .users import CryptConfig, UserConfig
from .version import DovecotVersion

__all__ = [
    "CryptConfig",
    "DovecotVersion",
    "Instance",
    "Key",
    "KeySetting",
    "Mail",
    "Store",
    "StoredMail",
    "Unavailable",
    "UserConfig",
    "available",
    "multipart",
]
