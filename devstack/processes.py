"""The processes of a stack: started under the guard's eyes, logged to files, ended with everything they started."""

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
"""Isolated and without site-packages, so that it starts in a few milliseconds."""
STACK_VARIABLE = "INDEXER_STACK"
"""Variable by which a person finds all processes of one stack: it holds the stack's directory."""
TAIL_LINES = 12
TAIL_WIDTH = 300


class StackClosed(Exception):
    """The stack is being taken down: nothing starts any more."""


class ProcessGroups:
    """The guard's process and the stack's directory."""

    def __init__(self) -> None:
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="indexer-stack-"))
        reader, self._pipe = os.pipe()
        self._lock = threading.Lock()
        self._open = True
        command = [*REAPER_COMMAND, "reap", str(self.directory)]
        with os.fdopen(reader) as source:
            self.reaper_process = subprocess.Popen(  # noqa: S603 -- our own script
                command,
                stdin=source,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def launch(self, command: Sequence[str], environment: Mapping[str, str], log: pathlib.Path) -> "ProcessGroup":
        """Start a program that ends with us. Raises StackClosed."""
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
        """Tell the guard that a program has ended, so that it will not kill whoever gets its process id next."""
        with self._lock, contextlib.suppress(OSError):
            if self._open:
                os.write(self._pipe, f"-{group.process.pid}\n".encode())

    def close(self) -> None:
        """Let the guard kill what is left and remove the directory."""
        with self._lock:
            if self._open:
                os.close(self._pipe)
            self._open = False
        self.reaper_process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)  # for the case that the guard was killed


@dataclasses.dataclass(slots=True)
class ProcessGroup:
    """
    A running program and its group of processes.

    Attributes:
        log: File with what it said.
        end_expected: Whether its end was asked for.
    """

    process: "subprocess.Popen[bytes]"
    log: pathlib.Path
    end_expected: bool = False

    def wait(self) -> int:
        """Wait for its end and for that of what it started; returns its exit code."""
        code = self.process.wait()
        self.signal_all(signal.SIGKILL)  # what is left of its group
        return code

    def signal_leader(self, number: int) -> None:
        """Send a signal to the program alone, as a supervisor would."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """Send a signal to the program and all it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Kill it with all it started, unless it has ended, when its number may be somebody else's."""
        if self.process.poll() is None:
            self.signal_all(signal.SIGKILL)

    def log_tail(self) -> list[str]:
        """Return the last lines that it said, made harmless for a terminal."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if self.log.exists() else []
        return [escape.visible(line)[:TAIL_WIDTH] for line in lines]
