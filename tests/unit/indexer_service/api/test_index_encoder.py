"""WatchIndex through the API: what a caller receives, and its tokens."""

from typing import Any

import pytest

from indexer_service.api import convert, index_encoder
from indexer_service.v1 import indexer_pb2 as pb
from indexing import errors
from indexing.usecases import sent_index, watch_index
from tests import edge, fake_backend, values
from tests.unit.indexer_service import contexts

pytestmark = pytest.mark.clockwork
USER = values.USER
ENCODER = index_encoder.IndexEncoder(edge.TOKENS)
POSITION = {10: b"12345678", 1 << 62: b"abcdefgh"}


def encoded(message: watch_index.Message, position: watch_index.Position | None = None) -> pb.WatchIndexResponse:
    """Return a message as a caller decodes it."""
    return pb.WatchIndexResponse.FromString(ENCODER.encode(USER, message, position))


def test_every_field_arrives_when_a_change_is_joined_from_bytes() -> None:
    """The rows are those of ListChannels, encoded once."""
    guild = pb.Guild(guild_id="10", name="a guild", channel_count=2)
    rows = [values.RICH_CHANNEL, values.channel(12, 10)]
    change = sent_index.GuildChange(
        10,
        guild=guild.SerializeToString(),
        replace=True,
        channels=tuple(map(convert.encoded_channel, rows)),
        removed_channels=(13, 14),
    )

    message = encoded(change, POSITION)

    assert message.change == pb.GuildChange(
        channels=[convert.channel(row) for row in rows],
        guild_id="10",
        guild=guild,
        replace=True,
        removed_channel_ids=["13", "14"],
    )
    assert ENCODER.position(USER, message.resume_token) == POSITION
    removed = encoded(sent_index.GuildChange(10, removed=True))
    assert removed.change == pb.GuildChange(guild_id="10", removed=True)
    assert not removed.resume_token


def test_the_other_messages_are_told_apart_when_they_are_empty() -> None:
    """Also a reset without a reason."""
    assert encoded(watch_index.Reset("")).WhichOneof("event") == "reset"
    assert encoded(watch_index.Reset("TOKEN_TOO_OLD")).reset.reason == pb.SNAPSHOT_REASON_TOKEN_TOO_OLD
    bookmark = encoded(watch_index.Bookmark(1_700_000_000.0), {})
    assert bookmark.bookmark.read_time.seconds == 1_700_000_000
    assert ENCODER.position(USER, bookmark.resume_token) == {}
    assert encoded(watch_index.Disconnecting("DRAINING"), {}).going_away.reason == pb.GOING_AWAY_REASON_DRAINING


def test_a_token_is_refused_when_it_is_another_users_or_was_changed() -> None:
    """It says what a user was shown, so it must not be forged or passed on."""
    token = encoded(watch_index.Bookmark(0.0), POSITION).resume_token

    for user_id, sent in ((USER + 1, token), (USER, token + "x"), (USER, "x")):
        with pytest.raises(errors.InvalidArgument) as refused:
            ENCODER.position(user_id, sent)
        assert refused.value.field == "resume_token"


@pytest.mark.parametrize("value", [[2, "AAAA"], [1, "not base64!"], [1, 7], "text", 5, []])
def test_a_token_of_another_form_requests_a_snapshot(value: Any) -> None:  # noqa: ANN401 -- any JSON
    """Such as one of a later release."""
    assert ENCODER.position(USER, edge.TOKENS.sign(f"index:{USER}", value)) is None


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """One user in sixty guilds, indexed."""
    made = fake_backend.make()
    await made.add_user([values.user_guild(guild_id) for guild_id in range(1000, 1600, 10)])
    await made.start_job()
    await made.run_all_turns()
    return made


async def test_a_caller_gets_a_snapshot_then_resumes_without_one_when_it_passes_the_token(
    backend: fake_backend.FakeBackend,
) -> None:
    """From another process; the token stays small."""
    first = await contexts.open_stream(edge.service(backend), pb.WatchIndexRequest(user_id=str(USER)))
    token = first.written[-1].resume_token
    again = await contexts.open_stream(
        edge.service(backend), pb.WatchIndexRequest(user_id=str(USER), resume_token=token)
    )
    reset = await contexts.open_stream(
        edge.service(backend),
        pb.WatchIndexRequest(user_id=str(USER), resume_token=edge.TOKENS.sign(f"index:{USER}", [2, ""])),
    )

    kinds = [message.WhichOneof("event") for message in first.written]
    assert kinds == ["reset", *["change"] * 60, "bookmark"]
    assert {message.resume_token for message in first.written[:-1]} == {""}
    assert len(token) / 60 < 27
    assert [message.WhichOneof("event") for message in again.written] == ["bookmark"]
    assert reset.written[0].reset.reason == pb.SNAPSHOT_REASON_TOKEN_TOO_OLD
    assert len(reset.written) == 62


async def test_what_changes_with_time_alone_is_not_sent_with_a_guild(backend: fake_backend.FakeBackend) -> None:
    """Otherwise every stream would send all guilds all the time."""
    sent = await contexts.open_stream(edge.service(backend), pb.WatchIndexRequest(user_id=str(USER)))
    guild = sent.written[1].change.guild

    assert {field.name for field, _ in guild.ListFields()} == {"guild_id", "name", "channel_count"}


async def test_streams_of_a_user_are_limited_like_those_of_a_job(backend: fake_backend.FakeBackend) -> None:
    """They share the process's places."""
    service = edge.service(backend)
    with pytest.raises(errors.UserNotFound):
        await contexts.open_stream(service, pb.WatchIndexRequest(user_id=str(USER + 5)))
    service._slots._by_job[f"user:{USER}", ""] = 100

    with pytest.raises(errors.TooManyWatchers):
        await contexts.open_stream(service, pb.WatchIndexRequest(user_id=str(USER)))
