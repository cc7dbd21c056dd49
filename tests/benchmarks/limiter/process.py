"""One measured process: reads orders from standard input, makes calls, and writes one record per call."""

import asyncio
import contextlib
import itertools
import pathlib
import random
import resource
import sys
import time
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import prometheus_client
import redis.asyncio

from indexing import errors, settings
from indexing.domain import model
from indexing.ratelimit import limiter, limits, redis_store
from indexing.telemetry import metrics
from tests.benchmarks.limiter import demand

MAX_WAIT = 1.0
"""As in the product: callers with longer waits return at the named moment."""
TIMEOUT = 10.0
AGENT = "DiscordBot (https://example.invalid, 0) limiter benchmark"


class Process:
    """Makes the calls of all loads and writes one line for each."""

    def __init__(self, orders: demand.Orders, session: aiohttp.ClientSession, permits: limiter.Limiter) -> None:
        self._orders = orders
        self._session = session
        self._permits = permits
        self._log = pathlib.Path(orders.log).open("ab", buffering=0)  # noqa: SIM115 -- open as long as the process
        self._numbers = itertools.count()
        self._dice = random.Random(orders.seed)

    async def run(self) -> None:
        """Make calls until the time is over."""
        async with asyncio.TaskGroup() as group:
            for load in self._orders.loads:
                if load.rate:
                    group.create_task(self._call_at_random(load, group))
                    continue
                for _ in range(load.callers):
                    group.create_task(self._call_repeatedly(load))

    async def _call_repeatedly(self, load: demand.Load) -> None:
        await asyncio.sleep(self._dice.random() * 0.2)
        while time.monotonic() < self._orders.until:
            await self._call(load)

    async def _call_at_random(self, load: demand.Load, group: asyncio.TaskGroup) -> None:
        while True:
            await asyncio.sleep(self._dice.expovariate(load.rate))
            if time.monotonic() >= self._orders.until:
                return
            group.create_task(self._call(load))

    async def _call(self, load: demand.Load) -> None:
        place = self._dice.randrange(len(load.users))
        charge, path, token = self._aim(load, place)
        asked = time.monotonic()
        permit = await self._take(charge)
        if permit is None:
            return
        if permit.expired(time.monotonic()):
            await self._permits.give_back(permit)
            return
        status, scope, sent = 0, "", time.monotonic()
        headers = {"Authorization": token, "User-Agent": AGENT}
        try:
            async with self._session.get(self._orders.base_url + path, headers=headers) as response:
                body = await response.read()
            read = time.monotonic()
        except (aiohttp.ClientError, TimeoutError):
            read = time.monotonic()
            await self._permits.settle(permit, limiter.Answer(None, {}, read - sent))
        else:
            status, scope = response.status, response.headers.get("X-RateLimit-Scope", "")
            await self._permits.settle(permit, _answer(response, body, read - sent))
        own = bool(load.tokens)
        record = demand.Record(load.lane, load.users[place], own, asked, sent, read, status, scope)
        self._log.write(msgspec.json.encode(record) + b"\n")

    async def _take(self, charge: limits.Charge) -> limiter.Permit | None:
        while time.monotonic() < self._orders.until:
            try:
                return await self._permits.take(charge, max_wait=MAX_WAIT)
            except (errors.RateLimited, errors.LimiterUnavailable) as refusal:
                await asyncio.sleep(min(refusal.retry_after, max(0.0, self._orders.until - time.monotonic())))
        return None

    def _aim(self, load: demand.Load, place: int) -> tuple[limits.Charge, str, str]:
        user, lane = load.users[place], model.Lane(load.lane)
        waiter = f"{self._orders.seed}:{next(self._numbers)}"
        if load.tokens:
            charge = limits.Charge(lane, demand.GUILDS, f"user:{user}", user, None, waiter)
            return charge, "/users/@me/guilds?limit=1", f"Bearer {load.tokens[place]}"
        guild = self._dice.choice(self._orders.guilds)
        charge = limits.Charge(lane, demand.CHANNELS, "bot", user, guild, waiter)
        return charge, f"/guilds/{guild}/channels", f"Bot {self._orders.bot_token}"


def _answer(response: aiohttp.ClientResponse, body: bytes, took: float) -> limiter.Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    body_json: dict[str, float] = {}
    if response.status == 429:
        with contextlib.suppress(msgspec.DecodeError):
            body_json = msgspec.json.decode(body)
    return limiter.Answer(
        response.status,
        headers,
        took,
        body_retry_after=body_json.get("retry_after"),
        body_global=bool(body_json.get("global")),
        is_discord=response.status not in {403, 429} or "retry_after" in body_json or "code" in body_json,
    )


@contextlib.asynccontextmanager
async def _open_process(orders: demand.Orders) -> AsyncIterator[Process]:
    pool = redis.asyncio.BlockingConnectionPool.from_url(orders.redis_url, max_connections=16, timeout=1.0)
    store = redis_store.RedisBudgetStore(redis.asyncio.Redis(connection_pool=pool), "bench")
    limiter_metrics = metrics.LimiterMetrics(prometheus_client.CollectorRegistry())
    permits = limiter.Limiter(store, settings.LimiterSettings(), limiter_metrics, call_timeout=TIMEOUT)
    await permits.warm_up()
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        session._retry_connection = False
        yield Process(orders, session, permits)
        await permits.close()
    await pool.disconnect()


async def main() -> None:
    """Read the orders, make the calls, and print the seconds of CPU that they took."""
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=demand.Orders)
    async with _open_process(orders) as process:
        before = resource.getrusage(resource.RUSAGE_SELF)
        await process.run()
        after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    sys.stdout.buffer.write(msgspec.json.encode({"cpu": used}) + b"\n")


if __name__ == "__main__":
    asyncio.run(main())
