"""
The budgets in memory, on a clock that the caller moves: the twin of the Redis script, for tests.

It says in Python what the Lua parts say, part by part under the same names, and passes the same suite; a property test
holds the two to equal answers. Moments are milliseconds, as there. What is left out is what only a shared server has:
the run id (see `lose`) and the correction of a clock that was set.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

from indexing import settings
from indexing.ratelimit import codec, limits, protocol, route_limits, status
from tests.ratelimit_model import line, settle
from tests.ratelimit_model.state import State, ms


@dataclasses.dataclass(slots=True)
class _Verdict:
    wait: int = 0
    sure: bool = True
    budget: str = ""
    why: str = ""


@dataclasses.dataclass(slots=True)
class _Budget:
    key: str
    line: str
    kind: str
    why: str
    capacity: int
    window: int
    blocks: bool = False


class MemoryBudgets:
    """Twin of `redis_budgets.RedisBudgets`; *now* returns seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._names = limits.Keys("memory")
        self._state: State | None = None
        self.exchanges = 0

    def lose(self) -> None:
        """Forget everything, as a flushed or restarted Redis does."""
        self._state = None

    async def exchange(
        self, rules: limits.Rules, settlements: Sequence[protocol.Settlement], asks: Sequence[protocol.Ask]
    ) -> tuple[list[protocol.Settled], list[protocol.Verdict]]:
        """Book the settlements, then answer the asks."""
        self.exchanges += 1
        state = self._at_present(rules)
        desk = settle.Desk(state, self._names)
        settled = [desk.settle(one, ms_age(self._now() - one.read_at)) for one in settlements]
        return settled, [_Asked(state, self._names, ask).answer() for ask in asks]

    async def snapshot(self, rules: limits.Rules, users: Sequence[int]) -> list[limits.BudgetState]:
        """Return how the budgets stand."""
        state = self._at_present(rules)
        look = status.Look(rules, state.now, state.numbers, state.egress)
        rows = [status.Row("user", str(user), rules.user_budget, self._names.user(user)) for user in users]
        for name in state.active:
            charge = limits.charge_of(name)
            limit = route_limits.RouteLimit.parse(state.learned.get(charge.field, ""))
            if limit.known and limit.capacity:
                size = settings.Rate(capacity=limit.capacity, window=max(limit.window, 0.001))
                rows.append(status.Row("route", name, size, self._names.route(charge, limit)))
        first = status.global_state(state.ledgers[settle.GLOBAL], look)
        others = [status.state_of(row, state.ledgers[row.ledger], look) for row in rows]
        return [first, status.ban_line(look), *others]

    async def forget_user(self, user: int) -> None:
        """Remove the user's places and names; his ledgers end with their last permit."""
        if self._state is None:
            return
        self._state.tags.pop(str(user), None)
        self._state.lines.pop(self._names.line(self._names.user(user)), None)
        named = [name for name in self._state.active if limits.charge_of(name).owner == str(user)]
        for name in named:
            del self._state.active[name]

    def _at_present(self, rules: limits.Rules) -> State:
        now = int(self._now() * 1000)
        if self._state is None:
            self._state = State(rules, now)
        self._state.rules, self._state.now = rules, max(now, self._state.now)
        return self._state


def ms_age(seconds: float) -> int:
    """Return whole milliseconds, rounded down, none below 0."""
    return max(0, math.floor(seconds * 1000))


class _Asked:
    """The part acquire.lua of the script: one ask."""

    def __init__(self, state: State, names: limits.Keys, ask: protocol.Ask) -> None:
        self._state = state
        self._ask = ask
        self._line = line.Line(state)
        self._lane = line.lane_of(ask)
        self._verdict = _Verdict()
        self._crowded = False
        rules, charge = state.rules, ask.charge
        user, route = names.user(charge.user), names.route(charge, ask.limit)
        capacity = 0 if charge.user is None else rules.user_budget.capacity
        self._user = _Budget(user, names.line(user), "user", "used up", capacity, ms(rules.user_budget.window))
        self._part = names.part(charge, ask.limit)
        why = "used up" if ask.limit.known else "probe"
        self._route = _Budget(route, names.line(route), "route", why, ask.limit.capacity, ms(ask.limit.window))

    def answer(self) -> protocol.Verdict:
        """Grant all or nothing."""
        value = self._state.learned.get(self._ask.charge.field, "")
        if value != self._ask.limit.value:
            return protocol.Relearn(route_limits.RouteLimit.parse(value))
        user_used = self._own(self._user) if self._user.capacity else 0
        route_used = self._own(self._route)
        if self._refused():
            self._line.leave(self._ask)
            self._sleep_for(self._user)
            self._sleep_for(self._route)
            return self._wait()
        used, limit, place = self._shared()
        if self._refused():
            if self._ask.charge.waiter or self._verdict.wait <= ms(self._ask.patience):
                self._line.stand(self._ask, place, self._verdict.wait)
            else:
                self._line.leave(self._ask)
            return self._wait()
        self._grant(limit)
        reply = [1, self._verdict.wait, used + 1, limit, user_used + 1, route_used + 1]
        return codec.verdict(reply, self._ask, self._state.rules, self._state.now)

    def _refused(self) -> bool:
        return self._verdict.wait > 0 and (self._verdict.wait > ms(self._state.rules.ahead) or not self._verdict.sure)

    def _wait(self) -> protocol.Wait:
        return protocol.Wait(self._verdict.wait / 1000, self._verdict.budget, self._verdict.why)

    def _delay(self, moment: float, *, sure: bool, budget: str, why: str) -> None:
        wait = math.ceil(moment - self._state.now)
        if wait > 0 and not sure:
            self._verdict.sure = False
        if wait > self._verdict.wait:
            self._verdict.wait, self._verdict.budget, self._verdict.why = wait, budget, why

    def _own(self, budget: _Budget) -> int:
        used, paused, why = self._state.held(budget.key)
        self._delay(paused, sure=False, budget=budget.kind, why=why)
        if budget.capacity:
            line = self._state.lines[budget.line]
            for waiter in [name for name, at in line.items() if at <= self._state.now - ms(self._state.rules.grace)]:
                del line[waiter]
            order = sorted(line, key=lambda name: (line[name], name))
            rank = order.index(self._ask.waiter) if self._ask.waiter in line else len(order)
            n = used - budget.capacity + rank + 1
            if n > 0:
                budget.blocks = True
                moment, sure = float(self._state.now + ms(self._state.rules.probe)), False
                if budget.why != "probe":
                    moment, sure = self._state.release(budget.key, n, budget.capacity, budget.window)
                longest = self._state.now + ms(self._state.rules.unproven)
                if budget.kind == "route" and self._ask.unproven and moment > longest:
                    moment, sure = longest, False
                self._delay(moment, sure=sure, budget=budget.kind, why=budget.why)
        return used

    def _sleep_for(self, budget: _Budget) -> None:
        if budget.blocks and (self._ask.charge.waiter or self._verdict.wait <= ms(self._ask.patience)):
            self._state.lines[budget.line][self._ask.waiter] = self._state.now + self._verdict.wait
        else:
            self._state.lines[budget.line].pop(self._ask.waiter, None)

    def _capacity(self) -> int:
        rules, numbers, now = self._state.rules, self._state.numbers, self._state.now
        share = min(1.0, 0.5 + 0.5 * (now - numbers["ramp"]) / ms(rules.ramp))
        fewer = max(0, numbers["fewer"] - (now - numbers["fewer_at"]) // ms(rules.forget))
        return max(1, int(math.floor(rules.global_budget.capacity * share) - fewer))

    def _stop(self) -> tuple[float, str, str]:
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

    def _shared(self) -> tuple[int, int, float]:
        rules, state = self._state.rules, self._state
        self._crowded = self._line.crowded()
        self._line.drop_absent()
        limit, (used, _, _) = self._capacity(), state.held(settle.GLOBAL)
        window = ms(rules.global_budget.window)
        place, rank, _ = self._line.place(self._ask)
        more = {other: self._line.before(self._ask, rank, other) for other in line.LANES if other != self._lane}
        ahead = rank + sum(more.values())
        bulk = rank + sum(count for other, count in more.items() if other > 1)
        moment, budget, why = self._stop()
        if moment > state.now:
            self._delay(moment + ahead * window / limit, sure=False, budget=budget, why=why)
        n = used - limit + ahead + 1
        if self._lane > 1:
            n += rules.reserve
            pace = state.numbers["pace"] + (bulk - rules.burst) * self._pace(limit)
            self._delay(pace, sure=True, budget="global", why="used up")
        if n > 0:
            free, sure = state.release(settle.GLOBAL, n, limit, window)
            self._delay(free, sure=sure, budget="global", why="used up")
        return used, limit, place

    def _pace(self, limit: int) -> float:
        rules, state = self._state.rules, self._state
        busy = max(0, state.numbers["rtt"] - rules.global_credit * state.shortest())
        return (ms(rules.global_budget.window) + busy / 2) / limit

    def _grant(self, limit: int) -> None:
        state, ask = self._state, self._ask
        moment, window = state.now + self._verdict.wait, ms(state.rules.global_budget.window)
        state.hold(settle.GLOBAL, ask.id, moment, window)
        for budget in (self._user, self._route):
            if budget.capacity:
                lost = ms(state.rules.unseen) if budget.why == "probe" else budget.window
                state.hold(budget.key, ask.id, moment, lost)
            state.lines[budget.line].pop(ask.waiter, None)
        # While guilds share the bucket, what is on its way counts for its guild too: see acquire.lua.
        if self._part != self._route.key and self._route.capacity:
            state.hold(self._part, ask.id, moment, self._route.window)
        state.active = {name: at for name, at in state.active.items() if at > state.now}
        state.active[limits.label(ask.charge)] = moment + ms(state.rules.inflight) + self._route.window
        self._line.serve(ask, moment, crowded=self._crowded)
        if self._lane > 1:
            state.numbers["pace"] = max(moment, state.numbers["pace"]) + self._pace(limit)
