"""The process groups of a stack: registered with the reaper, logged to files, killed as a whole."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence

from devstack import reaper
from indexer_client.cli import escape

REAPER_COMMAND = [sys.executable, "-I", "-S", str(pathlib.Path(reaper.__file__))]
"""Command of the reaper script; isolated and without site-packages, so that it starts in milliseconds."""
STACK_VARIABLE = "INDEXER_STACK"
"""Environment variable that identifies all processes of one stack; its value is the stack's directory."""
TAIL_LINES = 12
TAIL_WIDTH = 300


class StackClosed(Exception):
    """The stack is stopping; no program can be started."""


class ProcessGroups:
    """The process groups of one stack, with its reaper and its directory."""

    def __init__(self) -> None:
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="indexer-stack-"))
        reader, self._pipe = os.pipe()
        self._lock = threading.Lock()
        self._open = True
        command = [*REAPER_COMMAND, "reap", str(self.directory)]
        with os.fdopen(reader) as source:
            self.reaper_process = subprocess.Popen(  # noqa: S603 -- a script of this package
                command,
                stdin=source,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def launch(self, command: Sequence[str], environment: Mapping[str, str], log: pathlib.Path) -> "ProcessGroup":
        """Start a program as the leader of its own process group. Raises StackClosed."""
        with self._lock, log.open("ab") as output:
            if not self._open:
                raise StackClosed
            process = subprocess.Popen(  # noqa: S603 -- the stack's own programs
                [*REAPER_COMMAND, "exec", str(self._pipe), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, STACK_VARIABLE: str(self.directory)},
                cwd=pathlib.Path(__file__).parents[1],
                pass_fds=[self._pipe],
                start_new_session=True,
            )
        return ProcessGroup(process, log)

    def unregister(self, group: "ProcessGroup") -> None:
        """Tell the reaper that a program has ended, so that it does not kill a process that reuses the id."""
        with self._lock, contextlib.suppress(OSError):
            if self._open:
                os.write(self._pipe, f"-{group.process.pid}\n".encode())

    def close(self) -> None:
        """Let the reaper kill the remaining process groups and remove the directory."""
        with self._lock:
            if self._open:
                os.close(self._pipe)
            self._open = False
        self.reaper_process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)  # in case the reaper was killed


@dataclasses.dataclass(slots=True)
class ProcessGroup:
    """
    A running program and its process group.

    Attributes:
        process: The group's leader.
        log: File with the program's output.
        end_expected: Whether the stack itself ends the program.
    """

    process: "subprocess.Popen[bytes]"
    log: pathlib.Path
    end_expected: bool = False

    def wait(self) -> int:
        """Wait until the leader ends, then kill the rest of its group; returns the leader's exit code."""
        code = self.process.wait()
        self.signal_all(signal.SIGKILL)
        return code

    def signal_leader(self, number: int) -> None:
        """Send a signal to the leader only, as an init system or Kubernetes would."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """Send a signal to the whole process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Kill the process group, unless the leader has ended: its id may be reused."""
        if self.process.poll() is None:
            self.signal_all(signal.SIGKILL)

    def log_tail(self) -> list[str]:
        """Return the last lines of the log, escaped for a terminal."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if self.log.exists() else []
        return [escape.visible(line)[:TAIL_WIDTH] for line in lines]
