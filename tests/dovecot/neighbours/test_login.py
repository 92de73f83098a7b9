"""What takes part in a login: last_login, a master user, Lua."""

from __future__ import annotations

import imaplib
import os

import pytest
from conf import need, plugins, settings
from harness import CryptConfig, Mail, UserConfig, clients, words
from harness.config import IMAP_PORT
from harness.instance import MAIL_GID, MAIL_UID
from harness.spoil import spoil

KEY = CryptConfig(password="of-the-key")


def log_in(server, user: str, password: str) -> clients.Imap:
    """A session of a user whom the harness doesn't know."""
    return clients.Imap(server.places.address, IMAP_PORT, user, password)


@pytest.mark.packaged_defect("hands out the damaged mail")
def test_last_login(dovecot):
    old = {"last_login_dict": "file:~/last-login", "last_login_key": "last-login/%u"}
    new = "last_login_key = last-login/%{user}\nlast_login {\ndict file {\npath = ~/last-login\n}\n}\n"
    extra = plugins("last_login", protocol="imap") + settings(old, new)
    server = dovecot(users={"alice": UserConfig(KEY)}, fetch_failure="no-after", extra=extra)
    spoilt = spoil(server, "alice")
    spoilt.check()
    assert "last-login/alice" in (server.store.home("alice") / "last-login").read_text()
    assert spoilt.in_files() == []


@pytest.mark.packaged_defect("hands out the damaged mail")
def test_a_master_user_reads_what_the_owner_can(dovecot, open_folder):
    masters = open_folder / "masters"
    masters.write_text("boss:{PLAIN}of-the-boss\n")
    if words.is_24():
        extra = f"auth_master_user_separator = *\npassdb masters {{\ndriver = passwd-file\nmaster = yes\npasswd_file_path = {masters}\n}}\n"
    else:
        extra = f"auth_master_user_separator = *\npassdb {{\ndriver = passwd-file\nmaster = yes\nargs = {masters}\n}}\n"
    server = dovecot(users={"alice": UserConfig(KEY)}, fetch_failure="no-after", extra=extra)
    spoilt = spoil(server, "alice")
    spoilt.expect()
    mark = server.log.mark()
    with log_in(server, "alice*boss", "of-the-boss") as session:
        session.folder()
        answer = session.fetch_uids()
        assert (answer.items, answer.status) == (spoilt.readable, "NO")
        late = Mail.make()
        assert session.put(late.data)[0] == "OK"
    spoilt.named(1, mark)
    spoilt.named(3, mark)
    with server.imap("alice") as session:
        session.folder()
        assert session.fetch_uids(uids="5").items == {5: late.data}
    assert spoilt.in_files() == []


#: The key's password is that of the login, so only a login has it.
LUA = """
function auth_passdb_lookup(req)
  if req.user ~= "lua" then return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, {{}} end
  return dovecot.auth.PASSDB_RESULT_OK, {{ password = "{{PLAIN}}of-lua", {fields}, ["userdb_{password}"] = "of-lua" }}
end
function auth_userdb_lookup(req)
  if req.user ~= "lua" then return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, {{}} end
  return dovecot.auth.USERDB_RESULT_OK, {{ {userdb} }}
end
function script_init() return 0 end
function script_deinit() end
function auth_userdb_iterate() return {{}} end
"""


def lua_auth(script) -> str:
    """Lua answers for users whom the passwd-file doesn't have."""
    if words.is_24():
        return f"passdb lua {{\nlua_file = {script}\n}}\nuserdb prefetch {{\n}}\nuserdb lua {{\nlua_file = {script}\n}}\n"
    return (
        f"passdb {{\ndriver = lua\nargs = file={script} blocking=no\n}}\nuserdb {{\ndriver = prefetch\n}}\n"
        f"userdb {{\ndriver = lua\nargs = file={script} blocking=no\n}}\n"
    )


def test_the_password_of_the_login_by_lua(dovecot, store, open_folder):
    need("auth/libauthdb_lua.so", "dovecot-auth-lua")
    script, home = open_folder / "auth.lua", store.home("lua")
    home.mkdir()
    home.chmod(0o777)
    uid, gid = (MAIL_UID, MAIL_GID) if os.getuid() == 0 else (os.getuid(), os.getgid())
    fields = {"uid": uid, "gid": gid, "home": home}
    text = LUA.format(
        fields=", ".join(f'userdb_{name} = "{value}"' for name, value in fields.items()),
        userdb=", ".join(f'{name} = "{value}"' for name, value in fields.items()),
        password=words.setting("mail_crypt_private_password"),
    )
    script.write_text(text)
    server = dovecot(users={"alice": UserConfig(KEY)}, store=store, extra=lua_auth(script))
    mails = [Mail.make(), Mail.make()]
    with log_in(server, "lua", "of-lua") as session:
        assert session.put(mails[0].data)[0] == "OK"
    # Delivering takes no password, and without one nothing is read.
    server.deliver("lua", mails[1])
    server.log.expect("Error: ")
    done = server.doveadm("fetch", "-u", "lua", "text", "all", check=False)
    assert done.returncode != 0 and not any(word.encode() in done.stdout for mail in mails for word in mail.words)
    with log_in(server, "lua", "of-lua") as session:
        first, second = session.bodies()
        assert first == mails[0].data and second.endswith(mails[1].data)
    with pytest.raises(imaplib.IMAP4.error):
        log_in(server, "lua", "another")
    assert server.store.find_words(server.store.path, mails[0].words + mails[1].words) == []
