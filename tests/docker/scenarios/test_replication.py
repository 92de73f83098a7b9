"""Two backends and one dict for the keys of both: each with its own copy of the mail, or both on the same."""

from __future__ import annotations

import threading

import pytest
from hosts import Mail, Scenario, until


@pytest.fixture(scope="module", params=("pgsql", "redis"))
def scenario(request, line):
    with Scenario(line, request.param) as scenario:
        yield scenario
        for host in scenario.hosts:
            print(f"---- {host.container[:12]}\n{host.log()[-8000:]}")


def test_keys_made_on_one_are_used_on_the_other(scenario):
    one, two = scenario.hosts
    mails = [Mail.make(), Mail.make(300_000)]
    one.deliver("alice", mails[0])
    scenario.sync("alice")
    two.assert_reads("alice", mails[:1])
    two.deliver("alice", mails[1])
    scenario.sync("alice", source=2)
    for host in scenario.hosts:
        host.assert_reads("alice", mails)
        host.assert_encrypted("alice", mails)
    if scenario.dict_kind == "pgsql":
        user_keys = "FROM user_privkeys WHERE username = 'alice' AND id <> 'active'"
        assert scenario.sql(f"SELECT count(DISTINCT id) {user_keys}") == "1"
        how = scenario.sql(f"SELECT DISTINCT split_part(value, ':', 3) {user_keys}")
        assert how == "2", "not under a password"


def test_a_code_made_on_one_opens_on_the_other(scenario):
    one, two = scenario.hosts
    one.deliver("grace", Mail.make())
    scenario.sync("grace")
    slot = "doveadm mailbox cryptokey slot"
    code = one.run("sh", "-c", f"{slot} add -u grace recovery </dev/null").strip()
    assert "recovery" in two.run("sh", "-c", f"echo {code} | {slot} test -u grace")
    assert "recovery" not in two.run("sh", "-c", f"echo of-the-key-of-grace | {slot} test -u grace")
    if scenario.dict_kind == "pgsql":
        assert scenario.sql("SELECT count(*) FROM user_slots WHERE username = 'grace' AND name = 'slots'") == "2"


def test_an_administrator_lists_and_deletes_keys(scenario):
    if scenario.dict_kind != "pgsql":
        pytest.skip("Dovecot can't list what is in Redis")
    one, two = scenario.hosts
    mails = [Mail.make()]
    one.deliver("bob", mails[0])

    def keys(host, *what):
        answer = host.run("doveadm", "-f", "tab", "mailbox", "cryptokey", "list", "-u", "bob", *what)
        return {line.split("\t")[2]: line.split("\t")[1] for line in answer.splitlines()[1:]}

    assert list(keys(one, "-U").values()) == ["yes"]
    (first,) = keys(one, "INBOX")
    for _ in range(2):
        one.run("doveadm", "mailbox", "cryptokey", "generate", "-u", "bob", "-f", "INBOX")
    scenario.sync("bob")
    found = keys(two, "INBOX")
    assert sorted(found.values()) == ["no", "no", "yes"]
    (unused,) = {key for key, active in found.items() if active == "no"} - {first}
    one.run("doveadm", "mailbox", "cryptokey", "delete", "-u", "bob", "-m", "INBOX", unused)
    assert set(keys(two, "INBOX")) == set(found) - {unused}
    one.assert_reads("bob", mails)


def test_a_folder_made_on_one_is_readable_on_the_other(scenario):
    one, two = scenario.hosts
    message = Mail.make()
    with one.imap("bob") as session:
        session.create("Archive")
        assert session.put(message.data, "Archive")[0] == "OK"
    scenario.sync("bob")
    two.assert_reads("bob", [message], "Archive")


def test_a_backend_that_is_cut_off_stores_nothing_in_the_clear_and_comes_back(scenario):
    one, two = scenario.hosts
    mails = [Mail.make()]
    one.deliver("dave", mails[0])
    scenario.sync("dave")
    two.assert_reads("dave", mails)

    scenario.cut_off(2)
    lost = Mail.make()
    refused = two.try_deliver("dave", lost)
    assert 400 <= refused["dave"][0] < 500
    assert not two.files_in_clear("dave", lost.words)
    assert len(two.mail_files("dave")) == 1
    mails.append(Mail.make())
    one.deliver("dave", mails[1])
    one.assert_reads("dave", mails)

    scenario.reconnect(2)
    until(lambda: scenario.sync("dave") or True, "they replicate again")
    until(lambda: not two.try_deliver("dave", lost), "the one that was cut off takes mail again")
    mails.append(lost)
    scenario.sync("dave", source=2)
    for host in scenario.hosts:
        host.assert_reads("dave", mails)
        host.assert_encrypted("dave", mails)


def make_one_inbox(scenario, user, stored):
    """What an administrator does with a user whom each host has given an INBOX with a GUID of its own.

    Dovecot before 2.3.20 lets the two INBOXes on Maildir swap their GUIDs, each time that it replicates them, without any
    plugin as well. It needs one direction first, which says whose it is; and -f, since two INBOXes with as many mails in
    them are the same to it.
    """
    if scenario.one_store:
        return
    one, two = scenario.hosts
    assert one.guid(user) != two.guid(user)
    for _ in range(3):
        scenario.try_sync(user)
        for host, mails in zip(scenario.hosts, stored):
            bodies = host.read(user)
            for message in mails:
                assert any(body.endswith(message.data) for body in bodies), "its own mail is lost"
    scenario.sync(user, 1, "-1", "-f")
    scenario.sync(user, 1, "-f")
    scenario.sync(user, 2, "-f")
    assert one.guid(user) == two.guid(user)


def test_simultaneous_first_deliveries_to_both_leave_everything_readable(scenario):
    mails = [Mail.make() for _ in range(8)]
    start = threading.Barrier(len(mails))
    refused = []

    def deliver(number: int) -> None:
        host = scenario.hosts[number % 2]
        host.address  # looked up before, so that they start together
        start.wait()
        refused.append(host.try_deliver("carol", mails[number]))

    threads = [threading.Thread(target=deliver, args=(number,)) for number in range(len(mails))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == [{}] * len(mails)
    for number, host in enumerate(scenario.hosts):
        host.assert_reads("carol", mails if scenario.one_store else mails[number::2])
    make_one_inbox(scenario, "carol", [mails[0::2], mails[1::2]])
    for host in scenario.hosts:
        host.assert_reads("carol", mails)
        host.assert_encrypted("carol", mails)
    for host in scenario.hosts:
        mails.append(Mail.make())
        host.deliver("carol", mails[-1])
        scenario.sync("carol")
    for host in scenario.hosts:
        host.assert_reads("carol", mails)
        host.assert_encrypted("carol", mails)
    if scenario.dict_kind == "pgsql":
        for table in ("user_privkeys", "folder_privkeys"):
            keys = scenario.sql(
                f"SELECT count(DISTINCT id) FROM {table} WHERE username = 'carol' AND id <> 'active'"
            )
            # A host finds the user's key by its id, if the other has made it already.
            assert keys in ("1", "2"), "one that each host made while it didn't know of the other's, and no more"


def test_without_the_database_mail_is_refused_for_now_and_not_stored(scenario):
    one, _ = scenario.hosts
    first, second = Mail.make(), Mail.make()
    one.deliver("erin", first)
    scenario.database_down()
    try:
        for user in ("erin", "alice"):
            before = one.mail_files(user)
            refused = one.try_deliver(user, second)
            assert 400 <= refused[user][0] < 500
            assert one.mail_files(user) == before
            assert not one.files_in_clear(user, second.words)
    finally:
        scenario.database_up()
    until(lambda: not one.try_deliver("erin", second), "mail is taken again")
    # Each of Dovecot's dict processes finds out for itself, and by failing once, that its connection is gone.
    until(lambda: one.assert_reads("erin", [first, second]) or True, "and can be read")
    one.assert_encrypted("erin", [first, second])
