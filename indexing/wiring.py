"""The components that service and workers share, opened in the running loop and closed in reverse order."""

import contextlib
import dataclasses
import functools
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import dramatiq
import redis.asyncio

from indexing import concurrency, settings
from indexing.discord import client, oauth
from indexing.domain import ports
from indexing.messaging import (
    changes,
    coordination,
    events,
    queue,
    redis_checks,
    redis_client,
    redis_sentinel,
    redis_watch,
    role_requests,
)
from indexing.ratelimit import limiter, limits, redis_store
from indexing.store import (
    credentials,
    database,
    guilds,
    idempotency,
    jobs,
    migrations,
    mongodb_checks,
    mongodb_watch,
    schema,
    shards,
    store_clock,
    users,
)
from indexing.store.rows import channels, memberships, units, user_data
from indexing.telemetry import logs, metrics


@dataclasses.dataclass(frozen=True, slots=True)
class Components:
    """The open components of a process."""

    dependencies: ports.Dependencies
    idempotency_store: ports.IdempotencyStore
    limiter: limiter.Limiter
    queue: queue.DramatiqQueue
    events: events.RedisEvents
    changes: changes.RedisChanges
    redis: redis.asyncio.Redis
    store_limit: concurrency.AdaptiveLimit
    metrics: metrics.Metrics
    database: database.Database
    unready_reason: Callable[[], str]
    """Returns why the process is not ready, as far as Redis and MongoDB are concerned; empty when it is."""
    clock: store_clock.StoreClock


def application_name(config: settings.DiscordSettings) -> str:
    """Return the name under which all processes of a bot share rate limits. It does not reveal the bot's token."""
    return hashlib.sha256(config.bot_token.get_secret_value().encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True, slots=True)
class _Stores:
    users: ports.Users
    guilds: ports.Guilds
    jobs: ports.Jobs


async def _open_stores(  # noqa: PLR0913 -- what the stores stand on
    db: database.Database,
    config: settings.Settings,
    form: schema.Schema,
    clock: ports.Clock,
    *,
    observe: Callable[[float], None],
    changed: changes.RedisChanges,
) -> _Stores:
    """Return the stores of the form in use; those of rows follow a migration while they are open."""
    vault = credentials.Vault(config.secrets.keys_for("credentials"))
    retention, of_jobs = config.indexing.retention, config.indexing.job_retention
    if await form.state() is schema.State.DOCUMENTS:
        proofs = shards.Proofs(db, clock) if config.gateway.enabled else None
        return _Stores(
            users.Users(db, vault, observe=observe, announce=changed.announce_users),
            guilds.Guilds(db, retention=retention, observe=observe, announce=changed.announce_guilds, proofs=proofs),
            jobs.Jobs(db, retention=of_jobs, observe=observe),
        )
    return _Stores(
        memberships.RowUsers(db, vault, form, clock, observe=observe, announce=changed.announce_users),
        channels.RowGuilds(db, form, retention=retention, observe=observe, announce=changed.announce_guilds),
        units.RowJobs(db, form, retention=of_jobs, observe=observe),
    )


@contextlib.asynccontextmanager
async def open_components(
    config: settings.Settings, broker: dramatiq.Broker, metrics: metrics.Metrics, local_clock: ports.Clock
) -> AsyncIterator[Components]:
    """
    Open MongoDB, Redis and the HTTP session to Discord.

    The limiter has a Redis client of its own, so that other commands never delay a permit. A server that is
    away is waited for.

    *local_clock* is that of this machine. The use cases get the store's.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: A server does not answer or cannot be used.
    """
    async with contextlib.AsyncExitStack() as stack:
        shared_redis = await stack.enter_async_context(_open_first_redis(config, metrics))
        db = await stack.enter_async_context(_open_mongodb(config, metrics))
        form = await schema.open_schema(db, config.mongo.schema)
        await migrations.make_indexes(db, await form.state())
        session = await stack.enter_async_context(client.open_session(config.discord))
        limiter_redis = await stack.enter_async_context(redis_client.open_redis(config.redis, metrics.servers))
        budgets = redis_store.RedisBudgetStore(limiter_redis, application_name(config.discord))
        rate_limiter = limiter.Limiter(budgets, config.limiter, metrics.limiter, call_timeout=config.discord.timeout)
        stack.push_async_callback(rate_limiter.close)
        await rate_limiter.warm_up()
        clock = store_clock.StoreClock(
            functools.partial(database.read_clock, db),
            witness=budgets.redis_time,
            server_metrics=metrics.servers,
            local=local_clock,
        )
        await store_clock.open_clock(clock)
        updates = events.RedisEvents(
            shared_redis,
            metrics.indexing.merged.inc,
            lambda position: metrics.indexing.update_lag.observe(events.lag(position, clock())),
        )
        stack.push_async_callback(updates.close)
        changed = changes.RedisChanges(shared_redis)
        stack.push_async_callback(changed.close)
        watch = _make_watch(config, budgets, [limiter_redis, shared_redis, getattr(broker, "client", None)], metrics)
        store_watch = mongodb_watch.MongoWatch(
            functools.partial(mongodb_checks.probe, database.unmeasured(db)), metrics.servers
        )
        await stack.enter_async_context(
            concurrency.background_tasks(
                redis_watch=watch.watch,
                mongodb_watch=store_watch.watch,
                mongodb_distance=db.watch_distance,
                store_clock=clock.watch,
            )
        )
        turn_queue = queue.DramatiqQueue(broker, shared_redis, clock, watch.note_failure)
        discord = client.DiscordClient(
            session,
            rate_limiter,
            config.discord,
            metrics.discord,
            charge_bot_reads=config.limiter.user_budget_bot_reads,
        )
        vault = credentials.Vault(config.secrets.keys_for("credentials"))
        store_limit = concurrency.AdaptiveLimit(time.monotonic)
        stores = await _open_stores(db, config, form, clock, observe=store_limit.observe, changed=changed)
        dependencies = ports.Dependencies(
            discord=discord,
            oauth=oauth.OAuth(discord, config.oauth),
            users=stores.users,
            credentials=credentials.Credentials(db, vault, announce=changed.announce_users),
            unproven=credentials.Credentials(db, vault, slot=credentials.UNPROVEN, announce=changed.announce_users),
            guilds=stores.guilds,
            jobs=stores.jobs,
            queue=turn_queue,
            events=updates,
            bot_guilds=coordination.RedisBotGuilds(shared_redis),
            user_data=user_data.RowUserData(db, form),
            clock=clock,
            fed_roles=await stack.enter_async_context(_open_fed_roles(config, shared_redis)),
        )
        idempotency_store = idempotency.MongoIdempotencyStore(db)
        yield Components(
            dependencies,
            idempotency_store,
            rate_limiter,
            turn_queue,
            updates,
            changed,
            shared_redis,
            store_limit,
            metrics,
            db,
            lambda: watch.unready_reason() or store_watch.unready_reason() or clock.unready_reason(),
            clock,
        )


@contextlib.asynccontextmanager
async def _open_fed_roles(
    config: settings.Settings, client: redis.asyncio.Redis
) -> AsyncIterator[role_requests.RoleAsker | None]:
    """Make what asks for roles over the Gateway; None when it is not used."""
    if not config.gateway.enabled:
        yield None
        return
    asker = role_requests.RoleAsker(client, wait=config.gateway.role_wait)
    try:
        async with concurrency.background_tasks(role_answers=asker.relay_answers):
            yield asker
    finally:
        await asker.close()


@contextlib.asynccontextmanager
async def _open_mongodb(config: settings.Settings, metrics: metrics.Metrics) -> AsyncIterator[database.Database]:
    """Wait for MongoDB, connect to it, and check it."""
    start_timeout = config.mongo.start_timeout
    async with database.open_database(config.mongo, metrics.servers, start_timeout=start_timeout) as opened:
        await mongodb_checks.check_server(database.unmeasured(opened))
        yield opened


@contextlib.asynccontextmanager
async def _open_first_redis(config: settings.Settings, metrics: metrics.Metrics) -> AsyncIterator[redis.asyncio.Redis]:
    """Wait for Redis, connect to it, and check it; warn of what the URLs say."""
    for setting, problem in (("REDIS_URL", config.redis.warning), ("MONGODB_URL", config.mongo.warning)):
        if problem:
            logs.get(__name__).warning("setting_is_risky", setting=setting, problem=problem)
    start_timeout = config.redis.start_timeout
    async with redis_client.open_redis(config.redis, metrics.servers, start_timeout=start_timeout) as opened:
        await redis_checks.check_server(opened, limits.Keys(application_name(config.discord)).tag + "check")
        yield opened


def _make_watch(
    config: settings.Settings,
    budgets: redis_store.RedisBudgetStore,
    clients: Sequence[Any],
    metrics: metrics.Metrics,
) -> redis_watch.RedisWatch:
    """Return the watch of Redis. Of *clients*, which all follow Sentinel, the first two are of this loop."""
    parameters = limits.LimiterParameters.from_settings(config.limiter, config.discord.timeout)

    async def touch_budgets() -> int:
        """Exchange nothing, without the limiter's short timeout, so that a slow connection can be made."""
        await redis_sentinel.refresh_primary(clients)
        await budgets.exchange(parameters, [], [])
        return budgets.incarnation

    return redis_watch.RedisWatch(touch_budgets, functools.partial(queue.request_sweep, clients[1]), metrics.servers)
