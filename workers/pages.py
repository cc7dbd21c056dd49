"""/metrics, /livez and /readyz of a worker, served from inside its process so that they last through the drain."""

import contextlib
import threading
import wsgiref.simple_server
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import prometheus_client
from prometheus_client import exposition, registry


@contextlib.contextmanager
def serving(
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
