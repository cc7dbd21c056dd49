"""
The only way to Discord: every attempt takes its own permit, has a timeout, and settles with what came back.

aiohttp's own repetition of a request on a dropped connection and redirects are off, because a hidden second request
would be one that no budget knows of. A passing failure is tried once more here; after that, the job's later turns try.

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
PAGE = 200
"""Most guilds in one page (resources/user.mdx, Get Current User Guilds)."""
ATTEMPTS = 2
EDGE_PAUSE = 60.0
"""Seconds to stay away from an edge that blocks us and does not say for how long: our guess, it trades minutes."""
BLOCKED = 40333
"""Discord's JSON code for what its edge refuses (topics/opcodes-and-status-codes.mdx, read 2026-08-06)."""
OUR_FAULT = {20001, 20002}
"""Codes for the wrong kind of token for a route: they say nothing of the guild (same page)."""
LONGEST_PAUSE = 86_400.0
"""Seconds; a longer pause is taken for a mistake: our guess, the longest bans that people report last a day."""


@contextlib.asynccontextmanager
async def open_session(config: settings.DiscordSettings) -> AsyncIterator[aiohttp.ClientSession]:
    """Open the process's one session: kept-alive connections, no cookies, no redirects, no hidden repetition."""
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
    """One request; *form* makes it a POST of form fields, anything else is a GET."""

    route: routes.Route
    authorization: str = dataclasses.field(repr=False)
    identity: str
    purpose: ports.Purpose
    params: Mapping[str, str] = dataclasses.field(default_factory=dict)
    claim: ports.Precondition | None = None
    form: Mapping[str, str] | None = dataclasses.field(default=None, repr=False)


class _NotWanted(Exception):
    """The caller's claim said no."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whole and not too long; headers by their names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class DiscordClient:
    """
    Discord's HTTP API by port `ports.Discord`; its errors are listed there.

    Attributes:
        longest: Longest time of one call, in seconds.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        permits: limiter.Limiter,
        config: settings.DiscordSettings,
        seen: metrics.DiscordMetrics,
    ) -> None:
        self.longest = config.timeout
        self._session = session
        self._permits = permits
        self._config = config
        self._seen = seen
        self._again = stamina.AsyncRetryingCaller(
            attempts=ATTEMPTS, timeout=None, wait_initial=0.2, wait_jitter=0.3
        ).on(errors.DiscordTransient)

    async def user_guilds(self, credential: ports.Credential, purpose: ports.Purpose) -> list[model.UserGuild]:
        """Return all guilds of the credential's user, with approximate member counts."""
        call = self._as_user(routes.user_guilds(), credential, purpose, {"with_counts": "true", "limit": str(PAGE)})
        return await self._again(self._ask, call, payloads.decode_guilds)

    async def bot_guilds(self, purpose: ports.Purpose) -> frozenset[int]:
        """Return the ids of all guilds in which our bot is installed; one call for each 200."""
        found: set[int] = set()
        after = 0
        while True:
            call = self._as_bot(routes.user_guilds(), purpose, {"after": str(after), "limit": str(PAGE)})
            page = [guild.guild_id for guild in await self._again(self._ask, call, payloads.decode_guilds)]
            found.update(page)
            if len(page) < PAGE or max(page) <= after:
                return frozenset(found)
            after = max(page)

    async def bot_is_in(self, guild_id: int, purpose: ports.Purpose) -> bool:
        """Return whether our bot is installed in the guild; the page that begins right before its id must have it."""
        params = {"after": str(guild_id - 1), "limit": str(PAGE)}
        call = self._as_bot(routes.user_guilds(), purpose, params)
        return any(guild.guild_id == guild_id for guild in await self._again(self._ask, call, payloads.decode_guilds))

    async def guild_channels(
        self, guild_id: int, purpose: ports.Purpose, claim: ports.Precondition
    ) -> list[model.Channel] | None:
        """Return all channels of the guild that our bot may view; None when *claim* says no at the permit."""
        call = dataclasses.replace(self._as_bot(routes.guild_channels(guild_id), purpose), claim=claim)
        try:
            return await self._again(self._ask, call, lambda body: payloads.decode_channels(body, guild_id))
        except _NotWanted:
            return None

    async def member_roles(
        self, user_id: int, guild_id: int, credential: ports.Credential, purpose: ports.Purpose
    ) -> tuple[int, ...]:
        """Return the user's role ids, with his own token where its scope allows that, else with the bot's."""
        if MEMBERS_SCOPE in credential.scopes:
            call = self._as_user(routes.own_member(guild_id), credential, purpose)
            return await self._again(self._ask, call, payloads.decode_roles)
        try:
            call = self._as_bot(routes.guild_member(guild_id, user_id), purpose)
            return await self._again(self._ask, call, payloads.decode_roles)
        except errors.TokenRefused as refusal:
            # The bot's token: nothing is wrong with the user's.
            raise errors.BotTokenRefused(refusal.status, refusal.code) from refusal

    def _as_bot(self, route: routes.Route, purpose: ports.Purpose, params: Mapping[str, str] | None = None) -> Call:
        return Call(route, f"Bot {self._config.bot_token.get_secret_value()}", "bot", purpose, params or {})

    def _as_user(
        self,
        route: routes.Route,
        credential: ports.Credential,
        purpose: ports.Purpose,
        params: Mapping[str, str] | None = None,
    ) -> Call:
        return Call(route, f"Bearer {credential.access_token}", f"user:{purpose.user_id}", purpose, params or {})

    async def _ask(self, call: Call, decode: Callable[[bytes], T]) -> T:
        reply = await self.attempt(call)
        if reply.status != 200:  # noqa: PLR2004 -- HTTP OK
            raise failure(reply)
        try:
            return decode(reply.body)
        except (ValueError, RecursionError) as error:
            raise errors.DiscordTransient("an answer is not the JSON it should be") from error

    async def attempt(self, call: Call) -> Reply:
        """
        Make one request under one permit and settle it, whatever happens; the answer may be of any status.

        Raises:
            errors.RateLimited, errors.LimiterUnavailable: Nothing was sent.
            errors.DiscordTransient: Nobody knows whether Discord got it.
        """
        charge = limits.Charge(
            lane=call.purpose.lane,
            route=call.route.template,
            identity=call.identity,
            user=call.purpose.user_id,
            major=call.route.guild,
            waiter=call.purpose.waiter,
        )
        with tracing.span("permit"):
            permit = await self._permits.take(charge, patience=call.purpose.max_wait)
        if call.claim is not None and not await self._claimed(call.claim, permit):
            raise _NotWanted
        if permit.expired(time.monotonic()):
            await self._permits.give_back(permit)
            raise errors.RateLimited("global", retry_after=0.0, why="fence")
        started = time.monotonic()
        try:
            with tracing.span(call.route.template) as span:
                reply = await self._send(call)
                span.set_attribute("http.response.status_code", reply.status)
        except aiohttp.ClientConnectorError as error:
            await self._permits.give_back(permit)
            self._count(call, "unreachable", time.monotonic() - started)
            raise errors.DiscordTransient("Discord cannot be reached") from error
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            took = time.monotonic() - started
            await self._permits.settle(permit, limiter.Answer(status=None, headers={}, round_trip=took))
            self._count(call, "lost", took)
            raise errors.DiscordTransient("no whole answer came back") from error
        took = time.monotonic() - started
        await self._permits.settle(permit, _answer(reply, took))
        self._count(call, str(reply.status), took)
        return reply

    def _count(self, call: Call, status: str, seconds: float) -> None:
        self._seen.count(call.route.template, status, seconds, lane=call.purpose.lane.value)

    async def _claimed(self, claim: ports.Precondition, permit: limiter.Permit) -> bool:
        """Ask the claim; unless it says yes, the permit goes back."""
        wanted = False
        try:
            wanted = await claim()
        finally:
            if not wanted:
                await self._permits.give_back(permit)
        return wanted

    async def _send(self, call: Call) -> Reply:
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
                    raise ValueError("the answer is too long")
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, headers, bytes(body))


def _answer(reply: Reply, round_trip: float) -> limiter.Answer:
    failure = payloads.decode_failure(reply.body) if reply.status in {403, 429} else None
    return limiter.Answer(
        status=reply.status,
        headers=reply.headers,
        round_trip=round_trip,
        body_retry_after=failure.retry_after if failure else None,
        body_global=failure.is_global if failure else False,
        is_discord=(failure is not None and failure.code != BLOCKED) or reply.status not in {403, 429},
    )


def failure(reply: Reply) -> errors.IndexerError:
    """Translate a status and Discord's JSON code; the codes are in topics/opcodes-and-status-codes.mdx."""
    body = payloads.decode_failure(reply.body)
    code = body.code if body else 0
    if reply.status == 401:  # noqa: PLR2004 -- HTTP Unauthorized, whatever the code
        return errors.TokenRefused(reply.status, code)
    if reply.status in {403, 429} and (body is None or code == BLOCKED):
        return errors.EgressBlocked(reply.status, _retry_after(reply, default=EDGE_PAUSE))
    if reply.status == 429 and body is not None:  # noqa: PLR2004 -- HTTP Too Many Requests
        scope = "global" if body.is_global else reply.headers.get("x-ratelimit-scope", "user")
        wait = _retry_after(reply, default=1.0) if body.retry_after is None else _sensible(body.retry_after, 1.0)
        return errors.RateLimited("route" if scope != "global" else scope, retry_after=wait, why=f"429 {scope}")
    # Without Discord's JSON, a 404 is a page of somebody in between and says nothing of a guild or member.
    if reply.status >= 500 or reply.status == 408 or (reply.status == 404 and body is None):  # noqa: PLR2004 -- HTTP
        return errors.DiscordTransient(f"Discord answered {reply.status}")
    kind = {403: errors.NoAccess, 404: errors.Gone}.get(reply.status, errors.DiscordRefused)
    return (errors.DiscordRefused if code in OUR_FAULT else kind)(reply.status, code)


def _retry_after(reply: Reply, *, default: float) -> float:
    try:
        return _sensible(float(reply.headers["retry-after"]), default)
    except (KeyError, ValueError):
        return default


def _sensible(seconds: float, default: float) -> float:
    """Return a wait as it was told, at most a day; the default when it is negative or no number."""
    return min(seconds, LONGEST_PAUSE) if seconds >= 0.0 else default
