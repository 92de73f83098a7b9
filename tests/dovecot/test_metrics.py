"""Dovecot's stats process counts what happens, by examples/*/metrics.conf, and tells whoever asks over HTTP."""

from __future__ import annotations

import http.client
import imaplib
import re
import time

import pytest
from harness import CryptConfig, Mail, UserConfig, words
from harness.modules import REPOSITORY
from test_attachments import Letter, options as attached
from test_doveadm import cryptokey

pytestmark = pytest.mark.packaged_refuses("it has no events")

LINE = ("2.3", "2.4")[words.is_24()]
CONF = (REPOSITORY / "examples" / f"dovecot-{LINE}" / "metrics.conf").read_text()
GUIDE = (REPOSITORY / "docs" / "operations.md").read_text()
PORT = 20990
PASSWORD = "a-password-f0r-the-metrics"
SAMPLE = re.compile(r"dovecot_(mail_crypt_\w+?)_(?:total|count)(?:\{(.*)\})? (\d+)")
USERS = {
    "alice": UserConfig(CryptConfig(password=PASSWORD)),
    # The same home, by somebody who doesn't know the password.
    "locked": UserConfig(CryptConfig(password="another one"), home="alice"),
    "open": UserConfig(CryptConfig()),
}


def scrape(server) -> str:
    """What Prometheus would get."""
    connection = http.client.HTTPConnection(server.places.address, PORT, timeout=10)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.status == 200
    return answer.read().decode()


def counted(text: str) -> dict[tuple[str, str], int]:
    """Metric and labels (without quotes) -> the number of events."""
    return {(name, labels.replace('"', "")): int(count) for name, labels, count in SAMPLE.findall(text)}


def wait_for(server, *wanted: tuple[str, str]) -> dict[tuple[str, str], int]:
    """All samples, once these are there: processes tell without waiting for an answer."""
    until = time.monotonic() + 10
    while True:
        found = counted(scrape(server))
        missing = [sample for sample in wanted if not found.get(sample)]
        if not missing:
            return found
        assert time.monotonic() < until, f"{missing} not in {found}"
        time.sleep(0.05)


def conf() -> str:
    """The example, on a port of our own."""
    listen = "listen" if words.is_24() else "address"
    text = CONF.replace("port = 9900", f"port = {PORT}")
    assert f"{listen} = 127.0.0.1" in text
    return text.replace(f"    {listen} = 127.0.0.1\n", "")


@pytest.fixture(scope="module")
def server(shared_dovecot):
    return shared_dovecot(users=dict(USERS), acl=True, extra=conf())


def test_what_is_stored_and_read_is_counted(server):
    mail = Mail.make()
    server.deliver("alice", mail)
    with server.imap("alice") as imap:
        assert imap.bodies()[-1].endswith(mail.data)
    algorithm = "source=mail,format=2,algorithm=aes-256-gcm-sha256"
    found = wait_for(
        server,
        ("mail_crypt_encrypted", algorithm),
        ("mail_crypt_decrypted", algorithm),
        ("mail_crypt_unlocked", "slot_type=password,kdf=pbkdf2"),
        ("mail_crypt_key_created", "level=user,protected=yes"),
        ("mail_crypt_key_created", "level=folder,protected=yes"),
    )
    assert ("mail_crypt_decrypt_failed", "source=mail,error_code=tampered") not in found


def test_a_tampered_mail_and_an_unprotected_key_are_found(server):
    server.deliver("open", Mail.make())
    (stored,) = server.store.stored("open")
    stored.flip(-1)
    server.log.expect("tampered")
    with server.imap("open") as imap, pytest.raises(imaplib.IMAP4.abort):
        imap.bodies()
    wait_for(
        server,
        ("mail_crypt_decrypt_failed", "source=mail,error_code=tampered"),
        ("mail_crypt_key_created", "level=user,protected=no"),
    )


def test_a_key_that_does_not_open_counts_once_a_session(server):
    server.deliver("alice", Mail.make())
    server.deliver("alice", Mail.make())
    wrong = ("mail_crypt_unlock_failed", "slot_type=password,error_code=wrong_password")
    before = counted(scrape(server)).get(wrong, 0)
    server.log.expect("wrong password")
    with server.imap("locked") as imap:
        for uid in ("1", "2"):
            imap.folder()
            try:
                imap.fetch_uids(uids=uid)
            except imaplib.IMAP4.error:
                break
    found = wait_for(server, wrong, ("mail_crypt_decrypt_failed", "source=mail,error_code=wrong_password"))
    assert found[wrong] == before + 1


def test_plaintext_is_counted(server):
    with server.imap("open") as imap:
        imap.put(Mail.make().data)
    stored = server.store.stored("open")[-1]
    plain = Mail.make().data
    stored.path.unlink()
    stored.path.with_name(f"1600000000.M1P1.host,S={len(plain)}:2,").write_bytes(plain)
    with server.imap("open") as imap:
        imap.folder()
        assert plain in imap.fetch_uids(uids="*").items.values()
    wait_for(server, ("mail_crypt_plaintext", ""))


def test_changes_of_keys_are_counted(server):
    server.deliver("alice", Mail.make())
    cryptokey(server, "password", "-o", PASSWORD, "-n", "another", user="alice")
    cryptokey(server, "password", "-o", "another", "-n", PASSWORD, user="alice")
    cryptokey(server, "password", "-o", "wrong", "-n", "another", user="alice", check=False)
    server.doveadm("mailbox", "cryptokey", "slot", "add", "-u", "alice", "recovery", stdin=b"")
    with server.imap("alice") as imap:
        assert imap.raw("SETACL INBOX open lr")[0].startswith("OK")
    wait_for(
        server,
        ("mail_crypt_key_changed", "change=password"),
        ("mail_crypt_key_changed", "change=slot_add"),
        ("mail_crypt_key_changed", "change=share"),
        ("mail_crypt_key_change_failed", "change=password,error_code=wrong_password"),
    )


def test_attachments_are_counted_apart(dovecot, store):
    set_up = attached("files", store, storage="sdbox")
    server = dovecot(**set_up | {"extra": set_up["extra"] + conf()})
    letter = Letter.make()
    server.deliver("alice", letter.data)
    with server.imap("alice") as imap:
        assert imap.bodies()[-1].endswith(letter.data)
    algorithm = "source=fs,format=2,algorithm=aes-256-gcm-sha256"
    wait_for(server, ("mail_crypt_encrypted", algorithm), ("mail_crypt_decrypted", algorithm))


def test_no_label_names_anybody_or_holds_a_secret(server):
    server.deliver("open", Mail.make())
    wait_for(server, ("mail_crypt_encrypted", "source=mail"))
    text = scrape(server)
    labels = {label for _, found, _ in SAMPLE.findall(text) for label in found.split(",") if label}
    assert labels
    for label in labels:
        assert re.fullmatch(r'(source|format|algorithm|slot_type|kdf|level|protected|change|error_code)="[a-z0-9_-]{1,24}"', label), label
    for word in (PASSWORD, *USERS):
        assert f'"{word}"' not in text


def test_the_guide_has_every_event_and_metric():
    source = (REPOSITORY / "src" / "ffi" / "event.rs").read_text()
    events = set(re.findall(r'c"(mail_crypt_\w+_finished)"', source))
    assert len(events) == 6
    for name in events | set(re.findall(r"^metric (\w+)", CONF, re.MULTILINE)):
        assert f"`{name}`" in GUIDE, name
    for event in events:
        assert f"event={event} " in CONF or f"event={event}\n" in CONF
