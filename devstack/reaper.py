"""
Lets nothing outlive the launcher, not even when it is killed with SIGKILL. Run as a script; knows nothing but Python.

The guard is a process of its own, in its own session, that reads a pipe and ignores signals. Every program of the stack
is started through `run`, as the leader of a session of its own: it writes its process id into that pipe, and only then
becomes the program. The pipe's other ends are held by the launcher and, for that moment, by `run`: so when the
guard reads the end of the pipe, the launcher is gone, and every program that it ever started is known. The guard then
kills their groups and removes the stack's directory.

Why not PR_SET_PDEATHSIG: it does not reach grandchildren, and a worker is a tree of processes; it strikes when the
*thread* that started a child ends; it cannot remove a directory; and it exists on Linux only. This works on macOS too.
What it does not survive is being killed itself together with the launcher.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import sys
import time

KILL_TIMEOUT = 5.0
"""Seconds to wait for killed processes to vanish; where nobody collects orphans they stay as zombies."""


def reap(directory: pathlib.Path) -> None:
    """Wait for the end of standard input, then kill what is left and remove *directory*."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        change, group = line[0], int(line[1:])
        (groups.add if change == "+" else groups.discard)(group)
    for group in groups:
        _signal_group(group, signal.SIGKILL)
    deadline = time.monotonic() + KILL_TIMEOUT
    while any(_signal_group(group, 0) for group in groups) and time.monotonic() < deadline:
        time.sleep(0.02)
    shutil.rmtree(directory, ignore_errors=True)


def register_and_exec(pipe: int, command: list[str]) -> None:
    """Tell the guard of this process, then become *command*."""
    os.write(pipe, f"+{os.getpid()}\n".encode())
    os.close(pipe)
    os.execv(command[0], command)  # noqa: S606 -- the launcher's own command line, without a shell


def _signal_group(group: int, number: int) -> bool:
    """Return whether there was anybody to get the signal."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    if sys.argv[1] == "reap":
        reap(pathlib.Path(sys.argv[2]))
    else:
        register_and_exec(int(sys.argv[2]), sys.argv[3:])
