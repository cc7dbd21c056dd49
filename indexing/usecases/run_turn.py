"""
Runs one turn of a job: own the job, list its guilds if needed, run the best guild tasks, schedule the next turn.

A turn starts no further tasks when its time is over, when the job must wait for quota, or when no task can run now. It
ends by scheduling the next turn, so that no thread waits for quota. Only the owner of the current turn writes
(store/jobs.py); a turn that lost its job ends silently.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterable
from typing import Any

from indexing import concurrency, errors, precedence, settings
from indexing.domain import freshness, job_updates, model, ports, ranking, reasons, turns
from indexing.telemetry import logs, metrics
from indexing.usecases import (
    erase_user,
    fetch_guild,
    guild_lists,
    guild_tasks,
    read_channels,
    tokens,
    turn_capacity,
    turn_state,
    turn_time,
)

FORGIVE_AFTER = (0.5, 2.0, 5.0, 10.0, 20.0)
"""Seconds before each attempt to record the end of a turn that lost its connection to the store."""
MOST_UNFINISHED = 5
"""Lost turns in a row after which a job fails: enough for killed workers, but not for a turn that crashes them."""


class TurnRunner:
    """
    Runs turns.

    Round trips besides those of the tasks: 6 to MongoDB, 7 in a job's last turn, 2 fewer for `run_begun`; 1 to Redis.
    """

    def __init__(
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        metrics: metrics.IndexingMetrics,
        lists: guild_lists.GuildLists,
        *,
        capacity: turn_capacity.Capacity | None = None,
    ) -> None:
        """Make the runner of a process, whose turns wait for permits as *capacity* says."""
        self._capacity = capacity or turn_capacity.Capacity()
        self._deps = deps
        self._config = config
        self._metrics = metrics
        self._lists = lists
        self.bot_guilds = lists.bot_guilds
        reader = read_channels.ChannelFetcher(deps, config, metrics, lists.bot_guilds)
        self._credentials = tokens.TokenManager(deps, config, metrics)
        step = fetch_guild.GuildStep(deps, config, metrics, reader)
        self._tasks = guild_tasks.GuildTaskRunner(deps, config, step, metrics)
        self._time = turn_time.TurnTime(deps, config, metrics)
        self._forgiving: set[asyncio.Task[None]] = set()
        self._log = logs.get(__name__)

    async def run_background_turn(self, turn: turns.Turn) -> bool:
        """Run a turn in the background lane, as a worker does; see `run_turn`."""
        with self._capacity.background_turn(self._config, self._deps.clock()) as limits:
            return await self.run_turn(turn, limits)

    async def run_turn(self, turn: turns.Turn, limits: turn_state.TurnLimits) -> bool:
        """
        Run a turn, if it is the job's current one; returns whether it was.

        Raises:
            errors.StoreUnavailable: The job stays owned until its lease expires; the sweeper then enqueues it again.
            Anything else: A bug; the job is retried later, and fails with INTERNAL when retries do not help.
        """
        now = self._deps.clock()
        owned = await self._deps.jobs.begin_turn(turn.job_id, turn.number, now=now, until=now + self._config.turn_lease)
        if owned is None:
            # The turn is not current, or the job has ended or was erased. A job that is only missing may be stored any
            # moment; of an erased one, an earlier turn may have published an update after its erasure.
            if await self._deps.user_data.is_job_erased(turn.job_id):
                await self._deps.events.delete_streams([turn.job_id])
            return False
        await self._run_and_note(*owned, limits, now)
        return True

    async def run_begun(self, job: model.Job, limits: turn_state.TurnLimits) -> None:
        """Run the first turn of a new job that it owns already. Raises what `run_turn` raises."""
        await self._run_and_note(job, [], limits, self._deps.clock())

    async def _run_and_note(
        self, job: model.Job, tasks: list[model.GuildTask], limits: turn_state.TurnLimits, now: float
    ) -> None:
        """Run a turn that owns its job, and note in the job how it failed."""
        with self._metrics.turns.time(), logs.bound(job=job.job_id, user=job.user_id):
            try:
                if job.unfinished > MOST_UNFINISHED:
                    await self._end_job(job, model.JobState.FAILED, "TURNS_LOST")
                else:
                    await self._run_owned(job, tasks, limits, now)
            except (errors.CredentialMissing, errors.ReauthRequired, errors.CredentialRejected) as problem:
                await self._end_job(job, model.JobState.FAILED, problem.reason)
            except errors.LimiterUnavailable as problem:
                self._time.note_idle("limiter")
                await self._schedule_next(job, self._deps.clock() + problem.retry_after)
            except errors.StoreUnavailable:
                self._forgive(job)
                raise
            except errors.IndexerError:
                raise
            except Exception:
                with contextlib.suppress(errors.IndexerError):
                    await self._retry_later(job)
                raise

    def _forgive(self, job: model.Job) -> None:
        """Record the end of a turn when the store is back, so that it does not count as lost."""
        task = concurrency.spawn_shared(self._note_end(job))
        self._forgiving.add(task)
        task.add_done_callback(self._forgiving.discard)

    async def _note_end(self, job: model.Job) -> None:
        for pause in FORGIVE_AFTER:
            await asyncio.sleep(pause)
            due = self._deps.clock() + self._config.retry_base
            with contextlib.suppress(errors.StoreUnavailable):
                if await self._deps.jobs.postpone(job, due, unfinished=max(0, job.unfinished - 1)):
                    await self._hand_over(turns.turn_after(job), due)
                return

    async def _retry_later(self, job: model.Job) -> None:
        """Retry a job whose turn raised a bug; after `MOST_UNFINISHED` such turns the job fails."""
        if job.unfinished >= MOST_UNFINISHED:
            await self._end_job(job, model.JobState.FAILED, errors.IndexerError.reason)
            return
        pause = freshness.backoff(job.unfinished, base=self._config.retry_base)
        due = self._deps.clock() + pause
        if await self._deps.jobs.postpone(job, due):
            await self._hand_over(turns.turn_after(job), due)

    async def _run_owned(
        self, job: model.Job, tasks: list[model.GuildTask], limits: turn_state.TurnLimits, began_at: float
    ) -> None:
        credential = await self._credential(job, limits)
        if credential is None:
            return
        run = turn_state.TurnState(job, limits, credential, {task.guild_id: task for task in tasks})
        if job.listed:
            await self._load_tasks(run)
        else:
            # While many users start, each list is stored soon, before the guilds of those that are stored.
            with precedence.by_age():
                if not await self._list_guilds(run):
                    return
        if not await self._time.start(run, began_at):
            await self._erase_late_writes(run.job, run)
            return
        due = any(task.retry_at <= self._deps.clock() for task in run.open_tasks())
        try:
            await self._tasks.run_tasks(run)
        except errors.CredentialRejected:
            await self._credentials.reject(job.user_id, run.credential)
            raise
        self._time.note_end(run, due=due)
        if run.open_tasks():
            await self._schedule_next(run.job, self._next_due(run), run)
        else:
            failed = any(task.state is model.TaskState.FAILED for task in run.tasks.values())
            state = model.JobState.SUCCEEDED_WITH_ERRORS if failed else model.JobState.SUCCEEDED
            await self._end_job(run.job, state, "", run)

    async def _credential(self, job: model.Job, limits: turn_state.TurnLimits) -> ports.Credential | None:
        """Return the user's credential; None when it cannot be renewed now and the turn ended here."""
        waiter = "" if limits.lane is model.Lane.INTERACTIVE else f"{job.job_id}:renew"
        try:
            purpose = ports.Purpose(limits.lane, job.user_id, waiter, limits.max_wait, job.callers)
            return await self._credentials.get_usable(job.user_id, purpose)
        except errors.RateLimited as wait:
            await self._schedule_next(job, self._deps.clock() + wait.retry_after, refusal=wait)
        except errors.EgressBlocked as block:
            await self._schedule_next(job, self._deps.clock() + block.retry_after, refusal=block.as_wait())
        except errors.DiscordTransient as failure:
            await self._retry_list_later(job, failure)
        except errors.DiscordRefused as refusal:
            await self._end_job(job, model.JobState.FAILED, refusal.reason)
        return None

    async def _read_list(self, run: turn_state.TurnState) -> guild_lists.GuildList:
        """Fetch the user's guild list; when Discord refuses the token, once more with a renewed one."""
        user, lists = run.job.user_id, self._lists
        try:
            found = await lists.fetch_guild_list(run.job, run.credential, run.purpose(self._deps.clock(), "list"))
        except errors.TokenRefused:
            purpose = run.purpose(self._deps.clock(), "renew")
            run.credential = await self._credentials.renew_refused(user, run.credential, purpose)
            try:
                found = await lists.fetch_guild_list(run.job, run.credential, run.purpose(self._deps.clock(), "list"))
            except errors.TokenRefused:
                await self._credentials.confirm_refused(user, run.credential)
        await self._credentials.note_accepted(user)
        return found

    async def _list_guilds(self, run: turn_state.TurnState) -> bool:
        """List and store the user's guilds, and load them for the turn; returns False when the turn ended here."""
        now = self._deps.clock
        try:
            found = await self._read_list(run)
        except errors.RateLimited as refusal:
            if refusal.is_answer:  # attempts are counted, so that a job whose list is always answered so ends
                await self._retry_list_later(run.job, errors.DiscordTransient(str(refusal)), refusal.retry_after)
            else:
                run.note_refusal(refusal, now())
                await self._schedule_next(run.job, run.resume_at, run)
        except errors.EgressBlocked as block:
            run.note_refusal(block.as_wait(), now())
            await self._schedule_next(run.job, run.resume_at, run)
        except errors.DiscordTransient as failure:
            await self._retry_list_later(run.job, failure)
        except errors.DiscordRefused as refusal:
            if isinstance(refusal, errors.BotTokenRefused) and run.job.reason != refusal.reason:
                # Discord sometimes refuses a valid token briefly, so one refusal is not final.
                await self._retry_list_later(run.job, refusal)
            else:
                await self._end_job(run.job, model.JobState.FAILED, refusal.reason)
        else:
            run.job = dataclasses.replace(run.job, listed=True, attempts=0, reason="")
            self._note_milestone("list", run.job)
            revised = [run.revise(task) for task in found.tasks]
            self._count_ended_tasks(revised)
            if await self._deps.jobs.add_tasks(run.job, revised):
                await self._tasks.publish(run.update(*revised))
                await self._prepare(run, found.user, found.guilds)
                return True
            await self._erase_late_writes(run.job, run)
        return False

    async def _retry_list_later(self, job: model.Job, failure: errors.IndexerError, least: float = 0.0) -> None:
        """Schedule a further attempt, *least* seconds from now or later; the last one ends the job."""
        attempts = job.attempts + 1
        if attempts >= reasons.most_attempts(failure.reason, job.reason, self._config.max_attempts):
            await self._end_job(job, model.JobState.FAILED, failure.reason)
            return
        pause = max(least, freshness.backoff(attempts, base=self._config.retry_base))
        await self._schedule_next(job, self._deps.clock() + pause, attempts=attempts, reason=failure.reason)

    async def _load_tasks(self, run: turn_state.TurnState) -> None:
        """Load what the tasks need in two concurrent round trips."""
        user, guilds = await asyncio.gather(
            self._deps.users.load(run.job.user_id),
            self._deps.guilds.get([task.guild_id for task in run.open_tasks()]),
        )
        if user is None:
            raise errors.CredentialMissing(run.job.user_id)
        await self._prepare(run, user, guilds)

    async def _prepare(self, run: turn_state.TurnState, user: model.User, guilds: dict[int, model.Guild]) -> None:
        """Skip the tasks that need no step, and rank the others again."""
        run.memberships, run.guilds = dict(user.memberships), guilds
        run.loaded_at = self._deps.clock()
        await self._skip_tasks(run, user.preferences, await self._guilds_without_bot(run))
        now, weights = self._deps.clock(), self._config.rank_weights
        ordered = ranking.rank_guilds(run.memberships, run.guilds, user.preferences, now=now, weights=weights)
        run.order = {row.inputs.guild_id: rank for rank, row in enumerate(ordered)}
        run.prioritize_first_screen()

    async def _guilds_without_bot(self, run: turn_state.TurnState) -> frozenset[int]:
        """Return guilds without our bot whose access was unknown when the list was fetched, as at a cold start."""
        unknown = {key for key, guild in run.guilds.items() if guild.access is model.Access.UNKNOWN}
        installed = await self._lists.bot_guilds.get_cached() if unknown else None
        return frozenset(unknown - installed) if installed is not None else frozenset()

    async def _skip_tasks(
        self, run: turn_state.TurnState, preferences: model.Preferences, without_bot: frozenset[int]
    ) -> None:
        """Skip tasks whose guild the user has left or muted, or lacks our bot; a forced job keeps muted guilds."""
        skipped = []
        for task in run.open_tasks():
            if task.guild_id not in run.memberships:
                skipped.append(_skipped(dataclasses.replace(task, channel_count=0), reasons.USER_LEFT))
            elif task.guild_id in without_bot:
                skipped.append(_skipped(task, reasons.BOT_NOT_INSTALLED))
            elif task.guild_id in preferences.muted and not run.job.force:
                skipped.append(_skipped(task, reasons.MUTED))
        await self._deps.jobs.write_tasks(run.job, [run.revise(task) for task in skipped])
        self._count_ended_tasks(skipped)

    def _note_milestone(self, milestone: str, job: model.Job) -> None:
        self._metrics.observe_milestone(milestone, self._deps.clock() - job.created_at)

    def _count_ended_tasks(self, rows: Iterable[model.GuildTask]) -> None:
        """Count the tasks that ended without a step of their own."""
        for task in rows:
            if task.state.terminal:
                self._metrics.count_guild_task(task.state.value, task.reason)

    def _next_due(self, run: turn_state.TurnState) -> float:
        """Return when the next turn is due: when the limiter has permits again, or when the first task may run."""
        now = self._deps.clock()
        if run.refusal is not None:
            return max(now, run.resume_at)
        return max(now, min(task.retry_at for task in run.open_tasks()))

    async def _schedule_next(
        self,
        job: model.Job,
        due: float,
        run: turn_state.TurnState | None = None,
        *,
        refusal: errors.RateLimited | None = None,
        **changes: Any,  # noqa: ANN401 -- any field
    ) -> None:
        """
        Schedule the job's next turn at *due*, store *changes*, and publish whether the job waits for quota.

        What it waits for is the turn's refusal, or *refusal* of a turn that did not begin. It is stored for every such
        wait: by it, an operator who lifts a stop finds the jobs that wait for its end.
        """
        refusal = run.refusal if run else refusal
        waiting = dataclasses.replace(
            job,
            next_turn_at=due,
            waiting_for=refusal.budget if refusal else "",
            waiting_until=due if refusal else 0.0,
            waited_for=refusal.budget if refusal else "",
            unfinished=0,
            **changes,
        )
        if not await self._deps.jobs.save(job, waiting):
            await self._erase_late_writes(job, run)
            return
        if run is not None and refusal is not None:
            run.job = waiting
            await self._tasks.publish(run.update())
        await self._hand_over(turns.turn_after(job), due)

    async def _hand_over(self, turn: turns.Turn, due: float) -> None:
        try:
            if due - self._deps.clock() <= turn_state.NOW:
                await self._deps.queue.enqueue(turn)
            else:
                await self._deps.queue.schedule(turn, due)
        except errors.QueueUnavailable as problem:
            # The due time is stored: the sweeper finds the job when Redis is back.
            self._log.warning("turn_not_enqueued", job=turn.job_id, error=str(problem))

    async def _end_job(
        self, job: model.Job, state: model.JobState, reason: str, run: turn_state.TurnState | None = None
    ) -> None:
        """End the job and its open tasks in one write, and publish all tasks."""
        ended = dataclasses.replace(job, state=state, reason=reason, finished_at=self._deps.clock())
        tasks = list(run.tasks.values()) if run else await self._deps.jobs.list_tasks(job.job_id)
        failed = job_updates.fail_open_tasks(ended, tasks) if state is model.JobState.FAILED else {}
        if not await self._deps.jobs.save(job, ended, failed.values()):
            await self._erase_late_writes(job, run)
            return
        self._metrics.jobs.labels(state.value).inc()
        self._log.info("job_ended", job=job.job_id, state=state.value, error=reason)
        self._count_ended_tasks(failed.values())
        rows = [failed.get(task.guild_id, task) for task in tasks]
        self._note_milestone("done", job)
        if 0 < job_updates.tally_of(rows).succeeded < turn_state.FIRST_FIVE:
            self._note_milestone("five", job)
        # All tasks, for watchers that missed an update while Redis was unavailable.
        await self._tasks.publish(job_updates.JobUpdate(ended, job_updates.tally_of(rows), tuple(rows)))
        # No later turn checks whether the user was erased meanwhile.
        await self._erase_late_writes(job, run)

    async def _erase_late_writes(self, job: model.Job, run: turn_state.TurnState | None) -> None:
        """Erase what the turn wrote if its user was erased meanwhile."""
        await erase_user.compensate_if_user_erased(self._deps, job, run.tasks if run else ())


def _skipped(task: model.GuildTask, reason: str) -> model.GuildTask:
    return dataclasses.replace(task, state=model.TaskState.SKIPPED, reason=reason, retry_at=0.0)
