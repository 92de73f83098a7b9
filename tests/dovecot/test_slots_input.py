"""Slots, reset, reopen and rotate: where secrets come from, and where they don't get to."""

from __future__ import annotations

import json

import pytest
from harness import CryptConfig, Key, Mail, UserConfig
from harness.terminal import typed
from test_doveadm import EXTRA, over_http
from test_slots import CODE, PASSWORD, listed, log_in, run

pytestmark = pytest.mark.packaged_refuses("it has no slots")

NEW = "quite-another-one"


@pytest.fixture(scope="module")
def server(shared_dovecot):
    users = {"off": UserConfig(plugin=False)}
    return shared_dovecot(users=users, extra=EXTRA)


@pytest.fixture
def user(server, request):
    """A user of the test's own, whose password userdb doesn't have, with a mail in INBOX."""
    name = f"u{abs(hash(request.node.name)) % 10**9}"
    log_in(server, name, PASSWORD)
    server.deliver(name, Mail.make())
    log_in(server, name, None)
    return name


def readable(server, user: str, secret: str) -> bool:
    """Does a session with this secret read the mail?"""
    log_in(server, user, secret)
    server.log.expect("wrong password for key")
    with server.imap(user) as imap:
        imap.folder()
        found = imap.fetch_uids().items
    log_in(server, user, None)
    return len(found) == 1


def at_terminal(server, verb: str, *args: str, user: str, answers, check: bool = True):
    """The command, with these secrets typed. None of them is on the screen, or printed."""
    argv = ["doveadm", "-c", str(server.places.config), "mailbox", "cryptokey", *verb.split(), "-u", user, *args]
    done = typed(server._wrap(argv, dies_with_us=True), answers, str(server.run))
    assert not check or done.returncode == 0, done.screen
    for _, secret in answers:
        assert not secret or secret.encode() not in done.screen + done.stdout
    return done


OPENS = ("opens the keys (empty: as configured): ", PASSWORD)


def test_each_secret_is_asked_for_at_a_terminal(server, user, tmp_path):
    done = at_terminal(server, "slot add", "recovery", user=user, answers=[OPENS])
    code = done.stdout.decode().strip()
    assert CODE.fullmatch(code) and code.encode() not in done.screen
    second = [OPENS, ("Second password: ", "of-my-own"), ("Confirm second password: ", "of-my-own")]
    at_terminal(server, "slot add", "password", user=user, answers=second)
    given = [OPENS, ("Secret of the app: ", "a-secret-of-an-identity-provider")]
    at_terminal(server, "slot add", "-g", "app", user=user, answers=given)
    for secret in (PASSWORD, code, "of-my-own", "a-secret-of-an-identity-provider"):
        assert readable(server, user, secret)
    done = at_terminal(server, "slot test", user=user, answers=[("Secret: ", code)])
    assert b"recovery" in done.stdout
    answers = [("what else opens the keys: ", code), ("New password: ", NEW), ("Confirm new password: ", NEW)]
    done = at_terminal(server, "reset", user=user, answers=answers)
    assert CODE.fullmatch(done.stdout.decode().strip())
    at_terminal(server, "rotate", user=user, answers=[("Password (empty: as configured): ", NEW)])
    assert readable(server, user, NEW) and readable(server, user, done.stdout.decode().strip())


def test_giving_up_and_reopening_at_a_terminal(server, user):
    answers = [("New password: ", NEW), ("Confirm new password: ", NEW)]
    at_terminal(server, "reset", "-a", user=user, answers=answers)
    answers = [("Old password or code: ", PASSWORD), ("(empty: as configured): ", NEW)]
    at_terminal(server, "reopen", user=user, answers=answers)
    assert readable(server, user, NEW)


@pytest.mark.parametrize("protected", [False, True], ids=["plain", "under a password"])
def test_a_key_file_at_a_terminal(server, user, tmp_path, protected):
    key = Key.ec()
    password = "of-the-key-file" if protected else ""
    (tmp_path / "public").write_text(key.public_pem())
    (tmp_path / "private").write_text(key.pem(password or None))
    at_terminal(server, "slot add", "-k", str(tmp_path / "public"), "key", user=user, answers=[OPENS])
    of_key = ("Password of the key (empty: none): ", password)
    private = ("-k", str(tmp_path / "private"))
    assert b"key" in at_terminal(server, "slot test", *private, user=user, answers=[of_key]).stdout
    answers = [of_key, ("New password: ", NEW), ("Confirm new password: ", NEW)]
    assert at_terminal(server, "reset", *private, user=user, answers=answers).stdout.strip() == b""
    assert readable(server, user, NEW)
    done = at_terminal(server, "reset", "-k", "-", user=user, answers=[], check=False)
    assert done.returncode == 64 and b"can't be typed" in done.screen


@pytest.mark.parametrize("verb", ["slot add", "reset"])
def test_passwords_that_were_typed_differently_change_nothing(server, user, verb):
    before = server.store.attributes(user)
    new = "Second" if verb == "slot add" else "New"
    answers = [("opens the keys", PASSWORD), (f"{new} password: ", NEW), (f"Confirm {new.lower()} password: ", f"{NEW}!")]
    args = ("password",) if verb == "slot add" else ()
    done = at_terminal(server, verb, *args, user=user, answers=answers, check=False)
    assert done.returncode == 64 and b"don't match" in done.screen
    assert server.store.attributes(user) == before


VERBS = {
    "slot add": ("recovery",),
    "slot add -g": ("app",),
    "slot add password": (),
    "slot test": (),
    "reset": (),
    "reset -a": (),
    "reopen": (),
    "rotate": (),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "stdin",
    [b"", b"\n", b"\n\n", b"\n\n\n\n", b"\0", b"pa55word-of-old\0\nother!\n", b"x" * 70000, b"\xff\xfe\n\xff\xff\n"],
    ids=["empty", "one empty", "two empty", "four empty", "NUL", "NUL in one", "too long", "no text"],
)
def test_input_that_is_no_secret_changes_nothing(server, user, verb, stdin):
    before = server.store.attributes(user)
    done = server.doveadm("mailbox", "cryptokey", *verb.split(), "-u", user, *VERBS[verb], stdin=stdin, check=False)
    if verb == "reset -a" and stdin == b"\xff\xfe\n\xff\xff\n":
        assert b"opens nothing" in done.stderr
    assert done.returncode in (64, 65), done
    assert done.stderr.strip()
    if verb.startswith(("slot add", "reset")):
        assert not done.stdout.strip()
    for line in stdin.split(b"\n"):
        assert len(line) < 5 or line not in done.stderr
    assert server.store.attributes(user) == before


@pytest.mark.parametrize("ends", ["\n", "\r\n", ""], ids=["lines", "CRLF", "no end"])
def test_lines_may_end_as_they_do_elsewhere(server, user, ends):
    between = ends or "\n"
    stdin = f"{PASSWORD}{between}of-my-own{ends}".encode()
    server.doveadm("mailbox", "cryptokey", "slot", "add", "-u", user, "password", stdin=stdin)
    assert readable(server, user, "of-my-own")


def test_a_password_may_be_any_bytes_but_line_ends(server, user):
    secret = b"gr\xfc\xdfe \t\xff"
    stdin = PASSWORD.encode() + b"\n" + secret + b"\n"
    server.doveadm("mailbox", "cryptokey", "slot", "add", "-u", user, "password", stdin=stdin)
    done = server.doveadm("mailbox", "cryptokey", "slot", "test", "-u", user, stdin=secret)
    assert b"password" in done.stdout
    server.doveadm("mailbox", "cryptokey", "reset", "-u", user, stdin=secret + b"\n" + secret + b"!\n")
    server.doveadm("mailbox", "cryptokey", "rotate", "-u", user, stdin=secret + b"!")


def test_secrets_may_be_in_a_file_and_are_alone_on_standard_output(server, user, tmp_path):
    path = tmp_path / "secrets"
    path.write_text(f"{PASSWORD}\n")
    done = server.doveadm("mailbox", "cryptokey", "slot", "add", "-u", user, "recovery", str(path))
    code = done.stdout.decode()
    assert CODE.fullmatch(code.rstrip("\n")) and code.count("\n") == 1
    assert b"slot recovery opens 1 key(s)" in done.stderr and code.strip().encode() not in done.stderr
    path.write_text(f"{code.strip()}\n{NEW}\n")
    done = server.doveadm("mailbox", "cryptokey", "reset", "-u", user, str(path))
    assert CODE.fullmatch(done.stdout.decode().rstrip("\n"))
    for secret in (PASSWORD, NEW, code.strip(), done.stdout.decode().strip()):
        assert secret not in server.log.text()


def test_all_of_it_through_http(server, user):
    def call(command: str, **parameters):
        name, content = over_http(server, f"mailboxCryptokey{command}", user=user, **parameters)
        assert name == "doveadmResponse", content
        return content

    (row,) = call("SlotAdd", type="recovery", name="paper", label="of 2026", file=f"{PASSWORD}\n")
    code = row["password"]
    call("SlotAdd", type="app", given=True, name="sso", file=f"{PASSWORD}\na-secret-of-an-identity-provider\n")
    key = Key.ec()
    call("SlotAdd", type="key", name="token", keyFile="-", file=f"{key.public_pem()}{PASSWORD}\n")
    found = {row["slot"]: row["label"] for row in call("SlotList")}
    assert found == {"paper": "of 2026", "sso": "", "token": ""}
    assert [row["slot"] for row in call("SlotTest", file=f"{code}\n")] == ["paper"]
    assert [row["slot"] for row in call("SlotTest", keyFile="-", file=key.pem())] == ["token"]
    (row,) = call("Reset", file=f"{code}\n{NEW}\n")
    assert CODE.fullmatch(row["password"])
    call("Rotate", folders=True, file=f"{NEW}\n")
    call("SlotRemove", name="sso", force=False)
    call("Reset", keyFile="-", file=f"{key.pem()}{PASSWORD}\n")
    call("Password", undo=True)
    call("Reset", abandon=True, file="last-of-all\n")
    call("Reopen", file=f"{NEW}\nlast-of-all\n")
    assert readable(server, user, "last-of-all")
    for secret in (PASSWORD, NEW, code, row["password"], "last-of-all", "a-secret-of-an-identity-provider"):
        assert secret not in server.log.text()


def test_what_fails_through_http_is_an_error_without_secrets(server, user):
    server.log.expect("opens nothing", "wrong password", "mistyped", "expected are", "no old secret", "no slot")
    secret = "YFHP-VJF8-DJ7G-VYHA-D6V9-56T1-QGSR"
    for command, parameters in {
        "SlotTest": {"file": secret},
        "Reset": {"file": f"{secret}\n{NEW}"},
        "SlotAdd": {"type": "recovery", "file": "wr0ng-one"},
        "SlotRemove": {"name": "nothing"},
        "Reopen": {},
        "Rotate": {"file": "wr0ng-one"},
    }.items():
        name, content = over_http(server, f"mailboxCryptokey{command}", user=user, **parameters)
        assert name == "error" and content["type"] == "exitCode", (command, content)
        assert not any(text in json.dumps(content) for text in (secret, NEW, "wr0ng-one"))
    assert not any(text in server.log.text() for text in (secret, NEW, "wr0ng-one"))


def test_a_server_takes_all_of_it_through_its_socket(server, user, tmp_path):
    way = ("-S", str(server.places.base / "doveadm-server"))
    key = Key.ec()
    for name, text in (("public", key.public_pem()), ("private", key.pem("of-the-key-file"))):
        (tmp_path / name).write_text(text)
    private = ("-k", str(tmp_path / "private"))
    run(server, "slot add", *way, "-k", str(tmp_path / "public"), "-n", "token", "key", user=user, secrets=(PASSWORD,))
    assert "token" in run(server, "slot test", *way, *private, user=user, secrets=("of-the-key-file",))
    run(server, "reset", *way, *private, user=user, secrets=("of-the-key-file", NEW))
    run(server, "password", *way, "-z", user=user)
    assert readable(server, user, PASSWORD)
    run(server, "reset", *way, "-a", user=user, secrets=(NEW,))
    run(server, "reopen", *way, user=user, secrets=(PASSWORD, NEW))
    at_terminal(server, "rotate", *way, user=user, answers=[("(empty: as configured): ", NEW)])
    assert readable(server, user, NEW)
    server.log.expect("wrong password for key", "has no slot")
    assert run(server, "rotate", *way, user=user, secrets=("wr0ng-one",), check=False).returncode == 65
    assert run(server, "slot remove", *way, "nothing", user=user, check=False).returncode == 65
    run(server, "slot remove", *way, "token", user=user)
    assert listed(server, user) == []


def test_many_users_get_a_secret_each_and_each_failure_counts(dovecot):
    users = {name: UserConfig(CryptConfig(password=PASSWORD)) for name in ("alice", "bob")}
    server = dovecot(users=users | {"zoe": UserConfig(plugin=False)})
    server.deliver("alice", "bob", Mail.make())
    done = server.doveadm("-f", "tab", "mailbox", "cryptokey", "slot", "add", "-A", "recovery", stdin=b"")
    rows = dict(line.split("\t") for line in done.stdout.decode().splitlines()[1:])
    assert set(rows) == {"alice", "bob"} and len(set(rows.values())) == 2
    for name, code in rows.items():
        tested = server.doveadm("mailbox", "cryptokey", "slot", "test", "-u", name, stdin=code.encode())
        assert b"recovery" in tested.stdout
    server.doveadm("mailbox", "cryptokey", "slot", "remove", "-u", "alice", "recovery")
    for _ in range(2):
        # alice's failure, then success, then one who is skipped
        done = server.doveadm("mailbox", "cryptokey", "slot", "remove", "-A", "recovery", check=False)
        assert done.returncode == 65 and b"user alice has no slot" in done.stderr


def test_a_server_that_is_down_says_so(dovecot):
    server = dovecot(users={"alice": UserConfig(CryptConfig(password=PASSWORD))}, attribute_dict="down")
    for verb, stdin in (("slot list", None), ("slot add recovery", b"\n"), ("slot test", b"x\n"), ("rotate", b"")):
        done = server.doveadm("mailbox", "cryptokey", *verb.split(), "-u", "alice", stdin=stdin, check=False)
        assert done.returncode == 75, (verb, done)
