"""Times and summary of the demo's job runs."""

import io
import itertools
import json
from collections.abc import Iterator

import grpc
import pytest
from rich import console

from devstack import counts, job_runs, summary, users_display
from indexer_client.cli import connection
from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_client import rows, service

NOTHING = counts.Counts({"GET /users/@me/guilds": 1}, 0, 0, {"global": 0.8})


@pytest.fixture
def server() -> Iterator[service.FakeService]:
    """A service whose second ListJobs call returns the new job."""
    with service.serving() as fake:
        fake.add_response("ListJobs", pb.ListJobsResponse())
        fake.add_response("ListJobs", pb.ListJobsResponse(jobs=[rows.job()]))
        yield fake


async def run(server: service.FakeService) -> job_runs.JobRun:
    """Run a job with a clock that advances a second at each call."""
    ticks = itertools.count()
    made = job_runs.JobRun(rows.USER, lambda: float(next(ticks)))
    async with connection.open_client(connection.Endpoint(server.address)) as client:
        await made.run_to_end(client, users=1)
    return made


async def test_each_milestone_is_timed_once_when_a_job_is_watched(server: service.FakeService) -> None:
    """The times of list, first guild, first five and end are in order, counted from the StartIndexing call."""
    done = [rows.changed(rows.guild(number, "SUCCEEDED", channel_count=3, revision=2)) for number in range(6)]
    server.add_response("StartIndexing", rows.started(rows.guild(0, "SUCCEEDED", channel_count=3, revision=2)))
    snapshot = pb.Snapshot(job=rows.job(), guilds=[rows.guild(number) for number in range(6)])
    server.add_response(
        "WatchProgress", pb.WatchProgressResponse(snapshot=snapshot), *done, rows.ended(rows.job("SUCCEEDED"))
    )

    found = await run(server)

    assert found.error == ""
    assert None not in {
        found.list_visible_at,
        found.first_guild_at,
        found.first_five_at,
        found.ended_at,
        found.answered_at,
    }
    assert (
        0
        < (found.list_visible_at or 0)
        <= (found.first_guild_at or 0)
        < (found.first_five_at or 0)
        < (found.ended_at or 0)
    )
    assert found.indexed_in_answer == 1
    assert found.elapsed() == found.ended_at


async def test_the_new_job_is_watched_when_the_user_has_an_earlier_one(
    server: service.FakeService,
) -> None:
    """An earlier job in the database is not mistaken for the new one."""
    earlier = rows.job("SUCCEEDED")
    earlier.job_id = "f" * 32
    server.scripts["ListJobs"].clear()
    server.add_response("ListJobs", pb.ListJobsResponse(jobs=[earlier]))
    server.add_response("StartIndexing", rows.started())
    server.add_response("WatchProgress", rows.ended(rows.job("SUCCEEDED")))

    found = await run(server)

    assert found.tracked.job.job_id == rows.JOB
    assert [request.job_id for request in server.requests["WatchProgress"]] == [rows.JOB]


async def test_the_error_is_kept_when_a_job_cannot_be_started(server: service.FakeService) -> None:
    """A rejected StartIndexing ends only that user's run, with one line."""
    server.scripts["ListJobs"].pop()
    server.add_response("StartIndexing", service.Refusal(grpc.StatusCode.NOT_FOUND, "no such user"))

    found = await run(server)

    assert (found.error, found.ended_at) == ("no such user", None)


def finished(state: str = "SUCCEEDED", problem: str = "") -> job_runs.JobRun:
    """Return a job run that took two seconds."""
    made = job_runs.JobRun(rows.USER, lambda: 0.0)
    made.list_visible_at = made.first_guild_at = made.first_five_at = made.answered_at = 1.0
    made.ended_at, made.error = 2.0, problem
    made.tracked.apply_start(rows.started(rows.guild(0, "SUCCEEDED", channel_count=3), of=rows.job(state)))
    return made


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(summary.Summary([finished()], NOTHING, errors_allowed=False), [], id="all good"),
        pytest.param(
            summary.Summary([finished("SUCCEEDED_WITH_ERRORS")], NOTHING, errors_allowed=True), [], id="faults"
        ),
        pytest.param(
            summary.Summary([finished("SUCCEEDED_WITH_ERRORS")], NOTHING, errors_allowed=False),
            [f"user {rows.USER}: succeeded with errors"],
            id="errors",
        ),
        pytest.param(
            summary.Summary([finished("FAILED", "no such user")], NOTHING, errors_allowed=True),
            [f"user {rows.USER}: no such user"],
            id="failed",
        ),
        pytest.param(
            summary.Summary([finished()], counts.Counts({}, 2, 1, {}), errors_allowed=False),
            ["429 responses: 2", "guilds fetched more than once: 1"],
            id="limits broken",
        ),
    ],
)
def test_each_problem_is_named_when_a_run_was_not_good(found: summary.Summary, expected: list[str]) -> None:
    """A run is good if all jobs succeeded, without a 429 and without fetching a guild twice."""
    assert found.problems == expected
    assert found.document()["good"] is not bool(expected)


def test_times_are_those_of_the_slowest_user_when_there_are_many() -> None:
    """A time is the maximum over all users, and null when one user has none."""
    slow, stuck = finished(), finished("FAILED")
    slow.list_visible_at, stuck.first_five_at = 3.0, None

    document = summary.Summary([finished(), slow, stuck], NOTHING, errors_allowed=False).document()

    assert (document["seconds_to_list"], document["p50"]["seconds_to_list"]) == (3.0, 1.0)
    assert document["seconds_to_first_five"] is None
    assert (document["users"], document["guilds"], document["channels"], document["memberships"]) == (3, 1, 3, 3)
    assert json.loads(json.dumps(document)) == document


@pytest.mark.parametrize("users", [1, 3])
def test_the_summary_prints_times_and_cost(users: int) -> None:
    """The table has the figures of the JSON document."""
    screen = console.Console(file=io.StringIO(), width=80)

    summary.Summary([finished()] * users, NOTHING, errors_allowed=False).print_to(screen)

    assert isinstance(screen.file, io.StringIO)
    text = screen.file.getvalue()
    assert [word in text for word in ("guild list", "1.0 s", "GET /users/@me/guilds")] == [True] * 3
    assert ("slowest user" in text) is (users > 1)
    assert "no limit exceeded (no 429), no guild fetched twice" in text
    assert "20%" in text  # 80 % of the budget was free at the least
    assert "make up" in text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 10), (120, 40)], ids=str)
def test_the_users_display_fits_when_there_are_more_users_than_lines(width: int, height: int) -> None:
    """At every terminal size, no line is too wide and the display with the cursor's line is not too high."""
    screen = console.Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)

    screen.print(users_display.UsersDisplay([finished() for _ in range(50)]))

    assert isinstance(screen.file, io.StringIO)
    lines = screen.file.getvalue().splitlines()
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    assert lines[-1].endswith("more users")
