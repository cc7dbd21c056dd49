"""
A week of ordinary use: the real rules, fetcher, guild lists and refresher over in-memory stores and a manual clock.

A visit reads the user's guild list and processes all guilds, as a job does. Then all guilds of the user are read from
the index and compared to the truth at that moment. The calls of a naive service, which fetches each guild of each user
at each visit, are counted for comparison.
"""

import asyncio
import collections
import dataclasses
import heapq
import math

from prometheus_client import registry

from indexing import errors, settings
from indexing.domain import freshness, model, ports
from indexing.telemetry import metrics
from indexing.usecases import (
    bot_list,
    fetch_guild,
    guild_lists,
    maintenance,
    read_channels,
)
from tests import clockwork, fake_backend, fakes, pairs, values
from tests.benchmarks.economy import audits, fed
from tests.benchmarks.economy import world as worlds_

TICK = 60.0
"""Seconds between two runs of the refresher; four times the product's default, to save time."""
PAGE = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Week:
    """
    The cost of a week.

    Attributes:
        distinct: Guilds with the bot that have a user.
        feed: What the Gateway feeds.
        lists, channels, roles: Calls per user and day; `lists` includes the pages of the bot's own list.
        audits: Calls per user and day that compare fed guilds, of all guilds with the bot.
        over_gateway: Role requests over the Gateway per user and day; these are no calls.
        in_visits, in_schedule: The calls for channels by visits and by the refresher.
        stale: Share of reads that differed from the truth, in structure or in the user's roles.
        refused: Calls answered 403.
        naive: Calls per user and day of a naive service.
        naive_refused: Naive calls that would be answered 403.
        by_day: Calls for lists and channels per user, by day; the first day starts with an empty index.
    """

    users: int
    feed: str
    distinct: int
    reads: int
    lists: float
    channels: float
    roles: float
    audits: float
    over_gateway: float
    in_visits: float
    in_schedule: float
    stale: float
    stale_structure: float
    refused: int
    naive: float
    naive_refused: float
    by_day: list[float]


class TrueDiscord:
    """Implements `ports.Discord`: returns the truth and counts calls."""

    def __init__(self, world: worlds_.World, clock: ports.Clock) -> None:
        self.calls: collections.Counter[str] = collections.Counter()
        self.by_day: collections.Counter[int] = collections.Counter()
        self._world = world
        self._clock = clock
        self._installed = world.installed()

    def _count(self, what: str, calls: int = 1) -> None:
        self.calls[what] += calls
        if what != "roles":
            self.by_day[int((self._clock() - clockwork.START) / worlds_.DAY)] += calls

    async def user_guilds(self, credential: ports.Credential, purpose: ports.Purpose) -> list[model.UserGuild]:  # noqa: ARG002 -- the port has it
        """Return the user's list."""
        self._count("lists")
        return self._world.lists[purpose.user_id or 0]

    async def bot_guilds(self, purpose: ports.Purpose) -> frozenset[int]:  # noqa: ARG002 -- the port has it
        """Return the guilds with the bot."""
        self._count("lists", -(-len(self._installed) // PAGE))
        return self._installed

    async def bot_is_in(self, guild_id: int, purpose: ports.Purpose) -> bool:  # noqa: ARG002 -- the port has it
        """Return whether the guild has the bot."""
        self._count("lists")
        return guild_id in self._installed

    async def guild_channels(
        self, guild_id: int, purpose: ports.Purpose, precondition: ports.Precondition
    ) -> list[model.Channel] | None:
        """Return the guild's current channels."""
        if not await precondition():
            return None
        self._count("channels")
        self.calls[purpose.lane.value] += 1
        if not self._world.has_bot(guild_id):
            self.calls["refused"] += 1
            raise errors.NoAccess(403, 50001)
        return self._world.guilds[guild_id].channels()

    async def member_roles(
        self,
        user_id: int,
        guild_id: int,
        credential: ports.Credential,  # noqa: ARG002 -- the port has it
        purpose: ports.Purpose,  # noqa: ARG002 -- the port has it
    ) -> tuple[int, ...]:
        """Return the user's current roles."""
        self._count("roles")
        return self._world.role_ids(user_id, guild_id)


class _WeekSimulation:
    """One week."""

    def __init__(self, spec: worlds_.WorldSpec, feed: fed.Feed) -> None:
        self.world = worlds_.World(spec)
        self.feed = feed
        self.clock = clockwork.ManualClock()
        self.discord = TrueDiscord(self.world, self.clock)
        self.rules = settings.IndexingSettings(refresh_interval=TICK)
        self.reads = self.stale = self.stale_structure = self.naive = self.naive_refused = 0
        users = fakes.MemoryUsers()
        guilds, jobs = fakes.MemoryGuilds(users), fakes.MemoryJobs()
        fed_roles = None
        if feed is not fed.Feed.NONE:
            guilds = fed.FedGuilds(users, self.world, self.clock)
            fed_roles = fed.FedRoles(self.world, self.discord.calls, answers=feed is fed.Feed.ROLES)
        self.ports = ports.Dependencies(
            discord=self.discord,
            oauth=pairs.FakeOAuth(),
            users=users,
            credentials=pairs.MemoryCredentials(users),
            unproven=pairs.MemoryCredentials(users, unproven=True),
            guilds=guilds,
            jobs=jobs,
            queue=fakes.RecordingQueue(),
            events=fake_backend.MemoryEvents(),
            bot_guilds=fakes.MemoryBotGuilds(),
            user_data=fakes.MemoryUserData(users, guilds, jobs, fakes.MemoryIdempotencyStore(users)),
            clock=self.clock,
            fed_roles=fed_roles,
        )
        seen = metrics.Metrics(registry.CollectorRegistry()).indexing
        self.lists = guild_lists.GuildLists(self.ports, self.rules)
        reader = read_channels.ChannelFetcher(self.ports, self.rules, seen, bot_list.BotGuilds(self.ports, self.rules))
        self.fetcher = fetch_guild.GuildStep(self.ports, self.rules, seen, reader)
        self.refresher = maintenance.Refresher(self.ports, self.rules, seen, reader)

    async def run(self) -> None:
        """Simulate the week."""
        spec = self.world.spec
        for user in self.world.lists:
            await self.ports.users.put_credential(user, values.credential())
        end = spec.days * worlds_.DAY
        visits = sorted(
            (at, user)
            for user in self.world.lists
            for day in range(-1, spec.days)
            for at in self.world.visits_on(user, day)
            if 0 <= at < end
        )
        events = heapq.merge(
            ((at, 0, guild_id, user) for at, guild_id, user in self.world.changes()),
            ((number * TICK, 1, 0, 0) for number in range(int(end / TICK))),
            ((at, 2, 0, user) for at, user in visits),
        )
        for at, kind, guild_id, user in events:
            self.clock.elapsed = at
            if kind == 0:
                self.world.apply(guild_id, user)
            elif kind == 1:
                await self.refresher.refresh()
            else:
                await self._visit(user)

    async def _visit(self, user: int) -> None:
        now = self.clock()
        job = model.new_job(f"{user}", user, now=now, due=now, force=False)
        purpose = ports.Purpose(model.Lane.INTERACTIVE, user, "", 1.0)
        units = (await self.lists.fetch_guild_list(job, values.credential(), purpose)).tasks
        open_ = [unit for unit in units if not unit.state.terminal]
        guilds = await self.ports.guilds.get([unit.guild_id for unit in open_])
        stored = await self.ports.users.load(user)
        members = stored.memberships if stored else {}
        for unit in open_:
            key = unit.guild_id
            work = fetch_guild.TaskContext(job, unit, guilds[key], members[key], values.credential(), _nobody)
            while not work.task.state.terminal:
                work = dataclasses.replace(work, task=(await self.fetcher.run_step(work, purpose)).task)
            await self._read(user, key)
        self.naive += 1 + len(units)
        self.naive_refused += len(units) - len(open_)

    async def _read(self, user: int, guild_id: int) -> None:
        """Compare the stored guild with the truth."""
        guild = (await self.ports.guilds.get([guild_id]))[guild_id]
        truth = self.world.guilds[guild_id]
        member = await values.stored_membership(self.ports.users, user, guild_id)
        assert member is not None
        structure = guild.schedule.fingerprint != truth.fingerprint()
        roles = member.role_ids is not None and member.role_ids != self.world.role_ids(user, guild_id)
        self.reads += 1
        self.stale_structure += structure
        self.stale += structure or roles

    def week(self) -> Week:
        """Return the results."""
        spec, calls = self.world.spec, self.discord.calls
        days = spec.users * spec.days
        shards = math.ceil(len(self.world.installed()) / audits.GUILDS_PER_SHARD)
        audit_calls = 0.0 if self.feed is fed.Feed.NONE else shards * audits.calls_a_day(spec) / spec.users
        return Week(
            users=spec.users,
            feed=self.feed.value,
            distinct=len(self.world.guilds),
            reads=self.reads,
            lists=calls["lists"] / days,
            channels=calls["channels"] / days,
            roles=calls["roles"] / days,
            audits=audit_calls,
            over_gateway=calls["op 8"] / days,
            in_visits=calls["interactive"] / days,
            in_schedule=calls["refresh"] / days,
            stale=self.stale / self.reads,
            stale_structure=self.stale_structure / self.reads,
            refused=calls["refused"],
            naive=self.naive / days,
            naive_refused=self.naive_refused / days,
            by_day=[self.discord.by_day[day] / spec.users for day in range(spec.days)],
        )


async def _nobody() -> None:
    """Ignore the start of a fetch."""


def simulate_week(spec: worlds_.WorldSpec, feed: fed.Feed = fed.Feed.NONE) -> Week:
    """Simulate a week and return its cost; equal specs give equal results."""
    freshness.RANDOM.seed(spec.seed)
    week = _WeekSimulation(spec, feed)
    asyncio.run(week.run())
    return week.week()
