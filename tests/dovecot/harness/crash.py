"""A process that dies at a chosen moment: before or after its nth rename, which is how a file dict changes.

Or one that finds no room the first times that it writes a file.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* Whether this is the file, and one of the times that there is no room for it. */
static int full(int fd)
{
	static int count;
	const char *fail = getenv("CRASH_FAIL");
	char link[64], path[4096];
	ssize_t len;

	if (fail == NULL || count >= atoi(fail))
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return 0;
	path[len] = '\0';
	if (strstr(path, getenv("CRASH_FILE")) == NULL)
		return 0;
	count++;
	errno = ENOSPC;
	return 1;
}

#define WRITING(name, args, ...) \
ssize_t name args \
{ \
	static ssize_t (*real) args; \
\
	if (real == NULL) \
		real = (ssize_t (*) args)dlsym(RTLD_NEXT, #name); \
	return full(fd) ? -1 : real(__VA_ARGS__); \
}
WRITING(write, (int fd, const void *data, size_t size), fd, data, size)
WRITING(writev, (int fd, const struct iovec *iov, int count), fd, iov, count)
WRITING(pwrite, (int fd, const void *data, size_t size, off_t at), fd, data, size, at)
WRITING(pwrite64, (int fd, const void *data, size_t size, off64_t at), fd, data, size, at)

int rename(const char *from, const char *to)
{
	static int (*real)(const char *, const char *);
	static int count;
	const char *at = getenv("CRASH_AT"), *file = getenv("CRASH_FILE");
	size_t len = strlen(to), tail = strlen(file);
	int ret;

	if (real == NULL)
		real = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
	if (len < tail || strcmp(to + len - tail, file) != 0)
		return real(from, to);
	if (at == NULL)
		return real(from, to);
	/* odd: before it, even: after it */
	if (++count * 2 - 1 == atoi(at))
		kill(getpid(), SIGKILL);
	ret = real(from, to);
	if (count * 2 == atoi(at))
		kill(getpid(), SIGKILL);
	return ret;
}
"""


@cache
def _library(folder: Path) -> Path:
    library = folder / "crash.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", library, "-x", "c", "-", "-ldl"],
        input=_SOURCE.encode(),
        check=True,
    )
    return library


def _wrapped(folder: Path, argv: list[str], **env) -> list[str]:
    # Dovecot's programs have doveconf start them once more, with nothing else of their environment.
    env["LD_PRELOAD"] = _library(folder)
    env["DOVECOT_PRESERVE_ENVS"] = " ".join(env)
    return ["env", *(f"{name}={value}" for name, value in env.items()), *argv]


def no_room(folder: Path, argv: list[str], times: int, file: str) -> list[str]:
    """The command line of a process that finds no room the first few times that it writes a file with that in its path."""
    return _wrapped(folder, argv, CRASH_FAIL=times, CRASH_FILE=file)


def crashes(
    server, folder: Path, *args: str, file: str = "dovecot-attributes", gone: int = 0, stdin: bytes | None = None
):
    """Runs a doveadm command again and again, dying each time a moment later, until it gets through.

    Yields after every crash. `file` is what is renamed to, `gone` the exit code where nothing is left to be done.
    """
    doveadm = ["doveadm", "-c", str(server.places.config), *args]
    for at in range(1, 1000):
        argv = _wrapped(folder, doveadm, CRASH_AT=at, CRASH_FILE=file)
        done = server.run_program(argv, stdin, check=False)
        # The next one would wait for what is left until it is old. A dict leaves nothing.
        assert not list(server.store.path.rglob("dovecot-attributes.lock"))
        for lock in server.store.path.rglob("dovecot-uidlist.lock"):
            lock.unlink()
        if done.returncode in (-9, 137):
            yield at
        else:
            assert at > 1, "it changed nothing"
            assert done.returncode in (0, gone), done.stderr.decode()
            return
