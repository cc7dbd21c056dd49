"""
Owns shards: takes its share of those without an owner, and runs them until they are lost or the process leaves.

A process that owns more than its share, because others have come since, leaves one after the other; the next owner
resumes the session.
"""

import asyncio
import contextlib
import dataclasses
import math
import random
import time
import uuid

from indexing import errors
from indexing.gateway import comparison, shard
from indexing.telemetry import logs

LOOK_EVERY = 1.0
"""Seconds between two looks for shards without an owner."""
BALANCE_EVERY = 10.0
"""Seconds between two shards that a process leaves to others."""
COMPARE_EVERY = 3_600.0
"""Most seconds between two comparisons with the bot's guild list, which may be older."""
UNWANTED = 3_600.0
"""Seconds for which a process leaves no shard any more after nobody took one."""
RANDOM = random.Random()  # noqa: S311 -- jitter, not a secret


@dataclasses.dataclass(frozen=True, slots=True)
class Running:
    """An owned shard; setting `leaving` ends it in an orderly way."""

    runner: shard.ShardRunner
    task: "asyncio.Task[None]"
    leaving: asyncio.Event


class GatewayFleet:
    """The shards of one process."""

    def __init__(self, environment: shard.Environment, compare: comparison.ListComparison) -> None:
        self._env = environment
        self._comparison = compare
        self._owner = uuid.uuid4().hex
        self._running: dict[str, Running] = {}
        self._free_since: dict[str, float] = {}
        self._share = 0
        self._balance_at = 0.0
        self._stopped = False
        self._named = False
        self._log = logs.get(__name__)

    async def run(self) -> None:
        """Own shards until cancelled."""
        count = await self._env.directory.shard_count()
        keys = [f"{number}/{count}" for number in range(count)]
        await self._env.stores.shards.add(keys)
        while True:
            with contextlib.suppress(errors.StoreUnavailable):
                await self._look(keys)
            await self._name_bot_guilds(keys)
            self._env.metrics.shards.set(len(self._running))
            self._env.metrics.connected.set(sum(one.runner.attached for one in self._running.values()))
            await asyncio.sleep(LOOK_EVERY)

    async def compare_lists(self) -> None:
        """Compare the attached shards with the bot's guild list again and again, until cancelled."""
        interval = self._env.config.list_interval
        while True:
            await asyncio.sleep(min(interval or COMPARE_EVERY, COMPARE_EVERY) * RANDOM.uniform(0.5, 1.5))
            attached = [one.runner for one in self._running.values() if one.runner.attached]
            if not interval or not attached:
                continue
            with contextlib.suppress(errors.StoreUnavailable, errors.QueueUnavailable, errors.LimiterUnavailable):
                differs = await self._comparison.compare([runner.shard for runner in attached])
                for runner in attached:
                    if runner.key in differs:
                        await runner.audit_failed()

    async def _name_bot_guilds(self, keys: list[str]) -> None:
        """Store which guilds have our bot, if that is not known and this process has seen READY of all shards."""
        found: set[int] = set()
        for key in keys:
            named = self._running[key].runner.guild_ids if key in self._running else None
            if named is None:
                return
            found |= named
        deps = self._env.dependencies
        with contextlib.suppress(errors.QueueUnavailable):
            if found and not self._named and await deps.bot_guilds.load() is None:
                await deps.bot_guilds.store(frozenset(found), deps.clock())
            self._named = True

    async def leave(self) -> None:
        """Leave all shards in an orderly way; their sessions live on."""
        self._stopped = True
        running = list(self._running.values())
        for one in running:
            one.leaving.set()
        with contextlib.suppress(errors.StoreUnavailable):
            await self._env.stores.shards.sign_out(self._owner)
        if running:
            await asyncio.wait([one.task for one in running], timeout=shard.LEAVE_WAIT + 2.0)
        for one in running:
            one.task.cancel()
        await asyncio.gather(*(one.task for one in running), return_exceptions=True)

    async def _look(self, keys: list[str]) -> None:
        """Take free shards up to this process's share, or leave one that is beyond it."""
        now, lease, wanted = self._env.stores.clock(), self._env.stores.lease, set(keys)
        processes = await self._env.stores.shards.sign_in(self._owner, now=now, until=now + lease)
        self._share = math.ceil(len(keys) / max(1, processes))
        rows = [row for row in await self._env.stores.shards.list() if row.key in wanted]
        free = {row.key for row in rows if row.lease_until <= now} - self._running.keys()
        self._free_since = {key: self._free_since.get(key, time.monotonic()) for key in free}
        for key in sorted(free):
            if self._may_take(key, lease):
                await self._take(key, now)
        self._leave_one_beyond_share()

    def _may_take(self, key: str, lease: float) -> bool:
        """Return whether to take a free shard: up to the share, and beyond it what nobody takes for two leases."""
        owned = len(self._running)
        if self._stopped or owned >= self._env.config.max_shards:
            return False
        if owned < self._share:
            return True
        if time.monotonic() - self._free_since[key] < 2 * lease:
            return False
        self._balance_at = time.monotonic() + UNWANTED
        return True

    async def _take(self, key: str, now: float) -> None:
        owned = await self._env.stores.shards.acquire(key, self._owner, now=now, until=now + self._env.stores.lease)
        if owned is None:
            return
        if self._stopped:
            await self._env.stores.shards.release(owned)
            return
        self._log.info("shard_owned", shard=key, epoch=owned.epoch, resumes=bool(owned.session))
        runner, leaving = shard.ShardRunner(owned, self._env), asyncio.Event()
        task = asyncio.create_task(runner.run(leaving))
        self._running[key] = Running(runner, task, leaving)
        task.add_done_callback(lambda done: self._ended(key, done))

    def _leave_one_beyond_share(self) -> None:
        staying = [key for key, one in sorted(self._running.items()) if not one.leaving.is_set()]
        if len(staying) <= self._share or time.monotonic() < self._balance_at:
            return
        self._balance_at = time.monotonic() + BALANCE_EVERY
        self._log.info("shard_left_to_others", shard=staying[-1], owned=len(staying), share=self._share)
        self._running[staying[-1]].leaving.set()

    def _ended(self, key: str, done: "asyncio.Task[None]") -> None:
        self._running.pop(key, None)
        if not done.cancelled() and done.exception() is not None:
            self._log.error("shard_crashed", shard=key, exc_info=done.exception())
