"""
When fetched data is too old, when a guild is fetched again, and which listings are fetched a second time.

A guild is fetched less often the longer it stays unchanged: the interval is half the time since its structure last
changed, within the bounds of its tier, which depends on the last view. All figures are estimates that trade calls for
age.
"""

import dataclasses
import hashlib
import random
from collections.abc import Collection, Iterable

from indexing.domain import model

RANDOM = random.Random()  # noqa: S311 -- jitter, not a secret
HOUR, DAY = 3_600.0, 86_400.0
JITTER = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Tier:
    """Bounds of the interval for guilds that were viewed in the last `viewed_within` seconds."""

    viewed_within: float
    min_interval: float
    max_interval: float


TIERS = (
    Tier(viewed_within=HOUR, min_interval=HOUR / 4, max_interval=2 * HOUR),
    Tier(viewed_within=DAY, min_interval=HOUR, max_interval=12 * HOUR),
    Tier(viewed_within=7 * DAY, min_interval=6 * HOUR, max_interval=2 * DAY),
    Tier(viewed_within=30 * DAY, min_interval=DAY, max_interval=7 * DAY),
)
"""Most recently viewed first. A guild outside all tiers is not fetched again until it is viewed."""
VIEW_STEP = 300.0
"""Least seconds between two recorded views of a guild."""
MAX_AGE_WHEN_VIEWED = TIERS[1].max_interval
"""Age from which a viewed guild is fetched again, however rarely it was viewed before."""


def was_fetched_since(guild: model.Guild | None, since: float) -> bool:
    """Return whether the guild's channels were fetched after *since*."""
    return guild is not None and guild.fetched_at is not None and guild.fetched_at > since


def is_fresh(guild: model.Guild, *, now: float, max_age: float) -> bool:
    """Return whether the guild's channels do not need a new fetch at *now*."""
    return now < fresh_until(guild, max_age=max_age)


def fresh_until(guild: model.Guild, *, max_age: float) -> float:
    """Return when the guild's channels need a new fetch; minus infinity when they were never fetched."""
    if guild.fetched_at is None:
        return float("-inf")
    return max(guild.fetched_at + max_age, min(guild.schedule.next_at, guild.fetched_at + MAX_AGE_WHEN_VIEWED))


def roles_are_fresh(membership: model.Membership, *, now: float, max_age: float) -> bool:
    """Return whether the user's role ids are known and younger than *max_age*."""
    return membership.roles_at is not None and now - membership.roles_at < max_age


LONGEST_LEASE = 300.0
"""Most seconds of any lease or lock. One that seems to last longer was stored before the clock was set back."""
FARTHEST_TURN = 3_600.0
"""Seconds beyond which a due time counts as one from before the clock was set back: waits of jobs are far shorter."""


def is_held(until: float, now: float) -> bool:
    """Return whether a lease that ends at *until* is held, by the clock that shows *now*."""
    return now < until <= now + LONGEST_LEASE


def backoff(attempts: int, *, base: float, rng: random.Random = RANDOM) -> float:
    """
    Return the seconds to wait before the next attempt: *base* doubled for each failure after the first, ±25 %.

    Args:
        attempts: Failures so far, at least 1.
        base: Seconds after the first failure.
        rng: Source of the jitter, which spreads retries of simultaneous failures.
    """
    return base * 2.0 ** (attempts - 1) * rng.uniform(0.75, 1.25)


def tier_of(last_viewed_at: float | None, now: float) -> Tier | None:
    """Return the tier of a guild by its last view; None when it is in no tier and not refreshed."""
    if last_viewed_at is None:
        return None
    return next((tier for tier in TIERS if now - last_viewed_at <= tier.viewed_within), None)


def fingerprint(channels: Iterable[model.Channel]) -> str:
    """Return a hash of all visible fields of the channels except their newest messages, which change often."""
    rows = sorted(
        (
            c.channel_id,
            c.kind,
            c.name,
            c.topic or "",
            c.position,
            c.parent_id or 0,
            c.nsfw,
            c.flags,
            # Not dataclasses.astuple, which would take most of the time of storing a fed guild.
            (c.overwrites.roles_allow, c.overwrites.roles_deny, c.overwrites.members_allow, c.overwrites.members_deny),
        )
        for c in channels
    )
    return hashlib.blake2b(repr(rows).encode(), digest_size=16).hexdigest()


def schedule_after_fetch(
    guild: model.Guild, channels: Collection[model.Channel], now: float, rng: random.Random = RANDOM
) -> model.Schedule:
    """Return the schedule of a guild whose channels were fetched at *now*."""
    structure = fingerprint(channels)
    changed_at = guild.schedule.changed_at
    if not guild.schedule.fingerprint or changed_at is None:
        # The newest channel's id gives the earliest time of the current structure (developers/reference.mdx).
        newest = max((channel.channel_id for channel in channels), default=0)
        changed_at = min(now, model.snowflake_time(newest))
    elif structure != guild.schedule.fingerprint:
        changed_at = now
    tier = tier_of(guild.last_viewed_at, now)
    fetched = model.Schedule(changed_at=changed_at, fingerprint=structure)
    if tier is None:
        return fetched
    interval = min(max((now - changed_at) / 2, tier.min_interval), tier.max_interval)
    return _schedule_in(interval, fetched, now, rng)


def schedule_after_failure(guild: model.Guild, now: float, rng: random.Random = RANDOM) -> model.Schedule:
    """Return the schedule after a transient failure: twice the interval, at most that of the last tier."""
    failed = dataclasses.replace(guild.schedule, failures=guild.schedule.failures + 1, next_at=0.0)
    if tier_of(guild.last_viewed_at, now) is None:
        return failed
    interval = min(max(2 * guild.schedule.interval, TIERS[0].min_interval), TIERS[-1].max_interval)
    return _schedule_in(interval, failed, now, rng)


def _schedule_in(interval: float, schedule: model.Schedule, now: float, rng: random.Random) -> model.Schedule:
    due = now + interval * rng.uniform(1 - JITTER, 1 + JITTER)
    return dataclasses.replace(schedule, interval=interval, next_at=due)


CONFIRMATION_PAUSE = 5.0
"""Seconds between a listing that lacks much and the one that confirms it: an outage answers twice within a second."""


def needs_confirmation(before: Collection[int], after: Collection[int], share: float) -> bool:
    """Return whether a listing lacks more than *share* of the known ids, so that a second one must confirm it."""
    return len(set(before) - set(after)) > share * len(before)
