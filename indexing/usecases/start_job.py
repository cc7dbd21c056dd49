"""
Start a job or join the active one, and wait briefly for first results.

The first turn of a new job runs in this process, in the interactive lane, on the best few guilds. When it begins, a
worker's turn is scheduled for some seconds after the caller's wait, in case this process does not end it; until then
workers do not compete for the user's budget. When the first turn ends early, it enqueues the next one itself. When this
process has no place for it, a worker runs it, and nothing is scheduled that would overtake it and ask for the list
again. A crash here loses nothing: the job names the moment of its next turn, and the sweeper finds it. A start that
joins schedules nothing.
"""

import asyncio
import dataclasses
import enum
import uuid

from indexing import concurrency, errors, settings
from indexing.domain import job_callers, model, ports, turns
from indexing.telemetry import logs
from indexing.usecases import memberships, run_turn, turn_state

QUEUE_FACTOR = 4
"""Starts of a caller that may wait for each running one of its share; more are refused with a retry delay. Callers that
wait at the same time have equal shares."""
SECONDS_PER_START = 0.5
"""Estimated duration of a first turn with a healthy store; used for the retry delay."""
NEW_BOT_WAIT = 1.0
"""Longest time, in seconds, for finding out whether our bot was installed since the last job."""
HANDOVER_GRACE = 8.0
"""
Seconds that the first turn may run past the caller's wait, before a worker takes the job over.

It ends soon after the wait, unless its process died or its list comes late. A list that is about to be stored would be
asked for again: of 300 starts within three seconds, 55 were with 2 seconds, and none with 8 (2026-11-30, two cores).
"""
FIRST_TURN_TRIPS = 9.0
"""
Round trips to MongoDB from a job's creation until its list is stored; `start` makes one before and measures it. Their
time is added to the grace, so that with a slow store no worker takes over a job whose list is about to be stored, and
asks for the list again.
"""


class Disposition(enum.StrEnum):
    """How a start was served."""

    CREATED = "CREATED"
    JOINED = "JOINED"
    FRESH = "FRESH"


class StartReason(enum.StrEnum):
    """Reason for the disposition of a start."""

    FIRST_JOB = "FIRST_JOB"
    FORCED = "FORCED"
    LAST_JOB_OLD = "LAST_JOB_OLD"
    LAST_JOB_NOT_CLEAN = "LAST_JOB_NOT_CLEAN"
    JOB_RUNNING = "JOB_RUNNING"
    LISTED_LATELY = "LISTED_LATELY"


@dataclasses.dataclass(frozen=True, slots=True)
class StartResult:
    """
    The job at the end of the caller's wait.

    Attributes:
        tasks: Those of the guilds that the user is still a member of.
        position: Where a watcher resumes.
    """

    job: model.Job
    disposition: Disposition
    reason: StartReason
    tasks: list[model.GuildTask]
    position: str


class StartJob:
    """Starts jobs. Round trips of `start` before the first turn: 2 to MongoDB, 1 to Redis."""

    def __init__(
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        turn_runner: run_turn.TurnRunner,
        limit: concurrency.AdaptiveLimit | None = None,
    ) -> None:
        """*limit* bounds the concurrent first turns; without it, none waits."""
        self._limit = limit
        self._deps = deps
        self._config = config
        self._turn_runner = turn_runner
        self._memberships = memberships.Memberships(deps)
        self._running: set[asyncio.Task[None]] = set()
        self._released = asyncio.Event()
        self._log = logs.get(__name__)

    async def start(self, user_id: int, *, wait: float, immediate: int, force: bool, caller: str = "") -> StartResult:
        """
        Start or join for *caller*, and wait up to *wait* seconds for the *immediate* most important guilds.

        Raises:
            errors.CredentialMissing, errors.ReauthRequired: The user's guilds cannot be listed.
            errors.StoreUnavailable: The job may have been started; calling again joins it.
            errors.QueueUnavailable: The same; a job that was started runs when Redis is back.
        """
        began = self._deps.clock()
        _, last = await asyncio.gather(self._deps.users.credential(user_id), self._deps.jobs.latest(user_id))
        if last is not None and not force and self._is_fresh(last) and await self._is_current(user_id, caller):
            return await self._make_result(user_id, last.job_id, Disposition.FRESH, StartReason.LISTED_LATELY)
        if last is not None and not last.state.terminal:
            return await self._join(last, wait, caller)
        self._refuse_when_overloaded(caller)
        now = self._deps.clock()
        due = now + wait + HANDOVER_GRACE + FIRST_TURN_TRIPS * max(0.0, now - began)
        begins = self._limit is None or self._limit.try_acquire(caller)
        planned = model.new_job(uuid.uuid4().hex, user_id, now=now, due=due, force=force)
        created = False
        try:
            planned = job_callers.with_caller(turns.begun(planned) if begins else planned, caller)
            job, created = await self._deps.jobs.create_or_join(planned)
        finally:
            if begins and not created:
                self._release(caller)
        if not created:
            return await self._join(job, wait, caller)
        limits = turn_state.TurnLimits(model.Lane.INTERACTIVE, self._deps.clock() + wait, max(1, immediate), immediate)
        task = asyncio.create_task(self._first_turn(job, limits, caller))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await self._wait_for_first_turn(task, wait)
        reason = StartReason.FORCED if force else _start_reason(last)
        return await self._make_result(user_id, job.job_id, Disposition.CREATED, reason)

    async def _join(self, job: model.Job, wait: float, caller: str) -> StartResult:
        if job_callers.lacks(job, caller):
            await self.note_caller(job.job_id, caller)
        if not job.listed:
            await self._wait_until_listed(job, wait)
        return await self._make_result(job.user_id, job.job_id, Disposition.JOINED, StartReason.JOB_RUNNING)

    def _refuse_when_overloaded(self, caller: str) -> None:
        """Raise errors.Overloaded when too many starts of the caller wait for a new one to begin soon."""
        if self._limit is None:
            return
        share = self._limit.limit / self._limit.waiting_callers(caller)
        if (waiting := self._limit.waiting(caller)) > QUEUE_FACTOR * share:
            raise errors.Overloaded(max(1.0, SECONDS_PER_START * waiting / share))

    def release_waiters(self) -> None:
        """End all waits for first results with the results so far, because the process is about to end."""
        self._released.set()

    async def _wait_for_first_turn(self, task: asyncio.Task[None], seconds: float) -> None:
        released = asyncio.create_task(self._released.wait())
        try:
            await asyncio.wait({task, released}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            released.cancel()

    async def join(self, user_id: int) -> StartResult | None:
        """
        Return the user's active job if its guilds are listed; None when no job can be joined without waiting.

        Neither credential nor due time is checked: the job has both. Round trips: 2 to MongoDB, the second with two
        concurrent queries, and 1 to Redis.

        Raises:
            errors.StoreUnavailable, errors.QueueUnavailable: The job cannot be read.
        """
        last = await self._deps.jobs.latest(user_id)
        if last is None or last.state.terminal or not last.listed:
            return None
        found = await self._make_result(user_id, last.job_id, Disposition.JOINED, StartReason.JOB_RUNNING)
        return None if found.job.state.terminal else found

    async def note_caller(self, job_id: str, caller: str) -> None:
        """Store a further caller of an active job. Raises errors.StoreUnavailable."""
        await self._deps.jobs.add_caller(job_id, caller)

    async def drain(self, seconds: float) -> None:
        """Wait for first turns that still run; the sweeper finds the jobs of those that do not end in time."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    async def _is_current(self, user_id: int, caller: str) -> bool:
        """
        Return whether the last job still says everything.

        It does not when nothing may be shown to the user, so that a turn has to prove their credential first, or when
        they have installed our bot in a guild since: the caller starts again when the user comes back from there. The
        call that finds out takes the caller's turn.
        """
        user = await self._deps.users.load(user_id)
        if user is None or self._deps.clock() >= user.shown_until:
            return False
        callers = (caller,) if caller else ()
        purpose = ports.Purpose(model.Lane.INTERACTIVE, user_id, "", NEW_BOT_WAIT, callers)
        try:
            async with asyncio.timeout(NEW_BOT_WAIT):
                return not await self._turn_runner.bot_guilds.is_new_in(user.memberships.values(), purpose)
        except (errors.IndexerError, TimeoutError) as problem:
            self._log.info("new_bots_not_checked", user=user_id, reason=type(problem).__name__)
            return True

    def _is_fresh(self, last: model.Job) -> bool:
        if last.state is not model.JobState.SUCCEEDED or last.finished_at is None:
            return False
        return self._deps.clock() - last.created_at < self._config.list_max_age

    def _release(self, caller: str) -> None:
        if self._limit is not None:
            self._limit.release(caller)

    async def _first_turn(self, job: model.Job, limits: turn_state.TurnLimits, caller: str) -> None:
        """Run the first turn of a job, which owns the job if there was a place for it."""
        asked = self._deps.clock()
        if job.turn == 0 and self._limit and not await self._limit.acquire(max(0.0, limits.until - asked), caller):
            await self._hand_over(job)
            return
        try:
            # A first turn that begins late has as much time for its list as one that begins at once.
            due = job.next_turn_at + max(0.0, self._deps.clock() - asked)
            await self._deps.queue.schedule(turns.Turn(job.job_id, 1, callers=job.callers), due)
            if job.turn == 0:
                await self._turn_runner.run_turn(turns.turn_after(job), limits)
            else:
                await self._turn_runner.run_begun(job, limits)
        except errors.IndexerError as problem:
            self._log.warning("first_turn_failed", job=job.job_id, reason=problem.reason, error=str(problem))
        except Exception:  # noqa: BLE001 -- the task's result is not awaited; the sweeper takes the job over
            self._log.exception("first_turn_crashed", job=job.job_id)
        finally:
            self._release(caller)

    async def _hand_over(self, job: model.Job) -> None:
        """Have a worker run the first turn."""
        try:
            await self._deps.queue.enqueue(turns.turn_after(job))
        except errors.QueueUnavailable as problem:
            self._log.warning("turn_not_enqueued", job=job.job_id, error=str(problem))

    async def _wait_until_listed(self, job: model.Job, wait: float) -> None:
        """Wait until the process that created the job has stored the guild list."""
        deadline = self._deps.clock() + wait
        subscription = await self._deps.events.subscribe(
            job.job_id, await self._deps.events.get_last_position(job.job_id)
        )
        try:
            current = await self._deps.jobs.get(job.job_id)
            while current is not None and not current.listed and not current.state.terminal:
                update = await subscription.next(max(0.0, deadline - self._deps.clock()))
                if update is None:
                    return
                current = update.job
        finally:
            await subscription.close()

    async def _make_result(
        self, user_id: int, job_id: str, disposition: Disposition, reason: StartReason
    ) -> StartResult:
        position = await self._deps.events.get_last_position(job_id)
        found, guild_ids = await asyncio.gather(self._deps.jobs.load(job_id), self._memberships.load(user_id))
        if found is None:
            raise errors.JobNotFound(job_id)
        job, tasks = found
        return StartResult(job, disposition, reason, memberships.without_left(tasks, guild_ids), position)


def _start_reason(last: model.Job | None) -> StartReason:
    """Return why the user's last job is not fresh."""
    if last is None:
        return StartReason.FIRST_JOB
    return StartReason.LAST_JOB_OLD if last.state is model.JobState.SUCCEEDED else StartReason.LAST_JOB_NOT_CLEAN
