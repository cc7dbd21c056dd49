"""
Connections to the primary, for asyncio and for threads, through each kind of failover.

- The address moves (a Service, a DNS name, a proxy): a connection that is kept leads to the demoted server. It closes
  at the first reply that says so, or that the server cannot serve yet; the next connection goes to the new primary.
- Sentinel: each connection asks the Sentinels for the primary's address, and leaves a server that the process knows to
  be primary no more (redis_sentinel.py).

A new connection checks the server's role, because a replica answers reads, also blocking ones. redis-py's own Sentinel
pools are not used: they do not block callers at their size, and repeat a failed command at the old address.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.connection
import redis.exceptions

from indexing import settings
from indexing.messaging import redis_sentinel

PRIMARY_ROLES = frozenset({"master", "primary"})
NOT_SERVING = re.compile(
    r"\b(READONLY|MASTERDOWN|UNBLOCKED|LOADING|NOREPLICAS|CLUSTERDOWN)\b|(?i:\bread[ -]only (?:replica|slave)\b)"
)
"""
The words, anywhere in the text of an error, of a server that refuses a command because of its role or state.

Redis 6.2 reports a refusal inside a script as "ERR Error running script (...): -READONLY ...", proxies add words of
their own. Errors that say nothing about role or state (MISCONF, OOM, NOPERM, NOSCRIPT, BUSY) keep the connection.
"""


class NotPrimary(redis.exceptions.ConnectionError):
    """
    The server is no primary that can serve. The command had no effect, so it may be repeated.

    Attributes:
        word: The server's word for it, such as READONLY.
    """

    def __init__(self, word: str, text: str) -> None:
        super().__init__(text)
        self.word = word


def error_text(error: BaseException) -> str:
    """Return the whole text of a server's error. redis-py cuts off the first word of those it has a class for."""
    word = getattr(error, "status_code", None)
    return f"{word} {error}" if word else str(error)


def refusal_of(error: BaseException) -> NotPrimary | None:
    """Return the refusal that an error of the server is because of its role or state; None for any other error."""
    found = NOT_SERVING.search(error_text(error))
    return NotPrimary(found[1] or "READONLY", error_text(error)) if found else None


class ServerFacts:
    """What a server says of itself in its reply to HELLO. Empty where a proxy refuses the command."""

    def __init__(self, reply: object = None) -> None:
        flat = reply if isinstance(reply, list) else []
        pairs = reply.items() if isinstance(reply, dict) else zip(flat[::2], flat[1::2], strict=False)
        facts = {redis_sentinel.text_of(name): redis_sentinel.text_of(value) for name, value in pairs}
        self.role = facts.get("role", "")
        self.mode = facts.get("mode", "")
        self.version = facts.get("version", "")

    def check_role(self, address: str) -> None:
        """Raise NotPrimary if the server has another role. A Sentinel is a mistake in the URL, not another role."""
        if self.role and self.role not in PRIMARY_ROLES and self.mode != "sentinel":
            raise NotPrimary("READONLY", f"{address} is a {self.role}")


class _Follows:
    """Mixin for asyncio's connection classes; see the module. *find* returns the primary's address."""

    def __init__(self, *, find: redis_sentinel.AsyncPrimaryFinder | None = None, **options: Any) -> None:  # noqa: ANN401 -- redis-py's
        self._find = find
        self.facts = ServerFacts()
        super().__init__(**options)

    async def _connect(self) -> None:
        if self._find is not None:
            self.host, self.port = await self._find()
        await super()._connect()  # type: ignore[misc]  # the connection's

    async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 -- redis-py's
        await super().on_connect_check_health(check_health)  # type: ignore[misc]  # as above
        connection: Any = self
        await connection.send_command("HELLO", check_health=False)
        try:
            self.facts = ServerFacts(await self.read_response())
        except redis.exceptions.ResponseError:
            return
        self.facts.check_role(connection._host_error())  # noqa: SLF001 -- host and port, or the path

    async def send_packed_command(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 -- redis-py's
        connection: Any = self
        if self._find is not None and connection.is_connected and self._find.has_moved(self.host, self.port):
            await connection.disconnect(nowait=True)
        await super().send_packed_command(*args, **options)  # type: ignore[misc]  # as above; it connects again

    async def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 -- redis-py's
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]  # as above
        except (redis.exceptions.BusyLoadingError, redis.exceptions.ResponseError) as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]  # as above
            raise refusal from error


class _BlockingFollows:
    """The same for connections of threads. A timeout is raised as ConnectionError: Dramatiq handles no other error."""

    def __init__(self, *, find: redis_sentinel.PrimaryFinder | None = None, **options: Any) -> None:  # noqa: ANN401 -- redis-py's
        self._find = find
        self.facts = ServerFacts()
        super().__init__(**options)

    def _connect(self) -> Any:  # noqa: ANN401 -- a socket
        if self._find is not None:
            self.host, self.port = self._find()
        return super()._connect()  # type: ignore[misc]  # the connection's

    def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 -- redis-py's
        super().on_connect_check_health(check_health)  # type: ignore[misc]  # as above
        connection: Any = self
        connection.send_command("HELLO", check_health=False)
        try:
            self.facts = ServerFacts(self.read_response())
        except redis.exceptions.ResponseError:
            return
        self.facts.check_role(connection._host_error())  # noqa: SLF001 -- host and port, or the path

    def connect_check_health(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 -- redis-py's
        with _timeouts_as_connection_errors():
            super().connect_check_health(*args, **options)  # type: ignore[misc]  # as above

    def send_packed_command(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 -- redis-py's
        connection: Any = self
        if self._find is not None and connection.is_connected and self._find.has_moved(self.host, self.port):
            connection.disconnect()
        with _timeouts_as_connection_errors():
            super().send_packed_command(*args, **options)  # type: ignore[misc]  # as above

    def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 -- redis-py's
        try:
            with _timeouts_as_connection_errors():
                return super().read_response(*args, **options)  # type: ignore[misc]  # as above
        except (redis.exceptions.BusyLoadingError, redis.exceptions.ResponseError) as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            self.disconnect()  # type: ignore[attr-defined]  # as above
            raise refusal from error


@contextlib.contextmanager
def _timeouts_as_connection_errors() -> Iterator[None]:
    try:
        yield
    except redis.exceptions.TimeoutError as error:
        raise redis.exceptions.ConnectionError(str(error)) from error


class Connection(_Follows, redis.asyncio.Connection):
    """TCP, for asyncio."""


class TlsConnection(_Follows, redis.asyncio.SSLConnection):
    """TLS, for asyncio."""


class UnixConnection(_Follows, redis.asyncio.UnixDomainSocketConnection):
    """A Unix socket, for asyncio."""


class BlockingConnection(_BlockingFollows, redis.Connection):
    """TCP, for threads."""


class BlockingTlsConnection(_BlockingFollows, redis.SSLConnection):
    """TLS, for threads."""


class BlockingUnixConnection(_BlockingFollows, redis.UnixDomainSocketConnection):
    """A Unix socket, for threads."""


CLASSES: dict[type, type] = {
    redis.asyncio.Connection: Connection,
    redis.asyncio.SSLConnection: TlsConnection,
    redis.asyncio.UnixDomainSocketConnection: UnixConnection,
    redis.Connection: BlockingConnection,
    redis.SSLConnection: BlockingTlsConnection,
    redis.UnixDomainSocketConnection: BlockingUnixConnection,
}
"""Ours in place of redis-py's."""


def connection_options(config: settings.RedisSettings) -> dict[str, Any]:
    """Return the options of a pool of asyncio's connections: those of the URL, and the class."""
    return _options(config, redis.asyncio.connection.parse_url, redis_sentinel.AsyncPrimaryFinder)


def blocking_connection_options(config: settings.RedisSettings) -> dict[str, Any]:
    """Return the options of a pool of connections for threads; see `connection_options`."""
    return _options(config, redis.connection.parse_url, redis_sentinel.PrimaryFinder)


def _options(config: settings.RedisSettings, parse: Callable[..., Any], finder: Callable[..., Any]) -> dict[str, Any]:
    sentinel = config.sentinel
    options = dict(parse(config.url.get_secret_value() if sentinel is None else sentinel.server))
    if sentinel is not None:
        del options["host"], options["port"]
        options["find"] = finder(sentinel)
    default = redis.asyncio.Connection if finder is redis_sentinel.AsyncPrimaryFinder else redis.Connection
    return options | {"connection_class": CLASSES[options.get("connection_class", default)]}
