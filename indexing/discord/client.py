"""
Calls Discord's HTTP API: each attempt takes its own permit, has a timeout, and settles the permit with the result.

aiohttp's own retries on a dropped connection and its redirects are off, because the limiter would not see the second
request. A transient failure is retried once here; after that, the job's later turns retry.

Cost of one call: two Redis commands (take, settle) and one HTTP request.
"""

import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

import aiohttp
import stamina

from indexing import errors, settings
from indexing.discord import payloads, routes
from indexing.domain import model, ports
from indexing.ratelimit import limiter, limits
from indexing.telemetry import metrics, tracing

T = TypeVar("T")
USER_AGENT = "DiscordBot (https://github.com/discord-channel-indexer/discord-channel-indexer, 0.1.0)"
"""Discord asks for this form and may block others (developers/reference.mdx:238, read 2026-08-06)."""
MEMBERS_SCOPE = "guilds.members.read"
PAGE_SIZE = 200
"""Most guilds in one page (resources/user.mdx, Get Current User Guilds)."""
ATTEMPTS = 2
EDGE_PAUSE = 60.0
"""Seconds to pause when the edge blocks this address without a time: our guess, it trades minutes."""
EDGE_BLOCK_CODE = 40333
"""Discord's JSON code for a request that its edge refuses (topics/opcodes-and-status-codes.mdx, read 2026-08-06)."""
WRONG_TOKEN_CODES = {20001, 20002}
"""Codes for a token of the wrong kind: the call is wrong, and the guild may be accessible (same page)."""
MAX_PAUSE = 86_400.0
"""Longest pause that is accepted, in seconds: our guess, the longest reported bans last a day."""


@contextlib.asynccontextmanager
async def open_session(config: settings.DiscordSettings) -> AsyncIterator[aiohttp.ClientSession]:
    """Open the process's HTTP session: kept-alive connections, no cookies, no redirects, no hidden retries."""
    connector = aiohttp.TCPConnector(limit=config.connections, ttl_dns_cache=300)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=config.timeout),
        headers={"User-Agent": USER_AGENT},
    ) as session:
        session._retry_connection = False  # noqa: SLF001 -- aiohttp has no public switch; a test holds it
        yield session


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """
    One request, with what the limiter needs to know of it.

    Attributes:
        identity: Owner of the token, as in `limits.Charge`.
        params: The query.
        precondition: Awaited between permit and request; the call ends without a request when it returns False.
        form: Form fields of a POST; None makes a GET.
    """

    route: routes.Route
    authorization: str = dataclasses.field(repr=False)
    identity: str
    purpose: ports.Purpose
    params: Mapping[str, str] = dataclasses.field(default_factory=dict)
    precondition: ports.Precondition | None = None
    form: Mapping[str, str] | None = dataclasses.field(default=None, repr=False)


class _PreconditionFailed(Exception):
    """The call's precondition returned False; nothing was sent."""


@dataclasses.dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response with its complete body; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class DiscordClient:
    """
    Discord's HTTP API as port `ports.Discord`, which lists the errors.

    Attributes:
        max_call_time: Longest time of one request, in seconds.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        permits: limiter.Limiter,
        config: settings.DiscordSettings,
        discord_metrics: metrics.DiscordMetrics,
    ) -> None:
        self.max_call_time = config.timeout
        self._session = session
        self._permits = permits
        self._config = config
        self._metrics = discord_metrics
        self._retry = stamina.AsyncRetryingCaller(
            attempts=ATTEMPTS, timeout=None, wait_initial=0.2, wait_jitter=0.3
        ).on(errors.DiscordTransient)

    async def user_guilds(self, credential: ports.Credential, purpose: ports.Purpose) -> list[model.UserGuild]:
        """Return all guilds of the credential's user, with approximate member counts."""
        params = {"with_counts": "true", "limit": str(PAGE_SIZE)}
        call = self._user_call(routes.user_guilds(), credential, purpose, params)
        return await self._retry(self._fetch, call, payloads.decode_guilds)

    async def bot_guilds(self, purpose: ports.Purpose) -> frozenset[int]:
        """Return the ids of all guilds in which the bot is installed; one call for each 200."""
        found: set[int] = set()
        after = 0
        while True:
            page = await self._bot_guilds_after(after, purpose)
            found.update(page)
            if len(page) < PAGE_SIZE or max(page) <= after:
                return frozenset(found)
            after = max(page)

    async def bot_is_in(self, guild_id: int, purpose: ports.Purpose) -> bool:
        """Return whether the bot is installed in the guild, by the page of guilds that begins at the guild's id."""
        return guild_id in await self._bot_guilds_after(guild_id - 1, purpose)

    async def guild_channels(
        self, guild_id: int, purpose: ports.Purpose, precondition: ports.Precondition
    ) -> list[model.Channel] | None:
        """Return all channels of the guild that the bot may view; None when *precondition* returns False."""
        call = dataclasses.replace(self._bot_call(routes.guild_channels(guild_id), purpose), precondition=precondition)
        try:
            return await self._retry(self._fetch, call, lambda body: payloads.decode_channels(body, guild_id))
        except _PreconditionFailed:
            return None

    async def member_roles(
        self, user_id: int, guild_id: int, credential: ports.Credential, purpose: ports.Purpose
    ) -> tuple[int, ...]:
        """Return the user's role ids, with the user's own token if its scopes allow that, else with the bot's."""
        if MEMBERS_SCOPE in credential.scopes:
            call = self._user_call(routes.own_member(guild_id), credential, purpose)
            return await self._retry(self._fetch, call, payloads.decode_roles)
        try:
            call = self._bot_call(routes.guild_member(guild_id, user_id), purpose)
            return await self._retry(self._fetch, call, payloads.decode_roles)
        except errors.TokenRefused as refusal:
            # The refused token is the bot's; the user's is valid.
            raise errors.BotTokenRefused(refusal.status, refusal.code) from refusal

    async def _bot_guilds_after(self, guild_id: int, purpose: ports.Purpose) -> list[int]:
        params = {"after": str(guild_id), "limit": str(PAGE_SIZE)}
        call = self._bot_call(routes.user_guilds(), purpose, params)
        return [guild.guild_id for guild in await self._retry(self._fetch, call, payloads.decode_guilds)]

    def _bot_call(self, route: routes.Route, purpose: ports.Purpose, params: Mapping[str, str] | None = None) -> Call:
        return Call(route, f"Bot {self._config.bot_token.get_secret_value()}", "bot", purpose, params or {})

    def _user_call(
        self,
        route: routes.Route,
        credential: ports.Credential,
        purpose: ports.Purpose,
        params: Mapping[str, str] | None = None,
    ) -> Call:
        return Call(route, f"Bearer {credential.access_token}", f"user:{purpose.user_id}", purpose, params or {})

    async def _fetch(self, call: Call, decode: Callable[[bytes], T]) -> T:
        response = await self.send_once(call)
        if response.status != 200:  # noqa: PLR2004 -- HTTP OK
            raise translate_error(response)
        try:
            return decode(response.body)
        except (ValueError, RecursionError) as error:
            raise errors.DiscordTransient("the response is not the expected JSON") from error

    async def send_once(self, call: Call) -> Response:
        """
        Send one request under one permit, and settle or return the permit; the response may have any status.

        Raises:
            errors.RateLimited, errors.LimiterUnavailable: Nothing was sent.
            errors.DiscordTransient: Discord may or may not have received the request.
        """
        charge = limits.Charge(
            lane=call.purpose.lane,
            route=call.route.template,
            identity=call.identity,
            user_id=call.purpose.user_id,
            major=call.route.guild_id,
            waiter=call.purpose.waiter,
        )
        with tracing.span("permit"):
            permit = await self._permits.take(charge, max_wait=call.purpose.max_wait)
        if call.precondition is not None and not await self._check_precondition(call.precondition, permit):
            raise _PreconditionFailed
        if permit.expired(time.monotonic()):
            await self._permits.give_back(permit)
            raise errors.RateLimited("global", retry_after=0.0, why="fence")
        started = time.monotonic()
        try:
            with tracing.span(call.route.template) as span:
                response = await self._send(call)
                span.set_attribute("http.response.status_code", response.status)
        except aiohttp.ClientConnectorError as error:
            await self._permits.give_back(permit)
            self._count_call(call, "unreachable", time.monotonic() - started)
            raise errors.DiscordTransient("Discord cannot be reached") from error
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            took = time.monotonic() - started
            await self._permits.settle(permit, limiter.Answer(status=None, headers={}, round_trip=took))
            self._count_call(call, "lost", took)
            raise errors.DiscordTransient("no complete response arrived") from error
        took = time.monotonic() - started
        await self._permits.settle(permit, _answer_for_limiter(response, took))
        self._count_call(call, str(response.status), took)
        return response

    def _count_call(self, call: Call, status: str, seconds: float) -> None:
        self._metrics.count(call.route.template, status, seconds, lane=call.purpose.lane.value)

    async def _check_precondition(self, precondition: ports.Precondition, permit: limiter.Permit) -> bool:
        """Return the precondition's result; the permit is given back when it is False or cannot be determined."""
        holds = False
        try:
            holds = await precondition()
        finally:
            if not holds:
                await self._permits.give_back(permit)
        return holds

    async def _send(self, call: Call) -> Response:
        async with self._session.request(
            "GET" if call.form is None else "POST",
            self._config.api_base + call.route.path,
            params=call.params,
            data=call.form,
            headers={"Authorization": call.authorization},
            allow_redirects=False,
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(2**16):
                body += chunk
                if len(body) > self._config.max_body_bytes:
                    raise ValueError("the response body is too large")
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Response(response.status, headers, bytes(body))


def _answer_for_limiter(response: Response, round_trip: float) -> limiter.Answer:
    error = payloads.decode_error(response.body) if response.status in {403, 429} else None
    return limiter.Answer(
        status=response.status,
        headers=response.headers,
        round_trip=round_trip,
        body_retry_after=error.retry_after if error else None,
        body_global=error.is_global if error else False,
        is_discord=(error is not None and error.code != EDGE_BLOCK_CODE) or response.status not in {403, 429},
    )


def translate_error(response: Response) -> errors.IndexerError:
    """Return the error for a status and Discord's JSON code; topics/opcodes-and-status-codes.mdx lists the codes."""
    body = payloads.decode_error(response.body)
    code = body.code if body else 0
    if response.status == 401:  # noqa: PLR2004 -- HTTP Unauthorized, whatever the code
        return errors.TokenRefused(response.status, code)
    if response.status in {403, 429} and (body is None or code == EDGE_BLOCK_CODE):
        return errors.EgressBlocked(response.status, _header_retry_after(response, default=EDGE_PAUSE))
    if response.status == 429 and body is not None:  # noqa: PLR2004 -- HTTP Too Many Requests
        scope = "global" if body.is_global else response.headers.get("x-ratelimit-scope", "user")
        wait = (
            _header_retry_after(response, default=1.0)
            if body.retry_after is None
            else _bound_wait(body.retry_after, default=1.0)
        )
        return errors.RateLimited("route" if scope != "global" else scope, retry_after=wait, why=f"429 {scope}")
    # Without Discord's JSON, a 404 is a page of an intermediary and says nothing about a guild or member.
    if response.status >= 500 or response.status == 408 or (response.status == 404 and body is None):  # noqa: PLR2004 -- HTTP
        return errors.DiscordTransient(f"Discord answered {response.status}")
    kind = {403: errors.NoAccess, 404: errors.Gone}.get(response.status, errors.DiscordRefused)
    return (errors.DiscordRefused if code in WRONG_TOKEN_CODES else kind)(response.status, code)


def _header_retry_after(response: Response, *, default: float) -> float:
    try:
        return _bound_wait(float(response.headers["retry-after"]), default=default)
    except (KeyError, ValueError):
        return default


def _bound_wait(seconds: float, *, default: float) -> float:
    """Return a wait that Discord names, at most `MAX_PAUSE`; *default* when it is negative or not a number."""
    return min(seconds, MAX_PAUSE) if seconds >= 0.0 else default
