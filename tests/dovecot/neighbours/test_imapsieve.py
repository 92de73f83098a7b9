"""imapsieve: a mail that can't be read is passed over, and the script runs for all others."""

from __future__ import annotations

import pytest
from conf import plugins, settings
from harness import CryptConfig, UserConfig
from harness.spoil import READABLE, SPOILT, spoil

STORAGES = ("maildir", "sdbox", "mdbox")
#: folder -> its script; what runs for a mail gets its text, and leaves it in a file.
SCRIPTS = {
    "Pipe": 'require ["vnd.dovecot.pipe", "copy"];\npipe :copy "sink" ["pipe"];\n',
    "Execute": 'require "vnd.dovecot.execute";\nif execute :pipe "sink" ["execute"] { keep; }\n',
    "Filter": 'require "vnd.dovecot.filter";\nfilter "sink" ["filter"];\n',
    "Addheader": 'require "editheader";\naddheader "X-Seen" "yes";\n',
    "Report": 'require "vnd.dovecot.report";\nreport "abuse" "spam" "abuse@example.org";\n',
    "Header": 'require ["vnd.dovecot.pipe", "copy"];\nif header :contains "subject" "s" { pipe :copy "sink" ["header"]; }\n',
}
#: What Sieve's programs get stays in these files, under the folder's name.
SINK = '#!/bin/sh\n# As a spam filter would, it gets the mail in the clear.\ntee "{sink}/$1.$$"\n'


def configuration(folder) -> str:
    """One script for each folder, run when a flag is set."""
    scripts = {name: folder / f"{name.lower()}.sieve" for name in SCRIPTS}
    text = plugins("imap_sieve", protocol="imap") + f"sendmail_path = {folder}/bin/sendmail\n"
    old = {
        "sieve_plugins": "sieve_imapsieve sieve_extprograms",
        "sieve_extensions": "+editheader +vnd.dovecot.report",
        "sieve_global_extensions": "+vnd.dovecot.pipe +vnd.dovecot.filter +vnd.dovecot.execute",
    }
    new = (
        "sieve_plugins {\nsieve_imapsieve = yes\nsieve_extprograms = yes\n}\n"
        "sieve_extensions {\neditheader = yes\nvnd.dovecot.report = yes\n}\n"
        "sieve_global_extensions {\nvnd.dovecot.pipe = yes\nvnd.dovecot.filter = yes\nvnd.dovecot.execute = yes\n}\n"
        "namespace inbox {\n"
    )
    for number, (name, path) in enumerate(scripts.items(), 1):
        rule = f"imapsieve_mailbox{number}"
        old |= {f"{rule}_name": name, f"{rule}_causes": "FLAG", f"{rule}_before": f"file:{path}"}
        new += f"mailbox {name} {{\nsieve_script {name} {{\ntype = before\ncause = flag\npath = {path}\n}}\n}}\n"
    new += "}\n"
    for verb in ("pipe", "filter", "execute"):
        old[f"sieve_{verb}_bin_dir"] = f"{folder}/bin"
        new += f"sieve_{verb}_bin_dir = {folder}/bin\n"
    return text + settings(old, new)


@pytest.fixture(scope="module")
def sink(open_folder):
    """Scripts, programs, and what these have got. The owner of the mail compiles and runs them."""
    folder = open_folder
    for name, script in SCRIPTS.items():
        (folder / f"{name.lower()}.sieve").write_text(script)
    (folder / "bin").mkdir()
    for name, text in {"sink": SINK, "sendmail": SINK.replace("$1", "report")}.items():
        program = folder / "bin" / name
        program.write_text(text.format(sink=folder / "got"))
        program.chmod(0o755)
    (folder / "got").mkdir()
    (folder / "got").chmod(0o777)
    return folder


@pytest.fixture(scope="module")
def server(shared_dovecot, sink):
    crypt = CryptConfig(password="of-the-key")
    users = {f"{storage}-{name.lower()}": UserConfig(crypt, storage=storage) for storage in STORAGES for name in SCRIPTS}
    return shared_dovecot(users=users, fetch_failure="no-after", extra=configuration(sink))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("folder", SCRIPTS)
@pytest.mark.packaged_defect("the script runs for none after a mail that can't be read")
def test_a_script_runs_for_all_mails_that_can_be_read(server, sink, storage, folder):
    for old in (sink / "got").iterdir():
        old.unlink()
    spoilt = spoil(server, f"{storage}-{folder.lower()}", folder)
    spoilt.expect()
    mark = server.log.mark()
    with server.imap(spoilt.user) as session:
        session.folder(folder)
        assert session.uid("STORE", "1:*", "+FLAGS", r"(\Flagged)")[0] == "OK"
        assert session.noop()[0] == "OK"
        # What a script changed was stored anew; nothing else is gone.
        answer = session.fetch_uids()
    for uid in READABLE:
        mail = spoilt.mails[uid]
        assert any(all(word.encode() in body for word in mail.words) for body in answer.items.values()), uid
    for uid in SPOILT:
        spoilt.named(uid, mark)
    assert answer.status == "NO"
    if folder == "Addheader":
        assert sum(b"X-Seen: yes" in body for body in answer.items.values()) == len(READABLE)
    else:
        got = "".join(path.read_text() for path in (sink / "got").iterdir())
        assert [uid for uid, mail in spoilt.mails.items() if mail.words[0] in got] == list(READABLE)
    assert spoilt.in_files() == []
