"""
Budgets in Redis: one script for everything that changes them, plain reads for the display.

The script's parts stand beside this module; state.lua says what it is given and what it answers. Besides Redis' own
clock the script gets what our stopwatch says (stopwatch.py). So a clock that is set on Redis' machine frees no permit
early; it costs the same wait as lost state.

Looks at the budgets in Redis without changing them, and erases what carries a user's id.
"""

import contextlib
import importlib.resources
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import redis.asyncio
import redis.exceptions

from indexing import errors, settings
from indexing.ratelimit import codec, fleet_clock, limits, protocol, route_limits, status

PARTS = ("state", "permits", "routes", "settle", "line", "acquire", "exchange")
AWAY = 1.0
"""Seconds after which asking again makes sense when Redis is away: our guess, between load and delay."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the client's failures into ours: no call to Discord without a permit."""
    try:
        yield
    except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
        raise errors.LimiterUnavailable(AWAY) from error


def script(rules: limits.Rules) -> str:
    """Return the script's source, with the rules at its head."""
    folder = importlib.resources.files(__package__).joinpath("lua")
    parts = [folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in PARTS]
    return "\n".join([codec.rules(rules), *parts])


class RedisBudgets:
    """
    Adapter of `ledger.BudgetStore`: one command for each exchange.

    Args:
        application: Name under which all processes of one bot token meet; a hash of the token.

        now: Moments in seconds instead of Redis' own clock, for tests with a manual clock.
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
        self._scripts: dict[limits.Rules, Any] = {}
        self._stopwatch = fleet_clock.Stopwatch()

    async def exchange(
        self, rules: limits.Rules, settlements: Sequence[protocol.Settlement], asks: Sequence[protocol.Ask]
    ) -> tuple[list[protocol.Settled], list[protocol.Verdict]]:
        """Run the script; it is loaded again when Redis does not know it (any more)."""
        now = self._clock()
        said: dict[str, Any] = {
            **self._stopwatch.says(now),
            "settle": [codec.settlement(one, now) for one in settlements],
            "ask": [codec.ask(one) for one in asks],
        }
        if self._now is not None:
            said["now"] = int(self._now() * 1000)
        keys = codec.keys(self._keys, rules, settlements, asks)
        with translated():
            moment, shown, born, era, settled, verdicts = await self._script(rules)(keys, [codec.encode(said)])
        self._stopwatch.learn(fleet_clock.Reading(moment, now, self._clock(), era, born), shown)
        return (
            [codec.settled(reply) for reply in settled],
            [codec.verdict(reply, one, rules, moment) for reply, one in zip(verdicts, asks, strict=True)],
        )

    def _script(self, rules: limits.Rules) -> Any:  # noqa: ANN401 -- redis-py's script, whose replies are untyped
        if rules not in self._scripts:
            self._scripts[rules] = self._client.register_script(script(rules))
        return self._scripts[rules]

    async def snapshot(self, rules: limits.Rules, users: Sequence[int]) -> list[limits.BudgetState]:
        """Read in two round trips; each budget is whole, the list is not one moment's."""
        with translated():
            return await snapshot(self._client, self._keys, rules, users, self._now)

    async def forget_user(self, user: int) -> None:
        """Remove the user's places and names now, and let his ledgers end with their last permit."""
        with translated():
            await forget_user(self._client, self._keys, user)


MOST_ROUTES = 100
"""Route budgets in one list."""
META, LEDGER, TAGS, LEARNED, EGRESS, ACTIVE = 0, 1, 6, 7, 8, 9
"""Places among `budgets.Keys.shared`."""


async def snapshot(
    client: redis.asyncio.Redis,
    names: limits.Keys,
    rules: limits.Rules,
    users: Sequence[int],
    clock: Callable[[], float] | None,
) -> list[limits.BudgetState]:
    """Read everything in two round trips; `clock` replaces Redis' own in tests."""
    keys = names.shared(rules.egress)
    pipe = client.pipeline(transaction=False)
    pipe.time()
    pipe.hgetall(keys[META])
    pipe.hgetall(keys[EGRESS])
    pipe.hgetall(keys[LEARNED])
    pipe.zrevrange(keys[ACTIVE], 0, MOST_ROUTES - 1)
    time, meta, egress, known, active = await pipe.execute()
    look = _look(rules, time if clock is None else (clock(), 0), meta, egress)
    rows = [
        status.Row("global", "", rules.global_budget, keys[LEDGER]),
        *(status.Row("user", str(user), rules.user_budget, names.user(user)) for user in users),
        *_routes(names, known, active),
    ]
    first, *others = await _ledgers(client, rows, look)
    states = [status.state_of(row, entries, look) for row, entries in zip(rows[1:], others, strict=True)]
    return [status.global_state(first, look), status.ban_line(look), *states]


async def forget_user(client: redis.asyncio.Redis, names: limits.Keys, user: int) -> None:
    """Remove the user's places and tags now; his ledgers end with their last permit, or a burst could follow."""
    keys = names.shared("")
    listed: Any = await client.zrange(keys[ACTIVE], 0, -1)
    active = [_text(name) for name in listed]
    his = [name for name in active if limits.charge_of(name).owner == str(user)]
    found: Any = await client.hgetall(keys[LEARNED])
    known = {_text(field): _text(value) for field, value in found.items()}
    ledgers = [names.user(user)]
    for name in his:
        charge = limits.charge_of(name)
        ledgers.append(names.route(charge, route_limits.RouteLimit.parse(known.get(charge.field, ""))))
    last = [await client.zrange(ledger, -1, -1, withscores=True) for ledger in ledgers]
    now, _ = await client.time()
    pipe = client.pipeline(transaction=False)
    pipe.zrem(keys[TAGS], str(user))
    if his:
        pipe.zrem(keys[ACTIVE], *his)
    for ledger, entries in zip(ledgers, last, strict=True):
        pipe.delete(names.line(ledger))
        if entries:
            pipe.pexpireat(ledger, max(int(entries[0][1]), now * 1000))
    await pipe.execute()


def _look(rules: limits.Rules, time: Any, meta: Any, egress: Any) -> status.Look:  # noqa: ANN401 -- redis-py's replies are untyped
    numbers = {_text(name): float(value) for name, value in meta.items() if _text(name) != "run"}
    wall = int(time[0] * 1000) + time[1] // 1000
    now = max(wall + numbers.get("offset", 0), numbers.get("last", 0))
    return status.Look(rules, now, numbers, {_text(name): float(value) for name, value in egress.items()})


def _routes(names: limits.Keys, known: Any, active: Any) -> list[status.Row]:  # noqa: ANN401 -- see above
    learned = {_text(field): _text(value) for field, value in known.items()}
    rows = []
    for name in map(_text, active):
        charge = limits.charge_of(name)
        limit = route_limits.RouteLimit.parse(learned.get(charge.field, ""))
        if limit.known and limit.capacity:
            size = settings.Rate(capacity=limit.capacity, window=max(limit.window, 0.001))
            rows.append(status.Row("route", name, size, names.route(charge, limit)))
    return rows


async def _ledgers(
    client: redis.asyncio.Redis, rows: Sequence[status.Row], look: status.Look
) -> list[Mapping[str, float]]:
    pipe = client.pipeline(transaction=False)
    for row in rows:
        pipe.zrangebyscore(row.ledger, look.now + 1, "+inf", withscores=True)
    return [{_text(name): score for name, score in entries} for entries in await pipe.execute()]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
