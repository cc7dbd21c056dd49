"""The state that Redis would hold, and the models of state.lua and ledgers.lua."""

import collections
import math

from indexing.ratelimit import limits, status

PAUSE_ENTRIES = (status.PAUSE, status.PAUSE + "shared")


def ms(seconds: float) -> int:
    """Return whole milliseconds, rounded up."""
    return math.ceil(seconds * 1000)


class State:
    """
    Everything that Redis would hold; moments are milliseconds.

    Attributes:
        ledgers: Permit -> moment of release, by key.
        lines: Waiter -> position, by lane and caller.
        queues: Waiter -> promised moment, by key of a user's or route's queue.
        deadlines: (Lane and caller, waiter) -> moment after which its position is dropped.
        dues: Virtual moment of a caller's next call, by lane and caller.
        seen, first: Evidence for raised limits and for separate buckets, by route key.
        repeats: End of the wait after a 429, and how many came in a row, by what was refused.
        strict: Moment until which a 429's limit holds against other buckets, by route key.
        lost: Moment before which a route whose permits were lost gets none, by route key.
        numbers: The meta hash.
    """

    def __init__(self, parameters: limits.LimiterParameters, now: int) -> None:
        self.parameters = parameters
        self.now = now
        self.ledgers: dict[str, dict[str, float]] = collections.defaultdict(dict)
        self.lines: dict[tuple[int, str], dict[str, float]] = collections.defaultdict(dict)
        self.queues: dict[str, dict[str, float]] = collections.defaultdict(dict)
        self.deadlines: dict[tuple[tuple[int, str], str], float] = {}
        self.dues: dict[tuple[int, str], float] = {}
        self.tags: dict[str, float] = {}
        self.learned: dict[str, str] = {}
        self.seen: dict[str, tuple[int, int, int]] = {}
        self.first: dict[str, tuple[str, float]] = {}
        self.egress: dict[str, float] = {}
        self.active: dict[str, float] = {}
        self.repeats: dict[str, tuple[int, int]] = {}
        self.strict: dict[str, int] = {}
        self.lost: dict[str, float] = {}
        self.numbers: dict[str, float] = collections.defaultdict(float)
        self.numbers["ramp"] = -math.inf
        self.numbers["hold"] = now + ms(parameters.warmup_hold)

    def expire_callers(self) -> None:
        """Drop the queues of named callers, which Redis lets expire after ten minutes in which nobody came."""
        if self.now >= self.numbers["named"]:
            self.dues.clear()
            for queue in [queue for queue in self.lines if queue[1]]:
                del self.lines[queue]
            self.deadlines = {name: moment for name, moment in self.deadlines.items() if not name[0][1]}

    def hold_route(self, route_key: str, window: int) -> None:
        """Note that a route's permits were lost."""
        more = window - ms(self.parameters.longest_window)
        moment = self.numbers["hold"] + more
        if self.parameters.warmup_hold and more > 0 and moment > max(self.now, self.lost.get(route_key, 0)):
            self.lost[route_key] = moment

    def held(self, key: str) -> tuple[int, float, str]:
        """Remove what is free; return the permits held, until when the budget is paused (0: not), and the reason."""
        entries = {name: moment for name, moment in self.ledgers[key].items() if moment > self.now}
        self.ledgers[key] = entries
        pause, reason = 0.0, ""
        for name in PAUSE_ENTRIES:
            if entries.get(name, 0) > pause:
                pause, reason = entries[name], "pause" if name == status.PAUSE else "shared"
        return sum(name not in PAUSE_ENTRIES for name in entries), pause, reason

    def shortest_round_trip(self) -> float:
        """Return the shortest round trip of this and the previous period, 0 until there are enough answers."""
        old, new = self.numbers["rtt_old"], self.numbers["rtt_new"]
        if old > 0:
            return min(old, new)
        return new if self.numbers["rtt_n"] >= self.parameters.round_trip_samples else 0

    def release_moment(self, key: str, n: int, capacity: int, window: float) -> tuple[float, bool]:
        """Return when the n-th permit from now is released, and whether that is certain."""
        rounds, index = divmod(n - 1, capacity)
        shortest, usual = self.shortest_round_trip(), self.numbers["rtt"]
        moment, certain = self.now + max(window - shortest, ms(self.parameters.probe_retry)), False
        held = sorted(self.ledgers[key].values())
        if index < sum(name not in PAUSE_ENTRIES for name in self.ledgers[key]):
            found = held[index]
            certain = rounds == 0 and found <= self.now + window
            expected = max(moment, found - ms(self.parameters.max_in_flight) + usual - shortest)
            moment = found if found <= self.now + window else expected
        return moment + rounds * (window + max(0.0, usual - shortest)), certain

    def pause(self, key: str, name: str, moment: float) -> None:
        """Pause a budget until *moment*."""
        self.ledgers[key][name] = max(moment, self.ledgers[key].get(name, 0))

    def hold_permit(self, key: str, permit: str, moment: float, window: float) -> None:
        """Take a permit whose call begins at *moment*."""
        self.ledgers[key][permit] = moment + ms(self.parameters.max_in_flight) + window
