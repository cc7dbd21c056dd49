"""What the in-memory twin holds, and the parts state.lua and permits.lua of the script, in Python."""

import collections
import math

from indexing.ratelimit import limits, status

LASTING_ENTRIES = (status.PAUSED, status.PAUSED + "shared")


def ms(seconds: float) -> int:
    """Return whole milliseconds, rounded up."""
    return math.ceil(seconds * 1000)


class State:
    """
    Everything that Redis would hold; moments are milliseconds.

    Attributes:
        ledgers: Permit -> moment of release, by key.
        lines: Waiter -> place, by lane; and waiter -> promised moment, by key of a user's or route's line.
        deadlines: (Lane, waiter) -> moment after which it counts as gone.
        numbers: The meta hash.
    """

    def __init__(self, rules: limits.Rules, now: int) -> None:
        self.rules = rules
        self.now = now
        self.ledgers: dict[str, dict[str, float]] = collections.defaultdict(dict)
        self.lines: dict[str, dict[str, float]] = collections.defaultdict(dict)
        self.deadlines: dict[tuple[int, str], float] = {}
        self.tags: dict[str, float] = {}
        self.learned: dict[str, str] = {}
        self.seen: dict[str, tuple[int, int, int]] = {}
        self.first: dict[str, tuple[str, float]] = {}
        self.egress: dict[str, float] = {}
        self.active: dict[str, float] = {}
        self.numbers: dict[str, float] = collections.defaultdict(float)
        self.numbers["ramp"] = -math.inf
        self.numbers["hold"] = now + ms(rules.hold)

    def held(self, key: str) -> tuple[int, float, str]:
        """Drop what is free again; return the permits held, until when the budget is paused (0: not), and why."""
        entries = {name: moment for name, moment in self.ledgers[key].items() if moment > self.now}
        self.ledgers[key] = entries
        pause, why = 0.0, ""
        for name in LASTING_ENTRIES:
            if entries.get(name, 0) > pause:
                pause, why = entries[name], "pause" if name == status.PAUSED else "shared"
        return sum(name not in LASTING_ENTRIES for name in entries), pause, why

    def shortest(self) -> float:
        """Return the shortest round trip lately, 0 until enough answers came."""
        old, new = self.numbers["rtt_old"], self.numbers["rtt_new"]
        if old > 0:
            return min(old, new)
        return new if self.numbers["rtt_n"] >= self.rules.enough else 0

    def release(self, key: str, n: int, capacity: int, window: float) -> tuple[float, bool]:
        """Return when the n-th permit from now on comes back, and whether that is sure."""
        rounds, index = divmod(n - 1, capacity)
        moment, sure = self.now + max(window - self.shortest(), ms(self.rules.probe)), False
        held = sorted(self.ledgers[key].values())
        if index < sum(name not in LASTING_ENTRIES for name in self.ledgers[key]):
            found = held[index]
            sure = rounds == 0 and found <= self.now + window
            expected = max(moment, found - ms(self.rules.inflight) + self.numbers["rtt"] - self.shortest())
            moment = found if found <= self.now + window else expected
        return moment + rounds * (window + max(0.0, self.numbers["rtt"] - self.shortest())), sure

    def pause(self, key: str, name: str, moment: float) -> None:
        """Pause a budget until *moment*."""
        self.ledgers[key][name] = max(moment, self.ledgers[key].get(name, 0))

    def hold(self, key: str, permit: str, moment: float, window: float) -> None:
        """Take a permit whose call begins at *moment*."""
        self.ledgers[key][permit] = moment + ms(self.rules.inflight) + window
