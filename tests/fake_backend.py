"""Fakes of all ports in one object, with the use cases built on them.
A whole backend of fakes: what the use cases see of Discord, of storage and of transport.

`away` on a fake simulates an outage of its server.
"""

import asyncio
import collections
import dataclasses
import math
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from typing import Any

from prometheus_client import registry

from indexer_service.api import convert
from indexing import errors, settings
from indexing.domain import job_updates, model, ports, turns
from indexing.telemetry import metrics
from indexing.usecases import (
    bot_list,
    browse,
    fetch_guild,
    guild_lists,
    read_channels,
    run_turn,
    turn_state,
)
from tests import clockwork, fakes, pairs, values


class MemoryEvents:
    """Port `ports.Events`; `flush` simulates the loss of Redis' data."""

    def __init__(self) -> None:
        self.away = False
        self.open = 0
        self.changed = asyncio.Condition()
        self.streams: dict[str, list[job_updates.JobUpdate]] = collections.defaultdict(list)
        self._count = 0

    def flush(self) -> None:
        """Lose all streams."""
        self.streams.clear()

    async def delete_streams(self, job_ids: Collection[str]) -> None:
        """Delete the streams of these jobs."""
        if self.away:
            raise errors.QueueUnavailable("played")
        for job_id in job_ids:
            self.streams.pop(job_id, None)

    async def publish(self, update: job_updates.JobUpdate) -> None:
        """Append an update and wake the watchers."""
        if self.away:
            raise errors.QueueUnavailable("played")
        self._count += 1
        stream = self.streams[update.job.job_id]
        stream.append(dataclasses.replace(update, position=f"{self._count}-0"))
        async with self.changed:
            self.changed.notify_all()

    async def get_last_position(self, job_id: str) -> str:
        """Return the latest position."""
        if self.away:
            raise errors.QueueUnavailable("played")
        stream = self.streams[job_id]
        return stream[-1].position if stream else "0-0"

    async def has_all_since(self, job_id: str, position: str) -> bool:
        """Return whether nothing after *position* is lost."""
        return bool(await self.list_retained([(job_id, position)]))

    async def list_retained(self, positions: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return after which places nothing is lost."""
        if self.away:
            raise errors.QueueUnavailable("played")
        return {(key, place) for key, place in positions if self._first(key) <= _place(place)}

    def _first(self, job_id: str) -> float:
        stream = self.streams[job_id]
        return _place(stream[0].position) if stream else math.inf

    async def list_updated(self, positions: Mapping[str, str]) -> set[str]:
        """Return which jobs have news."""
        if self.away:
            raise errors.QueueUnavailable("played")
        return {key for key, place in positions.items() if _place(await self.get_last_position(key)) > _place(place)}

    async def subscribe(self, job_id: str, after: str) -> ports.Subscription:
        """Listen."""
        if self.away:
            raise errors.QueueUnavailable("played")
        self.open += 1
        return _Listener(self, job_id, _place(after))


class _Listener:
    """Port `ports.Subscription`."""

    def __init__(self, events: MemoryEvents, job_id: str, place: int) -> None:
        self._events = events
        self._job_id = job_id
        self._place = place

    def _new(self) -> list[job_updates.JobUpdate]:
        return [update for update in self._events.streams[self._job_id] if _place(update.position) > self._place]

    async def next(self, patience: float) -> job_updates.JobUpdate | None:
        """Return what is new, merged."""
        try:
            async with asyncio.timeout(patience), self._events.changed:
                await self._events.changed.wait_for(self._new)
        except TimeoutError:
            return None
        rows: dict[int, model.GuildTask] = {}
        last: job_updates.JobUpdate | None = None
        for update in self._new():
            last = job_updates.with_newest_job(last, update)
            for unit in update.tasks:
                if unit.guild_id not in rows or rows[unit.guild_id].revision < unit.revision:
                    rows.pop(unit.guild_id, None)
                    rows[unit.guild_id] = unit
        assert last is not None
        self._place = _place(last.position)
        return dataclasses.replace(last, tasks=tuple(rows.values()))

    async def close(self) -> None:
        """Stop listening."""
        self._events.open -= 1


def _place(position: str) -> int:
    return int(position.partition("-")[0])


class MemoryUserBudgets:
    """Port `ports.UserBudgets`."""

    def __init__(self) -> None:
        self.forgotten: list[int] = []
        self.away = False

    async def forget_user(self, user: int) -> None:
        """Record the user."""
        if self.away:
            raise errors.LimiterUnavailable(1.0)
        self.forgotten.append(user)


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One request to Discord: `what` is list, installs, a guild id, or (user id, guild id) for roles."""

    what: Hashable
    purpose: ports.Purpose
    at: float


class FakeDiscord:
    """
    Port `ports.Discord`, with contents that the test sets.

    Attributes:
        lists: Guild lists by user id.
        installed: Guilds that have our bot.
        channels: Channels by guild id.
        roles: Role ids by (user id, guild id); a missing user is not a member.
        latency: Seconds that each answer takes.
        before_answer: Called while a response is in flight.
        calls: Requests in order; a request without a permit is not among them.
        own_tokens: For each request for roles, whether it was made with the user's own token.
        busiest: Most requests in flight at once.
    """

    def __init__(self, clock: ports.Clock) -> None:
        self.lists: dict[int, list[model.UserGuild]] = {}
        self.installed: set[int] = set()
        self.channels: dict[int, list[model.Channel]] = {}
        self.roles: dict[tuple[int, int], tuple[int, ...]] = {}
        self.latency = 0.0
        self.before_answer: Callable[[], Awaitable[None]] | None = None
        self.calls: list[Call] = []
        self.own_tokens: list[bool] = []
        self.busiest = 0
        self._under_way = 0
        self._clock = clock
        self._faults: dict[Hashable, collections.deque[Exception]] = collections.defaultdict(collections.deque)

    def fail(self, what: Hashable, *problems: Exception) -> None:
        """
        Let the next requests for *what* fail, one with each of *problems*.

        A refusal by the limiter is raised before the precondition is evaluated, everything else after it.
        """
        self._faults[what].extend(problems)

    def asked(self, what: Hashable) -> int:
        """Return how often *what* was requested."""
        return sum(call.what == what for call in self.calls)

    async def user_guilds(
        self,
        credential: ports.Credential,  # noqa: ARG002 -- the port has it
        purpose: ports.Purpose,
    ) -> list[model.UserGuild]:
        """Return the list of the purpose's user."""
        await self._answer("list", purpose)
        return self.lists[purpose.user_id or 0]

    async def bot_guilds(self, purpose: ports.Purpose) -> frozenset[int]:
        """Return the guilds that have our bot."""
        await self._answer("installs", purpose)
        return frozenset(self.installed)

    async def bot_is_in(self, guild_id: int, purpose: ports.Purpose) -> bool:
        """Return whether our bot is there."""
        await self._answer(("bot", guild_id), purpose)
        return guild_id in self.installed

    async def guild_channels(
        self, guild_id: int, purpose: ports.Purpose, precondition: ports.Precondition
    ) -> list[model.Channel] | None:
        """Return the guild's channels, if they are still wanted."""
        if not await self._answer(guild_id, purpose, precondition):
            return None
        return self.channels[guild_id]

    async def member_roles(
        self,
        user_id: int,
        guild_id: int,
        credential: ports.Credential,
        purpose: ports.Purpose,
    ) -> tuple[int, ...]:
        """Return the member's roles."""
        self.own_tokens.append(ports.MEMBER_SCOPE in credential.scopes)
        await self._answer((user_id, guild_id), purpose)
        if (user_id, guild_id) not in self.roles:
            raise errors.Gone(404, 10007)
        return self.roles[user_id, guild_id]

    async def _answer(
        self, what: Hashable, purpose: ports.Purpose, precondition: ports.Precondition | None = None
    ) -> bool:
        problem = self._faults[what].popleft() if self._faults[what] else None
        if problem is not None and _by_limiter(problem):
            raise problem
        if precondition is not None and not await precondition():
            return False
        self.calls.append(Call(what, purpose, self._clock()))
        self._under_way += 1
        self.busiest = max(self.busiest, self._under_way)
        try:
            if self.before_answer is not None:
                await self.before_answer()
            await asyncio.sleep(self.latency)
        finally:
            self._under_way -= 1
        if problem is not None:
            raise problem
        return True


def _by_limiter(problem: Exception) -> bool:
    if isinstance(problem, errors.RateLimited):
        return not problem.why.startswith("429")
    return isinstance(problem, errors.LimiterUnavailable)


@dataclasses.dataclass(frozen=True)
class FakeBackend:
    """All fakes of one test, and the use cases built on them."""

    clock: clockwork.ManualClock
    discord: FakeDiscord
    users: fakes.MemoryUsers
    guilds: fakes.MemoryGuilds
    jobs: fakes.MemoryJobs
    queue: fakes.RecordingQueue
    events: MemoryEvents
    bot_guilds: fakes.MemoryBotGuilds
    config: settings.IndexingSettings
    metrics: metrics.IndexingMetrics
    oauth: pairs.FakeOAuth
    credentials: pairs.MemoryCredentials
    unproven: pairs.MemoryCredentials
    requests: fakes.MemoryIdempotencyStore
    wrap_deps: Callable[[ports.Dependencies], ports.Dependencies] = lambda backend: backend
    """What stands between the use cases and the fakes."""

    @property
    def deps(self) -> ports.Dependencies:
        """The fakes as the use cases get them."""
        backend = ports.Dependencies(
            discord=self.discord,
            oauth=self.oauth,
            users=self.users,
            credentials=self.credentials,
            unproven=self.unproven,
            guilds=self.guilds,
            jobs=self.jobs,
            queue=self.queue,
            events=self.events,
            bot_guilds=self.bot_guilds,
            user_data=fakes.MemoryUserData(self.users, self.guilds, self.jobs, self.requests),
            clock=self.clock,
        )
        return self.wrap_deps(backend)

    @property
    def channel_fetcher(self) -> read_channels.ChannelFetcher:
        """Fetches guilds."""
        return read_channels.ChannelFetcher(
            self.deps, self.config, self.metrics, bot_list.BotGuilds(self.deps, self.config)
        )

    @property
    def guild_step(self) -> fetch_guild.GuildStep:
        """Runs the steps of guild tasks."""
        return fetch_guild.GuildStep(self.deps, self.config, self.metrics, self.channel_fetcher)

    @property
    def turn_runner(self) -> run_turn.TurnRunner:
        """Runs turns."""
        return run_turn.TurnRunner(self.deps, self.config, self.metrics, guild_lists.GuildLists(self.deps, self.config))

    @property
    def browser(self) -> browse.Browse:
        """Reads the index; rows are encoded as they are sent."""
        return browse.Browse(
            self.deps,
            self.config,
            encode_channel=convert.encoded_channel,
            encode_guild=convert.encoded_guild,
            monotonic=time.monotonic,
        )

    async def add_user(self, guilds: Sequence[model.UserGuild], user_id: int = values.USER) -> None:
        """Add a user with a credential, in these guilds; each guild has our bot, and by default one channel."""
        await self.users.put_credential(user_id, values.credential())
        self.discord.lists[user_id] = list(guilds)
        for guild in guilds:
            self.discord.installed.add(guild.guild_id)
            self.discord.channels.setdefault(guild.guild_id, [values.channel(guild.guild_id + 1, guild.guild_id)])

    @property
    def discord_calls(self) -> list[Hashable]:
        """Requests to Discord besides the lists, in order."""
        return [call.what for call in self.discord.calls if call.what not in {"list", "installs"}]

    def turn_limits(self, **changes: Any) -> turn_state.TurnLimits:  # noqa: ANN401 -- any field
        """Return turn limits that stop nothing and run one task at a time, with these changes."""
        wide = turn_state.TurnLimits(model.Lane.INTERACTIVE, until=self.clock() + 1000, width=1)
        return dataclasses.replace(wide, **changes)

    async def start_job(self, job_id: str = "a" * 32, **changes: Any) -> model.Job:  # noqa: ANN401 -- any field
        """Start a job and enqueue its first turn."""
        now = self.clock()
        job, created = await self.jobs.create_or_join(values.job(job_id, created_at=now, next_turn_at=now, **changes))
        assert created
        await self.queue.enqueue(turns.Turn(job.job_id, job.turn))
        return job

    async def run_next_turn(self) -> bool:
        """Run the next turn of the queue as a worker does, at its due time; returns whether there was one."""
        if not self.queue.enqueued and self.queue.waiting:
            turn, due = min(self.queue.waiting.items(), key=lambda item: item[1])
            del self.queue.waiting[turn]
            self.clock.advance(max(0.0, due - self.clock()))
            self.queue.enqueued.append(turn)
        if not self.queue.enqueued:
            return False
        await self.turn_runner.run_background_turn(self.queue.enqueued.pop(0))
        return True

    async def run_all_turns(self, *, most: int = 300) -> int:
        """Run turns until none is left; returns how many there were."""
        for number in range(most):
            if not await self.run_next_turn():
                return number
        raise AssertionError(f"not done after {most} turns")

    async def get_job(self, job_id: str = "a" * 32) -> model.Job:
        """Return a job that must exist."""
        found = await self.jobs.get(job_id)
        assert found is not None
        return found

    async def task_states(self, job_id: str = "a" * 32) -> dict[int, str]:
        """Return the state of each task, with its reason if there is one."""
        rows = await self.jobs.list_tasks(job_id)
        return {row.guild_id: f"{row.state} {row.reason}".strip() for row in rows}


def make(clock: clockwork.ManualClock | None = None, **changes: float) -> FakeBackend:
    """Return an empty backend on *clock*, or on the clockwork loop's; *changes* are settings that differ."""
    clock = clock or clockwork.running_clock()
    users = fakes.MemoryUsers()
    return FakeBackend(
        clock=clock,
        discord=FakeDiscord(clock),
        users=users,
        guilds=fakes.MemoryGuilds(users),
        jobs=fakes.MemoryJobs(),
        queue=fakes.RecordingQueue(),
        events=MemoryEvents(),
        bot_guilds=fakes.MemoryBotGuilds(clock),
        config=settings.IndexingSettings.model_validate(changes),
        metrics=metrics.Metrics(registry.CollectorRegistry()).indexing,
        oauth=pairs.FakeOAuth(),
        credentials=pairs.MemoryCredentials(users),
        unproven=pairs.MemoryCredentials(users, unproven=True),
        requests=fakes.MemoryIdempotencyStore(users),
    )
