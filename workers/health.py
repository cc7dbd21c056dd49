"""
Whether the event loop of this process goes on, for its liveness.

/metrics, /livez and /readyz of a worker, served from inside its process so that they last through the drain.
"""

import asyncio
import contextlib
import threading
import time
import wsgiref.simple_server
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import prometheus_client
from prometheus_client import exposition, registry

TICK = 1.0
STALE = 30.0
"""Seconds without a tick of the event loop, or without a look for messages, after which the process counts as stuck."""


class Watchdog:
    """Beats as a duty of the loop; read from any thread."""

    def __init__(self) -> None:
        self._beaten = 0.0

    async def record_heartbeats(self) -> None:
        """Beat until cancelled."""
        while True:
            self._beaten = time.monotonic()
            await asyncio.sleep(TICK)

    def live(self) -> bool:
        """Return whether it beats; before the first time it is not missed."""
        return not self._beaten or time.monotonic() - self._beaten < STALE


@contextlib.contextmanager
def serve_endpoints(
    port: int,
    metrics: registry.CollectorRegistry,
    *,
    live: Callable[[], bool],
    ready: Callable[[], bool],
    before: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """
    Serve on all addresses until the block ends; port 0 serves nothing. *before* is called before each scrape.

    Raises:
        OSError: The port is taken.
    """
    if not port:
        yield
        return
    scrape = prometheus_client.make_wsgi_app(metrics)
    checks = {"/livez": live, "/readyz": ready}

    def app(environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        check = checks.get(environ["PATH_INFO"])
        if check is None:
            before()
            return scrape(environ, respond)  # type: ignore[no-any-return]  # untyped there
        good = check()
        respond("200 OK" if good else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"ok\n" if good else b"not ok\n"]

    server = wsgiref.simple_server.make_server(
        "",
        port,
        app,
        exposition.ThreadingWSGIServer,
        handler_class=exposition._SilentHandler,  # noqa: SLF001 -- no log
    )
    thread = threading.Thread(target=server.serve_forever, name="web", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
