"""The part routes.lua of the script, in Python: what the answers' headers teach about a route's budget."""

import math

from indexing.ratelimit import protocol, route_limits
from tests.ratelimit_model.state import State, ms


class Routes:
    """What is learned of all routes."""

    def __init__(self, state: State) -> None:
        self._state = state

    def learn(self, said: protocol.Settlement, outcome: protocol.Outcome) -> route_limits.RouteLimit:
        """Take an answer into account; return what is known of the route now."""
        field, seen = said.permit.charge.field, outcome.headers
        known = route_limits.RouteLimit.parse(self._state.learned.get(field, ""))
        if seen is None:
            unheard = not known.known and outcome.proper
            return self._store(field, f"{route_limits.NO_HEADERS} 0 0 0") if unheard else known
        reset = min(math.ceil(ms(seen.reset_after) / 100) * 100, ms(self._state.rules.longest))
        if known.bucket != seen.bucket:
            self._state.seen.pop(field, None)
            self._state.first.pop(field, None)
            self._proves_split(said, seen)
            return self._store(field, f"{seen.bucket} {seen.limit} {reset} 0")
        capacity, window = min(known.capacity, seen.limit), max(ms(known.window), reset)
        agreed = self._agreed(field, known, seen.limit, reset)
        if agreed is not None:
            capacity, window = agreed
        split = known.split
        if outcome.scope == "route" and said.permit.limit.split:
            split = False
        elif not split:
            split = self._proves_split(said, seen)
        return self._store(field, f"{seen.bucket} {capacity} {window} {split:d}")

    def strangers(self, said: protocol.Settlement, seen: route_limits.Headers, key: str) -> int:
        """Hold permits for calls of somebody else; return how many."""
        if seen.remaining >= seen.limit:
            return 0
        known = max(self._state.held(key)[0], said.permit.held)
        missing = min(seen.limit - seen.remaining - known - 1, 50)
        for number in range(1, missing + 1):
            self._state.ledgers[key][f"{said.permit.id}+{number}"] = self._state.now + ms(seen.reset_after)
        return max(missing, 0)

    def _store(self, field: str, value: str) -> route_limits.RouteLimit:
        self._state.learned[field] = value
        return route_limits.RouteLimit.parse(value)

    def _agreed(self, field: str, known: route_limits.RouteLimit, limit: int, reset: int) -> tuple[int, int] | None:
        n, least, longest = self._state.seen.pop(field, (0, limit, 0))
        if limit <= known.capacity and reset > ms(known.window) / 2:
            return None
        n, least, longest = n + 1, min(least, limit), max(longest, reset)
        if n >= self._state.rules.agree:
            return least, longest
        self._state.seen[field] = (n, least, longest)
        return None

    def _proves_split(self, said: protocol.Settlement, seen: route_limits.Headers) -> bool:
        charge = said.permit.charge
        if charge.major is None or seen.remaining != seen.limit - 1 or seen.limit < 2:
            return False
        major, reset = self._state.first.get(charge.field, ("", 0.0))
        self._state.first[charge.field] = (str(charge.major), said.permit.moment + ms(seen.reset_after))
        return major not in {"", str(charge.major)} and self._state.now < reset
