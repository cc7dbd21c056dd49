"""
Calls Discord's HTTP API: each attempt takes its own permit, has a timeout, and settles the permit with the result.

aiohttp's own retries on a dropped connection and its redirects are off, because the limiter would not see the second
request. A transient failure is retried once here; after that, the job's later turns retry.

Cost of one call: two Redis commands (take, settle) and one HTTP request.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeVar

import aiohttp
import stamina

from indexing import errors, settings
from indexing.discord import bodies, gateway_payload, http_errors, outage, payloads, routes
from indexing.domain import model, ports
from indexing.ratelimit import limiter, limits
from indexing.telemetry import logs, metrics, tracing

T = TypeVar("T")
USER_AGENT = "DiscordBot (https://github.com/discord-channel-indexer/discord-channel-indexer, 0.1.0)"
"""Discord asks for this form and may block others (developers/reference.mdx:238, read 2026-08-06)."""
PAGE_SIZE = 200
"""Most guilds in one page (resources/user.mdx, Get Current User Guilds)."""
FULL_PAGE = PAGE_SIZE - 10
"""Guilds from which a page of a user's list may be full: Discord sometimes leaves out rows (discord-api-docs #5886)."""
MOST_USER_PAGES = 5
"""Pages of one user's list; a user with more guilds gets those of the first pages."""
MOST_BOT_PAGES = 5_000
"""Pages of the bot's list: a million guilds."""
ATTEMPTS = 2
PROBE_MAX_WAIT = 1.0
"""Longest wait for the permit of a probe, in seconds."""
LOG_INTERVAL = 600.0
"""Seconds between two log lines about unreadable rows of one route."""


@contextlib.asynccontextmanager
async def open_session(config: settings.DiscordSettings) -> AsyncIterator[aiohttp.ClientSession]:
    """Open the process's HTTP session: kept-alive connections, no cookies, no redirects, no hidden retries."""
    connector = aiohttp.TCPConnector(limit=config.connections, ttl_dns_cache=300)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),  # `_send` limits the whole call
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
        max_body: Largest body of a success, in bytes; a larger one is lasting. None: `bodies.SMALL_LIMIT`, passing.
        charges_user, brought_by: As in `limits.Charge`.
    """

    route: routes.Route
    authorization: str = dataclasses.field(repr=False)
    identity: str
    purpose: ports.Purpose
    params: Mapping[str, str] = dataclasses.field(default_factory=dict)
    precondition: ports.Precondition | None = None
    form: Mapping[str, str] | None = dataclasses.field(default=None, repr=False)
    max_body: int | None = None
    charges_user: bool = True
    brought_by: str = ""


class _PreconditionFailed(Exception):
    """The call's precondition returned False; nothing was sent."""


class DiscordClient:
    """
    Discord's HTTP API as port `ports.Discord`, which lists the errors.

    Attributes:
        max_call_time: Longest time of one request, in seconds.
        outage: Detects outages of Discord. Callers of `send_once` check it and report to it themselves.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        permits: limiter.Limiter,
        config: settings.DiscordSettings,
        discord_metrics: metrics.DiscordMetrics,
        *,
        charge_bot_reads: bool = True,
    ) -> None:
        """*charge_bot_reads* is LimiterSettings.user_budget_bot_reads."""
        self.max_call_time = config.timeout
        self._session = session
        self._permits = permits
        self._config = config
        self._metrics = discord_metrics
        self._charge_bot_reads = charge_bot_reads
        self._bodies = bodies.BodyReader()
        self.outage = outage.OutageDetector(self._probe, discord_metrics, time.monotonic)
        self._logged_at: dict[str, float] = {}
        self._log = logs.get(__name__)
        self._retry = stamina.AsyncRetryingCaller(
            attempts=ATTEMPTS, timeout=None, wait_initial=0.2, wait_jitter=0.3
        ).on(errors.DiscordTransient)

    async def user_guilds(self, credential: ports.Credential, purpose: ports.Purpose) -> list[model.UserGuild]:
        """
        Return all guilds of the credential's user, with approximate member counts; one call for almost all users.

        A user is said to be in at most 200 guilds, one page, so only a page that may be full is followed by another.
        """
        found: dict[int, model.UserGuild] = {}
        for pages in range(1, MOST_USER_PAGES + 1):
            params = {"with_counts": "true", "limit": str(PAGE_SIZE)}
            if found:
                params["after"] = str(max(found))
            call = self._user_call(routes.user_guilds(), credential, purpose, params)
            before = len(found)
            try:
                page = await self._call(call, _at_once(payloads.decode_guilds))
            except (errors.NoAccess, errors.Gone) as refusal:
                # These two are about a guild; a list of guilds is refused for another reason.
                raise errors.DiscordRefused(refusal.status, refusal.code) from refusal
            found = {guild.guild_id: guild for guild in page} | found
            if len(page) < FULL_PAGE or len(found) == before:
                break
            if pages > 1:
                self._log.info("user_guilds_beyond_one_page", user=purpose.user_id, guilds=len(found))
        else:
            self._log.warning("user_guilds_cut", user=purpose.user_id, guilds=len(found))
        return list(found.values())

    async def bot_guilds(self, purpose: ports.Purpose) -> frozenset[int]:
        """
        Return the ids of all guilds in which the bot is installed; one call for each 200, and one more.

        A page that is not full is not the last: a row may be unreadable or left out. The last one brings nothing new.
        """
        found: set[int] = set()
        after = 0
        for _ in range(MOST_BOT_PAGES):
            page = await self._bot_guilds_after(after, purpose)
            found.update(page)
            if max(page, default=0) <= after:
                return frozenset(found)
            after = max(page)
        raise errors.DiscordTransient("the pages of the bot's guilds do not end")

    async def bot_is_in(self, guild_id: int, purpose: ports.Purpose) -> bool:
        """Return whether the bot is installed in the guild, by the page of guilds that begins at the guild's id."""
        return guild_id in await self._bot_guilds_after(guild_id - 1, purpose)

    async def guild_channels(
        self, guild_id: int, purpose: ports.Purpose, precondition: ports.Precondition
    ) -> list[model.Channel] | None:
        """
        Return all channels of the guild that the bot may view.

        Returns:
            None when *precondition* returns False, or when another call used the position that both share.
        """
        call = dataclasses.replace(
            self._bot_call(routes.guild_channels(guild_id), purpose),
            precondition=precondition,
            max_body=self._config.max_body_bytes,
            charges_user=self._charge_bot_reads,
        )

        async def decode(body: bytearray, unreadable: payloads.Unreadable) -> list[model.Channel]:
            return await payloads.decode_channels_in_slices(body, guild_id, unreadable)

        try:
            return await self._call(call, decode)
        except (_PreconditionFailed, errors.PositionTaken):
            return None

    async def member_roles(
        self, user_id: int, guild_id: int, credential: ports.Credential, purpose: ports.Purpose
    ) -> tuple[int, ...]:
        """Return the user's role ids, with the user's own token if its scopes allow that, else with the bot's."""
        if ports.MEMBER_SCOPE in credential.scopes:
            call = self._user_call(routes.own_member(guild_id), credential, purpose)
            answered_for, roles = await self._call(call, _at_once(payloads.decode_member))
            if answered_for not in {None, user_id}:
                raise errors.CredentialOfAnotherUser
            return roles
        call = self._bot_call(routes.guild_member(guild_id, user_id), purpose)
        answered_for, roles = await self._call_as_bot(call, payloads.decode_member)
        if answered_for not in {None, user_id}:
            raise errors.DiscordTransient("the response is about another member")
        return roles

    async def gateway_info(self, purpose: ports.Purpose) -> gateway_payload.GatewayInfo:
        """Return where to connect to the Gateway, and how many sessions may be started."""
        return await self._call(self._bot_call(routes.gateway_bot(), purpose), _at_once(gateway_payload.decode))

    async def _bot_guilds_after(self, guild_id: int, purpose: ports.Purpose) -> list[int]:
        params = {"after": str(guild_id), "limit": str(PAGE_SIZE)}
        call = self._bot_call(routes.user_guilds(), purpose, params)
        try:
            return await self._call_as_bot(call, payloads.decode_guild_ids)
        except (errors.NoAccess, errors.Gone) as refusal:
            raise errors.DiscordRefused(refusal.status, refusal.code) from refusal

    async def _call_as_bot(self, call: Call, decode: Callable[[bytearray, payloads.Unreadable], T]) -> T:
        """Make a call with the bot's token that a user's work may need: a refusal says nothing about their token."""
        try:
            return await self._call(call, _at_once(decode))
        except errors.TokenRefused as refusal:
            raise errors.BotTokenRefused(refusal.status, refusal.code) from refusal

    def _bot_call(self, route: routes.Route, purpose: ports.Purpose, params: Mapping[str, str] | None = None) -> Call:
        return Call(route, f"Bot {self._config.bot_token.get_secret_value()}", "bot", purpose, params or {})

    def _user_call(
        self,
        route: routes.Route,
        credential: ports.Credential,
        purpose: ports.Purpose,
        params: Mapping[str, str] | None = None,
    ) -> Call:
        bearer, identity = f"Bearer {credential.access_token}", f"user:{purpose.user_id}"
        return Call(route, bearer, identity, purpose, params or {}, brought_by=credential.brought_by)

    async def _call(self, call: Call, decode: "Decoder[T]") -> T:
        """Make a call, with a second attempt after a temporary failure; during an outage only probes are made."""
        await self.outage.check(call.purpose)
        try:
            found = await self._retry(self._fetch, call, decode)
        except errors.DiscordTransient:
            await self.outage.note_failure(call.purpose)
            raise
        except errors.DiscordRefused:
            self.outage.note_answer()
            raise
        self.outage.note_answer()
        return found

    async def _probe(self, purpose: ports.Purpose) -> None:
        """Make the neutral call that distinguishes an outage from a failing resource."""
        neutral = ports.Purpose(purpose.lane, None, "", PROBE_MAX_WAIT)
        call = self._bot_call(routes.user_guilds(), neutral, {"limit": "1"})
        await self._fetch(call, _at_once(payloads.decode_guild_ids))

    async def _fetch(self, call: Call, decode: "Decoder[T]") -> T:
        unreadable = payloads.Unreadable()
        async with contextlib.AsyncExitStack() as held:
            response = await self.send_once(call, held)
            if response.status != 200:  # noqa: PLR2004 -- HTTP OK
                raise http_errors.translate_error(response)
            if response.body is None:
                if call.max_body is not None:
                    raise errors.AnswerTooLarge(call.max_body)
                raise errors.AnswerUnreadable("the response body is too large")
            try:
                found = await decode(response.body, unreadable)
            except (ValueError, RecursionError) as error:
                raise errors.AnswerUnreadable("the response is not the expected JSON") from error
        if unreadable:
            self._report(call, unreadable)
        return found

    def _report(self, call: Call, unreadable: payloads.Unreadable) -> None:
        """Count unreadable rows; log the first of a route, and then one in ten minutes."""
        for kind, count in unreadable.items():
            self._metrics.unreadable_rows.labels(kind).inc(count)
        route, now = call.route.template, time.monotonic()
        if now - self._logged_at.get(route, float("-inf")) >= LOG_INTERVAL:
            self._logged_at[route] = now
            self._log.warning(
                "discord_rows_unreadable", route=route, guild_id=call.route.guild_id, rows=dict(unreadable)
            )

    async def send_once(self, call: Call, held: contextlib.AsyncExitStack | None = None) -> http_errors.Response:
        """
        Send one request under one permit, and settle or return the permit; the response may have any status.

        A large body is counted as in memory until *held* is closed; None is for routes without large bodies.

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
            charges_user=call.charges_user,
            shared=call.purpose.shared,
            callers=call.purpose.callers,
            brought_by=call.brought_by,
        )
        permit = await self._take_permit(call, charge)
        started = time.monotonic()
        try:
            with tracing.span(call.route.template) as span:
                response = await self._send(call, held or contextlib.AsyncExitStack())
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
        await self._permits.settle(permit, _answer_for_limiter(call, response, took))
        self._count_call(call, str(response.status), took)
        return response

    async def _take_permit(self, call: Call, charge: limits.Charge) -> limiter.Permit:
        """Take a permit to send now. One that expires meanwhile is replaced once: the precondition holds already."""
        for _ in range(ATTEMPTS):
            with tracing.span("permit"):
                permit = await self._permits.take(charge, max_wait=call.purpose.max_wait)
            if call.precondition is not None and not await self._check_precondition(call.precondition, permit):
                raise _PreconditionFailed
            if not permit.expired(time.monotonic()):
                return permit
            await self._permits.give_back(permit)
        raise errors.RateLimited("global", retry_after=0.0, why=errors.PERMIT_EXPIRED)

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

    async def _send(self, call: Call, held: contextlib.AsyncExitStack) -> http_errors.Response:
        async with (
            asyncio.timeout(self._config.timeout) as timeout,
            self._session.request(
                "GET" if call.form is None else "POST",
                self._config.api_base + call.route.path,
                params=call.params,
                data=call.form,
                headers={"Authorization": call.authorization},
                allow_redirects=False,
            ) as response,
        ):
            success = response.status == 200  # noqa: PLR2004 -- HTTP OK
            limit = (call.max_body or bodies.SMALL_LIMIT) if success else bodies.ERROR_LIMIT
            body = await self._bodies.read(response, limit, held, timeout)
            headers = {name.lower(): value for name, value in response.headers.items()}
            return http_errors.Response(response.status, headers, body)


Decoder = Callable[[bytearray, payloads.Unreadable], Awaitable[T]]
"""Decodes a body, and counts in the second argument what it cannot read."""


def _at_once(decode: Callable[[bytearray, payloads.Unreadable], T]) -> Decoder[T]:
    async def decoded(body: bytearray, unreadable: payloads.Unreadable) -> T:
        return decode(body, unreadable)

    return decoded


def _answer_for_limiter(call: Call, response: http_errors.Response, round_trip: float) -> limiter.Answer:
    error = response.error if response.status in {403, 429} else None
    is_discord = error is not None and error.code != http_errors.EDGE_BLOCK_CODE
    if call.form is not None and response.status == 403:  # noqa: PLR2004 -- the token endpoint has errors of its own
        is_discord = is_discord or "error" in payloads.decode_object(response.body or b"")
    return limiter.Answer(
        status=response.status,
        headers=response.headers,
        round_trip=round_trip,
        body_retry_after=error.retry_after if error else None,
        body_global=error.is_global if error else False,
        is_discord=is_discord or response.status not in {403, 429},
    )
