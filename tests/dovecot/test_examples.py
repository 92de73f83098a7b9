"""What is in examples/ works as it is: only paths and ids are the test's own."""

from __future__ import annotations

import contextlib
import glob
import imaplib
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Mail, UserConfig, words
from harness.config import IMAP_PORT
from harness.instance import MAIL_GID, MAIL_UID
from harness.modules import REPOSITORY
from test_guide import need

pytestmark = pytest.mark.packaged_refuses("what is ours is in it")

EXAMPLES = REPOSITORY / "examples" / f"dovecot-{('2.3', '2.4')[words.is_24()]}"
LOGIN = "of-the-login"
MAGIC = b"CRYPTED\x03\x07"


class Place:
    """Where the files of an example lie, and the homes of its users."""

    def __init__(self, folder: Path, homes: Path):
        self.folder = folder
        self.homes = homes
        self.ids = (MAIL_UID, MAIL_GID) if os.getuid() == 0 else (os.getuid(), os.getgid())
        for name in ("jane", "ann", "pat"):
            home = homes / name
            home.mkdir(mode=0o700)
            if os.getuid() == 0:
                os.chown(home, *self.ids)

    def text(self, name: str) -> str:
        """An example, with the test's paths and ids."""
        text = (EXAMPLES / name).read_text()
        for theirs, ours in (
            ("/etc/dovecot", str(self.folder)),
            ("/srv/mail", str(self.homes)),
            ("5000:5000", "{}:{}".format(*self.ids)),
            ("5000, 5000", "{}, {}".format(*self.ids)),
            ('uid = "5000", gid = "5000"', 'uid = "{}", gid = "{}"'.format(*self.ids)),
        ):
            text = text.replace(theirs, ours)
        return text

    def put(self, name: str, to: str) -> None:
        """An example where its configuration has it."""
        file = self.folder / to
        file.write_text(self.text(name))
        file.chmod(0o644)


@pytest.fixture
def place(store):
    """In a folder that auth can read."""
    folder = Path(tempfile.mkdtemp(prefix="mce-", dir="/tmp"))
    folder.chmod(0o755)
    yield Place(folder, store.path)
    shutil.rmtree(folder)


def passwd_file(place: Place) -> str:
    place.put("userdb/passwd-file.users", "users")
    return place.text("userdb/passwd-file.conf")


def sql(place: Place, kind: str) -> str:
    """The configuration, the table's name apart."""
    if words.is_24():
        return place.text(f"userdb/sql-{kind}.conf")
    place.put(f"userdb/sql-{kind}.conf.ext", "sql.conf.ext")
    return place.text("userdb/sql.conf")


def sqlite(place: Place) -> str:
    need("libdriver_sqlite.so", "dovecot-sqlite")
    file = place.folder / "users.db"
    with sqlite3.connect(file) as database:
        database.executescript(place.text("userdb/sql-sqlite.sql"))
    file.chmod(0o644)
    return sql(place, "sqlite")


def lua(place: Place) -> str:
    need("libauthdb_lua.so", "dovecot-auth-lua")
    place.put("userdb/lua.lua", "users.lua")
    return place.text("userdb/lua.conf")


@contextlib.contextmanager
def running(argv: list[str], account: str | None, ready: Callable[[], bool]):
    """A server of somebody else's, until the end of the test."""
    with open(os.devnull, "wb") as nowhere:
        server = subprocess.Popen(argv, user=account, stdout=nowhere, stderr=nowhere)
    try:
        until = time.monotonic() + 60
        while not ready():
            assert server.poll() is None and time.monotonic() < until, f"{argv[0]} doesn't start"
            time.sleep(0.1)
        yield
    finally:
        server.kill()
        server.wait()


def needs_root(*programs: str) -> None:
    """Skip where a database that runs under an account of its own can't be started."""
    if os.getuid() != 0 or not all(map(os.path.exists, programs)):
        pytest.skip("it takes root, and " + " and ".join(programs))


@contextlib.contextmanager
def postgresql(place: Place):
    need("libdriver_pgsql.so", "dovecot-pgsql")
    programs = max(glob.glob("/usr/lib/postgresql/*/bin"), default="/usr/lib/postgresql")
    needs_root(f"{programs}/initdb")
    data, sockets = place.folder / "data", place.folder / "sockets"
    for folder in (data, sockets):
        folder.mkdir()
        shutil.chown(folder, "postgres")
    as_postgres = {"user": "postgres", "check": True, "capture_output": True, "text": True}
    subprocess.run([f"{programs}/initdb", "-D", data, "-A", "trust", "-U", "postgres"], **as_postgres)
    psql = ["psql", "-h", str(sockets), "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-q"]
    ready = lambda: subprocess.run([*psql, "-c", "SELECT 1"], capture_output=True, check=False).returncode == 0  # noqa: E731
    with running([f"{programs}/postgres", "-D", str(data), "-k", str(sockets), "-h", ""], "postgres", ready):
        subprocess.run([*psql, "-c", "CREATE ROLE dovecot LOGIN", "-c", "CREATE DATABASE mail"], **as_postgres)
        table = place.text("userdb/sql-postgresql.sql") + "GRANT SELECT ON users TO dovecot;\n"
        subprocess.run([*psql, "mail"], input=table, **as_postgres)
        extra = sql(place, "postgresql")
        if not words.is_24():
            file = place.folder / "sql.conf.ext"
            file.write_text(file.read_text().replace("/run/postgresql", str(sockets)))
        yield extra.replace("/run/postgresql", str(sockets))


SLAPD = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include {folder}/ldap.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
database mdb
suffix dc=example,dc=org
directory {folder}/data
rootdn cn=dovecot,dc=example,dc=org
rootpw secret
"""


@contextlib.contextmanager
def ldap(place: Place):
    need("libauthdb_ldap.so", "dovecot-ldap")
    needs_root("/usr/sbin/slapd", "/usr/sbin/slapadd")
    (place.folder / "data").mkdir()
    place.put("userdb/ldap.schema", "ldap.schema")
    conf = place.folder / "slapd.conf"
    conf.write_text(SLAPD.format(folder=place.folder))
    entries = place.text("userdb/ldap.ldif").replace("uidNumber: 5000", f"uidNumber: {place.ids[0]}")
    entries = entries.replace("gidNumber: 5000", f"gidNumber: {place.ids[1]}")
    add = ["slapadd", "-f", str(conf)]
    subprocess.run(add, input=entries, text=True, check=True, capture_output=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"ldap://127.0.0.1:{probe.getsockname()[1]}"

    def answers() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", int(uri.rsplit(":", 1)[1]))) == 0

    with running(["slapd", "-d", "0", "-f", str(conf), "-h", uri], None, answers):
        there = lambda text: text.replace("ldap://127.0.0.1", uri)  # noqa: E731
        if not words.is_24():
            place.put("userdb/ldap.conf.ext", "ldap.conf.ext")
            file = place.folder / "ldap.conf.ext"
            file.write_text(there(file.read_text()))
        yield there(place.text("userdb/ldap.conf"))


BACKENDS = {"passwd-file": passwd_file, "sqlite": sqlite, "lua": lua}
SERVERS = {"postgresql": postgresql, "ldap": ldap}


def start(dovecot, store, extra: str):
    """A server with the example's mail_crypt and these users, and no other settings of the plugin."""
    conf = (EXAMPLES / "conf.d" / "90-mail-crypt.conf").read_text()
    server = dovecot(
        crypt=None, attribute_dict=None, users={"bob": UserConfig()}, store=store, extra=conf + extra
    )
    said = server.run_program(["doveconf", "-n", "-c", str(server.places.config)])
    assert not said.stderr, said.stderr.decode()
    return server


def logged_in(server, user: str) -> imaplib.IMAP4:
    """A session with the password of the login."""
    session = imaplib.IMAP4(server.places.address, IMAP_PORT)
    session.login(user, LOGIN)
    session.select()
    return session


def bodies(session: imaplib.IMAP4) -> list[bytes]:
    """All mail."""
    _, found = session.uid("FETCH", "1:*", "(BODY.PEEK[])")
    return [item[1] for item in found if isinstance(item, tuple)]


def are_encrypted(server, user: str) -> list[bool]:
    """Each mail on disk."""
    return [path.read_bytes().startswith(MAGIC) for path in server.store.mail_files(user)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_passwords_secrets_and_those_who_have_not_asked_for_it(dovecot, store, place, backend):
    check(start(dovecot, store, BACKENDS[backend](place)))


@pytest.mark.parametrize("backend", SERVERS)
def test_the_same_from_a_server(dovecot, store, place, backend):
    with SERVERS[backend](place) as extra:
        server = start(dovecot, store, extra)
        check(server)
        # Before what it is connected to
        server.stop()


def check(server) -> None:
    """All that the examples of userdb say, whatever it is."""
    first, second = Mail.make(), Mail.make()
    # Without a password no key is made, and the mail stays with the sender until there is one.
    server.log.expect("neither .* nor .* is there")
    (refused,) = server.try_deliver("jane", first).values()
    assert refused[0] // 100 == 4
    with logged_in(server, "jane") as session:
        session.append("INBOX", None, None, first.data)
    server.deliver("jane", "ann", "pat", second)
    for user, mails in (("jane", (first, second)), ("ann", (second,)), ("pat", (second,))):
        with logged_in(server, user) as session:
            found = bodies(session)
        assert [body.endswith(mail.data) for body, mail in zip(found, mails, strict=True)] == [True] * len(mails)
    assert are_encrypted(server, "jane") == [True, True]
    assert are_encrypted(server, "ann") == [True]
    assert are_encrypted(server, "pat") == [False]
    # Whoever has no login has the secret, but not the password.
    fetch = ("fetch", "-u")
    assert second.words[0].encode() in server.doveadm(*fetch, "ann", "text", "all").stdout
    server.log.expect("needs a password")
    said = server.doveadm(*fetch, "jane", "text", "all", check=False)
    assert said.returncode != 0 and second.words[0].encode() not in said.stdout
    assert sorted(server.doveadm("user", "*").stdout.split())[:1] == [b"ann"]


def test_every_example_is_tried():
    tried = Path(__file__).read_text() + (Path(__file__).parent / "test_metrics.py").read_text()
    for file in EXAMPLES.rglob("*"):
        stem = file.name.split(".")[0]
        wildcard = stem.startswith("sql-") and f'sql(place, "{stem[4:]}")' in tried
        assert file.is_dir() or wildcard or file.name in tried, file
