"""
Liveness of the event loop, and the web server with /metrics, /livez and /readyz inside a worker process.

The server runs in a thread of its own, so it answers while the loop is blocked and until the end of the drain.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import prometheus_client

from indexing.telemetry import web

HEARTBEAT_INTERVAL = 1.0
STALE = 30.0
"""Seconds without a heartbeat, of the event loop or of a queue consumer, after which the process counts as stuck."""


class Watchdog:
    """Detects a blocked event loop: a task of the loop records heartbeats, and any thread may check them."""

    def __init__(self) -> None:
        self._last_heartbeat = 0.0

    async def record_heartbeats(self) -> None:
        """Record heartbeats until cancelled."""
        while True:
            self._last_heartbeat = time.monotonic()
            await asyncio.sleep(HEARTBEAT_INTERVAL)

    def is_live(self) -> bool:
        """Return whether the last heartbeat is recent, or none is expected yet."""
        return not self._last_heartbeat or time.monotonic() - self._last_heartbeat < STALE


def serving_endpoints(
    address: web.Address,
    registry: prometheus_client.CollectorRegistry,
    *,
    live: Callable[[], bool],
    unready: Callable[[], str],
    before_scrape: Callable[[], None] = lambda: None,
) -> contextlib.AbstractContextManager[None]:
    """
    Serve until the block ends. Port 0 serves nothing.

    Args:
        address: Host and port, see `web.serving`.

        registry: What /metrics shows.

        live: Whether /livez passes.

        unready: Returns why /readyz fails, which it shows; empty when it passes.

        before_scrape: Called before each response of /metrics.

    Raises:
        OSError: The address cannot be bound.
    """
    scrape = prometheus_client.make_wsgi_app(registry)
    checks = {"/livez": lambda: "" if live() else "not live", "/readyz": unready}

    def app(environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        check = checks.get(environ["PATH_INFO"])
        if check is None:
            before_scrape()
            return scrape(environ, respond)  # type: ignore[no-any-return]  # untyped there
        problem = check()
        respond("503 Service Unavailable" if problem else "200 OK", [("Content-Type", "text/plain")])
        return [f"{problem or 'ok'}\n".encode()]

    return web.serving(address, app)
