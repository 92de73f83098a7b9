"""Dovecot 2.4 knows the settings that only ours has by a module of ours: what it says where that is missing, or another."""

from __future__ import annotations

import contextlib
import imaplib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import CryptConfig, DovecotVersion, Key, Mail, UserConfig, modules
from test_keys import PASSWORD, check_refused, deliver_and_read
from test_settings_user_keys import alice, rounds

pytestmark = pytest.mark.skipif(
    DovecotVersion.installed().line != "2.4", reason="these are Dovecot 2.4's settings"
)

ours_only = pytest.mark.packaged_refuses("it has no such settings")
SETTING = "crypt_password_rounds = 7\n"


@pytest.fixture
def folder(monkeypatch, tmp_path) -> Path:
    """A module folder of ours to be changed, that the next instance takes."""
    if not modules.can_mount():
        pytest.skip("the config process looks into the installed folder only")
    folder = tmp_path / "modules"
    shutil.copytree(modules.staged_folder(), folder)
    folder.chmod(0o755)
    monkeypatch.setattr(modules, "stage", lambda plugin, under: folder)
    return folder


@ours_only
def test_doveconf_shows_what_holds(dovecot):
    server = dovecot(users=alice(), extra=SETTING)
    command = ["doveconf", "-c", str(server.places.config)]
    shown = server.run_program([*command, "-n"]).stdout.decode()
    assert re.search("^crypt_password_rounds = 7$", shown, re.MULTILINE)
    assert "crypt_password_kdf" not in shown
    shown = server.run_program([*command, "-d", "crypt_password_rounds", "crypt_password_kdf"])
    assert shown.stdout.decode().split() == "crypt_password_rounds = 100000 crypt_password_kdf = pbkdf2".split()


@ours_only
def test_without_the_module_dovecot_works_as_long_as_nobody_asks(dovecot, folder):
    """So it is, too, between an installation and the restart."""
    (folder / modules.SETTINGS).unlink()
    server = dovecot(users=alice())
    deliver_and_read(server)
    assert rounds(server.store) == 100_000


@ours_only
def test_without_the_module_dovecot_refuses_the_setting(dovecot, folder):
    (folder / modules.SETTINGS).unlink()
    with pytest.raises(RuntimeError, match="Unknown setting: crypt_password_rounds"):
        dovecot(users=alice(), extra=SETTING)


@ours_only
@pytest.mark.parametrize(
    "name", ("mail_crypt_password_rounds", "mail_crypt_password_kdf", "mail_crypt_escrow_public_key3")
)
def test_without_the_module_a_field_makes_no_user_key(dovecot, folder, name):
    (folder / modules.SETTINGS).unlink()
    fields = {name: Key.ec().public_setting()}
    server = dovecot(users=alice(**fields))
    ((new, _),) = alice(**fields)["alice"].extra
    check_refused(server, names=[f"alice.* userdb field {new} is unknown .*, restart Dovecot"])
    assert not server.store.attributes("alice")
    server.set_user("alice", alice()["alice"])
    deliver_and_read(server)
    server.set_user("alice", alice(**fields)["alice"])
    deliver_and_read(server)


@ours_only
def test_without_the_module_a_field_about_reading_serves_nothing(dovecot, folder):
    (folder / modules.SETTINGS).unlink()
    server = dovecot(users=alice(mail_crypt_read_plain="no"))
    check_refused(server, names=["alice.*userdb field crypt_read_plain is unknown .*, restart Dovecot"])


@ours_only
def test_a_missing_key_file_doesnt_open_the_door_to_plaintext(dovecot, store):
    """What reading needs doesn't fail with the rest."""
    plain = UserConfig(CryptConfig(save_version=0, password=PASSWORD))
    dovecot(store=store, users={"alice": plain}).deliver("alice", Mail.make())
    extra = (("crypt_escrow_public_key_file", "/nonexistent/escrow.pem"), ("crypt_read_plain", "no"))
    users = {"alice": UserConfig(CryptConfig(password=PASSWORD), extra=extra)}
    server = dovecot(store=store, users=users)
    server.log.expect("Error:")
    with server.imap("alice") as session, contextlib.suppress(imaplib.IMAP4.abort):
        session.folder()
        assert not session.fetch_uids().items
    server.log.wait_for("it is stored in plaintext, and crypt_read_plain = no")


@ours_only
def test_a_module_of_another_release_makes_no_user_key_and_stops_no_reading(dovecot, folder, tmp_path):
    """As between an upgrade of ours and the restart."""
    with_one_setting_more(folder / modules.SETTINGS, tmp_path)
    server = dovecot(users=alice())
    check_refused(server, names=["alice.* dovecot_mail_crypt_keys .*mismatch.*another release of the plugin: restart"])
    assert not server.store.attributes("alice")


def with_one_setting_more(module: Path, tmp_path: Path) -> None:
    """Replaces the module by one of another release."""
    asked = ["make", "--no-print-directory", "-s", "--eval=flags: ; @echo '$(shim_cflags)'", "flags"]
    flags = subprocess.run(asked, cwd=modules.REPOSITORY, capture_output=True, text=True, check=True).stdout
    source = modules.REPOSITORY / "c-shim"
    text = (source / "common" / "own-settings.c").read_text()
    end = "crypt_escrow_public_key4_file),\n"
    more = '\t{ .type = SET_STR, .key = "crypt_password_more", .offset = sizeof(pool_t) },\n'
    assert text.count(end) == 1
    other = tmp_path / "own-settings.c"
    other.write_text(text.replace(end, end + more))
    files = [str(source / "settings" / "mail-crypt-settings.c"), str(other)]
    command = f"cc {flags.strip()} -shared -o '{module}' {' '.join(files)}"
    subprocess.run(["sh", "-c", command], cwd=modules.REPOSITORY, check=True, timeout=120)


@ours_only
def test_a_module_for_another_dovecot_is_left_out(dovecot, folder):
    """As between an upgrade of Dovecot and our next installation."""
    module = folder / modules.SETTINGS
    built_for, count = re.subn(rb"2\.4\.ABIv\d", b"2.4.ABIvX", module.read_bytes())
    assert count
    module.write_bytes(built_for)
    server = dovecot(users=alice())
    server.log.expect("Couldn't load plugin .*libmail_crypt_settings.so: Module is for different ABI")
    deliver_and_read(server)
    with pytest.raises(RuntimeError, match="Unknown setting: crypt_password_rounds"):
        dovecot(users=alice(), extra=SETTING)


@ours_only
def test_a_key_file_of_one_user_that_is_missing_makes_no_user_key(dovecot):
    extra = (("crypt_escrow_public_key_file", "/nonexistent/escrow.pem"),)
    server = dovecot(users={"alice": UserConfig(CryptConfig(password=PASSWORD), extra=extra)})
    check_refused(server, names=["alice.*crypt_escrow_public_key_file.*/nonexistent/escrow.pem"])
    assert not server.store.attributes("alice")
    server.set_user("alice", alice()["alice"])
    deliver_and_read(server)


@ours_only
def test_an_empty_key_file_is_named(dovecot, tmp_path):
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    server = dovecot(users=alice(), extra=f"crypt_escrow_public_key4_file = {empty}\n")
    check_refused(server, names=[f"alice.*crypt_escrow_public_key4_file: {empty} is empty"])


def test_the_packaged_plugins_dovecot_refuses_the_setting(dovecot):
    """So it has to go before ours does."""
    with pytest.raises(RuntimeError, match="Unknown setting: crypt_password_rounds"):
        dovecot(plugin="packaged", users=alice(), extra=SETTING)


def test_the_packaged_plugin_ignores_the_field(dovecot, store):
    fields = {"mail_crypt_password_rounds": "7"}
    deliver_and_read(dovecot(store=store, users=alice(**fields)))
    deliver_and_read(dovecot(store=store, plugin="packaged", users=alice(**fields)))
