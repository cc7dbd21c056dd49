"""
Kills all programs of a stack when its launcher ends, even by SIGKILL. A script that needs only the standard library.

The reaper is a separate process in its own session. It ignores signals and reads a pipe. Every program of the stack is
started through `exec` as the leader of its own session: it writes its process id into the pipe, and only then executes
the program. Only the launcher and, for that moment, `exec` hold the write end of the pipe. When the reaper reads the
end of the pipe, the launcher has ended and every program that it started is registered. The reaper then kills their
process groups and removes the stack's directory.

PR_SET_PDEATHSIG is no alternative: it does not reach grandchildren, and a worker is a process tree; it fires when the
*thread* that started a child ends; it cannot remove a directory; and it exists on Linux only, not on macOS. The reaper
fails only if it is killed together with the launcher.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import sys
import time

KILL_TIMEOUT = 5.0
"""Longest wait for killed processes, in seconds; without an init process, orphans stay as zombies."""


def reap(directory: pathlib.Path) -> None:
    """Wait for the end of standard input, then kill all registered process groups and remove *directory*."""
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
    """Register this process with the reaper, then execute *command*."""
    os.write(pipe, f"+{os.getpid()}\n".encode())
    os.close(pipe)
    os.execv(command[0], command)  # noqa: S606 -- the launcher's own command line, without a shell


def _signal_group(group: int, number: int) -> bool:
    """Signal a process group; returns whether it exists."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    if sys.argv[1] == "reap":
        reap(pathlib.Path(sys.argv[2]))
    else:
        register_and_exec(int(sys.argv[2]), sys.argv[3:])
