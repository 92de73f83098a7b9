"""A program on a terminal of its own, at which somebody types."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import termios
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Typed:
    """What came of it."""

    returncode: int
    #: standard output, which is no terminal
    stdout: bytes
    #: what stood on the terminal: prompts, and what was echoed
    screen: bytes


def _take_terminal() -> None:
    """Standard input becomes the terminal that /dev/tty means."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def typed(argv: list[str], answers: list[tuple[str, str]], cwd: str, timeout: float = 60) -> Typed:
    """Runs a program, and types each answer once the end of its prompt is on the terminal.

    There have to be as many prompts as answers.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        argv, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, preexec_fn=_take_terminal, cwd=cwd
    )
    os.close(theirs)
    screen, seen, left = b"", 0, list(answers)
    until = time.monotonic() + timeout
    try:
        while True:
            if left and left[0][0].encode() in screen[seen:]:
                # Nothing may be typed before the echo is off, and then the prompt is there already.
                _wait_for_no_echo(ours, until)
                seen = len(screen)
                os.write(ours, f"{left.pop(0)[1]}\n".encode())
                continue
            if not select.select([ours], [], [], 0.1)[0]:
                assert time.monotonic() < until, f"no prompt {left}: {screen!r}"
                continue
            data = _read(ours)
            if not data:
                break
            screen += data
        out = process.stdout.read()
        code = process.wait(max(1, until - time.monotonic()))
    finally:
        os.close(ours)
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
    assert not left, f"nobody asked for {[prompt for prompt, _ in left]}: {screen!r}"
    return Typed(code, out, screen)


def _wait_for_no_echo(terminal: int, until: float) -> None:
    while termios.tcgetattr(terminal)[3] & termios.ECHO:
        assert time.monotonic() < until, "what is typed is echoed"
        time.sleep(0.005)


def _read(terminal: int) -> bytes:
    """What is on the terminal; nothing: nobody has it open any more."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""
