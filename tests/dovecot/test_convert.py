"""Mail that is there already is encrypted, decrypted, or put under another key, and nobody notices."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from harness import CryptConfig, Instance, Key, Mail, UserConfig, forge, words
from harness.convert import (
    bodies, convert, encrypted, everything, fill, inbox, leftovers, new_keys, next_second, pair, rows, saved_dates, total,
)  # fmt: skip
from test_attachments import Letter

STORAGES = ("maildir", "sdbox", "mdbox")
KEY = Key.ec()
GLOBAL = CryptConfig(curve=None, global_public=KEY.public_setting(), global_private=(KEY.setting(),))

pytestmark = pytest.mark.packaged_refuses("it has no such command")


@pytest.fixture(scope="module")
def server(shared_dovecot):
    users = {}
    for storage in STORAGES:
        for name in ("all", "date", "dry", "rekey", "resume", "cut", "mask"):
            users |= pair(f"{storage}-{name}", storage=storage)
        for name in ("twice", "older"):
            users |= pair(f"{storage}-{name}", GLOBAL, storage=storage)
        users |= pair(f"{storage}-sense", storage=storage)
        users |= pair(f"{storage}-gz", storage=storage, compress="gz")
        users |= pair(f"{storage}-refuse", storage=storage)
        refuses = ((words.setting("mail_crypt_read_plain"), "no"),)
        users[f"{storage}-refuse"] = replace(users[f"{storage}-refuse"], extra=refuses)
        users |= pair(f"{storage}-pass", CryptConfig(password="secret"), storage=storage)
    users |= pair("maildir-memory", storage="maildir", index="memory")
    return shared_dovecot(users=users)


@pytest.mark.parametrize("kind", ("all", "gz"))
@pytest.mark.parametrize("storage", STORAGES)
def test_nothing_changes_but_the_bytes_on_the_disk(server, storage, kind):
    user = f"{storage}-{kind}"
    fill(server, f"{user}-before")
    new_keys(server, user)
    before = everything(server, user)
    assert not any(encrypted(server, user))
    done = convert(server, user)
    count = len(before[0])
    assert total(done, "converted") == total(done, "mails") == count
    assert all(encrypted(server, user)) and len(encrypted(server, user)) == count
    assert everything(server, user) == before
    assert not leftovers(server, user)
    # There is nothing left to be done, and back again is the same.
    assert total(convert(server, user, "--rekey"), "converted") == 0
    done = convert(server, user, "--to", "plain")
    assert total(done, "converted") == count
    assert not any(encrypted(server, user))
    assert bodies(server, f"{user}-before") == before[2]
    assert everything(server, user) == before


@pytest.mark.parametrize("storage", STORAGES)
def test_mail_stays_as_old_as_it_is(server, storage):
    """Else autoexpunge would begin to count anew."""
    user = f"{storage}-date"
    fill(server, f"{user}-before")
    if storage == "mdbox":
        # It notes the date itself.
        saved = {int(date) for _, _, date in saved_dates(server, user)}
    else:
        saved = {int(path.stat().st_ctime) for path in server.store.mail_files(user)}
    next_second()
    convert(server, user)
    dates = saved_dates(server, user)
    assert {int(date) for _, _, date in dates} == saved
    next_second()
    convert(server, user, "--to", "plain")
    assert saved_dates(server, user) == dates


def test_indexes_in_memory_are_no_hindrance(server):
    user = "maildir-memory"
    fill(server, f"{user}-before")
    before = bodies(server, user)
    for args in ((), ("--to", "plain")):
        assert total(convert(server, user, *args), "converted") == 8
        assert bodies(server, user) == before


@pytest.mark.parametrize("storage", STORAGES)
def test_a_dry_run_counts_and_changes_nothing(server, storage):
    user = f"{storage}-dry"
    fill(server, f"{user}-before")
    before = everything(server, user), server.store.attributes(user)
    done = convert(server, user, "--dry-run")
    assert total(done, "converted") == len(before[0][0])
    assert (everything(server, user), server.store.attributes(user)) == before
    assert not any(encrypted(server, user))


@pytest.mark.parametrize("storage", STORAGES)
def test_mail_under_an_older_key_gets_the_new_one_if_it_is_wanted(server, storage):
    user = f"{storage}-rekey"
    fill(server, user)
    old = server.store.folder_keys(user)
    new_keys(server, user)
    before = everything(server, user)
    done = convert(server, user)
    assert total(done, "converted") == 0
    assert total(done, "older") == len(before[0])
    done = convert(server, user, "--rekey")
    assert total(done, "converted") == len(before[0])
    assert everything(server, user) == before
    # No mail needs the old keys any more.
    for guid, ids in old.items():
        folder = "INBOX" if guid == server.guid(user) else "Work"
        for key in ids:
            server.doveadm("mailbox", "cryptokey", "delete", "-u", user, "-m", folder, key)
    assert bodies(server, user) == before[2]


@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_done_is_not_done_again(server, storage):
    user = f"{storage}-resume"
    fill(server, f"{user}-before")
    convert(server, user, "Work")
    assert total(convert(server, user), "converted") == rows(convert(server, user))["INBOX"]["mails"]
    assert total(convert(server, user), "converted") == 0


@pytest.mark.parametrize("storage", ("maildir", "sdbox"))
def test_a_mail_that_is_encrypted_twice_is_named_and_left(server, storage):
    user = f"{storage}-twice"
    mails = fill(server, user)
    twice = inbox(server, user)[0]
    inner = forge.Stream(mails[0].lines, KEY).data()
    twice.replace(forge.Stream(inner, KEY).data())
    kept = twice.path.read_bytes()
    for args in (["--rekey"], ["--to", "plain"]):
        done = convert(server, user, *args, check=False)
        assert done.returncode == 65
        assert re.search(rb"UID 2, GUID \S+ was left as it is: .*encrypted twice", done.stderr)
        assert total(done, "left") == 1
        assert twice.path.read_bytes() == kept
    assert encrypted(server, user).count(True) == 1


@pytest.mark.parametrize("storage", ("maildir", "sdbox"))
def test_mail_of_older_releases_becomes_as_new_mail_is(server, storage):
    """Version 1, and the packaged plugin's rounds, although the key is the same."""
    user = f"{storage}-older"
    mails = fill(server, user)
    stored = inbox(server, user)
    stored[0].replace(forge.Stream(mails[0].lines, KEY, rounds=2048).data())
    stored[1].replace(forge.version1(mails[1].lines, KEY))
    assert total(convert(server, user), "older") == 2
    before = everything(server, user)
    assert total(convert(server, user, "--rekey"), "converted") == 2
    assert everything(server, user) == before
    assert total(convert(server, user, "--rekey"), "older") == 0
    assert all(mail.data[9] == 2 for mail in server.store.stored(user))


@pytest.mark.parametrize("storage", STORAGES)
def test_a_mail_that_cannot_be_read_is_named_and_left_and_the_rest_goes_on(server, storage):
    user = f"{storage}-cut"
    fill(server, user)
    server.log.expect("tampered")
    stored = server.store.stored(user)
    stored[1].flip(-1)
    new_keys(server, user)
    kept = stored[1].data
    done = convert(server, user, "--rekey", check=False)
    assert done.returncode == 65
    assert b"UID " in done.stderr and b"tampered" in done.stderr
    assert total(done, "left") == 1
    assert total(done, "converted") == len(stored) - 1
    assert kept == stored[1].data if storage != "mdbox" else kept in [mail.data for mail in server.store.stored(user)]
    assert not leftovers(server, user)


@pytest.mark.parametrize("storage", STORAGES)
def test_only_the_folders_that_are_named_are_converted(server, storage):
    user = f"{storage}-mask"
    fill(server, f"{user}-before")
    assert set(rows(convert(server, user, "W*"))) == {"Work"}
    done = convert(server, user, "Missing", check=False)
    assert done.returncode == 68


def test_what_makes_no_sense_is_refused(server):
    user = "maildir-sense"
    server.deliver(f"{user}-before", Mail.make())
    for args in (["--to", "cipher"], ["--rekey", "--to", "plain"], ["--max-rate", "fast"]):
        done = convert(server, user, *args, check=False)
        assert done.returncode == 64, done.stderr
    done = convert(server, f"{user}-before", check=False)
    assert done.returncode and b"isn't encrypted" in done.stderr


@pytest.mark.parametrize("storage", ("sdbox", "mdbox"))
def test_attachments_outside_and_mail_in_alternative_storage_stay_where_they_are(dovecot, storage):
    if words.is_24():
        extra, alt = words.attachments("%{home}/attachments", "posix:"), ("mail_alt_path", "~/alt")
    else:
        extra = "mail_attachment_dir = ~/attachments\nmail_attachment_fs = posix\n"
        alt = ("mail", f"{storage}:~/{storage}:ALT=~/alt")
    server = dovecot(users=pair("alice", storage=storage, extra=(alt,)), extra=extra)
    server.doveadm("mailbox", "create", "-u", "alice-before", "Work")
    letters = [Letter.make(), Letter.make(), Letter.make(100)]
    for letter in letters:
        server.deliver("alice-before", letter.data)
    server.doveadm("altmove", "-u", "alice-before", "uid", "1,3")
    server.doveadm("purge", "-u", "alice-before")
    new_keys(server, "alice")
    home = server.store.home("alice")
    before = everything(server, "alice")
    outside = sorted((home / "attachments").rglob("*"))
    assert outside
    assert total(convert(server, "alice"), "converted") == 3
    assert everything(server, "alice") == before
    assert sorted((home / "attachments").rglob("*")) == outside
    assert all(encrypted(server, "alice"))
    there = [mail for mail in server.store.stored("alice") if home / "alt" in mail.path.parents]
    assert len(there) == 2


def test_a_message_that_two_folders_have_becomes_one_for_each(dovecot, store):
    """The keys of neither folder could be for both. A folder that isn't converted keeps what it has."""
    user = "alice"
    with Instance(plugin="none", users={user: UserConfig(storage="mdbox")}, store=store) as bare:
        fill(bare, user)
    server = dovecot(users={user: UserConfig(CryptConfig(), storage="mdbox")}, store=store)
    new_keys(server, user)
    before = everything(server, user)
    assert len(server.store.stored(user)) == len(before[0]) - 2
    dates = saved_dates(server, user)
    done = convert(server, user, "Work")
    assert total(done, "converted") == 3
    assert encrypted(server, user).count(False) == 5
    assert everything(server, user) == before
    assert total(convert(server, user), "converted") == 5
    assert len(server.store.stored(user)) == len(before[0]) and all(encrypted(server, user))
    assert everything(server, user) == before
    assert saved_dates(server, user) == dates
    (inbox_key,), (work_key,) = (server.store.folder_keys(user)[server.guid(user, name)] for name in ("INBOX", "Work"))
    used = Counter(forge.header(mail.data).key_ids[0] for mail in server.store.stored(user))
    assert used == {inbox_key: 5, work_key: 3}
    # And nothing of it is left where a purge, or a rebuilt index, would find it.
    server.doveadm("purge", "-u", user)
    server.doveadm("force-resync", "-u", user, "*")
    assert {name: sorted(found) for name, found in bodies(server, user).items()} == {
        name: sorted(found) for name, found in before[2].items()
    }


@pytest.mark.parametrize("storage", STORAGES)
def test_plaintext_that_is_refused_does_not_become_mail_by_that(server, storage):
    """Somebody may have planted it."""
    user = f"{storage}-refuse"
    server.log.expect("stored in plaintext")
    server.deliver(f"{user}-before", Mail.make())
    done = convert(server, user, check=False)
    assert done.returncode == 65 and b"UID 1, GUID" in done.stderr
    assert total(done, "left") == 1
    assert encrypted(server, user) == [False]
    done = convert(server, user, "--to", "plain", check=False)
    assert done.returncode == 65


@pytest.mark.parametrize("storage", STORAGES)
def test_plaintext_is_encrypted_for_who_alone_has_the_password(server, storage):
    """As when mail is delivered. What is encrypted already can't be read, and stays."""
    user = f"{storage}-pass"
    mails = fill(server, f"{user}-before")
    new_keys(server, user)
    before = everything(server, user)
    done = convert(server, user, "--max-rate", "1G")
    assert total(done, "converted") == len(before[0])
    assert everything(server, user) == before
    assert mails[0].data in bodies(server, user)["INBOX"]
