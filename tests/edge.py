"""The real service over a world of fakes: for callers that come through the edge, by method or by wire."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

from prometheus_client import registry

from indexer_service.api import page_tokens, servicer, streams
from indexer_service.interceptors import idempotency, request_context
from indexer_service.interceptors import metrics as rpc_metrics
from indexer_service.server import grpc_server
from indexing import settings
from indexing.ratelimit import limiter
from indexing.telemetry import metrics
from indexing.usecases import control_job, erase_user, start_job, tokens, watch_job
from tests import worlds

KEY = b"k" * settings.KEY_BYTES
SIGNER = page_tokens.Tokens((KEY,))


class NoLimits:
    """Stands for a limiter that has no budget to show."""

    async def snapshot(self, users: tuple[int, ...]) -> list[limiter.BudgetState]:
        """Return nothing."""
        assert users is not None
        return []


def service(world: worlds.World, config: settings.ServiceSettings | None = None) -> servicer.Servicer:
    """Return the API's methods over a world."""
    cases = servicer.Cases(
        start=start_job.StartJob(world.ports, world.rules, world.turner),
        progress=watch_job.JobWatcher(world.ports),
        browse=world.browser,
        control=control_job.JobControl(world.ports, world.rules),
        consent=tokens.ConsentControl(world.ports, control_job.JobControl(world.ports, world.rules)),
        erasure=erase_user.EraseUser(
            world.ports, control_job.JobControl(world.ports, world.rules), worlds.MemoryUserBudgets()
        ),
        limits=cast("limiter.Limiter", NoLimits()),
        events=world.events,
        clock=world.clock,
    )
    places = streams.Streams(config or settings.ServiceSettings(), world.clock)
    return servicer.Servicer(cases, world.users, SIGNER, places)


@contextlib.asynccontextmanager
async def serving(world: worlds.World, **given: Any) -> AsyncIterator[str]:  # noqa: ANN401 -- any setting
    """Serve a world with the real server and all its interceptors; yields the address."""
    wanted: dict[str, Any] = {"listen": "127.0.0.1:0", "drain": 0.0} | given
    config = settings.ServiceSettings(**wanted)
    replays = idempotency.Replays(world.requests, KEY, world.clock)
    seen = metrics.ServiceMetrics(registry.CollectorRegistry(), rpc_metrics.METHODS)
    first = [request_context.Traced(), rpc_metrics.Measured(seen, world.clock)]
    async with grpc_server.serving(service(world, config), replays, config, lambda: None, first=first) as port:
        yield f"127.0.0.1:{port}"
