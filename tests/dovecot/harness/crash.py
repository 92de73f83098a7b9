"""A process that dies at a chosen moment: before or after its nth rename, which is how a file dict changes."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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


def crashes(server, folder: Path, *args: str, file: str = "dovecot-attributes", gone: int = 0):
    """Runs a doveadm command again and again, dying each time a moment later, until it gets through.

    Yields after every crash. `file` is what is renamed to, `gone` the exit code where nothing is left to be done.
    """
    library = _library(folder)
    for at in range(1, 1000):
        env = {"LD_PRELOAD": library, "CRASH_AT": at, "CRASH_FILE": file}
        # doveadm has doveconf start it once more, with nothing else of its environment.
        env["DOVECOT_PRESERVE_ENVS"] = " ".join(env)
        argv = ["env", *(f"{name}={value}" for name, value in env.items())]
        argv += ["doveadm", "-c", str(server.places.config), *args]
        done = server.run_program(argv, check=False)
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
