"""Conversion of domain values to messages."""

import dataclasses
import enum

import pytest

from indexer_service import interceptors
from indexer_service.api import convert
from indexer_service.v1 import indexer_pb2 as pb
from indexing.domain import job_updates, model, ranking, reasons
from indexing.usecases import guild_views, start_job
from tests import clockwork, values

NOW = clockwork.START
TALLY = job_updates.Tally(total=21, queued=1, running=2, succeeded=3, skipped=4, failed=5, cancelled=6)


@pytest.mark.parametrize(
    ("states", "enum_type"),
    [
        pytest.param(model.JobState, pb.JobState, id="JOB_STATE"),
        pytest.param(model.TaskState, pb.GuildState, id="GUILD_STATE"),
        pytest.param(start_job.Disposition, pb.Disposition, id="DISPOSITION"),
    ],
)
def test_every_state_has_a_name_in_the_api(
    states: type[enum.StrEnum], enum_type: object, request: pytest.FixtureRequest
) -> None:
    """A missing one would fail in the first call that returns it."""
    prefix = request.node.callspec.id

    names = {f"{prefix}_{member}" for member in states}

    assert names <= set(enum_type.keys())  # type: ignore[attr-defined]  # generated enums have no common type


def test_every_reason_with_advice_has_a_value_in_the_api() -> None:
    """Another one is given as text, with REASON_OTHER."""
    assert {convert.reason(reason) for reason in reasons.ADVICE}.isdisjoint({0, pb.REASON_OTHER})
    assert convert.reason("NEWER_THAN_THIS_RELEASE") == pb.REASON_OTHER
    assert convert.reason("") == pb.REASON_UNSPECIFIED


def test_every_error_that_a_caller_may_see_has_a_value_in_the_api() -> None:
    """So that callers in any language have a constant for it, and no constant is without an error."""
    names = {f"ERROR_REASON_{error.reason}" for error in interceptors.errors.CODES}

    assert set(pb.ErrorReason.keys()) - names == {
        "ERROR_REASON_UNSPECIFIED",
        "ERROR_REASON_METHOD_NOT_OFFERED",
        "ERROR_REASON_INTERNAL",
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("global", pb.BUDGET_KIND_GLOBAL), ("invalid_requests", pb.BUDGET_KIND_INVALID_REQUESTS), ("newer", 0), ("", 0)],
)
def test_a_budget_kind_has_a_value_when_the_api_knows_it(text: str, value: int) -> None:
    """Otherwise only its text is given."""
    assert convert.budget_kind(text) == value


@pytest.mark.parametrize(("text", "value"), [("edge", pb.PAUSE_REASON_EDGE), ("newer", 0), ("", 0)])
def test_a_pause_reason_has_a_value_when_the_api_knows_it(text: str, value: int) -> None:
    """Otherwise it is unspecified."""
    assert convert.pause_reason(text) == value


@pytest.mark.parametrize("seconds", [0.0, 0.25, NOW + 0.123456])
def test_a_time_is_exact_when_it_is_converted(seconds: float) -> None:
    """To the microsecond."""
    assert convert.timestamp(seconds).ToMicroseconds() == round(seconds * 1e6)


def test_a_job_has_all_fields_when_it_is_converted() -> None:
    """Each with a value of its own."""
    ended = values.job(
        state=model.JobState.FAILED, reason="REAUTH_REQUIRED", finished_at=NOW + 5, listed=True, created_at=NOW
    )

    found = convert.job(ended, TALLY)

    assert found == pb.Job(
        job_id="a" * 32,
        user_id=str(values.USER),
        state=pb.JOB_STATE_FAILED,
        progress=pb.Progress(total=21, queued=1, running=2, succeeded=3, skipped=4, failed=5, cancelled=6),
        error="REAUTH_REQUIRED",
        reason_code=pb.REASON_REAUTH_REQUIRED,
        advice="Ask the user to log in again, store the new tokens, then retry the job.",
        create_time=convert.timestamp(NOW),
        end_time=convert.timestamp(NOW + 5),
        guilds_listed=True,
    )


def test_a_job_is_throttled_when_it_waits_for_quota() -> None:
    """With the budget and the time."""
    waiting = values.job(waiting_for="user", waiting_until=NOW + 7.5)

    found = convert.job(waiting, job_updates.Tally())

    assert found.throttled == pb.Throttled(
        budget="user", budget_kind=pb.BUDGET_KIND_USER, end_time=convert.timestamp(NOW + 7.5)
    )
    assert not found.HasField("end_time")


@pytest.mark.parametrize(
    "changes",
    [{}, {"waiting_for": "user", "waiting_until": NOW, "state": model.JobState.CANCELLED}],
    ids=["not-waiting", "ended-while-waiting"],
)
def test_a_job_is_not_throttled_when_it_does_not_wait(changes: dict[str, object]) -> None:
    """Nor when it has ended, whatever its row says."""
    row = dataclasses.replace(values.job(), **changes)  # type: ignore[arg-type]  # any field

    assert convert.throttled(row) is None
    assert not convert.job(row, TALLY).HasField("throttled")


def test_a_guild_task_has_all_fields_when_it_is_converted() -> None:
    """Each with a value of its own."""
    row = values.task(
        9,
        name="größer",
        state=model.TaskState.RUNNING,
        position=4,
        attempts=2,
        retry_at=NOW + 5,
        reason="DISCORD_TRANSIENT",
        channel_count=0,
        revision=1 << 40,
    )

    assert convert.job_guild(row) == pb.JobGuild(
        guild_id="9",
        name="größer",
        state=pb.GUILD_STATE_RUNNING,
        position=4,
        channel_count=0,
        error="DISCORD_TRANSIENT",
        reason_code=pb.REASON_DISCORD_TRANSIENT,
        attempts=2,
        retry_time=convert.timestamp(NOW + 5),
        revision=1 << 40,
        advice="Discord did not answer correctly; retry the job later.",
    )


def test_the_channel_count_is_absent_when_channels_were_never_counted() -> None:
    """Absent and zero differ."""
    unknown = convert.job_guild(values.task(channel_count=None))
    none = convert.job_guild(values.task(channel_count=0))

    assert (unknown.HasField("channel_count"), none.HasField("channel_count")) == (False, True)
    assert not unknown.HasField("retry_time")


def test_a_guild_has_all_fields_when_it_is_converted() -> None:
    """Each with a value of its own."""
    stored = values.guild(guild_id=9, name="n", icon="i", fetched_at=NOW)
    inputs = ranking.inputs_of(values.membership(guild_id=9), stored, (7, 9))
    view = guild_views.GuildView(
        stored,
        owner=True,
        position=3,
        channel_count=5,
        stale=True,
        reason="BOT_REMOVED",
        rank=ranking.RankedGuild(inputs, 0.75, {"owner": 0.5, "role": 0.25}),
        install_url="https://example.org/?guild_id=9",
    )

    assert convert.guild(view) == pb.Guild(
        guild_id="9",
        name="n",
        icon="i",
        owner=True,
        position=3,
        channel_count=5,
        fetch_time=convert.timestamp(NOW),
        stale=True,
        reason="BOT_REMOVED",
        reason_code=pb.REASON_BOT_REMOVED,
        advice="The bot was removed from this server; install it again.",
        install_url="https://example.org/?guild_id=9",
        rank=pb.Rank(pinned=1, score=0.75, signals={"owner": 0.5, "role": 0.25}),
    )


def test_a_channel_has_all_fields_when_it_is_converted() -> None:
    """The time of its newest message is taken from the message's id."""
    row = values.channel(
        7, 9, kind=999, name="n", topic="t", position=3, parent_id=6, nsfw=True, last_message_id=values.snowflake(NOW)
    )

    assert convert.channel(row) == pb.Channel(
        channel_id="7",
        guild_id="9",
        type=999,
        name="n",
        topic="t",
        position=3,
        parent_id="6",
        nsfw=True,
        last_message_time=convert.timestamp(NOW),
    )


def test_optional_fields_are_empty_when_a_channel_has_none() -> None:
    """No value is made up."""
    found = convert.channel(values.channel(7, 9))

    assert (found.topic, found.parent_id) == ("", "")
    assert not found.HasField("last_message_time")


@pytest.mark.parametrize("snowflake", [1, (1 << 63) - 1], ids=["oldest", "newest"])
def test_a_channel_is_converted_when_its_ids_are_extreme(snowflake: int) -> None:
    """Every id that can be stored can be converted."""
    row = values.channel(snowflake, snowflake, parent_id=snowflake, last_message_id=snowflake)

    assert convert.channel(row).channel_id == str(snowflake)


def test_preferences_keep_their_order_when_they_are_converted() -> None:
    """Ids become text."""
    found = convert.preferences(model.Preferences(pinned=(9, 3), muted=(5,)))

    assert found == pb.Preferences(pinned_guild_ids=["9", "3"], muted_guild_ids=["5"])
