"""Freshness, fetch schedules, and backoff."""

import dataclasses
import random
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from indexing.domain import freshness, model
from tests import clockwork, values

NOW = clockwork.START


@pytest.mark.parametrize(
    ("fetched_at", "fresh"),
    [
        pytest.param(None, False, id="never"),
        pytest.param(NOW - 1, False, id="before"),
        pytest.param(NOW, False, id="exactly-then"),
        pytest.param(NOW + 0.001, True, id="after"),
    ],
)
def test_a_guild_counts_as_fetched_when_it_was_read_after_the_moment(
    fetched_at: float | None,
    fresh: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """A listing exactly as old as the moment says nothing about what came after it."""
    assert freshness.was_fetched_since(values.guild(fetched_at=fetched_at), NOW) is fresh


def test_an_unknown_guild_is_never_fresh_when_it_is_asked_for() -> None:
    """Nothing is known of it."""
    assert not freshness.was_fetched_since(None, 0.0)


@pytest.mark.parametrize(
    ("roles_at", "fresh"),
    [
        pytest.param(None, False, id="never"),
        pytest.param(NOW - 59.9, True, id="young"),
        pytest.param(NOW - 60.0, False, id="exactly-as-old"),
        pytest.param(NOW + 5.0, True, id="from-a-faster-clock"),
    ],
)
def test_roles_are_fresh_when_they_are_younger_than_their_age(
    roles_at: float | None,
    fresh: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """At their age they are asked for again."""
    membership = values.membership(role_ids=(), roles_at=roles_at)

    assert freshness.roles_are_fresh(membership, now=NOW, max_age=60.0) is fresh


@hypothesis.given(
    attempts=strategies.integers(1, 20), base=strategies.floats(0.1, 60), seed=strategies.integers(0, 1000)
)
def test_the_pause_doubles_when_failures_repeat(attempts: int, base: float, seed: int) -> None:
    """After each failure twice as long, a quarter more or less."""
    exact = base * 2 ** (attempts - 1)

    pause = freshness.backoff(attempts, base=base, rng=random.Random(seed))

    assert 0.75 * exact <= pause <= 1.25 * exact


def test_pauses_differ_when_many_fail_at_once() -> None:
    """What failed together does not come back together."""
    rng = random.Random(1)

    pauses = {freshness.backoff(1, base=5.0, rng=rng) for _ in range(100)}

    assert len(pauses) == 100
    assert max(pauses) - min(pauses) > 2.0


CHANNELS = strategies.lists(
    strategies.builds(
        values.channel,
        strategies.integers(1, 1 << 60),
        name=strategies.text(max_size=5),
        position=strategies.integers(0, 3),
        parent_id=strategies.none() | strategies.integers(1, 9),
        topic=strategies.none() | strategies.text(max_size=3),
        last_message_id=strategies.none() | strategies.integers(1, 1 << 60),
        overwrites=strategies.sampled_from([(), (values.denied(5), values.allowed(6)), (values.allowed(6),)]),
    ),
    max_size=5,
    unique_by=lambda channel: channel.channel_id,
)


def test_the_fingerprint_is_the_stored_one_when_the_release_changes() -> None:
    """Another one for the same channels would make every guild count as changed after a deploy."""
    channels = [values.channel(1, overwrites=[values.denied(5)])]

    assert freshness.fingerprint(channels) == "0dc54ba2ef042442945d44097bdc42d1"


@hypothesis.given(CHANNELS, strategies.randoms(use_true_random=False))
def test_the_fingerprint_stays_when_only_messages_and_order_change(
    channels: list[model.Channel], rng: random.Random
) -> None:
    """Messages are written all the time, and Discord promises no order of channels or overwrites."""
    other = [
        dataclasses.replace(channel, last_message_id=rng.getrandbits(60), overwrites=channel.overwrites)
        for channel in channels
    ]
    rng.shuffle(other)

    assert freshness.fingerprint(other) == freshness.fingerprint(channels)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "new"},
        {"topic": "new"},
        {"position": 7},
        {"parent_id": 8},
        {"kind": 5},
        {"nsfw": True},
        {"overwrites": (values.denied(1),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_changes_when_anything_that_is_shown_changes(change: dict[str, Any]) -> None:
    """Whatever decides what is shown, and to whom, is part of the structure."""
    before = values.channel(1)

    assert freshness.fingerprint([values.channel(1, **change)]) != freshness.fingerprint([before])
    assert freshness.fingerprint([before, values.channel(2)]) != freshness.fingerprint([before])


MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0


@pytest.mark.parametrize(
    ("viewed_ago", "changed_ago", "interval"),
    [
        pytest.param(0.0, 0.0, 15 * MINUTE, id="viewed now, changed now"),
        pytest.param(HOUR, 2 * HOUR, HOUR, id="viewed within an hour: half the age of the change"),
        pytest.param(HOUR, 90 * DAY, 2 * HOUR, id="viewed within an hour, unchanged for long"),
        pytest.param(HOUR + 1, 0.0, HOUR, id="viewed within a day, changed now"),
        pytest.param(DAY, 10 * HOUR, 5 * HOUR, id="viewed within a day: half the age of the change"),
        pytest.param(DAY, 90 * DAY, 12 * HOUR, id="viewed within a day, unchanged for long"),
        pytest.param(DAY + 1, 0.0, 6 * HOUR, id="viewed within a week, changed now"),
        pytest.param(7 * DAY, DAY, 12 * HOUR, id="viewed within a week: half the age of the change"),
        pytest.param(7 * DAY, 90 * DAY, 2 * DAY, id="viewed within a week, unchanged for long"),
        pytest.param(7 * DAY + 1, 0.0, DAY, id="viewed within a month, changed now"),
        pytest.param(30 * DAY, 6 * DAY, 3 * DAY, id="viewed within a month: half the age of the change"),
        pytest.param(30 * DAY, 90 * DAY, 7 * DAY, id="viewed within a month, unchanged for long"),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_the_next_fetch_follows_the_views_and_the_last_change_when_a_guild_was_fetched(
    viewed_ago: float, changed_ago: float, interval: float, seed: int
) -> None:
    """Half the time since the last change, within the bounds of the tier, with a jitter of a tenth."""
    schedule = model.Schedule(changed_at=NOW - changed_ago, fingerprint=freshness.fingerprint([]), failures=3)
    guild = values.guild(schedule=schedule, last_viewed_at=NOW - viewed_ago, fetched_at=NOW - 60)

    found = freshness.schedule_after_fetch(guild, [], NOW, random.Random(seed))

    assert (found.failures, found.changed_at, found.interval) == (0, NOW - changed_ago, interval)
    assert 0.9 * interval - 0.001 <= found.next_at - NOW <= 1.1 * interval + 0.001


@pytest.mark.parametrize("viewed_at", [None, NOW - 30 * DAY - 1], ids=["never viewed", "viewed long ago"])
def test_no_fetch_is_scheduled_when_nobody_viewed_the_guild_for_a_month(viewed_at: float | None) -> None:
    """Neither after a fetch nor after a failure; what is known of the structure stays."""
    schedule = model.Schedule(next_at=NOW, interval=HOUR, changed_at=NOW - DAY, fingerprint=freshness.fingerprint([]))
    guild = values.guild(schedule=schedule, last_viewed_at=viewed_at, fetched_at=NOW - 60)

    fetched = freshness.schedule_after_fetch(guild, [], NOW)
    failed = freshness.schedule_after_failure(guild, NOW)

    assert (fetched.next_at, failed.next_at) == (0.0, 0.0)
    assert fetched.changed_at == failed.changed_at == NOW - DAY


@pytest.mark.parametrize(
    ("interval", "doubled"),
    [
        pytest.param(0.0, 15 * MINUTE, id="never scheduled"),
        pytest.param(5 * MINUTE, 15 * MINUTE, id="below the least"),
        pytest.param(HOUR, 2 * HOUR, id="doubled"),
        pytest.param(3 * DAY, 6 * DAY, id="doubled to days"),
        pytest.param(4 * DAY, 7 * DAY, id="above the most"),
    ],
)
def test_the_interval_doubles_up_to_a_week_when_a_fetch_fails(interval: float, doubled: float) -> None:
    """What is known of the structure stays."""
    schedule = model.Schedule(interval=interval, changed_at=NOW - 5, fingerprint="as before", failures=2)

    found = freshness.schedule_after_failure(values.guild(schedule=schedule, last_viewed_at=NOW - 29 * DAY), NOW)

    assert dataclasses.replace(found, next_at=0.0) == dataclasses.replace(schedule, interval=doubled, failures=3)
    assert 0.9 * doubled - 0.001 <= found.next_at - NOW <= 1.1 * doubled + 0.001


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        pytest.param(model.NEVER_FETCHED, NOW - 5 * 86_400, id="first-reading: the newest channel's birth"),
        pytest.param(model.Schedule(fingerprint="x", changed_at=NOW - 9), NOW, id="another structure: now"),
    ],
)
def test_the_last_change_is_known_when_a_guild_was_read(before: model.Schedule, wanted: float) -> None:
    """The ids of channels tell when they were made; after that, each difference counts when it is seen."""
    channels = [values.channel(values.snowflake(NOW - days * 86_400)) for days in (5, 700)]

    found = freshness.schedule_after_fetch(values.guild(schedule=before, last_viewed_at=NOW), channels, NOW)
    again = freshness.schedule_after_fetch(values.guild(schedule=found, last_viewed_at=NOW), channels, NOW + 3600)

    assert found.changed_at == pytest.approx(wanted)
    assert again.changed_at == found.changed_at


@hypothesis.given(
    strategies.floats(0, 40 * 86_400.0), strategies.floats(-86_400.0, 40 * 86_400.0), strategies.floats(0, 3600)
)
def test_a_guild_is_fresh_when_it_is_young_or_not_due_yet(age: float, due_in: float, max_age: float) -> None:
    """For half a day at most, whatever its schedule says; never when it was never read."""
    guild = values.guild(fetched_at=NOW - age, schedule=model.Schedule(next_at=NOW + due_in))

    fresh = freshness.is_fresh(guild, now=NOW, max_age=max_age)

    if age < max_age - 1:
        assert fresh
    elif age > max_age + 1 and (due_in < 0 or age > 12 * 3600):
        assert not fresh
    assert not freshness.is_fresh(dataclasses.replace(guild, fetched_at=None), now=NOW, max_age=max_age)


@pytest.mark.parametrize(
    ("before", "after", "needed"),
    [
        pytest.param([], [], False, id="nothing known"),
        pytest.param([], [1, 2], False, id="everything new"),
        pytest.param([1, 2, 3, 4], [1, 2, 3, 4], False, id="nothing missing"),
        pytest.param([1, 2, 3, 4], [3, 4], False, id="exactly half missing"),
        pytest.param([1, 2, 3, 4], [4], True, id="more than half missing"),
        pytest.param([1, 2, 3, 4], [4, 5, 6, 7], True, id="new ones do not make up for missing ones"),
        pytest.param([1], [], True, id="the only one missing"),
    ],
)
def test_a_listing_needs_confirmation_when_it_lacks_more_than_the_share(
    before: list[int],
    after: list[int],
    needed: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Here more than half."""
    assert freshness.needs_confirmation(before, after, 0.5) is needed
