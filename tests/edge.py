"""The real service over fakes, for tests that call its methods directly or over a connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

from prometheus_client import registry

from indexer_service import interceptors
from indexer_service.api import convert, page_tokens, servicer, streams
from indexer_service.server import grpc_server
from indexing import settings
from indexing.ratelimit import limiter
from indexing.telemetry import metrics
from indexing.usecases import (
    control_credential,
    control_job,
    erase_user,
    memberships,
    start_job,
    watch_index,
    watch_job,
)
from tests import fake_backend

KEY = b"k" * settings.KEY_BYTES
TOKENS = page_tokens.PageTokens((KEY,))


class NoLimits:
    """A limiter without budgets."""

    def check_caller(self, name: str) -> None:
        """Stop nobody."""

    async def snapshot(self, users: tuple[int, ...]) -> list[limiter.BudgetState]:
        """Return nothing."""
        assert users is not None
        return []


def service(backend: fake_backend.FakeBackend, config: settings.ServiceSettings | None = None) -> servicer.Servicer:
    """Return the methods of the API over a backend."""
    browser = backend.browser
    use_cases = servicer.UseCases(
        start=start_job.StartJob(backend.deps, backend.config, backend.turn_runner),
        watch=watch_job.JobWatcher(backend.deps),
        browse=browser,
        watch_index=watch_index.IndexWatcher(
            backend.deps,
            backend.config,
            browser.cache,
            encode_guild=convert.watched_guild,
            monotonic=lambda: asyncio.get_running_loop().time(),
        ),
        control=control_job.JobControl(backend.deps, backend.config),
        consent=control_credential.CredentialControl(
            backend.deps, backend.config, backend.metrics, control_job.JobControl(backend.deps, backend.config)
        ),
        erase=erase_user.EraseUser(
            backend.deps, control_job.JobControl(backend.deps, backend.config), fake_backend.MemoryUserBudgets()
        ),
        limits=cast("limiter.Limiter", NoLimits()),
        events=backend.events,
        clock=backend.clock,
    )
    slots = streams.StreamSlots(config or settings.ServiceSettings(), backend.clock)
    return servicer.Servicer(use_cases, backend.users, TOKENS, slots)


@contextlib.asynccontextmanager
async def serving(backend: fake_backend.FakeBackend, **given: Any) -> AsyncIterator[str]:  # noqa: ANN401 -- any setting
    """Serve a backend with the real server and all its interceptors; yields the address."""
    wanted: dict[str, Any] = {"listen": "127.0.0.1:0", "drain": 0.0} | given
    config = settings.ServiceSettings(**wanted)
    idempotency = interceptors.IdempotencyInterceptor(
        backend.requests, [KEY], backend.clock, memberships.Memberships(backend.deps).load
    )
    service_metrics = metrics.ServiceMetrics(registry.CollectorRegistry(), interceptors.metrics.METHODS)
    outer: list[interceptors.Interceptor] = [
        interceptors.RequestContextInterceptor(),
        interceptors.MetricsInterceptor(service_metrics),
    ]
    async with grpc_server.serve(
        service(backend, config), idempotency, config, grpc_server.Lifecycle(), outer=outer
    ) as port:
        yield f"127.0.0.1:{port}"
