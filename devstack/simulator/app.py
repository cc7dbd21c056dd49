"""Assembles a simulator and serves it on loopback until a signal."""

import asyncio
import datetime
import os
import signal
import sys
from typing import Any

import msgspec
from aiohttp import web

from devstack.simulator import (
    clock,
    control,
    faults,
    foreign_traffic,
    gateway,
    gateway_sessions,
    http_handler,
    invalid_requests,
    limits,
    models,
    network,
    options,
    request_pipeline,
    routes,
    state,
    stats,
    tokens,
    world,
)

HOST = "127.0.0.1"
"""The default address: only programs on the same machine can use the simulator."""

GRACE = 0.2
"""Seconds in which open requests may finish after a signal."""

PARENT_CHECK = 0.5
"""Seconds between two checks whether the parent process still exists."""


def make_state(chosen: options.Options, time_source: clock.Clock) -> state.SimulatorState:
    """Return the state of a new simulator."""
    simulated = world.World(_world_spec(chosen, time_source))
    client = (chosen.client_id, chosen.client_secret)
    issued = tokens.Tokens(frozenset(simulated.user_ids), chosen.bot_token, client, time_source)
    issued.lifetime = float(chosen.token_lifetime)
    enforced = {"all": models.NAMES, "none": ()}.get(chosen.enforce, (chosen.enforce,))
    return state.SimulatorState(
        clock=time_source,
        world=simulated,
        tokens=issued,
        sizes=limits.BudgetSizes(bot=chosen.global_limit, user=chosen.user_limit, routes=dict(chosen.route_limit)),
        limiter=limits.Limiter(chosen.seed, enforced),
        invalid=invalid_requests.InvalidRequests(chosen.invalid_limit),
        faults=faults.Faults(chosen.seed),
        foreign=foreign_traffic.ForeignTraffic(),
        network=network.Network(chosen.latency, chosen.seed),
        stats=stats.Stats(),
        gateway=gateway_sessions.Hub(simulated, time_source, _gateway_options(chosen), chosen.seed),
    )


def make_application(simulator: state.SimulatorState, about: dict[str, Any]) -> web.Application:
    """Return the web application: the control endpoints, and Discord's API for all other paths."""
    own = web.Application(middlewares=[control.report_errors])
    own.add_routes(control.Control(simulator, about).routes())
    app = web.Application(client_max_size=4 * 2**20)
    app.add_subapp("/_sim", own)
    app.router.add_get(gateway.PATH, gateway.Gateway(simulator).handle)
    app.router.add_route(
        "*", "/{tail:.*}", http_handler.HttpHandler(simulator, request_pipeline.RequestPipeline(simulator)).handle
    )
    return app


async def serve(chosen: options.Options) -> None:
    """Serve until SIGTERM or SIGINT; prints one line of JSON when ready."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    simulator = make_state(chosen, clock.SystemClock())
    about: dict[str, Any] = {}
    runner = await listen(make_application(simulator, about), chosen.port, chosen.host)
    about |= _describe(chosen, simulator, runner.addresses[0][1])
    sys.stdout.write(msgspec.json.encode(about).decode() + "\n")
    sys.stdout.flush()
    watch = asyncio.create_task(_stop_with_parent(os.getppid(), stop)) if chosen.with_parent else None
    try:
        await stop.wait()
    finally:
        if watch is not None:
            watch.cancel()
        await runner.cleanup()


async def listen(app: web.Application, port: int, host: str = HOST) -> web.AppRunner:
    """Listen on the port; the caller cleans up the runner."""
    # No handler is cancelled when its client disconnects: a request that was sent counts at Discord.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE, handler_cancellation=False)
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=1024).start()
    return runner


async def _stop_with_parent(parent: int, stop: asyncio.Event) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - there is no portable event for a parent's end
        await asyncio.sleep(PARENT_CHECK)
    stop.set()


def _describe(chosen: options.Options, simulator: state.SimulatorState, port: int) -> dict[str, Any]:
    root = f"http://{chosen.host}:{port}"
    return {
        "port": port,
        "base_url": root + routes.PREFIX,
        "token_url": f"{root}/api/oauth2/token",
        "control_url": f"{root}/_sim",
        "bot_token": chosen.bot_token,
        "client_id": chosen.client_id,
        "client_secret": chosen.client_secret,
        "users": control.list_users(simulator, 0, chosen.show_users),
    }


def _gateway_options(chosen: options.Options) -> gateway_sessions.GatewayOptions:
    return gateway_sessions.GatewayOptions(
        heartbeat=chosen.gateway_heartbeat,
        shards=chosen.gateway_shards,
        concurrency=chosen.gateway_concurrency,
        identifies=chosen.gateway_identifies,
        identify_window=chosen.gateway_identify_window,
        session_life=chosen.gateway_session_life,
        members=chosen.gateway_members,
    )


def _world_spec(chosen: options.Options, time_source: clock.Clock) -> world.WorldSpec:
    today = chosen.today or datetime.datetime.fromtimestamp(time_source.wall(), tz=datetime.UTC).date()
    midnight = datetime.datetime.combine(today, datetime.time(), tzinfo=datetime.UTC)
    return world.WorldSpec(
        seed=chosen.seed,
        users=chosen.users,
        guilds_per_user=chosen.guilds_per_user,
        guilds=chosen.guilds,
        no_sharing=chosen.no_sharing,
        channels_per_guild=float(chosen.channels_per_guild),
        without_bot=chosen.without_bot,
        now_ms=int(midnight.timestamp() * 1000),
    )
