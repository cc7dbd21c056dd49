"""The model of settle.lua: settlements of permits."""

import math
import re

from indexing.ratelimit import limits, protocol, status
from tests.ratelimit_model import routes
from tests.ratelimit_model.state import State, ms

COUNTED_MINUTES = 10
GLOBAL = "global"
"""Key of the global budget's ledger."""


class Settler:
    """Books settlements."""

    def __init__(self, state: State, names: limits.Keys) -> None:
        self._state = state
        self._names = names
        self._routes = routes.Routes(state)

    def settle(self, settlement: protocol.Settlement, age: int) -> protocol.SettlementResult:
        """Book one; *age* is in milliseconds since its answer was read."""
        permit, outcome = settlement.permit, settlement.outcome
        charge = permit.charge
        user, route = self._names.user_ledger(charge.user_id), self._names.route_ledger(charge, permit.limit)
        own_guild = self._names.guild_ledger(charge, permit.limit)
        if outcome is None:
            return self._give_back(settlement, user, route, own_guild)
        parameters, headers = self._state.parameters, outcome.headers
        self._note_round_trip(math.floor(outcome.round_trip * 1000))
        self._release_after(GLOBAL, settlement, age, ms(parameters.global_budget.window))
        self._release_after(user, settlement, age, ms(parameters.user_budget.window))
        limit, same_bucket = self._routes.learn_limit(settlement, outcome)
        self._release_after(route, settlement, age, ms((limit if headers else permit.limit).window))
        target, foreign_calls = route, 0
        if headers is not None:
            own_guild = self._names.bucket_ledger(charge, headers.bucket, charge.major)
        if headers is not None and same_bucket:
            all_guilds = self._names.bucket_ledger(charge, headers.bucket, None)
            target = own_guild if limit.per_guild else all_guilds
            for key in dict.fromkeys([own_guild] if limit.per_guild else [own_guild, all_guilds]):
                if key != route:
                    self._release_after(key, settlement, age, ms(limit.window), new=True)
            foreign_calls = self._routes.hold_foreign_calls(settlement, headers, target)
        elif own_guild != route:
            self._release_after(own_guild, settlement, age, ms(permit.limit.window))
        if outcome.scope:
            self._apply_pause(settlement, outcome, user, target, limit.capacity)
        elif outcome.headers_expected:
            self._forget_repeats(settlement)
        if outcome.invalid:
            self._count_invalid()
        stopped = self._count_refused(charge.brought_by) if outcome.refused and charge.brought_by else 0
        return protocol.SettlementResult(foreign_calls, limit, stopped / 1000)

    def _give_back(self, settlement: protocol.Settlement, *keys: str) -> protocol.SettlementResult:
        state = self._state
        paced = settlement.permit.id in state.ledgers[GLOBAL] and settlement.permit.charge.lane is not limits.LANES[0]
        for key in (GLOBAL, *keys):
            state.ledgers[key].pop(settlement.permit.id, None)
        if paced:
            rate = state.parameters.global_budget
            state.numbers["pace"] -= ms(rate.window) / rate.capacity
        return protocol.SettlementResult(0, settlement.permit.limit)

    def _note_round_trip(self, rtt: int) -> None:
        numbers, parameters = self._state.numbers, self._state.parameters
        enough = numbers["rtt_n"] >= parameters.round_trip_samples
        if enough and self._state.now - numbers["rtt_at"] >= ms(parameters.round_trip_period):
            numbers |= {"rtt_old": numbers["rtt_new"], "rtt_new": rtt, "rtt_n": 0, "rtt_at": self._state.now}
        if numbers["rtt_n"] == 0 and numbers["rtt_old"] == 0:
            numbers |= {"rtt_at": self._state.now, "rtt_new": rtt}
        numbers["rtt_n"] += 1
        numbers["rtt_new"] = min(numbers["rtt_new"], rtt)
        usual = numbers["rtt"]
        numbers["rtt"] = rtt if usual == 0 else math.floor(usual + (rtt - usual) / 16)

    def _release_after(
        self, key: str, settlement: protocol.Settlement, age: int, window: int, *, new: bool = False
    ) -> None:
        permit, outcome = settlement.permit, settlement.outcome
        if outcome is None or (permit.id not in self._state.ledgers[key] and not new):
            return
        parameters = self._state.parameters
        share = parameters.global_credit if key == GLOBAL else parameters.user_credit
        credit = min(share * self._state.shortest_round_trip(), math.floor(outcome.round_trip * 1000))
        moment = self._state.now - age + window - min(credit, window / 2)
        self._state.ledgers[key][permit.id] = math.ceil(moment) + 1

    def _apply_pause(
        self, settlement: protocol.Settlement, outcome: protocol.Outcome, user: str, target: str, capacity: int
    ) -> None:
        state, parameters, charge = self._state, self._state.parameters, settlement.permit.charge
        token = f"user {charge.token_owner}" if charge.token_owner else "global"
        name = {"edge": "edge", "global": token}.get(str(outcome.scope), limits.route_label(charge))
        length, probe = self._grow_pause(settlement, outcome, name)
        grown, moment = state.now + length, state.now + ms(outcome.pause)
        permit = settlement.permit.id
        if outcome.scope == "global" and not charge.token_owner:
            self._pause_token(grown, probe=probe)
        elif outcome.scope == "global":
            state.pause(user, status.PAUSE, grown)
            if probe:
                self._leave_one(permit, user, parameters.user_budget.capacity, grown)
        elif outcome.scope == "edge":
            state.egress["edge"] = max(grown, state.egress.get("edge", 0))
            state.numbers["ramp"] = max(state.numbers["ramp"], grown + 2 * ms(parameters.ramp))
        else:
            state.pause(target, status.PAUSE + ("shared" if outcome.scope == "shared" else ""), moment)
            if outcome.clipped:
                self._leave_one(permit, target, capacity, moment)

    def _grow_pause(self, settlement: protocol.Settlement, outcome: protocol.Outcome, name: str) -> tuple[int, bool]:
        """Return for how long to pause, and whether one call should find out first."""
        state, parameters = self._state, self._state.parameters
        old = state.now - ms(parameters.repeat_memory)
        state.repeats = {key: entry for key, entry in state.repeats.items() if entry[0] + entry[1] / 1024 > old}
        moment, n = state.repeats.get(name, (0, 0))
        if settlement.permit.charged_at_ms >= moment:
            n = min(n + 1, 20)
        pause = ms(outcome.pause)
        if n > 1:
            first = pause if outcome.scope == "edge" else ms(parameters.first_pause)
            pause = max(pause, min(first * 2 ** (n - 1), ms(parameters.max_pause)))
        state.repeats[name] = max(moment, state.now + pause), n
        return pause, pause >= ms(parameters.max_pause)

    def _forget_repeats(self, settlement: protocol.Settlement) -> None:
        charge = settlement.permit.charge
        token = f"user {charge.token_owner}" if charge.token_owner else "global"
        for name in (limits.route_label(charge), token, "edge"):
            if settlement.permit.charged_at_ms >= self._state.repeats.get(name, (math.inf, 0))[0]:
                del self._state.repeats[name]

    def _leave_one(self, permit: str, key: str, capacity: int, moment: float) -> None:
        for number in range(1, min(capacity, 50)):
            self._state.ledgers[key][f"{permit}-{number}"] = moment + 2 * ms(self._state.parameters.ramp)

    def _pause_token(self, moment: float, *, probe: bool) -> None:
        numbers, now, parameters = self._state.numbers, self._state.now, self._state.parameters
        capacity = parameters.global_budget.capacity
        if now >= numbers["pause"]:
            since = now - numbers["fewer_at"]
            step = capacity / 5 if since < 60_000 else capacity / 10
            before = max(0, numbers["fewer"] - since // ms(parameters.foreign_decay))
            numbers["fewer"] = min(capacity // 2, before + math.ceil(step))
            numbers["fewer_at"] = now
        numbers["pause"] = max(numbers["pause"], moment)
        ramp = 2 * ms(parameters.ramp) if probe else 0
        numbers["ramp"] = max(numbers["ramp"], numbers["pause"] + ramp)

    def _count_invalid(self) -> None:
        minutes = self._count_answer("m", "")
        for name, most in (("bulk", self._state.parameters.stop_bulk), ("all", self._state.parameters.stop_all)):
            if (moment := _fewer_from(minutes, most)) is not None:
                self._state.egress[name] = moment

    def _count_refused(self, caller: str) -> int:
        """Return for how long the caller is stopped by this answer, 0 if it is not or was before."""
        moment = _fewer_from(self._count_answer("c", f" {caller}"), self._state.parameters.stop_caller)
        if moment is None:
            return 0
        before = self._state.egress.get(f"stop {caller}", 0)
        self._state.egress[f"stop {caller}"] = moment
        return 0 if before > self._state.now else moment - self._state.now

    def _count_answer(self, kind: str, name: str) -> dict[int, int]:
        """Count an answer; return the counts of its kind by minute, oldest first."""
        egress, minute = self._state.egress, self._state.now // 60_000
        egress[f"{kind}{minute}{name}"] = egress.get(f"{kind}{minute}{name}", 0) + 1
        found: dict[int, int] = {}
        for field, count in list(egress.items()):
            known = re.fullmatch(r"([mc])(\d+)(.*)", field)
            if known is None:
                continue
            if int(known[2]) <= minute - COUNTED_MINUTES:
                del egress[field]
            elif (known[1], known[3]) == (kind, name):
                found[int(known[2])] = int(count)
        return dict(sorted(found.items()))


def _fewer_from(minutes: dict[int, int], most: int) -> int | None:
    """Return when fewer than *most* answers are counted, None if fewer are now."""
    total, moment = sum(minutes.values()), None
    for minute, count in minutes.items():
        if total >= most:
            moment = (minute + COUNTED_MINUTES) * 60_000
        total -= count
    return moment
