"""What README.md and the pages for administrators say can be done can be done; test_guide.py tries operations.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import CryptConfig, Mail, UserConfig, words
from harness.modules import REPOSITORY
from harness.spoil import SPOILT, spoil
from test_attachments import Letter

PAGES = ("README.md", "docs/install.md", "docs/setup.md", "docs/behaviour.md", "docs/security.md")
TEXT = "\n".join((REPOSITORY / page).read_text() for page in PAGES)
DEMO = REPOSITORY / "scripts" / "demo.py"


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in their order. README shows some that are elsewhere, too."""
    return list(dict.fromkeys(re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)))


def block(language: str, containing: str) -> str:
    """The one block that contains a word."""
    (found,) = [b for b in blocks(language) if containing in b]
    return found


def test_every_link_leads_somewhere():
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").glob("*.md")]
    for page in pages:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), f"{page.name}: {link}"
            if anchor:
                titles = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
                assert anchor in anchors, f"{page.name}: {link}"


def test_every_make_command_is_a_target():
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    said = blocks("sh") + re.findall(r"`(make [^`\n]+)`", TEXT)
    named = {target for text in said for target in re.findall(r"\bmake ([a-z][a-z-]+)", text)}
    assert {"demo", "test", "install", "uninstall"} <= named
    assert named <= targets


def test_every_command_is_known_to_these_tests():
    """CI runs the make targets, make test-deb installs the package; what else they say to type is run below."""
    for line in "".join(blocks("sh")).splitlines():
        known = r"(sudo )?make\b|sudo apt install \./build/deb/|openssl |doveadm (mailbox update|fetch|expunge) "
        assert re.match(known, line), f"nobody tries: {line}"


def test_the_list_of_modules_is_that_of_the_makefile():
    rows = re.findall(r"^\| `(\S+\.so)` \|.*\| (yes|not yet) \|$", TEXT, re.MULTILINE)
    made = set(re.findall(r"call module,([^,]+),", (REPOSITORY / "Makefile").read_text()))
    assert len(rows) == 6
    assert {name for name, there in rows if there == "yes"} == made


@pytest.mark.packaged_defect("hands out the damaged mail")
def test_mails_that_cannot_be_read_are_named_and_dropped(dovecot):
    server = dovecot(users={"jane": UserConfig(CryptConfig(password="of-her-key"))})
    spoilt = spoil(server, "jane")
    find, drop = block("sh", "doveadm fetch").splitlines()
    find = find.removesuffix(" >/dev/null").split()
    said = server.doveadm(*find[1:], check=False).stderr.decode()
    assert set(re.findall(r"Mailbox INBOX: UID[= ](\d+): mail_crypt: ", said)) == set(map(str, SPOILT))
    for uid in SPOILT:
        server.doveadm(*drop.replace("uid 3", f"uid {uid}").split()[1:])
    done = server.doveadm(*find[1:])
    assert not done.stderr
    assert all(mail.words[0].encode() in done.stdout for uid, mail in spoilt.mails.items() if uid not in SPOILT)


def test_settings_for_keys_of_users_and_folders(dovecot):
    settings = block("conf", "crypt_user_key_curve" if words.is_24() else "mail_crypt_curve")
    alice = UserConfig(crypt=CryptConfig(save_version=None, curve=None, password="of-her-key"))
    server = dovecot(crypt=None, attribute_dict=None, extra=settings, users={"alice": alice})
    assert_encrypted_and_readable(server)
    assert len(server.store.user_keys("alice")) == 1


def test_settings_for_sharing(dovecot):
    settings = block("conf", "acl_driver" if words.is_24() else "acl = vfile")
    settings += words.shared_namespace()
    users = {name: UserConfig() for name in ("alice", "bob")}
    server = dovecot(extra=settings, users=users)
    mail = Mail.make()
    server.deliver("alice", "bob", mail)
    with server.imap("alice") as session:
        assert session.raw("SETACL INBOX bob lr")[0].startswith("OK")
    with server.imap("bob") as session:
        (body,) = session.bodies("shared/alice/INBOX")
    assert body.endswith(mail.data)


def test_settings_for_one_pair_of_keys(dovecot, tmp_path):
    for command in block("sh", "openssl").splitlines():
        subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True)
    name = "crypt_global_private_key main" if words.is_24() else "mail_crypt_global_private_key"
    settings = block("conf", name)
    settings = settings.replace("/etc/dovecot", str(tmp_path))
    server = dovecot(crypt=None, extra=settings, users={"alice": UserConfig()})
    assert_encrypted_and_readable(server)
    assert not server.store.user_keys("alice")


def test_settings_for_attachments(dovecot, tmp_path):
    for command in block("sh", "openssl").splitlines():
        subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True)
    settings = block("conf", "mail_ext_attachment_path" if words.is_24() else "mail_attachment_dir")
    if words.is_24():
        settings += block("conf", "crypt_global_private_key main")
    settings = settings.replace("/etc/dovecot", str(tmp_path))
    server = dovecot(extra=settings, storage="sdbox", users={"alice": UserConfig()})
    mail = Letter.make()
    server.deliver("alice", mail.data)
    with server.imap("alice") as imap:
        (seen,) = imap.bodies()
    assert seen.endswith(mail.data)
    (file,) = (server.store.home("alice") / "attachments").rglob("*-*")
    assert file.read_bytes().startswith(b"CRYPTED\x03\x07")


def assert_encrypted_and_readable(server):
    mail = Mail.make()
    server.deliver("alice", mail)
    with server.imap("alice") as imap:
        (seen,) = imap.bodies()
    assert seen.endswith(mail.data)
    (file,) = server.store.mail_files("alice")
    assert file.read_bytes().startswith(b"CRYPTED\x03\x07")


def test_with_the_advice_headers_are_not_on_disk_either(dovecot):
    """Indexes in memory, temporary files on a tmpfs: no file holds a word of header or body."""
    field, value = block("userdb", "mail_index_path" if words.is_24() else "INDEX=MEMORY").strip().split("=", 1)
    users = {
        "advised": UserConfig(crypt=CryptConfig(password="x"), extra=((field, value),)),
        "usual": UserConfig(crypt=CryptConfig(password="x")),
    }
    server = dovecot(extra=block("conf", "mail_temp_dir"), users=users)
    found = {}
    for name in users:
        mail = Mail.make()
        server.deliver(name, mail)
        with server.imap(name) as imap:
            imap.folder()
            # ENVELOPE is what makes Dovecot cache headers.
            imap.uid("FETCH", "1:*", "(ENVELOPE)")
            assert mail.words[0].encode() in imap.bodies()[0]
            imap.folder()
            imap.uid("SEARCH", "SUBJECT", "nothing")
        found[name] = server.store.find_words(server.store.home(name), (*mail.words, mail.subject))
    assert found["advised"] == []
    assert found["usual"], "the cache holds no headers: then the advice is not needed"


def run_demo(*args: str, plugin: str, pid_file: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(DEMO), "--plugin", plugin, "--pid-file", str(pid_file), *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_demo_shows_all_and_leaves_nothing(plugin, tmp_path):
    said = run_demo(plugin=plugin, pid_file=tmp_path / "pid")
    assert "43 52 59 50 54 45 44 03 07" in said
    assert "under the clock" in said
    assert "encrypted under the password" in said
    (mail,) = re.findall(r"^  (/\S+/Maildir/(?:new|cur)/\S+)", said, re.MULTILINE)
    assert not Path(mail).parents[3].exists()


def test_demo_stays_when_asked_and_goes_when_told(plugin, tmp_path):
    pid_file = tmp_path / "pid"
    said = run_demo("--keep", plugin=plugin, pid_file=pid_file)
    try:
        pid = int(pid_file.read_text())
        (by_hand,) = re.findall(r"^  doveadm +(.*)$", said, re.MULTILINE)
        mail = subprocess.run(by_hand, shell=True, capture_output=True, text=True, timeout=30, check=True)
        assert "under the clock" in mail.stdout
        (home,) = re.findall(r"^  mail, keys +(.*)$", said, re.MULTILINE)
    finally:
        run_demo("--stop", plugin=plugin, pid_file=pid_file)
    assert not Path(home).exists()
    assert not alive(pid)


def alive(pid: int) -> bool:
    """Running, and not just waiting for somebody to collect its exit code."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
