"""The state of a running turn, and its limits."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable

from indexing import errors
from indexing.domain import job_updates, model, ports

NOW = 0.02
"""A turn due within this many seconds is enqueued at once, so that a task due as soon is started by it."""
FIRST_FIVE = 5
"""Guilds that a first screen shows. A job with fewer guilds reaches this milestone when it ends."""


@dataclasses.dataclass(frozen=True, slots=True)
class TurnLimits:
    """
    Limits of one turn.

    Attributes:
        until: Epoch second after which no further task is started; a background turn starts one in any case.
        width: Tasks that run concurrently.
        first: Number of best open tasks to run; None for all.
        max_wait: Longest wait for one permit, in seconds.
        spare_wait: The same while `can_wait`; by as much, tasks may then be started later.
        can_wait: Returns whether no other turn needs the thread.
        seconds: Time for tasks from the moment when the turn can start them, which replaces `until`; None keeps it.
    """

    lane: model.Lane
    until: float
    width: int
    first: int | None = None
    max_wait: float = 1.0
    spare_wait: float = 0.0
    can_wait: Callable[[], bool] = lambda: False
    seconds: float | None = None


@dataclasses.dataclass(slots=True)
class TurnState:
    """
    State of a running turn: what it owns, what it loaded, and what stops it.

    Attributes:
        guilds: Guilds of the open tasks.
        order: Current rank of the open tasks by guild; a task keeps the position that it was listed with.
        assigned: Guilds whose tasks this turn may still start.
        urgent: Guilds missing from the first screen, see `prioritize_first_screen`, and the first one to be shown.
        queued: Guilds whose channels wait for a permit.
        active: Number of steps that run, or whose permit is due soon.
        numbers: Numbers of the steps, which name their queue positions.
        stepped: Set, and replaced, whenever a step ends or gets its permit, or a task is set aside.
        refusal: Why no further task is started; None while tasks may start.
        resume_at: When the job can continue after the refusal.
        loaded_at: When the guilds were loaded.
        until: When the turn starts no more tasks: later than `limits.until` when it was renewed.
        renewed_at: When the turn's lease was last renewed, 0 for never.
        abandoned: Whether the turn lost the job: another owner took it or ended it, or its user was erased.
        begun: Whether a task was started.
        completed: Whether the step of one was completed, with any result but a wait for quota.
        publishing: Updates that are about to be published.
    """

    job: model.Job
    limits: TurnLimits
    credential: ports.Credential
    tasks: dict[int, model.GuildTask] = dataclasses.field(default_factory=dict)
    memberships: dict[int, model.Membership] = dataclasses.field(default_factory=dict)
    guilds: dict[int, model.Guild] = dataclasses.field(default_factory=dict)
    order: dict[int, int] = dataclasses.field(default_factory=dict)
    assigned: set[int] = dataclasses.field(default_factory=set)
    urgent: frozenset[int] = frozenset()
    queued: set[int] = dataclasses.field(default_factory=set)
    active: int = 0
    numbers: set[int] = dataclasses.field(default_factory=set)
    stepped: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    refusal: errors.RateLimited | None = None
    resume_at: float = 0.0
    abandoned: bool = False
    begun: bool = False
    completed: bool = False
    changes: int = 0
    until: float = 0.0
    renewed_at: float = 0.0
    loaded_at: float = 0.0
    publishing: "set[asyncio.Task[None]]" = dataclasses.field(default_factory=set)

    def __post_init__(self) -> None:
        self.until = self.limits.until

    @property
    def last_start(self) -> float:
        """Epoch second after which the turn starts no further task; later while no other turn needs its thread."""
        return self.until + (self.limits.spare_wait if self.limits.can_wait() else 0.0)

    def max_wait(self, now: float) -> float:
        """Return the longest wait for a permit that is requested now, in seconds."""
        if self.limits.lane is model.Lane.INTERACTIVE:
            # A caller waits for the end of this turn.
            return min(self.limits.max_wait, max(0.0, self.limits.until - now))
        spare = min(self.limits.spare_wait, self.last_start - now) if self.limits.can_wait() else 0.0
        return max(self.limits.max_wait, spare)

    @property
    def shows_something(self) -> bool:
        """Whether the user sees at least one guild."""
        return any(task.channel_count is not None for task in self.tasks.values())

    def prioritize_first_screen(self) -> None:
        """
        Move the first guild to the interactive lane, and all of the first screen if only the user's budget delayed it.

        Queued behind all background work, they would finish long after the user's budget has permits again. Of a screen
        that waits for the global budget the other guilds stay in the background lane, because many of them would delay
        new starts.
        """
        shown = sum(task.channel_count is not None for task in self.tasks.values())
        most = FIRST_FIVE if self.job.waited_for == "user" else 1
        self.urgent = frozenset(task.guild_id for task in self.open_tasks()[: max(0, most - shown)])

    def step_ended(self) -> None:
        """Wake the waiters in `wait_for_step`."""
        self.stepped.set()
        self.stepped = asyncio.Event()

    async def wait_for_step(self, seconds: float | None = None) -> None:
        """Return when a step ends, gets its permit, or is set aside, and after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stepped.wait()

    def revise(self, task: model.GuildTask) -> model.GuildTask:
        """Keep a changed task under the next revision; returns it."""
        self.changes += 1
        revised = dataclasses.replace(task, revision=job_updates.revision_of(self.job.turn, self.changes))
        self.tasks[task.guild_id] = revised
        return revised

    def note_refusal(self, refusal: errors.RateLimited, now: float) -> None:
        """Keep the refusal that ends soonest: a job that returns late loses its position in the queue."""
        if self.refusal is None or now + refusal.retry_after < self.resume_at:
            self.refusal, self.resume_at = refusal, now + refusal.retry_after

    def open_tasks(self) -> list[model.GuildTask]:
        """Return the open tasks: channels before roles that are not urgent, most important first."""
        rows = [task for task in self.tasks.values() if not task.state.terminal]
        return sorted(rows, key=lambda task: (self._comes_late(task), self.order.get(task.guild_id, task.position)))

    def _comes_late(self, task: model.GuildTask) -> bool:
        return task.step is model.Step.ROLES and task.guild_id not in self.urgent

    def fed_guilds(self) -> set[int]:
        """Return the guilds of open tasks that the Gateway feeds: they take no permit, so any turn runs all of them."""
        tasks = self.open_tasks()
        return {each.guild_id for each in tasks if (guild := self.guilds.get(each.guild_id)) and guild.fed_by}

    def purpose(self, now: float, waiter: str, guild: int | None = None) -> ports.Purpose:
        """
        Return the purpose of a call to Discord at *now*, about *guild* if given.

        A call about no guild is for the user's list: it is in the interactive lane in any turn, because the user sees
        nothing before it. Only a call of a background turn that is not urgent names a waiter, and so keeps a queue
        position: others do not return in the same lane, and an unclaimed position wastes its permit.
        """
        lane, job = self.lane_of(guild), self.job
        returns = self.limits.lane is not model.Lane.INTERACTIVE and (guild is None or lane is self.limits.lane)
        name = f"{job.job_id}:{waiter}" if returns else ""
        return ports.Purpose(lane, job.user_id, name, self.max_wait(now), job.callers)

    def lane_of(self, guild: int | None) -> model.Lane:
        """Return the lane of a call about *guild*; until the user sees a guild, all calls are interactive."""
        first = guild is None or guild in self.urgent or not self.shows_something
        return model.Lane.INTERACTIVE if first else self.limits.lane

    def step_purpose(self, now: float, task: model.GuildTask, number: int) -> ports.Purpose:
        """
        Return the purpose of a task's call; *number* is the lowest that no other step of the turn has.

        Jobs that wait for the channels of the same guild share its queue position: positions of their own would hold
        permits until their moment that no job needs once the guild is fetched. A position for roles is not the guild's,
        because another task may be first when it is due, and the next turn uses the lowest numbers again.
        """
        purpose = self.purpose(now, f"roles:{number}", task.guild_id)
        if task.step is model.Step.CHANNELS and purpose.waiter:
            return dataclasses.replace(purpose, waiter=f"guild:{task.guild_id}", shared=True)
        return purpose

    def update(self, *tasks: model.GuildTask) -> job_updates.JobUpdate:
        """Return the update for watchers after *tasks* changed."""
        return job_updates.JobUpdate(self.job, job_updates.tally_of(self.tasks.values()), tasks)
