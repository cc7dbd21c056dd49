"""
The address of the primary, by the Sentinels that watch it.

A new connection asks one Sentinel after another until one answers. A process also asks all of them once a second
(`AsyncPrimaryFinder.refresh`), because a failover on command leaves the old primary writable for about ten seconds:
until Sentinel demotes it, a connection that is kept would get permits there that the new primary does not know of.
Answers are compared by the configuration's epoch, which grows with each failover, so that a Sentinel that has not heard
of one leads nobody back.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.connection
import redis.exceptions

from indexing import settings

TIMEOUT = 0.5
"""Longest wait for one Sentinel, in seconds, for its connection and for each reply. Then the next one is asked."""
TIMEOUTS = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
FORGET = 10.0
"""
Seconds after which an epoch that no Sentinel confirms is forgotten.

Sentinels that are set up anew (SENTINEL REMOVE, MONITOR) count from 0.
"""


class PrimaryUnknown(redis.exceptions.ConnectionError):
    """No Sentinel named a primary. The cause is what a reachable Sentinel answered, else the last failure."""


@dataclasses.dataclass(frozen=True, slots=True)
class Primary:
    """An address, and the epoch of the configuration that names it; 0 where a Sentinel does not tell."""

    epoch: int
    host: str
    port: int


class KnownPrimary:
    """The newest answer of any Sentinel to any connection of the process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._newest: Primary | None = None
        self._confirmed_at = 0.0

    def note(self, found: Primary) -> Primary:
        """Note an answer; returns it, or a newer one."""
        now, newest = self._clock(), self._newest
        if newest is not None and found.epoch < newest.epoch and now - self._confirmed_at < FORGET:
            return newest
        self._newest, self._confirmed_at = found, now
        return found

    def has_moved(self, host: str, port: int) -> bool:
        """Return whether the primary is known to be elsewhere."""
        newest = self._newest
        return newest is not None and (newest.host, newest.port) != (host, port)


class _Finder:
    """The Sentinels of one service, in the order in which they are asked. All connections of a pool share it."""

    def __init__(self, url: settings.SentinelUrl) -> None:
        self._service = url.service
        self._urls = list(url.sentinels)
        self.known = KnownPrimary()

    def has_moved(self, host: str, port: int) -> bool:
        """Return whether a connection to this address leads to another server than the primary."""
        return self.known.has_moved(host, port)

    @contextlib.contextmanager
    def _asking_first(self) -> Iterator[str]:
        """Yield the URL of the first Sentinel. It becomes the last one if it fails, or is given up by a caller."""
        url = self._urls[0]
        try:
            yield url
        except BaseException:
            if self._urls[0] == url:
                self._urls.append(self._urls.pop(0))
            raise

    def _commands(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        # The first names a promoted replica before the second does; the second tells the epoch.
        return ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service), ("SENTINEL", "MASTER", self._service)

    def _primary(self, address: Any, about: Any) -> Primary:  # noqa: ANN401 -- redis-py's
        if not address:
            raise PrimaryUnknown(f'Sentinel knows no primary "{self._service}"')
        flat = [part for pair in about.items() for part in pair] if isinstance(about, dict) else list(about)
        facts = dict(zip(map(text_of, flat[::2]), map(text_of, flat[1::2]), strict=False))
        return Primary(int(facts.get("config-epoch", "0")), text_of(address[0]), int(address[1]))


def text_of(value: object) -> str:
    """Return a part of a reply as text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _most_telling(failures: list[Exception]) -> PrimaryUnknown:
    """Return the failure that says most: a refused login before an unknown primary, before no answer."""

    def rank(error: Exception) -> int:
        if isinstance(error, redis.exceptions.AuthenticationError | redis.exceptions.ResponseError):
            return 0
        if "CERTIFICATE" in str(error):
            return 1
        return 2 if isinstance(error, PrimaryUnknown) else 3

    best = min(failures, key=rank)
    if isinstance(best, PrimaryUnknown):
        return best
    found = PrimaryUnknown(f"Sentinel: {getattr(best, 'status_code', None) or ''} {best}")
    found.__cause__ = best
    return found


class AsyncPrimaryFinder(_Finder):
    """Asks the Sentinels for the primary's address, for asyncio."""

    async def __call__(self) -> tuple[str, int]:
        """Return the host and port that the first Sentinel to answer names. Raises PrimaryUnknown."""
        failures: list[Exception] = []
        for _ in range(len(self._urls)):
            try:
                with self._asking_first() as url:
                    newest = self.known.note(await self._ask(url))
                    return newest.host, newest.port
            except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
                failures.append(error)
        raise _most_telling(failures)

    async def refresh(self) -> None:
        """Ask all Sentinels and note their newest answer. Does nothing when none answers."""
        answers = await asyncio.gather(*map(self._ask, self._urls), return_exceptions=True)
        found = [answer for answer in answers if isinstance(answer, Primary)]
        if found:
            self.known.note(max(found, key=lambda primary: primary.epoch))

    async def _ask(self, url: str) -> Primary:
        options: dict[str, Any] = dict(redis.asyncio.connection.parse_url(url))
        connection = options.pop("connection_class", redis.asyncio.Connection)(**options, **TIMEOUTS)
        first, second = self._commands()
        try:
            async with asyncio.timeout(2 * TIMEOUT):
                await connection.connect()
                await connection.send_packed_command(connection.pack_commands([first, second]))
                address = await connection.read_response()
                with contextlib.suppress(redis.exceptions.ResponseError):
                    return self._primary(address, await connection.read_response())
                return self._primary(address, {})
        finally:
            await connection.disconnect(nowait=True)


class PrimaryFinder(_Finder):
    """Asks the Sentinels for the primary's address, for threads."""

    def __call__(self) -> tuple[str, int]:
        """Return the host and port that the first Sentinel to answer names. Raises PrimaryUnknown."""
        failures: list[Exception] = []
        for _ in range(len(self._urls)):
            try:
                with self._asking_first() as url:
                    newest = self.known.note(self._ask(url))
                    return newest.host, newest.port
            except (redis.exceptions.RedisError, OSError) as error:
                failures.append(error)
        raise _most_telling(failures)

    def _ask(self, url: str) -> Primary:
        options: dict[str, Any] = dict(redis.connection.parse_url(url))  # type: ignore[no-untyped-call]  # untyped there
        connection = options.pop("connection_class", redis.Connection)(**options, **TIMEOUTS)
        first, second = self._commands()
        try:
            connection.connect()
            connection.send_packed_command(connection.pack_commands([first, second]))
            address = connection.read_response()
            with contextlib.suppress(redis.exceptions.ResponseError):
                return self._primary(address, connection.read_response())
            return self._primary(address, {})
        finally:
            connection.disconnect()


async def refresh_primary(clients: Iterable[object]) -> None:
    """Ask all Sentinels once, for all of the clients. Clients of a plain URL need nothing."""
    pools: list[Any] = [getattr(client, "connection_pool", None) for client in clients]
    finders = [
        pool.connection_kwargs["find"] for pool in pools if pool is not None and "find" in pool.connection_kwargs
    ]
    leader = next((finder for finder in finders if isinstance(finder, AsyncPrimaryFinder)), None)
    if leader is not None:
        await leader.refresh()
        for finder in finders:
            finder.known = leader.known
