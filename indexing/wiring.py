"""The parts that service and workers have in common, opened in the running loop and closed in reverse order."""

import contextlib
import dataclasses
import hashlib
from collections.abc import AsyncIterator

import dramatiq
import redis.asyncio

from indexing import settings
from indexing.discord import client, oauth
from indexing.domain import ports
from indexing.messaging import coordination, events, queue, redis_client
from indexing.ratelimit import limiter, redis_store
from indexing.store import (
    credentials,
    erasure,
    guilds,
    idempotency,
    jobs,
    users,
)
from indexing.store import (
    database as store_database,
)
from indexing.telemetry import metrics


@dataclasses.dataclass(frozen=True, slots=True)
class Components:
    """What is open in this process."""

    dependencies: ports.Dependencies
    idempotency_store: ports.IdempotencyStore
    limiter: limiter.Limiter
    queue: queue.DramatiqQueue
    events: events.RedisEvents
    redis: redis.asyncio.Redis


def application_name(config: settings.DiscordSettings) -> str:
    """Return the name under which all processes of one bot share budgets; tells nothing of its token."""
    return hashlib.sha256(config.bot_token.get_secret_value().encode()).hexdigest()[:16]


@contextlib.asynccontextmanager
async def open_components(
    config: settings.Settings, broker: dramatiq.Broker, seen: metrics.Metrics, clock: ports.Clock
) -> AsyncIterator[Components]:
    """
    Open MongoDB, Redis and the session to Discord.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: A server is away.
    """
    async with contextlib.AsyncExitStack() as stack:
        shared = await stack.enter_async_context(redis_client.open_redis(config.redis, seen.servers))
        database = await stack.enter_async_context(store_database.open_database(config.mongo, seen.servers))
        await store_database.make_indexes(database)
        session = await stack.enter_async_context(client.open_session(config.discord))
        apart = await stack.enter_async_context(redis_client.open_redis(config.redis, seen.servers))
        store = redis_store.RedisBudgets(apart, application_name(config.discord))
        limits = limiter.Limiter(store, config.limiter, seen.limiter, call_timeout=config.discord.timeout)
        stack.push_async_callback(limits.close)
        await limits.warm()
        updates = events.RedisEvents(shared, seen.indexing.merged.inc)
        stack.push_async_callback(updates.close)
        waiting = queue.DramatiqQueue(broker, shared)
        discord = client.DiscordClient(session, limits, config.discord, seen.discord)
        safe = credentials.Vault(config.secrets.keys)
        world = ports.Dependencies(
            discord=discord,
            oauth=oauth.OAuth(discord, config.oauth),
            users=users.Users(database, safe),
            credentials=credentials.Credentials(database, safe),
            guilds=guilds.Guilds(database),
            jobs=jobs.Jobs(database, retention=config.indexing.job_retention),
            queue=waiting,
            events=updates,
            bot_guilds=coordination.RedisBotGuilds(shared),
            user_data=erasure.MongoUserData(database),
            clock=clock,
        )
        yield Components(world, idempotency.MongoIdempotencyStore(database), limits, waiting, updates, shared)
