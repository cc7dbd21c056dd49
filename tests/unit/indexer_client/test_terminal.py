"""The command as a process: in a terminal, interrupted, or writing into a closed pipe."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import timestamp_pb2

from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_client import rows, service

COMMAND = (sys.executable, "-m", "indexer_client.cli")
TIMEOUT = 20.0
"""Longest wait for further output, in seconds."""


class Terminal:
    """A command in a terminal of 24 lines."""

    def __init__(self, *arguments: str, columns: int = 80) -> None:
        self._screen, inner = pty.openpty()
        termios.tcsetwinsize(inner, (24, columns))
        sizes = {"COLUMNS", "LINES"}  # of the tests' own terminal
        passed_on = {name: value for name, value in os.environ.items() if name not in sizes}  # noqa: TID251 -- as a shell
        environment = {**passed_on, "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=inner, stdout=inner, stderr=inner, env=environment, start_new_session=True
        )
        os.close(inner)
        self.seen = ""

    def until(self, text: str) -> str:
        """Read until *text* was printed; returns all output so far."""
        while text not in self.seen:
            self._read(text)
        return self.seen

    def _read(self, text: str) -> None:
        ready, _, _ = select.select([self._screen], [], [], TIMEOUT)
        assert ready, f"waited in vain for {text!r}; saw {self.seen!r}"
        self.seen += os.read(self._screen, 65_536).decode()

    def until_shown(self, pattern: str) -> None:
        """Read until *pattern* was printed, whatever its colours."""
        while not re.search(pattern, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen)):
            self._read(pattern)

    def type(self, text: str) -> None:
        """Type *text*."""
        os.write(self._screen, text.encode())

    def end(self) -> int:
        """Read to the end; returns the exit code."""
        with contextlib.suppress(OSError):  # Linux says EIO when the last writer has closed
            while found := os.read(self._screen, 65_536):
                self.seen += found.decode()
        return self.process.wait(TIMEOUT)

    def close(self) -> None:
        """Kill the command if it still runs."""
        self.process.kill()
        self.process.wait()
        os.close(self._screen)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Terminals that are closed at the end."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


def test_the_live_display_is_drawn_when_the_output_is_a_terminal(
    server: service.FakeService, terminals: list[Terminal]
) -> None:
    """The display is followed by one line of summary, and the cursor is visible again."""
    server.add_response("StartIndexing", rows.started(*(rows.guild(number) for number in range(60))))
    server.add_response(
        "WatchProgress",
        rows.changed(rows.guild(0, "SUCCEEDED", channel_count=12, revision=2)),
        rows.ended(rows.job("SUCCEEDED", progress=pb.Progress(total=60, succeeded=60))),
    )

    terminal = Terminal("--address", server.address, "index", rows.USER)
    terminals.append(terminal)

    assert terminal.end() == 0
    assert "\x1b[?25l" in terminal.seen
    assert "1 of 60 guilds, 12 channels" in terminal.seen
    assert terminal.seen.rindex("\x1b[?25h") > terminal.seen.rindex("\x1b[?25l")
    assert "succeeded in " in terminal.seen.splitlines()[-1]


def test_it_says_that_the_job_continues_when_it_is_interrupted(
    server: service.FakeService, terminals: list[Terminal]
) -> None:
    """Ctrl-C ends the watch, not the job. The command that shows the job can be copied; there is no traceback."""
    server.add_response("StartIndexing", rows.started(rows.guild(0)))
    server.add_response("WatchProgress")

    terminal = Terminal("--address", server.address, "index", rows.USER)
    terminals.append(terminal)
    terminal.until("guild 0")
    terminal.process.send_signal(signal.SIGINT)

    assert terminal.end() == 130
    assert (
        f"the job continues in the background; watch it again with:\r\n  indexer jobs watch {rows.JOB}\r\n"
        in terminal.seen
    )
    assert "Traceback" not in terminal.seen


def test_it_says_where_to_look_when_it_is_interrupted_before_the_answer(
    server: service.FakeService, terminals: list[Terminal]
) -> None:
    """The job may have started."""
    server.add_response("StartIndexing", service.Refusal(grpc.StatusCode.UNAVAILABLE, "later"))

    terminal = Terminal("--address", server.address, "index", rows.USER, columns=40)
    terminals.append(terminal)
    terminal.until("reading the guild list")
    terminal.process.send_signal(signal.SIGINT)

    assert terminal.end() == 130
    assert f"the job may have started; look with:\r\n  indexer jobs list {rows.USER}\r\n" in terminal.seen


def test_it_says_how_to_watch_again_when_a_watch_is_interrupted(
    server: service.FakeService, terminals: list[Terminal]
) -> None:
    """In the words of the command line, without a traceback."""
    reset, bookmark = pb.WatchIndexResponse(reset=pb.IndexReset()), pb.WatchIndexResponse(bookmark=pb.Bookmark())
    server.add_response("WatchIndex", reset, bookmark)

    terminal = Terminal("--address", server.address, "watch", rows.USER)
    terminals.append(terminal)
    terminal.until("waiting for changes")
    terminal.process.send_signal(signal.SIGINT)

    assert terminal.end() == 130
    assert f"watch again with: indexer watch {rows.USER}\r\n" in terminal.seen
    assert "Traceback" not in terminal.seen


def test_the_terminal_does_not_show_ctrl_c_when_a_display_is_redrawn(
    server: service.FakeService, terminals: list[Terminal]
) -> None:
    """Its `^C` after a full line would move the display, and leave its heading twice."""
    server.add_response("GetRateLimits", pb.GetRateLimitsResponse(budgets=[pb.Budget(kind="global", capacity=50)]))

    terminal = Terminal("--address", server.address, "limits", "--watch")
    terminals.append(terminal)
    terminal.until("0/50")
    terminal.type("\x03")
    terminal.process.send_signal(signal.SIGINT)

    assert terminal.end() == 130
    assert "^C" not in terminal.seen


def test_the_token_is_not_shown_when_it_is_typed(server: service.FakeService, terminals: list[Terminal]) -> None:
    """The prompt does not echo a typed or pasted token."""
    server.add_response("PutCredential", pb.PutCredentialResponse())

    terminal = Terminal("--address", server.address, "credential", "put", rows.USER)
    terminals.append(terminal)
    terminal.until("Access token: ")
    terminal.type("access-secret\n")
    terminal.until("Refresh token (empty for none): ")
    terminal.type("\n")

    assert terminal.end() == 0
    assert "secret" not in terminal.seen
    assert server.requests["PutCredential"][0].access_token == "access-secret"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_it_names_the_extra_when_the_client_alone_is_installed(missing: str) -> None:
    """One line with the command to run, instead of a traceback."""
    program = f"import sys; sys.modules[{missing!r}] = None; from indexer_client.cli import __main__ as m; m.main()"

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=TIMEOUT)

    line = "indexer: the command line is an extra; run: pip install 'discord-channel-indexer-client[cli]'\n"
    assert (ran.returncode, ran.stderr) == (1, line)


def test_it_ends_quietly_when_its_reader_is_gone(server: service.FakeService) -> None:
    """`indexer guilds USER | head -1` prints no traceback."""
    guilds = [pb.Guild(guild_id=str(number), name="x" * 90) for number in range(3000)]
    server.add_response("ListGuilds", pb.ListGuildsResponse(guilds=guilds))
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [*COMMAND, "--address", server.address, "guilds", rows.USER], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)

    _, stderr = process.communicate(timeout=TIMEOUT)

    assert stderr == ""


def test_the_error_stands_alone_when_the_start_fails(server: service.FakeService, terminals: list[Terminal]) -> None:
    """The display is removed, so that only the error's line is left."""
    server.add_response("StartIndexing", service.Refusal(grpc.StatusCode.NOT_FOUND, "no such thing"))

    terminal = Terminal("--address", server.address, "index", rows.USER)
    terminals.append(terminal)

    assert terminal.end() == 1
    assert terminal.seen.endswith("indexer: no such thing\r\n")
    assert terminal.seen.count("\x1b[2K") >= 3


def test_ids_stay_whole_when_the_terminal_is_narrow(server: service.FakeService, terminals: list[Terminal]) -> None:
    """Names are cut, ids are not."""
    guild = pb.Guild(
        guild_id=rows.USER, name="x" * 90, reason="ROLES_UNKNOWN", channel_count=1503, fetch_time=rows.NOON
    )
    server.add_response("ListGuilds", pb.ListGuildsResponse(guilds=[guild]))

    terminal = Terminal("--address", server.address, "guilds", rows.USER)
    terminals.append(terminal)

    assert terminal.end() == 0
    assert rows.USER in terminal.seen
    assert "xxx…" in terminal.seen


def test_names_and_times_stay_whole_when_a_narrow_terminal_shows_a_running_job(
    server: service.FakeService, terminals: list[Terminal]
) -> None:
    """At 40 columns: the job's id, the numbers, the end of the wait, and a guild's name with its state."""
    waits = pb.Throttled(budget="user", end_time=timestamp_pb2.Timestamp(seconds=4_000_000_000))
    server.add_response("StartIndexing", rows.started(*(rows.guild(number) for number in range(4))))
    server.add_response("WatchProgress", pb.WatchProgressResponse(throttled=waits))

    terminal = Terminal("--address", server.address, "index", rows.USER, columns=40)
    terminals.append(terminal)

    for pattern in (f"job {rows.JOB}", "4 guilds, 0 channels", r"guild 3 +queued", r"\d\d:\d\d:40\b"):
        terminal.until_shown(pattern)  # the seconds of the wait's end, which are the same in any time zone


def test_no_word_of_help_is_broken_when_the_terminal_is_narrow(terminals: list[Terminal]) -> None:
    """At 40 columns no line is longer, and every option stands whole."""
    terminal = Terminal("index", "--help", columns=40)
    terminals.append(terminal)

    assert terminal.end() == 0
    lines = terminal.seen.splitlines()
    assert max(map(len, lines)) <= 40
    assert "  -o, --output <table|json|yaml>" in lines
    assert "      The user's Discord id." in lines


def test_jobs_take_several_lines_when_the_terminal_is_narrow(
    server: service.FakeService, terminals: list[Terminal]
) -> None:
    """Id, state, time and numbers stay whole at 40 columns."""
    done = rows.job("SUCCEEDED_WITH_ERRORS", progress=pb.Progress(total=15, succeeded=14, failed=1))
    server.add_response("ListJobs", pb.ListJobsResponse(jobs=[done]))

    terminal = Terminal("--address", server.address, "jobs", "list", rows.USER, columns=40)
    terminals.append(terminal)

    assert terminal.end() == 0
    job, state, created = terminal.seen.splitlines()
    assert job.strip() == rows.JOB
    assert state.strip() == "succeeded with errors"
    assert re.fullmatch(r"  \d{4}-\d\d-\d\d \d\d:\d\d  15/15 *", created)
