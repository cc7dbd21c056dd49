"""`indexer guilds`, `indexer channels`, `indexer job` and `indexer limits`, as text and as JSON."""

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import timestamp_pb2

from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_client import conftest, rows, service

Indexer = Callable[..., conftest.Ran]
DAY = datetime.datetime.fromtimestamp(rows.NOON.seconds, tz=datetime.UTC).astimezone().strftime("%Y-%m-%d %H:%M")
HOSTILE = "a\x1b[31m\tb\n\x9b2J\u202etxt\u2066[bold]"
ESCAPED = "a\\x1b[31m\\x09b\\x0a\\x9b2J\\u202etxt\\u2066[bold]"


def test_all_pages_are_listed_when_there_are_many_guilds(server: service.FakeService, indexer: Indexer) -> None:
    """The output is one list over all pages."""
    first = pb.Guild(guild_id="1", name="one", channel_count=0, fetch_time=rows.NOON, owner=True)
    second = pb.Guild(guild_id="2", name="two", position=1, reason="BOT_NOT_INSTALLED", stale=True)
    server.add_response("ListGuilds", pb.ListGuildsResponse(guilds=[first], next_page_token="next"))
    server.add_response("ListGuilds", pb.ListGuildsResponse(guilds=[second]))

    ran = indexer("guilds", rows.USER)

    assert ran.out.splitlines() == [f"1\tone\t0\t{DAY}\towner", "2\ttwo\t\t\tbot not installed"]
    assert [request.page_token for request in server.requests["ListGuilds"]] == ["", "next"]
    assert ran.code == 0


def test_each_guild_is_a_line_of_json_when_json_is_asked_for(server: service.FakeService, indexer: Indexer) -> None:
    """Zeros and empty texts are included, so that a program need not know the defaults; an unset count is not."""
    server.add_response("ListGuilds", pb.ListGuildsResponse(guilds=[pb.Guild(guild_id="1", name="één")]))

    ran = indexer("guilds", rows.USER, "--json")

    assert ran.json == [
        {
            "guild_id": "1",
            "name": "één",
            "icon": "",
            "owner": False,
            "position": 0,
            "stale": False,
            "reason": "",
            "advice": "",
            "install_url": "",
            "reason_code": "REASON_UNSPECIFIED",
        }
    ]
    assert ran.out.isascii()


def test_the_filters_are_passed_on_when_channels_are_listed(server: service.FakeService, indexer: Indexer) -> None:
    """The request carries guild, prefix, types by name or number, and order."""
    server.add_response("ListChannels", pb.ListChannelsResponse())

    indexer(
        *("channels", rows.USER, "1000", "--prefix", "gen", "--type", "text", "--type", "13"),
        *("--order", "activity", "--json"),
    )

    (request,) = server.requests["ListChannels"]
    assert (request.user_id, request.guild_id, request.name_prefix) == (rows.USER, "1000", "gen")
    assert (list(request.types), request.order) == ([0, 13], pb.CHANNEL_ORDER_ACTIVITY)


def test_channels_come_with_their_guilds_name_when_people_read_them(
    server: service.FakeService, indexer: Indexer
) -> None:
    """Guild and type are printed by name, an unknown type as its number."""
    text = pb.Channel(channel_id="5", guild_id="1", type=0, name="general", last_message_time=rows.NOON)
    other = pb.Channel(channel_id="6", guild_id="9", type=99, name="new")
    server.add_response("ListGuilds", pb.ListGuildsResponse(guilds=[pb.Guild(guild_id="1", name="one")]))
    server.add_response("ListChannels", pb.ListChannelsResponse(channels=[text], next_page_token="next"))
    server.add_response("ListChannels", pb.ListChannelsResponse(channels=[other]))

    ran = indexer("channels", rows.USER)

    assert ran.out.splitlines() == [f"5\tone\ttext\tgeneral\t{DAY}", "6\t9\t99\tnew\t"]


@pytest.mark.parametrize("as_json", [False, True], ids=["for people", "json"])
def test_names_are_escaped_when_they_contain_control_characters(
    server: service.FakeService, indexer: Indexer, *, as_json: bool
) -> None:
    """The name of a guild or channel cannot move the cursor, reverse a line, or add one."""
    server.add_response("ListGuilds", pb.ListGuildsResponse(guilds=[pb.Guild(guild_id="1", name=HOSTILE)]))
    channel = pb.Channel(channel_id="5", guild_id="1", name=HOSTILE)
    server.add_response("ListChannels", pb.ListChannelsResponse(channels=[channel]))

    ran = indexer("channels", rows.USER, *(["--json"] if as_json else []))

    assert len(ran.out.splitlines()) == 1
    assert [character for character in ran.out if not character.isprintable()] == (
        ["\n"] if as_json else ["\t"] * 4 + ["\n"]
    )
    if as_json:
        assert ran.json[0]["name"] == HOSTILE
    else:
        assert ran.out == f"5\t{ESCAPED}\ttext\t{ESCAPED}\t\n"


def test_job_prints_state_wait_and_counts_when_the_job_is_throttled(
    server: service.FakeService, indexer: Indexer
) -> None:
    """Each fact is one line."""
    throttled = pb.Throttled(budget="user", end_time=rows.LATER)
    progress = pb.Progress(total=60, succeeded=31, skipped=13, queued=16)
    server.add_response("GetJob", pb.GetJobResponse(job=rows.job(throttled=throttled, progress=progress)))

    ran = indexer("job", rows.JOB)

    lines = dict(line.split(maxsplit=1) for line in ran.out.splitlines())
    assert (lines["job"], lines["user"]) == (rows.JOB, rows.USER)
    assert lines["state"].startswith("running, waiting for the user rate limit until ")
    assert lines["guilds"] == "60 (31 indexed, 13 skipped, 16 queued)"


def test_the_job_is_one_line_of_json_when_json_is_asked_for(server: service.FakeService, indexer: Indexer) -> None:
    """The JSON is the API's job message."""
    server.add_response("GetJob", pb.GetJobResponse(job=rows.job("FAILED", error="REAUTH_REQUIRED")))

    (found,) = indexer("job", rows.JOB, "--json").json

    assert (found["state"], found["error"], found.get("progress")) == (
        "JOB_STATE_FAILED",
        "REAUTH_REQUIRED",
        None,
    )


def test_limits_prints_every_budget_when_the_output_is_no_terminal(
    server: service.FakeService, indexer: Indexer
) -> None:
    """Each line has free permits, capacity, window, and the end and reason of a pause."""
    paused = pb.Budget(
        kind="user", key="7", capacity=5, free=0, pause_end_time=rows.LATER, pause_reason=pb.PAUSE_REASON_SHARED
    )
    paused.window.FromSeconds(5)
    # A pause whose end has passed, by this machine's clock, is none.
    calm = pb.Budget(kind="global", capacity=50, free=49, pause_end_time=rows.NOON)
    server.add_response("GetRateLimits", pb.GetRateLimitsResponse(budgets=[calm, paused]))

    ran = indexer("limits", "--user", "7")

    one, two = ran.out.splitlines()
    assert one == "global\t49/50\t0 s\t\t"
    assert two.startswith("user 7\t0/5\t5 s\t\tpaused until ")
    assert two.endswith(": shared")
    assert list(server.requests["GetRateLimits"][0].user_ids) == ["7"]


@pytest.mark.parametrize(
    ("arguments", "method", "answer", "printed"),
    [
        (
            ["jobs", "list", "7"],
            "ListJobs",
            pb.ListJobsResponse(jobs=[rows.job("SUCCEEDED", progress=pb.Progress(total=3, succeeded=2, skipped=1))]),
            f"{rows.JOB}\tsucceeded\t",
        ),
        (["jobs", "show", rows.JOB], "GetJob", pb.GetJobResponse(job=rows.job()), f"job     {rows.JOB}"),
        (["jobs", "wait", rows.JOB], "WaitJob", pb.WaitJobResponse(job=rows.job()), "state   running"),
        (["jobs", "cancel", rows.JOB], "CancelJob", pb.CancelJobResponse(job=rows.job("CANCELLED")), "cancelled"),
        (["jobs", "retry", rows.JOB], "RetryJob", pb.RetryJobResponse(job=rows.job()), "running"),
        (["guild", "7", "9"], "GetGuild", pb.GetGuildResponse(guild=pb.Guild(guild_id="9", name="nine")), "9\tnine"),
        (
            ["channel", "7", "5"],
            "GetChannel",
            pb.GetChannelResponse(channel=pb.Channel(channel_id="5", guild_id="9", name="five")),
            "5\t9\ttext\tfive",
        ),
        (
            ["check", "7", "5", "6"],
            "BatchGetChannels",
            pb.BatchGetChannelsResponse(channels=[pb.Channel(channel_id="5", name="five")], missing_channel_ids=["6"]),
            "5\t\ttext\tfive",
        ),
        (
            ["search", "7", "fiv"],
            "SearchChannels",
            pb.SearchChannelsResponse(channels=[pb.Channel(channel_id="5", name="five")]),
            "5\t\ttext\tfive",
        ),
        (
            ["preferences", "show", "7"],
            "GetPreferences",
            pb.GetPreferencesResponse(preferences=pb.Preferences(pinned_guild_ids=["9", "8"])),
            "pinned  9 8\nmuted   none",
        ),
        (
            ["preferences", "set", "7", "--pin", "9", "--unmute-all"],
            "UpdatePreferences",
            pb.UpdatePreferencesResponse(preferences=pb.Preferences(pinned_guild_ids=["9"])),
            "pinned  9",
        ),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_method_has_a_command(  # noqa: PLR0913, PLR0917 -- a table
    server: service.FakeService,
    indexer: Indexer,
    arguments: list[str],
    method: str,
    answer: Any,  # noqa: ANN401 -- any message
    printed: str,
) -> None:
    """It calls the method once, and prints what it answers, as text and as JSON."""
    server.add_response(method, answer)
    server.add_response("ListGuilds", pb.ListGuildsResponse())

    ran, as_json = indexer(*arguments), indexer(*arguments, "--json")

    assert printed in ran.out
    assert (ran.code, as_json.code, len(as_json.json)) == (0, 0, 1)
    assert len(server.requests[method]) == 2


def test_the_mask_names_what_is_changed(server: service.FakeService, indexer: Indexer) -> None:
    """What is not given stays; nothing given is a mistake."""
    server.add_response("UpdatePreferences", pb.UpdatePreferencesResponse())

    indexer("preferences", "set", "7", "--mute", "9")

    (request,) = server.requests["UpdatePreferences"]
    assert list(request.update_mask.paths) == ["muted_guild_ids"]
    assert indexer("preferences", "set", "7").code == 2


@pytest.mark.parametrize(
    ("arguments", "method", "answer", "line"),
    [
        (["jobs", "list", "7"], "ListJobs", pb.ListJobsResponse(), "user 7 has no job\n"),
        (
            ["guilds", "7"],
            "ListGuilds",
            pb.ListGuildsResponse(),
            "no guild of user 7 is stored; index them with: indexer index 7\n",
        ),
        (
            ["search", "7", "x"],
            "SearchChannels",
            pb.SearchChannelsResponse(),
            "no channel that user 7 can see matches\n",
        ),
    ],
    ids=["jobs", "guilds", "search"],
)
def test_an_empty_list_says_that_it_is_empty(  # noqa: PLR0913, PLR0917 -- a table
    server: service.FakeService,
    indexer: Indexer,
    arguments: list[str],
    method: str,
    answer: Any,  # noqa: ANN401 -- any message
    line: str,
) -> None:
    """On standard error, so that a program reads nothing."""
    server.add_response(method, answer)
    server.add_response("ListGuilds", pb.ListGuildsResponse())

    ran = indexer(*arguments)

    assert (ran.code, ran.out, ran.err) == (0, "", line)


@pytest.mark.parametrize("arguments", [["--version"], ["-h"], ["jobs", "-h"]], ids=" ".join)
def test_help_and_version_are_printed(indexer: Indexer, arguments: list[str]) -> None:
    """Without calling the service."""
    ran = indexer(*arguments)

    assert ran.code == 0
    assert "indexer" in ran.out


def test_a_watch_of_an_earlier_job_starts_none(server: service.FakeService, indexer: Indexer) -> None:
    """It ends with the job."""
    server.add_response("WatchProgress", rows.ended(rows.job("SUCCEEDED")))

    ran = indexer("jobs", "watch", rows.JOB)

    assert ran.code == 0
    assert "succeeded" in ran.out
    assert server.requests["StartIndexing"] == []


def test_a_job_never_waits_until_a_moment_that_has_passed(server: service.FakeService, indexer: Indexer) -> None:
    """It is about to continue then."""
    past = timestamp_pb2.Timestamp(seconds=1)
    throttled = pb.Throttled(budget="credential", budget_kind=pb.BUDGET_KIND_CREDENTIAL, end_time=past)
    server.add_response("GetJob", pb.GetJobResponse(job=rows.job(throttled=throttled)))

    assert "waiting for the user's tokens to be renewed, about to continue" in indexer("job", rows.JOB).out
