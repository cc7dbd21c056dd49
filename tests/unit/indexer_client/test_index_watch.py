"""`indexer watch`, and the state that it keeps."""

import re
from collections.abc import Callable

import grpc
from google.protobuf import timestamp_pb2

from indexer_client import index_state
from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_client import conftest, rows, service

Indexer = Callable[..., conftest.Ran]
READ = pb.Bookmark(read_time=timestamp_pb2.Timestamp(seconds=1))
ERASED = service.Refusal(grpc.StatusCode.NOT_FOUND, "user_id: user 1 is unknown")


def channel(channel_id: int, name: str = "", guild_id: str = "1") -> pb.Channel:
    """Return a channel."""
    return pb.Channel(channel_id=str(channel_id), guild_id=guild_id, name=name or f"channel-{channel_id}")


def change(
    *channels: pb.Channel, name: str = "", removed: tuple[str, ...] = (), replace: bool = False
) -> pb.WatchIndexResponse:
    """Return a change of guild 1, with its row if a name is given."""
    guild = pb.Guild(guild_id="1", name=name) if name else None
    made = pb.GuildChange(guild_id="1", guild=guild, channels=channels, removed_channel_ids=removed, replace=replace)
    return pb.WatchIndexResponse(change=made)


def bookmark(token: str) -> pb.WatchIndexResponse:
    """Return a bookmark."""
    return pb.WatchIndexResponse(bookmark=READ, resume_token=token)


RESET = pb.WatchIndexResponse(reset=pb.IndexReset())


def test_changes_are_printed_as_lines_when_people_watch(server: service.FakeService, indexer: Indexer) -> None:
    """The snapshot as a count, then each channel; a hostile name is escaped."""
    server.add_response(
        "WatchIndex",
        RESET,
        change(channel(5), channel(6), name="one", replace=True),
        bookmark("t1"),
        change(channel(5, "new\x1b[2J"), channel(7)),
        change(removed=("6",)),
        change(name="renamed"),
        pb.WatchIndexResponse(change=pb.GuildChange(guild_id="1", removed=True)),
        ERASED,
    )

    ran = indexer("watch", rows.USER)

    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in ran.out.splitlines()]
    assert lines == [
        "1 guild, 2 channels; waiting for changes (Ctrl-C ends)",
        "one: ~ channel-5 (5) -> new\\x1b[2J (5)",
        "one: + channel-7 (7)",
        "one: - channel-6 (6)",
        "~ renamed",
        "- renamed (2 channels)",
    ]
    assert ran.code == 1
    assert ran.err.startswith("indexer: user 1 is unknown")


def test_a_stream_resumes_with_its_last_token_when_it_breaks(server: service.FakeService, indexer: Indexer) -> None:
    """Without a line about it."""
    server.add_response("WatchIndex", RESET, change(channel(5), name="one", replace=True), bookmark("t1"))
    leaving = pb.WatchIndexResponse(going_away=pb.GoingAway(reason=pb.GOING_AWAY_REASON_DRAINING), resume_token="t2")
    server.add_response("WatchIndex", change(channel(6)), bookmark("t1b"), leaving)
    server.add_response("WatchIndex", bookmark("t3"), ERASED)

    ran = indexer("watch", rows.USER)

    assert [request.resume_token for request in server.requests["WatchIndex"]] == ["", "t1", "t2"]
    assert len(ran.out.splitlines()) == 2


def test_each_message_is_a_line_of_json_when_json_is_asked_for(server: service.FakeService, indexer: Indexer) -> None:
    """With the token, so that a program can go on by itself."""
    server.add_response("WatchIndex", RESET, bookmark("t1"), ERASED)

    ran = indexer("watch", rows.USER, "--json")

    assert [list(line) for line in ran.json] == [["reset", "resume_token"], ["bookmark", "resume_token"]]


def test_the_state_follows_the_messages_when_they_are_applied() -> None:
    """Replacement, changes and removals, each harmless twice; a reset forgets all."""
    state = index_state.IndexState()
    twice = [
        change(channel(5), channel(6), name="one", replace=True),
        change(channel(6, "new"), removed=("5",)),
        change(channel(7), replace=True),
    ]

    seen = []
    for message in twice:
        state.apply(message)
        state.apply(message)
        seen.append(sorted(row.name for row in state.channels["1"].values()))
    complete = state.complete
    state.apply(bookmark("t1"))
    state.apply(RESET)

    assert seen == [["channel-5", "channel-6"], ["new"], ["channel-7"]]
    assert (complete, state.complete, state.guilds, state.channels) == (False, False, {}, {})
    assert state.resume_token == "t1"
