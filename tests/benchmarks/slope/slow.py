"""A stack whose processes reach one server through links that delay every operation."""

import asyncio
import threading
import urllib.parse
from typing import Self

from devstack import stack
from tests.chaos import links

SERVERS = ("mongodb", "redis")


class SlowStack(stack.Stack):
    """A stack with one link for each process, all to *server*; the links run in a thread of their own."""

    def __init__(self, options: stack.Options, server: str) -> None:
        super().__init__(options)
        self._server = server
        self._links = {name: links.Link(self._upstream, name) for name in [*self._services, *self._workers]}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        for link in self._links.values():
            asyncio.run_coroutine_threadsafe(link.open(), self._loop).result()
        return super().__enter__()

    def __exit__(self, *problem: object) -> None:
        super().__exit__(*problem)
        for link in self._links.values():
            asyncio.run_coroutine_threadsafe(link.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def delay(self, seconds: float) -> None:
        """Make every operation of the server take so many seconds more."""
        for link in self._links.values():
            link.weather.delay = (seconds / 2, seconds / 2)

    def _upstream(self) -> tuple[str, int]:
        parts = urllib.parse.urlsplit({"redis": self.redis_url, "mongodb": self.mongodb_url}[self._server])
        return parts.hostname or "", parts.port or 0

    def _own(self, name: str) -> dict[str, str]:
        port = self._links[name].port
        if self._server == "redis":
            return {"REDIS_URL": f"redis://127.0.0.1:{port}/0"}
        return {"MONGODB_URL": f"mongodb://127.0.0.1:{port}/?directConnection=true"}
