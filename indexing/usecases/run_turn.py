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


class Advance:
    """Runs turns. Round trips besides the units': 6 to MongoDB, 7 in a job's last turn, 1 to Redis."""

    def __init__(
        self,
        world: ports.World,
        rules: settings.IndexingSettings,
        seen: metrics.IndexingMetrics,
        lists: guild_lists.Listing,
    ) -> None:
        self._world = world
        self._rules = rules
        self._seen = seen
        self._lists = lists
        reader = read_channels.Reader(world, rules, seen, lists.bot)
        self._credentials = tokens.Credentials(world, seen)
        self._units = guild_tasks.Units(world, fetch_guild.Fetch(world, rules, seen, reader), self._credentials, seen)
        self._log = logs.get(__name__)

    async def in_background(self, turn: turns.Turn) -> bool:
        """Run a turn in the background lane, as a worker does; see `run_turn`."""
        until = self._world.clock() + self._rules.turn_time
        return await self.run_turn(turn, guild_tasks.Limits(model.Lane.BACKGROUND, until, self._rules.turn_width))

    async def run_turn(self, turn: turns.Turn, limits: guild_tasks.Limits) -> bool:
        """
        Run a turn, if it is the job's current one; returns whether it was.

        Raises:
            errors.StoreUnavailable: The job stays owned until its lease is over; the sweeper then gives it to another.
            Anything else: A bug; the job tries again later, and fails with INTERNAL when that does not help.
        """
        now = self._world.clock()
        job = await self._world.jobs.begin_turn(turn.job_id, turn.number, now=now, until=now + self._rules.turn_lease)
        if job is None:
            await erase_user.take_back_job(self._world, turn.job_id)
            return False
        with self._seen.turns.time(), logs.bound(job=job.job_id, user=job.user_id):
            try:
                if job.unfinished > MOST_UNFINISHED:
                    await self._end(job, model.JobState.FAILED, "TURNS_LOST")
                else:
                    await self._advance(job, limits)
            except (errors.CredentialMissing, errors.ReauthRequired) as problem:
                await self._end(job, model.JobState.FAILED, problem.reason)
            except errors.LimiterUnavailable as problem:
                await self._next(job, self._world.clock() + problem.retry_after)
            except errors.IndexerError:
                raise
            except Exception:
                with contextlib.suppress(errors.IndexerError):
                    await self._broke(job)
                raise
        return True

    async def _broke(self, job: model.Job) -> None:
        """Let a job whose turn met a bug try again later; when turn after turn breaks, its rows have to say so."""
        if job.unfinished >= MOST_UNFINISHED:
            await self._end(job, model.JobState.FAILED, errors.IndexerError.reason)
            return
        pause = freshness.backoff(job.unfinished, base=self._rules.retry_base)
        due = self._world.clock() + pause
        if await self._world.jobs.save(dataclasses.replace(job, next_turn_at=due)):
            await self._hand_over(turns.Turn(job.job_id, job.turn), due)

    async def _advance(self, job: model.Job, limits: guild_tasks.Limits) -> None:
        credential = await self._credential(job, limits)
        if credential is None:
            return
        run = guild_tasks.Run(job, limits, credential)
        if not job.listed and not await self._list(run):
            return
        await self._load(run)
        await self._units.work(run)
        if run.open_units():
            await self._next(run.job, self._due(run), run)
        else:
            failed = any(unit.state is model.UnitState.FAILED for unit in run.units.values())
            state = model.JobState.SUCCEEDED_WITH_ERRORS if failed else model.JobState.SUCCEEDED
            await self._end(run.job, state, "", run)

    async def _credential(self, job: model.Job, limits: guild_tasks.Limits) -> ports.Credential | None:
        """Return the user's pair; None when it must be renewed, cannot be now, and the turn ended here."""
        waiter = "" if limits.lane is model.Lane.INTERACTIVE else f"{job.job_id}:renew"
        try:
            purpose = ports.Purpose(limits.lane, job.user_id, waiter, limits.patience)
            return await self._credentials.usable(job.user_id, purpose)
        except (errors.RateLimited, errors.EgressBlocked) as wait:
            await self._next(job, self._world.clock() + wait.retry_after)
        except errors.DiscordTransient as failure:
            await self._list_later(job, failure)
        except errors.DiscordRefused as refusal:
            await self._end(job, model.JobState.FAILED, refusal.reason)
        return None

    async def _read_list(self, run: guild_tasks.Run) -> list[model.Unit]:
        """Read the user's guild list; when Discord refuses his token, once more with a renewed one."""
        user, lists = run.job.user_id, self._lists
        try:
            return await lists.read(run.job, run.credential, run.purpose(self._world.clock(), "list"))
        except errors.TokenRefused:
            purpose = run.purpose(self._world.clock(), "renew")
            run.credential = await self._credentials.renewed(user, run.credential, purpose)
        try:
            return await lists.read(run.job, run.credential, run.purpose(self._world.clock(), "list"))
        except errors.TokenRefused as refusal:
            await self._credentials.refused(user, run.credential)
            raise errors.ReauthRequired(user) from refusal

    async def _list(self, run: guild_tasks.Run) -> bool:
        """List and store the user's guilds; returns False when the turn ended here."""
        now = self._world.clock
        try:
            rows = await self._read_list(run)
        except errors.RateLimited as refusal:
            run.refused(refusal, now())
            await self._next(run.job, run.resume_at, run)
        except errors.EgressBlocked as block:
            await self._next(run.job, now() + block.retry_after)
        except errors.DiscordTransient as failure:
            await self._list_later(run.job, failure)
        except errors.DiscordRefused as refusal:
            await self._end(run.job, model.JobState.FAILED, refusal.reason)
        else:
            run.job = dataclasses.replace(run.job, listed=True, attempts=0, error="")
            self._reached("list", run.job)
            revised = [run.revised(unit) for unit in rows]
            self._count_ended(revised)
            if await self._world.jobs.add_units(run.job, revised):
                await self._units.publish(run.update(*revised))
                return True
            await self._lost(run.job, run)
        return False

    async def _list_later(self, job: model.Job, failure: errors.IndexerError) -> None:
        attempts = job.attempts + 1
        if attempts >= self._rules.max_attempts:
            await self._end(job, model.JobState.FAILED, failure.reason)
            return
        pause = freshness.backoff(attempts, base=self._rules.retry_base)
        later = dataclasses.replace(job, attempts=attempts, error=failure.reason)
        await self._next(later, self._world.clock() + pause)

    async def _load(self, run: guild_tasks.Run) -> None:
        """Read what the units need in four round trips, rank again what is open; guilds left or muted are done."""
        if not run.units:
            run.units = {unit.guild_id: unit for unit in await self._world.jobs.units(run.job.job_id)}
        run.memberships = {row.guild_id: row for row in await self._world.users.memberships(run.job.user_id)}
        wishes = await self._world.users.preferences(run.job.user_id)
        await self._skip(run, wishes)
        run.guilds = await self._world.guilds.get([unit.guild_id for unit in run.open_units()])
        now, weights = self._world.clock(), self._rules.rank_weights
        ordered = ranking.ordered(run.memberships, run.guilds, wishes, now=now, weights=weights)
        run.order = {row.inputs.guild_id: place for place, row in enumerate(ordered)}
        run.hurry_screen()

    async def _skip(self, run: guild_tasks.Run, wishes: model.Preferences) -> None:
        """End the units whose guild the user has left, or muted meanwhile; what he retries himself he wants."""
        skipped = []
        for unit in run.open_units():
            if unit.guild_id not in run.memberships:
                skipped.append(_skipped(dataclasses.replace(unit, channel_count=0), reasons.USER_LEFT))
            elif unit.guild_id in wishes.muted and not run.job.force:
                skipped.append(_skipped(unit, reasons.MUTED))
        await self._world.jobs.write_units(run.job, [run.revised(unit) for unit in skipped])
        self._count_ended(skipped)

    def _reached(self, milestone: str, job: model.Job) -> None:
        self._seen.reached(milestone, self._world.clock() - job.created_at)

    def _count_ended(self, rows: Iterable[model.Unit]) -> None:
        """Count guilds that ended without a step of their own."""
        for unit in rows:
            if unit.state.terminal:
                self._seen.unit_ended(unit.state.value, unit.error)

    def _due(self, run: guild_tasks.Run) -> float:
        """Return when the next turn makes sense: at the moment the limiter named, or when the first unit may run."""
        now = self._world.clock()
        if run.refusal is not None:
            return max(now, run.resume_at)
        return max(now, min(unit.retry_at for unit in run.open_units()))

    async def _next(self, job: model.Job, due: float, run: guild_tasks.Run | None = None) -> None:
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
        if not await self._world.jobs.save(waiting):
            await self._lost(job, run)
            return
        if run is not None and refusal is not None:
            run.job = waiting
            await self._units.publish(run.update())
        await self._hand_over(turns.Turn(job.job_id, job.turn), due)

    async def _hand_over(self, turn: turns.Turn, due: float) -> None:
        try:
            if due - self._world.clock() <= NOW:
                await self._world.queue.enqueue(turn)
            else:
                await self._world.queue.schedule(turn, due)
        except errors.QueueUnavailable as problem:
            # The store knows when the job is due: the sweeper finds it when Redis is back.
            self._log.warning("turn_not_enqueued", job=turn.job_id, error=str(problem))

    async def _end(self, job: model.Job, state: model.JobState, error: str, run: guild_tasks.Run | None = None) -> None:
        ended = dataclasses.replace(job, state=state, error=error, finished_at=self._world.clock())
        if await self._world.jobs.save(ended):
            self._seen.jobs.labels(state.value).inc()
            self._log.info("job_ended", job=job.job_id, state=state.value, error=error)
            # All rows once more: watchers that missed an update while Redis was away are whole again.
            rows = list(run.units.values()) if run else await self._world.jobs.units(job.job_id)
            if state is model.JobState.FAILED:
                rows = await self._fail_open(ended, rows)
            self._reached("done", job)
            if 0 < model.tally_of(rows).succeeded < guild_tasks.FIRST_FIVE:
                self._reached("five", job)
            await self._units.publish(model.Update(ended, model.tally_of(rows), tuple(rows)))
            # Nobody comes after this turn who could see that its user was erased meanwhile.
            await erase_user.take_back(self._world, job, run.units if run else ())
        else:
            await self._lost(job, run)

    async def _lost(self, job: model.Job, run: guild_tasks.Run | None) -> None:
        """Leave nothing behind of a job that somebody else has ended, if that was because its user was erased."""
        await erase_user.take_back(self._world, job, run.units if run else ())
        await erase_user.take_back_job(self._world, job.job_id)

    async def _fail_open(self, job: model.Job, rows: list[model.Unit]) -> list[model.Unit]:
        """Let what a failed job left undone say why, so that it can be seen and tried again."""
        final = [
            row
            if row.state.terminal
            else dataclasses.replace(
                row,
                state=model.UnitState.FAILED,
                error=job.error,
                retry_at=0.0,
                revision=model.revision_of(job.turn, LAST_STEPS + place),
            )
            for place, row in enumerate(rows)
        ]
        failed = [row for row in final if row not in rows]
        await self._world.jobs.write_units(job, failed)
        self._count_ended(failed)
        return final


def _skipped(unit: model.Unit, cause: str) -> model.Unit:
    return dataclasses.replace(unit, state=model.UnitState.SKIPPED, error=cause, retry_at=0.0)
