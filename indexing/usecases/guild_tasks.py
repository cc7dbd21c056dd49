"""A turn's work on its units: several side by side, the best first, until time or quota or work is out."""

import asyncio
import dataclasses

from indexing import errors
from indexing.domain import model, ports, reasons
from indexing.telemetry import logs, metrics
from indexing.usecases import fetch_guild, tokens

FIRST_FIVE = 5
"""Guilds that a first screen shows: of a job with fewer, its end is when they are all there."""
MILESTONES = {1: "first", FIRST_FIVE: "five"}
"""Guilds done after which somebody looks at the clock."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """
    What one turn may do.

    Attributes:
        until: Epoch second after which no further unit is started.
        width: Units side by side.
        first: Only so many of the best open units; None for all.
        patience: Longest wait for one permit, in seconds.
    """

    lane: model.Lane
    until: float
    width: int
    first: int | None = None
    patience: float = 1.0


@dataclasses.dataclass(slots=True)
class Run:
    """
    The state of a turn while it runs: what it owns, what it read, and what stops it.

    Attributes:
        guilds: Those of the open units.
        order: Places of the open units by the rank of now; a row keeps the position it was listed with.
        mine: Guilds that this turn may still begin.
        urgent: Guilds that somebody looks at an unfinished screen for, see `hurry_screen`.
        fetching: Guilds whose channels are being asked for right now.
        refusal: Why no further unit is begun, None while there is no reason.
        resume_at: When the job can go on then.
        lost: Whether somebody else has ended the job or its user was erased, so that nothing more is to be done.
    """

    job: model.Job
    limits: Limits
    credential: ports.Credential
    units: dict[int, model.Unit] = dataclasses.field(default_factory=dict)
    memberships: dict[int, model.Membership] = dataclasses.field(default_factory=dict)
    guilds: dict[int, model.Guild] = dataclasses.field(default_factory=dict)
    order: dict[int, int] = dataclasses.field(default_factory=dict)
    mine: set[int] = dataclasses.field(default_factory=set)
    urgent: frozenset[int] = frozenset()
    fetching: int = 0
    refusal: errors.RateLimited | None = None
    resume_at: float = 0.0
    lost: bool = False
    changes: int = 0

    @property
    def shows_something(self) -> bool:
        """Whether the user has a first guild to look at."""
        return any(unit.channel_count is not None for unit in self.units.values())

    def hurry_screen(self) -> None:
        """
        Let a first screen be finished in the interactive lane when only the user's own budget kept it waiting.

        Behind everybody's background work its last guilds would come much later than their permits. A screen that
        waits for the global budget is one of many that do; those who come now must not stand behind them all.
        """
        if self.job.waited_for == "user":
            shown = sum(unit.channel_count is not None for unit in self.units.values())
            self.urgent = frozenset(unit.guild_id for unit in self.open_units()[: max(0, FIRST_FIVE - shown)])

    def revised(self, unit: model.Unit) -> model.Unit:
        """Remember a changed unit under the next revision."""
        self.changes += 1
        revised = dataclasses.replace(unit, revision=model.revision_of(self.job.turn, self.changes))
        self.units[unit.guild_id] = revised
        return revised

    def refused(self, refusal: errors.RateLimited, now: float) -> None:
        """Remember the refusal that ends soonest: whoever comes late loses his place in the line, with its permit."""
        if self.refusal is None or now + refusal.retry_after < self.resume_at:
            self.refusal, self.resume_at = refusal, now + refusal.retry_after

    def open_units(self) -> list[model.Unit]:
        """Return units that still need work: channels before roles, most important first."""
        rows = [unit for unit in self.units.values() if not unit.state.terminal]
        return sorted(
            rows, key=lambda unit: (unit.step is model.Step.ROLES, self.order.get(unit.guild_id, unit.position))
        )

    def purpose(self, now: float, waiter: str, guild: int | None = None) -> ports.Purpose:
        """
        Return for whom, and with how much patience, Discord is asked at *now*, if need be about a *guild*.

        Only who comes back in the same lane keeps a place in its line: one that nobody claims costs its permit.
        """
        patience = min(self.limits.patience, max(0.0, self.limits.until - now))
        lane, job = model.Lane.INTERACTIVE if guild in self.urgent else self.limits.lane, self.job
        name = "" if lane is model.Lane.INTERACTIVE else f"{job.job_id}:{waiter}"
        return ports.Purpose(lane, job.user_id, name, patience)

    def update(self, *units: model.Unit) -> model.Update:
        """Return what watchers are told when *units* changed."""
        return model.Update(self.job, model.tally_of(self.units.values()), units)


class Units:
    """Works on the units of turns. Round trips for each unit: those of `fetch`, 1 to MongoDB and 2 to Redis."""

    def __init__(
        self,
        world: ports.World,
        fetcher: fetch_guild.Fetch,
        renewing: tokens.Credentials,
        seen: metrics.IndexingMetrics,
    ) -> None:
        self._world = world
        self._fetcher = fetcher
        self._credentials = renewing
        self._seen = seen
        self._log = logs.get(__name__)

    async def work(self, run: Run) -> None:
        """
        Work on the run's open units.

        Raises:
            errors.ReauthRequired: The user's token is dead.
            errors.LimiterUnavailable, errors.StoreUnavailable: Nothing can be done now.
        """
        run.mine = {unit.guild_id for unit in run.open_units()[: run.limits.first]}
        try:
            if run.limits.lane is not model.Lane.INTERACTIVE and not run.shows_something:
                # Alone, so that no user stands in the line with five guilds before another with his first.
                await self._one_after_another(run, until_something_shows=True)
            async with asyncio.TaskGroup() as group:
                for _ in range(run.limits.width):
                    group.create_task(self._one_after_another(run))
        except* errors.IndexerError as problems:
            # Side by side, several may fail for the same reason; the turn reports the first.
            raise problems.exceptions[0] from problems

    async def publish(self, update: model.Update) -> None:
        """Tell the watchers; while Redis is away they are told nothing, and get a snapshot when it is back."""
        try:
            await self._world.events.publish(update)
        except errors.QueueUnavailable as problem:
            self._log.warning("update_not_published", job=update.job.job_id, error=str(problem))

    async def _one_after_another(self, run: Run, *, until_something_shows: bool = False) -> None:
        while not (until_something_shows and run.shows_something) and (unit := self._pick(run)) is not None:
            listing = unit.step is model.Step.CHANNELS
            run.fetching += listing
            try:
                with logs.bound(guild=unit.guild_id):
                    outcome = await self._step(run, unit)
                    while outcome.throttled is not None and self._comes_soon(run, outcome.throttled.retry_after):
                        await asyncio.sleep(outcome.throttled.retry_after)
                        outcome = await self._step(run, unit)
            finally:
                run.fetching -= listing
            changed = run.revised(outcome.unit)
            if outcome.throttled is not None:
                # Nothing was asked, so nothing is written: the next turn finds the row as it was.
                run.refused(outcome.throttled, self._world.clock())
                continue
            if changed.state.terminal:
                self._count(run, changed)
            else:
                run.mine.add(unit.guild_id)
            if await self._world.jobs.write_units(run.job, [changed]):
                await self.publish(run.update(changed))
            else:
                run.lost = True

    def _comes_soon(self, run: Run, wait: float) -> bool:
        """
        Return whether to wait here for a permit that comes in *wait* seconds.

        A turn ends with its slowest call, so that the next one would often come too late for that moment, and a permit
        would be left unused meanwhile.
        """
        soon = wait <= run.limits.patience and self._world.clock() + wait < run.limits.until
        return soon and run.refusal is None and run.limits.lane is not model.Lane.INTERACTIVE

    def _count(self, run: Run, ended: model.Unit) -> None:
        self._seen.unit_ended(ended.state.value, ended.error)
        if ended.state is model.UnitState.SUCCEEDED:
            done = sum(unit.state is model.UnitState.SUCCEEDED for unit in run.units.values())
            if done in MILESTONES:
                self._seen.reached(MILESTONES[done], self._world.clock() - run.job.created_at)

    def _pick(self, run: Run) -> model.Unit | None:
        """Take the best unit that may run now; None when the turn should start no more."""
        now = self._world.clock()
        if run.lost or run.refusal is not None or now >= run.limits.until:
            return None
        for unit in run.open_units():
            if unit.guild_id in run.mine and unit.retry_at <= now:
                if unit.step is model.Step.ROLES and run.fetching:
                    # Roles would take permits from channels that are waiting for theirs.
                    return None
                run.mine.discard(unit.guild_id)
                return unit
        return None

    async def _step(self, run: Run, unit: model.Unit) -> fetch_guild.Outcome:
        async def began() -> None:
            running = dataclasses.replace(unit, state=model.UnitState.RUNNING)
            await self.publish(run.update(run.revised(running)))

        guild, membership = run.guilds.get(unit.guild_id), run.memberships[unit.guild_id]
        if guild is None:
            # Erased with the last member of it who was known, perhaps this one.
            return _failed(unit, reasons.GUILD_UNAVAILABLE)
        work = fetch_guild.Work(run.job, unit, guild, membership, run.credential, began)
        purpose = run.purpose(self._world.clock(), str(unit.guild_id), unit.guild_id)
        try:
            return await self._fetcher.run(work, purpose)
        except errors.TokenRefused as refusal:
            if unit.step is model.Step.ROLES:
                return await self._once_more(run, work, purpose)
            self._log.exception("bot_token_refused", status=refusal.status)
            return _failed(unit, "BOT_TOKEN_REFUSED")
        except errors.IndexerError:
            raise
        except Exception:  # noqa: BLE001 -- the boundary of a unit
            # A bug that one guild brings out must not stop the others, and must be seen in its row.
            self._log.exception("unit_broke", job=run.job.job_id, guild=unit.guild_id)
            return _failed(unit, errors.IndexerError.reason)

    async def _once_more(self, run: Run, work: fetch_guild.Work, purpose: ports.Purpose) -> fetch_guild.Outcome:
        """Renew the user's token, which Discord refused, and do the step again; refused twice, he must log in again."""
        user = run.job.user_id
        try:
            run.credential = await self._credentials.renewed(user, work.credential, purpose)
        except errors.RateLimited as wait:
            return fetch_guild.Outcome(work.unit, throttled=wait)
        except (errors.EgressBlocked, errors.DiscordTransient) as failure:
            pause = failure.retry_after if isinstance(failure, errors.EgressBlocked) else tokens.REST
            return fetch_guild.Outcome(work.unit, throttled=errors.CredentialBusy(user, pause))
        except errors.DiscordRefused as refusal:
            return _failed(work.unit, refusal.reason)
        again = dataclasses.replace(work, credential=run.credential)
        try:
            return await self._fetcher.run(again, purpose)
        except errors.TokenRefused as refusal:
            await self._credentials.refused(user, run.credential)
            raise errors.ReauthRequired(user) from refusal


def _failed(unit: model.Unit, error: str) -> fetch_guild.Outcome:
    return fetch_guild.Outcome(dataclasses.replace(unit, state=model.UnitState.FAILED, error=error, retry_at=0.0))
