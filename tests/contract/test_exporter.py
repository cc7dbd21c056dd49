"""The exporter shows the state that the fleet's own components left in Redis and MongoDB, and changes nothing."""

import asyncio
import contextlib
import dataclasses
import time
import urllib.request
import uuid
from typing import Any

import pytest
import redis.asyncio
from prometheus_client import registry

from indexing import settings, wiring
from indexing.domain import model, turns
from indexing.messaging import queue
from indexing.ratelimit import limiter, limits, redis_store
from indexing.store import credentials, database, jobs, users
from indexing.telemetry import fleet_metrics, metrics
from tests import servers, values
from workers import exporter

NOW = 2_000_000.0


@pytest.fixture
def config(
    redis_settings: settings.RedisSettings, mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> settings.ExporterConfig:
    """Settings of the exporter alone, without a credential key."""
    monkeypatch.setenv("DISCORD_BOT_TOKEN", "token")
    monkeypatch.delenv("INDEXER_CREDENTIAL_KEYS", raising=False)
    monkeypatch.setenv("REDIS_URL", redis_settings.url.get_secret_value())
    monkeypatch.setenv("MONGODB_URL", mongodb_url)
    monkeypatch.setenv("LIMITER_HOLD", "0")
    monkeypatch.setenv("EXPORTER_PORT", "0")
    return settings.load_exporter()


@dataclasses.dataclass(frozen=True)
class Bench:
    """An exporter with its registry and the servers that it reads."""

    exporter: exporter.Exporter
    registry: registry.CollectorRegistry
    config: settings.ExporterConfig
    redis: redis.asyncio.Redis
    database: Any

    def value(self, name: str, **labels: str) -> float | None:
        """Return one sample."""
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
async def bench(
    config: settings.ExporterConfig, redis_client: redis.asyncio.Redis, database: database.Database
) -> Bench:
    """An exporter over empty servers."""
    to = registry.CollectorRegistry()
    one = exporter.Exporter(config, redis_client, database, fleet_metrics.FleetMetrics(to), lambda: NOW)
    return Bench(one, to, config, redis_client, database)


async def everything(bench: Bench) -> tuple[dict[bytes, bytes], dict[str, list[Any]]]:
    """Return all data of both servers."""
    keys: Any = await bench.redis.keys()
    stored: dict[bytes, Any] = {key: await bench.redis.dump(key) for key in keys}
    names = await bench.database.list_collection_names()
    return stored, {name: await bench.database[name].find({}).to_list(None) for name in names}


async def test_the_queue_includes_prefetched_turns_when_it_is_exported(bench: Bench) -> None:
    """Live turns include those that a worker has prefetched; delayed turns count separately."""
    broker = queue.make_broker(bench.config.redis, [])
    broker.broker_id = queue.WORKER + "1"
    ours = queue.DramatiqQueue(broker, bench.redis)
    for number in range(3):
        await ours.release(turns.Turn("a" * 32, number), 0.0)
    await ours.schedule(turns.Turn("b" * 32, 0), time.time() + 3600)  # noqa: TID251 -- Redis' own clock decides what is due
    fetched = next(broker.consume(turns.QUEUE, prefetch=1, timeout=100))
    assert fetched is not None

    await bench.exporter.update_metrics()

    state = {"queue": turns.QUEUE}
    assert bench.value("indexer_queue_turns", **state, state="live") == 3
    assert bench.value("indexer_queue_turns", **state, state="ready") == 2
    assert bench.value("indexer_queue_turns", **state, state="dead") == 0
    assert bench.value("indexer_turns_waiting") == 1
    assert bench.value("indexer_workers_live") == 1
    oldest = bench.value("indexer_queue_oldest_seconds", **state)
    assert oldest is not None
    assert 0 < oldest < 60


async def test_the_queue_includes_turns_in_line_when_it_is_exported(bench: Bench) -> None:
    """The turns of all callers are ready, though Dramatiq's queue has room for one; the oldest was due long ago."""
    ours = queue.DramatiqQueue(queue.make_broker(bench.config.redis, []), bench.redis, lambda: NOW)
    for job, callers in (("a", ("shop",)), ("b", ("wiki",)), ("c", ()), ("d", ())):
        await ours.enqueue(turns.Turn(job * 32, 1, callers=callers))
    await bench.redis.zadd(queue.WAITING, {"c" * 32 + ":1": 1_000.0})
    await queue.DelayedQueuePoller(bench.redis, ours, most_ready=1).enqueue_due()

    await bench.exporter.update_metrics()

    state = {"queue": turns.QUEUE}
    assert bench.value("indexer_queue_turns", **state, state="live") == 4
    assert bench.value("indexer_queue_turns", **state, state="ready") == 4
    assert bench.value("indexer_turns_waiting") == 0
    assert (bench.value("indexer_queue_oldest_seconds", **state) or 0) > 1e9


async def test_budgets_show_their_current_state_when_permits_are_out(bench: Bench) -> None:
    """The global budget, the minimum over users with an active job, and the invalid-request limit."""
    store = redis_store.RedisBudgetStore(bench.redis, wiring.application_name(bench.config.discord))
    ours = limiter.Limiter(store, bench.config.limiter, metrics.LimiterMetrics(registry.CollectorRegistry()))
    await jobs.Jobs(bench.database, retention=60.0).create_or_join(values.job(user_id=7, next_turn_at=NOW - 20))
    charge = limits.Charge(model.Lane.INTERACTIVE, "GET /users/@me/guilds", "user:7", 7, None)
    await ours.take(charge, max_wait=1.0)

    await bench.exporter.update_metrics()

    assert bench.value("indexer_budget_capacity_permits", budget="global") == 50
    assert bench.value("indexer_budget_window_seconds", budget="user") == 5.0
    assert bench.value("indexer_budget_free_permits", budget="global") == 49
    assert bench.value("indexer_budget_user_free_ratio", statistic="min") == 0.8
    assert bench.value("indexer_budget_free_permits", budget="invalid_requests") == 10_000
    assert bench.value("indexer_budget_paused_seconds", budget="global", reason="pause") == 0
    assert bench.value("indexer_jobs_active") == 1
    assert bench.value("indexer_jobs_overdue_seconds") == 20


async def test_callers_are_named_when_their_tokens_are_refused(bench: Bench) -> None:
    """With the seconds of their stop; the fleet's own row stays. A caller is gone when nothing of it counts."""
    store = redis_store.RedisBudgetStore(bench.redis, wiring.application_name(bench.config.discord))
    config = bench.config.limiter.model_copy(update={"limiter_hold": 0.0, "limiter_stop_all": 0.0015})
    ours = limiter.Limiter(store, config, metrics.LimiterMetrics(registry.CollectorRegistry()))
    for name, count in (("shop", 3), ("wiki", 1)):
        for number in range(count):
            charge = limits.Charge(
                model.Lane.INTERACTIVE, "GET /oauth2/@me", f"proof:{name}{number}", None, None, brought_by=name
            )
            permit = await ours.take(charge, max_wait=10.0)
            await ours.settle(permit, limiter.Answer(401, {}, 0.01))
            await ours.close()

    await bench.exporter.update_metrics()

    assert bench.value("indexer_caller_refused_tokens", caller="shop") == 3
    assert bench.value("indexer_caller_refused_tokens", caller="wiki") == 1
    assert 0 < (bench.value("indexer_caller_stopped_seconds", caller="shop") or 0) <= 600
    assert bench.value("indexer_caller_stopped_seconds", caller="wiki") == 0
    assert bench.value("indexer_budget_free_permits", budget="invalid_requests") == 9_996
    await bench.redis.flushdb()
    await bench.exporter.update_metrics()
    assert bench.value("indexer_caller_refused_tokens", caller="shop") is None


async def test_users_who_must_log_in_again_are_counted_when_discord_refused_them(bench: Bench) -> None:
    """Beside the number of stored users."""
    vault = credentials.Vault((b"k" * 32,))
    store = users.Users(bench.database, vault)
    for user in (7, 8, 9):
        await store.put_credential(user, values.credential())
    pairs = credentials.Credentials(bench.database, vault)
    await pairs.mark_refused(8, version=(await pairs.get(8)).version, shown_until=0.0)

    await bench.exporter.update_metrics()

    assert bench.value("indexer_credentials", state="stored") == 3
    assert bench.value("indexer_credentials", state="reauth_required") == 1


async def test_the_state_of_redis_is_exported(bench: Bench) -> None:
    """A wrong policy shows as soon as there is a limit of memory; without a replica there is no lag."""
    await bench.exporter.update_metrics()
    assert bench.value("indexer_redis_memory_used_ratio") == 0.0
    assert bench.value("indexer_redis_fault", fault="evicts") == 0.0
    assert (bench.value("indexer_redis_replicas"), bench.value("indexer_redis_replica_lag_seconds")) == (0.0, 0.0)

    await bench.redis.config_set("maxmemory", "200mb")
    await bench.redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        await bench.exporter.update_metrics()
    finally:
        await bench.redis.config_set("maxmemory", "0")
        await bench.redis.config_set("maxmemory-policy", "noeviction")

    assert 0.0 < (bench.value("indexer_redis_memory_used_ratio") or 0.0) < 1.0
    assert bench.value("indexer_redis_fault", fault="evicts") == 1.0


async def test_no_data_changes_when_it_is_exported(bench: Bench) -> None:
    """Neither in Redis nor in MongoDB."""
    await jobs.Jobs(bench.database, retention=60.0).create_or_join(values.job())
    broker = queue.make_broker(bench.config.redis, [])
    ours = queue.DramatiqQueue(broker, bench.redis)
    await ours.release(turns.Turn("a" * 32, 0), 0.0)
    await ours.enqueue(turns.Turn("b" * 32, 0))
    before = await everything(bench)

    await bench.exporter.update_metrics()

    assert await everything(bench) == before


async def test_series_are_removed_when_their_source_does_not_respond(bench: Bench) -> None:
    """A stale value must not look current; the other sources are still exported."""
    await bench.exporter.update_metrics()
    gone = settings.RedisSettings(url=f"redis://127.0.0.1:{servers.free_port()}/0", timeout=0.2)
    away = redis.asyncio.Redis.from_url(gone.url.get_secret_value(), retry=None)
    bench.exporter._client = away

    await bench.exporter.update_metrics()
    await away.aclose()

    assert bench.value("indexer_exporter_source_up", source="redis") == 0
    assert bench.value("indexer_queue_turns", queue=turns.QUEUE, state="live") is None
    assert str(bench.value("indexer_workers_live")) == "nan"
    assert bench.value("indexer_exporter_source_up", source="mongodb") == 1
    assert bench.value("indexer_jobs_active") == 0


async def test_every_scrape_reads_the_sources_when_it_is_served(
    config: settings.ExporterConfig, mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTP, from a process with its own loop."""
    port = servers.free_port()
    monkeypatch.setenv("EXPORTER_PORT", str(port))
    monkeypatch.setenv("MONGODB_DATABASE", f"test-{uuid.uuid4().hex}")

    def scraped() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    clock = iter([10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(exporter.running_exporter(settings.load_exporter(), lambda: next(clock)))
        first, second = [await asyncio.to_thread(scraped) for _ in range(2)]

    assert 'indexer_exporter_source_up{source="budgets"} 1.0' in first
    assert 'indexer_periodic_task_last_success_timestamp_seconds{task="export"} 20.0' in first
    assert 'indexer_periodic_task_last_success_timestamp_seconds{task="export"} 40.0' in second


@pytest.mark.parametrize(
    ("shares", "lowest"),
    [([], 1.0), ([0.4], 0.4), ([0.0, 1.0], 0.1), ([number / 10 for number in range(11)], 0.1)],
    ids=["none", "one", "two", "many"],
)
def test_the_tenth_percentile_is_interpolated_when_there_are_few_values(shares: list[float], lowest: float) -> None:
    """Linearly between two neighbours."""
    assert exporter.tenth_percentile(shares) == pytest.approx(lowest)
