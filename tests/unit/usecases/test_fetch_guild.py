"""One guild for one user: the effect of each Discord response on its task."""

import dataclasses
from typing import Any

import pytest

from indexing import errors
from indexing.domain import freshness, model, ports, reasons
from indexing.usecases import fetch_guild
from tests import fake_backend, stored, values

pytestmark = pytest.mark.clockwork
GUILD, USER = values.GUILD, values.USER
ROLE = 11
OPEN = values.channel(1)
CLOSED = values.channel(2, overwrites=(values.denied(GUILD),))
FOR_ROLE = values.channel(3, overwrites=(values.denied(GUILD), values.allowed(ROLE)))
PURPOSE = ports.Purpose(model.Lane.BACKGROUND, USER, "job:guild", 1.0)


@dataclasses.dataclass
class Bench:
    """
    A backend with one guild and one member.

    Attributes:
        process: Runs all steps, as one process does; without it each step runs in another.
    """

    backend: fake_backend.FakeBackend
    began: int = 0
    process: fetch_guild.GuildStep | None = None

    async def run(self, **changes: Any) -> fetch_guild.StepResult:  # noqa: ANN401 -- any field of a task, or job= and guild=
        """Run the next step of the member's task."""

        async def began() -> None:
            self.began += 1

        job = changes.pop("job", values.job(created_at=self.backend.clock()))
        guild = changes.pop("guild", await self.guild())
        credential = changes.pop("credential", values.credential())
        membership = await stored.member(self.backend.users, USER, GUILD)
        assert membership is not None
        work = fetch_guild.TaskContext(job, values.task(**changes), guild, membership, credential, began)
        return await (self.process or self.backend.guild_step).run_step(work, PURPOSE)

    async def guild(self) -> model.Guild:
        """Return the guild as it is stored."""
        return (await self.backend.guilds.get([GUILD]))[GUILD]

    async def fetched(self, *channels: model.Channel) -> None:
        """Store the guild as fetched now by another process."""
        now = self.backend.clock()
        fence = await self.backend.guilds.acquire_lease(GUILD, now=now, until=now + 1, fetched_before=now)
        assert fence is not None
        await stored.channels(self.backend.guilds, GUILD, fence=fence, channels=channels, now=now)


@pytest.fixture
async def bench() -> Bench:
    """The guild has two channels, one of them closed."""
    backend = fake_backend.make()
    await backend.add_user([values.user_guild()])
    backend.discord.channels[GUILD] = [OPEN, CLOSED]
    await stored.guild_list(backend.users, USER, backend.discord.lists[USER], backend.clock())
    await backend.guilds.upsert_guilds(backend.discord.lists[USER], {GUILD})
    return Bench(backend)


async def test_a_guild_is_stored_when_discord_answers(bench: Bench) -> None:
    """All channels are stored; the task counts those that this user may see and succeeds."""
    outcome = await bench.run(attempts=3, reason="DISCORD_TRANSIENT")

    assert outcome == fetch_guild.StepResult(values.task(state=model.TaskState.SUCCEEDED, channel_count=1))
    assert await stored.list_channels(bench.backend.guilds, [GUILD]) == [OPEN, CLOSED]
    guild = await bench.guild()
    assert (guild.fetched_at, guild.lease_until) == (bench.backend.clock(), 0.0)
    assert bench.began == 1


@pytest.mark.parametrize(
    ("refusal", "cause"),
    [
        pytest.param(errors.NoAccess(403, 50001), "NO_ACCESS", id="no-access"),
        pytest.param(errors.Gone(404, 10004), "GUILD_UNAVAILABLE", id="not-found-though-our-bot-is-there"),
    ],
)
async def test_a_guild_is_not_fetched_again_when_discord_refused_it(
    bench: Bench, refusal: errors.DiscordRefused, cause: str
) -> None:
    """The task fails with the reason; the next one is skipped with it and no call, until the refusal expires."""
    bench.backend.discord.fail(GUILD, refusal, refusal)

    failed = await bench.run()
    skipped = await bench.run()
    bench.backend.clock.advance(reasons.NEGATIVE_CACHE_TTLS[0])
    again = await bench.run()

    assert (failed.task.state, failed.task.reason) == (model.TaskState.FAILED, cause)
    assert (skipped.task.state, skipped.task.reason) == (model.TaskState.SKIPPED, cause)
    assert again.task.state is model.TaskState.SUCCEEDED
    assert bench.backend.discord.asked(GUILD) == 3


async def erased_and_stored_anew(bench: Bench) -> None:
    """Have one process fetch the guild, then erase it as with its last known member, and store it as unknown."""
    bench.process = bench.backend.guild_step
    await bench.run()
    bench.backend.guilds.forget(GUILD)
    await bench.backend.guilds.upsert_guilds(bench.backend.discord.lists[USER], {GUILD})


async def test_a_guild_is_stored_when_it_was_erased_since_this_process_fetched_it(bench: Bench) -> None:
    """A job that loaded the guild after its erasure does not use what the process remembers of the erased one."""
    await erased_and_stored_anew(bench)
    bench.backend.clock.advance(1.0)

    outcome = await bench.run(job=values.job(force=True, created_at=bench.backend.clock()))

    assert outcome.task.state is model.TaskState.SUCCEEDED
    assert await stored.list_channels(bench.backend.guilds, [GUILD]) == [OPEN, CLOSED]
    assert bench.backend.discord.asked(GUILD) == 2


async def test_a_guild_is_fetched_twice_when_its_erasure_is_noticed_by_the_store(bench: Bench) -> None:
    """A job that is older than the first fetch cannot tell; the refused listing makes the process forget the guild."""
    old = values.job(created_at=bench.backend.clock() - 10.0)
    await erased_and_stored_anew(bench)
    bench.backend.clock.advance(bench.backend.config.max_age)

    first = await bench.run(job=old)
    bench.backend.clock.advance(1.0)
    second = await bench.run(job=old)

    assert first.task.state is model.TaskState.QUEUED
    assert second.task.state is model.TaskState.SUCCEEDED
    assert await stored.list_channels(bench.backend.guilds, [GUILD]) == [OPEN, CLOSED]
    assert bench.backend.discord.asked(GUILD) == 3


@pytest.mark.parametrize("refusal", [errors.NoAccess(403, 50001), errors.Gone(404, 10004)])
async def test_a_guild_is_stored_when_our_bot_came_back_after_a_refusal(
    bench: Bench, refusal: errors.DiscordRefused
) -> None:
    """It was away for the first call and is there for the question about it: the guild is asked a second time."""
    bench.backend.discord.fail(GUILD, refusal)

    outcome = await bench.run()

    assert outcome.task.state is model.TaskState.SUCCEEDED
    assert bench.backend.discord_calls == [GUILD, ("bot", GUILD), GUILD]
    assert ((await bench.guild()).refusals, bench.began) == (0, 1)


async def test_a_refusal_lasts_longer_when_it_is_repeated(bench: Bench) -> None:
    """An hour, six, a day, a week; a success resets it."""
    hours = []
    for _ in range(5):
        bench.backend.discord.fail(GUILD, errors.NoAccess(403, 50001), errors.NoAccess(403, 50001))
        await bench.run()
        hours.append(((await bench.guild()).retry_at - bench.backend.clock()) / 3600)
        bench.backend.clock.advance(hours[-1] * 3600)
    await bench.run()

    assert hours == [1, 6, 24, 168, 168]
    assert ((await bench.guild()).refusals, (await bench.guild()).reason) == (0, "")


async def test_channels_are_hidden_when_our_bot_was_removed(bench: Bench) -> None:
    """Only Discord's list of our bot's guilds proves it; the guild is then outside the cached set."""
    await bench.backend.bot_guilds.store(frozenset({GUILD, 7}), bench.backend.clock())
    await bench.run()
    bench.backend.discord.fail(GUILD, errors.NoAccess(403, 50001))
    bench.backend.discord.installed.discard(GUILD)
    bench.backend.clock.advance(bench.backend.config.max_age)

    outcome = await bench.run(guild=dataclasses.replace(await bench.guild(), schedule=model.NEVER_FETCHED))

    assert (outcome.task.state, outcome.task.reason) == (model.TaskState.SKIPPED, "BOT_REMOVED")
    assert (await bench.guild()).access is model.Access.NOT_INSTALLED
    assert await stored.list_channels(bench.backend.guilds, [GUILD]) == []
    assert (await bench.guild()).reason == "BOT_REMOVED"
    listed_at = bench.backend.clock() - bench.backend.config.max_age
    cached = await bench.backend.bot_guilds.load()
    assert cached is not None
    assert cached[0] == frozenset({7})
    assert cached[1] == pytest.approx(listed_at, rel=0, abs=0.001)


@pytest.mark.parametrize(
    "unknown",
    [errors.DiscordTransient("502"), errors.RateLimited("route", retry_after=9.0, why="used up")],
    ids=["no-answer", "no-permit"],
)
async def test_a_task_is_retried_when_the_removal_of_our_bot_is_not_confirmed(
    bench: Bench, unknown: errors.IndexerError
) -> None:
    """Nothing is hidden, and no refusal is stored that would last an hour."""
    await bench.fetched(OPEN, CLOSED)
    bench.backend.clock.advance(bench.backend.config.max_age)
    bench.backend.discord.fail(GUILD, errors.NoAccess(403, 50001))
    bench.backend.discord.fail(("bot", GUILD), unknown)

    outcome = await bench.run()

    assert (outcome.task.state, outcome.task.attempts) == (model.TaskState.QUEUED, 1)
    assert ((await bench.guild()).refusals, (await bench.guild()).reason) == (0, "")
    assert await stored.list_channels(bench.backend.guilds, [GUILD]) == [OPEN, CLOSED]


async def test_a_refusal_is_ignored_when_the_job_is_forced(bench: Bench) -> None:
    """Access granted a moment ago is seen at once; one attempt a minute is enough for all callers."""
    bench.backend.discord.fail(GUILD, errors.NoAccess(403, 50001), errors.NoAccess(403, 50001))
    await bench.run()

    bench.backend.clock.advance(reasons.FORCED_RETRY_INTERVAL - 1)
    early = await bench.run(job=values.job(force=True, created_at=bench.backend.clock()))
    bench.backend.clock.advance(1)
    outcome = await bench.run(job=values.job(force=True, created_at=bench.backend.clock()))

    assert (early.task.state, early.task.reason) == (model.TaskState.SKIPPED, "NO_ACCESS")
    assert outcome.task.state is model.TaskState.SUCCEEDED
    assert (await bench.guild()).access is model.Access.INSTALLED


async def test_a_task_fails_when_discord_refuses_for_another_reason(bench: Bench) -> None:
    """A bad request says nothing about the guild: it is not stored, and the lease ends."""
    bench.backend.discord.fail(GUILD, errors.DiscordRefused(400, 50035))

    outcome = await bench.run()

    assert (outcome.task.state, outcome.task.reason) == (model.TaskState.FAILED, "DISCORD_REFUSED")
    stored = await bench.guild()
    assert (stored.access, stored.lease_until) == (model.Access.INSTALLED, 0.0)


async def test_the_error_is_raised_when_a_token_is_refused(bench: Bench) -> None:
    """Nothing is stored about the guild, and the lease ends."""
    bench.backend.discord.fail(GUILD, errors.TokenRefused(401, 0))

    with pytest.raises(errors.TokenRefused):
        await bench.run()

    assert await bench.guild() == values.guild(name=f"guild {GUILD}")


async def test_a_task_is_retried_when_the_failure_may_pass(bench: Bench) -> None:
    """After a pause that doubles; the lease ends, so that others need not wait."""
    bench.backend.discord.fail(GUILD, errors.DiscordTransient("500"), errors.DiscordTransient("500"))

    first = await bench.run()
    third = await bench.run(attempts=2)

    base, now = bench.backend.config.retry_base, bench.backend.clock()
    assert (first.task.state, first.task.attempts, first.task.reason) == (
        model.TaskState.QUEUED,
        1,
        "DISCORD_TRANSIENT",
    )
    assert 0.75 * base <= first.task.retry_at - now <= 1.25 * base
    assert third.task.attempts == 3
    assert 0.75 * 4 * base <= third.task.retry_at - now <= 1.25 * 4 * base
    assert (await bench.guild()).lease_until == 0.0


async def test_a_task_fails_when_all_attempts_are_used_up(bench: Bench) -> None:
    """With the reason and the number of attempts."""
    bench.backend.discord.fail(GUILD, errors.DiscordTransient("500"))

    outcome = await bench.run(attempts=bench.backend.config.max_attempts - 1)

    wanted = values.task(
        state=model.TaskState.FAILED, reason="DISCORD_TRANSIENT", attempts=bench.backend.config.max_attempts
    )
    assert outcome == fetch_guild.StepResult(wanted)


@pytest.mark.parametrize("budget", ["global", "user", "egress"])
async def test_the_job_waits_when_a_budget_of_all_its_guilds_refuses(bench: Bench, budget: str) -> None:
    """The task stays unchanged: no call was made, so no lease is taken and no start is published."""
    refusal = errors.RateLimited(budget, retry_after=3.0, why="used up")
    bench.backend.discord.fail(GUILD, refusal)

    outcome = await bench.run(attempts=2, reason="DISCORD_TRANSIENT")

    assert outcome == fetch_guild.StepResult(values.task(attempts=2, reason="DISCORD_TRANSIENT"), throttled=refusal)
    assert (await bench.guild()).lease_until == 0.0
    assert (bench.began, bench.backend.discord.calls) == (0, [])


async def test_only_the_task_waits_when_its_route_refuses(bench: Bench) -> None:
    """The job's other guilds continue; no attempt is counted."""
    bench.backend.discord.fail(GUILD, errors.RateLimited("route", retry_after=3.0, why="used up"))

    outcome = await bench.run()

    assert outcome == fetch_guild.StepResult(values.task(retry_at=bench.backend.clock() + 3.0))
    assert (await bench.guild()).lease_until == 0.0


async def test_an_attempt_is_counted_when_discord_answers_429(bench: Bench) -> None:
    """The retry follows after Discord's delay or the first pause, whichever is longer; the fifth attempt fails."""
    for answers in (1, 5):
        bench.backend.discord.fail(GUILD, errors.RateLimited("route", retry_after=30.0, why="429 user"))

        outcome = await bench.run(attempts=answers - 1)

        assert (outcome.task.attempts, outcome.throttled) == (answers, None)
        expected = (model.TaskState.FAILED, 0.0) if answers == 5 else (model.TaskState.QUEUED, 30.0)
        waits = outcome.task.retry_at - bench.backend.clock() if outcome.task.retry_at else 0.0
        assert (outcome.task.state, waits) == expected


async def test_the_job_waits_when_the_edge_blocks_our_address(bench: Bench) -> None:
    """Every further call would prolong the block."""
    bench.backend.discord.fail(GUILD, errors.EgressBlocked(403, 60.0))

    outcome = await bench.run()

    assert outcome.task == values.task()
    assert outcome.throttled is not None
    assert (outcome.throttled.budget, outcome.throttled.retry_after) == ("egress", 60.0)


async def test_the_error_is_raised_when_the_limiter_is_unavailable(bench: Bench) -> None:
    """No guild can be fetched without budgets."""
    bench.backend.discord.fail(GUILD, errors.LimiterUnavailable(1.0))

    with pytest.raises(errors.LimiterUnavailable):
        await bench.run()

    assert (await bench.guild()).lease_until == 0.0


async def test_discord_is_not_asked_when_the_guild_is_fresh(bench: Bench) -> None:
    """Channels that another user's job fetched are used, with this user's rights."""
    await bench.fetched(OPEN, CLOSED, values.channel(9))
    bench.backend.clock.advance(bench.backend.config.max_age - 1)

    outcome = await bench.run()

    assert outcome == fetch_guild.StepResult(values.task(state=model.TaskState.SUCCEEDED, channel_count=2))
    assert bench.backend.discord.calls == []
    assert bench.began == 0


async def test_discord_is_asked_when_the_guild_is_no_longer_fresh(bench: Bench) -> None:
    """A guild exactly at its maximum age is stale."""
    await bench.fetched(values.channel(9))
    bench.backend.clock.advance(bench.backend.config.max_age)

    await bench.run()

    assert await stored.list_channels(bench.backend.guilds, [GUILD]) == [OPEN, CLOSED]


@pytest.mark.parametrize(("created", "asked"), [(-1.0, 0), (1.0, 1)], ids=["read-after-start", "read-before-start"])
async def test_a_forced_job_fetches_when_the_guild_was_fetched_before_its_start(
    bench: Bench, created: float, asked: int
) -> None:
    """A fetch after the job's start is new enough: two forced jobs at once fetch a guild once."""
    await bench.fetched(OPEN, values.channel(9))

    await bench.run(job=values.job(force=True, created_at=bench.backend.clock() + created))

    assert bench.backend.discord.asked(GUILD) == asked


async def test_a_task_is_retried_soon_when_another_process_fetches_its_guild(bench: Bench) -> None:
    """It takes no permit, and checks again when the other fetch may be done."""
    now = bench.backend.clock()
    await bench.backend.guilds.acquire_lease(GUILD, now=now, until=now + 25, fetched_before=now)

    outcome = await bench.run()

    assert outcome == fetch_guild.StepResult(values.task(retry_at=now + fetch_guild.ELSEWHERE))
    assert bench.backend.discord.calls == []


@pytest.mark.parametrize("done", [True, False], ids=["has-fetched", "is-fetching"])
async def test_no_call_is_made_when_another_process_fetched_during_the_wait_for_a_permit(
    bench: Bench,
    done: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """The permit is returned; the other result is used as soon as it is stored."""
    before, now = await bench.guild(), bench.backend.clock()
    fence = await bench.backend.guilds.acquire_lease(GUILD, now=now, until=now + 25, fetched_before=now)
    assert fence is not None
    if done:
        await stored.channels(bench.backend.guilds, GUILD, fence=fence, channels=[OPEN, CLOSED], now=now)

    outcome = await bench.run(guild=before)

    succeeded = values.task(state=model.TaskState.SUCCEEDED, channel_count=1)
    assert outcome.task == (succeeded if done else values.task(retry_at=now + fetch_guild.ELSEWHERE))
    assert (bench.backend.discord.calls, bench.began) == ([], 0)


async def test_a_late_answer_is_not_stored_when_the_lease_was_lost(bench: Bench) -> None:
    """The new holder of the lease fetches again; this task waits for it."""
    bench.backend.discord.latency = bench.backend.config.guild_lease + 5
    slow = bench.run()

    async def take_over() -> None:
        now = bench.backend.clock() + bench.backend.config.guild_lease
        assert await bench.backend.guilds.acquire_lease(GUILD, now=now, until=now + 25, fetched_before=now) is not None

    bench.backend.discord.before_answer = take_over
    outcome = await slow

    assert outcome.task == values.task(retry_at=bench.backend.clock() + fetch_guild.ELSEWHERE)
    assert await stored.list_channels(bench.backend.guilds, [GUILD]) == []
    assert (await bench.guild()).fetched_at is None


async def test_roles_are_the_next_step_when_they_can_change_the_visible_channels(bench: Bench) -> None:
    """Channels that do not depend on roles are counted at once; the task is partly done."""
    bench.backend.discord.channels[GUILD] = [OPEN, FOR_ROLE]

    outcome = await bench.run()

    assert outcome.task == values.task(state=model.TaskState.RUNNING, step=model.Step.ROLES, channel_count=1)


@pytest.mark.parametrize(
    ("age", "count", "step"),
    [
        pytest.param(0.0, 2, model.Step.CHANNELS, id="fresh"),
        pytest.param(2 * 86_400.0, 2, model.Step.ROLES, id="old-but-believed"),
        pytest.param(7 * 86_400.0, 1, model.Step.ROLES, id="too-old-to-believe"),
    ],
)
async def test_known_roles_are_used_when_they_are_not_too_old(
    bench: Bench, age: float, count: int, step: model.Step
) -> None:
    """Fresh roles complete the task, stale ones are fetched again, very old ones are not used meanwhile."""
    bench.backend.discord.channels[GUILD] = [OPEN, FOR_ROLE]
    await stored.roles(bench.backend.users, USER, GUILD, (ROLE,), bench.backend.clock() - age)

    outcome = await bench.run()

    assert (outcome.task.channel_count, outcome.task.step) == (count, step)
    assert outcome.task.state.terminal is (step is model.Step.CHANNELS)


async def test_a_task_succeeds_when_the_roles_are_fetched(bench: Bench) -> None:
    """They are stored, and the channels that they open are counted."""
    await bench.fetched(OPEN, FOR_ROLE, CLOSED)
    bench.backend.discord.roles[USER, GUILD] = (ROLE,)

    outcome = await bench.run(step=model.Step.ROLES, state=model.TaskState.RUNNING, channel_count=1)

    assert outcome.task == values.task(step=model.Step.ROLES, state=model.TaskState.SUCCEEDED, channel_count=2)
    member = await stored.member(bench.backend.users, USER, GUILD)
    assert member is not None
    assert (member.role_ids, member.roles_at) == ((ROLE,), bench.backend.clock())


async def test_a_task_is_skipped_when_the_user_is_no_longer_a_member(bench: Bench) -> None:
    """The user sees nothing of the guild from then on."""
    outcome = await bench.run(step=model.Step.ROLES, channel_count=5)

    assert (outcome.task.state, outcome.task.reason) == (model.TaskState.SKIPPED, "USER_LEFT")
    assert outcome.task.channel_count == 0
    assert await stored.member(bench.backend.users, USER, GUILD) is None


@pytest.mark.parametrize(
    "refusal", [errors.NoAccess(403, 50001), errors.Gone(404, 10004), errors.Gone(404, 0), errors.Gone(404, 10013)]
)
async def test_roles_stay_unknown_when_discord_does_not_say_that_the_user_left(
    bench: Bench, refusal: errors.DiscordRefused
) -> None:
    """Channels that depend on a role stay hidden, with the reason. Only Unknown Member ends a membership."""
    bench.backend.discord.fail((USER, GUILD), *[refusal] * 2)

    outcome = await bench.run(step=model.Step.ROLES, channel_count=1)

    assert (outcome.task.state, outcome.task.reason) == (model.TaskState.SUCCEEDED, "ROLES_UNKNOWN")
    assert outcome.task.channel_count == 1


@pytest.mark.parametrize("refusal", [errors.NoAccess(403, 50001), errors.Gone(404, 10004)])
async def test_the_bots_token_is_used_when_the_users_token_cannot_read_roles(
    bench: Bench, refusal: errors.DiscordRefused
) -> None:
    """The second call is made only when the first used the user's token."""
    bench.backend.discord.roles[USER, GUILD] = (ROLE,)
    bench.backend.discord.fail((USER, GUILD), refusal)
    own = values.credential(scopes=("guilds", ports.MEMBER_SCOPE))

    outcome = await bench.run(step=model.Step.ROLES, credential=own)

    assert (outcome.task.state, outcome.task.reason) == (model.TaskState.SUCCEEDED, "")
    assert bench.backend.discord.own_tokens == [True, False]


async def test_a_guild_is_not_fetched_again_when_its_listing_is_too_large(bench: Bench) -> None:
    """One call and no retry for an hour; stored channels stay visible."""
    bench.backend.discord.fail(GUILD, errors.AnswerTooLarge(48 << 20))

    first = await bench.run()
    again = await bench.run()

    assert (first.task.state, first.task.reason) == (model.TaskState.FAILED, "GUILD_TOO_LARGE")
    assert (again.task.state, again.task.reason) == (model.TaskState.SKIPPED, "GUILD_TOO_LARGE")
    assert bench.backend.discord_calls == [GUILD]
    assert (await bench.guild()).retry_at == bench.backend.clock() + 3_600.0


async def test_a_guild_is_not_fetched_again_when_its_document_is_too_large_for_the_store(bench: Bench) -> None:
    """Like a listing that is too large: one call, and no retry for an hour."""

    class Full(type(bench.backend.guilds)):  # type: ignore[misc]  # a class made for this test
        """Takes no listing."""

        async def store_channels(self, guild_id: int, listing: model.Listing) -> bool:
            raise errors.DocumentTooLarge(f"{guild_id}: {len(listing.channels)} channels")

    bench.backend.guilds.__class__ = Full

    first = await bench.run()
    again = await bench.run()

    assert (first.task.state, first.task.reason) == (model.TaskState.FAILED, "GUILD_TOO_LARGE")
    assert (again.task.state, again.task.reason) == (model.TaskState.SKIPPED, "GUILD_TOO_LARGE")
    assert bench.backend.discord_calls == [GUILD]
    assert (await bench.guild()).lease_until == 0.0


async def test_a_task_stays_partly_done_when_fetching_roles_fails_for_now(bench: Bench) -> None:
    """The channels are not fetched again."""
    bench.backend.discord.fail((USER, GUILD), errors.DiscordTransient("500"))

    outcome = await bench.run(step=model.Step.ROLES, state=model.TaskState.RUNNING, channel_count=1)

    assert (outcome.task.state, outcome.task.step) == (model.TaskState.RUNNING, model.Step.ROLES)
    assert (outcome.task.attempts, outcome.task.channel_count) == (1, 1)


async def test_no_further_call_is_made_when_the_lease_expired_during_the_first(bench: Bench) -> None:
    """The process stood still: another one may fetch the guild by now, and would store the newer listing."""
    bench.backend.discord.channels[GUILD] = [values.channel(number) for number in range(1, 11)]
    await bench.run()
    bench.backend.clock.advance(bench.backend.config.max_age + 1.0)
    bench.backend.discord.channels[GUILD] = []
    bench.backend.discord.latency = bench.backend.config.guild_lease + 1.0

    outcome = await bench.run()

    assert outcome.task.state is model.TaskState.QUEUED
    assert bench.backend.discord.asked(GUILD) == 2
    assert len(await stored.list_channels(bench.backend.guilds, [GUILD])) == 10


@pytest.mark.parametrize("second", [[OPEN], [OPEN, CLOSED, FOR_ROLE]], ids=["says-the-same", "is-whole"])
async def test_a_listing_is_fetched_again_when_it_lacks_more_than_half(
    bench: Bench, second: list[model.Channel]
) -> None:
    """The second one counts, and only channels that it lacks are hidden, with the reason."""
    await bench.fetched(OPEN, CLOSED, FOR_ROLE)
    bench.backend.clock.advance(bench.backend.config.max_age)
    bench.backend.discord.channels[GUILD] = [OPEN]

    async def second_answer() -> None:
        if bench.backend.discord.asked(GUILD) == 2:
            bench.backend.discord.channels[GUILD] = second

    bench.backend.discord.before_answer = second_answer
    await bench.run()

    assert bench.backend.discord.asked(GUILD) == 2
    assert await stored.list_channels(bench.backend.guilds, [GUILD]) == second
    hidden = {channel.channel_id for channel in (OPEN, CLOSED, FOR_ROLE) if channel not in second}
    assert {key: cause for key, (_, cause) in bench.backend.guilds.gone.items()} == dict.fromkeys(
        hidden, "HIDDEN_OR_DELETED"
    )


async def test_nothing_is_hidden_when_the_second_listing_fails(bench: Bench) -> None:
    """The unconfirmed listing is not stored."""
    await bench.fetched(OPEN, CLOSED)
    bench.backend.clock.advance(bench.backend.config.max_age)
    bench.backend.discord.channels[GUILD] = []

    async def quota_is_out() -> None:
        bench.backend.discord.fail(GUILD, errors.RateLimited("global", retry_after=2.0, why="used up"))

    bench.backend.discord.before_answer = quota_is_out
    outcome = await bench.run()

    assert outcome.throttled is not None
    assert await stored.list_channels(bench.backend.guilds, [GUILD]) == [OPEN, CLOSED]
    assert (await bench.guild()).lease_until == 0.0


async def test_a_guild_is_fresh_for_longer_when_it_has_not_changed_for_long(bench: Bench) -> None:
    """Two more hours hardly matter for channels that are years old."""
    await bench.backend.guilds.mark_viewed([GUILD], bench.backend.clock())
    await bench.run()
    bench.backend.clock.advance(freshness.TIERS[0].max_interval * 0.89)

    await bench.run()

    assert bench.backend.discord.asked(GUILD) == 1


@pytest.mark.parametrize("problem", [errors.EgressBlocked(403, 60.0), errors.EgressBlocked(429, 60.0)], ids=str)
async def test_nothing_is_stored_about_a_guild_when_the_edge_blocks_us(
    bench: Bench, problem: errors.EgressBlocked
) -> None:
    """An error page of the edge says nothing about the guild."""
    before = await bench.guild()
    bench.backend.discord.fail(GUILD, problem)

    await bench.run()

    assert await bench.guild() == before


async def test_roles_are_fetched_again_when_a_job_is_forced(bench: Bench) -> None:
    """A role granted a moment ago is seen at once."""
    bench.backend.discord.channels[GUILD] = [OPEN, FOR_ROLE]
    await stored.roles(bench.backend.users, USER, GUILD, (), bench.backend.clock() - 60)

    outcome = await bench.run(job=values.job(force=True, created_at=bench.backend.clock()))

    assert outcome.task.step is model.Step.ROLES
