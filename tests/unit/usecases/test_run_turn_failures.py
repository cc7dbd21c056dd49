"""What goes wrong in the turns of a job, and what becomes of it."""

import asyncio
import itertools

import pytest

from indexing import errors
from indexing.domain import model, turns
from indexing.usecases import control_job, maintenance, run_turn
from tests import clockwork, stored, values, worlds

pytestmark = pytest.mark.clockwork
USER = values.USER
JOB = "a" * 32
GUILDS = [10, 20, 30, 40, 50, 60, 70]
ROLE = 5


def for_role(guild_id: int) -> list[model.Channel]:
    """Return channels of which one depends on a role."""
    hidden = (values.denied(guild_id), values.allowed(ROLE))
    return [values.channel(guild_id + 1, guild_id), values.channel(guild_id + 2, guild_id, overwrites=hidden)]


@pytest.fixture
async def world() -> worlds.World:
    """One user in seven guilds, alike in everything, so that the oldest comes first."""
    made = worlds.world()
    await made.add_user([values.user_guild(guild_id) for guild_id in GUILDS])
    return made


async def test_a_unit_is_given_up_when_it_fails_again_and_again(world: worlds.World) -> None:
    """After all attempts, each later than the one before; the job goes on and ends with errors."""
    attempts = world.rules.max_attempts
    world.discord.fail(20, *[errors.DiscordTransient("502")] * attempts)
    await world.start()

    await world.work()

    times = [call.at for call in world.discord.calls if call.what == 20]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    states = await world.states()
    assert (await world.job()).state is model.JobState.SUCCEEDED_WITH_ERRORS
    assert states.pop(20) == "FAILED DISCORD_TRANSIENT"
    assert set(states.values()) == {"SUCCEEDED"}
    assert len(times) == attempts
    assert pauses == sorted(pauses)
    assert pauses[0] >= 0.75 * world.rules.retry_base


async def test_a_unit_succeeds_when_its_failure_passes(world: worlds.World) -> None:
    """Nothing is left of it."""
    world.discord.fail(20, errors.DiscordTransient("502"), errors.DiscordTransient("reset"))
    await world.start()

    await world.work()

    row = next(row for row in await world.jobs.list_tasks(JOB) if row.guild_id == 20)
    assert (row.state, row.reason, row.attempts) == (model.TaskState.SUCCEEDED, "", 0)
    assert (await world.job()).state is model.JobState.SUCCEEDED


@pytest.mark.parametrize("what", ["list", (USER, 10)], ids=["list", "roles"])
async def test_a_job_fails_when_the_users_token_is_refused(world: worlds.World, what: object) -> None:
    """All work for him stops, until he renews his consent."""
    world.discord.channels[10] = for_role(10)
    world.discord.fail(what, errors.TokenRefused(401, 0))
    await world.start()

    await world.work()

    job = await world.job()
    assert (job.state, job.reason) == (model.JobState.FAILED, "REAUTH_REQUIRED")
    with pytest.raises(errors.ReauthRequired):
        await world.users.credential(USER)


@pytest.mark.parametrize("what", ["list", (USER, 10)], ids=["list", "roles"])
async def test_a_job_goes_on_when_the_refused_token_can_be_renewed(world: worlds.World, what: object) -> None:
    """One renewal mends it, within the turn, and the user notices nothing."""
    world.oauth.enabled = True
    world.discord.channels[10] = for_role(10)
    world.discord.roles[USER, 10] = ()
    world.discord.fail(what, errors.TokenRefused(401, 0))
    await world.start()

    await world.work()

    assert (await world.job()).state is model.JobState.SUCCEEDED
    assert world.oauth.renewals == ["refresh"]
    assert (await world.users.credential(USER)).access_token == "access+"


@pytest.mark.parametrize("what", ["list", (USER, 10)], ids=["list", "roles"])
async def test_a_job_fails_when_the_renewed_token_is_refused_as_well(world: worlds.World, what: object) -> None:
    """Exactly one renewal is tried; then only the user can help."""
    world.oauth.enabled = True
    world.discord.channels[10] = for_role(10)
    world.discord.fail(what, errors.TokenRefused(401, 0), errors.TokenRefused(401, 0))
    await world.start()

    await world.work()

    job = await world.job()
    assert (job.state, job.reason) == (model.JobState.FAILED, "REAUTH_REQUIRED")
    assert world.oauth.renewals == ["refresh"]
    with pytest.raises(errors.ReauthRequired):
        await world.users.credential(USER)


@pytest.mark.parametrize("what", ["list", (USER, 10)], ids=["list", "roles"])
@pytest.mark.parametrize(
    ("problem", "ends"),
    [
        pytest.param(errors.GrantRefused(400, 0), "REAUTH_REQUIRED", id="dead grant"),
        pytest.param(errors.ClientRefused(401, 0), "CLIENT_REFUSED", id="our own secret"),
        pytest.param(errors.DiscordTransient("played"), "", id="passing"),
        pytest.param(errors.EgressBlocked(403, 30.0), "", id="blocked"),
        pytest.param(errors.RateLimited("user", retry_after=2.0, why="used up"), "", id="no permit"),
    ],
)
async def test_the_job_says_why_when_the_token_cannot_be_renewed(
    world: worlds.World, what: object, problem: errors.IndexerError, ends: str
) -> None:
    """A dead grant ends all; for our own fault the user is not blamed; what passes is waited for."""
    world.oauth.enabled = True
    world.discord.channels[10] = for_role(10)
    world.discord.roles[USER, 10] = ()
    world.discord.fail(what, errors.TokenRefused(401, 0))
    world.oauth.fail(problem)
    await world.start()

    await world.work()

    job, rows = await world.job(), await world.jobs.list_tasks(JOB)
    reasons = {job.reason, *(row.reason for row in rows)} - {""}
    assert job.state.terminal
    assert reasons == ({ends} if ends else set())
    assert (await world.credentials.get(USER)).refused == (ends == "REAUTH_REQUIRED")


async def test_the_job_waits_when_an_expired_token_cannot_be_renewed_now(world: worlds.World) -> None:
    """The next turn comes when the limiter says so; Discord is asked with no dead token."""
    world.oauth.enabled = True
    await world.users.put_credential(USER, values.credential(expires_at=world.clock() - 1))
    world.oauth.fail(errors.RateLimited("user", retry_after=2.0, why="used up"), errors.DiscordTransient("played"))
    await world.start()

    await world.work()

    assert (await world.job()).state is model.JobState.SUCCEEDED
    assert len(world.oauth.renewals) == 3
    assert world.discord.asked("list") == 1


@pytest.mark.parametrize("what", ["installs", *GUILDS[:2]], ids=str)
async def test_no_user_is_blamed_when_the_bots_token_is_refused(world: worlds.World, what: object) -> None:
    """That is our operator's to mend: the users' consents stay good."""
    world.discord.fail(what, errors.TokenRefused(401, 0))
    await world.start()

    await world.work()

    job = await world.job()
    found = [job.reason, *(await world.states()).values()]
    assert any("BOT_TOKEN_REFUSED" in text for text in found)
    assert await world.users.credential(USER) == values.credential()


async def test_a_job_fails_when_there_is_no_credential(world: worlds.World) -> None:
    """Somebody has taken it back meanwhile; of who was erased altogether, the job goes too."""
    await world.users.put_preferences(USER + 1, model.Preferences())
    await world.start(user_id=USER + 1)

    await world.work()

    job = await world.job()
    assert (job.state, job.reason) == (model.JobState.FAILED, "CREDENTIAL_MISSING")


async def test_one_broken_unit_stops_no_other_when_a_bug_comes_out(world: worlds.World) -> None:
    """Its row says that it is our fault."""
    world.discord.fail(20, KeyError("a bug"))
    await world.start()

    await world.work()

    states = await world.states()
    assert states.pop(20) == "FAILED INTERNAL"
    assert set(states.values()) == {"SUCCEEDED"}


async def test_a_unit_is_skipped_when_the_user_has_left_meanwhile(world: worlds.World) -> None:
    """Another job of his own, or his own leaving, may have changed the list."""
    await world.start()
    await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=1))
    await stored.left(world.users, USER, 40)

    await world.work()

    assert (await world.states())[40] == "SKIPPED USER_LEFT"
    assert 40 not in world.asked


async def test_the_next_turn_comes_later_when_the_limiter_is_away(world: worlds.World) -> None:
    """No call without budgets; the job does not fail for it."""
    world.discord.fail("list", errors.LimiterUnavailable(2.0))
    world.discord.fail(30, errors.LimiterUnavailable(2.0))
    await world.start()

    await world.turn()
    first = dict(world.queue.waiting)
    await world.work()

    assert first == {turns.Turn(JOB, 1): clockwork.START + 2.0}
    assert (await world.job()).state is model.JobState.SUCCEEDED
    assert await world.states() == dict.fromkeys(GUILDS, "SUCCEEDED")


async def test_a_stale_turn_changes_nothing_when_it_arrives_late(world: worlds.World) -> None:
    """Redelivered, or overtaken: it asks nothing of Discord and writes nothing."""
    await world.start()
    await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=1))
    before = await world.job(), await world.states(), list(world.discord.calls)

    ran = await world.turner.run_turn(turns.Turn(JOB, 0), world.limits())

    assert not ran
    assert (await world.job(), await world.states(), world.discord.calls) == before


async def test_the_new_owner_decides_when_a_turn_lost_its_job_while_it_ran(world: worlds.World) -> None:
    """What the old owner writes afterwards changes no row that the new one wrote, nor the job."""
    world.discord.latency = 100.0
    await world.start()
    old = asyncio.create_task(world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=1)))
    await asyncio.sleep(250.0)
    world.discord.latency = 0.0

    await world.turner.run_turn(turns.Turn(JOB, 1), world.limits())
    ended = await world.job(), await world.jobs.list_tasks(JOB)
    await old

    assert (await world.job(), await world.jobs.list_tasks(JOB)) == ended
    assert ended[0].state is model.JobState.SUCCEEDED


async def test_a_crashed_turn_is_healed_when_the_sweeper_finds_it(world: worlds.World) -> None:
    """The job goes on where it stood."""
    await world.start()
    await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=2))
    world.queue.enqueued.clear()
    now = world.clock()
    crashed = await world.jobs.begin_turn(JOB, 1, now=now, until=now + world.rules.turn_lease)
    assert crashed is not None

    world.clock.advance(world.rules.turn_lease + maintenance.OVERDUE_AFTER + 0.1)
    await maintenance.Sweeper(world.ports, world.rules).sweep()
    await world.work()

    assert (await world.job()).state is model.JobState.SUCCEEDED
    assert world.asked == GUILDS


async def test_a_job_is_given_up_when_its_turns_keep_getting_lost(world: worlds.World) -> None:
    """A job that kills whoever runs it must not circle for ever."""
    await world.start()
    for turn in range(run_turn.MOST_UNFINISHED):
        await world.jobs.begin_turn(JOB, turn, now=world.clock(), until=world.clock())

    await world.turner.run_background_turn(turns.Turn(JOB, run_turn.MOST_UNFINISHED))

    job = await world.job()
    assert (job.state, job.reason) == (model.JobState.FAILED, "TURNS_LOST")
    assert world.discord.calls == []


async def test_what_is_left_says_why_when_a_job_is_given_up(world: worlds.World) -> None:
    """Watchers see it in the rows, what was done stays done, and a retry takes up the rest."""
    await world.start()
    await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=1))
    for turn in range(1, 1 + run_turn.MOST_UNFINISHED):
        await world.jobs.begin_turn(JOB, turn, now=world.clock(), until=world.clock())

    await world.turner.run_background_turn(turns.Turn(JOB, 1 + run_turn.MOST_UNFINISHED))
    retried, created = await control_job.JobControl(world.ports, world.rules).retry(JOB)

    done, *left = GUILDS
    assert await world.states() == {done: "SUCCEEDED", **dict.fromkeys(left, "FAILED TURNS_LOST")}
    told = {unit.guild_id: unit.reason for unit in world.events.streams[JOB][-1].tasks}
    assert told == {done: "", **dict.fromkeys(left, "TURNS_LOST")}
    assert created
    assert set(await world.states(retried.job_id)) == set(left)


async def test_what_is_left_says_internal_when_a_bug_breaks_turn_after_turn(world: worlds.World) -> None:
    """Each broken turn is told to Dramatiq, the next one waits longer, and in the end watchers see it in the rows."""
    await world.start()
    await world.turner.run_turn(world.queue.enqueued.pop(), world.limits(first=1))
    unreadable = model.Preferences(pinned=None)  # type: ignore[arg-type]  # stands for any bug
    await world.users.put_preferences(USER, unreadable)
    began = []

    while not (await world.job()).state.terminal:
        with pytest.raises(TypeError):
            await world.turn()
        began.append(world.clock())

    done, *left = GUILDS
    pauses = [later - earlier for earlier, later in itertools.pairwise(began)]
    assert len(began) == run_turn.MOST_UNFINISHED
    assert pauses == sorted(pauses)
    assert sum(pauses) < 120
    assert await world.states() == {done: "SUCCEEDED", **dict.fromkeys(left, "FAILED INTERNAL")}
    last = world.events.streams[JOB][-1]
    assert (last.job.state, last.job.reason) == (model.JobState.FAILED, "INTERNAL")


async def test_a_job_goes_on_when_a_bug_broke_one_turn(world: worlds.World) -> None:
    """Nothing is left of it."""
    world.discord.fail("list", RuntimeError("a bug"))
    await world.start()
    with pytest.raises(RuntimeError):
        await world.turn()

    await world.work()

    job = await world.job()
    assert (job.state, job.reason) == (model.JobState.SUCCEEDED, "")


async def test_the_bug_is_told_when_the_store_fails_right_after_it(world: worlds.World) -> None:
    """What broke the turn must not be hidden by what came of it; the sweeper finds the job."""
    world.discord.fail("list", RuntimeError("a bug"))
    world.queue.away = True
    await world.jobs.create_or_join(values.job(JOB, created_at=world.clock(), next_turn_at=world.clock()))

    with pytest.raises(RuntimeError):
        await world.turner.run_background_turn(turns.Turn(JOB, 0))

    assert (await world.job()).state is model.JobState.RUNNING


async def test_a_job_goes_on_when_a_few_turns_got_lost(world: worlds.World) -> None:
    """Killed workers are forgiven, and a turn that ends well starts the count anew."""
    await world.start()
    for turn in range(run_turn.MOST_UNFINISHED - 1):
        await world.jobs.begin_turn(JOB, turn, now=world.clock(), until=world.clock())

    await world.turner.run_turn(turns.Turn(JOB, run_turn.MOST_UNFINISHED - 1), world.limits(first=1))

    job = await world.job()
    assert (job.state, job.unfinished) == (model.JobState.RUNNING, 0)


async def test_the_job_waits_in_the_store_when_redis_is_lost(world: worlds.World) -> None:
    """Nothing can be enqueued or published: the work that is done is kept, and the sweeper finds the rest."""
    await world.start()
    world.queue.away = world.events.away = True
    await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=3))
    world.queue.away = world.events.away = False
    world.queue.enqueued.clear()

    world.clock.advance(maintenance.OVERDUE_AFTER + 0.1)
    await maintenance.Sweeper(world.ports, world.rules).sweep()
    await world.work()

    assert world.asked == GUILDS
    assert (await world.job()).state is model.JobState.SUCCEEDED
