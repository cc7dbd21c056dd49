"""The model of fair_queue.lua: the fair queue of the global budget."""

import dataclasses
import math

from indexing.ratelimit import limits, protocol
from tests.ratelimit_model.state import State, ms

LANES = (1, 2, 3)
TIES = 1024
CREDIT = 4
QUEUE_TTL = 10 * 60_000


def lane_of(request: protocol.PermitRequest) -> int:
    """Return the lane's number, 1 being the most urgent."""
    return limits.LANES.index(request.charge.lane) + 1


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A request's place: its caller's queue, its position there, how many go before it, when its caller is due."""

    caller: str
    position: float
    rank: int
    due: float


def _count_due_before(lead: float, count: int, *, first: bool) -> int:
    return max(0, min(count, math.floor(lead) + 1 if first else math.ceil(lead)))


class FairQueue:
    """The queues of the three lanes."""

    def __init__(self, state: State) -> None:
        self._state = state
        rate = state.parameters.user_budget
        self._step = ms(rate.window) / rate.capacity

    def leave_queue(self, request: protocol.PermitRequest) -> None:
        """Drop the request's position."""
        for caller in request.charge.callers or ("",):
            queue = lane_of(request), caller
            self._state.lines[queue].pop(request.waiter, None)
            self._state.deadlines.pop((queue, request.waiter), None)

    def has_position(self, request: protocol.PermitRequest) -> bool:
        """Return whether the request has a position."""
        lane = lane_of(request)
        return any(request.waiter in self._state.lines[lane, caller] for caller in request.charge.callers or ("",))

    def has_waiters(self) -> bool:
        """Return whether any lane has waiters."""
        return any(self._state.lines.values())

    def drop_absent(self) -> None:
        """Drop waiters that did not return at their moment."""
        late = [name for name, moment in self._state.deadlines.items() if moment <= self._state.now]
        for queue, waiter in late:
            self._state.lines[queue].pop(waiter, None)
            del self._state.deadlines[queue, waiter]

    def find_place(self, request: protocol.PermitRequest) -> Place:
        """Return the request's place, in the queue of the caller that is due first."""
        lane = lane_of(request)
        callers = request.charge.callers or ("",)
        standing = [caller for caller in callers if request.waiter in self._state.lines[lane, caller]]
        caller = standing[0] if standing else min(callers, key=lambda name: self._due(lane, name))
        queue, due = self._state.lines[lane, caller], self._due(lane, caller)
        if request.waiter in queue:
            order = sorted(queue, key=lambda name: (queue[name], name))
            return Place(caller, queue[request.waiter], order.index(request.waiter), due)
        moment = max(self._state.now, self._state.tags.get(str(request.charge.user_id), 0))
        moment += self._state.numbers["tie"] / TIES
        return Place(caller, moment, sum(position <= moment for position in queue.values()), due)

    def count_in_lane(self, request: protocol.PermitRequest, place: Place) -> int:
        """Return how many waiters of the request's lane go before it."""
        ahead = place.rank
        for (lane, caller), queue in self._state.lines.items():
            if lane == lane_of(request) and caller != place.caller and queue:
                lead = place.due + place.rank - self._due(lane, caller)
                ahead += _count_due_before(lead, len(queue), first=caller < place.caller)
        return ahead

    def count_before(self, request: protocol.PermitRequest, rank: int, other: int) -> int:
        """Return how many waiters of lane *other* go before the request that has *rank* before it in its own."""
        count = sum(len(queue) for (lane, _), queue in self._state.lines.items() if lane == other)
        lane, shares = lane_of(request), self._state.parameters.lane_shares
        lead = (self._lane_tag(lane) + rank / shares[lane - 1] - self._lane_tag(other)) * shares[other - 1]
        return _count_due_before(lead, count, first=other < lane)

    def enqueue(self, request: protocol.PermitRequest, place: Place, wait: float) -> None:
        """Keep the request's position until a little after its moment."""
        queue = lane_of(request), place.caller
        if request.waiter not in self._state.lines[queue]:
            self._state.lines[queue][request.waiter] = place.position
            self._state.numbers["tie"] = (self._state.numbers["tie"] + 1) % TIES
            self._advance_user(request, place.position)
            self._note_due(queue, place.due)
        self._state.deadlines[queue, request.waiter] = self._state.now + wait + ms(request.grace)

    def advance_lane(self, request: protocol.PermitRequest, moment: float, place: Place | None) -> None:
        """Note a grant: the next call of the lane, and of the caller, is due one step later."""
        lane = lane_of(request)
        numbers = self._state.numbers
        numbers["served"] = self._lane_tag(lane)
        numbers[f"tag{lane}"] = numbers["served"] + 1 / self._state.parameters.lane_shares[lane - 1]
        if place is None:
            return
        numbers[f"turn{lane}"] = max(numbers[f"turn{lane}"], place.due)
        self._note_due((lane, place.caller), place.due + 1)
        if request.waiter in self._state.lines[lane, place.caller]:
            self.leave_queue(request)
        elif request.charge.user_id is not None:
            self._state.tags = {user: at for user, at in self._state.tags.items() if at > self._state.now}
            self._advance_user(request, moment)

    def _advance_user(self, request: protocol.PermitRequest, moment: float) -> None:
        if request.charge.user_id is not None:
            self._state.tags[str(request.charge.user_id)] = moment + self._step

    def _lane_tag(self, lane: int) -> float:
        return max(self._state.numbers["served"], self._state.numbers[f"tag{lane}"])

    def _due(self, lane: int, caller: str) -> float:
        """Return when the next call of a caller is due: at most `CREDIT` calls before the others'."""
        least, noted = self._state.numbers[f"turn{lane}"] - CREDIT, self._state.dues.get((lane, caller), -math.inf)
        return max(least, noted) if self._state.now < self._state.numbers["named"] else least

    def _note_due(self, queue: tuple[int, str], due: float) -> None:
        """Note when a caller's next call is due; while only the unnamed one queues, nothing is noted."""
        numbers, now = self._state.numbers, self._state.now
        if queue[1]:
            numbers["named"] = max(numbers["named"], now + QUEUE_TTL)
        if now < numbers["named"]:
            self._state.dues[queue] = due
