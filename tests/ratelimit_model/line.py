"""The part line.lua of the script, in Python: the line for the global budget."""

import math

from indexing.ratelimit import limits, protocol
from tests.ratelimit_model.state import State, ms

LANES = (1, 2, 3)
TIES = 1024


def lane_of(ask: protocol.Ask) -> int:
    """Return the lane's number, 1 being the most urgent."""
    return limits.LANES.index(ask.charge.lane) + 1


class Line:
    """The three lanes."""

    def __init__(self, state: State) -> None:
        self._state = state
        rate = state.rules.user_budget
        self._step = ms(rate.window) / rate.capacity

    def leave(self, ask: protocol.Ask) -> None:
        """Give up the ask's place."""
        lane = lane_of(ask)
        self._state.lines[str(lane)].pop(ask.waiter, None)
        self._state.deadlines.pop((lane, ask.waiter), None)

    def crowded(self) -> bool:
        """Return whether anybody waits."""
        return any(self._state.lines[str(lane)] for lane in LANES)

    def drop_absent(self) -> None:
        """Forget waiters that did not come at their moment."""
        late = [name for name, moment in self._state.deadlines.items() if moment <= self._state.now]
        for lane, waiter in late:
            self._state.lines[str(lane)].pop(waiter, None)
            del self._state.deadlines[lane, waiter]

    def place(self, ask: protocol.Ask) -> tuple[float, int, bool]:
        """Return the ask's place, how many of its lane stand before it, and whether it stands there already."""
        line = self._state.lines[str(lane_of(ask))]
        if ask.waiter in line:
            order = sorted(line, key=lambda name: (line[name], name))
            return line[ask.waiter], order.index(ask.waiter), True
        moment = max(self._state.now, self._state.tags.get(str(ask.charge.user), 0)) + self._state.numbers["tie"] / TIES
        return moment, sum(place <= moment for place in line.values()), False

    def before(self, ask: protocol.Ask, rank: int, other: int) -> int:
        """Return how many waiters of lane *other* go before the ask that has *rank* before it in its own."""
        waiting = len(self._state.lines[str(other)])
        if not waiting:
            return 0
        lane, shares = lane_of(ask), self._state.rules.shares
        lead = (self._tag(lane) + rank / shares[lane - 1] - self._tag(other)) * shares[other - 1]
        first = math.floor(lead) + 1 if other < lane else math.ceil(lead)
        return max(0, min(waiting, first))

    def stand(self, ask: protocol.Ask, place: float, wait: float) -> None:
        """Keep the ask's place until a little after its moment."""
        line = self._state.lines[str(lane_of(ask))]
        if ask.waiter not in line:
            line[ask.waiter] = place
            self._state.numbers["tie"] = (self._state.numbers["tie"] + 1) % TIES
            self._charge(ask, place)
        self._state.deadlines[lane_of(ask), ask.waiter] = self._state.now + wait + ms(self._state.rules.grace)

    def serve(self, ask: protocol.Ask, moment: float, *, crowded: bool) -> None:
        """Note that the ask was granted: its lane's next call is due one step later."""
        lane = lane_of(ask)
        numbers = self._state.numbers
        numbers["served"] = self._tag(lane)
        numbers[f"tag{lane}"] = numbers["served"] + 1 / self._state.rules.shares[lane - 1]
        if ask.waiter in self._state.lines[str(lane)]:
            self.leave(ask)
        elif crowded and ask.charge.user is not None:
            self._state.tags = {user: at for user, at in self._state.tags.items() if at > self._state.now}
            self._charge(ask, moment)

    def _charge(self, ask: protocol.Ask, moment: float) -> None:
        if ask.charge.user is not None:
            self._state.tags[str(ask.charge.user)] = moment + self._step

    def _tag(self, lane: int) -> float:
        return max(self._state.numbers["served"], self._state.numbers[f"tag{lane}"])
