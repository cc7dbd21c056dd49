"""Programs are started, watched and ended; nothing outlives the launcher."""

import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from devstack import processes, programs, supervisor
from tests.unit.devstack import stack_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
FOREVER = "import time\nprint('up', flush=True)\ntime.sleep(600)"
FAMILY = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {FOREVER!r}])\n{FOREVER}"
DEAF = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{FOREVER}"
LAUNCHER = """
import sys
from devstack import supervisor
from tests.unit.devstack import test_supervisor
held = supervisor.Supervisor(lambda report: None)
held.start(lambda: test_supervisor.program(held, "family", test_supervisor.FAMILY))
print(held.directory, flush=True)
sys.stdin.read()
"""


def program(held: supervisor.Supervisor, name: str, code: str, *, essential: bool = True) -> programs.Program:
    """Return a program that is ready when it has said `up`."""
    log = held.logs / f"{name}.log"
    return programs.Program(
        name, [sys.executable, "-c", code], {}, "nowhere", lambda: "up" in log.read_text(), essential=essential
    )


def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + stack_processes.PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def reports() -> list[supervisor.Report]:
    """What was reported."""
    return []


@pytest.fixture
def held(reports: list[supervisor.Report]) -> Iterator[supervisor.Supervisor]:
    """A supervisor that is closed at the end, and has left nothing."""
    made = supervisor.Supervisor(reports.append)
    yield made
    made.close()
    assert stack_processes.remains_of(str(made.directory)) == []


def test_the_whole_family_is_gone_when_its_launcher_is_killed() -> None:
    """SIGKILL of the launcher takes programs, their children, the guard and the directory with it."""
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdout is not None
        directory = launcher.stdout.readline().strip()
        assert len(stack_processes.command_lines(directory)) == 3

        launcher.kill()

        assert stack_processes.remains_of(directory) == []


def test_the_guard_knows_a_program_before_it_runs_when_the_launcher_dies_at_once(tmp_path: pathlib.Path) -> None:
    """A launcher that is killed right after starting a program leaves nothing: the program itself told the guard."""
    code = (
        "import os, pathlib, signal, sys\n"
        "from devstack import processes\n"
        "held = processes.ProcessGroups()\n"
        "sys.stdout.write(f'{held.directory}\\n')\n"
        "sys.stdout.flush()\n"
        f"held.launch([sys.executable, '-c', {FOREVER!r}], {{}}, pathlib.Path(held.directory, 'log'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)

    assert done.returncode == -signal.SIGKILL
    assert stack_processes.remains_of(done.stdout.strip()) == []


def test_the_last_words_are_told_when_a_program_does_not_start(held: supervisor.Supervisor) -> None:
    """A failed start says which program, how it ended, and what it said last, made harmless for a terminal."""
    code = "import sys\nprint('x' * 1000, flush=True)\nsys.exit('bad\\x1b[2J settings')"

    with pytest.raises(supervisor.StackFailed) as failed:
        held.start(lambda: program(held, "service-1", code))

    assert str(failed.value) == "service-1 did not start: it ended with exit code 1"
    assert failed.value.tail == ["x" * 300, "bad\\x1b[2J settings"]


def test_another_port_is_tried_when_the_first_is_taken(held: supervisor.Supervisor) -> None:
    """Between choosing a port and listening on it another program may take it: that costs an attempt, not the start."""
    codes = ["raise SystemExit('OSError: Address already in use')", FOREVER]

    held.start(lambda: program(held, "service-1", codes.pop(0)))

    assert codes == []


def test_a_worker_is_started_again_when_it_dies(held: supervisor.Supervisor, reports: list[supervisor.Report]) -> None:
    """The end of a worker is told, and another takes its place."""
    held.start(lambda: program(held, "worker-1", FOREVER, essential=False))
    reports.clear()

    held.signal("worker-1", signal.SIGKILL)

    until(lambda: len(reports) == 3)
    assert [report.state for report in reports] == ["ended", "starting", "ready"]
    assert reports[0].detail == "was killed by SIGKILL"
    assert held.failure is None


def test_the_stack_has_failed_when_a_worker_dies_again_and_again(held: supervisor.Supervisor) -> None:
    """A worker that cannot live is not started for ever."""
    held.start(
        lambda: program(held, "worker-1", "import time\nprint('up', flush=True)\ntime.sleep(0.2)", essential=False)
    )

    failure = held.wait(stack_processes.PATIENCE)

    assert str(failure).startswith("worker-1 ")


def test_the_stack_has_failed_when_another_program_dies(held: supervisor.Supervisor) -> None:
    """Nothing goes on without a server: its end is told with its last words."""
    held.start(lambda: program(held, "valkey", FOREVER))

    held.signal("valkey", signal.SIGKILL)

    failure = held.wait(stack_processes.PATIENCE)
    assert failure is not None
    assert (str(failure), failure.tail) == ("valkey was killed by SIGKILL", ["up"])


def test_nothing_is_told_when_a_program_is_killed_on_purpose(
    held: supervisor.Supervisor, reports: list[supervisor.Report]
) -> None:
    """A test may kill a server and start it again; the stack does not take that for a failure."""
    held.start(lambda: program(held, "valkey", FAMILY))
    reports.clear()

    held.kill("valkey")
    assert reports == []
    held.restart("valkey")

    assert [report.state for report in reports] == ["starting", "ready"]
    assert held.failure is None


def test_the_exit_code_is_returned_when_a_program_is_asked_to_end(held: supervisor.Supervisor) -> None:
    """SIGTERM goes to the program as a supervisor would send it, and its answer is known."""
    code = f"import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n{FOREVER}"
    held.start(lambda: program(held, "service-1", code))

    assert held.terminate("service-1") == 7


def test_the_stack_has_failed_when_its_guard_is_killed(held: supervisor.Supervisor) -> None:
    """Without a guard nothing would be cleaned up after a SIGKILL, so the stack does not go on."""
    (guard,) = stack_processes.command_lines(str(held.directory))
    assert "reaper.py reap" in guard

    held.reaper_process.kill()

    assert str(held.wait(stack_processes.PATIENCE)).startswith("the guard was killed")


def test_a_program_is_killed_when_it_does_not_end_by_itself(held: supervisor.Supervisor) -> None:
    """Who ignores SIGTERM is waited for, but not for ever, and only if there was something to drain."""
    held.start(lambda: program(held, "valkey", DEAF))

    held.close()

    assert stack_processes.command_lines(str(held.directory)) == []


def test_nothing_starts_any_more_when_the_stack_is_taken_down(held: supervisor.Supervisor) -> None:
    """A start that comes too late, from another thread, is refused and leaves no process."""
    held.close()

    with pytest.raises(processes.StackClosed):
        held.start(lambda: program(held, "late", FOREVER))


def test_no_descriptor_of_the_guard_is_left_when_a_program_runs(held: supervisor.Supervisor) -> None:
    """A program that kept the guard's pipe open would keep the guard from seeing the launcher's end."""
    code = f"import os\nprint(sorted(os.listdir('/proc/self/fd')), flush=True)\n{FOREVER}"
    held.start(lambda: program(held, "valkey", code))

    opened = (held.logs / "valkey.log").read_text().splitlines()[0]

    assert opened == "['0', '1', '2', '3']"  # the fourth is the listing itself


def test_the_rest_of_the_family_is_ended_when_its_head_dies(held: supervisor.Supervisor) -> None:
    """Of a worker whose parent process dies, no child goes on working beside the worker that takes its place."""
    head = FAMILY.removesuffix("time.sleep(600)") + "time.sleep(0.3)"

    held.start(lambda: program(held, "family", head))

    assert held.wait(stack_processes.PATIENCE) is not None
    until(lambda: len(stack_processes.command_lines(str(held.directory))) == 1)
