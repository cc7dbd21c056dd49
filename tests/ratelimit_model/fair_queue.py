"""The model of fair_queue.lua: the fair queue of the global budget."""

import math

from indexing.ratelimit import limits, protocol
from tests.ratelimit_model.state import State, ms

LANES = (1, 2, 3)
TIES = 1024


def lane_of(request: protocol.PermitRequest) -> int:
    """Return the lane's number, 1 being the most urgent."""
    return limits.LANES.index(request.charge.lane) + 1


class FairQueue:
    """The queues of the three lanes."""

    def __init__(self, state: State) -> None:
        self._state = state
        rate = state.parameters.user_budget
        self._step = ms(rate.window) / rate.capacity

    def leave_queue(self, request: protocol.PermitRequest) -> None:
        """Drop the request's position."""
        lane = lane_of(request)
        self._state.queues[str(lane)].pop(request.waiter, None)
        self._state.deadlines.pop((lane, request.waiter), None)

    def has_waiters(self) -> bool:
        """Return whether any lane has waiters."""
        return any(self._state.queues[str(lane)] for lane in LANES)

    def drop_absent(self) -> None:
        """Drop waiters that did not return at their moment."""
        late = [name for name, moment in self._state.deadlines.items() if moment <= self._state.now]
        for lane, waiter in late:
            self._state.queues[str(lane)].pop(waiter, None)
            del self._state.deadlines[lane, waiter]

    def find_position(self, request: protocol.PermitRequest) -> tuple[float, int]:
        """Return the request's position, and how many waiters of its lane are before it."""
        queue = self._state.queues[str(lane_of(request))]
        if request.waiter in queue:
            order = sorted(queue, key=lambda name: (queue[name], name))
            return queue[request.waiter], order.index(request.waiter)
        moment = max(self._state.now, self._state.tags.get(str(request.charge.user_id), 0))
        moment += self._state.numbers["tie"] / TIES
        return moment, sum(position <= moment for position in queue.values())

    def count_before(self, request: protocol.PermitRequest, rank: int, other: int) -> int:
        """Return how many waiters of lane *other* go before the request that has *rank* before it in its own."""
        count = len(self._state.queues[str(other)])
        if not count:
            return 0
        lane, shares = lane_of(request), self._state.parameters.lane_shares
        lead = (self._lane_tag(lane) + rank / shares[lane - 1] - self._lane_tag(other)) * shares[other - 1]
        first = math.floor(lead) + 1 if other < lane else math.ceil(lead)
        return max(0, min(count, first))

    def enqueue(self, request: protocol.PermitRequest, position: float, wait: float) -> None:
        """Keep the request's position until a little after its moment."""
        queue = self._state.queues[str(lane_of(request))]
        if request.waiter not in queue:
            queue[request.waiter] = position
            self._state.numbers["tie"] = (self._state.numbers["tie"] + 1) % TIES
            self._advance_user(request, position)
        deadline = self._state.now + wait + ms(self._state.parameters.queue_grace)
        self._state.deadlines[lane_of(request), request.waiter] = deadline

    def advance_lane(self, request: protocol.PermitRequest, moment: float, *, has_waiters: bool) -> None:
        """Note a grant: the lane's next call is due one step later."""
        lane = lane_of(request)
        numbers = self._state.numbers
        numbers["served"] = self._lane_tag(lane)
        numbers[f"tag{lane}"] = numbers["served"] + 1 / self._state.parameters.lane_shares[lane - 1]
        if request.waiter in self._state.queues[str(lane)]:
            self.leave_queue(request)
        elif has_waiters and request.charge.user_id is not None:
            self._state.tags = {user: at for user, at in self._state.tags.items() if at > self._state.now}
            self._advance_user(request, moment)

    def _advance_user(self, request: protocol.PermitRequest, moment: float) -> None:
        if request.charge.user_id is not None:
            self._state.tags[str(request.charge.user_id)] = moment + self._step

    def _lane_tag(self, lane: int) -> float:
        return max(self._state.numbers["served"], self._state.numbers[f"tag{lane}"])
