"""A demonstration times what its caller could see, and judges it."""

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
    """A service where a job can be found as soon as it is started."""
    with service.serving() as played:
        played.add_response("ListJobs", pb.ListJobsResponse())
        played.add_response("ListJobs", pb.ListJobsResponse(jobs=[rows.job()]))
        yield played


async def run(server: service.FakeService) -> job_runs.JobRun:
    """Run a job; every look at the clock finds it a second later."""
    ticks = itertools.count()
    made = job_runs.JobRun(rows.USER, lambda: float(next(ticks)))
    async with connection.open_stub(connection.Endpoint(server.address)) as stub:
        await made.run_to_end(stub, users=1)
    return made


async def test_times_are_those_of_the_first_sight_when_a_job_is_followed(server: service.FakeService) -> None:
    """List, first guild, first five and the end are each timed once, in their order, from the call on."""
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


async def test_an_earlier_job_is_not_taken_for_the_new_one_when_the_user_has_one(
    server: service.FakeService,
) -> None:
    """With a database that has seen the user before, the job that is followed is the one that was started."""
    earlier = rows.job("SUCCEEDED")
    earlier.job_id = "f" * 32
    server.scripts["ListJobs"].clear()
    server.add_response("ListJobs", pb.ListJobsResponse(jobs=[earlier]))
    server.add_response("StartIndexing", rows.started())
    server.add_response("WatchProgress", rows.ended(rows.job("SUCCEEDED")))

    found = await run(server)

    assert found.tracked.job.job_id == rows.JOB
    assert [request.job_id for request in server.requests["WatchProgress"]] == [rows.JOB]


async def test_the_cause_is_kept_when_a_job_cannot_be_started(server: service.FakeService) -> None:
    """A start that is refused ends that user's run with one line, and leaves the others alone."""
    server.scripts["ListJobs"].pop()
    server.add_response("StartIndexing", service.Refusal(grpc.StatusCode.NOT_FOUND, "no such user"))

    found = await run(server)

    assert (found.error, found.ended_at) == ("no such user", None)


def finished(state: str = "SUCCEEDED", problem: str = "") -> job_runs.JobRun:
    """Return a run that took two seconds."""
    made = job_runs.JobRun(rows.USER, lambda: 0.0)
    made.list_visible_at = made.first_guild_at = made.first_five_at = made.answered_at = 1.0
    made.ended_at, made.error = 2.0, problem
    made.tracked.apply_start(rows.started(rows.guild(0, "SUCCEEDED", channel_count=3), of=rows.job(state)))
    return made


@pytest.mark.parametrize(
    ("found", "told"),
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
            ["429 answers: 2", "guilds fetched more than once: 1"],
            id="limits broken",
        ),
    ],
)
def test_each_shortcoming_is_named_when_a_run_was_not_good(found: summary.Summary, told: list[str]) -> None:
    """Only complete jobs, no 429 and no guild fetched twice make a good run."""
    assert found.problems == told
    assert found.document()["good"] is not bool(told)


def test_the_slowest_user_counts_when_there_are_many() -> None:
    """The figures are the greatest over all users, and null when a user never got there."""
    slow, stuck = finished(), finished("FAILED")
    slow.list_visible_at, stuck.first_five_at = 3.0, None

    document = summary.Summary([finished(), slow, stuck], NOTHING, errors_allowed=False).document()

    assert (document["seconds_to_list"], document["p50"]["seconds_to_list"]) == (3.0, 1.0)
    assert document["seconds_to_first_five"] is None
    assert (document["users"], document["guilds"], document["channels"], document["memberships"]) == (3, 1, 3, 3)
    assert json.loads(json.dumps(document)) == document


@pytest.mark.parametrize("users", [1, 3])
def test_the_table_tells_times_and_cost_when_it_is_shown(users: int) -> None:
    """A person reads the same figures as a program."""
    on = console.Console(file=io.StringIO(), width=80)

    summary.Summary([finished()] * users, NOTHING, errors_allowed=False).print_to(on)

    assert isinstance(on.file, io.StringIO)
    text = on.file.getvalue()
    assert [word in text for word in ("guild list to be seen", "1.0 s", "GET /users/@me/guilds", "80%")] == [True] * 4
    assert ("slowest user" in text) is (users > 1)
    assert "no 429, no guild fetched twice" in text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 10), (120, 40)], ids=str)
def test_the_crowd_fits_when_there_are_more_users_than_lines(width: int, height: int) -> None:
    """Whatever the terminal's size, no line is wider and the picture is not higher, the cursor's line included."""
    on = console.Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)

    on.print(users_display.UsersDisplay([finished() for _ in range(50)]))

    assert isinstance(on.file, io.StringIO)
    lines = on.file.getvalue().splitlines()
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    assert lines[-1].endswith("more users")
