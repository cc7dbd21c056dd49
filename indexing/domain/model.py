"""
Frozen values that travel between packages. Ids are Discord snowflakes as int, times are epoch seconds as float.

Shapes follow Discord's documentation as read on 2026-08-06 (discord-api-docs, developers/resources).
"""

import dataclasses
import enum
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from indexing.domain import id_sets

DISCORD_EPOCH = 1_420_070_400.0
"""First second of 2015, where snowflakes begin to count (developers/reference.mdx, Snowflakes)."""


VIEW_CHANNEL = 1 << 10
"""The permission to see a channel (developers/topics/permissions.mdx, read 2026-08-06)."""

OBFUSCATED = 1 << 17
"""Channel flag CHANNEL_OBFUSCATED: a redacted object whose name and overwrites are not real (change log 2026-08-12)."""


ROLE, MEMBER = 0, 1
KNOWN_KINDS = (ROLE, MEMBER)
"""Kinds of overwrites that are understood (developers/resources/channel.mdx, Overwrite Object, read 2026-08-06)."""


def snowflake_time(snowflake: int) -> float:
    """Return the epoch second at which *snowflake* was created."""
    return (snowflake >> 22) / 1000 + DISCORD_EPOCH


class Lane(enum.StrEnum):
    """How urgent a call to Discord is, most urgent first."""

    INTERACTIVE = "interactive"
    BACKGROUND = "background"
    REFRESH = "refresh"


class JobState(enum.StrEnum):
    """State of a job."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    SUCCEEDED_WITH_ERRORS = "SUCCEEDED_WITH_ERRORS"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        """Whether the state is final."""
        return self is not JobState.RUNNING


class TaskState(enum.StrEnum):
    """State of a guild task."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        """Whether the task needs no further work in this job."""
        return self not in {TaskState.QUEUED, TaskState.RUNNING}


class Step(enum.StrEnum):
    """The next request to Discord for a guild task."""

    CHANNELS = "CHANNELS"
    ROLES = "ROLES"


class Access(enum.StrEnum):
    """Our bot's access to a guild."""

    UNKNOWN = "UNKNOWN"
    INSTALLED = "INSTALLED"
    NOT_INSTALLED = "NOT_INSTALLED"
    DENIED = "DENIED"


@dataclasses.dataclass(frozen=True, slots=True)
class UserGuild:
    """One entry of a user's guild list (developers/resources/user.mdx, Get Current User Guilds)."""

    guild_id: int
    name: str
    icon: str | None
    owner: bool
    permissions: int
    member_count: int | None
    presence_count: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Overwrite:
    """A channel's permission overwrite; kind 0 names a role, 1 a member (developers/resources/channel.mdx)."""

    target_id: int
    kind: int
    allow: int
    deny: int


@dataclasses.dataclass(frozen=True, slots=True)
class Overwrites:
    """
    The effect of a channel's permission overwrites on VIEW_CHANNEL; the other permissions are not kept.

    Each field holds the ids of the overwrites of one kind that allow or deny it, packed by `id_sets.pack_ids`. Channels
    with equal overwrites share one object. A legal channel has up to 1,000 overwrites, so a set is searched, not
    unpacked.
    """

    roles_allow: bytes = b""
    roles_deny: bytes = b""
    members_allow: bytes = b""
    members_deny: bytes = b""

    @classmethod
    def of(cls, rows: Iterable[Overwrite]) -> Self:
        """
        Reduce overwrites as Discord sends them.

        Of two overwrites for one target the stricter counts. A denial of unknown kind counts against the role and the
        member of that id; `permissions.are_reliable` tells whether more than that must be hidden.
        """
        effects: dict[tuple[int, int], tuple[bool, bool]] = {}
        for row in rows:
            allows, denies = (bool(bits & VIEW_CHANNEL) for bits in (row.allow, row.deny))
            known = row.kind in KNOWN_KINDS
            for kind in (row.kind,) if known else KNOWN_KINDS if denies else ():
                others_allow, others_deny = effects.get((kind, row.target_id), (True, False))
                effects[kind, row.target_id] = (others_allow and allows and known, others_deny or denies)

        def targets(kind: int, side: int) -> bytes:
            return id_sets.pack_ids(target for (of, target), effect in effects.items() if of == kind and effect[side])

        return cls(targets(ROLE, 0), targets(ROLE, 1), targets(MEMBER, 0), targets(MEMBER, 1))


NO_OVERWRITES = Overwrites()


@dataclasses.dataclass(frozen=True, slots=True)
class Channel:
    """One guild channel. `kind` is Discord's type number; numbers not known today are kept."""

    channel_id: int
    guild_id: int
    kind: int
    name: str
    topic: str | None
    position: int
    parent_id: int | None
    nsfw: bool
    flags: int
    last_message_id: int | None
    overwrites: Overwrites

    @property
    def redacted(self) -> bool:
        """Whether only the id is real: a redacted channel must be neither stored nor shown."""
        return bool(self.flags & OBFUSCATED)


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """
    When a guild's channels are fetched again, and the inputs of that decision.

    Attributes:
        next_at: When they are fetched again without a job; 0 when never.
        interval: Seconds from the last fetch to `next_at`.
        changed_at: When their structure last changed as far as is known; None when they were never fetched.
        fingerprint: Of the structure at the last fetch.
        failures: Transient failures in a row.
    """

    next_at: float = 0.0
    interval: float = 0.0
    changed_at: float | None = None
    fingerprint: str = ""
    failures: int = 0


NEVER_FETCHED = Schedule()


@dataclasses.dataclass(frozen=True, slots=True)
class Guild:
    """
    A guild as stored, shared by all its users.

    Attributes:
        member_count: Members present, else members, as Discord estimates them; None when unknown.
        reason: Why there is no access, or no recent fetch; empty when all is well.
        retry_at: When the cached refusal expires.
        refusals: Refusals in a row.
        refused_at: When the last of them was received.
        last_viewed_at: When the guild was last viewed, to within a few minutes; None when never.
        demand: Number of requests for the guild since it was last fetched.
        fed_by: Shard of the Gateway that feeds the guild now; empty for none. `fetched_at` is then the moment up to
            which the shard's session is complete, if that is later than the last fetch.
    """

    guild_id: int
    name: str
    icon: str | None
    member_count: int | None
    access: Access
    fetched_at: float | None
    newest_message_id: int | None
    channel_count: int
    reason: str
    retry_at: float
    lease_until: float
    refusals: int = 0
    refused_at: float = 0.0
    last_viewed_at: float | None = None
    demand: int = 0
    schedule: Schedule = NEVER_FETCHED
    fed_by: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Membership:
    """
    One user in one guild.

    Attributes:
        role_ids: None while unknown; @everyone is not listed.
        roles_at: When the role ids were requested; None while they are unknown.
        roles_changed_at: When anything about the roles last changed. Role ids are stored only if this has not changed
            since they were requested.
        last_viewed_at: When the user last opened the guild, to within a few minutes; None when never.
    """

    user_id: int
    guild_id: int
    owner: bool
    permissions: int
    role_ids: tuple[int, ...] | None
    roles_at: float | None
    last_viewed_at: float | None = None
    roles_changed_at: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class GoneChannel:
    """A channel that is no longer listed; kept for a while, so that operators can see when and why it went."""

    channel_id: int
    kind: int
    gone_at: float
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class IndexedGuild:
    """
    A guild with its channels as of one listing.

    Attributes:
        version: Grows with every change that readers can see.
        channels: Ordered by position, then id.
        gone: Newest last.
    """

    guild: Guild
    version: int
    channels: tuple[Channel, ...]
    gone: tuple[GoneChannel, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """
    A complete listing of a guild's channels, to be stored.

    Attributes:
        fence: Fencing token of the lease under which the listing was fetched.
        now: When the listing was requested, in epoch seconds.
        known: The guild before the request; the listing is stored only if the stored structure is still the same.
        gone: Channels that are no longer listed, including those that were gone before.
    """

    fence: int
    channels: Sequence[Channel]
    now: float
    schedule: Schedule = NEVER_FETCHED
    known: Guild | None = None
    gone: Sequence[GoneChannel] = ()

    @property
    def newest_message_id(self) -> int | None:
        """The newest message of all channels; None without any."""
        return max((channel.last_message_id or 0 for channel in self.channels), default=0) or None

    def applied_to(self, guild: Guild) -> Guild:
        """Return the guild as it is once the listing is stored."""
        return dataclasses.replace(
            guild,
            access=Access.INSTALLED,
            fetched_at=self.now,
            channel_count=len(self.channels),
            newest_message_id=self.newest_message_id,
            reason="",
            retry_at=0.0,
            refusals=0,
            refused_at=0.0,
            demand=0,
            lease_until=0.0,
            schedule=self.schedule,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class GuildVersion:
    """The stored version of a guild and its fetch times, to check a cached guild against."""

    version: int
    fetched_at: float | None
    next_refresh_at: float


@dataclasses.dataclass(frozen=True, slots=True)
class Preferences:
    """A user's preferences: guilds ranked first, in this order, and guilds that jobs skip."""

    pinned: tuple[int, ...] = ()
    muted: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """
    Everything stored of a user except the credential.

    Attributes:
        version, listed_at: Grows with every change; when the list was requested, None before the first.
        memberships: By guild; ended ones are left out.
        list_proven: Whether the guild list was read with a pair that is proven to be the user's.
        shown_until: When what is stored is no longer shown, until a credential is proven: consent has ended.
        erasure: The latest erasure of the user's data; None without one. A write from before it changes nothing.
    """

    user_id: int
    version: int
    listed_at: float | None
    memberships: Mapping[int, Membership]
    preferences: Preferences
    list_proven: bool = True
    shown_until: float = math.inf
    erasure: int | None = None

    def shown_memberships(self, now: float) -> Mapping[int, Membership]:
        """Return the memberships that may be shown: none any more once the user's consent has ended."""
        return self.memberships if now < self.shown_until else {}


@dataclasses.dataclass(frozen=True, slots=True)
class GuildTask:
    """
    One guild in one job, as watchers see it.

    Attributes:
        position: 0 is the most important guild, as ranked by the latest turn.
        retry_at: Earliest next attempt; 0 when the task may run now.
        channel_count: Channels that this user may see, None before the first fetch.
        revision: Grows with every change of the task, see `job_updates.revision_of`.
    """

    guild_id: int
    name: str
    state: TaskState
    step: Step
    position: int
    attempts: int
    retry_at: float
    reason: str
    channel_count: int | None
    revision: int


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """
    One indexing run for one user.

    Attributes:
        turn: Number of the turn that owns the job; only its owner may write.
        next_turn_at: When the next turn is due; the sweeper looks for overdue jobs.
        listed: Whether the guild list is stored and the guild tasks exist.
        waiting_for, waiting_until, waited_for: Budget that the job waits for and when it has permits; the
            one that the current turn had to wait for.
        unfinished: Turns in a row that began and did not end properly.
        cancelled_by: Name of the caller who cancelled the job, or empty.
        callers: Names of the callers that asked for it, see job_callers.py.
    """

    job_id: str
    user_id: int
    state: JobState
    force: bool
    turn: int
    next_turn_at: float
    listed: bool
    attempts: int
    reason: str
    created_at: float
    finished_at: float | None
    waiting_for: str
    waiting_until: float
    waited_for: str = ""
    unfinished: int = 0
    cancelled_by: str = ""
    callers: tuple[str, ...] = ()


def new_job(job_id: str, user_id: int, *, now: float, due: float, force: bool) -> Job:
    """Return a job before its first turn."""
    return Job(
        job_id=job_id,
        user_id=user_id,
        state=JobState.RUNNING,
        force=force,
        turn=0,
        next_turn_at=due,
        listed=False,
        attempts=0,
        reason="",
        created_at=now,
        finished_at=None,
        waiting_for="",
        waiting_until=0.0,
    )
