"""The real service over a world of fakes, for tests that call its methods directly or over a connection."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

from prometheus_client import registry

from indexer_service import interceptors
from indexer_service.api import page_tokens, servicer, streams
from indexer_service.server import grpc_server
from indexing import settings
from indexing.ratelimit import limiter
from indexing.telemetry import metrics
from indexing.usecases import control_job, erase_user, start_job, tokens, watch_job
from tests import worlds

KEY = b"k" * settings.KEY_BYTES
TOKENS = page_tokens.PageTokens((KEY,))


class NoLimits:
    """A limiter without budgets."""

    async def snapshot(self, users: tuple[int, ...]) -> list[limiter.BudgetState]:
        """Return nothing."""
        assert users is not None
        return []


def service(world: worlds.World, config: settings.ServiceSettings | None = None) -> servicer.Servicer:
    """Return the methods of the API over a world."""
    use_cases = servicer.UseCases(
        start=start_job.StartJob(world.ports, world.rules, world.turner),
        watch=watch_job.JobWatcher(world.ports),
        browse=world.browser,
        control=control_job.JobControl(world.ports, world.rules),
        consent=tokens.CredentialControl(world.ports, control_job.JobControl(world.ports, world.rules)),
        erase=erase_user.EraseUser(
            world.ports, control_job.JobControl(world.ports, world.rules), worlds.MemoryUserBudgets()
        ),
        limits=cast("limiter.Limiter", NoLimits()),
        events=world.events,
        clock=world.clock,
    )
    slots = streams.StreamSlots(config or settings.ServiceSettings(), world.clock)
    return servicer.Servicer(use_cases, world.users, TOKENS, slots)


@contextlib.asynccontextmanager
async def serving(world: worlds.World, **given: Any) -> AsyncIterator[str]:  # noqa: ANN401 -- any setting
    """Serve a world with the real server and all its interceptors; yields the address."""
    wanted: dict[str, Any] = {"listen": "127.0.0.1:0", "drain": 0.0} | given
    config = settings.ServiceSettings(**wanted)
    idempotency = interceptors.IdempotencyInterceptor(world.requests, KEY, world.clock)
    service_metrics = metrics.ServiceMetrics(registry.CollectorRegistry(), interceptors.metrics.METHODS)
    outer: list[interceptors.Interceptor] = [
        interceptors.RequestContextInterceptor(),
        interceptors.MetricsInterceptor(service_metrics, world.clock),
    ]
    async with grpc_server.serve(service(world, config), idempotency, config, lambda: None, outer=outer) as port:
        yield f"127.0.0.1:{port}"
