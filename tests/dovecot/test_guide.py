"""What docs/operations.md says can be done can be done."""

from __future__ import annotations

import base64
import hashlib
import http.server
import imaplib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import urllib.parse
from pathlib import Path

import pytest
from harness import CryptConfig, Mail, UserConfig, words
from harness.config import IMAP_PORT
from harness.convert import encrypted
from harness.instance import MAIL_GID, MAIL_UID
from harness.modules import REPOSITORY
from harness.version import module_dir
from test_doveadm import rows
from test_tool import TOOL

GUIDE = (REPOSITORY / "docs" / "operations.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
USER = "/pvt/server/vendor/vendor.dovecot/pvt/crypt/"
CODE = re.compile(rb"(?:[0-9A-HJKMNP-TV-Z]{4}-){6}[0-9A-HJKMNP-TV-Z]{4}\n")
LINE = ("2.3", "2.4")[words.is_24()]
SETTING = words.setting("mail_crypt_private_password")
#: a word of each block -> the block
RECIPES = {
    word: [text for _, text in BLOCKS if word in text]
    for word in (
        '"sheet of 2026"', '"$code" | doveadm mailbox cryptokey slot test', '"$code" "$new_password"', '"second sheet"',
        "openssl genpkey", "mail_crypt_escrow_public_key = <", "crypt_escrow_public_key_file = ", "slot list -A",
        "export -A", "reset -u jane -k", "mail-crypt slots", "slot remove -A", "change_login", "-O -N",
        "wrong password for key", "printf '%s\\n' \"$password\" | doveadm mailbox cryptokey slot test", "--abandon",
        "cryptokey reopen", "--no-undo", "--needed", '"$old_folder_key"', "convert -u jane --dry-run", "convert -A --max-rate", "convert -A --dry-run",
        '"$retired_key"', "--to plain", "slot add -u jane -n phone", "auth_password_verify",
        "driver = lua", "passdb lua", "slot remove -u jane phone", "openssl rand", "-g -n sso", "AS mail_crypt_private_password",
        "AS crypt_user_key_password", "pass_attrs", "driver = oauth2", "pattern = ", "dict_map", "metrics.conf",
        "check -A 2>&1", "crypt check -u jane", "check -A --full",
        "--trees jane.fields",
    )
}  # fmt: skip

pytestmark = pytest.mark.packaged_refuses("it has no slots")


def block(word: str) -> str:
    """The block that has the word."""
    (found,) = RECIPES[word]
    return found


def test_every_block_is_known_to_these_tests():
    blocks = [text for _, text in BLOCKS]
    found = [text for texts in RECIPES.values() for text in texts]
    assert sorted(found) == sorted(blocks)
    used = Path(__file__).read_text().split("\n# The tests\n")[1]
    for word in RECIPES:
        assert json.dumps(word)[1:-1] in used or word in used, f"nobody tries: {word}"


# How they are run


#: What stands for the machine's own commands: nothing here asks a person.
SHELL = """
set -o pipefail
doveadm() { command doveadm -c "$config" "$@"; }
mail-crypt() { set -- "${@/#--password-prompt/--password-stdin}"; "$tool" "$@" <<<"$passphrase"; }
lpr() { cat >printed; }
change_login() { [ "$login_changes" = yes ]; }
openssl() {
    case $1 in
        genpkey) command openssl "$@" -pass env:passphrase ;;
        pkey) command openssl "$@" -passin env:passphrase ;;
        *) command openssl "$@" ;;
    esac
}
"""


class Guide:
    """A folder to run recipes in, against a server."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.server = None

    def here(self, text: str) -> str:
        """The paths of a recipe, in this folder."""
        for path in ("/etc/dovecot", "/media/safe"):
            text = text.replace(path, str(self.folder))
        # When cron runs it, and as whom.
        return re.sub(r"^30 3 \* \* \S+ root ", "", text, flags=re.MULTILINE)

    def run(self, word: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess:
        """The recipe, with these variables."""
        known = {"config": self.server.places.config if self.server else "", "tool": TOOL} | variables
        assigned = "".join(f"{name}={quoted(str(value))}\n" for name, value in known.items())
        exported = "export passphrase\n"
        script = self.folder / "recipe.sh"
        script.write_text(assigned + exported + SHELL + f"cd {self.folder}\n" + self.here(block(word)))
        argv = ["bash", str(script)]
        if self.server:
            done = self.server.run_program(argv, check=False)
        else:
            done = subprocess.run(argv, capture_output=True, check=False)
        if check:
            assert done.returncode == 0, done.stderr.decode()
            assert b"Error" not in done.stderr
        return done

    def read(self, name: str) -> str:
        """A file that a recipe has written."""
        return (self.folder / name).read_text().strip()


def quoted(text: str) -> str:
    """For bash."""
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.fixture
def guide():
    """In a folder that the mail's owner and auth can read."""
    folder = Path(tempfile.mkdtemp(prefix="mcg-", dir="/tmp"))
    folder.chmod(0o777)
    yield Guide(folder)
    shutil.rmtree(folder)


def jane(password: str | None, **more) -> UserConfig:
    """Her key's password as userdb has it; None: it comes with the login alone."""
    return UserConfig(CryptConfig(password=password), **more)


@pytest.fixture
def server(dovecot, guide):
    """Jane has a mail. Her password isn't known to commands."""
    guide.server = dovecot(users={"jane": jane("the-old-one")})
    guide.mail = Mail.make()
    guide.server.deliver("jane", guide.mail)
    guide.server.set_user("jane", jane(None))
    return guide.server


def reads(server, secret: str, *mails: Mail) -> bool:
    """Does Jane read exactly these mails, when her session has this secret?"""
    server.set_user("jane", jane(secret))
    try:
        with server.imap("jane") as imap:
            bodies = imap.bodies()
    except imaplib.IMAP4.error:
        server.log.expect("wrong password for key", "encrypted to key")
        return False
    finally:
        server.set_user("jane", jane(None))
    return len(bodies) == len(mails) and all(b.endswith(m.data) for b, m in zip(bodies, mails))


def user_keys(server) -> list[tuple[str, str]]:
    """Jane's keys: active or not, and their ids."""
    return [(row["active"], row["pubid"]) for row in rows(server, "list", "-U", user="jane")]


def slots(server) -> list[dict[str, str]]:
    """Jane's slots."""
    return json.loads(server.doveadm("-f", "json", "mailbox", "cryptokey", "slot", "list", "-u", "jane").stdout)


# The tests


def test_a_recovery_sheet(server, guide):
    guide.run('"sheet of 2026"', password="the-old-one")
    assert not (guide.folder / "jane.code").exists()
    code = guide.read("printed").splitlines()[-1]
    assert CODE.fullmatch(code.encode() + b"\n")
    typed = code.lower().replace("-", " ")
    assert b"recovery " in guide.run('"$code" | doveadm mailbox cryptokey slot test', code=typed).stdout
    assert reads(server, code, guide.mail)
    guide.run('"$code" "$new_password"', code=code, new_password="the-new-one")
    assert reads(server, "the-new-one", guide.mail) and not reads(server, "the-old-one", guide.mail)
    new = guide.read("jane.code")
    assert CODE.fullmatch(new.encode() + b"\n") and new != code
    assert not reads(server, code, guide.mail) and reads(server, new, guide.mail)
    guide.run('"second sheet"', password="the-new-one")
    assert not reads(server, new, guide.mail) and reads(server, guide.read("jane.code"), guide.mail)


def escrow(guide: Guide) -> str:
    """The key pair of the guide; its settings."""
    guide.run("openssl genpkey", passphrase="of-the-safe")
    assert "ENCRYPTED" in guide.read("escrow.pem")
    return guide.here(block({"2.3": "mail_crypt_escrow_public_key = <", "2.4": "crypt_escrow_public_key_file = "}[LINE]))


def test_escrow(dovecot, guide):
    users = {name: jane("the-old-one") for name in ("jane", "bob", "late")}
    settings = escrow(guide)
    guide.server = server = dovecot(users=users)
    mail = Mail.make()
    server.deliver("jane", "bob", mail)
    server.restart(extra=settings)
    assert guide.run("slot list -A").stdout == b"bob\njane\n"
    server.deliver("late", mail)
    assert guide.run("slot list -A").stdout == b"bob\njane\n", "a new key has no copy"
    with server.imap("bob") as imap:
        imap.bodies()
    assert guide.run("slot list -A").stdout == b"jane\n"
    guide.run("export -A")
    assert guide.run("slot list -A").stdout == b""
    # Given back
    guide.run("reset -u jane -k", passphrase="of-the-safe", new_password="the-new-one")
    assert reads(server, "the-new-one", mail) and not reads(server, "the-old-one", mail)
    # A backup
    (stored,) = server.store.stored("jane")
    backup = guide.folder / "backup" / "Maildir" / "cur"
    backup.mkdir(parents=True)
    shutil.copy(stored.path, backup / "1700000000.M1P1.host:2,S")
    shutil.copy(server.store.home("jane") / "dovecot-attributes", guide.folder / "backup")
    done = guide.run("mail-crypt slots", passphrase="of-the-safe")
    assert b"type: escrow" in done.stdout
    assert (guide.folder / "mail.eml").read_bytes().endswith(mail.lines)


def test_another_escrow_key(dovecot, guide):
    server = guide.server = dovecot(users={"jane": jane("the-old-one")}, extra=escrow(guide))
    server.deliver("jane", Mail.make())
    (guide.folder / "escrow.pem").unlink()
    (guide.folder / "escrow.pub.pem").rename(guide.folder / "old.pub.pem")
    settings = escrow(guide)
    name = words.setting("mail_crypt_escrow_public_key")
    second = name.replace("_key", "_key2")
    assert f"`{second}`" in GUIDE
    old = settings.replace(name, second).replace("escrow.pub.pem", "old.pub.pem")
    server.restart(extra=settings + old)
    assert guide.run("slot list -A").stdout == b"jane\n"
    guide.run("export -A")
    server.restart(extra=settings)
    guide.run("slot remove -A")
    assert guide.run("slot list -A").stdout == b""
    assert [row["slot"] for row in slots(server)] == ["escrow-2"]


@pytest.mark.parametrize("login_changes", ("yes", "no"))
def test_a_web_panel_changes_both_or_none(server, guide, login_changes):
    passwords = {"password": "the-old-one", "new_password": "the-new-one"}
    guide.run("change_login", login_changes=login_changes, **passwords)
    (now, before) = ("the-new-one", "the-old-one") if login_changes == "yes" else ("the-old-one", "the-new-one")
    assert reads(server, now, guide.mail) and not reads(server, before, guide.mail)


def test_a_panel_written_for_the_packaged_plugin(server, guide):
    guide.run("-O -N", password="the-old-one", new_password="the-new-one")
    assert reads(server, "the-new-one", guide.mail) and not reads(server, "the-old-one", guide.mail)


def test_drifted_passwords_are_found_and_mended(server, guide):
    mark = server.log.mark()
    assert not reads(server, "of-a-login", guide.mail)
    server.log.wait_for(block("wrong password for key").strip(), mark)
    tell = "printf '%s\\n' \"$password\" | doveadm mailbox cryptokey slot test"
    assert guide.run(tell, check=False, password="of-a-login").returncode == 65
    guide.run(tell, password="the-old-one")
    guide.run("change_login", login_changes="yes", password="the-old-one", new_password="of-a-login")
    assert reads(server, "of-a-login", guide.mail)


def test_a_forgotten_password_without_a_code(server, guide):
    guide.run("--abandon", new_password="the-new-one")
    later = Mail.make()
    server.deliver("jane", later)
    server.set_user("jane", jane("the-new-one"))
    with server.imap("jane") as imap:
        imap.folder()
        answer = imap.fetch_uids(uids="2")
        assert answer.items[2].endswith(later.data)
    server.set_user("jane", jane(None))
    assert [active for active, _ in user_keys(server)] == ["yes", "locked"]
    guide.run("-O -N", password="the-new-one", new_password="another-one")
    guide.run("cryptokey reopen", old_password="the-old-one", new_password="another-one")
    assert [active for active, _ in user_keys(server)] == ["yes", "no"]
    assert reads(server, "another-one", guide.mail, later)


def test_a_password_that_somebody_else_knows(server, guide):
    attributes = server.store.home("jane") / "dovecot-attributes"
    guide.run('"sheet of 2026"', password="the-old-one")
    old_copy = attributes.read_bytes()
    ((_, old_user_key),) = user_keys(server)
    ((old_folder_key,),) = server.store.folder_keys("jane").values()
    old_sheet = guide.read("printed").splitlines()[-1]
    guide.run("--no-undo", password="the-old-one", new_password="the-new-one")
    later = Mail.make()
    server.deliver("jane", later)
    assert reads(server, "the-new-one", guide.mail, later)
    assert reads(server, guide.read("jane.code"), guide.mail, later) and not reads(server, old_sheet, guide.mail, later)
    server.set_user("jane", jane("the-new-one"))
    done = guide.run("--needed", old_user_key=old_user_key)
    assert b"needed by nothing" in done.stderr
    assert old_user_key not in dict(map(reversed, user_keys(server)))
    guide.run('"$old_folder_key"', old_folder_key=old_folder_key)
    with server.imap("jane") as imap:
        assert all(b.endswith(m.data) for b, m in zip(imap.bodies(), (guide.mail, later), strict=True))
    # Whoever has the old password and the old dict opens nothing of what is there now.
    attributes.write_bytes(old_copy)
    server.log.expect("no private key")
    server.set_user("jane", jane("the-old-one"))
    with server.imap("jane") as imap:
        imap.folder()
        with pytest.raises(imaplib.IMAP4.abort, match="There is no key for this mail"):
            imap.fetch_uids()


def test_mail_from_before_encryption(dovecot, guide):
    plain = {name: UserConfig(CryptConfig(save_version=0)) for name in ("jane", "bob")}
    server = guide.server = dovecot(users=dict(plain))
    mail = Mail.make()
    server.deliver("jane", "bob", mail)
    for name in plain:
        # Who has no encryption is passed over.
        assert guide.run("convert -A --dry-run").stdout in (b"", b"jane\n")
        server.set_user(name, UserConfig(CryptConfig()))
    assert guide.run("convert -A --dry-run").stdout == b"bob\njane\n"
    guide.run("convert -u jane --dry-run")
    assert [encrypted(server, name) for name in plain] == [[True], [False]]
    assert guide.run("convert -A --dry-run").stdout == b"bob\n"
    guide.run("convert -A --max-rate")
    assert guide.run("convert -A --dry-run").stdout == b""
    assert encrypted(server, "bob") == [True]
    # A key is retired.
    ((old,),) = server.store.folder_keys("jane").values()
    guide.run('"$retired_key"', retired_key=old)
    ((new,),) = server.store.folder_keys("jane").values()
    assert new != old
    setting = (words.setting("mail_crypt_read_plain"), "no")
    server.set_user("jane", UserConfig(CryptConfig(), extra=(setting,)))
    with server.imap("jane") as imap:
        assert imap.bodies()[0].endswith(mail.data)
    # And back
    server.set_user("jane", plain["jane"])
    guide.run("--to plain")
    assert encrypted(server, "jane") == [False]
    with server.imap("jane") as imap:
        assert imap.bodies()[0].endswith(mail.data)


def log_in(server, mechanism: str, secret: str) -> imaplib.IMAP4:
    """Jane's session by other means than the harness's own."""
    session = imaplib.IMAP4(server.places.address, IMAP_PORT)
    if mechanism == "LOGIN":
        session.login("jane", quoted(secret)[1:-1])
    else:
        session.authenticate(mechanism, lambda _: f"n,a=jane,\x01auth=Bearer {secret}\x01\x01".encode())
    return session


def has_read(session: imaplib.IMAP4, mail: Mail) -> bool:
    """Whether the one mail can be read."""
    session.select()
    try:
        (status, data) = session.fetch("1", "(BODY.PEEK[])")
    except imaplib.IMAP4.error:
        return False
    return status == "OK" and isinstance(data[0], tuple) and data[0][1].endswith(mail.data)


def need(module: str, package: str) -> None:
    """Skip where the Dovecot at hand hasn't got it."""
    if not (module_dir() / "auth" / module).exists():
        pytest.skip(f"{package} is not installed, or not for this Dovecot")


def userdb(guide: Guide, home: Path) -> str:
    """A userdb that knows Jane, and none of her secrets; its settings."""
    home.mkdir(exist_ok=True)
    home.chmod(0o777)
    uid, gid = (MAIL_UID, MAIL_GID) if os.getuid() == 0 else (os.getuid(), os.getgid())
    users = guide.folder / "people"
    users.write_text(f"jane::{uid}:{gid}::{home}::\n")
    guide.ids = uid, gid
    if words.is_24():
        return f"userdb people {{\ndriver = passwd-file\npasswd_file_path = {users}\n}}\n"
    return f"userdb {{\ndriver = passwd-file\nargs = {users}\n}}\n"


def test_app_passwords(dovecot, store, guide):
    need("libauthdb_lua.so", "dovecot-auth-lua")
    extra = userdb(guide, store.home("jane")) + guide.here(block({"2.3": "driver = lua", "2.4": "passdb lua"}[LINE]))
    script = guide.here(block("auth_password_verify")).replace("mail_crypt_private_password", SETTING)
    (guide.folder / "login.lua").write_text(script)
    hashes = guide.folder / "passwords" / "jane"
    hashes.parent.mkdir()
    hashes.write_text("{PLAIN}the-old-one\n")
    server = guide.server = dovecot(users={"bob": UserConfig()}, store=store, extra=extra)
    mail = Mail.make()
    with log_in(server, "LOGIN", "the-old-one") as session:
        session.append("INBOX", None, None, mail.data)
    guide.run("slot add -u jane -n phone", password="the-old-one")
    app = guide.read("jane.app")
    assert len(hashes.read_text().splitlines()) == 2
    for secret in ("the-old-one", app):
        with log_in(server, "LOGIN", secret) as session:
            assert has_read(session, mail)
    with pytest.raises(imaplib.IMAP4.error):
        log_in(server, "LOGIN", "another")
    guide.run("slot remove -u jane phone")
    assert slots(server) == []


def test_a_secret_from_sql(dovecot, store, guide):
    need("libdriver_sqlite.so", "dovecot-sqlite")
    home = store.home("jane")
    userdb(guide, home)
    if words.is_24():
        extra = guide.here(block("AS crypt_user_key_password"))
    else:
        (guide.folder / "sql").write_text(guide.here(block("AS mail_crypt_private_password")))
        extra = "".join(f"{db} {{\ndriver = sql\nargs = {guide.folder}/sql\n}}\n" for db in ("passdb", "userdb"))
    secret = guide.run("openssl rand").stdout.decode().strip()
    assert len(base64.b64decode(secret)) >= 16
    table = sqlite3.connect(guide.folder / "users.db")
    table.execute("CREATE TABLE users (userid, password, home, uid, gid, mail_secret)")
    row = ("jane", "{PLAIN}of-the-login", str(home), *guide.ids, None)
    table.execute("INSERT INTO users VALUES (?, ?, ?, ?, ?, ?)", row)
    table.commit()
    (guide.folder / "users.db").chmod(0o666)
    server = guide.server = dovecot(users={"bob": UserConfig()}, store=store, extra=extra)
    mail = Mail.make()
    # Her key is under a password that nobody but she knows.
    server.set_user("jane", jane("the-old-one"))
    server.deliver("jane", mail)
    server.set_user("jane", jane(None))
    guide.run("-g -n sso", password="the-old-one", secret=secret)
    del server.users["jane"]
    server.set_user("bob", UserConfig())
    table.execute("UPDATE users SET mail_secret = ?", (secret,))
    table.commit()
    with log_in(server, "LOGIN", "of-the-login") as session:
        assert has_read(session, mail)
    assert mail.words[0].encode() in server.doveadm("fetch", "-u", "jane", "text", "all").stdout
    # A new user's key is under the secret itself.
    server.store.drop_attributes("jane", ".")
    server.doveadm("mailbox", "cryptokey", "generate", "-u", "jane", "-U")
    told = guide.run("printf '%s\\n' \"$password\" | doveadm mailbox cryptokey slot test", password=secret)
    assert re.search(rb"^ +[0-9a-f]{64}", told.stdout, re.MULTILINE)


class Provider(http.server.BaseHTTPRequestHandler):
    """Answers what a token is."""

    secret = ""

    def do_POST(self):
        """The introspection of RFC 7662."""
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        (token,) = urllib.parse.parse_qs(asked)["token"]
        answer = {"active": token == "a-good-token", "username": "jane", "mail_secret": self.secret}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Nothing."""


@pytest.mark.skipif(words.is_24(), reason="the guide has no recipe for 2.4")
def test_a_secret_from_oauth2(dovecot, store, guide):
    provider = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{provider.server_port}/introspect"
    there = lambda text: guide.here(text).replace("https://id.example.org/introspect", url)  # noqa: E731
    (guide.folder / "oauth2.conf.ext").write_text(there(block("pass_attrs")))
    extra = there(block("driver = oauth2"))
    extra += userdb(guide, store.home("jane"))
    Provider.secret = guide.run("openssl rand").stdout.decode().strip()
    server = guide.server = dovecot(users={"bob": UserConfig()}, store=store, extra=extra)
    server.set_user("jane", jane("the-old-one"))
    mail = Mail.make()
    server.deliver("jane", mail)
    server.set_user("jane", jane(None))
    guide.run("-g -n sso", password="the-old-one", secret=Provider.secret)
    del server.users["jane"]
    server.set_user("bob", UserConfig())
    with log_in(server, "OAUTHBEARER", "a-good-token") as session:
        assert has_read(session, mail)
    with pytest.raises(imaplib.IMAP4.error):
        log_in(server, "OAUTHBEARER", "a-bad-token")
    provider.shutdown()


@pytest.mark.parametrize("there", (True, False))
def test_slots_in_sql_have_a_place(dovecot, guide, there):
    """With the map there is one; with those of the packaged plugin's keys alone there is none, and nothing is lost."""
    need("../dict/libdriver_sqlite.so", "dovecot-sqlite")
    slots_map = block({"2.3": "pattern = ", "2.4": "dict_map"}[LINE])
    (name,) = re.findall(r"^(priv/\S+/slots)$", GUIDE, re.MULTILINE)
    assert name.removesuffix("slots") + "$name" in slots_map
    settings = sql_dict(guide, slots_map if there else "")
    server = guide.server = dovecot(users={"jane": jane("the-old-one")}, attribute_dict=None, extra=settings)
    mail = Mail.make()
    server.deliver("jane", mail)
    if not there:
        server.log.expect("Error: ", "can't be undone")
    done = server.doveadm("mailbox", "cryptokey", "slot", "add", "-u", "jane", "recovery", stdin=b"", check=False)
    assert (done.returncode == 0) == there, done.stderr
    done = server.doveadm("mailbox", "cryptokey", "password", "-u", "jane", "-n", "-", stdin=b"the-new-one\n")
    assert (b"can't be undone" in done.stderr) == (not there)
    assert reads(server, "the-new-one", mail)


def test_without_a_place_for_escrow_no_user_key_is_made(dovecot, guide):
    need("../dict/libdriver_sqlite.so", "dovecot-sqlite")
    settings = escrow(guide) + sql_dict(guide, "")
    server = guide.server = dovecot(users={"jane": jane("the-old-one")}, attribute_dict=None, extra=settings)
    server.log.expect("Error: ")
    assert server.try_deliver("jane", Mail.make())


def sql_map(pattern: str, table: str, key: str, of_user: bool) -> str:
    """A map of names with one variable word."""
    user = "username_field = username\n" if of_user else ""
    if words.is_24():
        fields = "".join(f"key_field {name} {{\nvalue = ${name}\n}}\n" for name in ("mailbox", key))
        return f"dict_map {pattern} {{\nsql_table = {table}\n{user}{fields}value_field value {{\n}}\n}}\n"
    return (
        f"map {{\npattern = {pattern}\ntable = {table}\n{user}value_field = value\n"
        f"fields {{\nmailbox = $mailbox\n{key} = ${key}\n}}\n}}\n"
    )


def sql_dict(guide: Guide, slots_map: str) -> str:
    """Attributes in SQL, by the maps of the packaged plugin's keys and this one."""
    pvt = "vendor/vendor.dovecot/pvt"
    tables, maps = {"user_slots": ("mailbox", "name", "username")}, ""
    for owner, crypt in (("folder", f"{pvt}/crypt"), ("user", f"{pvt}/server/{pvt}/crypt")):
        for kind, pattern, key in (
            ("pubkeys", f"shared/$mailbox/{crypt}/pubkeys/$id", "id"),
            ("privkeys", f"priv/$mailbox/{crypt}/privkeys/$id", "id"),
            ("active", f"shared/$mailbox/{crypt}/$name", "name"),
        ):
            of_user = kind == "privkeys"
            tables[f"{owner}_{kind}"] = ("mailbox", key, "username") if of_user else ("mailbox", key)
            maps += sql_map(pattern, f"{owner}_{kind}", key, of_user)
    file = guide.folder / "keys.db"
    with sqlite3.connect(file) as database:
        for table, columns in tables.items():
            typed = ", ".join(f"{column} TEXT" for column in columns)
            database.execute(f"CREATE TABLE {table} ({typed}, value TEXT, PRIMARY KEY ({', '.join(columns)}))")
    file.chmod(0o666)
    service = "service dict {\nunix_listener dict {\nmode = 0666\n}\n}\n"
    if words.is_24():
        return (
            f"dict_server {{\ndict attributes {{\ndriver = sql\nsql_driver = sqlite\nsqlite_path = {file}\n{maps}{slots_map}}}\n}}\n"
            f"mail_attribute {{\ndict proxy {{\nname = attributes\n}}\n}}\n{service}"
        )
    (guide.folder / "maps").write_text(f"connect = {file}\n{maps}{slots_map}")
    return f"mail_attribute_dict = proxy::attributes\ndict {{\nattributes = sqlite:{guide.folder}/maps\n}}\n{service}"


def test_argon2id_and_the_way_back_to_the_packaged_plugin(dovecot):
    """What docs/security.md says of it."""
    argon2id = ((words.setting("mail_crypt_password_kdf"), "argon2id"),)
    server = dovecot(users={"jane": jane("the-old-one", extra=argon2id)})
    mail = Mail.make()
    server.deliver("jane", mail)
    server.restart(plugin="packaged")
    server.log.expect("Error: ")
    mark = server.log.mark()
    with server.imap("jane") as imap, pytest.raises(imaplib.IMAP4.abort):
        imap.bodies()
    server.log.wait_for("Private key (not available|[0-9a-f]+ not available)", mark)
    server.restart(plugin="ours")
    server.set_user("jane", jane("the-old-one"))
    server.doveadm("mailbox", "cryptokey", "password", "-u", "jane", "--compat")
    server.restart(plugin="packaged")
    with server.imap("jane") as imap:
        assert imap.bodies()[0].endswith(mail.data)


def test_metrics_are_where_the_package_has_them():
    (path,) = re.findall(r"/usr/share/doc/dovecot-mail-crypt/(\S+)", block("metrics.conf"))
    assert (REPOSITORY / path).exists()


@pytest.mark.parametrize(
    ("source", "manual", "count"),
    (
        ("doveadm/doveadm-mail-crypt.c", "doveadm-mailbox-cryptokey", 13),
        ("convert/mail-crypt-convert.c", "doveadm-mailbox-crypt", 1),
    ),
)
def test_the_manual_has_every_command_with_its_options(source, manual, count):
    source = (REPOSITORY / "c-shim" / source).read_text()
    manual = (REPOSITORY / "man" / f"{manual}.1.scd").read_text()
    synopsis = manual.split("# SYNOPSIS")[1].split("# DESCRIPTION")[0]
    commands = source.split(".name = \"mailbox ")[1:]
    assert len(commands) == count
    for command in commands:
        name = "mailbox " + command.split('"')[0]
        lines = [line for line in synopsis.splitlines() if f"*{name}*" in line]
        assert lines, name
        for flag, _ in re.findall(r"DOVEADM_CMD_PARAM\('(\w)', \"([\w-]+)\"", command):
            assert re.search(rf"\*(key )?-\w*{flag}\w*\*", " ".join(lines)), f"{name}: -{flag}"


def test_a_mail_of_trees_from_a_backup(guide):
    vectors = REPOSITORY / "tests" / "vectors" / "trees"
    cur = guide.folder / "backup" / "cur"
    cur.mkdir(parents=True)
    shutil.copy(vectors / "chunk.trees", cur / "1700000000.M1P1.host:2,S")
    shutil.copy(vectors / "argon2id.fields", guide.folder / "jane.fields")
    guide.run("--trees jane.fields", passphrase="c0rrect-h0rse")
    found = hashlib.sha256((guide.folder / "mail.eml").read_bytes()).hexdigest()
    assert f"{found}  chunk" in (vectors / "SHA256SUMS").read_text().splitlines()


def test_a_nightly_check(server, guide):
    """It says nothing while there is nothing to say."""
    for nightly in ("check -A 2>&1", "check -A --full"):
        assert guide.run(nightly).stdout == b""
    (stored,) = server.store.stored("jane")
    stored.flip(-1)
    # Her password isn't known to commands.
    assert guide.run("check -A --full").stdout == b""
    server.set_user("jane", jane("the-old-one"))
    assert b"1 problem" in guide.run("check -A --full").stdout
    assert guide.run("check -A 2>&1").stdout == b""
    stored.flip(0)
    said = guide.run("check -A 2>&1").stdout.decode().splitlines()
    assert [line.split(":")[0] for line in said] == ["jane", "TOTAL of 1 users"]
    done = guide.run("crypt check -u jane", check=False)
    assert done.returncode == 65
    assert re.search(rb"^PROBLEM: INBOX: UID 1 \(GUID \S+\): .*Restore it from a backup; ", done.stdout, re.MULTILINE)
