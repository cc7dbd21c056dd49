"""What goes wrong in the turns of a job, and what becomes of it."""

import asyncio
import itertools

import pytest

from indexing import errors
from indexing.domain import job_updates, model, ports, turns
from indexing.usecases import control_job, maintenance, run_turn, tokens
from tests import clockwork, fake_backend, stored, values
from tests.unit.usecases import seven_guilds

pytestmark = pytest.mark.clockwork
USER, JOB, GUILDS, ROLE = seven_guilds.USER, seven_guilds.JOB, seven_guilds.GUILDS, seven_guilds.ROLE


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """One user in seven guilds."""
    return await seven_guilds.make()


async def test_a_task_fails_when_all_its_attempts_fail(backend: fake_backend.FakeBackend) -> None:
    """Each attempt is later than the one before; the job continues and ends with errors."""
    attempts = backend.config.max_attempts
    backend.discord.fail(20, *[errors.DiscordTransient("502")] * attempts)
    await backend.start_job()

    await backend.run_all_turns()

    times = [call.at for call in backend.discord.calls if call.what == 20]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    states = await backend.task_states()
    assert (await backend.get_job()).state is model.JobState.SUCCEEDED_WITH_ERRORS
    assert states.pop(20) == "FAILED DISCORD_TRANSIENT"
    assert set(states.values()) == {"SUCCEEDED"}
    assert len(times) == attempts
    assert pauses == sorted(pauses)
    assert pauses[0] >= 0.75 * backend.config.retry_base


async def test_a_guild_is_left_alone_when_its_listing_is_never_readable(backend: fake_backend.FakeBackend) -> None:
    """Three attempts, a reason of its own, and no call of the next job for an hour."""
    backend.discord.fail(20, *[errors.AnswerUnreadable("no JSON")] * 99)
    await backend.start_job()
    await backend.run_all_turns()
    first = await backend.task_states()

    await backend.start_job(job_id="b" * 32)
    await backend.run_all_turns()

    rows = {row.guild_id: row for row in await backend.jobs.list_tasks("b" * 32)}
    assert (first.pop(20), set(first.values())) == ("FAILED ANSWER_UNREADABLE", {"SUCCEEDED"})
    assert (rows[20].state, rows[20].reason) == (model.TaskState.SKIPPED, "ANSWER_UNREADABLE")
    assert len([call for call in backend.discord.calls if call.what == 20]) == 3


@pytest.mark.parametrize("what", [20, "list"], ids=["channels", "list"])
async def test_a_job_succeeds_when_an_answer_was_unreadable_twice(
    backend: fake_backend.FakeBackend, what: object
) -> None:
    """What is in front of Discord answers so for a moment."""
    backend.discord.fail(what, *[errors.AnswerUnreadable("no JSON")] * 2)
    await backend.start_job()

    await backend.run_all_turns()

    assert (await backend.get_job()).state is model.JobState.SUCCEEDED
    assert (await backend.guilds.get([20]))[20].refusals == 0


async def test_a_guild_is_fetched_again_when_only_the_last_failure_was_unreadable(
    backend: fake_backend.FakeBackend,
) -> None:
    """Failures of several kinds show that Discord is unwell, and nothing of the guild."""
    failures = [*[errors.DiscordTransient("502")] * 3, errors.AnswerUnreadable("no JSON")]
    backend.discord.fail(20, *failures)
    await backend.start_job()

    await backend.run_all_turns()

    assert (await backend.task_states())[20] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("failure", "attempts", "reason"),
    [
        (errors.AnswerUnreadable("no JSON"), 3, "ANSWER_UNREADABLE"),
        (errors.RateLimited("route", retry_after=0.0, why="429 user"), 5, "DISCORD_TRANSIENT"),
    ],
    ids=["unreadable", "429"],
)
async def test_a_job_fails_when_its_list_is_always_answered_in_vain(
    backend: fake_backend.FakeBackend, failure: errors.IndexerError, attempts: int, reason: str
) -> None:
    """Each attempt is later than the one before."""
    backend.discord.fail("list", *[failure] * 99)
    await backend.start_job()

    await backend.run_all_turns()

    times = [call.at for call in backend.discord.calls if call.what == "list"]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    job = await backend.get_job()
    assert (job.state, job.reason) == (model.JobState.FAILED, reason)
    assert len(times) == attempts
    assert pauses == sorted(pauses)
    assert pauses[0] >= 0.75 * backend.config.retry_base


async def test_the_list_is_asked_for_as_late_as_discord_says_when_it_answers_429(
    backend: fake_backend.FakeBackend,
) -> None:
    """The wait in the answer is the least one."""
    backend.discord.fail("list", errors.RateLimited("route", retry_after=90.0, why="429 user"))
    await backend.start_job()

    await backend.run_all_turns()

    first, second = (call.at for call in backend.discord.calls if call.what == "list")
    assert second - first >= 90.0
    assert (await backend.get_job()).state is model.JobState.SUCCEEDED


async def test_a_task_succeeds_when_its_failure_passes(backend: fake_backend.FakeBackend) -> None:
    """Its row keeps no trace of the failure."""
    backend.discord.fail(20, errors.DiscordTransient("502"), errors.DiscordTransient("reset"))
    await backend.start_job()

    await backend.run_all_turns()

    row = next(row for row in await backend.jobs.list_tasks(JOB) if row.guild_id == 20)
    assert (row.state, row.reason, row.attempts) == (model.TaskState.SUCCEEDED, "", 0)
    assert (await backend.get_job()).state is model.JobState.SUCCEEDED


async def credential_is_good(backend: fake_backend.FakeBackend) -> bool:
    """Return whether the user's credential is neither refused nor suspected."""
    held = await backend.credentials.get(USER)
    return not held.refused and not held.doubted_at


@pytest.mark.parametrize("times", [0, 1])
async def test_a_consent_stays_valid_when_the_list_refuses_the_token_once(
    backend: fake_backend.FakeBackend, times: int
) -> None:
    """Discord refuses valid tokens for a moment; the job continues some seconds later."""
    backend.discord.fail("list", *[errors.TokenRefused(401, 0)] * times)
    began = backend.clock()
    await backend.start_job()

    await backend.run_all_turns()

    assert (await backend.get_job()).state is model.JobState.SUCCEEDED
    assert await credential_is_good(backend)
    assert backend.clock() - began == pytest.approx(tokens.CONFIRMATION_PAUSE * times)


async def test_a_consent_ends_when_the_list_refuses_the_token_twice(backend: fake_backend.FakeBackend) -> None:
    """Some seconds apart. All work for the user stops until they log in again."""
    backend.discord.fail("list", *[errors.TokenRefused(401, 0)] * 2)
    await backend.start_job()

    await backend.run_all_turns()

    job = await backend.get_job()
    first, second = [call.at for call in backend.discord.calls if call.what == "list"]
    assert (job.state, job.reason) == (model.JobState.FAILED, "REAUTH_REQUIRED")
    assert second - first >= tokens.CONFIRMATION_PAUSE
    with pytest.raises(errors.ReauthRequired):
        await backend.users.credential(USER)


async def test_a_consent_stays_valid_when_a_success_separates_two_refusals(
    backend: fake_backend.FakeBackend,
) -> None:
    """A success resets the first refusal."""
    for name in ("a" * 32, "b" * 32):
        backend.discord.fail("list", errors.TokenRefused(401, 0))
        await backend.start_job(name)
        await backend.run_all_turns()

        assert (await backend.get_job(name)).state is model.JobState.SUCCEEDED
    assert await credential_is_good(backend)


async def test_a_new_consent_is_not_suspected_when_the_old_one_was_refused(backend: fake_backend.FakeBackend) -> None:
    """A refusal applies to one token pair."""
    backend.discord.fail("list", *[errors.TokenRefused(401, 0)] * 2)
    await backend.start_job()
    await backend.run_next_turn()
    await backend.users.put_credential(USER, values.credential(access_token="brought"))

    await backend.run_all_turns()

    assert (await backend.get_job()).state is model.JobState.SUCCEEDED
    assert await credential_is_good(backend)


@pytest.mark.parametrize("refusals", [1, 2])
async def test_a_job_continues_when_the_refused_token_can_be_renewed(
    backend: fake_backend.FakeBackend, refusals: int
) -> None:
    """With one renewal; a new token that is refused at once is retried and not renewed."""
    backend.oauth.enabled = True
    backend.discord.fail("list", *[errors.TokenRefused(401, 0)] * refusals)
    await backend.start_job()

    await backend.run_all_turns()

    assert (await backend.get_job()).state is model.JobState.SUCCEEDED
    assert backend.oauth.renewals == ["refresh"]
    assert (await backend.users.credential(USER)).access_token == "access+"
    assert await credential_is_good(backend)


async def test_a_job_fails_when_the_renewed_token_is_refused_twice_as_well(backend: fake_backend.FakeBackend) -> None:
    """Exactly one renewal is tried; then the user must log in."""
    backend.oauth.enabled = True
    backend.discord.fail("list", *[errors.TokenRefused(401, 0)] * 3)
    await backend.start_job()

    await backend.run_all_turns()

    job = await backend.get_job()
    assert (job.state, job.reason) == (model.JobState.FAILED, "REAUTH_REQUIRED")
    assert backend.oauth.renewals == ["refresh"]
    with pytest.raises(errors.ReauthRequired):
        await backend.users.credential(USER)


@pytest.mark.parametrize("enabled", [True, False], ids=["renewable", "not-renewable"])
async def test_roles_are_fetched_with_the_bots_token_when_the_users_is_refused(
    backend: fake_backend.FakeBackend,
    enabled: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """The member route's refusals say nothing about the consent and are not collected for every guild."""
    backend.oauth.enabled = enabled
    await backend.users.put_credential(USER, values.credential(scopes=("guilds", ports.MEMBER_SCOPE)))
    for guild_id in GUILDS[:3]:
        backend.discord.channels[guild_id] = seven_guilds.for_role(guild_id)
        backend.discord.roles[USER, guild_id] = (ROLE,)
        backend.discord.fail((USER, guild_id), errors.TokenRefused(401, 0))
    await backend.start_job()

    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits())

    assert set((await backend.task_states()).values()) == {"SUCCEEDED"}
    assert backend.oauth.renewals == []
    assert await credential_is_good(backend)
    assert [scoped for scoped in backend.discord.own_tokens if scoped] == [True]


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
async def test_the_job_has_a_reason_when_the_token_cannot_be_renewed(
    backend: fake_backend.FakeBackend, problem: errors.IndexerError, ends: str
) -> None:
    """A revoked grant ends the job; our own failure does not end the consent; a passing failure is waited out."""
    backend.oauth.enabled = True
    backend.discord.fail("list", errors.TokenRefused(401, 0))
    backend.oauth.fail(problem)
    await backend.start_job()

    await backend.run_all_turns()

    job, rows = await backend.get_job(), await backend.jobs.list_tasks(JOB)
    reasons = {job.reason, *(row.reason for row in rows)} - {""}
    assert job.state.terminal
    assert reasons == ({ends} if ends else set())
    assert (await backend.credentials.get(USER)).refused == (ends == "REAUTH_REQUIRED")


async def test_the_job_waits_when_an_expired_token_cannot_be_renewed_now(backend: fake_backend.FakeBackend) -> None:
    """The next turn runs at the limiter's retry time; no expired token is sent to Discord."""
    backend.oauth.enabled = True
    await backend.users.put_credential(USER, values.credential(expires_at=backend.clock() - 1))
    backend.oauth.fail(errors.RateLimited("user", retry_after=2.0, why="used up"), errors.DiscordTransient("played"))
    await backend.start_job()

    await backend.run_all_turns()

    assert (await backend.get_job()).state is model.JobState.SUCCEEDED
    assert len(backend.oauth.renewals) == 3
    assert backend.discord.asked("list") == 1


@pytest.mark.parametrize(
    ("problem", "waits_for"),
    [
        pytest.param(errors.RateLimited("global", retry_after=300.0, why="pause"), "global", id="global pause"),
        pytest.param(errors.EgressBlocked(403, 60.0), "egress", id="blocked"),
    ],
)
@pytest.mark.parametrize("what", ["list", "renewal"])
async def test_the_stop_that_a_job_waits_for_is_stored(
    backend: fake_backend.FakeBackend, what: str, problem: errors.IndexerError, waits_for: str
) -> None:
    """Whatever call meets it: an operator who lifts the stop ends the waits by it."""
    backend.oauth.enabled = True
    if what == "renewal":
        await backend.users.put_credential(USER, values.credential(expires_at=backend.clock() - 1))
        backend.oauth.fail(problem)
    else:
        backend.discord.fail("list", problem)
    await backend.start_job()

    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits())

    job = await backend.get_job()
    assert (job.waiting_for, job.waiting_until) == (waits_for, job.next_turn_at)
    assert job.next_turn_at > backend.clock() + 59.0


def refusals_of_bot(what: object, times: int) -> list[errors.DiscordRefused]:
    """Return refusals of the bot's token; a listing of channels is refused as any token is."""
    kind = errors.TokenRefused if isinstance(what, int) else errors.BotTokenRefused
    return [kind(401, 0)] * times


@pytest.mark.parametrize("what", ["installs", *GUILDS[:2], (USER, 10)], ids=str)
async def test_the_users_consent_stays_valid_when_the_bots_token_is_refused(
    backend: fake_backend.FakeBackend, what: object
) -> None:
    """A bot token that is refused twice is the operator's problem."""
    backend.discord.channels[10] = seven_guilds.for_role(10)
    backend.discord.fail(what, *[errors.TokenRefused(401, 0)] * (what == (USER, 10)), *refusals_of_bot(what, 2))
    await backend.start_job()

    await backend.run_all_turns()

    job = await backend.get_job()
    found = [job.reason, *(await backend.task_states()).values()]
    assert any("BOT_TOKEN_REFUSED" in text for text in found)
    assert await backend.users.credential(USER) == values.credential()


@pytest.mark.parametrize("what", ["installs", *GUILDS[:2], (USER, 10)], ids=str)
async def test_a_job_succeeds_when_the_bots_token_is_refused_once(
    backend: fake_backend.FakeBackend, what: object
) -> None:
    """Discord refuses valid tokens for a moment; the call is repeated some seconds later."""
    backend.discord.channels[10] = seven_guilds.for_role(10)
    backend.discord.roles[USER, 10] = ()
    backend.discord.fail(what, *[errors.TokenRefused(401, 0)] * (what == (USER, 10)), *refusals_of_bot(what, 1))
    await backend.start_job()

    await backend.run_all_turns()

    assert (await backend.get_job()).state is model.JobState.SUCCEEDED
    assert set((await backend.task_states()).values()) == {"SUCCEEDED"}


@pytest.mark.parametrize("what", ["list", "installs", 20, (USER, 10)], ids=["list", "installs", "channels", "roles"])
async def test_a_job_waits_when_discord_has_an_outage(backend: fake_backend.FakeBackend, what: object) -> None:
    """However long: no attempt is counted, the job says what it waits for, and continues by itself."""
    backend.discord.channels[10] = seven_guilds.for_role(10)
    backend.discord.roles[USER, 10] = ()
    backend.discord.fail(what, *[errors.DiscordOutage(15.0)] * 30)
    began, waited = backend.clock(), set()
    await backend.start_job()

    while await backend.run_next_turn():
        waited.add((await backend.get_job()).waiting_for)

    assert "discord" in waited
    assert (await backend.get_job()).state is model.JobState.SUCCEEDED
    assert {(row.state, row.attempts) for row in await backend.jobs.list_tasks(JOB)} == {(model.TaskState.SUCCEEDED, 0)}
    assert backend.clock() - began >= 30 * 15.0


async def test_a_job_fails_when_there_is_no_credential(backend: fake_backend.FakeBackend) -> None:
    """The credential was revoked meanwhile; for an erased user the job is deleted, too."""
    await backend.users.put_preferences(USER + 1, model.Preferences())
    await backend.start_job(user_id=USER + 1)

    await backend.run_all_turns()

    job = await backend.get_job()
    assert (job.state, job.reason) == (model.JobState.FAILED, "CREDENTIAL_MISSING")


async def test_other_tasks_continue_when_a_bug_breaks_one(backend: fake_backend.FakeBackend) -> None:
    """The broken task's reason is an internal error."""
    backend.discord.fail(20, KeyError("a bug"))
    await backend.start_job()

    await backend.run_all_turns()

    states = await backend.task_states()
    assert states.pop(20) == "FAILED INTERNAL"
    assert set(states.values()) == {"SUCCEEDED"}


async def test_a_task_is_skipped_when_the_user_has_left_meanwhile(backend: fake_backend.FakeBackend) -> None:
    """Another job of the user, or their departure, may have changed the list."""
    await backend.start_job()
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))
    await stored.left(backend.users, USER, 40)

    await backend.run_all_turns()

    assert (await backend.task_states())[40] == "SKIPPED USER_LEFT"
    assert 40 not in backend.discord_calls


async def test_the_next_turn_is_postponed_when_the_limiter_is_unavailable(backend: fake_backend.FakeBackend) -> None:
    """No call is made without budgets; the job does not fail."""
    backend.discord.fail("list", errors.LimiterUnavailable(2.0))
    backend.discord.fail(30, errors.LimiterUnavailable(2.0))
    await backend.start_job()

    await backend.run_next_turn()
    first = dict(backend.queue.waiting)
    await backend.run_all_turns()

    assert first == {turns.Turn(JOB, 1): clockwork.START + 2.0}
    assert (await backend.get_job()).state is model.JobState.SUCCEEDED
    assert await backend.task_states() == dict.fromkeys(GUILDS, "SUCCEEDED")


async def test_a_stale_turn_changes_nothing_when_it_arrives_late(backend: fake_backend.FakeBackend) -> None:
    """Redelivered or overtaken, it makes no call and writes nothing."""
    await backend.start_job()
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))
    before = await backend.get_job(), await backend.task_states(), list(backend.discord.calls)

    ran = await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits())

    assert not ran
    assert (await backend.get_job(), await backend.task_states(), backend.discord.calls) == before


async def test_the_old_owner_changes_nothing_when_its_turn_lost_the_job(backend: fake_backend.FakeBackend) -> None:
    """Its late writes change neither the job nor a row that the new owner wrote."""
    backend.discord.latency = 100.0
    await backend.start_job()
    old = asyncio.create_task(backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1)))
    await asyncio.sleep(250.0)
    backend.discord.latency = 0.0

    await backend.turn_runner.run_turn(turns.Turn(JOB, 1), backend.turn_limits())
    ended = await backend.get_job(), await backend.jobs.list_tasks(JOB)
    await old

    assert (await backend.get_job(), await backend.jobs.list_tasks(JOB)) == ended
    assert ended[0].state is model.JobState.SUCCEEDED


async def test_a_crashed_turn_is_repeated_when_the_sweeper_finds_it(backend: fake_backend.FakeBackend) -> None:
    """The job continues from its stored state."""
    await backend.start_job()
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=2))
    backend.queue.enqueued.clear()
    now = backend.clock()
    crashed = await backend.jobs.begin_turn(JOB, 1, now=now, until=now + backend.config.turn_lease)
    assert crashed is not None

    backend.clock.advance(backend.config.turn_lease + maintenance.OVERDUE_AFTER + 0.1)
    await maintenance.Sweeper(backend.deps, backend.config).sweep()
    await backend.run_all_turns()

    assert (await backend.get_job()).state is model.JobState.SUCCEEDED
    assert backend.discord_calls == GUILDS


async def test_a_job_fails_when_its_turns_are_lost_again_and_again(backend: fake_backend.FakeBackend) -> None:
    """A job that kills its process must not be redelivered for ever."""
    await backend.start_job()
    for turn in range(run_turn.MOST_UNFINISHED):
        await backend.jobs.begin_turn(JOB, turn, now=backend.clock(), until=backend.clock())

    await backend.turn_runner.run_background_turn(turns.Turn(JOB, run_turn.MOST_UNFINISHED))

    job = await backend.get_job()
    assert (job.state, job.reason) == (model.JobState.FAILED, "TURNS_LOST")
    assert backend.discord.calls == []


async def test_open_tasks_get_the_reason_when_a_job_is_given_up(backend: fake_backend.FakeBackend) -> None:
    """Watchers see it in the rows; completed tasks stay, and a retry runs the rest."""
    await backend.start_job()
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))
    for turn in range(1, 1 + run_turn.MOST_UNFINISHED):
        await backend.jobs.begin_turn(JOB, turn, now=backend.clock(), until=backend.clock())

    await backend.turn_runner.run_background_turn(turns.Turn(JOB, 1 + run_turn.MOST_UNFINISHED))
    retried, created = await control_job.JobControl(backend.deps, backend.config).retry(JOB)

    done, *left = GUILDS
    assert await backend.task_states() == {done: "SUCCEEDED", **dict.fromkeys(left, "FAILED TURNS_LOST")}
    told = {unit.guild_id: unit.reason for unit in backend.events.streams[JOB][-1].tasks}
    assert told == {done: "", **dict.fromkeys(left, "TURNS_LOST")}
    assert created
    assert set(await backend.task_states(retried.job_id)) == set(left)


async def test_open_tasks_fail_as_internal_when_a_bug_breaks_every_turn(backend: fake_backend.FakeBackend) -> None:
    """Each broken turn raises to Dramatiq, the next one waits longer, and in the end the rows have the reason."""
    await backend.start_job()
    await backend.turn_runner.run_turn(backend.queue.enqueued.pop(), backend.turn_limits(first=1))
    unreadable = model.Preferences(pinned=None)  # type: ignore[arg-type]  # stands for any bug
    await backend.users.put_preferences(USER, unreadable)
    began = []

    while not (await backend.get_job()).state.terminal:
        with pytest.raises(TypeError):
            await backend.run_next_turn()
        began.append(backend.clock())

    done, *left = GUILDS
    pauses = [later - earlier for earlier, later in itertools.pairwise(began)]
    assert len(began) == run_turn.MOST_UNFINISHED
    assert pauses == sorted(pauses)
    assert sum(pauses) < 120
    assert await backend.task_states() == {done: "SUCCEEDED", **dict.fromkeys(left, "FAILED INTERNAL")}
    last = backend.events.streams[JOB][-1]
    assert (last.job.state, last.job.reason) == (model.JobState.FAILED, "INTERNAL")


async def test_a_job_continues_when_a_bug_broke_one_turn(backend: fake_backend.FakeBackend) -> None:
    """Its rows keep no trace of the failure."""
    backend.discord.fail("list", RuntimeError("a bug"))
    await backend.start_job()
    with pytest.raises(RuntimeError):
        await backend.run_next_turn()

    await backend.run_all_turns()

    job = await backend.get_job()
    assert (job.state, job.reason) == (model.JobState.SUCCEEDED, "")


async def test_the_bug_is_raised_when_the_store_fails_right_after_it(backend: fake_backend.FakeBackend) -> None:
    """The second failure must not hide the first; the sweeper finds the job."""
    backend.discord.fail("list", RuntimeError("a bug"))
    backend.queue.away = True
    await backend.jobs.create_or_join(values.job(JOB, created_at=backend.clock(), next_turn_at=backend.clock()))

    with pytest.raises(RuntimeError):
        await backend.turn_runner.run_background_turn(turns.Turn(JOB, 0))

    assert (await backend.get_job()).state is model.JobState.RUNNING


async def test_a_job_continues_when_a_few_turns_were_lost(backend: fake_backend.FakeBackend) -> None:
    """A turn that ends normally resets the count of lost turns."""
    await backend.start_job()
    for turn in range(run_turn.MOST_UNFINISHED - 1):
        await backend.jobs.begin_turn(JOB, turn, now=backend.clock(), until=backend.clock())

    await backend.turn_runner.run_turn(turns.Turn(JOB, run_turn.MOST_UNFINISHED - 1), backend.turn_limits(first=1))

    job = await backend.get_job()
    assert (job.state, job.unfinished) == (model.JobState.RUNNING, 0)


async def test_the_job_waits_in_the_store_when_redis_is_lost(backend: fake_backend.FakeBackend) -> None:
    """Nothing can be enqueued or published: completed work is kept, and the sweeper finds the rest."""
    await backend.start_job()
    backend.queue.away = backend.events.away = True
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=3))
    backend.queue.away = backend.events.away = False
    backend.queue.enqueued.clear()

    backend.clock.advance(maintenance.OVERDUE_AFTER + 0.1)
    await maintenance.Sweeper(backend.deps, backend.config).sweep()
    await backend.run_all_turns()

    assert backend.discord_calls == GUILDS
    assert (await backend.get_job()).state is model.JobState.SUCCEEDED


async def test_nothing_is_deleted_when_a_turn_comes_before_its_job_is_stored(backend: fake_backend.FakeBackend) -> None:
    """A slow insert is no erasure: the first updates of the job stay for its watchers."""
    await backend.events.publish(job_updates.JobUpdate(values.job(JOB), job_updates.Tally()))

    ran = await backend.turn_runner.run_background_turn(turns.Turn(JOB, 1))
    await backend.start_job()
    await backend.run_all_turns()

    assert not ran
    assert backend.events.streams[JOB][0].job.turn == 0
    assert (await backend.get_job()).state is model.JobState.SUCCEEDED


async def test_a_failure_of_the_list_is_forgotten_when_the_limiter_fails_after_the_list(
    backend: fake_backend.FakeBackend,
) -> None:
    """The turn ends with the job as it was when the turn began; only what it changes is written."""
    backend.discord.fail("list", errors.DiscordTransient("502"))
    backend.discord.fail(GUILDS[0], errors.LimiterUnavailable(2.0))
    await backend.start_job()
    await backend.run_next_turn()
    failed = await backend.get_job()

    await backend.run_next_turn()

    job = await backend.get_job()
    assert (failed.attempts, failed.reason) == (1, "DISCORD_TRANSIENT")
    assert (job.listed, job.attempts, job.reason) == (True, 0, "")
    assert backend.discord.asked("list") == 2
