"""`indexer index`: its output while a job runs, and its exit code when the job has ended."""

from collections.abc import Callable

import grpc
import pytest
from google.protobuf import timestamp_pb2

from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_client import conftest, rows, service

Indexer = Callable[..., conftest.Ran]


def test_every_guild_and_a_summary_are_printed_when_the_output_is_no_terminal(
    server: service.FakeService, indexer: Indexer
) -> None:
    """The output has one plain line per guild and ends with a summary."""
    server.add_response(
        "StartIndexing",
        rows.started(rows.guild(0, "SUCCEEDED", channel_count=1), rows.guild(1), rows.guild(2)),
    )
    server.add_response(
        "WatchProgress",
        rows.changed(rows.guild(1, "SUCCEEDED", channel_count=1502, revision=2)),
        rows.changed(rows.guild(2, "SKIPPED", error="BOT_NOT_INSTALLED", revision=2)),
        rows.ended(rows.job("SUCCEEDED", progress=pb.Progress(total=3, succeeded=2, skipped=1))),
    )

    ran = indexer("index", rows.USER)

    *lines, last = ran.out.splitlines()
    assert lines == [
        f"job {rows.JOB} started",
        "guild 0 (1000): indexed, 1 channel",
        "guild 1 (1001): indexed, 1,502 channels",
        "guild 2 (1002): bot not installed",
    ]
    assert last.startswith("succeeded in 0.")
    assert last.endswith(" s: 2 of 3 guilds indexed, 1,503 channels, 1 skipped")
    assert (ran.code, ran.err) == (0, "")
    assert "\x1b" not in ran.out


def test_the_watch_starts_with_the_responses_token_when_a_job_is_started(
    server: service.FakeService, indexer: Indexer
) -> None:
    """No event between the start and the watch is lost."""
    server.add_response("StartIndexing", rows.started())
    server.add_response("WatchProgress", rows.ended(rows.job("SUCCEEDED")))

    indexer("index", rows.USER, "--wait", "3.5", "--force")

    (start,) = server.requests["StartIndexing"]
    (watch,) = server.requests["WatchProgress"]
    assert (start.user_id, start.wait.ToMilliseconds(), start.force) == (rows.USER, 3500, True)
    assert start.request_id
    assert (watch.job_id, watch.user_id, watch.resume_token) == (rows.JOB, "", "token-0")


def test_every_call_has_a_deadline_when_a_command_runs(server: service.FakeService, indexer: Indexer) -> None:
    """No call can hang forever."""
    server.add_response("StartIndexing", rows.started())
    server.add_response("WatchProgress", rows.ended(rows.job("SUCCEEDED")))

    indexer("index", rows.USER)

    assert [deadline is not None and deadline < 3700 for deadline in server.deadlines] == [True, True]


def test_a_rate_limit_wait_is_printed_once_when_the_job_is_throttled(
    server: service.FakeService, indexer: Indexer
) -> None:
    """The line names the budget and the time, and is printed again only when one of them changes."""
    first = pb.Throttled(budget="user", end_time=rows.LATER)
    later = pb.Throttled(budget="global", end_time=timestamp_pb2.Timestamp(seconds=rows.LATER.seconds + 5))
    server.add_response("StartIndexing", rows.started(rows.guild(0)))
    server.add_response(
        "WatchProgress",
        rows.moved(rows.job(throttled=first)),
        pb.WatchProgressResponse(throttled=first, resume_token="token-2"),
        pb.WatchProgressResponse(throttled=later, resume_token="token-3"),
        rows.ended(rows.job("SUCCEEDED")),
    )

    ran = indexer("index", rows.USER)

    waits = [line for line in ran.out.splitlines() if line.startswith("waiting")]
    assert [line.partition(" until ")[0] for line in waits] == [
        "waiting for the user rate limit",
        "waiting for the global rate limit",
    ]


def test_an_older_guild_task_is_ignored_when_it_arrives_late(server: service.FakeService, indexer: Indexer) -> None:
    """The higher revision of a guild task wins, in any order of arrival."""
    server.add_response("StartIndexing", rows.started(rows.guild(0, "SUCCEEDED", channel_count=7, revision=5)))
    server.add_response(
        "WatchProgress",
        rows.changed(rows.guild(0, "FAILED", error="TIMEOUT", revision=4)),
        rows.ended(rows.job("SUCCEEDED", progress=pb.Progress(total=1, succeeded=1))),
    )

    ran = indexer("index", rows.USER)

    assert "TIMEOUT" not in ran.out + ran.err
    assert "1 of 1 guild indexed, 7 channels" in ran.out


def test_each_failed_guild_is_named_when_a_job_ends_with_errors(server: service.FakeService, indexer: Indexer) -> None:
    """Standard error has one line per failed guild, and the command still succeeds."""
    failed = rows.guild(1, "FAILED", error="DISCORD_TRANSIENT", attempts=5, revision=2)
    server.add_response("StartIndexing", rows.started(rows.guild(0, "SUCCEEDED", channel_count=2), rows.guild(1)))
    server.add_response(
        "WatchProgress",
        rows.changed(failed),
        rows.ended(rows.job("SUCCEEDED_WITH_ERRORS", progress=pb.Progress(total=2, succeeded=1, failed=1))),
    )

    ran = indexer("index", rows.USER)

    assert ran.code == 0
    assert ran.err == "not indexed: guild 1 (1001): DISCORD_TRANSIENT after 5 attempts\n"
    assert ran.out.splitlines()[-1].startswith("succeeded with errors in ")


@pytest.mark.parametrize(
    ("state", "error", "expected"),
    [
        pytest.param("FAILED", "TURNS_LOST", f"job {rows.JOB} failed: TURNS_LOST\n", id="failed"),
        pytest.param(
            "FAILED",
            "REAUTH_REQUIRED",
            f"job {rows.JOB} failed: REAUTH_REQUIRED; the user must authorize the application again, "
            f"then run: indexer credential put {rows.USER}\n",
            id="reauth",
        ),
        pytest.param("CANCELLED", "", f"job {rows.JOB} was cancelled\n", id="cancelled"),
    ],
)
def test_the_exit_code_is_1_when_the_job_failed_or_was_cancelled(
    server: service.FakeService, indexer: Indexer, state: str, error: str, expected: str
) -> None:
    """Standard error says how the job ended."""
    server.add_response("StartIndexing", rows.started())
    server.add_response("WatchProgress", rows.ended(rows.job(state, error=error)))

    ran = indexer("index", rows.USER)

    assert (ran.code, ran.err) == (1, expected)


def test_the_remaining_guilds_are_printed_when_it_does_not_watch(server: service.FakeService, indexer: Indexer) -> None:
    """Without a watch the command ends after StartIndexing, and prints the command that shows the job."""
    server.add_response("StartIndexing", rows.started(rows.guild(0, "SUCCEEDED", channel_count=2), rows.guild(1)))

    ran = indexer("index", rows.USER, "--no-watch")

    assert ran.out.splitlines()[-1] == f"1 guild to go; watch the job with: indexer jobs watch {rows.JOB}"


def test_no_number_of_guilds_is_told_when_their_list_is_not_read(server: service.FakeService, indexer: Indexer) -> None:
    """Zero guilds to go would read as an end."""
    server.add_response("StartIndexing", rows.started(of=pb.Job(job_id=rows.JOB, state="JOB_STATE_RUNNING")))

    ran = indexer("index", rows.USER, "--no-watch")

    expected = f"reading the guild list; watch the job with: indexer jobs watch {rows.JOB}"
    assert ran.out.splitlines()[-1] == expected
    assert (ran.code, server.requests["WatchProgress"]) == (0, [])


def test_each_message_is_a_line_of_json_when_json_is_asked_for(server: service.FakeService, indexer: Indexer) -> None:
    """The first line is StartIndexing's response, each further one an event, with the API's field names."""
    server.add_response("StartIndexing", rows.started(rows.guild(0)))
    server.add_response(
        "WatchProgress",
        rows.changed(rows.guild(0, "SUCCEEDED", channel_count=0, revision=2)),
        rows.ended(rows.job("SUCCEEDED")),
    )

    ran = indexer("index", rows.USER, "--json")

    start, change, end = ran.json
    assert (start["job"]["job_id"], start["remaining"], start["guilds"][0]["position"]) == (rows.JOB, 1, 0)
    assert (change["guild"]["channel_count"], change["guild"]["state"]) == (0, "GUILD_STATE_SUCCEEDED")
    assert (end["terminal"]["job"]["state"], end["resume_token"]) == ("JOB_STATE_SUCCEEDED", "token-9")


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED],
    ids=lambda code: code.name,
)
def test_the_watch_resumes_with_the_last_token_when_the_stream_breaks(
    server: service.FakeService, indexer: Indexer, code: grpc.StatusCode
) -> None:
    """A new stream resumes after a short delay."""
    server.add_response("StartIndexing", rows.started(rows.guild(0)))
    server.add_response("WatchProgress", rows.changed(rows.guild(0), "token-5"), service.Refusal(code, "try another"))
    server.add_response("WatchProgress", rows.ended(rows.job("SUCCEEDED")))

    ran = indexer("index", rows.USER)

    assert ran.code == 0
    assert [watch.resume_token for watch in server.requests["WatchProgress"]] == ["token-0", "token-5"]


def test_the_watch_resumes_when_the_server_drains(server: service.FakeService, indexer: Indexer) -> None:
    """Where the `going_away` event says."""
    leaving = pb.WatchProgressResponse(
        going_away=pb.GoingAway(reason=pb.GOING_AWAY_REASON_DRAINING), resume_token="token-6"
    )
    server.add_response("StartIndexing", rows.started(rows.guild(0)))
    server.add_response("WatchProgress", leaving)
    server.add_response("WatchProgress", rows.ended(rows.job("SUCCEEDED")))

    ran = indexer("index", rows.USER)

    assert ran.code == 0
    assert server.requests["WatchProgress"][1].resume_token == "token-6"


KEEPS_CLOSING = "indexer: the service keeps closing the stream"


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param(
            (service.Refusal(grpc.StatusCode.UNAVAILABLE, "gone"),),
            "indexer: cannot reach the service at ",
            id="refused",
        ),
        pytest.param((), f"{KEEPS_CLOSING}; the job continues in the background", id="no event"),
        pytest.param(
            (pb.WatchProgressResponse(snapshot=pb.Snapshot(job=rows.job())),),
            f"{KEEPS_CLOSING}; the job continues in the background",
            id="nothing but snapshots",
        ),
    ],
)
def test_the_command_fails_when_the_streams_keep_breaking(
    server: service.FakeService, indexer: Indexer, steps: tuple[service.Step, ...], expected: str
) -> None:
    """The time without progress is bounded, and the command ends with one line and exit code 1."""
    server.add_response("StartIndexing", rows.started(rows.guild(0)))
    server.add_response("WatchProgress", *steps)

    ran = indexer("index", rows.USER)

    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    assert ran.err.startswith(expected)
    assert len(server.requests["WatchProgress"]) > 1


def test_the_summary_says_so_when_everything_is_fresh(server: service.FakeService, indexer: Indexer) -> None:
    """The printed duration is that of the job that did the work."""
    end = timestamp_pb2.Timestamp(seconds=rows.NOON.seconds + 79)
    last = rows.job("SUCCEEDED", end_time=end, progress=pb.Progress(total=1, succeeded=1))
    answer = rows.started(rows.guild(0, "SUCCEEDED", channel_count=2), of=last)
    answer.disposition = pb.DISPOSITION_FRESH
    server.add_response("StartIndexing", answer)
    server.add_response("WatchProgress", rows.ended(last))

    ran = indexer("index", rows.USER)

    assert ran.out.splitlines()[-1] == (
        "nothing to do: everything is fresh; the last job succeeded in 1:19: 1 of 1 guild indexed, 2 channels"
    )
