"""
One turn of a job: own it, list the guilds if that is not done, work on the best units, plan the next turn.

A turn starts no further units when its time is over, when the job must wait for quota, or when nothing can run now. It
ends by naming the moment of the next turn, so that no thread waits for quota. Only the owner of the current turn writes
(store/jobs.py); a turn that lost its job ends silently.
"""

import contextlib
import dataclasses
from collections.abc import Iterable

from indexing import errors, settings
from indexing.domain import freshness, model, ports, ranking, reasons, turns
from indexing.telemetry import logs, metrics
from indexing.usecases import erase_user, fetch_guild, guild_lists, guild_tasks, read_channels, tokens

NOW = 0.02
"""A turn due within this many seconds is enqueued at once."""

LAST_STEPS = 1 << 19
"""Revisions of a turn from here on belong to its end: far beyond what it can have changed before."""
MOST_UNFINISHED = 5
"""Turns that may get lost in a row before a job is given up: killed workers are forgiven, a turn that kills is not."""


class TurnRunner:
    """Runs turns. Round trips besides the units': 6 to MongoDB, 7 in a job's last turn, 1 to Redis."""

    def __init__(
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        metrics: metrics.IndexingMetrics,
        lists: guild_lists.GuildLists,
    ) -> None:
        self._deps = deps
        self._config = config
        self._metrics = metrics
        self._lists = lists
        reader = read_channels.ChannelFetcher(deps, config, metrics, lists.bot_guilds)
        self._credentials = tokens.TokenManager(deps, metrics)
        self._tasks = guild_tasks.GuildTaskRunner(deps, fetch_guild.GuildStep(deps, config, metrics, reader), metrics)
        self._log = logs.get(__name__)

    async def run_background_turn(self, turn: turns.Turn) -> bool:
        """Run a turn in the background lane, as a worker does; see `run_turn`."""
        until = self._deps.clock() + self._config.turn_time
        return await self.run_turn(turn, guild_tasks.TurnLimits(model.Lane.BACKGROUND, until, self._config.turn_width))

    async def run_turn(self, turn: turns.Turn, limits: guild_tasks.TurnLimits) -> bool:
        """
        Run a turn, if it is the job's current one; returns whether it was.

        Raises:
            errors.StoreUnavailable: The job stays owned until its lease is over; the sweeper then gives it to another.
            Anything else: A bug; the job tries again later, and fails with INTERNAL when that does not help.
        """
        now = self._deps.clock()
        job = await self._deps.jobs.begin_turn(turn.job_id, turn.number, now=now, until=now + self._config.turn_lease)
        if job is None:
            await erase_user.compensate_if_job_erased(self._deps, turn.job_id)
            return False
        with self._metrics.turns.time(), logs.bound(job=job.job_id, user=job.user_id):
            try:
                if job.unfinished > MOST_UNFINISHED:
                    await self._end_job(job, model.JobState.FAILED, "TURNS_LOST")
                else:
                    await self._run_owned(job, limits)
            except (errors.CredentialMissing, errors.ReauthRequired) as problem:
                await self._end_job(job, model.JobState.FAILED, problem.reason)
            except errors.LimiterUnavailable as problem:
                await self._schedule_next(job, self._deps.clock() + problem.retry_after)
            except errors.IndexerError:
                raise
            except Exception:
                with contextlib.suppress(errors.IndexerError):
                    await self._retry_later(job)
                raise
        return True

    async def _retry_later(self, job: model.Job) -> None:
        """Let a job whose turn met a bug try again later; when turn after turn breaks, its rows have to say so."""
        if job.unfinished >= MOST_UNFINISHED:
            await self._end_job(job, model.JobState.FAILED, errors.IndexerError.reason)
            return
        pause = freshness.backoff(job.unfinished, base=self._config.retry_base)
        due = self._deps.clock() + pause
        if await self._deps.jobs.save(dataclasses.replace(job, next_turn_at=due)):
            await self._hand_over(turns.Turn(job.job_id, job.turn), due)

    async def _run_owned(self, job: model.Job, limits: guild_tasks.TurnLimits) -> None:
        credential = await self._credential(job, limits)
        if credential is None:
            return
        run = guild_tasks.TurnState(job, limits, credential)
        if not job.listed and not await self._list_guilds(run):
            return
        await self._load_tasks(run)
        await self._tasks.run_tasks(run)
        if run.open_tasks():
            await self._schedule_next(run.job, self._next_due(run), run)
        else:
            failed = any(task.state is model.TaskState.FAILED for task in run.tasks.values())
            state = model.JobState.SUCCEEDED_WITH_ERRORS if failed else model.JobState.SUCCEEDED
            await self._end_job(run.job, state, "", run)

    async def _credential(self, job: model.Job, limits: guild_tasks.TurnLimits) -> ports.Credential | None:
        """Return the user's pair; None when it must be renewed, cannot be now, and the turn ended here."""
        waiter = "" if limits.lane is model.Lane.INTERACTIVE else f"{job.job_id}:renew"
        try:
            purpose = ports.Purpose(limits.lane, job.user_id, waiter, limits.max_wait)
            return await self._credentials.get_usable(job.user_id, purpose)
        except (errors.RateLimited, errors.EgressBlocked) as wait:
            await self._schedule_next(job, self._deps.clock() + wait.retry_after)
        except errors.DiscordTransient as failure:
            await self._retry_list_later(job, failure)
        except errors.DiscordRefused as refusal:
            await self._end_job(job, model.JobState.FAILED, refusal.reason)
        return None

    async def _read_list(self, run: guild_tasks.TurnState) -> list[model.GuildTask]:
        """Read the user's guild list; when Discord refuses his token, once more with a renewed one."""
        user, lists = run.job.user_id, self._lists
        try:
            tasks = await lists.fetch_guild_list(run.job, run.credential, run.purpose(self._deps.clock(), "list"))
        except errors.TokenRefused:
            purpose = run.purpose(self._deps.clock(), "renew")
            run.credential = await self._credentials.renew_refused(user, run.credential, purpose)
            try:
                tasks = await lists.fetch_guild_list(run.job, run.credential, run.purpose(self._deps.clock(), "list"))
            except errors.TokenRefused:
                await self._credentials.confirm_refused(user, run.credential)
        await self._credentials.note_accepted(user)
        return tasks

    async def _list_guilds(self, run: guild_tasks.TurnState) -> bool:
        """List and store the user's guilds; returns False when the turn ended here."""
        now = self._deps.clock
        try:
            rows = await self._read_list(run)
        except errors.RateLimited as refusal:
            run.note_refusal(refusal, now())
            await self._schedule_next(run.job, run.resume_at, run)
        except errors.EgressBlocked as block:
            await self._schedule_next(run.job, now() + block.retry_after)
        except errors.DiscordTransient as failure:
            await self._retry_list_later(run.job, failure)
        except errors.DiscordRefused as refusal:
            if isinstance(refusal, errors.BotTokenRefused) and run.job.reason != refusal.reason:
                # Discord refuses good tokens for a moment, so one refusal is no proof.
                await self._retry_list_later(run.job, refusal)
            else:
                await self._end_job(run.job, model.JobState.FAILED, refusal.reason)
        else:
            run.job = dataclasses.replace(run.job, listed=True, attempts=0, reason="")
            self._note_milestone("list", run.job)
            revised = [run.revise(task) for task in rows]
            self._count_ended_tasks(revised)
            if await self._deps.jobs.add_tasks(run.job, revised):
                await self._tasks.publish(run.update(*revised))
                return True
            await self._clean_up_lost_job(run.job, run)
        return False

    async def _retry_list_later(self, job: model.Job, failure: errors.IndexerError) -> None:
        attempts = job.attempts + 1
        if attempts >= self._config.max_attempts:
            await self._end_job(job, model.JobState.FAILED, failure.reason)
            return
        pause = freshness.backoff(attempts, base=self._config.retry_base)
        later = dataclasses.replace(job, attempts=attempts, reason=failure.reason)
        await self._schedule_next(later, self._deps.clock() + pause)

    async def _load_tasks(self, run: guild_tasks.TurnState) -> None:
        """Read what the units need in four round trips, rank again what is open; guilds left or muted are done."""
        if not run.tasks:
            run.tasks = {task.guild_id: task for task in await self._deps.jobs.list_tasks(run.job.job_id)}
        run.memberships = {row.guild_id: row for row in await self._deps.users.memberships(run.job.user_id)}
        preferences = await self._deps.users.get_preferences(run.job.user_id)
        await self._skip_tasks(run, preferences)
        run.guilds = await self._deps.guilds.get([task.guild_id for task in run.open_tasks()])
        now, weights = self._deps.clock(), self._config.rank_weights
        ordered = ranking.rank_guilds(run.memberships, run.guilds, preferences, now=now, weights=weights)
        run.order = {row.inputs.guild_id: place for place, row in enumerate(ordered)}
        run.prioritize_first_screen()

    async def _skip_tasks(self, run: guild_tasks.TurnState, preferences: model.Preferences) -> None:
        """End the units whose guild the user has left, or muted meanwhile; what he retries himself he wants."""
        skipped = []
        for task in run.open_tasks():
            if task.guild_id not in run.memberships:
                skipped.append(_skipped(dataclasses.replace(task, channel_count=0), reasons.USER_LEFT))
            elif task.guild_id in preferences.muted and not run.job.force:
                skipped.append(_skipped(task, reasons.MUTED))
        await self._deps.jobs.write_tasks(run.job, [run.revise(task) for task in skipped])
        self._count_ended_tasks(skipped)

    def _note_milestone(self, milestone: str, job: model.Job) -> None:
        self._metrics.observe_milestone(milestone, self._deps.clock() - job.created_at)

    def _count_ended_tasks(self, rows: Iterable[model.GuildTask]) -> None:
        """Count guilds that ended without a step of their own."""
        for task in rows:
            if task.state.terminal:
                self._metrics.count_guild_task(task.state.value, task.reason)

    def _next_due(self, run: guild_tasks.TurnState) -> float:
        """Return when the next turn makes sense: at the moment the limiter named, or when the first unit may run."""
        now = self._deps.clock()
        if run.refusal is not None:
            return max(now, run.resume_at)
        return max(now, min(task.retry_at for task in run.open_tasks()))

    async def _schedule_next(self, job: model.Job, due: float, run: guild_tasks.TurnState | None = None) -> None:
        """Give the job to whoever runs its next turn, at *due*; watchers learn when it waits for quota."""
        refusal = run.refusal if run else None
        waiting = dataclasses.replace(
            job,
            next_turn_at=due,
            waiting_for=refusal.budget if refusal else "",
            waiting_until=due if refusal else 0.0,
            waited_for=refusal.budget if refusal else "",
            unfinished=0,
        )
        if not await self._deps.jobs.save(waiting):
            await self._clean_up_lost_job(job, run)
            return
        if run is not None and refusal is not None:
            run.job = waiting
            await self._tasks.publish(run.update())
        await self._hand_over(turns.Turn(job.job_id, job.turn), due)

    async def _hand_over(self, turn: turns.Turn, due: float) -> None:
        try:
            if due - self._deps.clock() <= NOW:
                await self._deps.queue.enqueue(turn)
            else:
                await self._deps.queue.schedule(turn, due)
        except errors.QueueUnavailable as problem:
            # The store knows when the job is due: the sweeper finds it when Redis is back.
            self._log.warning("turn_not_enqueued", job=turn.job_id, error=str(problem))

    async def _end_job(
        self, job: model.Job, state: model.JobState, error: str, run: guild_tasks.TurnState | None = None
    ) -> None:
        ended = dataclasses.replace(job, state=state, reason=error, finished_at=self._deps.clock())
        if await self._deps.jobs.save(ended):
            self._metrics.jobs.labels(state.value).inc()
            self._log.info("job_ended", job=job.job_id, state=state.value, error=error)
            # All rows once more: watchers that missed an update while Redis was away are whole again.
            rows = list(run.tasks.values()) if run else await self._deps.jobs.list_tasks(job.job_id)
            if state is model.JobState.FAILED:
                rows = await self._fail_open_tasks(ended, rows)
            self._note_milestone("done", job)
            if 0 < model.tally_of(rows).succeeded < guild_tasks.FIRST_FIVE:
                self._note_milestone("five", job)
            await self._tasks.publish(model.JobUpdate(ended, model.tally_of(rows), tuple(rows)))
            # Nobody comes after this turn who could see that its user was erased meanwhile.
            await erase_user.compensate_if_user_erased(self._deps, job, run.tasks if run else ())
        else:
            await self._clean_up_lost_job(job, run)

    async def _clean_up_lost_job(self, job: model.Job, run: guild_tasks.TurnState | None) -> None:
        """Leave nothing behind of a job that somebody else has ended, if that was because its user was erased."""
        await erase_user.compensate_if_user_erased(self._deps, job, run.tasks if run else ())
        await erase_user.compensate_if_job_erased(self._deps, job.job_id)

    async def _fail_open_tasks(self, job: model.Job, rows: list[model.GuildTask]) -> list[model.GuildTask]:
        """Let what a failed job left undone say why, so that it can be seen and tried again."""
        final = [
            row
            if row.state.terminal
            else dataclasses.replace(
                row,
                state=model.TaskState.FAILED,
                reason=job.reason,
                retry_at=0.0,
                revision=model.revision_of(job.turn, LAST_STEPS + place),
            )
            for place, row in enumerate(rows)
        ]
        failed = [row for row in final if row not in rows]
        await self._deps.jobs.write_tasks(job, failed)
        self._count_ended_tasks(failed)
        return final


def _skipped(task: model.GuildTask, reason: str) -> model.GuildTask:
    return dataclasses.replace(task, state=model.TaskState.SKIPPED, reason=reason, retry_at=0.0)
