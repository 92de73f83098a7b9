"""`doveadm mailbox cryptokey slot ..`, `reset`, `reopen` and `rotate`: who can log in and read what afterwards."""

from __future__ import annotations

import hashlib
import hmac
import json
import re

import pytest
from harness import CryptConfig, Key, Mail, UserConfig, words
from test_doveadm import EXTRA, over_http, rows
from test_doveadm_keys import FOLDER, USER, stored

pytestmark = pytest.mark.packaged_refuses("it has no slots")

CODE = re.compile(r"([0-9A-HJKMNP-TV-Z]{4}-){6}[0-9A-HJKMNP-TV-Z]{4}")


@pytest.fixture(scope="module")
def server(shared_dovecot):
    return shared_dovecot(users={}, extra=EXTRA, fetch_failure="no-after")


@pytest.fixture
def user(server, request):
    """A user of the test's own, whose password userdb doesn't have, with a mail in INBOX."""
    name = f"u{abs(hash(request.node.name)) % 10**9}"
    log_in(server, name, PASSWORD)
    server.deliver(name, MAILS[0])
    read(server, name)
    return name


MAILS = [Mail.make() for _ in range(3)]
PASSWORD = "pa55word-of-old"


def log_in(server, user: str, secret: str | None) -> None:
    """What arrives with the next login."""
    server.set_user(user, UserConfig(CryptConfig(password=secret)))


def read(server, user: str, count: int = 1) -> None:
    """All mail is there, in a session of its own."""
    with server.imap(user) as imap:
        bodies = imap.bodies()
    assert len(bodies) == count
    assert all(any(body.endswith(mail.data) for mail in MAILS) for body in bodies)


def refused(server, user: str) -> None:
    """The login brings nothing that opens the mail."""
    server.log.expect("wrong password for key")
    with server.imap(user) as imap:
        imap.folder()
        assert not imap.fetch_uids().items


def run(server, verb: str, *args: str, user: str, secrets: tuple[str, ...] = (), check: bool = True):
    """A command with its secrets, one a line. Answers standard output."""
    stdin = "".join(f"{line}\n" for line in secrets).encode()
    done = server.doveadm("mailbox", "cryptokey", *verb.split(), "-u", user, *args, stdin=stdin, check=False)
    assert not check or done.returncode == 0, done.stderr
    for secret in secrets:
        assert secret.encode() not in done.stderr + done.stdout
    return done.stdout.decode().strip() if check else done


def listed(server, user: str) -> list[dict[str, str]]:
    done = server.doveadm("-f", "json", "mailbox", "cryptokey", "slot", "list", "-u", user)
    return json.loads(done.stdout or b"[]")


@pytest.mark.parametrize("slot_type", ["recovery", "app", "app given", "password"])
def test_a_login_with_a_slots_secret_reads_all_mail(server, user, slot_type):
    given = {"app given": ("app", "-g"), "password": ("password",)}.get(slot_type)
    if given:
        secret = "a-secret-of-an-identity-provider" if slot_type == "app given" else "second-of-two"
        assert run(server, "slot add", *given, "-l", "for you", user=user, secrets=(PASSWORD, secret)) == ""
    else:
        secret = run(server, "slot add", slot_type, "-l", "for you", user=user, secrets=(PASSWORD,))
        assert CODE.fullmatch(secret)
    (row,) = listed(server, user)
    assert (row["type"], row["label"], row["state"]) == (slot_type.split()[0], "for you", "sealed")
    assert row["opens"] == ",".join(stored(server, user, USER))
    log_in(server, user, secret)
    server.deliver(user, MAILS[1])
    read(server, user, 2)
    log_in(server, user, "none of them")
    assert secret not in server.log.text()
    refused(server, user)
    run(server, "slot remove", row["slot"], user=user)
    log_in(server, user, secret)
    refused(server, user)
    log_in(server, user, PASSWORD)
    read(server, user, 2)


def test_a_key_elsewhere_gives_access_back(server, user, tmp_path):
    key = Key.ec()
    for name, text in (("public", key.public_pem()), ("private", key.pem())):
        (tmp_path / name).write_text(text)
    run(server, "slot add", "-k", str(tmp_path / "public"), "-n", "token", "key", user=user, secrets=(PASSWORD,))
    (row,) = listed(server, user)
    assert (row["slot"], row["type"]) == ("token", "key")
    log_in(server, user, "forgotten")
    assert "token" in run(server, "slot test", "-k", str(tmp_path / "private"), user=user)
    run(server, "reset", "-k", str(tmp_path / "private"), user=user, secrets=("forgotten",))
    read(server, user)
    done = run(server, "reset", "-k", str(tmp_path / "public"), user=user, secrets=("x",), check=False)
    assert done.returncode == 65


def test_a_lost_password_is_replaced_with_the_sheet_of_paper(server, user):
    code = run(server, "slot add", "recovery", user=user, secrets=(PASSWORD,))
    log_in(server, user, "forgotten")
    refused(server, user)
    new = run(server, "reset", user=user, secrets=(code.lower().replace("-", " "), "forgotten"))
    assert CODE.fullmatch(new) and new != code
    read(server, user)
    for used, exit_code in ((code, 65), (new, 0)):
        done = run(server, "slot test", user=user, secrets=(used,), check=False)
        assert done.returncode == exit_code
    mistyped = ("A" if new[0] != "A" else "B") + new[1:]
    done = run(server, "slot test", user=user, secrets=(mistyped,), check=False)
    assert done.returncode == 65 and b"mistyped" in done.stderr


def test_what_nothing_opens_waits_until_the_password_turns_up(server, user):
    log_in(server, user, "forgotten")
    done = run(server, "reset", "-a", user=user, secrets=("forgotten",), check=False)
    assert done.returncode == 0, done.stderr
    server.deliver(user, MAILS[1])
    with server.imap(user) as imap:
        imap.folder()
        server.log.expect("wrong password for key")
        assert [body.endswith(MAILS[1].data) for body in imap.fetch_uids(uids="2").items.values()] == [True]
        assert not imap.fetch_uids(uids="1").items
    states = {row["active"] for row in rows(server, "list", "-U", user=user)}
    assert states == {"yes", "locked"}
    # Later changes pass over it.
    run(server, "password", "-o", "forgotten", "-n", "remember", user=user)
    log_in(server, user, "remember")
    assert run(server, "reopen", user=user, secrets=("not it",), check=False).returncode == 65
    run(server, "reopen", user=user, secrets=(PASSWORD,))
    read(server, user, 2)
    assert {row["active"] for row in rows(server, "list", "-U", user=user)} == {"yes", "no"}


@pytest.mark.parametrize("folders", [False, True])
def test_everything_moves_to_the_new_user_key(server, user, folders):
    code = run(server, "slot add", "recovery", user=user, secrets=(PASSWORD,))
    (old,) = stored(server, user, USER)
    folder_keys = set(stored(server, user, FOLDER))
    run(server, "rotate", *(["-b"] if folders else []), user=user, secrets=(PASSWORD,))
    server.deliver(user, MAILS[1])
    read(server, user, 2)
    assert len(set(stored(server, user, FOLDER)) - folder_keys) == folders
    done = server.doveadm("mailbox", "cryptokey", "list", "-u", user, "-U", "-n")
    assert f"user key {old} is needed by nothing".encode() in done.stderr
    server.doveadm("mailbox", "cryptokey", "delete", "-u", user, "-U", old)
    (row,) = listed(server, user)
    (new,) = stored(server, user, USER)
    assert (row["opens"], row["state"]) == (new, "sealed")
    for secret in (code, PASSWORD):
        log_in(server, user, secret)
        read(server, user, 2)
    done = run(server, "rotate", user=user, secrets=(code,), check=False)
    assert done.returncode == 65 and b"can't protect the new key" in done.stderr


def test_a_swapped_slot_is_not_used_for_a_new_key(server, user):
    """Who can write the dict must not get the next user key."""
    run(server, "slot add", "-n", "mine", "app", user=user, secrets=(PASSWORD,))
    name = next(n for n in server.store.attributes(user) if n.endswith("/crypt/slots"))
    value = server.store.attributes(user)[name]
    theirs = Key.ec().dovecot_public()
    lines = value.split("\n")
    (at,) = [n for n, line in enumerate(lines) if line.startswith("slot mine")]
    fields = lines[at].split(" ")[:-1]
    fields[6] = theirs
    lines[at] = " ".join([*fields, summed(" ".join(fields))])
    swapped = "\n".join(lines)
    names = [n for n in server.store.attributes(user) if n.endswith("/crypt/slots")]
    server.store.put_attributes(user, {n: swapped for n in names})
    (row,) = listed_with_errors(server, user)
    assert row["state"] == "wrong seal"
    done = run(server, "rotate", user=user, secrets=(PASSWORD,), check=False)
    assert done.returncode == 0 and b"slot mine: its seal is not the user's" in done.stderr
    after = server.store.attributes(user)[name]
    assert sum(line.startswith("key mine") for line in after.split("\n")) == 1


def summed(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()[:8]


def listed_with_errors(server, user: str) -> list[dict[str, str]]:
    option = words.option("mail_crypt_private_password", PASSWORD)
    argv = ("-o", option, "-f", "json", "mailbox", "cryptokey", "slot", "list", "-u", user)
    done = server.doveadm(*argv, check=False)
    assert done.returncode == 65 and b"its seal is not the user's" in done.stderr
    return json.loads(done.stdout)


def test_a_damaged_slot_is_named_and_the_others_open(server, user):
    first = run(server, "slot add", "-n", "first", "recovery", user=user, secrets=(PASSWORD,))
    second = run(server, "slot add", "-n", "second", "recovery", user=user, secrets=(PASSWORD,))
    for name, value in server.store.attributes(user).items():
        if name.endswith("/crypt/slots"):
            server.store.put_attributes(user, {name: value.replace("slot first recovery", "slot first recowery")})
    done = server.doveadm("mailbox", "cryptokey", "slot", "list", "-u", user, check=False)
    assert done.returncode == 65 and b"slot first: its line is damaged" in done.stderr
    log_in(server, user, first)
    refused(server, user)
    log_in(server, user, second)
    read(server, user)
    run(server, "slot remove", "first", user=user)
    assert [row["slot"] for row in listed(server, user)] == ["second"]


def test_the_last_way_in_is_not_removed(server, user, tmp_path):
    """Where no password opens the key any more."""
    run(server, "slot add", "recovery", user=user, secrets=(PASSWORD,))
    (key_id,) = stored(server, user, USER)
    pattern = f"/pvt/server/.*privkeys/{key_id}"
    server.store.drop_attributes(user, pattern)
    done = run(server, "slot remove", "recovery", user=user, check=False)
    assert done.returncode == 65 and b"is the last one that opens key" in done.stderr
    run(server, "slot remove", "-f", "recovery", user=user)


@pytest.mark.parametrize(
    "args, secrets, why",
    [
        (("slot add", "paper"), (), "is no type of slot"),
        (("slot add", "-n", "Bad Name", "app"), (PASSWORD,), "can't be a slot's name"),
        (("slot add", "-n", "login", "app"), (PASSWORD,), "can't be a slot's name"),
        (("slot add", "escrow"), (PASSWORD,), "an escrow slot is made of"),
        (("slot add", "app"), ("wr0ng",), "wrong password for key"),
        (("slot add", "-g", "app"), (PASSWORD, "5h0rt"), "must be random"),
        (("slot add", "-g", "password"), (PASSWORD, "x9y"), "only the secret of an app slot"),
        (("slot add", "key"), (PASSWORD,), "give its file with -k"),
        (("slot add", "password"), (), "expected are, one a line"),
        (("slot remove", "nothing"), (), "has no slot 'nothing'"),
        (("reset",), ("wr0ng", "n3w"), "Nothing was changed"),
        (("reset",), (), "the new password"),
        (("reset", "-a"), ("0ld", "n3w"), "opens nothing"),
        (("reopen",), (PASSWORD, PASSWORD), "has no locked key"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(server, user, args, secrets, why):
    log_in(server, user, None)
    before = server.store.attributes(user)
    done = run(server, *args, user=user, secrets=secrets, check=False)
    wrong_parameters = ("escrow slot", "only the secret", "opens nothing", "give its file", "no type of slot", "slot's name")
    assert done.returncode == (64 if any(words in why for words in wrong_parameters) else 65)
    assert why in done.stderr.decode(), done.stderr
    assert server.store.attributes(user) == before


def test_http_takes_the_secrets_as_a_file(server, user):
    answer = over_http(server, "mailboxCryptokeySlotAdd", user=user, type="recovery", file=f"{PASSWORD}\n")
    name, ((row,)) = answer[0], answer[1]
    assert name == "doveadmResponse" and CODE.fullmatch(row["password"])
    log_in(server, user, row["password"])
    read(server, user)


def test_a_server_takes_secrets_and_keys_through_its_socket(server, user, tmp_path):
    path = str(server.places.base / "doveadm-server")
    code = run(server, "slot add", "-S", path, "recovery", user=user, secrets=(PASSWORD,))
    assert CODE.search(code)
    (tmp_path / "key").write_text(Key.ec().public_pem())
    run(server, "slot add", "-S", path, "-k", str(tmp_path / "key"), "key", user=user, secrets=(PASSWORD,))
    assert {row["type"] for row in listed(server, user)} == {"recovery", "key"}
    run(server, "rotate", "-S", path, user=user, secrets=(PASSWORD,))
    log_in(server, user, CODE.search(code).group())
    read(server, user)


def test_all_users_are_listed_whether_they_have_slots_or_not(server, user):
    run(server, "slot add", "-n", "of-all", "app", user=user, secrets=(PASSWORD,))
    done = server.doveadm("-f", "json", "mailbox", "cryptokey", "slot", "list", "-A", check=False)
    found = [row["username"] for row in json.loads(done.stdout) if row["slot"] == "of-all"]
    assert found == [user]


@pytest.mark.parametrize("active", [False, True])
def test_a_planted_user_key_brings_no_slot_to_the_next_one(server, user, active):
    """Who can write the dict plants a key, and a slot that it has sealed."""
    planted, theirs = Key.ec(), Key.ec()
    fields = f"trap key 1700000000 - - {theirs.dovecot_public()}"
    secret = hmac.digest(planted.dovecot_private().encode(), b"mail_crypt slot seal 1", "sha256")
    seal = hmac.digest(secret, f"1 {fields}".encode(), "sha256").hex()
    line = f"slot {fields} - {planted.id} {seal}"
    guid = server.guid(user)
    attributes = {
        f"priv/{guid}/{USER}privkeys/{planted.id}": planted.dovecot_private(),
        f"shared/{guid}/{USER}pubkeys/{planted.id}": planted.dovecot_public(),
        f"priv/{guid}/{USER}slots": f"1 1\n{line} {summed(line)}",
    }
    if active:
        attributes[f"shared/{guid}/{USER}active"] = planted.id
    server.store.put_attributes(user, attributes)
    done = run(server, "rotate", user=user, secrets=(PASSWORD,), check=False)
    assert done.returncode == 0 and b"has not sealed it" in done.stderr, done.stderr
    slots = server.store.attributes(user)[f"priv/{guid}/{USER}slots"]
    assert not any(line.startswith("key trap") for line in slots.split("\n"))
    read(server, user)
