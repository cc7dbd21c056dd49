"""Looks at the budgets in Redis without changing them, and erases what carries a user's id."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis.asyncio

from indexing import settings
from indexing.ratelimit import limits as ratelimit_limits
from indexing.ratelimit import route_limits, status

MOST_ROUTES = 100
"""Route budgets in one list."""
META, LEDGER, TAGS, LEARNED, EGRESS, ACTIVE = 0, 1, 6, 7, 8, 9
"""Places among `budgets.Keys.shared`."""


async def snapshot(
    client: redis.asyncio.Redis,
    names: ratelimit_limits.Keys,
    rules: ratelimit_limits.Rules,
    users: Sequence[int],
    clock: Callable[[], float] | None,
) -> list[ratelimit_limits.BudgetState]:
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


async def forget_user(client: redis.asyncio.Redis, names: ratelimit_limits.Keys, user: int) -> None:
    """Remove the user's places and tags now; his ledgers end with their last permit, or a burst could follow."""
    keys = names.shared("")
    listed: Any = await client.zrange(keys[ACTIVE], 0, -1)
    active = [_text(name) for name in listed]
    his = [name for name in active if ratelimit_limits.charge_of(name).owner == str(user)]
    found: Any = await client.hgetall(keys[LEARNED])
    known = {_text(field): _text(value) for field, value in found.items()}
    ledgers = [names.user(user)]
    for name in his:
        charge = ratelimit_limits.charge_of(name)
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


def _look(rules: ratelimit_limits.Rules, time: Any, meta: Any, egress: Any) -> status.Look:  # noqa: ANN401 -- redis-py's replies are untyped
    numbers = {_text(name): float(value) for name, value in meta.items() if _text(name) != "run"}
    wall = int(time[0] * 1000) + time[1] // 1000
    now = max(wall + numbers.get("offset", 0), numbers.get("last", 0))
    return status.Look(rules, now, numbers, {_text(name): float(value) for name, value in egress.items()})


def _routes(names: ratelimit_limits.Keys, known: Any, active: Any) -> list[status.Row]:  # noqa: ANN401 -- see above
    limits = {_text(field): _text(value) for field, value in known.items()}
    rows = []
    for name in map(_text, active):
        charge = ratelimit_limits.charge_of(name)
        limit = route_limits.RouteLimit.parse(limits.get(charge.field, ""))
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
