"""Puts the service together and runs it until it is told to stop."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable

import prometheus_client
from prometheus_client import registry

from indexer_service.api import convert, page_tokens, servicer, streams
from indexer_service.interceptors import idempotency, request_context
from indexer_service.interceptors import metrics as rpc_metrics
from indexer_service.server import grpc_server
from indexing import concurrency, settings, wiring
from indexing.messaging import queue
from indexing.telemetry import logs, metric_types, metrics
from indexing.usecases import (
    browse,
    control_job,
    erase_user,
    guild_lists,
    run_turn,
    start_job,
    tokens,
    watch_job,
)

LAST_TURNS = 5.0
"""Seconds that first turns get which outlive the call that began them; the pod's grace period counts them too."""


WRITE_VIEWS_EVERY = 5.0
"""Seconds between two writes of what readers viewed."""
LOOK_AT_INSTALLS = 150.0
"""Seconds between two looks whether the set of guilds with our bot is old or lost; a look costs one Redis command."""


async def run(config: settings.Settings, stop: asyncio.Event) -> None:
    """
    Serve until *stop* is set, then drain.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: MongoDB or Redis is away at boot.
        server.CannotListen: The address cannot be bound.
    """
    grpc_server.check_address(config.service)
    log = logs.get(__name__)
    clock = time.time  # noqa: TID251 -- the one clock of this process
    seen = metrics.Metrics(to := metric_types.new_registry(), ["bot_guilds"])
    around = rpc_metrics.Measured(_metrics(config.service, to), clock)
    broker = queue.make_broker(config.redis, middleware=[])
    async with contextlib.AsyncExitStack() as stack:
        parts = await stack.enter_async_context(wiring.open_components(config, broker, seen, clock))
        lists = guild_lists.GuildLists(parts.dependencies, config.indexing)
        turner = run_turn.TurnRunner(
            parts.dependencies,
            config.indexing,
            seen.indexing,
            lists,
            user_budget=config.limiter.user_budget.capacity,
        )
        starter = start_job.StartJob(parts.dependencies, config.indexing, turner)
        stack.push_async_callback(starter.drain, LAST_TURNS)
        replays = idempotency.Replays(parts.idempotency_store, config.secrets.keys[0], clock)
        watchers = streams.Streams(config.service, clock)
        handlers = _handlers(config, parts, starter, watchers, clock)
        parts.events.add_listener(handlers.changed)
        if config.service.metrics_port:
            stack.callback(_serve_metrics(config.service.metrics_port, to))
        pause = min(LOOK_AT_INSTALLS, config.indexing.bot_guilds_age / 2)
        renew = seen.process.recording_success("bot_guilds", lists.bot.keep_fresh, clock)
        await stack.enter_async_context(
            concurrency.background_tasks(
                events=parts.events.relay_updates,
                bot_guilds=lambda: concurrency.repeat_every(pause, renew),
                views=lambda: concurrency.repeat_every(WRITE_VIEWS_EVERY, handlers.write_views),
            )
        )

        def end_streams() -> None:
            watchers.drain()
            parts.events.wake_all_watchers()
            starter.release_waiters()

        port = await stack.enter_async_context(
            grpc_server.serving(
                handlers, replays, config.service, end_streams, first=[request_context.Traced(), around]
            )
        )
        log.info("serving", address=config.service.listen, port=port)
        await stop.wait()
        log.info("stopping")


def _handlers(
    config: settings.Settings,
    parts: wiring.Components,
    starter: start_job.StartJob,
    watchers: streams.Streams,
    clock: Callable[[], float],
) -> servicer.Servicer:
    cases = servicer.Cases(
        start=starter,
        progress=watch_job.JobWatcher(parts.dependencies),
        browse=browse.Browse(
            parts.dependencies,
            config.indexing,
            encode_channel=convert.encoded_channel,
            encode_guild=convert.encoded_guild,
            monotonic=time.monotonic,
        ),
        control=(controls := control_job.JobControl(parts.dependencies, config.indexing)),
        consent=tokens.ConsentControl(parts.dependencies, controls),
        erasure=erase_user.EraseUser(parts.dependencies, controls, parts.limiter),
        limits=parts.limiter,
        events=parts.events,
        clock=clock,
    )
    return servicer.Servicer(cases, parts.dependencies.users, page_tokens.Tokens(config.secrets.keys), watchers)


def _metrics(config: settings.ServiceSettings, to: registry.CollectorRegistry) -> metrics.ServiceMetrics:
    made = metrics.ServiceMetrics(to, rpc_metrics.METHODS)
    made.authentication_required.set(config.guarded)
    return made


def _serve_metrics(port: int, to: registry.CollectorRegistry) -> Callable[[], None]:
    try:
        web, _ = prometheus_client.start_http_server(port, registry=to)
    except OSError as error:
        raise grpc_server.CannotListen(f"INDEXER_METRICS_PORT: {port} cannot be bound; is it in use?") from error
    return web.shutdown


async def main(config: settings.Settings) -> None:
    """Run the service until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(config, stop)
