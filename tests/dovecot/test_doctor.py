"""`mail-crypt doctor`: every mistake is found, by the real doveconf and in what one has written, and nothing else is."""

from __future__ import annotations

import imaplib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import CryptConfig, Mail, UserConfig, words
from harness.version import DovecotVersion, module_dir
from test_tool import TOOL, tool

LINE = ("2.3", "2.4")[words.is_24()]
HEAD = {
    "2.3": "# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf\n",
    "2.4": "# 2.4.1-4 (7d8c0e5759): /etc/dovecot/dovecot.conf\n",
}
#: What a configuration of this line needs to be one.
VERSIONS = {"2.3": "", "2.4": "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n"}
#: Settings with which nothing is wrong, by what a mistake replaces.
GOOD = {
    "2.3": {
        "plugins": "mail_plugins = mail_crypt acl",
        "dict": "mail_attribute_dict = file:%h/dovecot-attributes:lock=flock",
        "temp": "mail_temp_dir = /dev/shm",
        "place": "mail_location = maildir:~/Maildir:INDEXCACHE=/dev/shm/cache-%u",
        "crypt": "plugin {\n  mail_crypt_curve = prime256v1\n  mail_crypt_save_version = 2\n}",
        "more": "",
    },
    "2.4": {
        "plugins": "mail_plugins {\n  acl = yes\n  mail_crypt = yes\n}",
        "dict": "mail_attribute {\n  dict file {\n    lock_method = flock\n    path = %{home}/dovecot-attributes\n  }\n}",
        "temp": "mail_temp_dir = /dev/shm",
        "place": "mail_driver = maildir\nmail_path = ~/Maildir\nmail_cache_path = /dev/shm/cache-%{user}",
        "crypt": "crypt_user_key_curve = prime256v1",
        "more": "",
    },
}


@dataclass
class Mistake:
    """Of one line. It replaces this part of what is good."""

    line: str
    part: str
    text: str
    #: check, about, a word of the fix
    found: tuple[str, str, str]

    def __str__(self):
        return f"{self.line}-{self.found[0]}-{self.found[1]}".replace(" ", "")


def plugin(text: str) -> str:
    return f"plugin {{\n  mail_crypt_curve = prime256v1\n  {text}\n}}"


INDEXCACHE = ("index-cache", "mail_location", "INDEXCACHE=")
CACHE_PATH = ("index-cache", "mail_cache_path", "mail_cache_path = ")
MISTAKES = [
    Mistake("2.3", "plugins", "mail_plugins = acl", ("plugin-missing", "mail_plugins", "mail_plugins = $mail_plugins mail_crypt")),
    Mistake("2.3", "more", "protocol lmtp {\n  mail_plugins = acl\n}", ("plugin-missing", "protocol lmtp: mail_plugins", "in protocol lmtp {}")),
    Mistake("2.3", "more", "local 127.0.0.1 {\n  protocol imap {\n    mail_plugins = acl\n  }\n}", ("plugin-missing", "local 127.0.0.1 / protocol imap: mail_plugins", "mail_crypt")),
    Mistake("2.3", "plugins", "mail_plugins = mail_crypt notify notify_status", ("notify-status", "mail_plugins", "leave notify_status out")),
    Mistake("2.3", "more", "protocol lmtp {\n  mail_plugins = mail_crypt notify_status\n}", ("notify-status", "protocol lmtp: mail_plugins", "upgrade")),
    Mistake("2.3", "dict", "", ("attribute-dict", "mail_attribute_dict", "file:%h/dovecot-attributes:lock=flock")),
    Mistake("2.3", "dict", "mail_attribute_dict = file:%h/dovecot-attributes", ("attribute-dict-lock", "mail_attribute_dict", "lock=flock")),
    Mistake("2.3", "dict", "mail_attribute_dict = file:/var/attributes/%u:lock=flock", ("attribute-dict-place", "mail_attribute_dict", "%h/")),
    Mistake("2.3", "place", "mail_location = maildir:~/Maildir", INDEXCACHE),
    Mistake("2.3", "place", "mail_location = maildir:~/Maildir:INDEX=~/index", INDEXCACHE),
    Mistake("2.3", "more", "namespace other {\n  location = mdbox:~/mdbox\n  prefix = other/\n}", ("index-cache", "namespace other: location", "INDEXCACHE=")),
    Mistake("2.3", "more", "mail_attachment_dir = /srv/attachments", ("attachments", "mail_attachment_dir", "crypt:")),
    Mistake("2.3", "more", "mail_attachment_dir = /srv/attachments\nmail_attachment_fs = sis posix", ("attachments", "mail_attachment_dir", "crypt:")),
    Mistake("2.3", "crypt", plugin("mail_crypt_private_password = 100%sure"), ("percent-in-password", "plugin: mail_crypt_private_password", "%%")),
    Mistake("2.3", "crypt", plugin("mail_crypt_private_key2_password = x%%y%"), ("percent-in-password", "plugin: mail_crypt_private_key2_password", "%%")),
    Mistake("2.3", "crypt", plugin("crypt_user_key_password = x"), ("other-line", "plugin: crypt_user_key_password", "use mail_crypt_private_password")),
    Mistake("2.3", "crypt", plugin("crypt_escrow_public_key2_file = /x"), ("other-line", "plugin: crypt_escrow_public_key2_file", "use mail_crypt_escrow_public_key2")),
    Mistake("2.3", "crypt", plugin("mail_crypt_private_pasword = x"), ("unknown-setting", "plugin: mail_crypt_private_pasword", "use mail_crypt_private_password")),
    Mistake("2.3", "crypt", plugin("mail_crypt_curve2 = x"), ("unknown-setting", "plugin: mail_crypt_curve2", "use mail_crypt_curve")),
    Mistake("2.3", "more", "userdb {\n  driver = static\n  args = uid=1 home=/x mail_crypt_curv=prime256v1\n}", ("unknown-setting", "userdb: mail_crypt_curv", "use mail_crypt_curve")),
    Mistake("2.3", "more", "passdb {\n  driver = pam\n  default_fields = userdb_crypt_user_key_curve=prime256v1\n}", ("other-line", "passdb: userdb_crypt_user_key_curve", "use mail_crypt_curve")),
    Mistake("2.4", "plugins", "mail_plugins {\n  acl = yes\n}", ("plugin-missing", "mail_plugins", "mail_plugins { mail_crypt = yes }")),
    Mistake("2.4", "more", "protocol lmtp {\n  mail_plugins = acl\n}", ("plugin-missing", "protocol lmtp: mail_plugins", "in protocol lmtp {}")),
    Mistake("2.4", "more", "protocol imap {\n  mail_plugins {\n    mail_crypt = no\n  }\n}", ("plugin-missing", "protocol imap: mail_plugins", "mail_crypt = yes")),
    Mistake("2.4", "dict", "", ("attribute-dict", "mail_attribute", "lock_method = flock")),
    Mistake("2.4", "dict", "mail_attribute {\n  dict file {\n    path = %{home}/dovecot-attributes\n  }\n}", ("attribute-dict-lock", "mail_attribute", "lock_method = flock")),
    Mistake("2.4", "dict", "mail_attribute {\n  dict file {\n    lock_method = flock\n    path = /var/attributes/%{user}\n  }\n}", ("attribute-dict-place", "mail_attribute", "%{home}/")),
    Mistake("2.4", "place", "mail_driver = maildir\nmail_path = ~/Maildir", CACHE_PATH),
    Mistake("2.4", "more", "namespace other {\n  mail_cache_path = ~/cache\n  prefix = other/\n}", ("index-cache", "namespace other: mail_cache_path", "mail_cache_path = ")),
    Mistake("2.4", "more", "mail_ext_attachment {\n  path = /srv/attachments\n  fs posix {\n  }\n}", ("attachments", "mail_ext_attachment_path", "fs crypt {")),
    Mistake("2.4", "more", "userdb static {\n  fields {\n    mail_crypt_private_password = x\n  }\n}", ("other-line", "userdb static / fields: mail_crypt_private_password", "use crypt_user_key_password")),
    Mistake("2.4", "more", "userdb static {\n  fields {\n    crypt_user_key_pasword = x\n  }\n}", ("unknown-setting", "userdb static / fields: crypt_user_key_pasword", "use crypt_user_key_password")),
    Mistake("2.4", "more", "userdb static {\n  fields {\n    crypt_user_key_encryption_key/a/crypt_private_key = x\n  }\n}", ("unknown-setting", "userdb static / fields: crypt_user_key_encryption_key/a/crypt_private_key", "/NAME/crypt_private_key_file")),
]  # fmt: skip

#: What looks like a mistake and isn't one.
RIGHT = [
    ("2.3", "more", "protocol imap {\n  mail_plugins = mail_crypt acl imap_acl\n}"),
    ("2.3", "more", "mail_attachment_dir = /srv/attachments\nmail_attachment_fs = crypt:set_prefix=mail_crypt_other:sis:posix:"),
    ("2.3", "crypt", plugin("mail_crypt_other_private_key = x\n}\nprotocol imap {\n  mail_attachment_fs = crypt:set_prefix=mail_crypt_other:posix:")),
    ("2.3", "crypt", plugin("mail_crypt_private_password = 100%%sure%{user}")),
    ("2.3", "crypt", plugin("mail_crypt_private_key12_password = x")),
    ("2.3", "place", "mail_location = maildir:~/Maildir:INDEX=MEMORY"),
    ("2.3", "place", "mail_location = maildir:/dev/shm/%u"),
    ("2.3", "place", "mail_home = /dev/shm/%u\nmail_location = maildir:~/Maildir"),
    ("2.4", "place", "mail_driver = maildir\nmail_index_path = MEMORY"),
    ("2.4", "more", "mail_ext_attachment {\n  path = /srv/attachments\n  fs crypt {\n  }\n  fs posix {\n  }\n}"),
    ("2.4", "more", "userdb static {\n  fields {\n    crypt_user_key_curve = x\n    mail_crypt_curve = x\n  }\n}"),
    ("2.4", "more", "protocol imap {\n  mail_plugins {\n    imap_acl = yes\n  }\n}"),
    ("2.4", "crypt", "crypt_user_key_encryption_key main {\n  crypt_private_key_file = /nowhere\n}"),
]  # fmt: skip


def conf(line: str, **parts: str) -> str:
    """What is good, but for these parts."""
    return "\n".join((GOOD[line] | parts).values()) + "\n"


def doctor(*args, stdin: bytes = b"") -> tuple[int, dict]:
    """Its exit code and what it says. As a text it says the same."""
    runs = []
    for more in ("--json",), ():
        done = subprocess.run([TOOL, "doctor", *map(str, args), *more], input=stdin, capture_output=True, timeout=60)
        assert done.returncode in (0, 1), done.stderr.decode()
        runs.append(done)
    said = json.loads(runs[0].stdout)
    assert runs[0].returncode == runs[1].returncode == bool(said["findings"])
    text = runs[1].stdout.decode()
    for finding in said["findings"]:
        assert f"{finding['about']}: {finding['what']}\n  fix: {finding['fix']}\n" in text
    assert ("nothing found\n" in text) == (not said["findings"])
    return runs[0].returncode, said


def checks(said: dict, *but: str) -> list[tuple[str, str, str]]:
    """What was found, without these checks."""
    found = [(f["check"], f["about"], f["fix"]) for f in said["findings"]]
    return [f for f in found if f[0] not in but]


#: What depends on the machine that the test is run on.
MACHINE = ("temp-dir", "swap", "abi", "key-file")


@pytest.fixture
def open_folder():
    """One that everybody can read, which pytest's own aren't."""
    folder = Path(tempfile.mkdtemp(prefix="mcd-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def machine(open_folder):
    """A machine with nothing wrong: its /dev/shm is a tmpfs, its swap is encrypted, its disk isn't."""
    root = open_folder / "machine"
    block = root / "sys/class/block"
    for name, uuid in (("dm-0", "CRYPT-PLAIN-swap"), ("dm-1", "LVM-x"), ("dm-2", "CRYPT-LUKS2-x"), ("vda1", None), ("zram0", None)):
        (block / name / "slaves").mkdir(parents=True)
        if uuid:
            (block / name / "dm").mkdir()
            (block / name / "dm/uuid").write_text(uuid + "\n")
    (block / "dm-1/slaves/dm-2").mkdir()
    for folder in ("proc/self", "dev/shm", "tmp", "srv/safe", "etc/dovecot"):
        (root / folder).mkdir(parents=True)
    for folder in (root, *filter(Path.is_dir, root.rglob("*"))):
        folder.chmod(0o755)
    (root / "proc/swaps").write_text(
        "Filename\tType\tSize\tUsed\tPriority\n/dev/dm-0 partition 1 0 -2\n/dev/dm-1 partition 1 0 -2\n"
        "/dev/zram0 partition 1 0 100\n/srv/safe/swap file 1 0 -3\n"
    )
    (root / "proc/self/mountinfo").write_text(
        "21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n22 21 0:5 / /dev/shm rw - tmpfs tmpfs rw\n"
        "23 21 0:6 / /tmp rw shared:2 - tmpfs tmpfs rw\n24 21 253:1 / /srv/safe rw - ext4 /dev/dm-1 rw\n"
    )
    return root


@pytest.fixture
def written(tmp_path, machine):
    """What the doctor says about such text, on that machine."""

    def run(line: str, text: str, *args) -> dict:
        file = tmp_path / "doveconf"
        file.write_text(HEAD[line] + text)
        return doctor("--doveconf", file, "--root", machine, *args)[1]

    return run


@pytest.fixture
def real(tmp_path):
    """What it says about such a configuration, by this host's doveconf."""

    def run(text: str) -> dict:
        file = tmp_path / "dovecot.conf"
        file.write_text(VERSIONS[LINE] + text)
        return doctor("--config", file)[1]

    return run


@pytest.mark.parametrize("line", GOOD)
def test_nothing_is_found_where_nothing_is_wrong(written, line):
    said = written(line, conf(line))
    assert not said["findings"] and said["not_checked"] == ["the modules' ABI: there is no libdovecot-storage.so"]
    assert said["dovecot"] == {"2.3": "2.3.19.1", "2.4": "2.4.1"}[line]


def test_nothing_is_found_by_the_real_doveconf(real):
    said = real(conf(LINE))
    assert checks(said, *MACHINE) == []
    assert said["dovecot"] == str(DovecotVersion.installed()).split("-")[0]


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_every_mistake_is_found(written, real, mistake):
    text = conf(mistake.line, **{mistake.part: mistake.text})
    check, about, fix = mistake.found
    for run in (lambda: written(mistake.line, text), lambda: real(text)):
        ((found_check, found_about, found_fix),) = checks(run(), *MACHINE)
        assert (found_check, found_about) == (check, about) and fix in found_fix
        if mistake.line != LINE:
            break


@pytest.mark.parametrize("line, part, text", RIGHT)
def test_what_is_right_is_no_mistake(written, real, line, part, text):
    text = conf(line, **{part: text})
    assert checks(written(line, text), "key-file") == []
    if line == LINE:
        assert checks(real(text), *MACHINE) == []


def test_a_cache_on_a_disk_is_found(written, machine):
    for line, user in (("2.3", "%u"), ("2.4", "%{user}")):
        place = GOOD[line]["place"]
        for folder, clear in (("/srv/cache", True), ("/srv/safe/cache", False)):
            said = written(line, conf(line, place=place.replace(f"/dev/shm/cache-{user}", f"{folder}/{user}")))
            assert [f["check"] for f in said["findings"]] == ["index-cache"] * clear
            assert not clear or "(it is on ext4)" in said["findings"][0]["what"]


def test_before_it_had_a_place_of_its_own_the_cache_can_only_be_in_memory(tmp_path):
    text = "# 2.3.12 (x): /x\n" + conf("2.3", place="mail_location = maildir:~/Maildir")
    found = doctor("--doveconf", "-", stdin=text.encode())[1]["findings"]
    assert [f["fix"].split(";")[0] for f in found] == ["add :INDEX=MEMORY"]


@pytest.mark.parametrize("version, harmful", (("2.3.19.1", True), ("2.3.20", True), ("2.3.21", False), ("2.3.21.1", False), ("2.4.1-4", False)))
def test_notify_status_is_harmful_before_2_3_21(version, harmful):
    text = f"# {version} (x): /x\n" + conf(version[:3], plugins="mail_plugins = mail_crypt notify notify_status")
    found = checks(doctor("--doveconf", "-", stdin=text.encode())[1])
    assert [f[0] for f in found] == ["notify-status"] * harmful


def test_a_dict_elsewhere_is_left_to_the_administrator(written):
    said = written("2.3", conf("2.3", dict="mail_attribute_dict = proxy:/run/dovecot/dict:attributes"))
    assert not said["findings"] and any("proxy dict" in why for why in said["not_checked"])


def test_with_a_global_key_alone_no_dict_is_needed(written):
    crypt = "plugin {\n  mail_crypt_global_public_key = x\n  mail_crypt_save_version = 2\n}"
    assert not written("2.3", conf("2.3", dict="", crypt=crypt))["findings"]
    crypt = "crypt_global_private_key main {\n  crypt_private_key_password = x\n}"
    assert not written("2.4", conf("2.4", dict="", crypt=crypt))["findings"]


# The machine


@pytest.mark.parametrize("line", GOOD)
def test_temporary_files_on_a_disk_are_found(written, machine, line):
    found = checks(written(line, conf(line, temp="mail_temp_dir = /var/tmp")))
    assert [(f[0], f[1]) for f in found] == [("temp-dir", "mail_temp_dir")]
    assert "mail_temp_dir = /dev/shm" in found[0][2]
    mounts = machine / "proc/self/mountinfo"
    mounts.write_text(mounts.read_text().replace(" /tmp ", " /mnt "))
    assert [f[1] for f in checks(written(line, conf(line)))] == ["/tmp"]
    assert [f[1] for f in checks(written(line, conf(line, temp="")))] == ["mail_temp_dir"]
    # A link to what is in memory.
    (machine / "var").mkdir()
    (machine / "var/spool").symlink_to(machine / "dev/shm")
    assert [f[1] for f in checks(written(line, conf(line, temp="mail_temp_dir = /var/spool")))] == ["/tmp"]


def test_what_this_machine_has_temporary_files_on_is_seen(real):
    for folder in ("/dev/shm", "/var/tmp"):
        kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True).stdout.strip()
        found = checks(real(conf(LINE, temp=f"mail_temp_dir = {folder}")))
        assert (("temp-dir", "mail_temp_dir") in [f[:2] for f in found]) == (kind not in ("tmpfs", "ramfs"))


@pytest.mark.parametrize("device, kind", (("/dev/vda1", "partition"), ("/srv/swap\\040file", "file")))
def test_swap_in_the_clear_is_found(written, machine, device, kind):
    with (machine / "proc/swaps").open("a") as swaps:
        swaps.write(f"{device} {kind} 1 0 -4\n")
    ((check, about, fix),) = checks(written("2.3", conf("2.3")))
    assert (check, about) == ("swap", device.replace("\\040", " ")) and "dm-crypt" in fix


def test_a_volume_of_which_one_disk_is_in_the_clear_is_in_the_clear(written, machine):
    (machine / "sys/class/block/dm-1/slaves/vda1").mkdir()
    found = checks(written("2.3", conf("2.3")))
    assert [f[:2] for f in found] == [("swap", "/dev/dm-1"), ("swap", "/srv/safe/swap")]


def test_zram_that_is_written_to_a_disk_is_found(written, machine):
    (machine / "sys/class/block/zram0/backing_dev").write_text("/dev/vda2\n")
    assert [f[:2] for f in checks(written("2.3", conf("2.3")))] == [("swap", "/dev/zram0")]


KEY_FILES = {
    "2.3": (
        plugin("mail_crypt_global_private_key = </etc/dovecot/key"),
        plugin("mail_crypt_private_key2 = </etc/dovecot/key"),
        plugin("mail_crypt_private_password = </etc/dovecot/key"),
        plugin("attachment_private_key = </etc/dovecot/key"),
        plugin("x = y\n}\nprotocol imap {\n  mail_attachment_fs = crypt:private_key_path=/etc/dovecot/key:posix:"),
    ),
    "2.4": (
        "crypt_user_key_curve = x\ncrypt_user_key_encryption_key main {\n  crypt_private_key_file = /etc/dovecot/key\n}",
        "crypt_user_key_curve = x\ncrypt_global_private_key main {\n  crypt_private_key_file = /etc/dovecot/key\n}",
    ),
}


@pytest.mark.parametrize("line, text", [(line, text) for line in GOOD for text in KEY_FILES[line]])
def test_a_key_that_others_can_read_is_found(written, machine, line, text):
    key = machine / "etc/dovecot/key"
    missing = written(line, conf(line, crypt=text))["findings"]
    assert [f["what"] for f in missing] == ["/etc/dovecot/key isn't there"]
    key.write_text("key")
    for mode, open_to_all in ((0o644, True), (0o640, False), (0o600, False)):
        key.chmod(mode)
        found = checks(written(line, conf(line, crypt=text)))
        assert [(f[0], f[2]) for f in found] == [("key-file", "chmod o= /etc/dovecot/key")] * open_to_all
    key.chmod(0o644)
    key.parent.chmod(0o750)
    assert not checks(written(line, conf(line, crypt=text)))


def test_a_key_of_this_machine_that_others_can_read_is_found(real, open_folder):
    key = open_folder / "key"
    key.write_text("key")
    crypt = KEY_FILES[LINE][0].replace("/etc/dovecot/key", str(key))
    for mode, count in ((0o644, 1), (0o600, 0)):
        key.chmod(mode)
        said = real(conf(LINE, crypt=crypt))
        assert [f["check"] for f in said["findings"]].count("key-file") == count


def test_modules_of_another_dovecot_are_found(written, real, machine, tmp_path):
    folder = tmp_path / "modules"
    (folder / "doveadm").mkdir(parents=True)
    old = "2.3.ABIv19(2.3.18)"
    for name in ("lib10_mail_crypt_plugin.so", "doveadm/libdoveadm_mail_crypt_plugin.so"):
        (folder / name).write_bytes(b"\x7fELF\0" + old.encode() + b"\0")
    (folder / "lib20_other_plugin.so").write_bytes(b"1.1.ABIv1(1)")
    found = checks(real(conf(LINE, more=f"mail_plugin_dir = {folder}")), "temp-dir", "swap", "key-file")
    assert [(f[0], f[1]) for f in found] == [
        ("abi", f"{folder}/lib10_mail_crypt_plugin.so"),
        ("abi", f"{folder}/doveadm/libdoveadm_mail_crypt_plugin.so"),
    ]
    assert all("make install" in f[2] for f in found)
    # Below another root
    below = machine / "usr/lib/dovecot"
    (below / "modules").mkdir(parents=True)
    (below / "libdovecot-storage.so.0.0.0").write_bytes(b"\x002.3.ABIv19(2.3.19.1)\0")
    assert [f[1] for f in checks(written("2.3", conf("2.3")))] == ["/usr/lib/dovecot/modules"]
    module = below / "modules/lib10_mail_crypt_plugin.so"
    for abi, count in ((old, 1), ("2.3.ABIv19(2.3.19.1)", 0)):
        module.write_bytes(b"\0" + abi.encode() + b"\0")
        assert [f[0] for f in checks(written("2.3", conf("2.3")))] == ["abi"] * count


def test_the_modules_of_this_dovecot_fit(real):
    folder = module_dir()
    assert (Path(folder) / "lib10_mail_crypt_plugin.so").exists()
    assert not [f for f in checks(real(conf(LINE))) if f[0] == "abi"]


# Dovecot doesn't take it


@pytest.mark.parametrize("within", ("top", "block"))
def test_a_name_that_doveconf_refuses_is_found(real, within):
    name, instead = ("crypt_user_key_curve", "mail_crypt_curve")[:: 1 if LINE == "2.3" else -1]
    text = f"{name} = prime256v1\n"
    if within == "block":
        text = f"{'plugin' if LINE == '2.4' else 'protocol imap'} {{\n  {text}}}\n"
    said = real(conf(LINE, more=text))
    assert checks(said) == [("other-line", name, f"use {instead}")]
    assert said["not_checked"] == ["everything else: doveconf doesn't take the configuration"]


@pytest.mark.skipif(not words.is_24(), reason="2.3 takes any name in plugin {}")
def test_a_setting_that_only_ours_knows_is_named_where_it_isnt_installed(real):
    """Where this machine's own Dovecot has the packaged plugin."""
    if (module_dir() / "settings" / "libmail_crypt_settings.so").exists():
        pytest.skip("ours is installed here")
    ((check, about, fix),) = checks(real(conf(LINE, more="crypt_read_plain = no")))
    assert (check, about) == ("refused", "crypt_read_plain") and fix.startswith("take it out")


def test_what_cant_be_read_is_no_finding(tmp_path):
    def refused(*args, code, stdin=b""):
        done = subprocess.run([TOOL, "doctor", *map(str, args)], input=stdin, capture_output=True, timeout=60)
        assert done.returncode == code and done.stderr and not done.stdout, done

    other = tmp_path / "plugin crypt_x.conf"
    other.write_text(VERSIONS[LINE] + "no_such_setting = x\n")
    refused("--config", other, code=3)
    refused("--config", tmp_path / "none", code=3)
    refused("--doveconf", tmp_path / "none", code=3)
    refused("--doveconf", "-", stdin=b"mail_plugins = mail_crypt\n", code=3)
    refused("--doveconf", "-", stdin=HEAD["2.3"].encode() + b"plugin {\n", code=3)
    refused("--doveconf", "-", stdin=HEAD["2.3"].encode() + b"x = \xff\n", code=3)
    refused("--doveconf", "-", "--config", other, code=2)
    refused("--root", "/", code=2)
    refused("some-file", code=2)
    path = os.environ["PATH"]
    try:
        os.environ["PATH"] = str(tmp_path)
        refused(code=3)
    finally:
        os.environ["PATH"] = path


def test_hidden_passwords_are_said_to_be_unchecked(tmp_path, written):
    crypt = plugin("mail_crypt_private_password = # hidden, use -P to show it")
    said = written("2.3", conf("2.3", crypt=crypt))
    assert not said["findings"] and any("doveconf -n -P" in why for why in said["not_checked"])


def test_no_password_is_ever_shown(real, tmp_path):
    secret = "s3cr%t"
    crypt = {
        "2.3": plugin(f"mail_crypt_private_password = {secret}\n  mail_crypt_pasword = {secret}"),
        "2.4": f"crypt_user_key_password = {secret}",
    }[LINE]
    said = real(conf(LINE, crypt=crypt))
    assert secret not in json.dumps(said)


# What it says is so


@pytest.mark.skipif(words.is_24(), reason="2.4 has no plugin {}")
def test_2_3_changes_a_password_with_a_percent_sign(dovecot):
    server = dovecot(users={"jane": UserConfig()}, extra="plugin {\nmail_crypt_private_password = 100%%sure\n}\n")
    mail = Mail.make()
    server.deliver("jane", mail)
    (stored,) = server.store.stored("jane")
    args = ("decrypt", stored.path, "--attributes", server.store.home("jane") / "dovecot-attributes", "--password-stdin")
    assert tool(*args, stdin=b"100%sure").endswith(mail.lines)
    server.restart(extra="plugin {\nmail_crypt_private_password = 100%sure\n}\n")
    with pytest.raises(imaplib.IMAP4.error), server.imap("jane") as imap:
        imap.bodies()
    server.log.expect("wrong password for key")


def test_the_index_cache_stays_out_of_the_home(dovecot):
    folder = Path(tempfile.mkdtemp(prefix="mcd-", dir="/dev/shm"))
    folder.chmod(0o1777)
    place = {
        "2.3": f"mail_location = maildir:~/Maildir:INDEXCACHE={folder}/cache-%u\n",
        "2.4": f"mail_cache_path = {folder}/cache-%{{user}}\n",
    }[LINE]
    try:
        server = dovecot(users={"jane": UserConfig(CryptConfig(password="x"))}, extra=place)
        server.deliver("jane", Mail.make())
        with server.imap("jane") as imap:
            imap.folder("INBOX")
            assert imap.uid("FETCH", "1:*", "(ENVELOPE)")[0] == "OK"
        assert [path.name for path in folder.rglob("dovecot.index.cache")]
        assert not list(server.store.home("jane").rglob("dovecot.index.cache"))
    finally:
        shutil.rmtree(folder)
