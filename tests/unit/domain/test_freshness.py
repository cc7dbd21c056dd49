"""How old is too old, and how long to wait after a failure."""

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

    pause = freshness.backoff(attempts, base=base, dice=random.Random(seed))

    assert 0.75 * exact <= pause <= 1.25 * exact


def test_pauses_differ_when_many_fail_at_once() -> None:
    """What failed together does not come back together."""
    dice = random.Random(1)

    pauses = {freshness.backoff(1, base=5.0, dice=dice) for _ in range(100)}

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


@hypothesis.given(CHANNELS, strategies.randoms(use_true_random=False))
def test_the_fingerprint_stays_when_only_messages_and_order_change(
    channels: list[model.Channel], dice: random.Random
) -> None:
    """Messages are written all the time, and Discord promises no order of channels or overwrites."""
    other = [
        dataclasses.replace(channel, last_message_id=dice.getrandbits(60), overwrites=channel.overwrites[::-1])
        for channel in channels
    ]
    dice.shuffle(other)

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


SCHEDULES = strategies.builds(
    model.Schedule,
    next_at=strategies.floats(0, 2 * NOW),
    interval=strategies.floats(0, 30 * 86_400.0),
    changed_at=strategies.none() | strategies.floats(NOW - 90 * 86_400.0, NOW),
    fingerprint=strategies.sampled_from(["", "other", freshness.fingerprint([])]),
    failures=strategies.integers(0, 50),
)
LOOKS = strategies.none() | strategies.floats(NOW - 60 * 86_400.0, NOW)


@hypothesis.given(SCHEDULES, LOOKS, strategies.randoms(use_true_random=False))
def test_a_guild_is_read_again_within_its_tiers_bounds_when_it_was_read(
    schedule: model.Schedule, looked_at: float | None, dice: random.Random
) -> None:
    """Half the time since its last change, a tenth more or less; never when nobody looked for a month."""
    guild = values.guild(schedule=schedule, last_viewed_at=looked_at, fetched_at=NOW - 60)

    found = freshness.schedule_after_fetch(guild, [], NOW, dice)

    tier = freshness.tier_of(looked_at, NOW)
    assert found.failures == 0
    assert found.changed_at is not None
    if tier is None:
        assert found.next_at == 0.0
        assert looked_at is None or NOW - looked_at > 30 * 86_400
    else:
        assert tier.min_interval <= found.interval <= tier.max_interval
        assert 0.9 * found.interval - 0.001 <= found.next_at - NOW <= 1.1 * found.interval + 0.001
        assert found.interval in {(NOW - found.changed_at) / 2, tier.min_interval, tier.max_interval}


@hypothesis.given(SCHEDULES, strategies.floats(NOW - 29 * 86_400.0, NOW))
def test_the_interval_doubles_up_to_a_week_when_a_reading_fails(schedule: model.Schedule, looked_at: float) -> None:
    """What is known of the structure stays."""
    found = freshness.schedule_after_failure(
        values.guild(schedule=schedule, last_viewed_at=looked_at), NOW, random.Random(1)
    )

    assert (found.fingerprint, found.changed_at) == (schedule.fingerprint, schedule.changed_at)
    assert found.failures == schedule.failures + 1
    assert found.interval == min(max(2 * schedule.interval, 900.0), 7 * 86_400.0)
    assert found.next_at > NOW


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


@hypothesis.given(strategies.sets(strategies.integers(1, 30)), strategies.sets(strategies.integers(1, 30)))
def test_a_listing_is_doubted_when_it_lacks_more_than_the_share(before: set[int], after: set[int]) -> None:
    """What is new in it does not make up for what is missing; nothing known, nothing doubted."""
    missing = len(before - after)

    assert freshness.needs_confirmation(before, after, 0.5) is (missing * 2 > len(before))
