"""Shows long output of a terminal through the user's pager."""

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator

from rich import console

LESS = "FRX"
"""Options of less, unless LESS is set: end at once when all fits, keep colors, leave the screen as it is (as git)."""


@contextlib.contextmanager
def paging(screen: console.Console, *, lines: int) -> Iterator[None]:
    """
    Send what the block prints to the pager, if it has more lines than the terminal.

    PAGER names the program and its options; by default less. Empty or `cat` uses none, and so does a program that
    cannot be started.
    """
    command = shlex.split(os.environ.get("PAGER", "less"))  # noqa: TID251 -- the user's own setting, no setting of ours
    process = _start(command) if lines >= screen.height and command not in ([], ["cat"]) else None
    if process is None or process.stdin is None:
        yield
        return
    with screen.capture() as captured:
        yield
    with contextlib.suppress(BrokenPipeError):  # the pager was left before the end
        process.stdin.write(captured.get())
        process.stdin.close()
    while True:
        try:
            process.wait()
        except KeyboardInterrupt:  # the pager handles Ctrl-C itself
            continue
        return


def _start(command: list[str]) -> "subprocess.Popen[str] | None":
    environment = {"LESS": LESS, **os.environ}  # noqa: TID251 -- as above
    sys.stdout.flush()
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environment)  # noqa: S603 -- the user's own
    except OSError:
        return None
