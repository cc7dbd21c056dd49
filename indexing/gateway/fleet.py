"""Owns shards: takes those without an owner, and runs them until they are lost or the process leaves."""

import asyncio
import contextlib
import math
import uuid

from indexing import errors
from indexing.domain import feed_ports
from indexing.gateway import shard
from indexing.telemetry import logs

LOOK_EVERY = 1.0
"""Seconds between two looks for shards without an owner."""


class GatewayFleet:
    """The shards of one process."""

    def __init__(self, environment: shard.Environment) -> None:
        self._env = environment
        self._owner = uuid.uuid4().hex
        self._running: dict[str, tuple[shard.ShardRunner, asyncio.Task[None]]] = {}
        self._leaving = asyncio.Event()
        self._named = False
        self._log = logs.get(__name__)

    async def run(self) -> None:
        """Own shards until cancelled."""
        count = await self._env.directory.shard_count()
        keys = [f"{number}/{count}" for number in range(count)]
        await self._env.stores.shards.add(keys)
        while True:
            await self._take_free(keys)
            await self._name_bot_guilds(keys)
            self._env.metrics.shards.set(len(self._running))
            self._env.metrics.connected.set(sum(runner.attached for runner, _ in self._running.values()))
            await asyncio.sleep(LOOK_EVERY)

    async def _name_bot_guilds(self, keys: list[str]) -> None:
        """Store which guilds have our bot, if that is not known and this process has seen READY of all shards."""
        found: set[int] = set()
        for key in keys:
            named = self._running[key][0].guild_ids if key in self._running else None
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
        self._leaving.set()
        tasks = [task for _, task in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=shard.LEAVE_WAIT + 2.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_free(self, keys: list[str]) -> None:
        now, wanted = self._env.stores.clock(), set(keys)
        with contextlib.suppress(errors.StoreUnavailable):
            known = [row for row in await self._env.stores.shards.list() if row.key in wanted]
            for row in known:
                if row.lease_until <= now and row.key not in self._running and self._has_room(known, now):
                    await self._take(row.key)

    def _has_room(self, known: list[feed_ports.Shard], now: float) -> bool:
        """Return whether this process may own one more: about its share of all shards, and one more."""
        owners = {row.owner for row in known if row.lease_until > now} | {self._owner}
        share = math.ceil(len(known) / len(owners)) + 1
        return len(self._running) < min(share, self._env.config.max_shards)

    async def _take(self, key: str) -> None:
        now = self._env.stores.clock()
        owned = await self._env.stores.shards.acquire(key, self._owner, now=now, until=now + self._env.stores.lease)
        if owned is None:
            return
        self._log.info("shard_owned", shard=key, epoch=owned.epoch, resumes=bool(owned.session))
        runner = shard.ShardRunner(owned, self._env)
        task = asyncio.create_task(runner.run(self._leaving))
        self._running[key] = runner, task
        task.add_done_callback(lambda done: self._ended(key, done))

    def _ended(self, key: str, done: "asyncio.Task[None]") -> None:
        self._running.pop(key, None)
        if not done.cancelled() and done.exception() is not None:
            self._log.error("shard_crashed", shard=key, exc_info=done.exception())
