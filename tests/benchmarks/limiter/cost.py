"""
`python -m tests.benchmarks.limiter.cost`: what a permit costs Redis with ten thousand users' budgets alive.

Redis itself measures: its slow log keeps the microseconds of every command. Time is turned by hand, one call every
20 ms, so that the ledgers are as full as at the limit; the keys expire by Redis' own clock.
"""

import asyncio
import dataclasses
import statistics
from typing import Any

import redis.asyncio
import rich.console
import rich.progress
import rich.table

from indexing import settings
from indexing.domain import model
from indexing.ratelimit import limits, protocol, redis_store, route_limits
from tests import clockwork, servers

USERS = 10_000
MEASURED = 2_000
GUILDS = 5_000
TRIP = 0.1
TARGETS = {"take and settle, median µs": 150.0, "bytes of an idle budget": 300.0}
HEADERS = {"bucket": "abcdef0123456789", "limit": 1000, "reset_after": 1.0}


@dataclasses.dataclass(slots=True)
class Clock:
    """A clock that is turned by hand."""

    now: float

    def __call__(self) -> float:
        """Return seconds."""
        return self.now


class Cost:
    """Makes calls, one after the other, each for another user."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._clock = Clock(clockwork.START)
        self._store = redis_store.RedisBudgets(client, "cost", clock=self._clock, now=self._clock)
        self._rules = limits.Rules.of(settings.LimiterSettings(limiter_hold=0.0), 10.0)
        self._limit = route_limits.UNKNOWN
        self._count = 0

    async def call(self) -> None:
        """Take, let a round trip pass, settle: two commands, which in the product often are one."""
        self._count += 1
        charge = limits.Charge(
            model.Lane.BACKGROUND, "GET /guilds/{guild.id}/channels", "bot", self._count % USERS, self._count % GUILDS
        )
        self._clock.now += 0.021
        ask = protocol.Ask(f"{self._count:013x}", charge, 1.0, self._limit)
        _, (verdict,) = await self._store.exchange(self._rules, [], [ask])
        if isinstance(verdict, protocol.Relearn):
            self._limit = verdict.limit
            return
        assert isinstance(verdict, protocol.Granted), "so few calls never reach the limit"
        permit = limits.Permit(ask.id, charge, self._clock.now, 2.0, verdict.moment, self._limit, verdict.held)
        seen = route_limits.Headers(remaining=1000 - verdict.held, **HEADERS)  # type: ignore[arg-type]
        outcome = protocol.Outcome(TRIP, headers=seen)
        (settled,), _ = await self._store.exchange(
            self._rules, [protocol.Settlement(permit, outcome, self._clock.now)], []
        )
        self._limit = settled.limit

    async def medians(self) -> dict[str, float]:
        """Return the microseconds of takes and settlements."""
        await self._client.config_set("slowlog-max-len", 3 * MEASURED)
        await self._client.config_set("slowlog-log-slower-than", 0)
        await self._client.slowlog_reset()
        for _ in range(MEASURED):
            await self.call()
        await self._client.config_set("slowlog-log-slower-than", -1)
        log: list[dict[str, Any]] = await self._client.slowlog_get(3 * MEASURED)
        scripts = [entry["duration"] for entry in reversed(log) if entry["command"].startswith(b"EVALSHA")]
        take, settle = statistics.median(scripts[::2]), statistics.median(scripts[1::2])
        return {"take, median µs": take, "settle, median µs": settle, "take and settle, median µs": take + settle}

    async def memory(self) -> dict[str, float]:
        """Return what users' budgets take while nothing is asked of them, and how long they stay."""
        keys = [key async for key in self._client.scan_iter(match="*p:u:*", count=1000)]
        sizes = [await self._client.memory_usage(key, samples=0) or 0 for key in keys[:MEASURED]]
        ttls = [await self._client.pttl(key) for key in keys[:MEASURED]]
        return {
            "users' budgets alive": float(len(keys)),
            "bytes of an idle budget": statistics.median(sizes),
            "longest life of a key, s": max(ttls) / 1000,
            "keys that never expire": float(sum(ttl == -1 for ttl in ttls)),
        }


async def measure(url: str) -> dict[str, float]:
    """Return all figures."""
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.flushall()
        cost = Cost(client)
        for _ in rich.progress.track(range(USERS), description="ten thousand users"):
            await cost.call()
        return await cost.medians() | await cost.memory()


def main() -> None:
    """Measure and print."""
    with servers.valkey() as url:
        found = asyncio.run(measure(url))
    lines = rich.table.Table("figure", "measured", "at most", title="What a permit costs Redis")
    for name, value in found.items():
        lines.add_row(name, f"{value:g}", f"{TARGETS[name]:g}" if name in TARGETS else "")
    rich.console.Console().print(lines)


if __name__ == "__main__":
    main()
