"""A turn's work on its units: several side by side, the best first, until time or quota or work is out."""

import asyncio
import dataclasses

from indexing import errors
from indexing.domain import model, ports, reasons
from indexing.telemetry import logs, metrics
from indexing.usecases import fetch_guild

FIRST_FIVE = 5
"""Guilds that a first screen shows: of a job with fewer, its end is when they are all there."""
MILESTONES = {1: "first", FIRST_FIVE: "five"}
"""Guilds done after which somebody looks at the clock."""
BOT_RETRY_PAUSE = 5.0
"""Seconds until the second attempt after a refusal of the bot's token."""
MOST_REFUSED = 10_000
"""Users whose refusal a process remembers; beyond that all are forgotten."""
REFUSED_FOR = 600.0
"""Seconds for which roles are asked for with the bot's token after Discord refused the user's own for them."""


@dataclasses.dataclass(frozen=True, slots=True)
class TurnLimits:
    """
    What one turn may do.

    Attributes:
        until: Epoch second after which no further unit is started.
        width: Units side by side.
        first: Only so many of the best open units; None for all.
        max_wait: Longest wait for one permit, in seconds.
    """

    lane: model.Lane
    until: float
    width: int
    first: int | None = None
    max_wait: float = 1.0


@dataclasses.dataclass(slots=True)
class TurnState:
    """
    The state of a turn while it runs: what it owns, what it read, and what stops it.

    Attributes:
        guilds: Those of the open units.
        order: Places of the open units by the rank of now; a row keeps the position it was listed with.
        assigned: Guilds that this turn may still begin.
        urgent: Guilds that somebody looks at an unfinished screen for, see `hurry_screen`.
        queued: Guilds whose channels wait for a permit.
        stepped: Set, and replaced, whenever a step ends or gets its permit.
        refusal: Why no further unit is begun, None while there is no reason.
        resume_at: When the job can go on then.
        abandoned: Whether somebody else has ended the job or its user was erased, so that nothing more is to be done.
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
    stepped: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    refusal: errors.RateLimited | None = None
    resume_at: float = 0.0
    abandoned: bool = False
    changes: int = 0

    @property
    def shows_something(self) -> bool:
        """Whether the user has a first guild to look at."""
        return any(task.channel_count is not None for task in self.tasks.values())

    def prioritize_first_screen(self) -> None:
        """
        Let a first screen be finished in the interactive lane when only the user's own budget kept it waiting.

        Behind everybody's background work its last guilds would come much later than their permits. A screen that
        waits for the global budget is one of many that do; those who come now must not stand behind them all.
        """
        if self.job.waited_for == "user":
            shown = sum(task.channel_count is not None for task in self.tasks.values())
            self.urgent = frozenset(task.guild_id for task in self.open_tasks()[: max(0, FIRST_FIVE - shown)])

    def step_ended(self) -> None:
        """Wake those who wait for a task to become available."""
        self.stepped.set()
        self.stepped = asyncio.Event()

    async def wait_for_step(self) -> None:
        """Return when a step ends or gets its permit."""
        await self.stepped.wait()

    def revise(self, task: model.GuildTask) -> model.GuildTask:
        """Remember a changed unit under the next revision."""
        self.changes += 1
        revised = dataclasses.replace(task, revision=model.revision_of(self.job.turn, self.changes))
        self.tasks[task.guild_id] = revised
        return revised

    def note_refusal(self, refusal: errors.RateLimited, now: float) -> None:
        """Remember the refusal that ends soonest: whoever comes late loses his place in the line, with its permit."""
        if self.refusal is None or now + refusal.retry_after < self.resume_at:
            self.refusal, self.resume_at = refusal, now + refusal.retry_after

    def open_tasks(self) -> list[model.GuildTask]:
        """Return units that still need work: channels before roles, most important first."""
        rows = [task for task in self.tasks.values() if not task.state.terminal]
        return sorted(
            rows, key=lambda task: (task.step is model.Step.ROLES, self.order.get(task.guild_id, task.position))
        )

    def purpose(self, now: float, waiter: str, guild: int | None = None) -> ports.Purpose:
        """
        Return for whom, and with how much patience, Discord is asked at *now*, if need be about a *guild*.

        Only who comes back in the same lane keeps a place in its line: one that nobody claims costs its permit.
        """
        max_wait = self.limits.max_wait
        if self.limits.lane is model.Lane.INTERACTIVE:
            # Somebody waits for the end of this turn; a background turn waits on with the place that it has in line.
            max_wait = min(max_wait, max(0.0, self.limits.until - now))
        lane, job = model.Lane.INTERACTIVE if guild in self.urgent else self.limits.lane, self.job
        name = "" if lane is model.Lane.INTERACTIVE else f"{job.job_id}:{waiter}"
        return ports.Purpose(lane, job.user_id, name, max_wait)

    def update(self, *tasks: model.GuildTask) -> model.JobUpdate:
        """Return what watchers are told when *units* changed."""
        return model.JobUpdate(self.job, model.tally_of(self.tasks.values()), tasks)


class GuildTaskRunner:
    """Works on the units of turns. Round trips for each unit: those of `fetch`, 1 to MongoDB and 2 to Redis."""

    def __init__(
        self,
        deps: ports.Dependencies,
        fetcher: fetch_guild.GuildStep,
        metrics: metrics.IndexingMetrics,
    ) -> None:
        self._deps = deps
        self._fetcher = fetcher
        self._metrics = metrics
        self._refused: dict[int, tuple[int, float]] = {}
        self._log = logs.get(__name__)

    async def run_tasks(self, run: TurnState) -> None:
        """
        Work on the run's open units.

        Raises:
            errors.LimiterUnavailable, errors.StoreUnavailable: Nothing can be done now.
        """
        run.assigned = {task.guild_id for task in run.open_tasks()[: run.limits.first]}
        try:
            if run.limits.lane is not model.Lane.INTERACTIVE and not run.shows_something:
                # Alone, so that no user stands in the line with five guilds before another with his first.
                await self._work_through(run, until_something_shows=True)
            async with asyncio.TaskGroup() as group:
                for _ in range(run.limits.width):
                    group.create_task(self._work_through(run))
        except* errors.IndexerError as problems:
            # Side by side, several may fail for the same reason; the turn reports the first.
            raise problems.exceptions[0] from problems

    async def publish(self, update: model.JobUpdate) -> None:
        """Tell the watchers; while Redis is away they are told nothing, and get a snapshot when it is back."""
        try:
            await self._deps.events.publish(update)
        except errors.QueueUnavailable as problem:
            self._log.warning("update_not_published", job=update.job.job_id, error=str(problem))

    async def _work_through(self, run: TurnState, *, until_something_shows: bool = False) -> None:
        """Do one task after the other; the next begins when it is written that this turn still owns the job."""
        while not (until_something_shows and run.shows_something):
            task = await self._next_task(run)
            if task is None:
                return
            try:
                with logs.bound(guild=task.guild_id):
                    outcome = await self._run_step(run, task)
                    while outcome.throttled is not None and self._is_due_soon(run, outcome.throttled.retry_after):
                        await asyncio.sleep(outcome.throttled.retry_after)
                        outcome = await self._run_step(run, task)
            finally:
                run.queued.discard(task.guild_id)
                run.step_ended()
            changed = run.revise(outcome.task)
            if outcome.throttled is not None:
                # Nothing was asked, so nothing is written: the next turn finds the row as it was.
                run.note_refusal(outcome.throttled, self._deps.clock())
                continue
            if changed.state.terminal:
                self._count_ended(run, changed)
            else:
                run.assigned.add(task.guild_id)
            await self._record(run, changed)

    async def _record(self, run: TurnState, changed: model.GuildTask) -> None:
        """Write what came of a task, then tell the watchers."""
        if await self._deps.jobs.write_tasks(run.job, [changed]):
            await self.publish(run.update(changed))
        else:
            run.abandoned = True

    async def _next_task(self, run: TurnState) -> model.GuildTask | None:
        """Take the best task, waiting for one that another step makes available; None when the turn starts no more."""
        while True:
            task = self._pick_next(run)
            if task is not None or not run.queued or self._is_over(run):
                return task
            await run.wait_for_step()

    def _is_over(self, run: TurnState) -> bool:
        return run.abandoned or run.refusal is not None or self._deps.clock() >= run.limits.until

    def _is_due_soon(self, run: TurnState, wait: float) -> bool:
        """
        Return whether to wait here for a permit that comes in *wait* seconds.

        A turn ends with its slowest call, so that the next one would often come too late for that moment, and a permit
        would be left unused meanwhile.
        """
        soon = wait <= run.limits.max_wait and self._deps.clock() + wait < run.limits.until
        return soon and run.refusal is None and run.limits.lane is not model.Lane.INTERACTIVE

    def _count_ended(self, run: TurnState, ended: model.GuildTask) -> None:
        self._metrics.count_guild_task(ended.state.value, ended.reason)
        if ended.state is model.TaskState.SUCCEEDED:
            done = sum(task.state is model.TaskState.SUCCEEDED for task in run.tasks.values())
            if done in MILESTONES:
                self._metrics.observe_milestone(MILESTONES[done], self._deps.clock() - run.job.created_at)

    def _pick_next(self, run: TurnState) -> model.GuildTask | None:
        """Take the best unit that may run now; None when the turn should start no more."""
        now = self._deps.clock()
        if self._is_over(run):
            return None
        for task in run.open_tasks():
            if task.guild_id in run.assigned and task.retry_at <= now:
                if task.step is model.Step.ROLES and run.queued:
                    # Roles would take permits from channels that are waiting for theirs.
                    return None
                run.assigned.discard(task.guild_id)
                if task.step is model.Step.CHANNELS:
                    run.queued.add(task.guild_id)
                return task
        return None

    async def _run_step(self, run: TurnState, task: model.GuildTask) -> fetch_guild.StepResult:
        async def began() -> None:
            run.queued.discard(task.guild_id)
            run.step_ended()
            running = dataclasses.replace(task, state=model.TaskState.RUNNING)
            await self.publish(run.update(run.revise(running)))

        guild, membership = run.guilds.get(task.guild_id), run.memberships[task.guild_id]
        if guild is None:
            # Erased with the last member of it who was known, perhaps this one.
            return _failed(task, reasons.GUILD_UNAVAILABLE)
        work = fetch_guild.TaskContext(run.job, task, guild, membership, self._credential_for(run), began)
        purpose = run.purpose(self._deps.clock(), str(task.guild_id), task.guild_id)
        try:
            return await self._fetcher.run_step(work, purpose)
        except errors.TokenRefused as refusal:
            if task.step is model.Step.ROLES:
                return await self._retry_with_bot_token(run, work, purpose)
            self._log.exception("bot_token_refused", status=refusal.status)
            return self._retry_after_bot_refusal(task)
        except errors.IndexerError:
            raise
        except Exception:  # noqa: BLE001 -- the boundary of a unit
            # A bug that one guild brings out must not stop the others, and must be seen in its row.
            self._log.exception("guild_task_crashed", job=run.job.job_id, guild=task.guild_id)
            return _failed(task, errors.IndexerError.reason)

    def _retry_after_bot_refusal(self, task: model.GuildTask) -> fetch_guild.StepResult:
        """Try once more some seconds later: Discord refuses good tokens for a moment."""
        reason = errors.BotTokenRefused.reason
        if task.reason == reason:
            return _failed(task, reason)
        retry_at = self._deps.clock() + BOT_RETRY_PAUSE
        return fetch_guild.StepResult(
            dataclasses.replace(task, state=model.TaskState.QUEUED, reason=reason, retry_at=retry_at)
        )

    async def _retry_with_bot_token(
        self, run: TurnState, work: fetch_guild.TaskContext, purpose: ports.Purpose
    ) -> fetch_guild.StepResult:
        """
        Ask for the roles with the bot's token, in this turn and those of the next minutes.

        A refusal here says nothing about the consent, because the scope may be missing; the guild list decides about
        that. Not using the refused token again spares 401s, which count towards the invalid-request limit.
        """
        self._log.info("member_route_refused", user=run.job.user_id)
        if len(self._refused) >= MOST_REFUSED:
            self._refused.clear()
        self._refused[run.job.user_id] = hash(work.credential.access_token), self._deps.clock()
        return await self._fetcher.run_step(
            dataclasses.replace(work, credential=work.credential.without_member_scope()), purpose
        )

    def _credential_for(self, run: TurnState) -> ports.Credential:
        """Return the turn's pair, without the member scope if Discord refused it for that lately."""
        refused = self._refused.get(run.job.user_id)
        if refused is None:
            return run.credential
        token, at = refused
        if token == hash(run.credential.access_token) and 0 <= self._deps.clock() - at < REFUSED_FOR:
            return run.credential.without_member_scope()
        del self._refused[run.job.user_id]
        return run.credential


def _failed(task: model.GuildTask, error: str) -> fetch_guild.StepResult:
    return fetch_guild.StepResult(dataclasses.replace(task, state=model.TaskState.FAILED, reason=error, retry_at=0.0))
