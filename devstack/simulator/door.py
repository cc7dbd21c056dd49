"""
The way of one call, from its arrival to its answer, in the order in which Discord would look at it.

Banned address, nameless client, outage · unknown route · dead or wrong token · limits · faults · the endpoint.
"""

import re
from collections.abc import Callable, Mapping

from devstack.simulator import api, calls, faults, limits, oauth, parts, replies, routes

_AGENT = re.compile(r"DiscordBot \(\S+, [^)\s]+\)")
"""`DiscordBot ($url, $version)`, then anything (developers/reference.mdx, User Agent, read 2026-08-06)."""

_VIA = "1.1 google"
"""Genuine answers carry it, those of the edge do not (discord-api-docs issue 5810, staff)."""

_SCOPES: Mapping[limits.Class, str] = {"global": "global", "user": "user", "app": "user", "route": "user"}


class Door:
    """Answers calls; all of it happens at the moment of arrival, without waiting."""

    def __init__(self, held: parts.Parts) -> None:
        self._held = held
        self._handlers: dict[str, Callable[[calls.Call], replies.Reply]] = {
            **api.Api(held.world).handlers,
            **oauth.OAuth(held.tokens).handlers,
        }

    def answer(self, call: calls.Call) -> replies.Reply:
        """Answer a call that arrives now, and count it."""
        held, now = self._held, self._held.clock.monotonic()
        try:
            reply = self._pass(call, now)
        except replies.Refused as refusal:
            reply = refusal.reply
        if reply.genuine:
            reply.headers["Via"] = _VIA
        held.invalid.note(call.origin, reply, now)
        held.stats.arrive(call, reply, now)
        return reply

    def _pass(self, call: calls.Call, now: float) -> replies.Reply:
        held = self._held
        held.invalid.check(call.origin, now)
        if not _AGENT.match(call.headers.get("User-Agent", "")):
            raise replies.Refused(replies.blocked_agent())
        call.identity = held.tokens.identify(call.headers.get("Authorization"))
        call.match = routes.find(call.method, call.path)
        outage = held.faults.outage(call, now)
        if outage is not None:
            held.stats.faults["outage"] += 1
            return faults.answer(outage)
        _check_token(call, call.match.route)
        headers = self._charge(call, call.match, now)
        reply = self._struck(call)
        if reply.genuine and reply.scope != "global":
            reply.headers = headers | reply.headers
        return reply

    def _struck(self, call: calls.Call) -> replies.Reply:
        rule = self._held.faults.strike(call)
        if rule is None:
            return self._served(call)
        self._held.stats.faults[rule.kind] += 1
        # A connection that breaks after the deed: a token may be rotated and its answer lost, as in real life.
        return faults.breakage(rule, self._served(call)) if rule.kind in faults.BREAKAGES else faults.answer(rule)

    def _served(self, call: calls.Call) -> replies.Reply:
        try:
            return self._handlers[call.route](call)
        except replies.Refused as refusal:
            return refusal.reply

    def _charge(self, call: calls.Call, match: routes.Match, now: float) -> dict[str, str]:
        held = self._held
        for due, order in held.foreign.due(now):
            held.foreign.note(held.limiter.admit(self._foreign_charges(order.route, int(order.guild)), due, ours=False))
        verdict = held.limiter.admit(self._charges(call, match), now)
        headers: dict[str, str] = {}
        if verdict.refused != "global" and not match.route.oauth:
            headers = replies.rate_headers(verdict.last, match.route.bucket, held.clock.wall())
        if verdict.refused is None:
            return headers
        held.stats.refused[verdict.refused] += 1
        reply = replies.too_many(_SCOPES[verdict.refused], verdict.retry_after)
        reply.headers |= headers
        raise replies.Refused(reply)

    def _charges(self, call: calls.Call, match: routes.Match) -> list[limits.Charge]:
        sizes = self._held.sizes
        if match.route.oauth:
            return [limits.Charge("app", ("app", call.origin), sizes.app)]
        if call.identity is None or call.identity.kind == "bot":
            first = limits.Charge("global", ("bot",), sizes.bot)
            return [first, self._route_charge(match, "bot")]
        user = call.identity.user_id
        return [limits.Charge("user", ("user", user), sizes.user), self._route_charge(match, user)]

    def _route_charge(self, match: routes.Match, who: str | int) -> limits.Charge:
        route = match.route
        limit = self._held.sizes.routes.get(route.name, route.limit)
        guild = match.guild_id if route.per_guild else 0
        return limits.Charge("route", ("route", who, route.bucket, guild), limit)

    def _foreign_charges(self, route: str | None, guild: int) -> list[limits.Charge]:
        charges = [limits.Charge("global", ("bot",), self._held.sizes.bot)]
        if route is not None:
            charges.append(self._route_charge(routes.Match(routes.ROUTES[route], guild), "bot"))
        return charges


def _check_token(call: calls.Call, route: routes.Route) -> None:
    if route.oauth:
        if call.identity is None:
            raise replies.Refused(replies.oauth_error(401, "invalid_client", "Client authentication failed"))
        return
    kind = "none" if call.identity is None else call.identity.kind
    if call.identity is None or kind in {"none", "basic"} or (kind == "bearer" and route.scope is None):
        # Observed body of a dead or unfitting token; keyed on the status, not on a code.
        raise replies.Refused(replies.error(401, 0, "401: Unauthorized"))
    if kind == "bot" and not route.bot:
        raise replies.Refused(replies.error(403, 20001, "Bots cannot use this endpoint"))
    if kind == "bearer" and route.scope not in call.identity.scopes:
        raise replies.Refused(replies.error(403, 50026, "Missing required OAuth2 scope"))
