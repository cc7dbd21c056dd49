"""Looks for what a stack may have left behind. Reads /proc, so it works on Linux only."""

import pathlib
import time

from devstack import processes

PATIENCE = 20.0
"""Seconds in which everything has to be gone."""


def command_lines(directory: str) -> list[str]:
    """Return the command line of each process that belongs to the stack with this directory, its guard included."""
    mark = f"{processes.STACK_VARIABLE}={directory}\0".encode()
    found = []
    for process in pathlib.Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                arguments = (process / "cmdline").read_bytes()
                # Valkey writes its title over command line and environment, but works in its folder.
                works_there = str((process / "cwd").readlink()).startswith(directory)
                marked = mark in (process / "environ").read_bytes() or directory.encode() in arguments
                if arguments and (marked or works_there):
                    found.append(arguments.replace(b"\0", b" ").decode(errors="replace"))
            except OSError:  # it has just ended
                continue
    return found


def remains_of(directory: str) -> list[str]:
    """Return what is still there of a stack after a while: processes, and the directory itself."""
    deadline = time.monotonic() + PATIENCE
    left = ["?"]
    while left and time.monotonic() < deadline:
        left = command_lines(directory) + ([directory] if pathlib.Path(directory).exists() else [])
        time.sleep(0.02)
    return left
