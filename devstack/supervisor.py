"""Starts programs, waits until each answers, notices when one ends, and ends them all."""

import contextlib
import dataclasses
import enum
import pathlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable

from devstack import processes, programs

START_TIMEOUT = 30.0
"""Seconds until a program has to answer."""
POLL_INTERVAL = 0.02
"""Seconds between two questions to a program that does not answer yet."""
PORT_ATTEMPTS = 3
"""Ports tried: between choosing a free one and listening on it, another program may take it."""
MAX_RESTARTS = 3
"""Times that a worker is started again before its end is the end of the stack."""
DRAIN_TIMEOUT = 6.0
"""Seconds for programs to drain, before they are killed."""


class State(enum.StrEnum):
    """What is reported of a program."""

    STARTING = "starting"
    READY = "ready"
    ENDED = "ended"


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What happened to a program; `detail` is its address, or why it ended."""

    name: str
    state: State
    detail: str = ""
    seconds: float = 0.0


class StackFailed(Exception):
    """
    The stack cannot start or go on; the message is one line.

    Attributes:
        tail: The last lines of the log of the program that is to blame.
    """

    def __init__(self, message: str, tail: list[str] | None = None) -> None:
        super().__init__(message)
        self.tail = tail or []


@dataclasses.dataclass(slots=True)
class _RunningProgram:
    program: programs.Program
    group: processes.ProcessGroup
    restarts: int = 0
    ready: bool = False
    thread: threading.Thread | None = None


class Supervisor:
    """Holds the programs of one stack, by name."""

    def __init__(self, report: Callable[[Report], None]) -> None:
        self._report = report
        self._groups = processes.ProcessGroups()
        self._running: dict[str, _RunningProgram] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._failed = threading.Event()
        self._failure: StackFailed | None = None
        self.logs = self.directory / "logs"
        self.logs.mkdir()
        threading.Thread(target=self._watch_reaper, name="watch-reaper", daemon=True).start()

    @property
    def directory(self) -> pathlib.Path:
        """Where programs keep their data and logs; gone when the supervisor is closed."""
        return self._groups.directory

    @property
    def reaper_process(self) -> "subprocess.Popen[bytes]":
        """The process that cleans up after us."""
        return self._groups.reaper_process

    @property
    def failure(self) -> StackFailed | None:
        """Why the stack cannot go on, or None."""
        return self._failure

    def wait(self, seconds: float | None = None) -> StackFailed | None:
        """Wait until the stack cannot go on; None when the time is over before that."""
        self._failed.wait(seconds)
        return self._failure

    def start(self, make_program: Callable[[], programs.Program]) -> programs.Program:
        """
        Start what *make* returns, which chooses a port each time it is called; returns it when it answers.

        Raises:
            StackFailed: It ended, or did not answer in time.
                children.Closed: The stack is being taken down.
        """
        for last in [*[False] * (PORT_ATTEMPTS - 1), True]:
            program = make_program()
            try:
                self._launch(program, restarts=0)
            except StackFailed as problem:
                if last or not any("in use" in line.lower() for line in problem.tail):
                    raise
            else:
                return program
        raise AssertionError  # the last attempt returns or raises

    def restart(self, name: str) -> None:
        """Start a program again, on the same port and data; kills it first if it runs."""
        self.kill(name)
        self._launch(self._running[name].program, restarts=0)

    def kill(self, name: str) -> None:
        """Kill a program with all its processes, and leave it dead."""
        run = self._running[name]
        run.group.end_expected = True
        run.group.kill()
        self._join(run)

    def terminate(self, name: str) -> int:
        """Ask a program to end with SIGTERM, and wait until it has; returns its exit code."""
        run = self._running[name]
        run.group.end_expected = True
        run.group.signal_leader(signal.SIGTERM)
        self._join(run)
        return run.group.process.returncode

    def process_id(self, name: str) -> int:
        """Return the process id of a program's leader."""
        return self._running[name].group.process.pid

    def signal(self, name: str, number: int) -> None:
        """Send a signal, such as SIGSTOP or SIGCONT, to all processes of a program."""
        self._running[name].group.signal_all(number)

    def close(self) -> None:
        """End everything, once: what drains gets a little time, the rest is killed, the directory removed."""
        with self._lock:
            if self._stopping.is_set():
                return
            self._stopping.set()
            runs = list(self._running.values())
        try:
            self._drain([run for run in runs if run.program.drains])
        finally:
            for run in runs:
                run.group.kill()
            for run in runs:
                self._join(run)
            self._groups.close()

    def _drain(self, runs: list[_RunningProgram]) -> None:
        for run in runs:
            run.group.end_expected = True
            run.group.signal_leader(signal.SIGTERM)
        deadline = time.monotonic() + DRAIN_TIMEOUT
        for run in runs:
            if run.thread is not None:
                run.thread.join(max(0.0, deadline - time.monotonic()))

    def _launch(self, program: programs.Program, *, restarts: int) -> None:
        began = time.monotonic()
        self._report(Report(program.name, State.STARTING))
        log = self.logs / f"{program.name}.log"
        with self._lock:
            if self._stopping.is_set():
                raise processes.StackClosed
            run = _RunningProgram(program, self._groups.launch(program.command, program.environment, log), restarts)
            self._running[program.name] = run
            run.thread = threading.Thread(target=self._watch, args=[run], name=f"watch-{program.name}", daemon=True)
            run.thread.start()
        self._wait_until_ready(run, began + START_TIMEOUT)
        self._report(Report(program.name, State.READY, program.address, time.monotonic() - began))

    def _wait_until_ready(self, run: _RunningProgram, deadline: float) -> None:
        """Return when the program answers; from then on its end is the watching thread's business."""
        name = run.program.name
        while True:
            answers = run.program.is_ready()
            with self._lock:
                code = run.group.process.poll()
                run.ready = answers and code is None
            if run.ready:
                return
            if self._stopping.wait(POLL_INTERVAL) or run.group.end_expected:
                raise processes.StackClosed
            if code is not None:
                raise StackFailed(f"{name} did not start: it {_exit_text(code)}", run.group.log_tail())
            if time.monotonic() > deadline:
                run.group.end_expected = True
                run.group.kill()
                raise StackFailed(f"{name} did not start: no answer within {START_TIMEOUT:g} s", run.group.log_tail())

    def _watch(self, run: _RunningProgram) -> None:
        code = run.group.wait()
        self._groups.unregister(run.group)
        with self._lock:
            ignored = run.group.end_expected or self._stopping.is_set() or not run.ready
        if ignored:
            return
        name, tail = run.program.name, run.group.log_tail()
        if run.program.essential:
            self._fail(StackFailed(f"{name} {_exit_text(code)}", tail))
        elif run.restarts >= MAX_RESTARTS:
            self._fail(StackFailed(f"{name} {_exit_text(code)}, for the {MAX_RESTARTS + 1}th time", tail))
        else:
            self._report(Report(name, State.ENDED, _exit_text(code)))
            self._launch_again(run)

    def _launch_again(self, run: _RunningProgram) -> None:
        with contextlib.suppress(processes.StackClosed):
            try:
                self._launch(run.program, restarts=run.restarts + 1)
            except StackFailed as problem:
                self._fail(problem)

    def _watch_reaper(self) -> None:
        self._groups.reaper_process.wait()
        if not self._stopping.is_set():
            self._fail(StackFailed("the guard was killed: nothing would be cleaned up after us"))

    def _fail(self, problem: StackFailed) -> None:
        self._failure = self._failure or problem
        self._failed.set()

    @staticmethod
    def _join(run: _RunningProgram) -> None:
        if run.thread is not None and run.thread is not threading.current_thread():
            run.thread.join()


def _exit_text(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
