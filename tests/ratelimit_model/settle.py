"""The part settle.lua of the script, in Python: what became of a permit."""

import math

from indexing.ratelimit import limits, protocol, status
from tests.ratelimit_model import routes
from tests.ratelimit_model.state import State, ms

GLOBAL = "global"
"""Key of the global budget's ledger."""


class Desk:
    """Books settlements."""

    def __init__(self, state: State, names: limits.Keys) -> None:
        self._state = state
        self._names = names
        self._routes = routes.Routes(state)

    def settle(self, said: protocol.Settlement, age: int) -> protocol.Settled:
        """Book one; *age* is in milliseconds since its answer was read."""
        charge, outcome = said.permit.charge, said.outcome
        user, route = self._names.user(charge.user), self._names.route(charge, said.permit.limit)
        mine = self._names.part(charge, said.permit.limit)
        if outcome is None:
            return self._give_back(said, user, route, mine)
        rules = self._state.rules
        self._note_round_trip(math.floor(outcome.round_trip * 1000))
        self._free(GLOBAL, said, age, ms(rules.global_budget.window))
        self._free(user, said, age, ms(rules.user_budget.window))
        limit = self._routes.learn(said, outcome)
        seen = outcome.headers
        self._free(route, said, age, ms((limit if seen else said.permit.limit).window))
        target, strangers = route, 0
        if seen is not None:
            whole = self._names.bucket(charge, seen.bucket, None)
            part = self._names.bucket(charge, seen.bucket, charge.major)
            target = part if limit.split else whole
            for key in dict.fromkeys([part] if limit.split else [part, whole]):
                if key != route:
                    self._free(key, said, age, ms(limit.window), new=True)
            strangers = self._routes.strangers(said, seen, target)
        elif mine != route:
            self._free(mine, said, age, ms(said.permit.limit.window))
        self._obey(said, outcome, user, target)
        if outcome.invalid:
            self._count_invalid()
        return protocol.Settled(strangers, limit, math.floor(self._credit(outcome, rules.global_credit)) / 1000)

    def _give_back(self, said: protocol.Settlement, *keys: str) -> protocol.Settled:
        state = self._state
        for key in (GLOBAL, *keys):
            state.ledgers[key].pop(said.permit.id, None)
        if said.permit.charge.lane is not limits.LANES[0]:
            rate = state.rules.global_budget
            state.numbers["pace"] -= ms(rate.window) / rate.capacity
        return protocol.Settled(0, said.permit.limit, 0.0)

    def _note_round_trip(self, rtt: int) -> None:
        numbers, rules = self._state.numbers, self._state.rules
        if numbers["rtt_n"] >= rules.enough and self._state.now - numbers["rtt_at"] >= ms(rules.stretch):
            numbers |= {"rtt_old": numbers["rtt_new"], "rtt_new": rtt, "rtt_n": 0, "rtt_at": self._state.now}
        if numbers["rtt_n"] == 0 and numbers["rtt_old"] == 0:
            numbers |= {"rtt_at": self._state.now, "rtt_new": rtt}
        numbers["rtt_n"] += 1
        numbers["rtt_new"] = min(numbers["rtt_new"], rtt)
        usual = numbers["rtt"]
        numbers["rtt"] = rtt if usual == 0 else math.floor(usual + (rtt - usual) / 16)

    def _credit(self, outcome: protocol.Outcome, factor: float) -> float:
        shortest = self._state.shortest()
        if not shortest:
            return 0.0
        sure = factor * shortest
        if outcome.excess is not None:
            sure = max(sure, outcome.excess * 1000 + sure - self._state.rules.margin * 1000)
        return max(0.0, min(sure, math.floor(outcome.round_trip * 1000)))

    def _free(self, key: str, said: protocol.Settlement, age: int, window: int, *, new: bool = False) -> None:
        if said.outcome is None or (said.permit.id not in self._state.ledgers[key] and not new):
            return
        rules = self._state.rules
        factor = rules.global_credit if key == GLOBAL else rules.user_credit
        moment = self._state.now - age + window - min(self._credit(said.outcome, factor), window / 2)
        self._state.ledgers[key][said.permit.id] = math.ceil(moment) + 1

    def _obey(self, said: protocol.Settlement, outcome: protocol.Outcome, user: str, target: str) -> None:
        moment = self._state.now + ms(outcome.pause)
        if outcome.scope == "global" and not said.permit.charge.owner:
            self._stop_all(moment)
        elif outcome.scope == "global":
            self._state.pause(user, status.PAUSED, moment)
        elif outcome.scope == "route":
            self._state.pause(target, status.PAUSED, moment)
        elif outcome.scope == "shared":
            self._state.pause(target, status.PAUSED + "shared", moment)
        elif outcome.scope == "edge":
            self._state.egress["edge"] = max(moment, self._state.egress.get("edge", 0))

    def _stop_all(self, moment: float) -> None:
        numbers, now, rules = self._state.numbers, self._state.now, self._state.rules
        capacity = rules.global_budget.capacity
        if now >= numbers["pause"]:
            since = now - numbers["fewer_at"]
            step = capacity / 5 if since < 60_000 else capacity / 10
            before = max(0, numbers["fewer"] - since // ms(rules.forget))
            numbers["fewer"] = min(capacity // 2, before + math.ceil(step))
            numbers["fewer_at"] = now
        numbers["pause"] = max(numbers["pause"], moment)
        numbers["ramp"] = numbers["pause"]

    def _count_invalid(self) -> None:
        egress, rules = self._state.egress, self._state.rules
        minute, long = self._state.now // 60_000, math.ceil(limits.INVALID.window / 60)
        egress[f"m{minute}"] = egress.get(f"m{minute}", 0) + 1
        minutes = sorted(int(name[1:]) for name in egress if name.startswith("m"))
        for old in [one for one in minutes if one <= minute - long]:
            del egress[f"m{old}"]
            minutes.remove(old)
        total = sum(egress[f"m{one}"] for one in minutes)
        for one in minutes:
            forgotten = (one + long) * 60_000
            if total >= rules.stop_bulk:
                egress["bulk"] = forgotten
            if total >= rules.stop_all:
                egress["all"] = forgotten
            total -= egress[f"m{one}"]
