"""Dovecot gives folders new GUIDs, and mails to other folders, when it rebuilds what is lost; and mail still opens.

Keys are filed under a folder's GUID, the user's under that of INBOX.
"""

from __future__ import annotations

import shutil

import pytest
from harness import CryptConfig, Mail, UserConfig, words
from harness.crash import no_room
from harness.version import libexec_dir
from test_doveadm import cryptokey

packaged_loses = pytest.mark.packaged_defect("keys stay under the GUID that is gone")
STORAGES = ("maildir", "sdbox", "mdbox")
FOLDERS = ("INBOX", "Work")
#: Below the home: INBOX's and other folders' places.
PLACES = {
    "maildir": ("Maildir", "Maildir/.{}"),
    "sdbox": ("sdbox/mailboxes/INBOX/dbox-Mails", "sdbox/mailboxes/{}/dbox-Mails"),
    "mdbox": ("mdbox/mailboxes/INBOX/dbox-Mails", "mdbox/mailboxes/{}/dbox-Mails"),
}
MAP = "mdbox/storage/dovecot.map.index*"


@pytest.fixture(params=["secret", None], ids=["password", "unprotected"])
def alice(request):
    """She has a password for her key, or none."""
    return UserConfig(crypt=CryptConfig(password=request.param))


def stored_in(server, *folders, user="alice", count=3):
    """Mails in each of the folders; by folder."""
    mails = {folder: [Mail.make() for _ in range(count)] for folder in folders}
    with server.imap(user) as session:
        for folder, put in mails.items():
            if folder != "INBOX":
                session.create(folder)
            for mail in put:
                assert session.put(mail.data, folder)[0] == "OK"
    return mails


def holds(server, mails, user="alice"):
    """Each folder has these mails, in any order, and they open."""
    with server.imap(user) as session:
        for folder, stored in mails.items():
            assert sorted(session.bodies(folder)) == sorted(mail.data for mail in stored), folder


def index_files(server, storage, folder):
    """The files in which a folder's GUID is."""
    place = PLACES[storage][folder != "INBOX"].format(folder)
    home = server.store.home("alice")
    found = sorted((home / place).glob("dovecot-uidlist" if storage == "maildir" else "dovecot.index*"))
    assert found
    return found


def lose_index(server, storage, *folders):
    """The folders' indexes are gone, and are rebuilt."""
    for folder in folders:
        old = server.guid("alice", folder)
        for file in index_files(server, storage, folder):
            file.unlink()
        server.doveadm("force-resync", "-u", "alice", folder)
        assert server.guid("alice", folder) != old


@packaged_loses
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("lost", [("Work",), ("INBOX",), FOLDERS], ids="-".join)
def test_mail_opens_after_its_folders_index_was_lost(dovecot, alice, storage, lost):
    server = dovecot(storage=storage, users={"alice": alice})
    mails = stored_in(server, *FOLDERS)
    lose_index(server, storage, *lost)
    holds(server, mails)
    # New mail goes under the keys that are there.
    for folder, more in stored_in(server, *FOLDERS).items():
        mails[folder] += more
    holds(server, mails)
    assert len(server.store.user_keys("alice")) == 1
    assert len(set.union(*server.store.folder_keys("alice").values())) == len(FOLDERS)


@packaged_loses
@pytest.mark.parametrize("storage", STORAGES)
def test_inbox_may_lose_its_index_again_and_again(dovecot, storage):
    server = dovecot(storage=storage, users={"alice": UserConfig(CryptConfig(password="secret"))})
    mails = stored_in(server, *FOLDERS)
    for _ in range(3):
        lose_index(server, storage, "INBOX")
        mail = Mail.make()
        server.deliver("alice", mail)
        with server.imap("alice") as session:
            assert session.bodies()[-1].endswith(mail.data)
        holds(server, {"Work": mails["Work"]})
    assert len(server.store.user_keys("alice")) == 1


@packaged_loses
@pytest.mark.parametrize("storage", STORAGES)
def test_the_other_plugin_reads_on_after_ours_has_met_the_new_guid(dovecot, store, storage):
    """What is found by its id is filed where the packaged plugin looks."""
    users = {"alice": UserConfig(CryptConfig(password="secret"))}
    server = dovecot(store=store, storage=storage, users=users)
    mails = stored_in(server, *FOLDERS)
    lose_index(server, storage, *FOLDERS)
    holds(server, mails)
    server.stop()
    holds(dovecot(store=store, storage=storage, users=users, plugin="packaged"), mails)


@packaged_loses
@pytest.mark.parametrize("storage", STORAGES)
def test_a_new_password_holds_for_keys_of_a_guid_that_is_gone(dovecot, storage):
    server = dovecot(storage=storage, users={"alice": UserConfig(CryptConfig(password="secret"))})
    mails = stored_in(server, *FOLDERS)
    for file in index_files(server, storage, "INBOX"):
        file.unlink()
    server.doveadm("force-resync", "-u", "alice", "INBOX")
    cryptokey(server, "password", "-o", "secret", "-n", "latest")
    server.set_user("alice", UserConfig(CryptConfig(password="latest")))
    holds(server, mails)
    assert b"secret" not in cryptokey(server, "list", "-U").stdout
    # Nothing is left that the old password opens.
    option = words.option("mail_crypt_private_password", "secret")
    old = server.doveadm("-o", option, "mailbox", "cryptokey", "export", "-u", "alice", "-U", check=False)
    assert b"BEGIN PRIVATE" not in old.stdout


@packaged_loses
@pytest.mark.parametrize("storage", STORAGES)
def test_a_restored_home_without_any_index_opens(dovecot, alice, storage):
    server = dovecot(storage=storage, users={"alice": alice})
    mails = stored_in(server, *FOLDERS)
    for pattern in ("dovecot.*index*", "dovecot-uidlist"):
        for file in server.store.home("alice").rglob(pattern):
            file.unlink()
    for _ in range(2):
        server.doveadm("force-resync", "-u", "alice", "*")
    holds(server, mails)


@packaged_loses
def test_mdbox_opens_after_its_map_was_lost(dovecot, alice):
    server = dovecot(storage="mdbox", users={"alice": alice})
    mails = stored_in(server, *FOLDERS)
    with server.imap("alice") as session:
        session.folder("Work")
        assert session.uid("COPY", "1:*", "INBOX")[0] == "OK"
    mails["INBOX"] += mails["Work"]
    for file in server.store.home("alice").glob(MAP):
        file.unlink()
    server.doveadm("force-resync", "-u", "alice", "*")
    holds(server, mails)


@pytest.mark.parametrize(
    "verb, then",
    [
        ("COPY", "keep"),
        *(
            pytest.param(*case, marks=packaged_loses)
            for case in (("MOVE", "keep"), ("COPY", "delete"), ("MOVE", "delete"), ("COPY", "purge"), ("MOVE", "purge"))
        ),
    ],
)
def test_what_mdbox_merges_opens_wherever_it_was_copied_from(dovecot, alice, verb, then):
    """A copy keeps its mail's GUID, and a rebuild takes what has one GUID for one mail."""
    server = dovecot(storage="mdbox", users={"alice": alice})
    mails = stored_in(server, "A", "B")
    with server.imap("alice") as session:
        session.folder("A")
        assert session.uid(verb, "1:*", "B")[0] == "OK"
    mails["B"] += mails["A"]
    if verb == "MOVE":
        mails["A"] = []
    holds(server, mails)
    server.doveadm("force-resync", "-u", "alice", "A")
    holds(server, mails)
    if then in ("delete", "purge"):
        with server.imap("alice") as session:
            assert session.delete("A")[0] == "OK"
        del mails["A"]
        holds(server, mails)
    if then == "purge":
        server.doveadm("purge", "-u", "alice")
        server.doveadm("force-resync", "-u", "alice", "B")
        holds(server, mails)


@packaged_loses
def test_mdbox_opens_after_its_other_storage_was_away(dovecot):
    """A rebuild without it takes another copy of the mail, with another folder's key."""
    place = {"2.3": (("mail", "mdbox:~/mdbox:ALT=~/alt"),), "2.4": (("mail_alt_path", "~/alt"),)}
    extra = place["2.4" if words.is_24() else "2.3"]
    server = dovecot(storage="mdbox", users={"alice": UserConfig(extra=extra)})
    server.log.expect("Error:", "rebuilding", "corrupted", "fscking")
    mails = stored_in(server, "A")
    server.doveadm("altmove", "-u", "alice", "mailbox", "A", "ALL")
    with server.imap("alice") as session:
        session.create("B")
        session.folder("A")
        assert session.uid("COPY", "1:*", "B")[0] == "OK"
    mails["B"] = mails["A"]
    alt = server.store.home("alice") / "alt"
    alt.rename(alt.with_name("away"))
    server.doveadm("force-resync", "-u", "alice", "*", check=False)
    with server.imap("alice") as session:
        session.delete("B")
    shutil.rmtree(alt, ignore_errors=True)
    alt.with_name("away").rename(alt)
    server.doveadm("force-resync", "-u", "alice", "*", check=False)
    holds(server, {"A": mails["A"]})


@packaged_loses
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("verb", ["COPY", "MOVE"])
def test_mail_opens_that_was_moved_by_a_process_without_the_plugin(dovecot, store, alice, verb, storage):
    server = dovecot(store=store, storage=storage, users={"alice": alice})
    mails = stored_in(server, "A", "B")
    server.stop()
    other = dovecot(store=store, storage=storage, users={"alice": alice}, plugin="none")
    with other.imap("alice") as session:
        session.folder("A")
        assert session.uid(verb, "1:*", "B")[0] == "OK"
        # Deleted there, too: what the server thinks of A's keys then doesn't matter.
        assert session.delete("A")[0] == "OK"
    other.stop()
    server.start()
    holds(server, {"B": mails["A"] + mails["B"]})


@packaged_loses
@pytest.mark.parametrize("storage", ("sdbox", "mdbox"))
def test_a_dict_that_cannot_list_finds_keys_all_the_same(dovecot, storage):
    extra = (
        "mail_attribute {\ndict fs {\nfs posix {\nprefix = %{home}/attributes/\n}\n}\n}\n"
        if words.is_24()
        else "mail_attribute_dict = fs:posix:prefix=%h/attributes/\n"
    )
    users = {"alice": UserConfig(CryptConfig(password="secret"))}
    server = dovecot(storage=storage, users=users, attribute_dict=None, extra=extra)
    # 2.4 says so itself, whoever asks.
    server.log.expect("dict-fs doesn't currently support DICT_ITERATE_FLAG_RECURSE")
    mails = stored_in(server, *FOLDERS)
    lose_index(server, storage, *FOLDERS)
    holds(server, mails)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_no_mail_is_encrypted_to_a_key_that_was_not_stored(dovecot, tmp_path, storage, times):
    """Dovecot's file dict answers with what it has failed to write, as long as the session lasts."""
    server = dovecot(storage=storage, users={"alice": UserConfig()})
    server.deliver("alice", Mail.make())
    server.doveadm("mailbox", "create", "-u", "alice", "Work")
    mails = [Mail.make() for _ in range(6)]
    commands = b"".join(
        b"a%d APPEND Work {%d+}\r\n%s\r\n" % (number, len(mail.data), mail.data)
        for number, mail in enumerate(mails)
    )
    imap = [str(libexec_dir() / "imap"), "-c", str(server.places.config), "-u", "alice"]
    # What is written before it takes the dict's place.
    file = "/alice/dovecot-attributes.tmp"
    done = server.run_program(no_room(tmp_path, imap, times, file), commands + b"z LOGOUT\r\n", check=False)
    stored = [mail for number, mail in enumerate(mails) if b"a%d OK" % number in done.stdout]
    assert 0 < len(stored) < len(mails), (done.stdout, done.stderr)
    holds(server, {"Work": stored})
