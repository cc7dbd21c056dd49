"""Wires the service, runs it, and shuts it down at SIGTERM or SIGINT."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import prometheus_client
from prometheus_client import registry

from indexer_service import interceptors
from indexer_service.api import convert, page_tokens, servicer, streams
from indexer_service.server import grpc_server, tls
from indexing import concurrency, settings, wiring
from indexing.messaging import events, queue
from indexing.telemetry import logs, metric_types, metrics, web
from indexing.usecases import (
    browse,
    change_notifier,
    control_credential,
    control_job,
    erase_user,
    guild_lists,
    memberships,
    run_turn,
    start_job,
    turn_capacity,
    watch_index,
    watch_job,
)

FIRST_TURNS_TIMEOUT = 5.0
"""Seconds for first turns that outlive the call that started them; the pod's grace period includes them."""
WRITE_VIEWS_INTERVAL = 5.0
"""Seconds between two writes of what readers viewed."""
MAX_BOT_GUILDS_CHECK = 150.0
"""Longest pause between two checks whether the cache of the bot's guilds is old or lost; one check is one command."""


async def serve_until(config: settings.Settings, stop: asyncio.Event) -> None:
    """
    Serve until *stop* is set, then drain.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: MongoDB or Redis cannot be reached at start.
        grpc_server.CannotListen: The address cannot be bound.
    """
    grpc_server.check_address(config.service)
    log = logs.get(__name__)
    clock = time.time  # noqa: TID251 -- the one clock of this process
    all_metrics = metrics.Metrics(to := metric_types.new_registry(), ["bot_guilds"])
    service_metrics = _service_metrics(config.service, to)
    rpc_metrics = interceptors.MetricsInterceptor(service_metrics)
    broker = queue.make_broker(config.redis, middleware=[])
    async with contextlib.AsyncExitStack() as stack:
        context = wiring.open_components(config, broker, all_metrics, clock)
        if (components := await _unless_stopped(stack.enter_async_context(context), stop)) is None:
            return
        lists = guild_lists.GuildLists(
            components.dependencies, config.indexing, most_stored=lambda: components.database.operations_limit
        )
        stack.push_async_callback(lists.close)
        turner = run_turn.TurnRunner(
            components.dependencies,
            config.indexing,
            all_metrics.indexing,
            lists,
            capacity=turn_capacity.Capacity(config.limiter.user_budget.capacity),
        )
        starter = start_job.StartJob(components.dependencies, config.indexing, turner, components.store_limit)
        stack.push_async_callback(starter.drain, FIRST_TURNS_TIMEOUT)
        idempotency = interceptors.IdempotencyInterceptor(
            components.idempotency_store,
            config.secrets.keys_for("requests"),
            components.clock,
            memberships.Memberships(components.dependencies).load,
        )
        slots = streams.StreamSlots(config.service, components.clock)
        use_cases = _make_use_cases(config, components, starter, service_metrics)
        notifier = use_cases.watch_index.notifier
        api = servicer.Servicer(
            use_cases,
            components.dependencies.users,
            page_tokens.PageTokens(config.secrets.keys_for("page tokens")),
            slots,
        )
        components.events.add_listener(api.forget_joins)
        stack.enter_context(_serving_metrics(config.service.metrics_address, to))
        pause = min(MAX_BOT_GUILDS_CHECK, config.indexing.bot_guilds_age / 2)
        keep_fresh = all_metrics.process.recording_success("bot_guilds", lists.bot_guilds.keep_fresh, components.clock)
        await stack.enter_async_context(
            concurrency.background_tasks(
                events=components.events.relay_updates,
                bot_guilds=lambda: concurrency.repeat_every(pause, keep_fresh),
                views=lambda: concurrency.repeat_every(WRITE_VIEWS_INTERVAL, api.write_views),
                changes=lambda: _relay_changes(components, notifier),
                versions=lambda: concurrency.repeat_every(change_notifier.POLL_INTERVAL, notifier.poll),
            )
        )

        port = await stack.enter_async_context(
            grpc_server.serve(
                api,
                idempotency,
                config.service,
                _make_lifecycle(components, slots, starter, notifier, service_metrics),
                outer=[interceptors.RequestContextInterceptor(), rpc_metrics],
            )
        )
        log.info(
            "serving",
            address=config.service.listen,
            port=port,
            metrics=":".join(map(str, config.service.metrics_address)),
        )
        await stop.wait()
        log.info("stopping")


async def _relay_changes(components: wiring.Components, notifier: change_notifier.ChangeNotifier) -> None:
    await components.changes.relay(
        lambda guilds, users, position: notifier.notify(guilds, users, events.lag(position, components.clock()))
    )


async def _unless_stopped(
    opening: Coroutine[Any, Any, wiring.Components], stop: asyncio.Event
) -> wiring.Components | None:
    """Return the components; None when *stop* is set while the process waits for Redis."""
    opened, stopped = asyncio.create_task(opening), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({opened, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return opened.result() if opened.done() else None
    finally:
        for task in (opened, stopped):
            task.cancel()
        await asyncio.wait({opened, stopped})


def _make_lifecycle(
    components: wiring.Components,
    slots: streams.StreamSlots,
    starter: start_job.StartJob,
    notifier: change_notifier.ChangeNotifier,
    service_metrics: metrics.ServiceMetrics,
) -> grpc_server.Lifecycle:
    def end_streams() -> None:
        slots.drain()
        components.events.wake_all_watchers()
        notifier.wake_all()
        starter.release_waiters()

    def show_credentials(credentials: tls.ServerCredentials) -> None:
        service_metrics.certificate_expiry.set_function(lambda: credentials.expiry)
        service_metrics.file_refused.set_function(lambda: float(credentials.refused))

    return grpc_server.Lifecycle(end_streams, components.unready_reason, show_credentials)


def _make_use_cases(
    config: settings.Settings,
    components: wiring.Components,
    starter: start_job.StartJob,
    service_metrics: metrics.ServiceMetrics,
) -> servicer.UseCases:
    browser = browse.Browse(
        components.dependencies,
        config.indexing,
        encode_channel=convert.encoded_channel,
        encode_guild=convert.encoded_guild,
        monotonic=time.monotonic,
        observe_ages=service_metrics.read_age.observe_all,
    )
    return servicer.UseCases(
        start=starter,
        watch=watch_job.JobWatcher(components.dependencies),
        browse=browser,
        watch_index=watch_index.IndexWatcher(
            components.dependencies,
            config.indexing,
            browser.cache,
            encode_guild=convert.watched_guild,
            monotonic=time.monotonic,
            observe_lag=service_metrics.watch_index_lag.observe,
        ),
        control=(controls := control_job.JobControl(components.dependencies, config.indexing)),
        consent=control_credential.CredentialControl(
            components.dependencies, config.indexing, components.metrics.indexing, controls
        ),
        erase=erase_user.EraseUser(components.dependencies, controls, components.limiter),
        limits=components.limiter,
        events=components.events,
        clock=components.clock,
    )


def _service_metrics(config: settings.ServiceSettings, to: registry.CollectorRegistry) -> metrics.ServiceMetrics:
    made = metrics.ServiceMetrics(to, interceptors.metrics.METHODS)
    made.authentication_required.set(config.guarded)
    return made


@contextlib.contextmanager
def _serving_metrics(address: web.Address, of: registry.CollectorRegistry) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(web.serving(address, prometheus_client.make_wsgi_app(of)))
        except OSError as error:
            raise grpc_server.CannotListen(
                f"INDEXER_METRICS_PORT: {address[0]}:{address[1]} cannot be bound; is it in use?"
            ) from error
        yield


async def run_until_signal(config: settings.Settings) -> None:
    """Run the service until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve_until(config, stop)
