"""The model of routes.lua: what the answers' headers teach about a route's limit."""

import math

from indexing.ratelimit import protocol, route_limits
from tests.ratelimit_model.state import State, ms


class Routes:
    """The learned limits of all routes."""

    def __init__(self, state: State) -> None:
        self._state = state

    def learn_limit(
        self, settlement: protocol.Settlement, outcome: protocol.Outcome
    ) -> tuple[route_limits.RouteLimit, bool]:
        """Return what is known of the route after this answer, and whether it was about the same bucket."""
        route_key, headers = settlement.permit.charge.route_key, outcome.headers
        known = route_limits.RouteLimit.parse_stored(self._state.learned.get(route_key, ""))
        if headers is None:
            has_no_limit = not known.known and outcome.headers_expected
            if has_no_limit:
                known = self._store_limit(route_key, f"{route_limits.NO_HEADERS} 0 0 0")
            return known, False
        strict = self._state.now < self._state.strict.get(route_key, 0)
        used_up = outcome.scope == "route" and headers.remaining == 0
        if strict and known.bucket != headers.bucket and not used_up:
            return known, False
        if used_up:
            self._state.strict[route_key] = self._state.now + ms(self._state.parameters.strict_memory)
        reset = min(math.ceil(ms(headers.reset_after) / 100) * 100, ms(self._state.parameters.max_window))
        if known.bucket != headers.bucket:
            self._state.seen.pop(route_key, None)
            self._state.first.pop(route_key, None)
            self._proves_per_guild(settlement, headers)
            limit = headers.limit
            if strict:
                limit, reset = min(known.capacity, limit), max(ms(known.window), reset)
            return self._store_limit(route_key, f"{headers.bucket} {limit} {reset} 0"), True
        return self._same_bucket(settlement, outcome, headers, tightens=strict and used_up), True

    def _same_bucket(
        self,
        settlement: protocol.Settlement,
        outcome: protocol.Outcome,
        headers: route_limits.BucketHeaders,
        *,
        tightens: bool,
    ) -> route_limits.RouteLimit:
        route_key = settlement.permit.charge.route_key
        known = route_limits.RouteLimit.parse_stored(self._state.learned[route_key])
        reset = min(math.ceil(ms(headers.reset_after) / 100) * 100, ms(self._state.parameters.max_window))
        capacity, window = min(known.capacity, headers.limit), max(ms(known.window), reset)
        raised = self._raise_evidence(route_key, known, headers.limit, reset)
        if raised is not None:
            capacity, window = raised
        if tightens and settlement.permit.limit.stored == known.stored:
            longer = math.ceil(ms(known.window) * 1.25 / 100) * 100
            window = max(window, min(longer, ms(self._state.parameters.strict_window)))
        per_guild = known.per_guild
        if outcome.scope == "route" and settlement.permit.limit.per_guild:
            per_guild = False
        elif not per_guild:
            per_guild = self._proves_per_guild(settlement, headers)
        return self._store_limit(route_key, f"{headers.bucket} {capacity} {window} {per_guild:d}")

    def hold_foreign_calls(self, settlement: protocol.Settlement, headers: route_limits.BucketHeaders, key: str) -> int:
        """Hold permits for foreign calls; return how many."""
        if headers.remaining >= headers.limit:
            return 0
        known = max(self._state.held(key)[0], settlement.permit.held)
        missing = min(headers.limit - headers.remaining - known - 1, 50)
        for number in range(1, missing + 1):
            moment = self._state.now + ms(headers.reset_after)
            self._state.ledgers[key][f"{settlement.permit.id}+{number}"] = moment
        return max(missing, 0)

    def _store_limit(self, route_key: str, stored: str) -> route_limits.RouteLimit:
        self._state.learned[route_key] = stored
        return route_limits.RouteLimit.parse_stored(stored)

    def _raise_evidence(
        self, route_key: str, known: route_limits.RouteLimit, limit: int, reset: int
    ) -> tuple[int, int] | None:
        n, least, longest = self._state.seen.pop(route_key, (0, limit, 0))
        if limit <= known.capacity and reset > ms(known.window) / 2:
            return None
        n, least, longest = n + 1, min(least, limit), max(longest, reset)
        if n >= self._state.parameters.raise_after:
            return least, longest
        self._state.seen[route_key] = (n, least, longest)
        return None

    def _proves_per_guild(self, settlement: protocol.Settlement, headers: route_limits.BucketHeaders) -> bool:
        charge = settlement.permit.charge
        if charge.major is None or headers.remaining != headers.limit - 1 or headers.limit < 2:
            return False
        major, reset = self._state.first.get(charge.route_key, ("", 0.0))
        self._state.first[charge.route_key] = (
            str(charge.major),
            settlement.permit.charged_at_ms + ms(headers.reset_after),
        )
        return major not in {"", str(charge.major)} and self._state.now < reset
