"""Finds the processes and the directory of a stack. Reads /proc, so it works on Linux only."""

import pathlib
import time

from devstack import processes

TIMEOUT = 20.0
"""Seconds in which everything must be gone."""


def command_lines(directory: str) -> list[str]:
    """Return the command line of each process of the stack with this directory, its reaper included."""
    mark = f"{processes.STACK_VARIABLE}={directory}\0".encode()
    found = []
    for process in pathlib.Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                arguments = (process / "cmdline").read_bytes()
                # Valkey overwrites its command line and environment with a title, but its directory identifies it.
                works_there = str((process / "cwd").readlink()).startswith(directory)
                marked = mark in (process / "environ").read_bytes() or directory.encode() in arguments
                if arguments and (marked or works_there):
                    found.append(arguments.replace(b"\0", b" ").decode(errors="replace"))
            except OSError:  # it has just ended
                continue
    return found


def remains_of(directory: str) -> list[str]:
    """Wait until a stack is gone; returns the processes and the directory that remain after TIMEOUT."""
    deadline = time.monotonic() + TIMEOUT
    left = ["?"]
    while left and time.monotonic() < deadline:
        left = command_lines(directory) + ([directory] if pathlib.Path(directory).exists() else [])
        time.sleep(0.02)
    return left
