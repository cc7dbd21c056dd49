"""An operator sees what stops the fleet, and lifts it; on the real clock of a real Redis."""

import asyncio
import dataclasses
import json
from collections.abc import Iterator

import pytest
import redis.asyncio

from indexer_service import stops
from indexing import errors, settings, wiring
from indexing.domain import model
from indexing.ratelimit import limiter, limits, redis_store
from indexing.ratelimit import stops as ratelimit_stops
from indexing.store import database as store_database
from indexing.store import jobs as store_jobs
from indexing.telemetry import audit
from tests import clockwork
from tests.contract.ratelimit import fleet

LIMITER = settings.LimiterSettings(limiter_hold=0.0, limiter_stop_bulk=0.0004, limiter_stop_all=0.0008)
"""Stops after 4 and 8 invalid requests."""


@pytest.fixture
def config(
    redis_settings: settings.RedisSettings, mongodb_url: str, database: store_database.Database
) -> Iterator[settings.StopsConfig]:
    """Settings of the commands, for empty servers."""
    yield settings.StopsConfig(
        settings.DiscordSettings(bot_token="a-token"),
        LIMITER,
        redis_settings,
        settings.MongoSettings(url=mongodb_url, database=database.name),
        settings.LogSettings(),
        settings.AuditSettings(),
    )
    audit.configure(audit.OFF, 10_000, 2)


@pytest.fixture
async def process(config: settings.StopsConfig, redis_client: redis.asyncio.Redis) -> fleet.Process:
    """A process that has learned its route."""
    made = fleet.Process(
        redis_store.RedisBudgetStore(redis_client, wiring.application_name(config.discord)), config.limiter
    )
    await made.call(fleet.charge(None))
    return made


async def settle(process: fleet.Process, count: int, answer: limiter.Answer) -> None:
    """Settle calls with an answer, and send the settlements."""
    for _ in range(count):
        permit = await process.take(fleet.charge(None), max_wait=5.0)
        await process.limiter.settle(permit, answer)
        await process.limiter.close()


async def no_sleep(_: float) -> None:
    """Let no time pass."""


FORBIDDEN = limiter.Answer(403, {}, 0.01)
GLOBAL = limiter.Answer(429, {"x-ratelimit-global": "true", "retry-after": "300"}, 0.01, body_global=True)
EDGE = limiter.Answer(403, {}, 0.01, is_discord=False)


@pytest.mark.parametrize(
    ("cause", "names"),
    [
        pytest.param((4, FORBIDDEN), ["bulk"], id="bulk"),
        pytest.param((8, FORBIDDEN), ["all", "bulk"], id="all"),
        pytest.param((1, GLOBAL), ["pause"], id="global-429"),
        pytest.param((1, EDGE), ["edge"], id="edge"),
    ],
)
async def test_calls_go_on_when_an_operator_lifts_a_stop(
    process: fleet.Process,
    config: settings.StopsConfig,
    cause: tuple[int, limiter.Answer],
    names: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before, `stops` names each with its end; the lift is an audit line with the operator's account."""
    await settle(process, *cause)
    background = fleet.charge(None, lane=model.Lane.BACKGROUND)
    refusal = await process.refused(background)
    assert refusal.retry_after > 20
    capsys.readouterr()

    assert await stops.show(config) == 0
    shown = capsys.readouterr().out
    assert await stops.lift(config, no_sleep) == 0
    line = json.loads(capsys.readouterr().out)

    assert [each.partition(":")[0] for each in shown.splitlines()[:-1]] == names
    assert line["caller"].startswith("operator:")
    assert (line["method"], line["outcome"], line["stops"]) == ("stops lift", "OK", ",".join(names))
    await process.take(background, max_wait=10.0)
    await stops.show(config)
    assert capsys.readouterr().out.startswith("nothing is stopped\n")


async def test_discords_count_stays_when_a_stop_is_lifted(
    process: fleet.Process, config: settings.StopsConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fleet's own line begins at zero: the next invalid answer stops nothing."""
    await settle(process, 8, FORBIDDEN)
    assert await stops.lift(config, no_sleep) == 0
    await settle(process, 1, FORBIDDEN)

    await stops.show(config)

    assert "nothing is stopped\ninvalid requests in the last ten minutes: 9 of 10000\n" in capsys.readouterr().out
    state = (await process.limiter.snapshot())[1]
    assert (state.free, state.paused_for) == (limits.INVALID_REQUEST_LIMIT.capacity - 9, 0.0)


async def test_a_lift_is_refused_when_a_ban_is_near(
    process: fleet.Process,
    config: settings.StopsConfig,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The refusal is recorded too, and the stop stays."""
    monkeypatch.setattr(ratelimit_stops, "MOST_INVALID", 7)
    await settle(process, 8, FORBIDDEN)
    capsys.readouterr()

    assert await stops.lift(config, no_sleep) == 1

    out, problem = capsys.readouterr()
    assert json.loads(out)["outcome"] == "TOO_MANY_INVALID_REQUESTS"
    assert problem.startswith("not lifted: 8 invalid requests")
    assert (await process.refused(fleet.charge(None))).why == "breaker"


async def test_one_call_finds_out_when_a_pause_of_the_token_was_lifted(
    process: fleet.Process, config: settings.StopsConfig
) -> None:
    """Discord may still mean it: the fleet does not return with all its calls at once."""
    await settle(process, 1, GLOBAL)
    await stops.lift(config, no_sleep)

    await process.take(fleet.charge(None), max_wait=10.0)

    with pytest.raises(errors.RateLimited):
        await asyncio.wait_for(process.take(fleet.charge(None)), 5.0)


async def test_waiting_jobs_are_due_when_a_stop_is_lifted(
    config: settings.StopsConfig, database: store_database.Database
) -> None:
    """A sweep, which the command asks for, enqueues them. Jobs that wait for a user's budget go on waiting."""
    store = store_jobs.Jobs(database, retention=86_400.0)
    now = clockwork.START
    later = now + 1e9
    for user_id, budget in enumerate(("global", "egress", "user", ""), start=1):
        job = model.new_job(f"{user_id:032x}", user_id, now=now, due=later, force=False)
        await store.create_or_join(dataclasses.replace(job, waiting_for=budget, waiting_until=later))

    await stops.lift(config, no_sleep)

    found = [await store.get(f"{user_id:032x}") for user_id in range(1, 5)]
    assert [job is not None and job.next_turn_at < later for job in found] == [True, True, False, False]


async def test_a_wait_is_ended_that_a_turn_stores_after_the_lift(
    process: fleet.Process, config: settings.StopsConfig, database: store_database.Database
) -> None:
    """A turn that began before the lift met the stop. A job of a later turn waits for its position in the queue."""
    await settle(process, 1, GLOBAL)
    store = store_jobs.Jobs(database, retention=86_400.0)
    now = clockwork.START
    later = now + 1e9
    turns = {}
    for user_id, began_at in ((1, 1.0), (2, later)):
        await store.create_or_join(model.new_job(f"{user_id:032x}", user_id, now=now, due=now, force=False))
        turns[user_id] = await store.begin_turn(f"{user_id:032x}", 0, now=began_at, until=began_at + 40.0)

    async def turns_end(_: float) -> None:
        for begun in turns.values():
            assert begun is not None
            waits = dataclasses.replace(begun[0], waiting_for="global", waiting_until=later, next_turn_at=later)
            await store.save(begun[0], waits)
        turns.clear()

    await stops.lift(config, turns_end)

    found = [await store.get(f"{user_id:032x}") for user_id in (1, 2)]
    assert [job is not None and job.next_turn_at < later for job in found] == [True, False]
