"""notify, and what listens to it: mail_log and push_notification."""

from __future__ import annotations

import pytest
from conf import plugins, settings
from harness import CryptConfig, Mail, UserConfig
from harness.spoil import DAMAGED, GOOD, LOCKED, READABLE, spoil

STORAGES = ("maildir", "sdbox", "mdbox")


@pytest.fixture(scope="module")
def server(shared_dovecot):
    crypt = CryptConfig(password="of-the-key")
    users = {storage: UserConfig(crypt, storage=storage) for storage in STORAGES}
    old = {
        "mail_log_events": "delete undelete expunge save copy mailbox_delete mailbox_rename flag_change",
        "mail_log_fields": "uid box msgid size vsize flags from subject",
        "push_notification_driver": "dlog",
    }
    new = (
        "mail_log_events = delete undelete expunge save copy mailbox_delete mailbox_rename flag_change\n"
        "mail_log_fields = uid box msgid size vsize flags from subject\n"
        "push_notification dlog {\n}\n"
    )
    extra = plugins("notify", "mail_log", "push_notification") + settings(old, new)
    return shared_dovecot(users=users, fetch_failure="no-after", extra=extra)


@pytest.mark.packaged_defect("hands out the damaged mail")
@pytest.mark.parametrize("storage", STORAGES)
def test_what_happens_to_mails_is_told_for_each_of_them(server, storage):
    spoilt = spoil(server, storage)
    spoilt.check()
    more = Mail.make()
    server.deliver(storage, more)
    mark = server.log.mark()
    with server.imap(storage) as session:
        session.create("Kept")
        session.folder()
        assert session.uid("STORE", "1:*", "+FLAGS", r"(\Seen \Flagged)")[0] == "OK"
        for uid in READABLE:
            assert session.uid("COPY", str(uid), "Kept")[0] == "OK"
        for uid in (LOCKED, DAMAGED):
            assert session.uid("COPY", str(uid), "Kept")[0] == "NO"
        session.uid("STORE", f"{LOCKED}:{DAMAGED}", "+FLAGS", r"(\Deleted)")
        assert session.expunge()[0] == "OK"
        assert session.noop()[0] == "OK"
        assert session.bodies("Kept") == list(spoilt.readable.values())
    for what in ("flag_change", "delete", "expunge"):
        for uid in (LOCKED, GOOD, DAMAGED):
            (line,) = server.log.wait_for(rf"\({storage}\).*: Info: (Mailbox INBOX: )?{what}: .*\buid={uid}\b", mark)
            assert uid != GOOD or spoilt.mails[uid].subject in line
    assert server.log.wait_for(rf"\({storage}\).*: Info: (Mailbox \S+: )?copy from INBOX: .*\buid={GOOD}\b", mark)
    assert spoilt.in_files() == []
