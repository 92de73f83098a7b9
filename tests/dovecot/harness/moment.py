"""A server process that stops at a chosen moment, for others to act meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from .version import libexec_dir

#: Each of these calls is a moment: they store files, lock them, or look whether the attribute dict has changed.
_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void moment(void)
{
	static int armed, count;
	FILE *file = fopen(FOLDER "/armed", "r");
	int at = 0;

	if (file == NULL)
		return;
	if (fscanf(file, "%d", &at) != 1)
		at = 0;
	fclose(file);
	if (at != armed) {
		armed = at;
		count = 0;
	}
	if (++count != at)
		return;
	file = fopen(FOLDER "/stopped.new", "w");
	fprintf(file, "%d", (int)getpid());
	fclose(file);
	((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))
		(FOLDER "/stopped.new", FOLDER "/stopped");
	raise(SIGSTOP);
}

#define MOMENT(type, name, parameters, arguments) \
	type name parameters \
	{ \
		static type (*real) parameters; \
		if (real == NULL) \
			real = (type (*) parameters)dlsym(RTLD_NEXT, #name); \
		moment(); \
		return real arguments; \
	}

MOMENT(int, rename, (const char *from, const char *to), (from, to))
MOMENT(int, link, (const char *from, const char *to), (from, to))
MOMENT(int, fsync, (int fd), (fd))
MOMENT(int, fdatasync, (int fd), (fd))
MOMENT(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
MOMENT(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))

#define STAT(name, type) \
	int name(const char *path, struct type *st) \
	{ \
		static int (*real)(const char *, struct type *); \
		if (real == NULL) \
			real = (int (*)(const char *, struct type *))dlsym(RTLD_NEXT, #name); \
		if (strstr(path, "dovecot-attributes") != NULL) \
			moment(); \
		return real(path, st); \
	}
STAT(stat, stat)
STAT(stat64, stat64)

#define FCNTL(name) \
	int name(int fd, int command, ...) \
	{ \
		static int (*real)(int, int, ...); \
		va_list args; \
		long argument; \
		va_start(args, command); \
		argument = va_arg(args, long); \
		va_end(args); \
		if (real == NULL) \
			real = (int (*)(int, int, ...))dlsym(RTLD_NEXT, #name); \
		if (command == F_SETLK || command == F_SETLKW) \
			moment(); \
		return real(fd, command, argument); \
	}
FCNTL(fcntl)
FCNTL(fcntl64)
"""


class Moments:
    """The moments in the processes of one service of a server, which is started again for it."""

    def __init__(self, server, service: str):
        self.folder = server.run / "moments"
        self.folder.mkdir()
        # A process of any user says that it has stopped.
        self.folder.chmod(0o777)
        library = self.folder / "moment.so"
        subprocess.run(
            ["cc", "-shared", "-fPIC", f'-DFOLDER="{self.folder}"', "-o", library, "-x", "c", "-", "-ldl"],
            input=_SOURCE.encode(),
            check=True,
        )
        program = self.folder / service
        program.write_text(f'#!/bin/sh\nLD_PRELOAD={library} exec {libexec_dir() / service} "$@"\n')
        program.chmod(0o755)
        server.restart(extra=f"{server.options.extra}\nservice {service} {{\nexecutable = {program}\n}}\n")

    def arm(self, at: int) -> None:
        """From now on, the next process stops at its moment with this number, from 1."""
        new = self.folder / "armed.new"
        new.write_text(str(at))
        new.rename(self.folder / "armed")

    def stopped(self, until) -> int | None:
        """The id of the process that has stopped, or None if `until` answers true first."""
        path = self.folder / "stopped"
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            if path.exists():
                pid = int(path.read_text())
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                if state == "T":
                    return pid
            elif until():
                return None
            time.sleep(0.005)
        raise AssertionError("it neither stops nor ends")

    def resume(self, pid: int | None) -> None:
        """Lets it go on, if it has stopped, and not stop again."""
        for name in ("armed", "stopped"):
            (self.folder / name).unlink(missing_ok=True)
        if pid is not None:
            os.kill(pid, signal.SIGCONT)
