"""
The budget store in Redis.

One script makes every change of the budgets, in one command per exchange. Its parts are the files in `lua/`; state.lua
describes keys, input and reply. With Redis' own clock the script also uses the process's estimate of the fleet's clock
(fleet_clock.py), so setting the clock of Redis' machine frees no permit early: it costs the same wait as lost state.
Snapshots and erasure use plain commands beside the script: a snapshot writes nothing, and erasure removes what carries
a user's id but shortens no ledger.
"""

import contextlib
import importlib.resources
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import redis.asyncio
import redis.exceptions

from indexing import errors, settings
from indexing.ratelimit import codec, fleet_clock, limits, protocol, route_limits, status

SCRIPT_PARTS = ("state", "ledgers", "routes", "settle", "fair_queue", "acquire", "exchange")
RETRY_AFTER = 1.0
"""Seconds after which callers retry when Redis is unavailable. Our guess, between load and delay."""
MAX_ROUTES = 100
"""Route budgets in one snapshot."""
META, LEDGER, TAGS, LEARNED, EGRESS, ACTIVE, REPEATS = 0, 1, 6, 7, 8, 9, 10
"""Positions in `limits.Keys.common`."""


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Raise errors.LimiterUnavailable for the client's failures."""
    try:
        yield
    except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
        raise errors.LimiterUnavailable(RETRY_AFTER) from error


def script_source(parameters: limits.LimiterParameters) -> str:
    """Return the script's source, with the parameters at its head."""
    folder = importlib.resources.files(__package__).joinpath("lua")
    parts = [folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in SCRIPT_PARTS]
    return "\n".join([codec.script_parameters(parameters), *parts])


class RedisBudgetStore:
    """
    Adapter of `protocol.BudgetStore`.

    Args:
        application: Name that all processes of one bot token share; a hash of the token.

        clock: Monotonic seconds; settlements' `read_at` is of this clock.

        now: Epoch seconds that replace Redis' own clock, for tests with a manual clock.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        application: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._client = client
        self._keys = limits.Keys(application)
        self._clock = clock
        self._now = now
        self._scripts: dict[limits.LimiterParameters, Any] = {}
        self._fleet_clock = fleet_clock.FleetClock()
        self._shown: tuple[float, float] | None = None
        self.incarnation = 0
        """Names the state that Redis had at the last exchange: another number after a loss; 0 before the first."""

    async def exchange(
        self,
        parameters: limits.LimiterParameters,
        settlements: Sequence[protocol.Settlement],
        requests: Sequence[protocol.PermitRequest],
    ) -> tuple[list[protocol.SettlementResult], list[protocol.Decision]]:
        """Run the script: one command, or two when Redis does not have the script yet."""
        sent_at = self._clock()
        script_input = {
            **self._fleet_clock.estimate(sent_at),
            "settlements": [codec.encode_settlement(one, sent_at) for one in settlements],
            "requests": [codec.encode_request(one, parameters) for one in requests],
        }
        if self._now is not None:
            script_input["now"] = int(self._now() * 1000)
        keys = codec.script_keys(self._keys, parameters.egress, settlements, requests)
        with translated_errors():
            reply = await self._script(parameters)(keys, [codec.encode_json(script_input)])
        moment_ms, redis_ms, incarnation, epoch, results, decisions = reply
        self._fleet_clock.update(fleet_clock.Reading(moment_ms, sent_at, self._clock(), epoch, incarnation), redis_ms)
        self.incarnation = incarnation
        self._shown = redis_ms / 1000, self._clock()
        user_capacity = parameters.user_budget.capacity
        return (
            [codec.decode_settlement_result(one) for one in results],
            [
                codec.decode_decision(one, request, user_capacity, moment_ms)
                for one, request in zip(decisions, requests, strict=True)
            ],
        )

    def redis_time(self) -> float | None:
        """Return the epoch second that Redis' clock shows now, by the last exchange; None before the first."""
        return None if self._shown is None else self._shown[0] + self._clock() - self._shown[1]

    async def snapshot(self, parameters: limits.LimiterParameters, user_ids: Sequence[int]) -> list[limits.BudgetState]:
        """Read in three round trips; each budget is consistent, the list is not of one moment."""
        with translated_errors():
            fleet, known, active, repeated = await self._read_fleet_state(parameters)
            rows = [
                status.BudgetRow("global", "", parameters.global_budget, self._keys.common("")[LEDGER]),
                *(
                    status.BudgetRow("user", str(user_id), parameters.user_budget, self._keys.user_ledger(user_id))
                    for user_id in user_ids
                ),
                *_route_rows(self._keys, known, active, repeated),
            ]
            global_ledger, *ledgers = await self._read_ledgers(rows, fleet.now, repeated)
            identifies = await self._read_identifies(fleet.now)
        states = [status.budget_state(row, ledger, fleet) for row, ledger in zip(rows[1:], ledgers, strict=True)]
        states += identifies
        first = [status.global_budget_state(global_ledger, fleet), status.invalid_requests_state(fleet)]
        return [*first, *status.caller_states(fleet), *states]

    async def _read_identifies(self, now: float) -> list[limits.BudgetState]:
        """Return the day's identifies; nothing when the Gateway was never used."""
        key = limits.identifies_key(self._keys.tag)
        pipe = self._client.pipeline(transaction=False)
        pipe.get(f"{key}:most")
        pipe.zcount(key, now + 1, "+inf")
        most, used = await pipe.execute()
        if most is None:
            return []
        free = max(0, int(most) - int(used))
        return [limits.BudgetState("identifies", "", int(most), limits.IDENTIFY_DAY, free)]

    async def forget_user(self, user_id: int) -> None:
        """Remove the user's queue positions and route names now, and let their ledgers expire with the last permit."""
        keys = self._keys.common("")
        with translated_errors():
            active: Any = await self._client.zrange(keys[ACTIVE], 0, -1)
            labels = [codec.decode_text(label) for label in active]
            own_labels = [label for label in labels if limits.parse_route_label(label).token_owner == str(user_id)]
            stored: Any = await self._client.hgetall(keys[LEARNED])
            known = _decode_strings(stored)
            ledgers = [self._keys.user_ledger(user_id)]
            for label in own_labels:
                charge = limits.parse_route_label(label)
                limit = route_limits.RouteLimit.parse_stored(known.get(charge.route_key, ""))
                ledgers.append(self._keys.route_ledger(charge, limit))
            last_entries = [await self._client.zrange(ledger, -1, -1, withscores=True) for ledger in ledgers]
            waiting: Any = await self._client.zrange(keys[REPEATS], 0, -1)
            own_waits = [name for name in map(codec.decode_text, waiting) if limits.names_user(name, user_id)]
            now, _ = await self._client.time()
            pipe = self._client.pipeline(transaction=False)
            pipe.zrem(keys[TAGS], str(user_id))
            if own_waits:
                pipe.zrem(keys[REPEATS], *own_waits)
            if own_labels:
                pipe.zrem(keys[ACTIVE], *own_labels)
            for ledger, entries in zip(ledgers, last_entries, strict=True):
                pipe.delete(self._keys.queue(ledger))
                if entries:
                    # Deleting the ledger instead would give the user a second full budget at once.
                    pipe.pexpireat(ledger, max(int(entries[0][1]), now * 1000))
            await pipe.execute()

    def _script(self, parameters: limits.LimiterParameters) -> Any:  # noqa: ANN401 -- redis-py's script, whose replies are untyped
        if parameters not in self._scripts:
            self._scripts[parameters] = self._client.register_script(script_source(parameters))
        return self._scripts[parameters]

    async def _read_fleet_state(
        self, parameters: limits.LimiterParameters
    ) -> tuple[status.FleetState, dict[str, str], list[str], dict[str, float]]:
        """Return shared state, stored limits by route key, labels of routes in use, ends of waits after 429s."""
        keys = self._keys.common(parameters.egress)
        pipe = self._client.pipeline(transaction=False)
        pipe.time()
        pipe.hgetall(keys[META])
        pipe.hgetall(keys[EGRESS])
        pipe.hgetall(keys[LEARNED])
        pipe.zrevrange(keys[ACTIVE], 0, MAX_ROUTES - 1)
        pipe.zrevrange(keys[REPEATS], 0, MAX_ROUTES - 1, withscores=True)
        time_, meta, egress, known, active, waiting = await pipe.execute()
        seconds, microseconds = time_ if self._now is None else (self._now(), 0)
        numbers = _decode_numbers({name: value for name, value in meta.items() if codec.decode_text(name) != "run"})
        wall = int(seconds * 1000) + microseconds // 1000
        now = max(wall + numbers.get("offset", 0), numbers.get("last", 0))
        fleet = status.FleetState(parameters, now, numbers, _decode_numbers(egress))
        repeated: dict[str, float] = {codec.decode_text(name): math.floor(score) for name, score in waiting}
        repeated = {name: moment for name, moment in repeated.items() if moment > now}
        return fleet, _decode_strings(known), [codec.decode_text(label) for label in active], repeated

    async def _read_ledgers(
        self, rows: Sequence[status.BudgetRow], now: float, repeated: Mapping[str, float]
    ) -> list[Mapping[str, float]]:
        pipe = self._client.pipeline(transaction=False)
        for row in rows:
            pipe.zrangebyscore(row.ledger, now + 1, "+inf", withscores=True)
        found = await pipe.execute()
        ledgers: list[dict[str, float]] = [{codec.decode_text(name): score for name, score in one} for one in found]
        for row, ledger in zip(rows, ledgers, strict=True):
            if row.kind == "route" and row.name in repeated:
                ledger[status.PAUSE] = max(ledger.get(status.PAUSE, 0), repeated[row.name])
        return [*ledgers]


def _route_rows(
    names: limits.Keys, known: Mapping[str, str], labels: Sequence[str], repeated: Mapping[str, float]
) -> list[status.BudgetRow]:
    """Return the rows of routes that have a limit, or wait after a 429."""
    rows = []
    for label in dict.fromkeys([*labels, *filter(limits.is_route_label, repeated)]):
        charge = limits.parse_route_label(label)
        limit = route_limits.RouteLimit.parse_stored(known.get(charge.route_key, ""))
        if label in repeated or (limit.known and limit.capacity):
            size = settings.Rate(capacity=max(limit.capacity, 1), window=max(limit.window, 0.001))
            rows.append(status.BudgetRow("route", label, size, names.route_ledger(charge, limit)))
    return rows


def _decode_strings(stored: Mapping[bytes | str, bytes | str]) -> dict[str, str]:
    return {codec.decode_text(name): codec.decode_text(value) for name, value in stored.items()}


def _decode_numbers(stored: Mapping[bytes | str, bytes | str]) -> dict[str, float]:
    return {codec.decode_text(name): float(value) for name, value in stored.items()}
