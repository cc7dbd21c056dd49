"""
Fakes of the ports of storage and transport, in memory; tests/contract holds them to what the real adapters promise.

`away` on a fake plays the outage of its server.
"""

import collections
import dataclasses
import hashlib
import math
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from indexing import errors
from indexing.domain import freshness, job_callers, job_updates, model, ports, reasons, turns


class MemoryUsers:
    """Port `ports.Users`."""

    def __init__(self) -> None:
        self._rows: dict[int, model.User] = {}
        self.pairs: dict[int, ports.StoredCredential] = {}
        self.unproven: dict[int, ports.StoredCredential] = {}
        self._rosters: dict[int, set[int]] = {}
        self._former: dict[int, set[int]] = {}
        self._first_version = 0
        self._erasures: collections.Counter[str] = collections.Counter()

    def _change(self, user_id: int, **changes: Any) -> None:  # noqa: ANN401 -- any field
        known = self._rows.get(user_id)
        if known is None:
            erasure = self._erasures[_tombstone(user_id)] or None
            known = model.User(user_id, self._first_version, None, {}, model.Preferences(), erasure=erasure)
        self._rows[user_id] = dataclasses.replace(known, **changes)

    def forget(self, user_id: int) -> None:
        """Erase a user. None of their versions is used again."""
        known = self._rows.pop(user_id, None)
        if known is not None:
            self._first_version = max(self._first_version, known.version + 1)
            self._erasures[_tombstone(user_id)] += 1
        for kept in (self.pairs, self.unproven):
            kept.pop(user_id, None)

    async def pair_versions(self, user_id: int) -> ports.PairVersions:
        """Return the versions of what is stored."""
        in_use, newer = (kept[user_id].version if user_id in kept else None for kept in (self.pairs, self.unproven))
        erasure = self._erasures[_tombstone(user_id)] or None
        return ports.PairVersions(
            in_use, newer, erasure, known=user_id in self._rows or erasure is not None, gone=user_id not in self._rows
        )

    async def _is_other(self, user_id: int, over: ports.PairVersions | None) -> bool:
        return over is not None and over != await self.pair_versions(user_id)

    async def put_credential(
        self, user_id: int, credential: ports.Credential, *, over: ports.PairVersions | None = None
    ) -> bool:
        """Store it in place of any older one."""
        if await self._is_other(user_id, over):
            return False
        self._change(user_id, shown_until=math.inf)
        self._bump(user_id)
        self.pairs[user_id] = stored_pair(credential, proven=True)
        self.unproven.pop(user_id, None)
        return True

    async def put_unproven(
        self, user_id: int, credential: ports.Credential, *, over: ports.PairVersions | None = None
    ) -> bool:
        """Store it beside the one in use."""
        if await self._is_other(user_id, over):
            return False
        self._change(user_id)
        self.unproven[user_id] = stored_pair(credential, proven=False)
        return True

    def put_old(self, user_id: int, credential: ports.Credential) -> None:
        """Store it as the previous release does: in use, and not proven."""
        self._change(user_id, shown_until=math.inf)
        self.pairs[user_id] = stored_pair(credential, proven=False)

    def end_consent(self, user_id: int, shown_until: float) -> None:
        """Show the user what is stored until then."""
        if user_id in self._rows:
            self._change(user_id, shown_until=min(shown_until, self._rows[user_id].shown_until))
            self._bump(user_id)

    async def credential(self, user_id: int) -> ports.Credential:
        """Return the newest usable one, or raise what the port says."""
        held = [pairs[user_id] for pairs in (self.unproven, self.pairs) if user_id in pairs]
        if not held:
            raise errors.CredentialMissing(user_id)
        usable = [pair.credential for pair in held if not pair.refused]
        if not usable:
            raise errors.ReauthRequired(user_id)
        return usable[0]

    async def exists(self, user_id: int) -> bool:
        """Return whether anything is stored."""
        return user_id in self._rows

    async def load(self, user_id: int) -> model.User | None:
        """Return the user."""
        return self._rows.get(user_id)

    async def versions(self, user_ids: Collection[int]) -> dict[int, int]:
        """Return the versions of those that are stored."""
        return {key: self._rows[key].version for key in user_ids if key in self._rows}

    async def put_preferences(
        self, user_id: int, preferences: model.Preferences, fields: Collection[str] = ("pinned", "muted")
    ) -> None:
        """Replace these fields of the preferences."""
        self._change(user_id)
        changed = {field: getattr(preferences, field) for field in fields}
        self._change(user_id, preferences=dataclasses.replace(self._rows[user_id].preferences, **changed))
        self._bump(user_id)

    def _bump(self, user_id: int) -> None:
        self._change(user_id, version=self._rows[user_id].version + 1)

    async def replace_guild_list(self, known: model.User, guilds: Sequence[model.UserGuild], asked_at: float) -> bool:
        """Replace the user's memberships; roles stay where the rights are unchanged."""
        user_id, listed = known.user_id, {guild.guild_id for guild in guilds}
        self._rosters[user_id] = roster = self._rosters.get(user_id, set()) | listed
        current = self._rows.get(user_id)
        if current is None or (current.listed_at, current.erasure) != (known.listed_at, known.erasure):
            return False
        rows = [_joined(known, guild, current.memberships.get(guild.guild_id), asked_at) for guild in guilds]
        memberships = {row.guild_id: row for row in rows if row is not None}
        self._change(user_id, listed_at=asked_at, memberships=memberships, list_proven=True)
        self._former.setdefault(user_id, set()).update(roster - listed)
        self._rosters[user_id] = listed
        self._bump(user_id)
        return True

    def forget_proof(self, user_id: int) -> None:
        """Make the user's guild list one that an older release stored."""
        self._change(user_id, list_proven=False)

    def forget_times(self) -> None:
        """Remove the times of listings, as in documents of an older release."""
        for user_id in self._rows:
            self._change(user_id, listed_at=None)

    def _as_known(self, known: model.Membership) -> model.Membership | None:
        user = self._rows.get(known.user_id)
        member = user.memberships.get(known.guild_id) if user else None
        return member if member is not None and member.roles_changed_at == known.roles_changed_at else None

    async def store_roles(self, known: model.Membership, roles: Sequence[int], asked_at: float) -> bool:
        """Store a member's role ids, unless newer ones are stored."""
        member = self._as_known(known)
        if member is None:
            return False
        moment = max(asked_at, (known.roles_changed_at or 0.0) + 1e-6)
        new = dataclasses.replace(
            member, role_ids=tuple(sorted(set(roles))), roles_at=asked_at, roles_changed_at=moment
        )
        self._put_member(new)
        if member.role_ids != new.role_ids or asked_at - (known.roles_at or 0.0) >= 300.0:
            self._bump(known.user_id)
        return True

    def _put_member(self, member: model.Membership) -> None:
        memberships = {**self._rows[member.user_id].memberships, member.guild_id: member}
        self._change(member.user_id, memberships=memberships)

    async def mark_left(self, known: model.Membership) -> bool:
        """Delete a membership, unless something newer is stored."""
        if self._as_known(known) is None:
            return False
        memberships = dict(self._rows[known.user_id].memberships)
        del memberships[known.guild_id]
        self._change(known.user_id, memberships=memberships)
        self._bump(known.user_id)
        return True

    async def mark_viewed(self, user_id: int, guild_id: int, now: float) -> None:
        """Store the view."""
        user = self._rows.get(user_id)
        member = user.memberships.get(guild_id) if user else None
        if member is not None and _seldom(member.last_viewed_at, now):
            self._put_member(dataclasses.replace(member, last_viewed_at=now))

    def guilds_with_members(self) -> set[int]:
        """Return the guilds of all rosters."""
        return {key for roster in self._rosters.values() for key in roster}


def _tombstone(user_id: int) -> str:
    """Return the name of what is left of an erased user, without their id, which tests look for."""
    return hashlib.sha256(str(user_id).encode()).hexdigest()


def stored_pair(credential: ports.Credential, *, proven: bool) -> ports.StoredCredential:
    """Return a pair under a new version."""
    return ports.StoredCredential(credential, uuid.uuid4().hex, 0.0, refused=False, proven=proven)


def _joined(
    user: model.User, guild: model.UserGuild, current: model.Membership | None, asked_at: float
) -> model.Membership | None:
    """Return the membership after a list; None if the user has left since *user* was loaded."""
    known = user.memberships.get(guild.guild_id)
    if known is not None and current is None:
        return None
    if known is not None and (known.owner, known.permissions) == (guild.owner, guild.permissions):
        return current
    newest = (known.roles_changed_at if known else None) or 0.0
    return model.Membership(
        user.user_id,
        guild.guild_id,
        guild.owner,
        guild.permissions,
        None,
        None,
        last_viewed_at=current.last_viewed_at if current else None,
        roles_changed_at=max(asked_at, newest + 1e-6),
    )


def _seldom(looked_at: float | None, now: float) -> bool:
    return looked_at is None or looked_at <= now - 300


RETENTION = 30 * 86_400.0
"""Seconds for which a channel that is gone is kept."""


class MemoryGuilds:
    """
    Port `ports.Guilds`; `users` tells which guilds have members.

    Attributes:
        written: Ids of channels as they are written.
    """

    def __init__(self, users: MemoryUsers | None = None) -> None:
        self.written: list[int] = []
        self._users = users or MemoryUsers()
        self._guilds: dict[int, model.Guild] = {}
        self._fences: dict[int, int] = {}
        self._channels: dict[int, dict[int, model.Channel]] = collections.defaultdict(dict)
        self._gone: dict[int, tuple[model.GoneChannel, ...]] = {}
        self._versions: dict[int, int] = {}
        self._first = 1

    @property
    def gone(self) -> dict[int, tuple[float, str]]:
        """When and why channels went, by id."""
        return {row.channel_id: (row.gone_at, row.reason) for rows in self._gone.values() for row in rows}

    async def load(self, guild_ids: Collection[int]) -> dict[int, model.IndexedGuild]:
        """Return those that are stored, with their channels."""
        found = {}
        for key, guild in (await self.get(guild_ids)).items():
            fetched = guild.fetched_at is not None
            rows, gone = (self._listed(key), self._gone.get(key, ())) if fetched else ([], ())
            found[key] = model.IndexedGuild(guild, self._versions[key], tuple(rows), gone)
        return found

    async def versions(self, guild_ids: Collection[int]) -> dict[int, model.GuildVersion]:
        """Return the versions of those that are stored."""
        return {
            key: model.GuildVersion(self._versions[key], guild.fetched_at, guild.schedule.next_at)
            for key, guild in (await self.get(guild_ids)).items()
        }

    async def get(self, guild_ids: Collection[int]) -> dict[int, model.Guild]:
        """Return those that are stored."""
        return {key: self._guilds[key] for key in guild_ids if key in self._guilds}

    async def upsert_guilds(
        self, guilds: Sequence[model.UserGuild], installed: Collection[int] | None, *, viewed_at: float | None = None
    ) -> tuple[dict[int, model.Guild], set[int]]:
        """Store names and icons, and where our bot is."""
        new = {row.guild_id for row in guilds} - self._guilds.keys()
        for row in guilds:
            known = self._guilds.get(row.guild_id) or self._unread(row.guild_id)
            has_bot = installed is not None and row.guild_id in installed
            access = model.Access.INSTALLED if has_bot else model.Access.NOT_INSTALLED
            if installed is None:
                access = known.access
            if access is model.Access.INSTALLED and known.access is model.Access.DENIED:
                access = model.Access.DENIED
            people = row.presence_count if row.presence_count is not None else row.member_count
            if (known.name, known.icon, known.member_count, known.access) != (row.name, row.icon, people, access):
                known = dataclasses.replace(known, name=row.name, icon=row.icon, member_count=people, access=access)
                self._versions[row.guild_id] += 1
            if row.guild_id in new and viewed_at is not None and access is not model.Access.NOT_INSTALLED:
                known = dataclasses.replace(known, last_viewed_at=viewed_at, demand=1)
            self._guilds[row.guild_id] = known
        return await self.get([row.guild_id for row in guilds]), new

    async def mark_bot_removed(self, guild_ids: Collection[int], now: float) -> None:
        """Hide what was read."""
        for guild_id in guild_ids:
            guild = self._guilds.get(guild_id)
            if guild is None or guild.fetched_at is None or guild.fetched_at > now:
                continue
            self._fences[guild_id] += 1
            self._versions[guild_id] += 1
            self._channels.pop(guild_id, None)
            self._guilds[guild_id] = dataclasses.replace(
                guild,
                access=model.Access.NOT_INSTALLED,
                reason=reasons.BOT_REMOVED,
                fetched_at=None,
                channel_count=0,
                newest_message_id=None,
                lease_until=0.0,
                schedule=dataclasses.replace(guild.schedule, next_at=0.0),
            )

    async def mark_viewed(self, guild_ids: Collection[int], now: float, *, waiting: Collection[int] = ()) -> None:
        """Store the view and the demand."""
        for guild_id in guild_ids:
            if guild_id in self._guilds and _seldom(self._guilds[guild_id].last_viewed_at, now):
                self._guilds[guild_id] = dataclasses.replace(self._guilds[guild_id], last_viewed_at=now)
        for guild_id in waiting:
            if guild_id in self._guilds:
                guild = self._guilds[guild_id]
                self._guilds[guild_id] = dataclasses.replace(guild, demand=guild.demand + 1)

    async def schedule_soon(self, guild_ids: Collection[int], now: float) -> None:
        """Have them due now."""
        for guild in (await self.get(guild_ids)).values():
            readable = guild.access is model.Access.INSTALLED and guild.fetched_at is not None
            if readable and (guild.schedule.next_at > now or not guild.schedule.next_at):
                self._scheduled(guild.guild_id, dataclasses.replace(guild.schedule, next_at=now))

    async def list_due(self, now: float, limit: int) -> list[model.Guild]:
        """Return what is due."""
        rows = [guild for guild in self._guilds.values() if 0.0 < guild.schedule.next_at <= now]
        return sorted(rows, key=lambda guild: guild.schedule.next_at)[:limit]

    async def acquire_lease(self, guild_id: int, *, now: float, until: float, fetched_before: float) -> int | None:
        """Take the lease, if it is free and wanted."""
        guild = self._guilds.get(guild_id)
        if guild is None or freshness.is_held(guild.lease_until, now):
            return None
        if guild.fetched_at is not None and guild.fetched_at > fetched_before:
            return None
        self._fences[guild_id] += 1
        self._guilds[guild_id] = dataclasses.replace(guild, lease_until=until)
        return self._fences[guild_id]

    async def store_channels(self, guild_id: int, listing: model.Listing) -> bool:
        """Replace the guild's channels, if fencing token and structure are unchanged since the request."""
        known = self._guilds.get(guild_id)
        before_asking = listing.known.schedule.fingerprint if listing.known else ""
        if known is None or self._fences.get(guild_id) != listing.fence or known.schedule.fingerprint != before_asking:
            return False
        channels, now = listing.channels, listing.now
        before = self._channels[guild_id]
        after = {channel.channel_id: channel for channel in channels}
        self.written += [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        self._channels[guild_id] = after
        if listing.known and before_asking and before_asking == listing.schedule.fingerprint:
            self._versions[guild_id] += _shown_otherwise(listing.known, listing.newest_message_id)
        else:
            self._versions[guild_id] += 1
            self._gone[guild_id] = tuple(row for row in listing.gone if row.gone_at > now - RETENTION)
        self._guilds[guild_id] = listing.applied_to(self._guilds[guild_id])
        return True

    async def mark_refused(self, guild_id: int, *, fence: int, error: str, now: float, retry_at: float) -> None:
        """Store a refusal, if the fencing token is the latest."""
        if self._fences.get(guild_id) == fence:
            guild = self._guilds[guild_id]
            self._versions[guild_id] += 1
            self._guilds[guild_id] = dataclasses.replace(
                guild,
                access=model.Access.DENIED,
                reason=error,
                retry_at=retry_at,
                lease_until=0.0,
                refusals=guild.refusals + 1,
                refused_at=now,
                demand=0,
                schedule=dataclasses.replace(guild.schedule, next_at=0.0),
            )

    async def release_lease(self, guild_id: int, *, fence: int, schedule: model.Schedule | None = None) -> None:
        """End the lease, if the fencing token is the latest."""
        if self._fences.get(guild_id) == fence:
            self._guilds[guild_id] = dataclasses.replace(self._guilds[guild_id], lease_until=0.0)
            if schedule is not None:
                self._scheduled(guild_id, schedule)
                self._versions[guild_id] += schedule.failures == 1

    async def purge(self, before: float) -> int:
        """Forget channels that are gone and guilds without members."""
        left = {key: tuple(row for row in rows if row.gone_at >= before) for key, rows in self._gone.items()}
        erased = sum(len(rows) - len(left[key]) for key, rows in self._gone.items())
        self._gone = left
        members = self._users.guilds_with_members()
        empty = [
            key for key, guild in self._guilds.items() if key not in members and (guild.last_viewed_at or 0.0) < before
        ]
        for key in empty:
            self.forget(key)
        return erased + len(empty)

    def forget(self, guild_id: int) -> None:
        """Erase a guild. Neither a version nor a fencing token is used twice."""
        for kept in (self._guilds, self._channels, self._gone):
            kept.pop(guild_id, None)
        self._first = max(self._first, *(numbers.pop(guild_id, 0) + 1 for numbers in (self._fences, self._versions)))

    def _unread(self, guild_id: int) -> model.Guild:
        self._fences[guild_id] = self._versions[guild_id] = self._first
        return model.Guild(guild_id, "", None, None, model.Access.UNKNOWN, None, None, 0, "", 0.0, 0.0)

    def _scheduled(self, guild_id: int, schedule: model.Schedule) -> None:
        self._guilds[guild_id] = dataclasses.replace(self._guilds[guild_id], schedule=schedule)

    def _listed(self, guild_id: int) -> list[model.Channel]:
        return sorted(self._channels[guild_id].values(), key=lambda c: (c.position, c.channel_id))


def _shown_otherwise(known: model.Guild, newest: int | None) -> bool:
    """Return whether a listing of the same structure changes what is shown."""
    fine = known.fetched_at is not None and known.access is model.Access.INSTALLED and not known.schedule.failures
    return newest != known.newest_message_id or not fine


class MemoryJobs:
    """Port `ports.Jobs`; `questions` counts the times that several jobs were asked for."""

    def __init__(self) -> None:
        self.questions = 0
        self.erased: set[str] = set()
        self._jobs: dict[str, model.Job] = {}
        self._tasks: dict[str, dict[int, model.GuildTask]] = collections.defaultdict(dict)

    async def create_or_join(self, job: model.Job) -> tuple[model.Job, bool]:
        """Store it, unless its user has an active one."""
        for known in self._jobs.values():
            if known.user_id == job.user_id and not known.state.terminal:
                return known, False
        self._jobs[job.job_id] = job
        return job, True

    async def add_caller(self, job_id: str, caller: str) -> None:
        """Add a caller of an active job, at most so many."""
        job = self._jobs.get(job_id)
        if job is not None and not job.state.terminal:
            self._jobs[job_id] = job_callers.with_caller(job, caller)

    async def get(self, job_id: str) -> model.Job | None:
        """Return a job."""
        return self._jobs.get(job_id)

    async def get_many(self, job_ids: Collection[str]) -> dict[str, model.Job]:
        """Return those that are stored."""
        self.questions += 1
        return {key: self._jobs[key] for key in job_ids if key in self._jobs}

    async def latest(self, user_id: int) -> model.Job | None:
        """Return the active job, else the newest."""
        rows = [job for job in self._jobs.values() if job.user_id == user_id]
        return max(rows, key=lambda job: (not job.state.terminal, job.created_at), default=None)

    async def load(self, job_id: str) -> tuple[model.Job, list[model.GuildTask]] | None:
        """Return a job with its tasks."""
        job = self._jobs.get(job_id)
        return (job, await self.list_tasks(job_id)) if job else None

    async def list_for_user(
        self, user_id: int, *, before: float, limit: int
    ) -> list[tuple[model.Job, list[model.GuildTask]]]:
        """Return the user's jobs with their tasks."""
        rows = [job for job in self._jobs.values() if job.user_id == user_id and job.created_at < before]
        newest = sorted(rows, key=lambda job: job.created_at, reverse=True)[:limit]
        return [(job, await self.list_tasks(job.job_id)) for job in newest]

    async def begin_turn(
        self,
        job_id: str,
        turn: int,
        *,
        now: float,  # noqa: ARG002 -- the port has it
        until: float,
    ) -> tuple[model.Job, list[model.GuildTask]] | None:
        """Own the job, if *turn* is current."""
        job = self._jobs.get(job_id)
        if job is None or job.turn != turn or job.state.terminal:
            return None
        self._jobs[job_id] = dataclasses.replace(
            job,
            turn=turn + 1,
            next_turn_at=until,
            waiting_for="",
            waiting_until=0.0,
            unfinished=job.unfinished + 1,
        )
        return self._jobs[job_id], await self.list_tasks(job_id)

    def _owned(self, job: model.Job) -> model.Job | None:
        known = self._jobs.get(job.job_id)
        return known if known is not None and known.turn == job.turn and not known.state.terminal else None

    async def add_tasks(self, job: model.Job, tasks: Sequence[model.GuildTask]) -> bool:
        """Store the tasks and note that the guilds are listed."""
        if self._owned(job) is None:
            return False
        known = self._jobs[job.job_id]
        self._jobs[job.job_id] = dataclasses.replace(known, listed=True, attempts=0, reason="")
        self._tasks[job.job_id] = {task.guild_id: task for task in tasks}
        return True

    async def list_tasks(self, job_id: str) -> list[model.GuildTask]:
        """Return the tasks by position; in an ended job, none is open."""
        job = self._jobs.get(job_id)
        rows = sorted(self._tasks[job_id].values(), key=lambda task: task.position)
        return [_closed(task, job) for task in rows] if job is not None and job.state.terminal else rows

    async def write_tasks(
        self, job: model.Job, tasks: Iterable[model.GuildTask], *, owned_until: float | None = None
    ) -> bool:
        """Store tasks, if the job's turn is current and it runs."""
        rows = list(tasks)
        if not rows:
            return True
        stored = self._owned(job)
        if stored is None:
            return False
        if owned_until is not None:
            self._jobs[job.job_id] = dataclasses.replace(stored, next_turn_at=owned_until)
        self._replace_tasks(job.job_id, rows)
        return True

    def _replace_tasks(self, job_id: str, tasks: Iterable[model.GuildTask]) -> None:
        """Replace tasks that were added; others are not created."""
        known = self._tasks[job_id]
        known |= {task.guild_id: task for task in tasks if task.guild_id in known}

    async def save(self, known: model.Job, changed: model.Job, tasks: Iterable[model.GuildTask] = ()) -> bool:
        """Store what changed of the job, and tasks, if its turn is current and it runs."""
        stored = self._owned(known)
        if stored is None:
            return False
        self._replace_tasks(known.job_id, tasks)
        names = [field.name for field in dataclasses.fields(known)]
        changes = {name: getattr(changed, name) for name in names if getattr(changed, name) != getattr(known, name)}
        self._jobs[known.job_id] = dataclasses.replace(stored, **changes)
        return True

    async def postpone(self, job: model.Job, due: float, *, unfinished: int | None = None) -> bool:
        """Move the next turn, if the job's turn is current and it runs."""
        known = self._owned(job)
        if known is None:
            return False
        count = known.unfinished if unfinished is None else unfinished
        self._jobs[job.job_id] = dataclasses.replace(known, next_turn_at=due, unfinished=count)
        return True

    async def list_overdue(self, now: float, limit: int) -> list[model.Job]:
        """Return running jobs that are late."""
        running = [job for job in self._jobs.values() if not job.state.terminal]
        far = now + freshness.FARTHEST_TURN
        late = [job for job in running if job.next_turn_at < now or job.next_turn_at > far]
        return sorted(late, key=lambda job: job.next_turn_at)[:limit]


def _closed(task: model.GuildTask, job: model.Job) -> model.GuildTask:
    if task.state.terminal:
        return task
    state = model.TaskState.CANCELLED if job.state is model.JobState.CANCELLED else model.TaskState.FAILED
    revision = max(task.revision + 1, job_updates.revision_of(job.turn, 1 << 19))
    return dataclasses.replace(task, state=state, reason=job.reason or "INTERNAL", retry_at=0.0, revision=revision)


class MemoryIdempotencyStore:
    """Port `ports.IdempotencyStore`; without *users* every user is known."""

    def __init__(self, users: MemoryUsers | None = None) -> None:
        self._users = users
        self._answers: dict[str, ports.StoredResponse] = {}

    async def find(self, keys: Sequence[str]) -> ports.StoredResponse | None:
        """Return the stored response."""
        return next((self._answers[key] for key in keys if key in self._answers), None)

    async def store(self, key: str, answered: ports.StoredResponse, now: float) -> None:  # noqa: ARG002 -- the port has it
        """Keep the first response, but none about an unknown user."""
        about = answered.user_id
        if about is None or self._users is None or await self._users.exists(about):
            self._answers.setdefault(key, answered)


class MemoryUserData:
    """Port `ports.UserData`, over the same storage as the other fakes."""

    def __init__(
        self, users: MemoryUsers, guilds: MemoryGuilds, jobs: MemoryJobs, requests: MemoryIdempotencyStore
    ) -> None:
        self._users = users
        self._guilds = guilds
        self._jobs = jobs
        self._requests = requests

    async def count(self, user_id: int) -> Mapping[str, int]:
        """Count what is stored."""
        jobs, guilds = await self.list_jobs(user_id), await self.list_guilds(user_id)
        alone = self._alone(guilds, user_id)
        return {
            "users": int(await self._users.exists(user_id)),
            "rosters": int(user_id in self._users._rosters),
            "jobs": len(jobs),
            "requests": len(self._about(user_id)),
            "guilds": len(alone & self._guilds._guilds.keys()),
        }

    async def erase_user(self, user_id: int) -> None:
        """Forget credential, preferences and rights."""
        self._users.forget(user_id)

    async def list_jobs(self, user_id: int) -> list[str]:
        """Return the user's jobs."""
        return [job.job_id for job in self._jobs._jobs.values() if job.user_id == user_id]

    async def erase_jobs(self, job_ids: Collection[str]) -> None:
        """Delete jobs and tasks."""
        self._jobs.erased.update(job_ids)
        for job_id in job_ids:
            self._jobs._tasks.pop(job_id, None)
            self._jobs._jobs.pop(job_id, None)

    async def is_job_erased(self, job_id: str) -> bool:
        """Return whether it was erased."""
        return job_id in self._jobs.erased

    async def erase_responses(self, user_id: int) -> None:
        """Delete responses."""
        for key in self._about(user_id):
            del self._requests._answers[key]

    async def list_guilds(self, user_id: int) -> list[int]:
        """Return the guilds of the roster."""
        return sorted(self._users._rosters.get(user_id, set()) | self._users._former.get(user_id, set()))

    async def erase_guilds(self, guild_ids: Collection[int], *, but: int) -> None:
        """Delete guilds without other members."""
        for guild_id in self._alone(guild_ids, but):
            self._guilds.forget(guild_id)

    async def erase_roster(self, user_id: int) -> None:
        """Delete the roster."""
        self._users._rosters.pop(user_id, None)
        self._users._former.pop(user_id, None)

    async def purge(self) -> int:
        """Delete nothing: what is left of erasures is in no document."""
        return 0

    def _alone(self, guild_ids: Collection[int], but: int) -> set[int]:
        return set(guild_ids) - {key for user, rows in self._users._rosters.items() if user != but for key in rows}

    def _about(self, user_id: int) -> list[str]:
        return [key for key, answered in self._requests._answers.items() if answered.user_id == user_id]


class RecordingQueue:
    """Port `ports.TurnQueue`: remembers what it was given; nothing happens by itself."""

    def __init__(self) -> None:
        self.enqueued: list[turns.Turn] = []
        self.waiting: dict[turns.Turn, float] = {}
        self.away = False

    async def enqueue(self, turn: turns.Turn) -> None:
        """Remember a turn to run now."""
        self._reach()
        self.enqueued.append(turn)

    async def schedule(self, turn: turns.Turn, due: float) -> None:
        """Remember a turn to run later."""
        self._reach()
        self.waiting[turn] = due

    def _reach(self) -> None:
        if self.away:
            raise errors.QueueUnavailable("played")


class MemoryBotGuilds:
    """Port `ports.BotGuildsCache`."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self._known: tuple[frozenset[int], float] | None = None
        self.suspects: dict[int, float] = {}
        self.clock = clock
        self._claims: dict[str, float] = {}
        self._window = -math.inf, 0

    async def load(self) -> tuple[frozenset[int], float] | None:
        """Return what is known."""
        return self._known

    async def store(self, guild_ids: frozenset[int], now: float) -> None:
        """Replace it."""
        self._known = guild_ids, now

    async def load_suspects(self) -> dict[int, float]:
        """Return the suspects."""
        return dict(self.suspects)

    async def store_suspects(self, suspects: Mapping[int, float]) -> None:
        """Replace the suspects."""
        self.suspects = dict(suspects)

    async def claim(self, what: str, seconds: float) -> bool:
        """Acquire the claim, if it is free."""
        now = self.clock()
        if self._claims.get(what, -math.inf) > now:
            return False
        self._claims[what] = now + seconds
        return True

    async def release(self, what: str) -> None:
        """End a claim."""
        self._claims.pop(what, None)

    async def count_question(self, window: float) -> int:
        """Count a check."""
        now = self.clock()
        if now - self._window[0] >= window:
            self._window = now, 0
        self._window = self._window[0], self._window[1] + 1
        return self._window[1]
