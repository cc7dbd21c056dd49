"""
The budget store in memory, on a clock that the caller sets: the model of the Redis script, for tests.

Its modules repeat the Lua parts under the same names, and it passes the same suite; a property test checks that both
give equal answers. Moments are milliseconds, as there. The model leaves out what only a shared server has: the run id
(see `lose`) and the correction of a clock that was set.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

from indexing import settings
from indexing.ratelimit import codec, limits, protocol, route_limits, status
from tests.ratelimit_model import contents, fair_queue, settle
from tests.ratelimit_model.state import State, ms


@dataclasses.dataclass(slots=True)
class _Decision:
    wait: int = 0
    certain: bool = True
    budget: str = ""
    reason: str = ""


@dataclasses.dataclass(slots=True)
class _Budget:
    key: str
    queue: str
    name: str
    reason: str
    capacity: int
    window: int
    blocks: bool = False


class MemoryBudgetStore:
    """Model of `redis_store.RedisBudgetStore`; *now* returns seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._names = limits.Keys("memory")
        self._state: State | None = None
        self.exchanges = 0

    @property
    def contents(self) -> contents.Contents:
        """What Redis would hold."""
        assert self._state is not None
        return contents.of_model(self._state, self._names.tag)

    @property
    def numbers(self) -> dict[str, float]:
        """The meta hash."""
        assert self._state is not None
        return self._state.numbers

    def lose(self) -> None:
        """Lose the state, as a flushed or restarted Redis does."""
        self._state = None

    async def exchange(
        self,
        parameters: limits.LimiterParameters,
        settlements: Sequence[protocol.Settlement],
        requests: Sequence[protocol.PermitRequest],
    ) -> tuple[list[protocol.SettlementResult], list[protocol.Decision]]:
        """Book the settlements, then decide the requests."""
        self.exchanges += 1
        state = self._current_state(parameters)
        settler = settle.Settler(state, self._names)
        results = [settler.settle(one, _age_ms(self._now() - one.read_at)) for one in settlements]
        return results, [_Acquisition(state, self._names, request).decide() for request in requests]

    async def snapshot(self, parameters: limits.LimiterParameters, user_ids: Sequence[int]) -> list[limits.BudgetState]:
        """Return the budgets' states."""
        state = self._current_state(parameters)
        fleet = status.FleetState(parameters, state.now, state.numbers, state.egress)
        rows = [
            status.BudgetRow("user", str(user_id), parameters.user_budget, self._names.user_ledger(user_id))
            for user_id in user_ids
        ]
        repeated = {name: moment for name, (moment, _) in state.repeats.items() if moment > state.now}
        for label in dict.fromkeys([*state.active, *filter(limits.is_route_label, repeated)]):
            charge = limits.parse_route_label(label)
            limit = route_limits.RouteLimit.parse_stored(state.learned.get(charge.route_key, ""))
            if label in repeated or (limit.known and limit.capacity):
                size = settings.Rate(capacity=max(limit.capacity, 1), window=max(limit.window, 0.001))
                rows.append(status.BudgetRow("route", label, size, self._names.route_ledger(charge, limit)))
        first = status.global_budget_state(state.ledgers[settle.GLOBAL], fleet)
        others = [status.budget_state(row, self._entries(state, row), fleet) for row in rows]
        return [first, status.invalid_requests_state(fleet), *status.caller_states(fleet), *others]

    async def forget_user(self, user_id: int) -> None:
        """Remove the user's queue positions and route names; their ledgers end with their last permit."""
        if self._state is None:
            return
        self._state.tags.pop(str(user_id), None)
        self._state.repeats = {
            name: entry for name, entry in self._state.repeats.items() if not limits.names_user(name, user_id)
        }
        self._state.queues.pop(self._names.queue(self._names.user_ledger(user_id)), None)
        labels = [label for label in self._state.active if limits.parse_route_label(label).token_owner == str(user_id)]
        for label in labels:
            del self._state.active[label]

    @staticmethod
    def _entries(state: State, row: status.BudgetRow) -> dict[str, float]:
        entries = dict(state.ledgers[row.ledger])
        moment, _ = state.repeats.get(row.name, (0, 0))
        if row.kind == "route" and moment > state.now:
            entries[status.PAUSE] = max(moment, entries.get(status.PAUSE, 0))
        return entries

    def _current_state(self, parameters: limits.LimiterParameters) -> State:
        now = int(self._now() * 1000)
        if self._state is None:
            self._state = State(parameters, now)
        self._state.parameters, self._state.now = parameters, max(now, self._state.now)
        self._state.expire_callers()
        return self._state


def _age_ms(seconds: float) -> int:
    return max(0, math.floor(seconds * 1000))


class _Acquisition:
    """The model of acquire.lua: one request."""

    def __init__(self, state: State, names: limits.Keys, request: protocol.PermitRequest) -> None:
        self._state = state
        self._request = request
        self._queue = fair_queue.FairQueue(state)
        self._lane = fair_queue.lane_of(request)
        self._decision = _Decision()
        self._place: fair_queue.Place | None = None
        self._charges_global = state.parameters.charges_global(request.charge)
        rate, charge, limit = state.parameters.user_budget, request.charge, request.limit
        user, route = names.user_ledger(charge.user_id), names.route_ledger(charge, limit)
        capacity = 0 if charge.charged_user is None else rate.capacity
        self._user = _Budget(user, names.queue(user), "user", "used up", capacity, ms(rate.window))
        self._own_guild = names.guild_ledger(charge, limit)
        reason = "used up" if limit.known else "probe"
        self._route = _Budget(route, names.queue(route), "route", reason, limit.capacity, ms(limit.window))

    def decide(self) -> protocol.Decision:
        """Grant a permit of each budget, or none."""
        request, parameters = self._request, self._state.parameters
        stored = self._state.learned.get(request.charge.route_key, "")
        if stored != request.limit.stored:
            return self._limit_changed(stored)
        if request.returns and not self._queue.has_position(request):
            return protocol.Wait(0.0, protocol.TAKEN, protocol.TAKEN)
        stopped_until = self._state.egress.get(f"stop {request.charge.brought_by}", 0)
        if stopped_until > self._state.now:
            self._queue.leave_queue(request)
            return protocol.Wait(math.ceil(stopped_until - self._state.now) / 1000, "egress", "caller")
        user_used = self._check_small_budget(self._user) if self._user.capacity else 0
        route_used = self._check_small_budget(self._route)
        self._check_route()
        if self._is_refused():
            self._queue.leave_queue(request)
            self._update_small_queue(self._user)
            self._update_small_queue(self._route)
            return self._refuse()
        used, limit = 0, 0
        if self._charges_global:
            used, limit = self._check_global_budget()
        else:
            self._check_stop(0.0, math.inf)
        if self._is_refused():
            if not self._charges_global:
                self._queue.leave_queue(request)
            elif request.charge.waiter or self._decision.wait <= ms(request.max_wait):
                self._queue.enqueue(request, self._place or self._queue.find_place(request), self._decision.wait)
            else:
                self._queue.leave_queue(request)
            return self._refuse()
        self._grant(limit)
        reply = [1, self._decision.wait, used + 1, limit, user_used + 1, route_used + 1]
        return codec.decode_decision(reply, request, parameters.user_budget.capacity, self._state.now)

    def _limit_changed(self, stored: str) -> protocol.LimitChanged:
        if not stored:
            self._state.hold_route(self._request.charge.route_key, ms(self._request.limit.window))
        return protocol.LimitChanged(route_limits.RouteLimit.parse_stored(stored))

    def _check_route(self) -> None:
        """Wait for the end of a 429's pause, and for the calls to an unknown route that a loss has forgotten."""
        blocked, _ = self._state.repeats.get(limits.route_label(self._request.charge), (0, 0))
        if not self._request.limit.known:
            lost_until = self._state.lost.get(self._request.charge.route_key, 0)
            self._add_wait(lost_until, certain=False, budget="route", reason="hold")
        self._add_wait(blocked, certain=False, budget="route", reason="pause")

    def _is_refused(self) -> bool:
        wait = self._decision.wait
        return wait > 0 and (wait > ms(self._request.early) or not self._decision.certain)

    def _refuse(self) -> protocol.Wait:
        return protocol.Wait(self._decision.wait / 1000, self._decision.budget, self._decision.reason)

    def _add_wait(self, moment: float, *, certain: bool, budget: str, reason: str) -> None:
        decision, wait = self._decision, math.ceil(moment - self._state.now)
        if wait > 0 and not certain:
            decision.certain = False
        if wait > decision.wait:
            decision.wait, decision.budget, decision.reason = wait, budget, reason

    def _check_small_budget(self, budget: _Budget) -> int:
        state, parameters = self._state, self._state.parameters
        used, paused, reason = state.held(budget.key)
        self._add_wait(paused, certain=False, budget=budget.name, reason=reason)
        if budget.capacity:
            queue = state.queues[budget.queue]
            for waiter in [name for name, at in queue.items() if at <= state.now - ms(self._request.grace)]:
                del queue[waiter]
            order = sorted(queue, key=lambda name: (queue[name], name))
            rank = order.index(self._request.waiter) if self._request.waiter in queue else len(order)
            n = used - budget.capacity + rank + 1
            if n > 0:
                budget.blocks = True
                moment, certain = float(state.now + ms(parameters.probe_retry)), False
                if budget.reason != "probe":
                    moment, certain = state.release_moment(budget.key, n, budget.capacity, budget.window)
                longest = state.now + ms(parameters.unproven_max_wait)
                if budget.name == "route" and self._request.unproven and moment > longest:
                    moment, certain = longest, False
                self._add_wait(moment, certain=certain, budget=budget.name, reason=budget.reason)
        return used

    def _update_small_queue(self, budget: _Budget) -> None:
        request, queue = self._request, self._state.queues[budget.queue]
        if budget.blocks and (request.charge.waiter or self._decision.wait <= ms(request.max_wait)):
            queue[request.waiter] = self._state.now + self._decision.wait
        elif budget.capacity:
            queue.pop(request.waiter, None)

    def _global_capacity(self) -> int:
        parameters, numbers, now = self._state.parameters, self._state.numbers, self._state.now
        share = min(1.0, 0.5 + 0.5 * (now - numbers["ramp"]) / ms(parameters.ramp))
        return max(1, int(math.floor(parameters.global_budget.capacity * share) - self._foreign_permits()))

    def _foreign_permits(self) -> float:
        numbers = self._state.numbers
        since = self._state.now - numbers["fewer_at"]
        return max(0, numbers["fewer"] - since // ms(self._state.parameters.foreign_decay))

    def _latest_return(self, stop: float, ahead: int) -> float:
        """Return when the permit is expected while the capacity grows, see acquire.lua; infinity when it does not."""
        parameters, now = self._state.parameters, self._state.now
        ramp, begins = ms(parameters.ramp), self._state.numbers["ramp"] - ms(parameters.ramp)
        if now >= begins + 2 * ramp:
            return math.inf
        full = max(1, parameters.global_budget.capacity - self._foreign_permits())
        x = max(stop, now, begins) - begins
        before = x * x / (4 * ramp) if x <= 2 * ramp else x - ramp
        y = before + (ahead + 1) * ms(parameters.global_budget.window) / full
        return float(begins + (math.sqrt(4 * ramp * y) if y <= ramp else ramp + y))

    def _current_stop(self) -> tuple[float, str, str]:
        numbers, egress = self._state.numbers, self._state.egress
        stop = (numbers["hold"], "global", "hold")
        for later in (
            (numbers["pause"], "global", "pause"),
            (egress.get("edge", 0.0), "egress", "pause"),
            (egress.get("all", 0.0), "egress", "breaker"),
            (egress.get("bulk", 0.0) if self._lane > 1 else 0.0, "egress", "breaker"),
        ):
            stop = later if later[0] > stop[0] else stop
        return stop

    def _check_stop(self, spread: float, latest: float) -> None:
        moment, budget, reason = self._current_stop()
        if moment > self._state.now:
            self._add_wait(min(moment + spread, latest), certain=False, budget=budget, reason=reason)

    def _add_global_wait(self, moment: float, latest: float, *, certain: bool) -> None:
        kept = certain and moment <= latest
        self._add_wait(min(moment, latest), certain=kept, budget="global", reason="used up")

    def _check_global_budget(self) -> tuple[int, int]:
        parameters, state = self._state.parameters, self._state
        rank = 0
        if self._queue.has_waiters():
            self._queue.drop_absent()
            self._place = self._queue.find_place(self._request)
            rank = self._queue.count_in_lane(self._request, self._place)
        limit, (used, _, _) = self._global_capacity(), state.held(settle.GLOBAL)
        window = ms(parameters.global_budget.window)
        lanes = [lane for lane in fair_queue.LANES if lane != self._lane]
        more = {lane: self._queue.count_before(self._request, rank, lane) for lane in lanes}
        ahead = rank + sum(more.values())
        bulk = rank + sum(count for lane, count in more.items() if lane > 1)
        latest = self._latest_return(self._current_stop()[0], ahead)
        self._check_stop(ahead * window / limit, latest)
        n = used - limit + ahead + 1
        if self._lane > 1:
            paced = state.numbers["pace"] + (bulk - parameters.bulk_burst) * self._pace_interval(limit)
            self._add_global_wait(paced, latest, certain=True)
        if n > 0:
            free, certain = state.release_moment(settle.GLOBAL, n, limit, window)
            self._add_global_wait(free, latest, certain=certain)
        return used, limit

    def _pace_interval(self, limit: int) -> float:
        parameters, state = self._state.parameters, self._state
        held_longer = max(0, state.numbers["rtt"] - parameters.global_credit * state.shortest_round_trip())
        return (ms(parameters.global_budget.window) + held_longer / 2) / limit

    def _grant(self, limit: int) -> None:
        state, request, parameters = self._state, self._request, self._state.parameters
        moment, window = state.now + self._decision.wait, ms(parameters.global_budget.window)
        if self._charges_global:
            state.hold_permit(settle.GLOBAL, request.id, moment, window)
        for budget in (self._user, self._route):
            if budget.capacity:
                held_window = ms(parameters.probe_window) if budget.reason == "probe" else budget.window
                state.hold_permit(budget.key, request.id, moment, held_window)
                state.queues[budget.queue].pop(request.waiter, None)
        # While guilds share the bucket, a call in flight also counts for its guild: see acquire.lua.
        if self._own_guild != self._route.key and self._route.capacity:
            state.hold_permit(self._own_guild, request.id, moment, self._route.window)
        state.active = {label: at for label, at in state.active.items() if at > state.now}
        label = limits.route_label(request.charge)
        state.active[label] = moment + ms(parameters.max_in_flight) + self._route.window
        if not self._charges_global:
            self._queue.leave_queue(request)
            return
        self._queue.advance_lane(request, moment, self._place)
        if self._lane > 1:
            state.numbers["pace"] = max(moment, state.numbers["pace"]) + self._pace_interval(limit)
