"""Starts the programs of a stack, waits until each is ready, restarts or reports those that end, and stops them all."""

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

START_TIMEOUT = 120.0
"""Seconds in which a program must become ready, as the startup probes of the manifests allow. One that ends is reported
at once, so only a slow machine waits that long: a first start compiles every module and checks MongoDB's features."""
POLL_INTERVAL = 0.02
"""Seconds between two readiness probes."""
PORT_ATTEMPTS = 3
"""Ports tried per program: another program may take a free port before it is bound."""
MAX_RESTARTS = 3
"""Restarts of a program that is not essential; one more end fails the stack."""
DRAIN_TIMEOUT = 6.0
"""Seconds in which programs may drain before they are killed."""


class State(enum.StrEnum):
    """State of a program in a report."""

    STARTING = "starting"
    READY = "ready"
    ENDED = "ended"


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """A program changed its state; `detail` is its address, or why it ended."""

    name: str
    state: State
    detail: str = ""
    seconds: float = 0.0


class StackFailed(Exception):
    """
    The stack cannot start or continue; the message is one line.

    Attributes:
        tail: The last log lines of the program that failed.
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
    """Runs the programs of one stack, by name."""

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
        """Directory of data and logs, removed when the supervisor is closed."""
        return self._groups.directory

    @property
    def reaper_process(self) -> "subprocess.Popen[bytes]":
        """The reaper's process."""
        return self._groups.reaper_process

    @property
    def failure(self) -> StackFailed | None:
        """Why the stack failed, or None."""
        return self._failure

    def wait(self, seconds: float | None = None) -> StackFailed | None:
        """Wait until the stack fails; returns None after the timeout."""
        self._failed.wait(seconds)
        return self._failure

    def start(self, make_program: Callable[[], programs.Program]) -> programs.Program:
        """
        Start the program that *make_program* returns, and return it when it is ready.

        Args:
            make_program: Called again, to choose another port, when the port is in use.

        Raises:
            StackFailed: The program ended, or is not ready in time.

            processes.StackClosed: The stack is stopping.
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
        """Kill a program if it runs, and start it on the same port and data."""
        self.kill(name)
        self._launch(self._running[name].program, restarts=0)

    def kill(self, name: str) -> None:
        """Kill a program with all its processes; it is not restarted."""
        run = self._running[name]
        run.group.end_expected = True
        run.group.kill()
        self._join(run)

    def terminate(self, name: str) -> int:
        """Send SIGTERM to a program and wait until it ends; returns its exit code."""
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
        """Drain and kill all programs, and remove the directory. Idempotent."""
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
        """Return when the program is ready. From then on, the watching thread handles its end."""
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
                raise StackFailed(
                    f"{name} did not start: it was not ready within {START_TIMEOUT:g} s", run.group.log_tail()
                )

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
            self._fail(StackFailed("the reaper was killed, so processes could outlive the stack"))

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
