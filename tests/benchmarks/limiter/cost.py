"""
`python -m tests.benchmarks.limiter.cost`: the cost of a permit in Redis while ten thousand users have ledgers.

Redis itself measures: its slow log records the microseconds of every command. A manual clock advances 21 ms per call,
so the ledgers are as full as at the limit; the keys expire by Redis' own clock.
"""

import asyncio
import dataclasses
import statistics
from collections.abc import Awaitable, Callable
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
WAITERS = 200
CALLERS = (1, 2, 8, 32)
"""Callers that the waiters belong to; the first is the unnamed one."""
GUILDS = 5_000
TRIP = 0.1
TARGETS = {"take and settle, median µs": 150.0, "bytes of an idle ledger": 300.0}
HEADERS = {"bucket": "abcdef0123456789", "limit": 1000, "reset_after": 1.0}


@dataclasses.dataclass(slots=True)
class Clock:
    """A manual clock."""

    now: float

    def __call__(self) -> float:
        """Return seconds."""
        return self.now


class Cost:
    """Makes calls one after the other, each for the next user."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._clock = Clock(clockwork.START)
        self._store = redis_store.RedisBudgetStore(client, "cost", clock=self._clock, now=self._clock)
        self._parameters = limits.LimiterParameters.from_settings(settings.LimiterSettings(limiter_hold=0.0), 10.0)
        self._limit = route_limits.UNKNOWN
        self._count = 0

    async def call(self) -> None:
        """Take and settle one permit: two commands, which the product often combines into one."""
        self._count += 1
        charge = limits.Charge(
            model.Lane.BACKGROUND, "GET /guilds/{guild.id}/channels", "bot", self._count % USERS, self._count % GUILDS
        )
        self._clock.now += 0.021
        request = protocol.PermitRequest(f"{self._count:013x}", charge, 1.0, self._limit, self._clock.now)
        _, (decision,) = await self._store.exchange(self._parameters, [], [request])
        if isinstance(decision, protocol.LimitChanged):
            self._limit = decision.limit
            return
        assert isinstance(decision, limits.Permit), "so few calls never reach the limit"
        seen = route_limits.BucketHeaders(remaining=1000 - decision.held, **HEADERS)  # type: ignore[arg-type]
        outcome = protocol.Outcome(TRIP, headers=seen)
        settlement = protocol.Settlement(decision, outcome, self._clock.now)
        (result,), _ = await self._store.exchange(self._parameters, [settlement], [])
        self._limit = result.limit

    async def _measure(self, calls: Callable[[], Awaitable[None]]) -> list[float]:
        """Return the microseconds of each script that *calls* runs, in order."""
        await self._client.config_set("slowlog-max-len", 3 * MEASURED)
        await self._client.config_set("slowlog-log-slower-than", 0)
        await self._client.slowlog_reset()
        await calls()
        await self._client.config_set("slowlog-log-slower-than", -1)
        log: list[dict[str, Any]] = await self._client.slowlog_get(3 * MEASURED)
        return [entry["duration"] for entry in reversed(log) if entry["command"].startswith(b"EVALSHA")]

    async def medians(self) -> dict[str, float]:
        """Return the median microseconds of a take and of a settlement."""

        async def calls() -> None:
            for _ in range(MEASURED):
                await self.call()

        scripts = await self._measure(calls)
        take, settle = statistics.median(scripts[::2]), statistics.median(scripts[1::2])
        return {"take, median µs": take, "settle, median µs": settle, "take and settle, median µs": take + settle}

    async def medians_in_a_queue(self) -> dict[str, float]:
        """Return the median microseconds of a request that is refused while others wait, by the number of callers."""
        found = {}
        for count in CALLERS:
            await self._client.flushall()
            self._limit = route_limits.UNKNOWN
            while not self._limit.known:
                await self.call()
            names = [(f"caller-{number}",) for number in range(count)] if count > 1 else [()]
            for number in range(WAITERS):
                await self._refused(number, names[number % count])

            async def requests(names: list[Any] = names) -> None:
                for number in range(WAITERS):
                    await self._refused(number, names[number % len(names)])

            times = await self._measure(requests)
            found[f"request behind {WAITERS} waiters of {count} callers, median µs"] = statistics.median(times)
        return found

    async def _refused(self, number: int, callers: tuple[str, ...]) -> None:
        """Request a permit while all are held; the waiter keeps its position."""
        charge = limits.Charge(
            model.Lane.BACKGROUND, "GET /guilds/{guild.id}/channels", "bot", number, number, f"job {number}"
        )
        charge = dataclasses.replace(charge, callers=callers)
        for _ in range(2):
            request = protocol.PermitRequest(f"w{number}", charge, 0.0, self._limit, self._clock.now)
            _, (decision,) = await self._store.exchange(self._parameters, [], [request])
            if not isinstance(decision, protocol.LimitChanged):
                return
            self._limit = decision.limit

    async def memory(self) -> dict[str, float]:
        """Return the memory and the lifetime of the ledgers of idle users."""
        keys = [key async for key in self._client.scan_iter(match="*p:u:*", count=1000)]
        sizes = [await self._client.memory_usage(key, samples=0) or 0 for key in keys[:MEASURED]]
        ttls = [await self._client.pttl(key) for key in keys[:MEASURED]]
        return {
            "users' ledgers": float(len(keys)),
            "bytes of an idle ledger": statistics.median(sizes),
            "longest lifetime of a key, s": max(ttls) / 1000,
            "keys that never expire": float(sum(ttl == -1 for ttl in ttls)),
        }


async def measure(url: str) -> dict[str, float]:
    """Return all figures."""
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.flushall()
        cost = Cost(client)
        for _ in rich.progress.track(range(USERS), description="ten thousand users"):
            await cost.call()
        return await cost.medians() | await cost.memory() | await cost.medians_in_a_queue()


def main() -> None:
    """Measure and print."""
    with servers.valkey() as url:
        found = asyncio.run(measure(url))
    lines = rich.table.Table("figure", "measured", "at most", title="Cost of a permit in Redis")
    for name, value in found.items():
        lines.add_row(name, f"{value:g}", f"{TARGETS[name]:g}" if name in TARGETS else "")
    rich.console.Console().print(lines)


if __name__ == "__main__":
    main()
