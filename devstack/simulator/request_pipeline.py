"""
The checks of one call, in Discord's order, and its endpoint.

Banned address, invalid user agent, unknown route, outage, invalid token, rate limits, fault rules, endpoint.
"""

import re
from collections.abc import Callable, Mapping

from devstack.simulator import api, authorization, calls, faults, limits, oauth, replies, routes, state

_AGENT = re.compile(r"DiscordBot \(\S+, [^)\s]+\)")
"""`DiscordBot ($url, $version)`, then any text (developers/reference.mdx, User Agent, read 2026-08-06)."""

_VIA = "1.1 google"
"""Responses of Discord itself have this header, those of the edge do not (discord-api-docs issue 5810, staff)."""

_SCOPES: Mapping[limits.BudgetClass, str] = {"global": "global", "user": "user", "app": "user", "route": "user"}


class RequestPipeline:
    """Handles calls at the moment of their arrival, without waiting."""

    def __init__(self, simulator: state.SimulatorState) -> None:
        self._simulator = simulator
        self._handlers: dict[str, Callable[[calls.Call], replies.Reply]] = {
            **api.Api(simulator.world).handlers,
            **oauth.OAuth(simulator.tokens).handlers,
            routes.AUTHORIZATION: authorization.Authorization(simulator).describe,
            routes.GATEWAY: self._gateway,
        }

    def handle_call(self, call: calls.Call) -> replies.Reply:
        """Handle and count a call that arrives now; returns the reply."""
        simulator, now = self._simulator, self._simulator.clock.monotonic()
        try:
            reply = self._process(call, now)
        except replies.Refused as refusal:
            reply = refusal.reply
        if reply.from_discord:
            reply.headers["Via"] = _VIA
        simulator.invalid.count_reply(call.origin, reply, now)
        simulator.stats.count_arrival(call, reply, now)
        return reply

    def _process(self, call: calls.Call, now: float) -> replies.Reply:
        simulator = self._simulator
        simulator.invalid.check(call.origin, now)
        if not _AGENT.match(call.headers.get("User-Agent", "")):
            raise replies.Refused(replies.user_agent_rejected())
        call.identity = simulator.tokens.identify(call.headers.get("Authorization"))
        call.match = routes.match_route(call.method, call.path)
        outage = simulator.faults.outage(call, now)
        if outage is not None:
            simulator.stats.faults["outage"] += 1
            return faults.fault_reply(outage)
        _authorize(call, call.match.route)
        headers = self._apply_limits(call, call.match, now)
        reply = self._respond_with_faults(call)
        if reply.from_discord and reply.scope != "global":
            reply.headers = headers | reply.headers
        return reply

    def _respond_with_faults(self, call: calls.Call) -> replies.Reply:
        rule = self._simulator.faults.next_fault(call)
        if rule is None:
            return self._respond(call)
        self._simulator.stats.faults[rule.kind] += 1
        # The handler runs first: with a broken connection, a token may be rotated and its response lost.
        return (
            faults.broken_reply(rule, self._respond(call))
            if rule.kind in faults.CONNECTION_FAULTS
            else faults.fault_reply(rule)
        )

    def _respond(self, call: calls.Call) -> replies.Reply:
        try:
            return self._handlers[call.route](call)
        except replies.Refused as refusal:
            return refusal.reply

    def _gateway(self, call: calls.Call) -> replies.Reply:
        """`GET /gateway/bot`: where to connect, and how many sessions may be started."""
        hub = self._simulator.gateway
        url = f"ws://{call.headers.get('Host', '')}/gateway"
        return replies.json_reply({"url": url, "shards": hub.options.shards, "session_start_limit": hub.limits()})

    def _apply_limits(self, call: calls.Call, match: routes.Match, now: float) -> dict[str, str]:
        simulator = self._simulator
        for due, spec in simulator.foreign.due(now):
            simulator.foreign.count_verdict(
                simulator.limiter.admit(self._foreign_charges(spec.route, int(spec.guild)), due, record=False)
            )
        verdict = simulator.limiter.admit(self._charges(call, match), now)
        headers: dict[str, str] = {}
        if verdict.refused != "global" and not match.route.oauth:
            headers = replies.rate_headers(verdict.last, match.route.bucket, simulator.clock.wall())
        if verdict.refused is None:
            return headers
        simulator.stats.refused[verdict.refused] += 1
        reply = replies.rate_limited(_SCOPES[verdict.refused], verdict.retry_after)
        reply.headers |= headers
        raise replies.Refused(reply)

    def _charges(self, call: calls.Call, match: routes.Match) -> list[limits.Charge]:
        sizes = self._simulator.sizes
        if match.route.oauth:
            return [limits.Charge("app", ("app", call.origin), sizes.app)]
        if call.identity is None or call.identity.kind == "bot":
            first = limits.Charge("global", ("bot",), sizes.bot)
            return [first, self._route_charge(match, "bot")]
        user = call.identity.user_id
        return [limits.Charge("user", ("user", user), sizes.user), self._route_charge(match, user)]

    def _route_charge(self, match: routes.Match, who: str | int) -> limits.Charge:
        route = match.route
        limit = self._simulator.sizes.routes.get(route.name, route.limit)
        guild = match.guild_id if route.per_guild else 0
        return limits.Charge("route", ("route", who, route.bucket, guild), limit)

    def _foreign_charges(self, route: str | None, guild: int) -> list[limits.Charge]:
        charges = [limits.Charge("global", ("bot",), self._simulator.sizes.bot)]
        if route is not None:
            charges.append(self._route_charge(routes.Match(routes.ROUTES[route], guild), "bot"))
        return charges


def _authorize(call: calls.Call, route: routes.Route) -> None:
    if route.oauth:
        if call.identity is None:
            raise replies.Refused(replies.oauth_error(401, "invalid_client", "Client authentication failed"))
        return
    kind = "none" if call.identity is None else call.identity.kind
    if call.identity is None or kind in {"none", "basic"} or (kind == "bearer" and route.scope is None):
        # Observed body for an invalid or unsuitable token. Clients must check the status, not the code.
        raise replies.Refused(replies.error_reply(401, 0, "401: Unauthorized"))
    if kind == "bot" and route.name == routes.AUTHORIZATION:
        # Staff: intended for a bot's token (discord-api-docs issue 3945).
        raise replies.Refused(replies.error_reply(401, 0, "401: Unauthorized"))
    if kind == "bot" and not route.bot:
        raise replies.Refused(replies.error_reply(403, 20001, "Bots cannot use this endpoint"))
    if kind == "bearer" and route.scope and route.scope not in call.identity.scopes:
        raise replies.Refused(replies.error_reply(403, 50026, "Missing required OAuth2 scope"))
