"""The server's log, and what must not stand in it."""

from __future__ import annotations

import re
import time
from pathlib import Path

#: Lines that fail a test unless it says that it expects them.
ALARMS = re.compile(
    r"panic|fatal|error:|signal \d+|killed|cached message size|core dumped|backtrace",
    re.IGNORECASE,
)
#: How the master says that we stop it, and a process that it had just started.
_OUR_OWN = re.compile(
    r"master: Warning: Killed with signal 15 \(by pid="
    r"|Fatal: Failed to read configuration: fd_read\(\) failed: Connection reset by peer"
)


class ServerLog:
    """One log file; grows while the server runs."""

    def __init__(self, path: Path):
        self.path = path
        self._checked = 0
        self._searched = 0
        self._expected: list[re.Pattern[str]] = []
        self._expected_before: list[re.Pattern[str]] = []

    def text(self, since: int = 0) -> str:
        """All of it, or what came after the mark `since`."""
        if not self.path.exists():
            return ""
        with open(self.path, "rb") as file:
            file.seek(since)
            return file.read().decode("utf-8", "replace")

    def mark(self) -> int:
        """The end of the log as it is now."""
        return self.path.stat().st_size if self.path.exists() else 0

    def lines(self, pattern: str, since: int = 0) -> list[str]:
        """The lines in which `pattern` is found."""
        return [
            line for line in self.text(since).splitlines() if re.search(pattern, line)
        ]

    def wait_for(self, pattern: str, since: int = 0, timeout: float = 10) -> list[str]:
        """Those lines, once there is one; the log is written by another process."""
        until = time.monotonic() + timeout
        while True:
            found = self.lines(pattern, since)
            if found:
                return found
            if time.monotonic() > until:
                raise AssertionError(
                    f"no {pattern!r} in the log after {timeout} s:\n{self.text(since)}"
                )
            time.sleep(0.01)

    def expect(self, *patterns: str) -> None:
        """From here to the end of the test, alarms with one of these are all right."""
        self._expected += [re.compile(pattern) for pattern in patterns]

    def unexpected(self) -> list[str]:
        """The alarms since the last call that nobody expected."""
        since, self._checked = self._checked, self.mark()
        found = [
            line
            for line in self.text(since)[: self._checked - since].splitlines()
            if ALARMS.search(line)
            and not _OUR_OWN.search(line)
            and not any(e.search(line) for e in self._expected + self._expected_before)
        ]
        return found

    def leaked(self, secrets: set[str]) -> list[str]:
        """The lines in which one of these stands, but for what Dovecot itself logs for debugging.

        With mail_debug it logs userdb's answer and every change of a file dict.
        """
        since, self._searched = self._searched, self.mark()
        return [
            f"a secret in the log: {line}"
            for line in self.text(since).splitlines()
            if not re.search("Debug: .*(auth-master|dict\\(file\\))", line)
            and any(secret in line for secret in secrets)
        ]

    def forget_expectations(self) -> None:
        """At the end of a test. What it expected holds for one more: the last lines may still be on their way."""
        self._expected_before, self._expected = self._expected, []
