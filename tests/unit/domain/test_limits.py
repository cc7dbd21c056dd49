"""Where each rule changes its answer, to the second; all values are written by hand."""

import dataclasses
import math
import random
from typing import Any

import pytest

from indexing import settings
from indexing.domain import (
    freshness,
    id_sets,
    job_callers,
    job_updates,
    model,
    permissions,
    ranking,
    reasons,
    token_pairs,
    trust,
    turns,
)
from tests import values

NOW = 1_700_000_000.0
HOUR, DAY = 3600.0, 86_400.0
AGES = trust.Trust(settings.IndexingSettings(roles_hard_age=3 * DAY, channels_hard_age=8 * DAY))
USER = model.User(1, 0, None, {}, model.Preferences())
MEMBER, OWNER = values.membership(role_ids=(3,)), values.membership(owner=True)


@pytest.mark.parametrize(("age", "trusted"), [(3 * DAY - 1, True), (3 * DAY, False), (None, False)])
def test_lists_and_roles_are_trusted_until_they_are_three_days_old(age: float | None, trusted: bool) -> None:  # noqa: FBT001 -- a parameter
    """As this operator sets it. Without a time they are not trusted at all."""
    at = None if age is None else NOW - age
    user, member = dataclasses.replace(USER, listed_at=at), dataclasses.replace(MEMBER, roles_at=at)

    assert AGES.trusts_list(user, NOW) is trusted
    assert AGES.trusted_roles(member, NOW) == ((3,) if trusted else None)
    expiry = -math.inf if age is None else NOW - age + 3 * DAY
    assert (AGES.list_expiry(user), AGES.roles_expiry(member)) == (expiry, expiry)


@pytest.mark.parametrize(("age", "trusted"), [(8 * DAY - 1, True), (8 * DAY, False), (None, False)])
def test_channels_are_trusted_until_they_are_eight_days_old(age: float | None, trusted: bool) -> None:  # noqa: FBT001 -- a parameter
    """As this operator sets it. Owners see them longer."""
    at = None if age is None else NOW - age
    guild = values.guild(fetched_at=at)

    assert (AGES.trusts_channels(guild, NOW), AGES.trusts_fetch(at, NOW)) == (trusted, trusted)
    assert AGES.hides_channels(guild, MEMBER, NOW) is not trusted
    assert not AGES.hides_channels(guild, OWNER, NOW)
    assert AGES.channels_expiry(guild) == (-math.inf if age is None else NOW - age + 8 * DAY)


@pytest.mark.parametrize(
    ("access", "reason", "trusted"),
    [
        (model.Access.DENIED, reasons.NO_ACCESS, False),
        (model.Access.DENIED, reasons.GUILD_TOO_LARGE, True),
        (model.Access.INSTALLED, reasons.NO_ACCESS, True),
    ],
)
def test_channels_are_not_trusted_once_our_bot_is_refused(access: model.Access, reason: str, trusted: bool) -> None:  # noqa: FBT001 -- a parameter
    """Other failures say nothing about rights."""
    assert AGES.trusts_channels(values.guild(fetched_at=NOW, access=access, reason=reason), NOW) is trusted


@pytest.mark.parametrize(
    ("until", "held"),
    [(0, False), (0.001, True), (300, True), (300.001, False)],
    ids=["over", "held", "longest", "set"],
)
def test_a_lease_is_held_until_its_end_but_never_longer_than_five_minutes(until: float, held: bool) -> None:  # noqa: FBT001 -- a parameter
    """One that seems longer was stored before the clock was set back."""
    assert freshness.is_held(NOW + until, NOW) is held


@pytest.mark.parametrize(
    ("viewed", "tier"),
    [
        (HOUR, (900.0, 2 * HOUR)),
        (HOUR + 1, (HOUR, 12 * HOUR)),
        (DAY, (HOUR, 12 * HOUR)),
        (DAY + 1, (6 * HOUR, 2 * DAY)),
        (7 * DAY, (6 * HOUR, 2 * DAY)),
        (7 * DAY + 1, (DAY, 7 * DAY)),
        (30 * DAY, (DAY, 7 * DAY)),
        (30 * DAY + 1, None),
    ],
)
def test_the_bounds_of_the_interval_follow_the_last_view(viewed: float, tier: tuple[float, float] | None) -> None:
    """The last second of a tier belongs to it."""
    found = freshness.tier_of(NOW - viewed, NOW)

    assert (found and (found.min_interval, found.max_interval)) == tier


@pytest.mark.parametrize(("due", "until"), [(1, 100), (200, 200), (12 * HOUR, 12 * HOUR), (12 * HOUR + 1, 12 * HOUR)])
def test_a_viewed_guild_is_fresh_until_it_is_due_or_twelve_hours_old(due: float, until: float) -> None:
    """At least for the age that the caller accepts, here 100 s."""
    guild = values.guild(fetched_at=NOW, schedule=model.Schedule(next_at=NOW + due))

    assert freshness.fresh_until(guild, max_age=100.0) == NOW + until
    assert [freshness.is_fresh(guild, now=NOW + until - left, max_age=100.0) for left in (1, 0)] == [True, False]


def test_a_fetch_counts_from_the_second_after() -> None:
    """A fetch of that very moment may have missed what happened then."""
    guild = values.guild(fetched_at=NOW)

    assert [freshness.was_fetched_since(guild, NOW + later) for later in (-1, 0)] == [True, False]


@pytest.mark.parametrize(("lacking", "confirmed"), [(2, False), (3, True)])
def test_a_listing_that_lacks_more_than_the_share_is_confirmed(lacking: int, confirmed: bool) -> None:  # noqa: FBT001 -- a parameter
    """Here a fifth of ten; new ones do not make up for those that are gone."""
    after = [*range(10 - lacking), *range(50, 60)]

    assert freshness.needs_confirmation(range(10), after, 0.2) is confirmed


def test_an_unknown_structure_changed_when_its_newest_channel_was_made_at_the_latest() -> None:
    """Never later than now; with no channel, at the beginning of all ids."""

    class Middle(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return (a + b) / 2

    viewed = values.guild(last_viewed_at=NOW)
    rows = [values.channel(values.snowflake(NOW - at)) for at in (4 * HOUR, HOUR)]
    future = [values.channel(values.snowflake(NOW + HOUR))]

    found = [freshness.schedule_after_fetch(viewed, each, NOW, Middle()) for each in (rows, future, [])]

    assert [row.changed_at for row in found] == [NOW - HOUR, NOW, model.snowflake_time(0)]
    assert [row.interval for row in found] == [HOUR / 2, 900.0, 2 * HOUR]
    assert [row.next_at - NOW for row in found] == [HOUR / 2, 900.0, 2 * HOUR]
    failed = freshness.schedule_after_failure(dataclasses.replace(viewed, schedule=found[0]), NOW, Middle())
    assert (failed.interval, failed.next_at, failed.failures) == (HOUR, NOW + HOUR, 1)


@pytest.mark.parametrize(("attempts", "least", "most"), [(1, 3.0, 5.0), (3, 12.0, 20.0)])
def test_a_pause_is_the_base_doubled_for_each_failure_after_the_first(attempts: int, least: float, most: float) -> None:
    """A quarter more or less, so that those who failed together do not repeat together."""
    pauses = [freshness.backoff(attempts, base=4.0, rng=random.Random(seed)) for seed in range(300)]

    assert least <= min(pauses) < least * 1.02
    assert most * 0.98 < max(pauses) <= most


@pytest.mark.parametrize(("refusals", "hours"), [(0, 1), (1, 6), (2, 24), (3, 168), (4, 168)])
def test_a_refusal_is_cached_longer_after_each_other(refusals: int, hours: int) -> None:
    """From an hour to a week."""
    assert reasons.negative_cache_expiry(refusals, NOW) == NOW + hours * HOUR


@pytest.mark.parametrize(
    ("force", "now", "cached"), [(False, 99, True), (False, 100, False), (True, 69, True), (True, 70, False)]
)
def test_a_forced_request_passes_a_cached_refusal_after_a_minute(force: bool, now: float, cached: bool) -> None:  # noqa: FBT001 -- parameters
    """The refusal of second 10 is cached until second 100."""
    guild = values.guild(refused_at=10.0, retry_at=100.0)

    assert reasons.is_negatively_cached(guild, now=now, force=force) is cached


def test_three_attempts_are_made_while_an_answer_stays_unreadable() -> None:
    """Twice in a row; fewer when the operator allows fewer."""
    unreadable, other = reasons.ANSWER_UNREADABLE, reasons.GUILD_UNAVAILABLE

    assert [reasons.most_attempts(*each, 5) for each in ((unreadable, unreadable), (unreadable, other))] == [3, 5]
    assert [reasons.most_attempts(other, other, 5), reasons.most_attempts(unreadable, unreadable, 2)] == [5, 2]
    assert (reasons.advice("NO_SUCH_REASON"), reasons.advice("INTERNAL")) == ("", "A bug; tell the operators.")


def test_eight_callers_are_named_once_each() -> None:
    """The ninth gets the same job; an unnamed one adds nothing."""
    job = values.job()
    for name in ["", "a", "a", *"bcdefgh"]:
        job = job_callers.with_caller(job, name)

    assert job.callers == tuple("abcdefgh")
    assert job_callers.with_caller(job, "i").callers == job.callers


def test_the_job_of_the_later_turn_is_shown() -> None:
    """Of one turn the later update; the tasks are always those of the update."""
    updates = [job_updates.JobUpdate(values.job(turn=turn), job_updates.Tally(total=turn)) for turn in (1, 2, 2)]
    first, second, third = updates

    assert job_updates.with_newest_job(None, first) is first
    assert job_updates.with_newest_job(first, second) is second
    assert job_updates.with_newest_job(second, third) is third
    lost = dataclasses.replace(first, tasks=(values.task(),))
    merged = job_updates.with_newest_job(second, lost)
    assert (merged.job, merged.tally, merged.tasks) == (second.job, second.tally, lost.tasks)


def test_tasks_are_counted_by_state() -> None:
    """A job without tasks has none of any kind."""
    empty = job_updates.Tally()
    states = [*model.TaskState, model.TaskState.RUNNING]

    tally = job_updates.tally_of(values.task(number, state=state) for number, state in enumerate(states))

    assert dataclasses.astuple(empty) == (0, 0, 0, 0, 0, 0, 0)
    assert (tally.total, tally.queued, tally.running, tally.open) == (7, 1, 2, 3)
    assert (tally.succeeded, tally.skipped, tally.failed, tally.cancelled) == (1, 1, 1, 1)


def test_open_tasks_fail_with_their_job_each_with_its_own_revision() -> None:
    """Above all revisions that the turn has made before, 2**19 a turn."""
    job = values.job(turn=2, reason="TURNS_LOST")
    rows = [values.task(1, retry_at=5.0), values.task(2, state=model.TaskState.SUCCEEDED), values.task(3)]

    failed = job_updates.fail_open_tasks(job, rows)

    base = 2 * 2**20 + 2**19
    assert {key: (row.state, row.reason, row.retry_at, row.revision) for key, row in failed.items()} == {
        1: (model.TaskState.FAILED, "TURNS_LOST", 0.0, base),
        3: (model.TaskState.FAILED, "TURNS_LOST", 0.0, base + 2),
    }
    assert job_updates.revision_of(1, 5) == 2**20 + 5


def test_sets_of_ids_find_the_first_the_last_and_nothing_beyond() -> None:
    """The empty set has none."""
    packed = id_sets.pack_ids([9, 5, 7, 5])

    assert len(packed) == 24
    assert [id_sets.has_id(packed, wanted) for wanted in (4, 5, 6, 7, 9, 10)] == [False, True, False, True, True, False]
    assert not id_sets.has_id(b"", 5)


@pytest.mark.parametrize(
    ("bits", "weight"),
    [(1 << 3, 1.0), (1 << 3 | 1 << 4, 1.0), (1 << 4, 0.6), (1 << 5, 0.6), (1 << 10, 0.0), (0, 0.0)],
)
def test_rights_in_a_guild_weigh_by_what_they_allow(bits: int, weight: float) -> None:
    """Administrators most, then those who manage the guild or its channels."""
    only = settings.RankWeights(
        **{name: 0.0 for name in settings.RankWeights.model_fields if name != "role"},
        role=2.0,
    )
    inputs = ranking.RankInputs(1, None, owner=False, permissions=bits, last_activity=None, member_count=None)

    assert ranking.score_guild(inputs, NOW, only).score == pytest.approx(weight)


def test_every_signal_contributes_its_share() -> None:
    """Recency 3 of its days ago, and so on: e to the minus of the share of the signal's time."""
    weights = settings.RankWeights()
    inputs = ranking.RankInputs(
        guild_id=1,
        pinned=None,
        owner=True,
        permissions=0,
        last_activity=NOW - ranking.ACTIVITY_DAYS * DAY,
        member_count=None,
        last_viewed_at=NOW - 2 * ranking.RECENCY_DAYS * DAY,
        fetched_at=NOW - ranking.STALENESS_DAYS * DAY,
        demand=ranking.HIGH_DEMAND,
    )

    found = ranking.score_guild(inputs, NOW, weights)

    expected = {
        "recency": math.exp(-2),
        "activity": math.exp(-1),
        "owner": 1.0,
        "role": 0.0,
        "new": 0.0,
        "staleness": 1 - math.exp(-1),
        "demand": 1.0,
    }
    shares = {name: found.contributions[name] * weights.total / getattr(weights, name) for name in expected}
    assert shares == pytest.approx(expected)
    assert found.score == pytest.approx(sum(found.contributions.values()))


def test_an_unknown_guild_scores_by_its_size_and_for_being_new() -> None:
    """Nothing is known of it; a large guild is probably active, up to three times as much as one of unknown size."""
    weights = settings.RankWeights()

    def contributions(members: int | None) -> Any:  # noqa: ANN401 -- a mapping
        return ranking.score_guild(
            ranking.RankInputs(1, None, owner=False, permissions=0, last_activity=None, member_count=members),
            NOW,
            weights,
        ).contributions

    unknown, large = contributions(None), contributions(ranking.LARGE_GUILD)
    assert large["activity"] == pytest.approx(3 * unknown["activity"])
    assert contributions(10 * ranking.LARGE_GUILD)["activity"] == pytest.approx(large["activity"])
    assert unknown["activity"] * weights.total / weights.activity == pytest.approx(ranking.UNKNOWN_ACTIVITY)
    assert {name: unknown[name] for name in ("recency", "staleness", "demand")} == dict.fromkeys(
        ("recency", "staleness", "demand"), 0.0
    )
    assert unknown["new"] * weights.total == pytest.approx(weights.new)


def test_a_listing_makes_a_guild_readable() -> None:
    """Whatever was stored of earlier failures is over."""
    bad = values.guild(
        access=model.Access.DENIED,
        reason="NO_ACCESS",
        retry_at=5.0,
        refusals=2,
        refused_at=4.0,
        demand=3,
        lease_until=9.0,
    )
    schedule = model.Schedule(NOW + 9)
    listing = model.Listing(7, [values.channel(1, last_message_id=4), values.channel(2)], NOW, schedule)

    assert listing.applied_to(bad) == values.guild(
        access=model.Access.INSTALLED, fetched_at=NOW, channel_count=2, newest_message_id=4, schedule=schedule
    )
    assert (model.Listing(7, [], NOW).newest_message_id, listing.newest_message_id) == (None, 4)


def test_memberships_are_shown_until_the_consent_ends() -> None:
    """Not at that second any more."""
    user = dataclasses.replace(USER, memberships={1: MEMBER}, shown_until=NOW)

    assert [len(user.shown_memberships(NOW - left)) for left in (1, 0)] == [1, 0]


def test_a_new_job_has_done_nothing() -> None:
    """It is due when its caller says."""
    assert model.new_job("a", 1, now=NOW, due=NOW + 2, force=True) == model.Job(
        job_id="a",
        user_id=1,
        state=model.JobState.RUNNING,
        force=True,
        turn=0,
        next_turn_at=NOW + 2,
        listed=False,
        attempts=0,
        reason="",
        created_at=NOW,
        finished_at=None,
        waiting_for="",
        waiting_until=0.0,
        waited_for="",
        unfinished=0,
        cancelled_by="",
        callers=(),
    )


def test_nothing_is_known_of_the_pairs_of_an_unknown_user() -> None:
    """The first write inserts a document, and replaces no erasure."""
    found = token_pairs.PairVersions()

    assert (found.in_use, found.unproven, found.erasure, found.known, found.gone) == (None, None, None, False, False)


def test_a_turn_is_the_same_whatever_it_carries() -> None:
    """Trace and callers do not identify it, and an empty trace is not sent."""
    turn = turns.Turn("job", 3, carried="trace", callers=("a",))

    assert turn == turns.Turn("job", 3)
    assert (turn.payload(), turns.Turn("job", 3).payload()) == (
        {"job_id": "job", "number": 3, "carried": "trace"},
        {"job_id": "job", "number": 3},
    )
    assert turns.turn_after(values.job("job", turn=4, callers=("a", "b"))).callers == ("a", "b")


def test_overwrites_are_reliable_when_each_target_is_named_once() -> None:
    """A role and a member may have the same id; an unknown kind may allow but not deny."""
    role, member, again = values.denied(5), values.denied(5, 1), values.allowed(5)

    assert [permissions.are_reliable(rows) for rows in ([role, member], [role, again], [])] == [True, False, True]
    assert [permissions.are_reliable([row]) for row in (values.denied(5, 7), values.allowed(5, 7))] == [False, True]


@pytest.mark.parametrize(
    ("one", "other", "strict"),
    [
        ([], [], True),
        ([values.denied(5)], [], True),
        ([], [values.denied(5)], False),
        ([values.allowed(5)], [], False),
        ([], [values.allowed(5)], True),
        ([values.denied(5, 1)], [], True),
        ([], [values.denied(5, 1)], False),
        ([values.allowed(5, 1)], [], False),
        ([], [values.allowed(5, 1)], True),
    ],
)
def test_overwrites_are_stricter_when_they_deny_more_and_allow_less(one: Any, other: Any, strict: bool) -> None:  # noqa: ANN401, FBT001 -- parameters
    """To roles and to members."""
    assert permissions.at_least_as_strict(model.Overwrites.of(one), model.Overwrites.of(other)) is strict


@pytest.mark.parametrize(("known", "changed_at"), [("print", None), ("", NOW - 9)])
def test_the_last_change_is_estimated_unless_structure_and_time_are_known(known: str, changed_at: float | None) -> None:
    """An older release may have stored one of them."""
    guild = values.guild(schedule=model.Schedule(changed_at=changed_at, fingerprint=known))

    found = freshness.schedule_after_fetch(guild, [values.channel(values.snowflake(NOW - HOUR))], NOW)

    assert found.changed_at == NOW - HOUR


@pytest.mark.parametrize(("demand", "share"), [(0, 0.0), (9, 0.4989), (100, 1.0), (1000, 1.0)])
def test_demand_counts_up_to_a_hundred_requests(demand: int, share: float) -> None:
    """By its logarithm, so that the first requests weigh most."""
    inputs = ranking.RankInputs(
        1, None, owner=False, permissions=0, last_activity=None, member_count=None, demand=demand
    )
    weights = settings.RankWeights()

    found = ranking.score_guild(inputs, NOW, weights).contributions["demand"] * weights.total / weights.demand

    assert found == pytest.approx(share, abs=0.0002)


def test_an_id_tells_when_it_was_made() -> None:
    """The example of Discord's documentation: 2016-04-30 11:18:25.796 UTC (developers/reference.mdx)."""
    assert model.snowflake_time(175928847299117063) == pytest.approx(1_462_015_105.796)


def test_a_snowflake_tells_when_it_was_made() -> None:
    """The example of Discord's reference: 2016-04-30 11:18:25.796 UTC."""
    assert model.snowflake_time(175928847299117063) == 1_462_015_105.796


def test_a_credential_shows_no_token() -> None:
    """In logs and in messages of errors."""
    shown = repr(token_pairs.Credential("the-access-token", "the-refresh-token", None, ("identify",)))

    assert shown == "Credential(expires_at=None, scopes=('identify',), brought_by='')"


def test_a_stored_pair_is_not_proven_unless_it_is_said() -> None:
    """Nor refused, doubted or followed by a newer one."""
    stored = token_pairs.StoredCredential(token_pairs.REJECTED, "1", 0.0, refused=False)

    assert (stored.proven, stored.has_newer, stored.doubts, stored.doubted_at) == (False, False, 0, 0.0)


def test_a_score_is_never_above_one() -> None:
    """These weights' shares, rounded, are a little more together."""
    weights = settings.RankWeights(recency=1, activity=1, owner=4, role=3, new=1, staleness=0, demand=0)
    best = ranking.RankInputs(1, None, True, permissions.ADMINISTRATOR, NOW, None, last_viewed_at=NOW)  # noqa: FBT003

    ranked = ranking.score_guild(best, NOW, weights)

    assert sum(ranked.contributions.values()) > 1
    assert ranked.score == 1
