"""`doveadm mailbox cryptokey`: what an administrator's scripts see.

Output, exit codes and ways in: the command line, `-S`, HTTP, many users at
once. What the verbs do to keys is in test_doveadm_keys.py and
test_doveadm_import_delete.py.
"""

from __future__ import annotations

import base64
import http.client
import json

import pytest
from harness import CryptConfig, UserConfig, words

FORMATS = ("tab", "json", "pager", "table", "flow")
API_KEY = "harness"
HTTP_PORT = 20180
NO_PLUGINS = words.only_plugins("doveadm")
EXTRA = f"""
doveadm_api_key = {API_KEY}
service doveadm {{
inet_listener http {{
port = {HTTP_PORT}
}}
}}
"""


def cryptokey(dovecot, verb, *args, user="alice", fmt=None, check=True, stdin=None):
    """Run the command; a check of the exit code is the caller's if `check` is off."""
    form = ["-f", fmt] if fmt else []
    who = ["-u", user] if user else []
    return dovecot.doveadm(
        *form, "mailbox", "cryptokey", verb, *who, *args, check=check, stdin=stdin
    )


def rows(dovecot, verb, *args, **more):
    """The same; what it printed, as dicts by column."""
    out = cryptokey(dovecot, verb, *args, fmt="json", **more).stdout
    try:
        return json.loads(out) if out.strip() else []
    except ValueError:
        raise AssertionError(f"not JSON: {out!r}") from None


def over_http(dovecot, command, **parameters):
    """One command through the HTTP API; its answer's name and content."""
    connection = http.client.HTTPConnection(dovecot.places.address, HTTP_PORT, timeout=30)
    body = json.dumps([[command, parameters, "tag"]])
    key = base64.b64encode(API_KEY.encode()).decode()
    headers = {"Authorization": f"X-Dovecot-API {key}", "Content-Type": "application/json"}
    connection.request("POST", "/doveadm/v1", body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, text
    ((name, content, _),) = json.loads(text)
    return name, content


@pytest.fixture(scope="module")
def server(shared_dovecot):
    """One server for all tests that need no other; each has users of its own."""
    users = {
        "alice": UserConfig(),
        "bob": UserConfig(),
        "locked": UserConfig(CryptConfig(password="one")),
        "off": UserConfig(plugin=False),
    }
    dovecot = shared_dovecot(users=users, extra=EXTRA)
    for name in ("bob", "locked"):
        cryptokey(dovecot, "generate", "INBOX", user=name)
    dovecot.doveadm("mailbox", "create", "-u", "alice", "Work")
    dovecot.doveadm("mailbox", "create", "-u", "alice", "Play")
    for mask in ("INBOX", "Work", "Play"):
        cryptokey(dovecot, "generate", mask)
    return dovecot


# Output


@pytest.mark.packaged_defect("it forgets a column: everything after the first key is one off")
@pytest.mark.parametrize("fmt", FORMATS)
def test_each_exported_key_stands_in_its_column(server, fmt):
    ids = {row["box"]: row["pubid"] for row in rows(server, "list", "*")}
    if fmt == "json":
        for row in rows(server, "export", "*"):
            assert row["name"] == ids[row["box"]] and row["error"] == ""
            assert row["key"].startswith("\n-----BEGIN PRIVATE KEY-----\n")
        return
    out = cryptokey(server, "export", "*", fmt=fmt).stdout.decode()
    assert out.count("BEGIN PRIVATE KEY") == 3
    for folder, key_id in ids.items():
        before = {
            "tab": f"{folder}\t{key_id}\t\t\n",
            "flow": f"Folder={folder} Public ID={key_id} Error= Key=\n",
            "pager": f"Folder: {folder}\nPublic ID: {key_id}\nError: \nKey: \n",
            "table": key_id,
        }
        assert before[fmt] in out


@pytest.mark.packaged_defect("'-f' or not, the second mailbox is an extraneous argument")
def test_several_masks_are_taken(server):
    found = rows(server, "list", "INBOX", "Wo*")
    assert {row["box"] for row in found} == {"INBOX", "Work"}


# Many users


@pytest.mark.packaged_defect("assertion in the table formatter, headers between the users")
@pytest.mark.parametrize("fmt", (None, *FORMATS))
def test_all_users_are_listed_with_their_names(server, fmt):
    server.log.expect("nothing")
    done = cryptokey(server, "list", "-A", "*", user=None, fmt=fmt)
    out = done.stdout.decode()
    assert out.count("alice") == 3 and out.count("bob") == 1
    assert out.count("Public ID") <= (1 if fmt not in ("pager", "flow") else 5)
    assert "off, skipping" in done.stderr.decode()


@pytest.mark.packaged_defect("assertion in the table formatter", on="2.3")
def test_users_are_taken_from_a_file_or_a_mask(server):
    path = server.run / "some-users"
    path.write_text("alice\nbob\n")
    for who in (("-F", str(path)), ("-u", "*o*")):
        found = rows(server, "list", *who, "INBOX", user=None)
        names = {"alice", "bob"} if who[0] == "-F" else {"bob", "locked"}
        assert {row["username"] for row in found} == names


@pytest.mark.packaged_refuses("says nothing of a mailbox without keys")
def test_one_users_failure_takes_no_word_from_the_next(dovecot):
    server = dovecot(users={"first": UserConfig(), "second": UserConfig()})
    server.doveadm("mailbox", "create", "-u", "second", "Work")
    path = server.run / "some-users"
    said = {}
    for order in (("second",), ("second", "first"), ("first", "second")):
        path.write_text("\n".join(order) + "\n")
        done = cryptokey(server, "list", "-F", str(path), "Work", user=None, check=False)
        assert (done.returncode != 0) == ("first" in order), done
        said[order] = sorted(line.split("): ", 1)[-1] for line in done.stderr.decode().splitlines())
    nothing = "Warning: mailbox cryptokey list: Nothing was matched. Use -U or specify mask?"
    assert said[("second",)] == [nothing]
    both = said[("second", "first")]
    assert nothing in both and any("Mailbox Work doesn't exist" in line for line in both)
    assert said[("first", "second")] == both


@pytest.mark.packaged_defect("segmentation fault")
def test_a_user_without_the_plugin_is_a_clear_error(server):
    done = cryptokey(server, "generate", "*", user="off", check=False)
    assert done.returncode > 0
    assert "mail_crypt isn't enabled for user off" in done.stderr.decode()


@pytest.mark.packaged_defect("the command is unknown then")
def test_the_plugin_may_be_enabled_for_one_user_only(dovecot):
    """The module is loaded before any mail plugin is."""
    users = {
        "alice": UserConfig(extra=(("mail_plugins", "mail_crypt"),)),
        "bob": UserConfig(plugin=False),
    }
    server = dovecot(users=users, extra=NO_PLUGINS)
    (row,) = rows(server, "generate", "-U")
    assert row["success"] == "✓"
    done = cryptokey(server, "list", "-U", user="bob", check=False)
    assert done.returncode > 0 and b"isn't enabled for user bob" in done.stderr


def test_help_and_other_commands_work_without_any_plugin(dovecot):
    server = dovecot(users={"bob": UserConfig(plugin=False)}, extra=NO_PLUGINS)
    usage = server.doveadm("mailbox", check=False).stderr
    assert b"  status " in usage and b"undefined symbol" not in usage
    done = server.doveadm("-f", "flow", "mailbox", "status", "-u", "bob", "messages", "INBOX")
    assert b"messages=0" in done.stdout


# Exit codes


@pytest.mark.packaged_defect("0 for each of them")
@pytest.mark.parametrize(
    "args",
    [
        ("list", "NoSuchFolder"),
        ("export", "NoSuchFolder"),
        ("export",),
        ("generate",),
        ("generate", "NoSuchFolder"),
        ("password",),
        ("password", "-o", "x"),
        ("password", "-n", ""),
    ],
    ids=" ".join,
)
def test_a_failure_shows_in_the_exit_code(server, args):
    before = server.store.attributes("alice")
    done = cryptokey(server, *args, check=False)
    assert done.returncode > 0
    assert done.stderr.strip()
    assert server.store.attributes("alice") == before


@pytest.mark.packaged_defect("exit code 0")
def test_a_key_that_cannot_be_exported_is_a_failure(server):
    server.set_user("locked", UserConfig(CryptConfig(password="two")))
    done = cryptokey(server, "export", "*", user="locked", fmt="json", check=False)
    server.set_user("locked", UserConfig(CryptConfig(password="one")))
    assert done.returncode > 0
    (row,) = json.loads(done.stdout)
    (user_key,) = server.store.user_keys("locked")
    assert row["error"].startswith("ERROR: ") and user_key in row["error"]
    assert row["key"] == ""


@pytest.mark.packaged_defect("exit code 0 for list and export")
@pytest.mark.parametrize("args", [("list", "*"), ("export", "-U"), ("generate", "-U")], ids=" ".join)
def test_a_dict_that_is_down_is_a_failure(dovecot, args):
    server = dovecot(users={"alice": UserConfig()}, attribute_dict="down")
    server.doveadm("mailbox", "create", "-u", "alice", "Work")
    done = cryptokey(server, *args, check=False)
    assert done.returncode == 75, done


# Other ways in


def test_a_server_does_the_same_through_its_socket(server):
    path = str(server.places.base / "doveadm-server")
    if server.options.plugin == "packaged":
        pytest.skip("its headers are never sent")
    server.log.expect("NoSuchFolder doesn't exist", "wrong password")
    for args in (("list", "*"), ("list", "-U"), ("export", "*"), ("generate", "INBOX")):
        direct = rows(server, *args)
        assert rows(server, args[0], "-S", path, *args[1:]) == direct
    done = cryptokey(server, "list", "-S", path, "NoSuchFolder", check=False)
    assert done.returncode > 0
    done = cryptokey(
        server, "password", "-S", path, "-o", "-", "-n", "-", user="bob", stdin=b"\nnew\n", check=False
    )
    assert done.stdout.decode().strip() == "result: Changed password for 1 key(s)"
    (stored,) = (
        value
        for name, value in server.store.private_keys("bob").items()
        if "/pvt/server/" in name
    )
    assert stored.split(":")[2] == "2"
    done = cryptokey(server, "password", "-S", path, "-o", "-", "-C", user="bob", stdin=b"old\n", check=False)
    assert done.returncode > 0
    cryptokey(server, "password", "-S", path, "-o", "-", "-C", user="bob", stdin=b"new\n")


def test_the_http_api_does_the_same(server):
    command = "mailboxCryptokeyList"
    direct = rows(server, "list", "*")
    for mailbox in ("*", ["*"]):
        if server.options.plugin == "packaged" and isinstance(mailbox, list):
            continue
        name, found = over_http(server, command, user="alice", mailbox=mailbox)
        assert (name, found) == ("doveadmResponse", direct)


@pytest.mark.packaged_defect("a false is counted as true")
def test_a_boolean_false_through_http_is_false(server):
    before = server.store.attributes("alice")
    command = "mailboxCryptokeyGenerate"
    flags = {"force": False, "userKeyOnly": False, "reEncryptBoxKeys": False}
    name, found = over_http(server, command, user="alice", mailbox="Work", **flags)
    assert name == "doveadmResponse", found
    assert [row["box"] for row in found] == ["Work"]
    assert server.store.attributes("alice") == before


def test_a_failure_through_http_is_one(server):
    server.log.expect("Mailbox NoSuchFolder doesn't exist", "no new password", "No new password")
    command = "mailboxCryptokeyGenerate"
    answers = [over_http(server, "mailboxCryptokeyPassword", user="alice", oldPassword="x")]
    if server.options.plugin != "packaged":
        answers.append(over_http(server, command, user="alice", mailbox="NoSuchFolder"))
        answers.append(over_http(server, "mailboxCryptokeyPassword", user="alice", newPassword="-"))
        server.log.expect("There is no standard input")
    else:
        return
    for name, content in answers:
        assert name == "error" and content["type"] == "exitCode", content


@pytest.mark.packaged_defect("a false is counted as true")
def test_a_false_flag_is_not_sent_on_to_another_server(dovecot):
    """A server that only stands before others passes commands on."""
    port, password = 20190, f"doveadm_password = {API_KEY}\n"
    listener = f"service doveadm {{\ninet_listener tcp {{\nport = {port}\n}}\n}}\n"
    backend = dovecot(users={"alice": UserConfig()}, extra=listener + password)
    cryptokey(backend, "generate", "INBOX")
    before = backend.store.attributes("alice")
    passdb = words.proxied_to(backend.places.address, port)
    front = dovecot(
        users={"nobody": UserConfig()},
        extra=EXTRA + password + f"doveadm_port = {port}\n" + passdb,
    )
    name, found = over_http(
        front, "mailboxCryptokeyGenerate", user="alice", mailbox="INBOX", force=False
    )
    assert name == "doveadmResponse", found
    assert [row["box"] for row in found] == ["INBOX"]
    assert backend.store.attributes("alice") == before
