"""`make demo`: a private Dovecot, one mail, and what of it is on disk.

    demo.py [--plugin ours|packaged] [--keep]      demo.py --stop

Runs as any user and changes nothing on the system. With --keep a process stays
behind that holds the server until --stop ends it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "dovecot"))
sys.dont_write_bytecode = True

from harness import CryptConfig, Instance, UserConfig, words  # noqa: E402
from harness.config import IMAP_PORT  # noqa: E402

MAIL = (
    b"From: Bob <bob@example.org>\r\nTo: Alice <alice@example.org>\r\n"
    b"Date: Fri, 3 May 2024 10:00:00 +0000\r\nMessage-ID: <demo@example.org>\r\n"
    b"Subject: Lunch\r\n\r\nMeet me at noon, under the clock.\r\nBob\r\n"
)
WORDS = (b"Subject", b"noon", b"clock")
KEY_PASSWORD = "known-to-the-user-database-alone"


def title(text: str) -> None:
    print(f"\n--- {text}")


def hexdump(data: bytes) -> None:
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        print(f"  {start:08x}  {row.hex(' '):<47}  {text}")


def describe_key(value: str) -> str:
    """A key as it is stored, without its body."""
    fields = value.split(":")
    if len(fields) < 3:
        return f"key {value}"
    if len(fields) == 3:
        return "public key"
    how = {
        "0": "NOT encrypted",
        "1": f"encrypted to key {fields[-2][:12]}..",
        "2": "encrypted under the password",
    }
    return "private key, " + how.get(fields[2], "encrypted in a way that is not known here")


def show(dovecot: Instance) -> None:
    """Deliver a mail, and look at it from every side."""
    title("A mail for alice arrives by LMTP")
    dovecot.deliver("alice", MAIL)
    print("  accepted")

    title("The same mail, by IMAP")
    with dovecot.imap("alice") as imap:
        (mail,) = imap.bodies()
    print("  " + mail.decode().replace("\r\n", "\n  ").rstrip())
    if not mail.endswith(MAIL):
        raise SystemExit("error: that is not the mail that was sent")

    title("What is on disk of it")
    (file,) = dovecot.store.mail_files("alice")
    data = file.read_bytes()
    print(f"  {file} ({len(data)} bytes)")
    hexdump(data[:160])
    print("  ..")
    if any(word in data for word in WORDS):
        raise SystemExit("error: the mail is on disk in the clear")
    print("  None of the mail's words is in it.")
    open_files = [f for f in dovecot.store.files("alice") if any(word in f.read_bytes() for word in WORDS)]
    if open_files:
        print("  Dovecot's own cache has a header, as docs/security.md says under What is not encrypted:")
        print("  " + "\n  ".join(map(str, open_files)))

    title("The keys, in alice's attribute dict")
    for name, value in sorted(dovecot.store.attributes("alice").items()):
        whose = "user" if "/pvt/server/" in name else "folder"
        kind, _, key = name.split("/crypt/")[1].partition("/")
        print(f"  {whose:6}  {kind:8}  {(key or value)[:12]}..  {describe_key(value) if key else 'is the one in use'}")
    name = words.setting("mail_crypt_private_password")
    print(f"  mail -> folder key -> user key -> password ({name}, from userdb)")


def go_on(dovecot: Instance) -> None:
    """How to look further by hand."""
    user = dovecot.users["alice"]
    # -S: the server itself does it, and it alone has our modules in Dovecot's folder.
    doveadm = f"doveadm -c {dovecot.places.config}"
    server = f"-S {dovecot.places.base}/doveadm-server -u alice"
    title("To go on by hand")
    print(f"  IMAP        {dovecot.places.address}, port {IMAP_PORT}, no TLS, user alice, password {user.password}")
    print(f"              e.g. curl -u alice:{user.password} 'imap://{dovecot.places.address}:{IMAP_PORT}/INBOX;MAILINDEX=1'")
    print(f"  LMTP        {dovecot.places.lmtp}")
    print(f"  doveadm     {doveadm} fetch {server} text all")
    print(f"  settings    {dovecot.places.config}")
    print(f"  users       {dovecot.places.users}")
    print(f"  mail, keys  {dovecot.store.home('alice')}")
    print(f"  log         {dovecot.places.log}")
    print("  make demo-stop ends it and deletes it all.")


def run(plugin: str, keep: bool, shown=lambda: None) -> None:
    alice = UserConfig(crypt=CryptConfig(password=KEY_PASSWORD))
    with Instance(plugin=plugin, users={"alice": alice}) as dovecot:
        print(f"A private Dovecot {dovecot.version} on {dovecot.places.address}, with mail_crypt ({plugin}).")
        show(dovecot)
        if keep:
            go_on(dovecot)
            shown()
            wait_for_the_end()


def wait_for_the_end() -> None:
    def end(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        signal.pause()


def run_and_stay(plugin: str, pid_file: Path) -> int:
    """Run it in a process of its own; return when all has been shown."""
    if running_demo(pid_file):
        print("A demo is running already: make demo-stop ends it.", file=sys.stderr)
        return 1
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setsid()

        def shown() -> None:
            pid_file.parent.mkdir(exist_ok=True)
            pid_file.write_text(f"{os.getpid()}\n")
            sys.stdout.flush()
            nowhere = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nowhere, descriptor)
            os.write(writer, b"+")
            os.close(writer)

        try:
            run(plugin, True, shown)
        finally:
            if running_demo(pid_file) == os.getpid():
                pid_file.unlink(missing_ok=True)
        return 0
    os.close(writer)
    if os.read(reader, 1):
        return 0
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or 1


def running_demo(pid_file: Path) -> int | None:
    """The process that holds a demo, if there is one."""
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return None
    return pid if is_demo(pid) else None


def is_demo(pid: int) -> bool:
    try:
        return b"demo.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def stop(pid_file: Path) -> int:
    """End a demo that was left running."""
    pid = running_demo(pid_file)
    if pid is None:
        print("No demo is running.")
        return 0
    os.kill(pid, signal.SIGTERM)
    for _ in range(100):
        if not is_demo(pid):
            print("Stopped, and everything of it deleted.")
            return 0
        time.sleep(0.1)
    print(f"error: process {pid} doesn't end", file=sys.stderr)
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plugin", choices=("ours", "packaged"), default="ours")
    parser.add_argument("--keep", action="store_true", help="leave it running")
    parser.add_argument("--stop", action="store_true", help="end one that was left running")
    parser.add_argument("--pid-file", type=Path, default=ROOT / "build" / "demo.pid")
    options = parser.parse_args()
    if options.stop:
        return stop(options.pid_file)
    if options.keep:
        return run_and_stay(options.plugin, options.pid_file)
    run(options.plugin, False)
    print("\nNothing is left of it. `make demo KEEP=1` leaves it running, to look further.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
