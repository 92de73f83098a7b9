"""What /proc says about processes: which are one instance's, and what they have open."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from . import modules


def group(pid: int) -> str | int:
    """What all processes of one instance have in common: mount namespace, else session."""
    if modules.can_mount():
        return os.readlink(f"/proc/{pid}/ns/mnt")
    # The dead have no namespace any more, but still a session.
    if "\nState:\tZ" in _read(f"/proc/{pid}/status"):
        raise ProcessLookupError(pid)
    return os.getsid(pid)


def members(of: str | int) -> list[int]:
    """All processes of that group."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if group(int(entry)) == of:
                    found.append(int(entry))
            except OSError:
                continue
    return found


def name(pid: int) -> str:
    """The program's name: "imap", "lmtp"."""
    return _read(f"/proc/{pid}/comm").strip()


def age(pid: int) -> float:
    """For how many seconds a process has been running; 0 if it is gone."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if not fields:
        return 0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def open_files(pid: int) -> dict[str, Path]:
    """What a process has open, deleted files too: link text -> path to read it by."""
    found = {}
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[f"{fd.name}:{os.readlink(fd)}"] = fd
        except OSError:
            continue
    return found


def memory(pid: int) -> list[bytes]:
    """A process's memory, one mapping each; where that isn't allowed, PermissionError."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in _read(f"/proc/{pid}/maps").splitlines():
            place, rights = line.split()[:2]
            if not rights.startswith("r") or line.endswith(("[vvar]", "[vsyscall]")):
                continue
            start, end = (int(address, 16) for address in place.split("-"))
            try:
                memory.seek(start)
                found.append(memory.read(end - start))
            except OSError:
                continue
    return found


def links(pid: int) -> set[str]:
    """The same, by their links' texts alone; none of a process that is gone."""
    found = set()
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    except OSError:
        pass
    return found


def socket_inode(address: str, port: int, peer_port: int) -> str:
    """The server's end of a connection, as /proc/PID/fd shows it."""
    local = socket.inet_aton(address)[::-1].hex().upper() + f":{port:04X}"
    for line in _read("/proc/net/tcp").splitlines()[1:]:
        fields = line.split()
        if fields[1] == local and fields[2].endswith(f":{peer_port:04X}"):
            return f"socket:[{fields[9]}]"
    raise AssertionError("no such connection")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
