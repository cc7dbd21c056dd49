"""Every command on a narrow terminal."""

import io
import re
import sys
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory, timestamp_pb2
from rich import cells

from indexer_client.cli import connection, main, operator_commands
from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_client import rows, service, test_hostile, test_output

GUILD = "1369295290447691789"
NAME = "Electric Observatory of the north"
Narrow = Callable[..., list[str]]


def filled(descriptor: Any) -> Any:  # noqa: ANN401 -- any message
    """Return a message with an id or words in every text, a time in every time, and one entry in every list."""
    made: Any = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        inner, target = field.message_type, getattr(made, field.name)
        if inner is not None and inner.full_name in {"google.protobuf.Timestamp", "google.protobuf.Duration"}:
            target.seconds = rows.NOON.seconds
        elif inner is not None and inner.GetOptions().map_entry:
            target["documents"] = 1
        elif inner is not None and field.containing_oneof is None:
            target.extend([filled(inner)]) if field.is_repeated else target.CopyFrom(filled(inner))
        elif field.type == field.TYPE_STRING and field.name != "next_page_token":
            words = rows.JOB if field.name == "job_id" else GUILD if "_id" in field.name else NAME
            target.extend([words] * 3) if field.is_repeated else setattr(made, field.name, words)
    return made


@pytest.fixture
def narrow(server: service.FakeService, monkeypatch: pytest.MonkeyPatch) -> Narrow:
    """A function that runs a command on a terminal, and returns the lines of both outputs."""

    def run(*arguments: str, width: int = 40) -> list[str]:
        screen = test_output.on_terminal(monkeypatch, COLUMNS=str(width), TERM="dumb", NO_COLOR="1")
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(sys, "stdin", io.StringIO("a-token\n"))
        patience = connection.Patience(calls=0.0, streams=0.5)
        main.run_command(["--address", server.address, *arguments], patience)
        return screen.getvalue().splitlines()

    return run


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("name", test_hostile.COMMANDS)
def test_no_line_is_wider_than_the_terminal(server: service.FakeService, narrow: Narrow, name: str, width: int) -> None:
    """The terminal breaks no word, id, time or command of any command's output."""
    for method in pb.DESCRIPTOR.services_by_name["IndexerService"].methods:
        if not method.server_streaming:
            server.add_response(method.name, filled(method.output_type))
    row, job = rows.guild(1, "FAILED", name=NAME, error="ROLES_UNKNOWN", attempts=3), rows.job()
    lost = rows.job("FAILED", error="REAUTH_REQUIRED", advice="Let the user log in again.")
    server.add_response("WatchProgress", rows.moved(job), rows.changed(row), rows.ended(lost))
    one = pb.GuildChange(guild_id="1", guild=pb.Guild(guild_id="1", name=NAME), replace=True)
    more = pb.GuildChange(guild_id="1", channels=[pb.Channel(channel_id=GUILD, guild_id="1", name="a-channel")])
    server.add_response(
        "WatchIndex",
        *(pb.WatchIndexResponse(reset=pb.IndexReset()), pb.WatchIndexResponse(change=one)),
        *(pb.WatchIndexResponse(bookmark=pb.Bookmark()), pb.WatchIndexResponse(change=more)),
        service.Refusal(grpc.StatusCode.NOT_FOUND, "user_id: user 1 is unknown"),
    )

    lines = narrow(*test_hostile.COMMANDS[name], width=width)

    assert lines
    assert [line for line in lines if cells.cell_len(line) > width] == []


def test_the_guild_of_a_channel_is_shown_when_the_terminal_is_narrow(
    server: service.FakeService, narrow: Narrow
) -> None:
    """Twelve channels of one name differ by their guilds."""
    server.add_response("ListGuilds", pb.ListGuildsResponse(guilds=[pb.Guild(guild_id="9", name="Tiny Lanterns")]))
    found = pb.Channel(channel_id=GUILD, guild_id="9", name="announcements", last_message_time=rows.NOON)
    server.add_response("SearchChannels", pb.SearchChannelsResponse(channels=[found, found]))

    lines = narrow("search", rows.USER, "anouncements")

    assert lines[0] == GUILD
    assert "Tiny Lanterns" in lines[1]
    assert "announcements" in " ".join(lines[:3])


def test_channels_of_one_guild_take_a_line_each_when_the_terminal_is_narrow(
    server: service.FakeService, narrow: Narrow
) -> None:
    """Their guild was given."""
    server.add_response("ListGuilds", pb.ListGuildsResponse(guilds=[pb.Guild(guild_id="9", name="Tiny Lanterns")]))
    found = pb.Channel(channel_id=GUILD, guild_id="9", name="announcements", last_message_time=rows.NOON)
    server.add_response("ListChannels", pb.ListChannelsResponse(channels=[found, found]))

    lines = narrow("channels", rows.USER, "9")

    assert lines[1].split() == [GUILD, "announcements"]
    assert len(lines) == 3


def test_one_guild_keeps_all_that_is_known_when_the_terminal_is_narrow(
    server: service.FakeService, narrow: Narrow
) -> None:
    """In several lines instead of fewer columns."""
    guild = pb.Guild(guild_id=GUILD, name="Tiny Lanterns", channel_count=1503, fetch_time=rows.NOON, owner=True)
    server.add_response("GetGuild", pb.GetGuildResponse(guild=guild))

    found = narrow("guild", rows.USER, GUILD)

    assert found[0] == GUILD
    assert re.fullmatch(r"  Tiny Lanterns  1503  \d{4}-\d\d-\d\d \d\d:\d\d", found[1])
    assert found[2].strip() == "owner"


def test_the_end_of_a_pause_is_whole_when_the_terminal_is_narrow(server: service.FakeService, narrow: Narrow) -> None:
    """The reason takes another line, and the next free permit's time is shown."""
    paused = pb.Budget(kind="global", capacity=50, pause_end_time=rows.LATER, pause_reason="PAUSE_REASON_BREAKER")
    paused.next_free_time.CopyFrom(timestamp_pb2.Timestamp(seconds=rows.LATER.seconds, nanos=5_000_000))
    server.add_response("GetRateLimits", pb.GetRateLimitsResponse(budgets=[paused]))

    shown = "\n".join(narrow("limits"))

    assert re.search(r"next free \d\d:\d\d:\d\d\.005\b", shown, re.MULTILINE)
    assert re.search(r"paused until \d\d:\d\d:\d\d:", shown)
    assert re.search(r"^ +breaker\b", shown, re.MULTILINE)


def test_a_setting_takes_several_lines_when_it_is_wide() -> None:
    """A list continues after a comma; the note is never broken."""
    weights = 'INDEXING_RANK_WEIGHTS={"recency":0.2,"activity":0.25,"owner":0.2}  # default'

    assert operator_commands.setting_lines(weights, 40) == [
        'INDEXING_RANK_WEIGHTS={"recency":0.2,',
        '  "activity":0.25,"owner":0.2}',
        "  # default",
    ]
    assert operator_commands.setting_lines("LOG_LEVEL=info  # default", 40) == ["LOG_LEVEL=info  # default"]


def test_settings_end_with_one_line_when_they_take_too_long(narrow: Narrow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a traceback."""
    monkeypatch.setattr(operator_commands, "LONGEST_LOCAL", 0.0)

    assert narrow("settings", width=120) == [
        "indexer: the settings could not be read within 0 s; try again: this machine is busy"
    ]


def test_settings_are_messages_when_json_is_asked_for(narrow: Narrow) -> None:
    """Name, value, and whether it is the default."""
    lines = narrow("settings", "--json", width=80)

    assert '{"name": "GLOBAL_BUDGET", "value": "50/1", "default": true}' in lines


def test_every_command_is_named_whole_when_help_is_narrow(narrow: Narrow) -> None:
    """No description ends with dots, and the example and the exit codes are there."""
    lines = narrow("--help")

    assert [line for line in lines if line.endswith("...") and not line.startswith(" " * 10)] == []
    assert max(map(len, lines)) <= 40
    assert "Exit codes: 0 success" in " ".join(" ".join(lines).split())
