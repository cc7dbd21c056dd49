"""
`python -m workers.gateway`: feeds the index from Discord's Gateway.

Any number of these processes may run; each owns some shards. One that ends lets its sessions live, and another one
resumes them. It needs GATEWAY_ENABLED in the services and workers as well, so that they rely on what it stores.
"""

import contextlib
import sys
import time
from collections.abc import AsyncIterator

import aiohttp

from indexing import concurrency, errors, settings, wiring
from indexing.discord import client
from indexing.domain import ports
from indexing.gateway import applier, comparison, directory, fleet, shard
from indexing.messaging import queue, role_requests
from indexing.ratelimit import identifies
from indexing.store import fed_guilds, schema, shards
from indexing.telemetry import gateway_metrics, logs, metric_types, metrics, tracing
from indexing.usecases import apply_feed, apply_members, bot_list
from workers import health, process


@contextlib.asynccontextmanager
async def running_gateway(config: settings.Settings, clock: ports.Clock) -> AsyncIterator[None]:
    """
    Feed the index until the block ends.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: A server does not answer at the start.
        OSError: The port is in use.
    """
    registry = metric_types.new_registry()
    shared, watchdog = metrics.Metrics(registry), health.Watchdog()
    async with contextlib.AsyncExitStack() as stack:
        broker = queue.make_broker(config.redis, middleware=[])
        components = await stack.enter_async_context(wiring.open_components(config, broker, shared, clock))
        if await (await schema.open_schema(components.database)).state() is not schema.State.DOCUMENTS:
            raise errors.StoreUnavailable("the Gateway needs the data as documents: run the migration first")
        http = await stack.enter_async_context(client.open_session(config.discord))
        environment = _environment(config, components, gateway_metrics.GatewayMetrics(registry), clock, http)
        bot_guilds = bot_list.BotGuilds(environment.dependencies, config.indexing)
        stack.push_async_callback(bot_guilds.close)
        running = fleet.GatewayFleet(environment, _comparison(config, environment, bot_guilds))
        await stack.enter_async_context(
            concurrency.background_tasks(
                watchdog=watchdog.record_heartbeats, gateway=running.run, lists=running.compare_lists
            )
        )
        stack.push_async_callback(running.leave)
        redis_reason = components.unready_reason
        stack.enter_context(
            health.serving_endpoints(
                config.gateway.metrics_address,
                registry,
                live=watchdog.is_live,
                unready=lambda: redis_reason() if watchdog.is_live() else "not live",
            )
        )
        logs.get(__name__).info("gateway_started", port=config.gateway.metrics_port)
        yield


def _environment(
    config: settings.Settings,
    components: wiring.Components,
    found: gateway_metrics.GatewayMetrics,
    clock: ports.Clock,
    http: aiohttp.ClientSession,
) -> shard.Environment:
    db, discord = components.database, components.dependencies.discord
    if not isinstance(discord, client.DiscordClient):
        raise TypeError("the Gateway needs Discord's real client")
    permits = identifies.Identifies(
        components.redis,
        wiring.application_name(config.discord),
        hold=config.limiter.limiter_hold,
        window=identifies.WINDOW,
    )
    guilds = fed_guilds.MongoFedGuilds(
        db, retention=config.indexing.retention, announce=components.changes.announce_guilds
    )
    stores = applier.Stores(
        shards.MongoShards(db),
        apply_feed.FeedWriter(guilds, clock),
        apply_members.MemberWriter(components.dependencies.users, clock),
        clock,
        lease=config.gateway.lease,
    )
    return shard.Environment(
        http=http,
        directory=directory.Directory(discord, permits, config.gateway),
        stores=stores,
        guilds=guilds,
        dependencies=components.dependencies,
        metrics=found,
        config=config.gateway,
        token=config.discord.bot_token.get_secret_value,
        desk=lambda: role_requests.RoleDesk(components.redis),
    )


def _comparison(
    config: settings.Settings, environment: shard.Environment, bot_guilds: bot_list.BotGuilds
) -> comparison.ListComparison:
    return comparison.ListComparison(
        bot_guilds,
        environment.guilds,
        environment.metrics,
        max_age=config.gateway.list_interval,
    )


async def main() -> None:
    """
    Read the settings and feed the index until SIGTERM or SIGINT.

    Raises:
        settings.BadSettings: The settings are invalid.
        errors.StoreUnavailable, errors.QueueUnavailable, OSError: See `running_gateway`.
    """
    config = settings.load()
    logs.configure(config.logs.level, config.logs.format)
    if config.traces.on:
        tracing.configure("indexer-gateway")
    await process.run_until_signal(running_gateway(config, time.time))  # noqa: TID251 -- the one clock of this process


if __name__ == "__main__":
    sys.exit(process.run_process(main))
