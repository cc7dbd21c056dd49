"""
Runs one shard that this process owns: connects, resumes or identifies, and stores what arrives.

It ends when the lease is lost, and leaves in an orderly way on request: it stops reading, stores what has
arrived, closes the connection so that the session lives, and ends the lease, so that the next owner resumes at once.
"""

import asyncio
import contextlib
import dataclasses
import random
import time
import urllib.parse
from collections.abc import Awaitable, Callable

import aiohttp

from indexing import errors, settings
from indexing.domain import feed_ports, ports
from indexing.gateway import applier, audit, directory, link, protocol, roles, socket
from indexing.messaging import role_requests
from indexing.ratelimit import identifies
from indexing.telemetry import gateway_metrics, logs, metric_types

GUILDS, GUILD_MEMBERS = 1 << 0, 1 << 1
"""Intents (developers/events/gateway.mdx, Gateway Intents, read 2026-08-06)."""
MISSING_INTENT = "4014"
LEAVE_WAIT = 8.0
"""Longest time, in seconds, for storing what has arrived when the process ends."""
STORE_RETRY = 1.0
RANDOM = random.Random()  # noqa: S311 -- jitter, not a secret
CAUSES = {"invalid_session": "invalid_session", "unreadable": "unreadable", "audit": "audit"}


@dataclasses.dataclass(frozen=True, slots=True)
class Environment:
    """
    What the shards of a process share.

    Attributes:
        token: The bot's token.
        desk: Makes the connection on which a shard waits for role requests.
    """

    http: aiohttp.ClientSession
    directory: directory.Directory
    stores: applier.Stores
    guilds: feed_ports.FedGuilds
    dependencies: ports.Dependencies
    metrics: gateway_metrics.GatewayMetrics
    config: settings.GatewaySettings
    token: Callable[[], str]
    desk: Callable[[], role_requests.RoleDesk]


class ShardRunner:
    """
    One owned shard.

    Attributes:
        guild_ids: Guilds that READY named; None before, and after a resume by another process.
    """

    def __init__(self, owned: feed_ports.Shard, environment: Environment) -> None:
        self._env = environment
        self._applier = applier.Applier(owned, environment.stores, environment.metrics)
        self._reconnects = protocol.Reconnects()
        if owned.session:
            self._reconnects.session = protocol.Session(owned.session, owned.url, owned.seq)
        self._intents = GUILDS | (GUILD_MEMBERS if environment.config.members else 0)
        self._link: link.Link | None = None
        self._desk = environment.desk()
        self._roles = roles.RoleService(self._desk, owned.key, lambda: self._link, environment.metrics)
        self._auditor = audit.Auditor(
            environment.dependencies,
            environment.metrics,
            wait=environment.config.audit_wait,
            end_session=self.end_session,
        )
        self._log = logs.get(__name__)
        self.key = owned.key
        self.guild_ids: frozenset[int] | None = None

    @property
    def attached(self) -> bool:
        """Whether the shard has a connection with a session."""
        return self._link is not None and self._link.machine.attached

    async def end_session(self, reason: str) -> None:
        """End the session, so that a new one is identified."""
        if self._link is not None:
            await self._link.end_session(reason)

    @property
    def shard(self) -> feed_ports.Shard:
        """The shard as this process stored it last."""
        return self._applier.shard

    async def audit_failed(self) -> None:
        """End the session because it lacks events, unless an audit has ended one lately."""
        await self._auditor.end_session()

    async def run(self, leaving: asyncio.Event) -> None:
        """Run until the lease is lost or *leaving* is set."""
        storing = asyncio.create_task(self._applier.run())
        others = {
            asyncio.create_task(self._connect_forever()),
            asyncio.create_task(self._roles.run()),
            asyncio.create_task(self._audit_forever()),
        }
        left = asyncio.create_task(leaving.wait())
        try:
            await asyncio.wait({storing, left, *others}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*others, left):
                task.cancel()
            try:
                results = await asyncio.gather(*others, left, return_exceptions=True)
                await self._finish(storing)
            finally:
                await self._desk.close()
        for problem in results:
            if isinstance(problem, Exception) and not isinstance(problem, applier.LeaseLost):
                raise problem

    async def _finish(self, storing: "asyncio.Task[None]") -> None:
        """Store what has arrived, and end the lease; without the lease, nothing more is written."""
        try:
            async with asyncio.timeout(LEAVE_WAIT):
                if not storing.done():
                    await self._applier.put(applier.Stop())
                await storing
                await self._env.stores.shards.release(self._applier.shard)
                self._log.info("shard_released", shard=self.key)
        except applier.LeaseLost:
            self._log.warning("shard_lost", shard=self.key)
        except (TimeoutError, errors.StoreUnavailable) as problem:
            self._log.warning("shard_not_released", shard=self.key, error=str(problem))
        finally:
            storing.cancel()

    async def _connect_forever(self) -> None:
        while True:
            await self._extend_lease()
            ended, machine = await self._connect()
            self._link = None
            self._env.metrics.closes.labels(metric_types.GATEWAY_CLOSE.fit(ended.reason)).inc()
            self._log.info("gateway_closed", shard=self.key, reason=ended.reason, then=ended.after.value)
            after = ended.after
            if after is protocol.After.STOP:
                after = await self._after_refusal(ended)
            pause = self._reconnects.ended(machine, after, ended.pause, RANDOM)
            if self._reconnects.session is None:
                cause = CAUSES.get(ended.reason, "closed" if ended.reason.isdigit() else "other")
                await self._applier.put(applier.SessionEnded(cause))
            await asyncio.sleep(pause)

    async def _connect(self) -> tuple[link.Ended, protocol.Connection]:
        shard_id, count = self._applier.shard.number
        identity = protocol.Identity(self._env.token(), self._intents, shard_id, count)
        session, permit = self._reconnects.session, None
        url = await self._address(session)
        if session is None:
            permit = await self._env.directory.permit_identify(shard_id)
        machine = protocol.Connection(identity, session, time.monotonic(), RANDOM)
        outlets = link.Outlets(
            self._deliver,
            self._roles.on_answer,
            may_identify=lambda: permit is not None and permit.is_valid,
            identified=self._identified(permit),
        )
        self._link = link.Link(machine, outlets, self._env.metrics, self._env.stores.clock, self._applier.shard.bot_id)
        try:
            return await self._link.run(self._env.http, url), machine
        finally:
            self._link = None
            if permit is not None and not machine.asked:
                await self._env.directory.give_back(permit)

    def _identified(self, permit: identifies.Identify | None) -> Callable[[], Awaitable[None]]:
        async def settle() -> None:
            if permit is not None:
                await self._env.directory.identified(permit)

        return settle

    async def _address(self, session: protocol.Session | None) -> str:
        """Return where to connect; the token is sent only to an address that Discord's API, or a known host, names."""
        insecure = self._env.config.insecure
        if session is not None and socket.is_allowed(session.url, insecure=insecure):
            host = urllib.parse.urlsplit(session.url).hostname or ""
            known = urllib.parse.urlsplit((await self._env.directory.read(float("inf"))).url).hostname
            if host.endswith(".discord.gg") or host == known:
                return session.url
        url = (await self._env.directory.read(float("inf"))).url
        if not socket.is_allowed(url, insecure=insecure):
            raise errors.DiscordTransient("the Gateway's address is not encrypted")
        return url

    async def _deliver(self, item: link.Item) -> None:
        if isinstance(item, protocol.Ready):
            self._env.metrics.sessions.labels("identified").inc()
            self.guild_ids = frozenset(item.data["guild_ids"])
            self._log.info("session_began", shard=self.key, guilds=len(item.data["guild_ids"]))
        elif isinstance(item, protocol.Resumed):
            self._env.metrics.sessions.labels("resumed").inc()
            self._log.info("session_resumed", shard=self.key)
        await self._applier.put(item)

    async def _after_refusal(self, ended: link.Ended) -> protocol.After:
        """Return what follows a lasting refusal: a try without the privileged intent, else nothing, forever."""
        self._env.metrics.sessions.labels("refused").inc()
        self._log.error("gateway_refused", shard=self.key, code=ended.reason)
        if ended.reason == MISSING_INTENT and self._intents & GUILD_MEMBERS:
            self._intents &= ~GUILD_MEMBERS
            return protocol.After.IDENTIFY
        await self._applier.put(applier.SessionEnded("fatal"))
        # The lease is kept: another process would only spend identifies.
        await asyncio.Event().wait()
        raise AssertionError

    async def _extend_lease(self) -> None:
        """Make sure that the shard is still ours: a process that was stopped would take the session back."""
        stores = self._env.stores
        while True:
            try:
                until = stores.clock() + stores.lease
                if await stores.shards.extend(self._applier.shard, until):
                    return
                raise applier.LeaseLost
            except errors.StoreUnavailable as problem:
                self._log.warning("lease_not_extended", shard=self.key, error=str(problem))
                await asyncio.sleep(STORE_RETRY)

    async def _audit_forever(self) -> None:
        interval = self._env.config.audit_interval
        plan = audit.AuditPlan(interval, time.monotonic(), RANDOM.random())
        while True:
            await asyncio.sleep(interval * RANDOM.uniform(0.5, 1.5) if interval else 3_600.0)
            if not interval or not self.attached or not plan.is_due(time.monotonic(), self._applier.changed_at):
                continue
            with contextlib.suppress(errors.StoreUnavailable, errors.LimiterUnavailable):
                guild_id = await self._env.guilds.pick_for_audit(
                    self._applier.shard, self._env.stores.clock(), recent=RANDOM.random() < audit.RECENT_SHARE
                )
                if guild_id is not None:
                    await self._auditor.audit(guild_id)
