"""Whatever changes keys dies before or after each of its writes, and nothing is lost; the same again mends it."""

from __future__ import annotations

import pytest
from harness import CryptConfig, Mail, UserConfig, words
from harness.crash import crashes
from test_doveadm import cryptokey
from test_doveadm_keys import FOLDER, USER, export, protection, readable, shared_folder, stored

pytestmark = pytest.mark.packaged_refuses("it has other ways, and loses keys on some")
VERB = ("mailbox", "cryptokey")


@pytest.fixture
def server(dovecot):
    return dovecot(users={"alice": UserConfig(CryptConfig(password="secret"))})


def test_rekeying(server, tmp_path):
    server.doveadm("mailbox", "create", "-u", "alice", *[f"F{n}" for n in range(4)])
    cryptokey(server, "generate", "*")
    keys = export(server, "alice", "*")
    assert len(keys) == 5
    seen = 0
    for _ in crashes(server, tmp_path, *VERB, "generate", "-u", "alice", "-URf"):
        assert export(server, "alice", "*") == keys
        seen += 1
    # The user key's four parts and five folders, before and after each.
    assert seen == 18
    assert export(server, "alice", "*") == keys
    assert len({protection(fields) for fields in stored(server, "alice", FOLDER).values()}) == 1


def test_a_new_password(server, tmp_path):
    server.deliver("alice", Mail.make())
    cryptokey(server, "generate", "-U", "-f")

    def opened_by(password):
        option = words.option("mail_crypt_private_password", password)
        argv = ("-o", option, *VERB, "export", "-u", "alice", "-U")
        return server.doveadm(*argv, check=False).stdout.count(b"BEGIN PRIVATE")

    change = ("password", "-u", "alice", "-o", "secret", "-n", "latest")
    found = [
        (opened_by("secret"), opened_by("latest"))
        for _ in crashes(server, tmp_path, *VERB, *change)
    ]
    # The first write keeps what the second one replaces.
    assert found == [(2, 0), (2, 0), (2, 0), (0, 2)]


def test_first_and_further_keys(server, tmp_path):
    mails = []
    for at in crashes(server, tmp_path, *VERB, "generate", "-u", "alice", "-f", "INBOX"):
        mails.append(Mail.make())
        # Up to here nobody has made what the next try finishes.
        if at == 3:
            server.deliver("alice", mails[-1])
            assert readable(server, "alice", mails[-1])
    server.deliver("alice", mails[-1])
    assert readable(server, "alice", mails[2]) and readable(server, "alice", mails[-1])
    assert len(stored(server, "alice", USER)) == 1


def test_deleting_the_active_key(server, tmp_path):
    """In no moment does new mail get a key that nobody has."""
    server.deliver("alice", Mail.make())
    (key_id,) = stored(server, "alice", FOLDER)
    delete = ("delete", "-u", "alice", "-f", "-m", "INBOX", key_id)
    seen = 0
    for _ in crashes(server, tmp_path, *VERB, *delete, gone=65):
        mail = Mail.make()
        server.deliver("alice", mail)
        with server.imap("alice") as imap:
            last = str(imap.folder())
            assert imap.fetch_uids(uids=last).items[int(last)].endswith(mail.data)
        seen += 1
    assert seen == 4
    assert key_id not in stored(server, "alice", FOLDER)


def test_importing(server, tmp_path):
    mail = Mail.make()
    server.deliver("alice", mail)
    ((key_id, pem),) = export(server, "alice", "INBOX").items()
    cryptokey(server, "delete", "-f", "-m", "INBOX", key_id)
    path = tmp_path / "pem"
    path.write_text(pem)
    restore = ("import", "-u", "alice", "-f", "-m", "INBOX", str(path))
    seen = [stored(server, "alice", FOLDER) for _ in crashes(server, tmp_path, *VERB, *restore)]
    assert [len(keys) for keys in seen] == [0, 1, 1, 1]
    assert readable(server, "alice", mail)


@pytest.mark.parametrize("who", ["user=bob", "anyone"])
def test_sharing(dovecot, tmp_path, who):
    server, mail = shared_folder(dovecot)
    server.doveadm("acl", "delete", "-u", "alice", "Work", "user=bob")

    def copies():
        names = server.store.private_keys("alice")
        return len([n for n in names if n.startswith("shared/")])

    def rights():
        return who.encode() in server.doveadm("acl", "get", "-u", "alice", "Work").stdout

    give = ("set", "-u", "alice", "Work", who, "lookup", "read")
    seen = [(copies(), rights()) for _ in crashes(server, tmp_path, "acl", *give)]
    assert seen == [(0, False), (1, False)] and (copies(), rights()) == (1, True)
    with server.imap("bob") as imap:
        assert imap.bodies("shared/alice/Work") == [mail.data]
    take = ("delete", "-u", "alice", "Work", who)
    seen = [(copies(), rights()) for _ in crashes(server, tmp_path, "acl", *take)]
    assert seen == [(1, True), (0, True)] and (copies(), rights()) == (0, False)
    with server.imap("alice") as imap:
        assert imap.bodies("Work") == [mail.data]


@pytest.mark.parametrize("file, moments", [("dovecot-attributes", 8), ("dovecot-uidlist", 2)])
def test_another_guid(server, tmp_path, file, moments):
    mail = Mail.make()
    server.deliver("alice", mail)
    change = ("mailbox", "update", "-u", "alice", "--mailbox-guid", "0123456789abcdef" * 2, "INBOX")
    seen = 0
    for _ in crashes(server, tmp_path, *change, file=file):
        assert readable(server, "alice", mail)
        seen += 1
    assert seen == moments
    assert server.guid("alice") == "0123456789abcdef" * 2
    assert readable(server, "alice", mail)
