"""
The use cases' interfaces to the outside, as Protocols; discord/, store/ and messaging/ implement them.

Every method may raise its vendor's error: Discord's are listed at `Discord`, the stores raise
`errors.StoreUnavailable`, queue and events `errors.QueueUnavailable`.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from indexing.domain import job_updates, model, turns
from indexing.domain.token_pairs import MEMBER_SCOPE as MEMBER_SCOPE
from indexing.domain.token_pairs import REJECTED as REJECTED
from indexing.domain.token_pairs import Authorization as Authorization
from indexing.domain.token_pairs import Credential as Credential
from indexing.domain.token_pairs import Credentials as Credentials
from indexing.domain.token_pairs import PairVersions as PairVersions
from indexing.domain.token_pairs import StoredCredential as StoredCredential

Clock = Callable[[], float]
"""Returns the epoch second."""


Precondition = Callable[[], Awaitable[bool]]
"""Evaluated right before a call is made; returns whether the call is still wanted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Purpose:
    """
    Whose budget a call to Discord is charged to, and how urgent it is.

    Attributes:
        user_id: User whose budget is charged; None to charge no user's.
        waiter: Key of a position in the fair queue for permits; a job's id.
        max_wait: Longest wait for a permit, in seconds.
        callers: Callers in whose turn the call is made; empty for the unnamed one.
        shared: Whether calls for others have the same waiter and the same result: the one that gets its permit first
            serves all.
    """

    lane: model.Lane
    user_id: int | None
    waiter: str
    max_wait: float
    callers: tuple[str, ...] = ()
    shared: bool = False


class Discord(Protocol):
    """
    Discord's HTTP API.

    Raises:
        errors.RateLimited: No permit within the purpose's `max_wait`, a 429, or (DiscordOutage) an outage of Discord.
        errors.LimiterUnavailable: The limiter's Redis cannot be reached; no call was made.
        errors.TokenRefused, errors.NoAccess, errors.Gone, errors.DiscordRefused: Permanent refusals.
        errors.BotTokenRefused: The same of the bot's token, in calls for one user: `bot_guilds`, `bot_is_in`,
            `member_roles`.
        errors.DiscordTransient: A transient failure.
        errors.EgressBlocked: The edge in front of Discord refuses this address.
    """

    async def user_guilds(self, credential: Credential, purpose: Purpose) -> list[model.UserGuild]:
        """Return all guilds of the credential's user."""

    async def bot_guilds(self, purpose: Purpose) -> frozenset[int]:
        """Return the ids of all guilds in which our bot is installed."""

    async def bot_is_in(self, guild_id: int, purpose: Purpose) -> bool:
        """Return whether our bot is installed in the guild."""

    async def guild_channels(
        self, guild_id: int, purpose: Purpose, precondition: Precondition
    ) -> list[model.Channel] | None:
        """
        Return all channels of the guild that the bot may view; None when *precondition* returns False.

        *precondition* is awaited between the permit and the request; when it returns False the permit is given back.
        """

    async def member_roles(
        self, user_id: int, guild_id: int, credential: Credential, purpose: Purpose
    ) -> tuple[int, ...]:
        """
        Return the user's role ids in the guild.

        Raises:
            errors.Gone: They are not a member.
            errors.CredentialOfAnotherUser: The answer to the user's own token is about another user.
        """


class OAuth(Protocol):
    """
    Discord's OAuth2 endpoints, as used by our application.

    Attributes:
        enabled: Whether the application's id and secret are known.
        max_call_time: Longest time of one call, in seconds.
    """

    enabled: bool
    max_call_time: float

    async def renew(self, credential: Credential, purpose: Purpose, now: float) -> Credential:
        """
        Trade the refresh token for a new pair; one attempt, because a refresh token works once.

        Raises:
            errors.GrantRefused: The refresh token is invalid.
            errors.ClientRefused, errors.DiscordRefused: The application's credentials or the request are at fault.
            errors.DiscordTransient: The pair may or may not be renewed.
            errors.RateLimited, errors.EgressBlocked, errors.LimiterUnavailable: It is not.
        """

    async def revoke(self, credential: Credential, purpose: Purpose) -> None:
        """End the grant; raises what `renew` raises."""

    async def describe(self, credential: Credential, purpose: Purpose) -> Authorization:
        """
        Return what Discord says about the access token; one attempt of at most two calls.

        Raises:
            errors.TokenRefused: Discord refuses the token.
            errors.CredentialUnverifiable: Discord, or a proxy in front of it, does not say whose it is.
            errors.DiscordTransient, errors.RateLimited, errors.EgressBlocked, errors.LimiterUnavailable: Ask again.
        """


class Users(Protocol):
    """
    Users: credential, preferences, guild list and roles.

    Writes of data that visibility depends on are conditional on the state stored before the request to Discord, so that
    an old response changes nothing, however late its write arrives.
    """

    async def pair_versions(self, user_id: int) -> PairVersions:
        """Return what is stored of the user's pairs, for the write of another."""

    async def put_credential(self, user_id: int, credential: Credential, *, over: PairVersions | None = None) -> bool:
        """
        Store a proven credential, encrypted, in place of every older one; what is stored is shown again.

        *over* is what was stored before Discord was asked about the pair, None for what is stored now. Returns False,
        and changes nothing, when another write came between.
        """

    async def put_unproven(self, user_id: int, credential: Credential, *, over: PairVersions | None = None) -> bool:
        """Store a credential that is not proven, encrypted, beside the one in use; otherwise as `put_credential`."""

    async def credential(self, user_id: int) -> Credential:
        """Return the newest usable credential, proven or not. Raises errors.CredentialMissing or ReauthRequired."""

    async def exists(self, user_id: int) -> bool:
        """Return whether anything is stored of the user."""

    async def load(self, user_id: int) -> model.User | None:
        """Return everything stored of the user except the credential; None when nothing is stored."""

    async def versions(self, user_ids: Collection[int]) -> dict[int, int]:
        """Return the versions of the stored users, by id."""

    async def put_preferences(
        self, user_id: int, preferences: model.Preferences, fields: Collection[str] = ("pinned", "muted")
    ) -> None:
        """Replace these fields. Raises errors.StoreUnavailable also when others change them at the same time."""

    async def replace_guild_list(self, known: model.User, guilds: Sequence[model.UserGuild], asked_at: float) -> bool:
        """
        Store the user's complete guild list; memberships that it no longer names end.

        Where the user's rights changed, their roles become unknown, because they may have changed too.

        Args:
            known: The user as stored before the request to Discord.
            guilds: The list.
            asked_at: When the request was sent.

        Returns:
            False when another list was stored since, or the user was erased; then nothing is changed.
        """

    async def store_roles(self, known: model.Membership, roles: Sequence[int], asked_at: float) -> bool:
        """Store role ids requested at *asked_at*; returns False and changes nothing when newer ones are stored."""

    async def mark_left(self, known: model.Membership) -> bool:
        """End the membership; returns False and changes nothing when newer data is stored."""

    async def mark_viewed(self, user_id: int, guild_id: int, now: float) -> None:
        """Record that the user viewed one of their guilds, at most once in a few minutes."""


class Guilds(Protocol):
    """Guilds and their channels, shared by all users."""

    async def get(self, guild_ids: Collection[int]) -> dict[int, model.Guild]:
        """Return the stored guilds, by id, without their channels."""

    async def load(self, guild_ids: Collection[int]) -> dict[int, model.IndexedGuild]:
        """Return the stored guilds, by id, with their channels."""

    async def versions(self, guild_ids: Collection[int]) -> dict[int, model.GuildVersion]:
        """Return the versions of the stored guilds, by id."""

    async def upsert_guilds(
        self, guilds: Sequence[model.UserGuild], installed: Collection[int] | None, *, viewed_at: float | None = None
    ) -> tuple[dict[int, model.Guild], set[int]]:
        """
        Store names and icons, and which of the guilds have our bot; with None, access does not change.

        Guilds that are new begin with a view at *viewed_at* and one user who waits, if it is given.

        Returns:
            The guilds as stored, by id, without those that were erased meanwhile; and the ids of those that were new.
        """

    async def mark_bot_removed(self, guild_ids: Collection[int], now: float) -> None:
        """Record that our bot is not in the guilds; their stored channels are hidden, with that reason."""

    async def mark_viewed(self, guild_ids: Collection[int], now: float, *, waiting: Collection[int] = ()) -> None:
        """Record views of guilds, at most once in a few minutes each, and a user who waits for each id in *waiting*."""

    async def schedule_soon(self, guild_ids: Collection[int], now: float) -> None:
        """Make installed, fetched guilds due at *now*; a guild that is already due does not change."""

    async def list_due(self, now: float, limit: int) -> list[model.Guild]:
        """Return guilds whose next fetch was due before *now*, most overdue first."""

    async def acquire_lease(self, guild_id: int, *, now: float, until: float, fetched_before: float) -> int | None:
        """
        Acquire a guild's fetch lease; None if it is held or the guild was fetched since *fetched_before*.

        The number returned is the fencing token: it only grows, and a write with an older one changes nothing.
        """

    async def store_channels(self, guild_id: int, listing: model.Listing) -> bool:
        """Store a complete listing and end the lease; returns False and changes nothing when the lease is lost."""

    async def mark_refused(self, guild_id: int, *, fence: int, error: str, now: float, retry_at: float) -> None:
        """Record and count a lasting refusal and end the lease; the guild is not refreshed any more."""

    async def release_lease(self, guild_id: int, *, fence: int, schedule: model.Schedule | None = None) -> None:
        """End the lease without a result, and store a new schedule if given."""

    async def purge(self, before: float) -> int:
        """Erase gone channels, and guilds without members that were not viewed since *before*; returns how many."""


class Jobs(Protocol):
    """Jobs and their guild tasks. Only the owner of the current turn may write; other writes change nothing."""

    async def create_or_join(self, job: model.Job) -> tuple[model.Job, bool]:
        """Store *job* unless its user has an active one; returns the stored one and whether it is new."""

    async def add_caller(self, job_id: str, caller: str) -> None:
        """Add a caller that asks for an active job too, up to `MOST_CALLERS`; it counts from the next turn on."""

    async def get(self, job_id: str) -> model.Job | None:
        """Return a job."""

    async def get_many(self, job_ids: Collection[str]) -> dict[str, model.Job]:
        """Return the stored jobs, by id."""

    async def load(self, job_id: str) -> tuple[model.Job, list[model.GuildTask]] | None:
        """Return a job and its tasks by position, as of one moment."""

    async def latest(self, user_id: int) -> model.Job | None:
        """Return the user's active job, else the newest one."""

    async def list_for_user(
        self, user_id: int, *, before: float, limit: int
    ) -> list[tuple[model.Job, list[model.GuildTask]]]:
        """Return the user's jobs that were created before a time, newest first, with their tasks."""

    async def begin_turn(
        self, job_id: str, turn: int, *, now: float, until: float
    ) -> tuple[model.Job, list[model.GuildTask]] | None:
        """Own the job as turn + 1, if *turn* is current and the job runs, and return it with its tasks; else None."""

    async def add_tasks(self, job: model.Job, tasks: Sequence[model.GuildTask]) -> bool:
        """
        Store the tasks of a job whose guilds are listed; returns False when its turn is not current any more.

        The failed attempts to list them are forgotten; no other field of the job is written.
        """

    async def list_tasks(self, job_id: str) -> list[model.GuildTask]:
        """Return the tasks by position; in an ended job, none is open."""

    async def write_tasks(
        self, job: model.Job, tasks: Iterable[model.GuildTask], *, owned_until: float | None = None
    ) -> bool:
        """
        Store changed tasks, and until when the turn owns the job if given.

        Returns:
            False when the job's turn is not current any more; then nothing is changed.
        """

    async def save(self, known: model.Job, changed: model.Job, tasks: Iterable[model.GuildTask] = ()) -> bool:
        """
        Store the fields in which *changed* differs from *known*, and changed tasks, in one write.

        Nothing else is written, so an older copy of the job resets nothing.

        Returns:
            Whether the turn of *known* is still current; if not, nothing is changed.
        """

    async def postpone(self, job: model.Job, due: float, *, unfinished: int | None = None) -> bool:
        """
        Change the due time of the next turn, if the job's turn is current; returns whether it was.

        *unfinished* corrects the number of lost turns; no other field is written.
        """

    async def list_overdue(self, now: float, limit: int) -> list[model.Job]:
        """
        Return active jobs whose next turn was due before *now*, most overdue first.

        And those that are due beyond `freshness.FARTHEST_TURN`: the clock was set back since.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response and a keyed hash of its request; `user_id` is the user it concerns, if any."""

    fingerprint: bytes
    response: bytes
    user_id: int | None = None


class IdempotencyStore(Protocol):
    """Responses to requests that may be repeated, kept for 24 hours."""

    async def find(self, keys: Sequence[str]) -> StoredResponse | None:
        """Return the response stored under the first of these keys that has one."""

    async def store(self, key: str, answered: StoredResponse, now: float) -> None:
        """Store a response; the first of two wins, and one that concerns an unknown user is not stored."""


class UserData(Protocol):
    """Everything stored of one user, for its erasure. Every method is idempotent."""

    async def count(self, user_id: int) -> Mapping[str, int]:
        """Count the documents that the erasure deletes, by collection; guilds and channels that stay are left out."""

    async def erase_user(self, user_id: int) -> None:
        """Erase the document with credential and preferences; no new work of this user begins afterwards."""

    async def list_jobs(self, user_id: int) -> list[str]:
        """Return the ids of the user's jobs."""

    async def erase_jobs(self, job_ids: Collection[str]) -> None:
        """Erase jobs and their tasks, and note that they were erased."""

    async def is_job_erased(self, job_id: str) -> bool:
        """Return whether the job was erased within the last day; False for a job that is only missing."""

    async def erase_responses(self, user_id: int) -> None:
        """Erase the stored responses that concern the user."""

    async def list_guilds(self, user_id: int) -> list[int]:
        """Return the guilds that the user is or was a member of."""

    async def erase_guilds(self, guild_ids: Collection[int], *, but: int) -> None:
        """Erase those of the guilds, with their channels, that have no known member *but* this user."""

    async def erase_roster(self, user_id: int) -> None:
        """Erase the roster; called last, because it lists the guilds to check."""

    async def purge(self) -> int:
        """Delete what is left of erasures that are more than a day ago; returns how many documents."""


class UserBudgets(Protocol):
    """The limiter's part of an erasure."""

    async def forget_user(self, user_id: int) -> None:
        """Delete the keys with the user's id; their budgets expire with the last permit. errors.LimiterUnavailable."""


class TurnQueue(Protocol):
    """The queue of runnable turns and the sorted set of waiting ones."""

    async def enqueue(self, turn: turns.Turn) -> None:
        """Hand a turn to the workers now."""

    async def schedule(self, turn: turns.Turn, due: float) -> None:
        """Hand a turn to the workers at *due*; a later call for the same job replaces an earlier one."""


class BotGuildsCache(Protocol):
    """The cached set of guilds that have our bot."""

    async def load(self) -> tuple[frozenset[int], float] | None:
        """Return the set and when it was fetched; None when the cache is empty."""

    async def store(self, guild_ids: frozenset[int], now: float) -> None:
        """Replace the set, fetched at *now*: a time that no other set has, or readers may miss the change."""

    async def load_suspects(self) -> dict[int, float]:
        """Return the guilds that the latest listings lacked, with the time since when; the set still has them."""

    async def store_suspects(self, suspects: Mapping[int, float]) -> None:
        """Replace the suspects."""

    async def claim(self, what: str, seconds: float) -> bool:
        """Return whether no process claimed *what* in the last *seconds*."""

    async def release(self, what: str) -> None:
        """End a claim early."""

    async def count_question(self, window: float) -> int:
        """Count a check of a single guild by the fleet; returns the number of checks in this *window*."""


class Subscription(Protocol):
    """
    One watcher's view of a job's updates, conflated: only the latest state of each unread guild task is kept.

    Memory is bounded by the number of the job's guilds, however slow the watcher is.
    """

    async def next(self, max_wait: float) -> job_updates.JobUpdate | None:
        """Return the changes since the last call, merged into one update; None after *max_wait* seconds without any."""

    async def close(self) -> None:
        """Stop listening."""


FIRST_POSITION = "0-0"
"""Position before every update of a job."""


class Events(Protocol):
    """Progress updates for watchers in any process. Losing them loses no state: the store has every task."""

    async def publish(self, update: job_updates.JobUpdate) -> None:
        """Append an update to the job's bounded stream."""

    async def get_last_position(self, job_id: str) -> str:
        """Return the position of the job's latest update, the first position when there is none."""

    async def has_all_since(self, job_id: str, position: str) -> bool:
        """Return whether every update after *position* is still in the stream."""

    async def list_retained(self, positions: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return the (job, position) pairs after which the stream still has every update."""

    async def list_updated(self, positions: Mapping[str, str]) -> set[str]:
        """Return the jobs that have updates after these positions."""

    async def subscribe(self, job_id: str, after: str) -> Subscription:
        """Listen to the job's updates after a position."""

    async def delete_streams(self, job_ids: Collection[str]) -> None:
        """Erase the streams of jobs."""


class FedRoles(Protocol):
    """Members' role ids over the Gateway, which takes no permit."""

    async def fetch(self, shard: str, guild_id: int, user_id: int) -> tuple[int, ...] | None:
        """Return the role ids; None when no answer came in time. Raises errors.Gone: they are not a member."""


@dataclasses.dataclass(frozen=True, slots=True)
class Dependencies:
    """
    The external dependencies of the use cases.

    Attributes:
        credentials: The pairs in use. One stored by an older release is not proven.
        fed_roles: None when the Gateway is not used.
        unproven: Newer pairs that are not proven yet; each goes to `credentials` by `mark_proven`.
    """

    discord: Discord
    oauth: OAuth
    users: Users
    credentials: Credentials
    unproven: Credentials
    guilds: Guilds
    jobs: Jobs
    queue: TurnQueue
    events: Events
    bot_guilds: BotGuildsCache
    user_data: UserData
    clock: Clock
    fed_roles: FedRoles | None = None
