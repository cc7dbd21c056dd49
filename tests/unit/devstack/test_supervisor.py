"""The supervisor starts, watches and stops programs; no process outlives the launcher."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from devstack import processes, programs, supervisor
from tests.unit.devstack import stack_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
SLEEPS = "import time\nprint('up', flush=True)\ntime.sleep(600)"
WITH_CHILD = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {SLEEPS!r}])\n{SLEEPS}"
IGNORES_SIGTERM = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEPS}"
LAUNCHER = """
import sys
from devstack import supervisor
from tests.unit.devstack import test_supervisor
running = supervisor.Supervisor(lambda report: None)
running.start(lambda: test_supervisor.program(running, "parent", test_supervisor.WITH_CHILD))
print(running.directory, flush=True)
sys.stdin.read()
"""


def program(running: supervisor.Supervisor, name: str, code: str, *, essential: bool = True) -> programs.Program:
    """Return a program that is ready when it has printed `up`."""
    log = running.logs / f"{name}.log"
    return programs.Program(
        name, [sys.executable, "-c", code], {}, "nowhere", lambda: "up" in log.read_text(), essential=essential
    )


def until(condition: Callable[[], bool]) -> None:
    """Wait until *condition* returns True."""
    deadline = time.monotonic() + stack_processes.TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def reports() -> list[supervisor.Report]:
    """The reports of the supervisor."""
    return []


@pytest.fixture
def running(reports: list[supervisor.Report]) -> Iterator[supervisor.Supervisor]:
    """A supervisor, closed after the test and checked for remaining processes."""
    made = supervisor.Supervisor(reports.append)
    yield made
    made.close()
    assert stack_processes.remains_of(str(made.directory)) == []


def test_no_process_is_left_when_the_launcher_is_killed() -> None:
    """After a SIGKILL of the launcher, programs, their children, the reaper and the directory are gone."""
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdout is not None
        directory = launcher.stdout.readline().strip()
        assert len(stack_processes.command_lines(directory)) == 3

        launcher.kill()

        assert stack_processes.remains_of(directory) == []


def test_no_process_is_left_when_the_launcher_is_killed_right_after_a_start() -> None:
    """A program registers itself with the reaper before it is executed."""
    code = (
        "import os, pathlib, signal, sys\n"
        "from devstack import processes\n"
        "running = processes.ProcessGroups()\n"
        "sys.stdout.write(f'{running.directory}\\n')\n"
        "sys.stdout.flush()\n"
        f"running.launch([sys.executable, '-c', {SLEEPS!r}], {{}}, pathlib.Path(running.directory, 'log'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)

    assert done.returncode == -signal.SIGKILL
    assert stack_processes.remains_of(done.stdout.strip()) == []


def test_the_log_tail_is_reported_when_a_program_does_not_start(running: supervisor.Supervisor) -> None:
    """The failure names the program and its exit code, and has the last log lines, escaped for a terminal."""
    code = "import sys\nprint('x' * 1000, flush=True)\nsys.exit('bad\\x1b[2J settings')"

    with pytest.raises(supervisor.StackFailed) as failed:
        running.start(lambda: program(running, "service-1", code))

    assert str(failed.value) == "service-1 did not start: it ended with exit code 1"
    assert failed.value.tail == ["x" * 300, "bad\\x1b[2J settings"]


def test_another_port_is_tried_when_the_first_is_taken(running: supervisor.Supervisor) -> None:
    """A port that another program takes before it is bound costs one attempt."""
    codes = ["raise SystemExit('OSError: Address already in use')", SLEEPS]

    running.start(lambda: program(running, "service-1", codes.pop(0)))

    assert codes == []


def test_a_worker_is_restarted_when_it_is_killed(
    running: supervisor.Supervisor, reports: list[supervisor.Report]
) -> None:
    """The end of the worker is reported, and then its restart."""
    running.start(lambda: program(running, "worker-1", SLEEPS, essential=False))
    reports.clear()

    running.signal("worker-1", signal.SIGKILL)

    until(lambda: len(reports) == 3)
    assert [report.state for report in reports] == ["ended", "starting", "ready"]
    assert reports[0].detail == "was killed by SIGKILL"
    assert running.failure is None


def test_the_stack_fails_when_a_worker_keeps_ending(running: supervisor.Supervisor) -> None:
    """The number of restarts is bounded."""
    running.start(
        lambda: program(running, "worker-1", "import time\nprint('up', flush=True)\ntime.sleep(0.2)", essential=False)
    )

    failure = running.wait(stack_processes.TIMEOUT)

    assert str(failure).startswith("worker-1 ")


def test_the_stack_fails_when_an_essential_program_is_killed(running: supervisor.Supervisor) -> None:
    """The failure names the program and has its last log lines."""
    running.start(lambda: program(running, "valkey", SLEEPS))

    running.signal("valkey", signal.SIGKILL)

    failure = running.wait(stack_processes.TIMEOUT)
    assert failure is not None
    assert (str(failure), failure.tail) == ("valkey was killed by SIGKILL", ["up"])


def test_nothing_is_reported_when_the_stack_kills_a_program(
    running: supervisor.Supervisor, reports: list[supervisor.Report]
) -> None:
    """A test may kill and restart a server without failing the stack."""
    running.start(lambda: program(running, "valkey", WITH_CHILD))
    reports.clear()

    running.kill("valkey")
    assert reports == []
    running.restart("valkey")

    assert [report.state for report in reports] == ["starting", "ready"]
    assert running.failure is None


def test_terminate_returns_the_exit_code(running: supervisor.Supervisor) -> None:
    """SIGTERM goes to the leader of the process group only."""
    code = f"import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n{SLEEPS}"
    running.start(lambda: program(running, "service-1", code))

    assert running.terminate("service-1") == 7


def test_the_stack_fails_when_its_reaper_is_killed(running: supervisor.Supervisor) -> None:
    """Without the reaper, processes could outlive a killed launcher."""
    assert "reap" in str(running.reaper_process.args)

    running.reaper_process.kill()

    assert str(running.wait(stack_processes.TIMEOUT)).startswith("the reaper was killed")


def test_a_program_is_killed_when_it_ignores_sigterm(running: supervisor.Supervisor) -> None:
    """Closing the supervisor kills the program."""
    running.start(lambda: program(running, "valkey", IGNORES_SIGTERM))

    running.close()

    assert stack_processes.command_lines(str(running.directory)) == []


def test_no_program_can_start_when_the_supervisor_is_closed(running: supervisor.Supervisor) -> None:
    """A late start from another thread raises StackClosed and leaves no process."""
    running.close()

    with pytest.raises(processes.StackClosed):
        running.start(lambda: program(running, "late", SLEEPS))


def test_a_program_does_not_inherit_the_reapers_pipe(running: supervisor.Supervisor) -> None:
    """An inherited pipe would hide the launcher's end from the reaper."""
    code = f"import os\nprint(sorted(os.listdir('/proc/self/fd')), flush=True)\n{SLEEPS}"
    running.start(lambda: program(running, "valkey", code))

    opened = (running.logs / "valkey.log").read_text().splitlines()[0]

    assert opened == "['0', '1', '2', '3']"  # the fourth is the directory being listed


def test_the_process_group_is_killed_when_its_leader_ends(running: supervisor.Supervisor) -> None:
    """No child of a worker keeps running beside the restarted worker."""
    parent = WITH_CHILD.removesuffix("time.sleep(600)") + "time.sleep(0.3)"

    running.start(lambda: program(running, "parent", parent))

    assert running.wait(stack_processes.TIMEOUT) is not None
    until(lambda: len(stack_processes.command_lines(str(running.directory))) == 1)
