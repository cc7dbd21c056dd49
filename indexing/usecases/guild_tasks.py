"""Runs the guild tasks of a turn: several concurrently, best first, until time, quota or tasks run out."""

import asyncio
import dataclasses
import itertools

from indexing import concurrency, errors, settings
from indexing.domain import job_updates, model, ports, reasons
from indexing.telemetry import logs, metrics
from indexing.usecases import fetch_guild, turn_state

MILESTONES = {1: "first", turn_state.FIRST_FIVE: "five"}
"""Milestones by the number of succeeded guilds; the time to each is measured."""
RELOAD_AFTER = 0.3
"""Seconds after which a turn loads a guild again before it queues for a permit. Without this, in a crowd whose users
share guilds, up to a third of the permits arrive when another process has just fetched the guild."""
RENEW_AFTER = 2.0
"""Seconds between two renewals of a turn that goes on because no other waits for its thread."""
LONGEST = 30.0
"""Longest time by which a turn is extended, in seconds: each turn ranks the guilds by the user's newest preferences."""
BOT_RETRY_PAUSE = 5.0
"""Seconds until the second attempt after a refusal of the bot's token."""
MOST_REFUSED = 10_000
"""Refused users that a process remembers; beyond that it forgets all of them."""
MOST_FED = 16
"""Concurrent tasks of guilds that the Gateway feeds, which need no permit."""
REFUSED_FOR = 600.0
"""Seconds for which roles are fetched with the bot's token after Discord refused the user's own token for them."""


class GuildTaskRunner:
    """
    Runs the guild tasks of turns.

    Round trips for each task: those of `GuildStep`, 1 to MongoDB, and 2 to Redis that it does not wait for.
    """

    def __init__(
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        fetcher: fetch_guild.GuildStep,
        metrics: metrics.IndexingMetrics,
    ) -> None:
        self._deps = deps
        self._config = config
        self._fetcher = fetcher
        self._metrics = metrics
        self._heads = concurrency.Coalescer(deps.guilds.get)
        self._refused: dict[int, tuple[int, float]] = {}
        self._log = logs.get(__name__)

    async def run_tasks(self, run: turn_state.TurnState) -> None:
        """
        Run the turn's open tasks.

        Raises:
            errors.LimiterUnavailable, errors.StoreUnavailable: No task can run now.
        """
        tasks, fed = run.open_tasks(), run.fed_guilds()
        run.assigned = {task.guild_id for task in tasks[: run.limits.first]} | fed
        # Concurrent tasks may fail for the same reason; the turn reports the first.
        with concurrency.first_error_alone():
            try:
                await self._run_all(run, fed)
            finally:
                await asyncio.gather(*run.publishing)

    async def _run_all(self, run: turn_state.TurnState, fed: set[int]) -> None:
        if run.limits.lane is not model.Lane.INTERACTIVE and not run.shows_something:
            # One task at a time, so that no user queues five guilds ahead of another user's first.
            await self._work_through(run, until_something_shows=True)
        async with asyncio.TaskGroup() as group:
            for _ in range(max(run.limits.width, min(MOST_FED, len(fed)))):
                group.create_task(self._work_through(run))

    async def publish(self, update: job_updates.JobUpdate) -> None:
        """Publish an update. While Redis is unavailable watchers get none, and a snapshot when it is back."""
        try:
            await self._deps.events.publish(update)
        except errors.QueueUnavailable as problem:
            self._log.warning("update_not_published", job=update.job.job_id, error=str(problem))

    def _publish_soon(self, run: turn_state.TurnState, *tasks: model.GuildTask) -> None:
        """Publish changed tasks in the order of the calls, so that no call and no further task waits for Redis."""
        publishing = asyncio.create_task(self.publish(run.update(*tasks)))
        run.publishing.add(publishing)
        publishing.add_done_callback(run.publishing.discard)

    async def _work_through(self, run: turn_state.TurnState, *, until_something_shows: bool = False) -> None:
        """Run one task after another; the next starts after a write confirmed that this turn still owns the job."""
        while not (until_something_shows and run.shows_something):
            task = await self._next_task(run)
            if task is None:
                return
            run.active += 1
            number = next(free for free in itertools.count() if free not in run.numbers)
            run.numbers.add(number)
            try:
                with logs.bound(guild=task.guild_id):
                    await self._reload(run, task)
                    outcome = await self._run_step(run, task, number)
                    while outcome.throttled is not None and await self._wait_for_permit(run, outcome.throttled):
                        await self._reload(run, task)
                        outcome = await self._run_step(run, task, number)
            finally:
                run.active -= 1
                run.numbers.discard(number)
                run.queued.discard(task.guild_id)
                run.step_ended()
            changed = run.revise(outcome.task)
            if outcome.throttled is not None:
                # No call was made, so nothing is written: the next turn finds the task unchanged.
                continue
            run.completed = True
            if changed.state.terminal:
                self._count_ended(run, changed)
            else:
                run.assigned.add(task.guild_id)
            await self._record(run, changed)

    async def _record(self, run: turn_state.TurnState, changed: model.GuildTask) -> None:
        """Store the result of a task, then publish it. The write extends a turn that no other waits for."""
        now = self._deps.clock()
        extends = run.limits.can_wait() and now - run.renewed_at >= RENEW_AFTER and now < run.limits.until + LONGEST
        lease = now + self._config.turn_lease if extends else None
        if await self._deps.jobs.write_tasks(run.job, [changed], owned_until=lease):
            if extends:
                run.renewed_at, run.until = now, now + self._config.turn_time
            self._publish_soon(run, changed)
        else:
            run.abandoned = True

    async def _next_task(self, run: turn_state.TurnState) -> model.GuildTask | None:
        """Take the best task, waiting for one that another step makes available; None when the turn starts no more."""
        while True:
            task = self._pick_next(run)
            if task is not None or not run.queued or self._is_over(run):
                return task
            await run.wait_for_step()

    def _is_over(self, run: turn_state.TurnState) -> bool:
        """Return whether the turn starts no more tasks. However slow the servers are, a background turn starts one."""
        in_time = self._deps.clock() < run.last_start or not (run.begun or run.limits.lane is model.Lane.INTERACTIVE)
        return run.abandoned or run.refusal is not None or not in_time

    async def _wait_for_permit(self, run: turn_state.TurnState, refusal: errors.RateLimited) -> bool:
        """
        Wait within the turn until a refused step may request its permit again; returns False when the turn must end.

        A turn ends with its slowest call, so the next turn often starts after that moment and the permit stays unused.
        A step that is far back in the queue waits as long as another of the turn runs or is due soon.
        """
        refused_at = self._deps.clock()
        again_at = refused_at + refusal.retry_after
        waits = run.refusal is None and again_at < run.last_start and run.limits.lane is not model.Lane.INTERACTIVE
        max_wait = run.max_wait(refused_at)
        if waits and refusal.retry_after <= max_wait:
            await asyncio.sleep(refusal.retry_after)
            return True
        if waits and refusal.is_queued and await self._wait_for_others(run, again_at - max_wait):
            return True
        run.note_refusal(refusal, refused_at)
        return False

    async def _reload(self, run: turn_state.TurnState, task: model.GuildTask) -> None:
        """Load the guild again: another process may have fetched it since the turn began. 1 round trip for several."""
        if task.step is model.Step.CHANNELS and self._deps.clock() - run.loaded_at > RELOAD_AFTER:
            run.guilds |= await self._heads.fetch([task.guild_id])

    async def _wait_for_others(self, run: turn_state.TurnState, until: float) -> bool:
        """Wait until a moment while other steps of the turn run or are due soon; returns whether they did."""
        run.active -= 1
        run.step_ended()
        try:
            while run.active and run.limits.can_wait() and not self._is_over(run):
                wait = until - self._deps.clock()
                if wait <= 0:
                    return True
                await run.wait_for_step(wait)
        finally:
            run.active += 1
        return False

    def _count_ended(self, run: turn_state.TurnState, ended: model.GuildTask) -> None:
        self._metrics.count_guild_task(ended.state.value, ended.reason)
        if ended.state is model.TaskState.SUCCEEDED:
            done = sum(task.state is model.TaskState.SUCCEEDED for task in run.tasks.values())
            if done in MILESTONES:
                self._metrics.observe_milestone(MILESTONES[done], self._deps.clock() - run.job.created_at)

    def _pick_next(self, run: turn_state.TurnState) -> model.GuildTask | None:
        """Take the best task that may run now; None when there is none or the turn starts no more."""
        now = self._deps.clock()
        if self._is_over(run):
            return None
        due = now + turn_state.NOW
        ready = [task for task in run.open_tasks() if task.guild_id in run.assigned and task.retry_at <= due]
        channels = [task for task in ready if task.step is model.Step.CHANNELS]
        if not channels and run.queued:
            # Roles would take permits from channels that wait for one.
            return None
        # A guild that is being fetched for another job needs no permit; it is probably there when its turn comes.
        alone = (task for task in channels if not self._fetcher.is_requested(task.guild_id, run.lane_of(task.guild_id)))
        task = next(alone, None) or next(iter(ready), None)
        if task is not None:
            if not run.shows_something:
                run.urgent |= {task.guild_id}
            run.assigned.discard(task.guild_id)
            run.begun = True
            if task.step is model.Step.CHANNELS:
                run.queued.add(task.guild_id)
        return task

    async def _run_step(self, run: turn_state.TurnState, task: model.GuildTask, number: int) -> fetch_guild.StepResult:
        async def began() -> None:
            run.queued.discard(task.guild_id)
            run.step_ended()
            running = dataclasses.replace(task, state=model.TaskState.RUNNING)
            self._publish_soon(run, run.revise(running))

        guild, membership = run.guilds.get(task.guild_id), run.memberships[task.guild_id]
        if guild is None:
            # The guild was erased with its last known member, perhaps this user.
            return _failed(task, reasons.GUILD_UNAVAILABLE)
        work = fetch_guild.TaskContext(run.job, task, guild, membership, self._credential_for(run), began)
        purpose = run.step_purpose(self._deps.clock(), task, number)
        try:
            try:
                return await self._fetcher.run_step(work, purpose)
            except errors.TokenRefused:
                if task.step is not model.Step.ROLES:
                    raise
                return await self._retry_with_bot_token(run, work, purpose)
        except (errors.TokenRefused, errors.BotTokenRefused) as refusal:
            self._log.error("bot_token_refused", status=refusal.status, code=refusal.code)
            return self._retry_after_bot_refusal(task)
        except errors.IndexerError:
            raise
        except Exception:  # noqa: BLE001 -- the boundary of a task
            # A bug that one guild triggers must not stop the other tasks, and shows in its own.
            self._log.exception("guild_task_crashed", job=run.job.job_id, guild=task.guild_id)
            return _failed(task, errors.IndexerError.reason)

    def _retry_after_bot_refusal(self, task: model.GuildTask) -> fetch_guild.StepResult:
        """Schedule one more attempt some seconds later: Discord sometimes refuses a valid token briefly."""
        reason = errors.BotTokenRefused.reason
        if task.reason == reason:
            return _failed(task, reason)
        retry_at = self._deps.clock() + BOT_RETRY_PAUSE
        waiting = fetch_guild.requeued(task)
        return fetch_guild.StepResult(dataclasses.replace(waiting, reason=reason, retry_at=retry_at))

    async def _retry_with_bot_token(
        self, run: turn_state.TurnState, work: fetch_guild.TaskContext, purpose: ports.Purpose
    ) -> fetch_guild.StepResult:
        """
        Fetch the roles with the bot's token, in this turn and for `REFUSED_FOR` seconds.

        The refusal does not prove that the grant was revoked, because only the scope may be missing; the guild list
        decides that. Not using the refused token again avoids 401s, which count towards the invalid-request limit.
        """
        self._log.info("member_route_refused", user=run.job.user_id)
        if len(self._refused) >= MOST_REFUSED:
            self._refused.clear()
        self._refused[run.job.user_id] = hash(work.credential.access_token), self._deps.clock()
        return await self._fetcher.run_step(
            dataclasses.replace(work, credential=work.credential.without_member_scope()), purpose
        )

    def _credential_for(self, run: turn_state.TurnState) -> ports.Credential:
        """Return the turn's credential, without the member scope if Discord refused it for roles recently."""
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
