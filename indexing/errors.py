"""
Errors that cross packages, with the data to handle them.

Vendor exceptions never leave the module that owns the vendor; it translates them and chains them with `from`.
`reason` is the constant in logs, guild tasks and google.rpc.ErrorInfo. Messages may change, reasons may not.
"""

from typing import ClassVar


class IndexerError(Exception):
    """Base of all errors that the product raises."""

    reason: ClassVar[str] = "INTERNAL"


class InvalidArgument(IndexerError):
    """
    One or more fields of a request are invalid.

    Attributes:
        field: The first wrong field.
        problem: What is wrong with it.
        violations: Each wrong field with its problem, the first included.
    """

    reason = "INVALID_ARGUMENT"

    def __init__(self, field: str, problem: str, *others: "InvalidArgument") -> None:
        super().__init__("; ".join([f"{field}: {problem}", *map(str, others)]))
        self.field = field
        self.problem = problem
        self.violations: tuple[tuple[str, str], ...] = (
            (field, problem),
            *((other.field, other.problem) for other in others),
        )


class RequestIdReused(InvalidArgument):
    """A request id was used before, for another request."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self) -> None:
        super().__init__("request_id", "was used for another request; use a new UUID for each request")


class CredentialRejected(InvalidArgument):
    """An access token is not one of the user's for our application; it is not stored and not used."""

    reason = "CREDENTIAL_REJECTED"

    def __init__(self, problem: str) -> None:
        super().__init__("access_token", problem)


class CredentialOfAnotherUser(CredentialRejected):
    """The access token belongs to another user. The error does not say to whom."""

    reason = "CREDENTIAL_OF_ANOTHER_USER"

    def __init__(self) -> None:
        super().__init__("belongs to another user; store each user's tokens under their own id")


class CredentialOfAnotherApplication(CredentialRejected):
    """The access token was issued to another application."""

    reason = "CREDENTIAL_OF_ANOTHER_APPLICATION"

    def __init__(self) -> None:
        super().__init__("was issued to another application; let the user log in with this one (DISCORD_CLIENT_ID)")


class IdentifyScopeMissing(CredentialRejected):
    """The access token does not say whose it is."""

    reason = "IDENTIFY_SCOPE_MISSING"

    def __init__(self) -> None:
        super().__init__("lacks the scope identify, so its user is unknown; let the user log in with that scope")


class CredentialRefused(CredentialRejected):
    """Discord refuses the access token of a PutCredential."""

    reason = "CREDENTIAL_REFUSED"

    def __init__(self) -> None:
        super().__init__("is refused by Discord: it is wrong, expired or revoked; let the user log in again")


class JobNotFound(IndexerError):
    """The job does not exist, or its retention time is over."""

    reason = "JOB_NOT_FOUND"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job_id: job {job_id} does not exist or has expired; list the user's jobs with ListJobs")
        self.job_id = job_id


class JobRunning(IndexerError):
    """The job has not ended, so it cannot be retried yet."""

    reason = "JOB_RUNNING"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job_id: job {job_id} is still running; retry it when it has ended")
        self.job_id = job_id


class NothingFailed(IndexerError):
    """The job has no failed guild."""

    reason = "NOTHING_FAILED"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job_id: job {job_id} has no failed guild; start a new job with StartIndexing")
        self.job_id = job_id


class UserNotFound(IndexerError):
    """The user has no stored credential and has never been indexed."""

    reason = "USER_NOT_FOUND"

    def __init__(self, user_id: int) -> None:
        super().__init__(f"user_id: user {user_id} is unknown; call PutCredential and StartIndexing first")
        self.user_id = user_id


class GuildNotFound(IndexerError):
    """The user is not a member of the guild, as far as their stored guild list says."""

    reason = "GUILD_NOT_FOUND"

    def __init__(self, guild_id: int) -> None:
        super().__init__("guild_id: the user has no such guild; index the user if they have just joined it")
        self.guild_id = guild_id


class ChannelNotFound(IndexerError):
    """The user may not see the channel, or it does not exist: the error does not say which."""

    reason = "CHANNEL_NOT_FOUND"

    def __init__(self, channel_id: str) -> None:
        super().__init__("channel_id: the user sees no such channel")
        self.channel_id = channel_id


class CredentialMissing(IndexerError):
    """No OAuth2 credential is stored for the user."""

    reason = "CREDENTIAL_MISSING"

    def __init__(self, user_id: int) -> None:
        super().__init__(f"user_id: user {user_id} has no stored credential; call PutCredential first")
        self.user_id = user_id


class ReauthRequired(IndexerError):
    """Discord no longer accepts the user's credential; only the user can replace it."""

    reason = "REAUTH_REQUIRED"

    def __init__(self, user_id: int) -> None:
        super().__init__(f"user_id: Discord refuses the credential of user {user_id}; let the user log in again")
        self.user_id = user_id


class Unauthenticated(IndexerError):
    """No valid service token. The error does not reveal whether it was ever valid."""

    reason = "UNAUTHENTICATED"

    def __init__(self) -> None:
        super().__init__("a valid service token is required; send it as metadata, authorization: Bearer TOKEN")


class ScopeMissing(IndexerError):
    """The token lacks the method's scope; an empty scope means that no token may call the method."""

    reason = "SCOPE_MISSING"

    def __init__(self, scope: str) -> None:
        need = f"needs a service token with the scope {scope}" if scope else "has no scope and accepts no service token"
        super().__init__(f"this method {need}; ask the operator to change the tokens file")
        self.scope = scope


class TooManyRequests(IndexerError):
    """The caller exceeds the request rate that the tokens file gives it."""

    reason = "TOO_MANY_REQUESTS"

    def __init__(self, caller: str, retry_after: float) -> None:
        super().__init__(
            f"caller {caller} exceeds its request rate; send fewer requests, or ask the operator for a higher rate"
        )
        self.caller = caller
        self.retry_after = retry_after


class StoreUnavailable(IndexerError):
    """MongoDB did not answer in time; a write may or may not have happened."""

    reason = "STORE_UNAVAILABLE"
    retry_after = 1.0


class DocumentTooLarge(IndexerError):
    """MongoDB takes no document of this size; a retry would fail the same way, and other writes are not affected."""

    reason = "DOCUMENT_TOO_LARGE"


class QueueUnavailable(IndexerError):
    """Redis did not answer in time, so nothing can be enqueued, published or waited for."""

    reason = "QUEUE_UNAVAILABLE"
    retry_after = 1.0


class LimiterUnavailable(IndexerError):
    """The rate-limit budgets cannot be reached, so no call to Discord is made (fail closed)."""

    reason = "LIMITER_UNAVAILABLE"

    def __init__(self, retry_after: float) -> None:
        super().__init__("the rate-limit budgets cannot be reached, so Discord is not called; check Redis")
        self.retry_after = retry_after


PERMIT_EXPIRED = "permit expired"
"""Cause of a wait: the time in which a call may be sent was over before its precondition was checked."""


class RateLimited(IndexerError):
    """
    No permit within the caller's longest wait, or Discord answered 429; no permit is held.

    Attributes:
        budget: Kind of the budget: global, user, route, or egress. CredentialBusy: credential. DiscordOutage: discord.
        retry_after: Seconds from now until a retry can succeed.
        why: Cause of the wait: used up, hold, pause, probe, shared, breaker, caller.
    """

    reason = "RATE_LIMITED"

    def __init__(self, budget: str, *, retry_after: float, why: str) -> None:
        super().__init__(f"the {budget} budget has no permit for {retry_after:.3f} s ({why})")
        self.budget = budget
        self.retry_after = retry_after
        self.why = why

    @property
    def is_answer(self) -> bool:
        """Whether Discord answered 429 for one route; otherwise the limiter refused, and nothing was sent."""
        return self.budget == "route" and self.why.startswith("429")

    @property
    def is_queued(self) -> bool:
        """Whether others' calls go first, so that some calls of the same job may go sooner than this one."""
        return self.budget == "global" and self.why == "used up"


class PositionTaken(IndexerError):
    """Another call for the same result used the queue position that both share; no permit is held."""

    reason = "POSITION_TAKEN"


class CallerStopped(RateLimited):
    """Discord refused too many tokens that the caller brought; calls with its tokens stop, those of others go on."""

    reason = "CALLER_STOPPED"

    def __init__(self, caller: str, retry_after: float) -> None:
        super().__init__("egress", retry_after=retry_after, why="caller")
        self.args = (
            f"Discord refused too many tokens that caller {caller} brought; its calls stop for {retry_after:.0f} s",
        )
        self.caller = caller


class CredentialBusy(RateLimited):
    """The user's tokens are being renewed, or a renewal has just failed; they cannot be used until then."""

    reason = "CREDENTIAL_BUSY"

    def __init__(self, user_id: int, retry_after: float) -> None:
        super().__init__("credential", retry_after=retry_after, why="renewal")
        self.user_id = user_id


class DiscordOutage(RateLimited):
    """Discord has an outage; only probes are sent. Waiting for its end does not count as an attempt."""

    reason = "DISCORD_OUTAGE"

    def __init__(self, retry_after: float) -> None:
        super().__init__("discord", retry_after=retry_after, why="outage")


class DiscordRefused(IndexerError):
    """
    Discord refused the request, and a retry would get the same answer.

    Attributes:
        status: HTTP status.
        code: Discord's JSON error code, 0 when there is none.
    """

    reason = "DISCORD_REFUSED"

    def __init__(self, status: int, code: int, message: str = "") -> None:
        super().__init__(f"Discord answered {status} (code {code}) {message}".rstrip())
        self.status = status
        self.code = code


class TokenRefused(DiscordRefused):
    """401 with Discord's JSON: the user's token is not valid now. Once is no proof, see usecases/tokens.py."""

    reason = "TOKEN_REFUSED"


class GrantRefused(DiscordRefused):
    """The token endpoint does not accept the refresh token: the user has to log in again."""

    reason = "GRANT_REFUSED"


class ClientRefused(DiscordRefused):
    """The token endpoint does not accept the application's id and secret; users' credentials are not affected."""

    reason = "CLIENT_REFUSED"


class CredentialUnverifiable(DiscordRefused):
    """Discord, or a proxy in front of it, does not say whose an access token is, so the token is not used."""

    reason = "CREDENTIAL_UNVERIFIABLE"


class BotTokenRefused(DiscordRefused):
    """401 for the bot's token; users' credentials are not affected."""

    reason = "BOT_TOKEN_REFUSED"


class NoAccess(DiscordRefused):
    """403: the bot or the token's scopes do not allow the request."""

    reason = "NO_ACCESS"


UNKNOWN_MEMBER = 10007
"""JSON code of the only 404 that says that a user is not a member (topics/opcodes-and-status-codes.mdx)."""


class Gone(DiscordRefused):
    """404: the guild, channel or member does not exist, or no longer does."""

    reason = "GONE"


class AnswerTooLarge(DiscordRefused):
    """The listing of a guild's channels exceeds DISCORD_MAX_BODY_BYTES; a retry would get the same answer."""

    reason = "GUILD_TOO_LARGE"

    def __init__(self, limit: int) -> None:
        super().__init__(200, 0, f"with more than {limit} bytes; raise DISCORD_MAX_BODY_BYTES")


class DiscordTransient(IndexerError):
    """A temporary failure: 5xx, reset, timeout, an invalid body, or any status without Discord's JSON."""

    reason = "DISCORD_TRANSIENT"


class AnswerUnreadable(DiscordTransient):
    """A success whose body is not the expected JSON, or too large. It may pass, so a few further attempts are made."""

    reason = "ANSWER_UNREADABLE"


class EgressBlocked(IndexerError):
    """A 403 or 429 without Discord's JSON: the edge in front of Discord blocks this address."""

    reason = "EGRESS_BLOCKED"

    def __init__(self, status: int, retry_after: float) -> None:
        super().__init__(f"the edge in front of Discord blocks this address ({status}) for {retry_after:.3f} s")
        self.status = status
        self.retry_after = retry_after

    def as_wait(self) -> RateLimited:
        """Return the wait that the block means for a job."""
        return RateLimited("egress", retry_after=self.retry_after, why="blocked")


class Overloaded(IndexerError):
    """More starts wait for this process than it can begin soon; nothing was started."""

    reason = "OVERLOADED"

    def __init__(self, retry_after: float) -> None:
        super().__init__("too many starts are waiting in this process; try again later")
        self.retry_after = retry_after


class TooManyWatchers(IndexerError):
    """
    A limit of streams in this process is reached.

    Attributes:
        limit: Whose limit: process, caller, or job, which is also a user's.
        caller: Name of the caller, if it is the caller's.
    """

    reason = "TOO_MANY_WATCHERS"

    def __init__(self, limit: str, caller: str = "", *, retry_after: float = 5.0) -> None:
        super().__init__(f"this {limit} has reached its limit of streams; close those that are not needed")
        self.limit = limit
        self.caller = caller
        self.retry_after = retry_after


class Leaving(IndexerError):
    """This process is draining; another one answers the retry."""

    reason = "LEAVING"
    retry_after = 0.2

    def __init__(self) -> None:
        super().__init__("this process is shutting down; call again to reach another one")


class SlowSender(IndexerError):
    """A request did not arrive within INDEXER_RECEIVE_TIMEOUT."""

    reason = "SLOW_SENDER"
    retry_after = 1.0

    def __init__(self) -> None:
        super().__init__("the request did not arrive in time; send it whole at once")


class SlowConsumer(IndexerError):
    """A watcher did not read for too long, so its stream was closed; it can resume with its token."""

    reason = "SLOW_CONSUMER"
    retry_after = 1.0

    def __init__(self) -> None:
        super().__init__("the client did not read the stream for too long; watch again with the last resume token")
