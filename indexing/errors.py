"""
Failures that cross packages: what a caller may catch, and the data to act on it.

Vendor exceptions never leave the module that owns the vendor; they are translated there, chained with `from`.
`reason` is the constant that stands in logs, in units and in google.rpc.ErrorInfo.
"""

from typing import ClassVar


class IndexerError(Exception):
    """Base of every failure that we raise on purpose."""

    reason: ClassVar[str] = "INTERNAL"


class InvalidArgument(IndexerError):
    """A field of a request cannot be accepted."""

    reason = "INVALID_ARGUMENT"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class RequestIdReused(InvalidArgument):
    """A request id came again with another request."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self) -> None:
        super().__init__("request_id", "was used for another request; every request needs an id of its own")


class JobNotFound(IndexerError):
    """No such job, or its retention time is over."""

    reason = "JOB_NOT_FOUND"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job_id: no job {job_id}")
        self.job_id = job_id


class JobRunning(IndexerError):
    """The job has not ended, so there is nothing to try again yet."""

    reason = "JOB_RUNNING"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job_id: job {job_id} still runs; retry it when it has ended")
        self.job_id = job_id


class NothingFailed(IndexerError):
    """The job has no failed guild."""

    reason = "NOTHING_FAILED"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job_id: no guild failed in job {job_id}")
        self.job_id = job_id


class UserNotFound(IndexerError):
    """This user has never been indexed and has stored no credential."""

    reason = "USER_NOT_FOUND"

    def __init__(self, user_id: int) -> None:
        super().__init__(f"user_id: nothing is known of user {user_id}")
        self.user_id = user_id


class CredentialMissing(IndexerError):
    """No OAuth2 credential is stored for the user."""

    reason = "CREDENTIAL_MISSING"

    def __init__(self, user_id: int) -> None:
        super().__init__(f"user_id: no credential is stored for user {user_id}; call PutCredential first")
        self.user_id = user_id


class ReauthRequired(IndexerError):
    """Discord no longer accepts the user's credential; only the user can renew it."""

    reason = "REAUTH_REQUIRED"

    def __init__(self, user_id: int) -> None:
        super().__init__(f"user_id: Discord refuses the credential of user {user_id}; ask for consent again")
        self.user_id = user_id


class Unauthenticated(IndexerError):
    """The call shows no service token that counts; whether one ever did is not told."""

    reason = "UNAUTHENTICATED"

    def __init__(self) -> None:
        super().__init__("this needs a service token that counts; send it as metadata, authorization: Bearer TOKEN")


class ScopeMissing(IndexerError):
    """The caller's token does not open this method; an empty scope is one that no token has."""

    reason = "SCOPE_MISSING"

    def __init__(self, scope: str) -> None:
        needed = f"needs a service token with the scope {scope}" if scope else "is open to no caller"
        super().__init__(f"this method {needed}")
        self.scope = scope


class TooManyRequests(IndexerError):
    """The caller makes more requests than its line in the file of service tokens grants."""

    reason = "TOO_MANY_REQUESTS"

    def __init__(self, caller: str, retry_after: float) -> None:
        super().__init__(f"caller {caller} makes more requests than it may")
        self.caller = caller
        self.retry_after = retry_after


class StoreUnavailable(IndexerError):
    """MongoDB did not answer in time; nothing is known of the write."""

    reason = "STORE_UNAVAILABLE"
    retry_after = 1.0


class QueueUnavailable(IndexerError):
    """Redis did not answer in time, so nothing can be enqueued, published or waited for."""

    reason = "QUEUE_UNAVAILABLE"
    retry_after = 1.0


class LimiterUnavailable(IndexerError):
    """The budgets cannot be read, so no call to Discord may be made (fail closed)."""

    reason = "LIMITER_UNAVAILABLE"

    def __init__(self, retry_after: float) -> None:
        super().__init__("the rate-limit budgets cannot be reached; no call to Discord is made without them")
        self.retry_after = retry_after


class RateLimited(IndexerError):
    """
    No permit within the caller's patience, or Discord said 429; nothing is held.

    Attributes:
        budget: Kind of the budget that refuses: global, user, route, or egress; credential: see CredentialBusy.
        retry_after: Seconds from now until asking again makes sense.
        why: What the wait is for: used up, hold, pause, probe, shared, breaker.
    """

    reason = "RATE_LIMITED"

    def __init__(self, budget: str, *, retry_after: float, why: str) -> None:
        super().__init__(f"the {budget} budget asks to wait {retry_after:.3f} s ({why})")
        self.budget = budget
        self.retry_after = retry_after
        self.why = why


class CredentialBusy(RateLimited):
    """The user's tokens are being renewed, or could not be a moment ago; nobody can use them meanwhile."""

    reason = "CREDENTIAL_BUSY"

    def __init__(self, user_id: int, retry_after: float) -> None:
        super().__init__("credential", retry_after=retry_after, why="renewal")
        self.user_id = user_id


class DiscordRefused(IndexerError):
    """
    Discord said no, and asking again would bring the same answer.

    Attributes:
        status: HTTP status.
        code: Discord's JSON error code, 0 when it gave none.
    """

    reason = "DISCORD_REFUSED"

    def __init__(self, status: int, code: int, message: str = "") -> None:
        super().__init__(f"Discord answered {status} (code {code}) {message}".rstrip())
        self.status = status
        self.code = code


class TokenRefused(DiscordRefused):
    """401: this token is dead."""

    reason = "TOKEN_REFUSED"


class GrantRefused(DiscordRefused):
    """The token endpoint does not know the refresh token (any more): only the user can consent again."""

    reason = "GRANT_REFUSED"


class ClientRefused(DiscordRefused):
    """The token endpoint refuses our application's own id and secret: no user is to blame."""

    reason = "CLIENT_REFUSED"


class BotTokenRefused(DiscordRefused):
    """401 for our bot's own token: no user's consent is to blame."""

    reason = "BOT_TOKEN_REFUSED"


class NoAccess(DiscordRefused):
    """403: our bot, or the token's scopes, may not do this."""

    reason = "NO_ACCESS"


class Gone(DiscordRefused):
    """404: the guild, channel or member is not there (any more)."""

    reason = "GONE"


class DiscordTransient(IndexerError):
    """A passing failure of Discord or of the network: 5xx, reset, timeout, a body that is not what it should be."""

    reason = "DISCORD_TRANSIENT"


class EgressBlocked(IndexerError):
    """A 403 or 429 without Discord's JSON: the edge in front of Discord refuses this address."""

    reason = "EGRESS_BLOCKED"

    def __init__(self, status: int, retry_after: float) -> None:
        super().__init__(f"the edge in front of Discord answered {status} without Discord's JSON")
        self.status = status
        self.retry_after = retry_after


class TooManyWatchers(IndexerError):
    """This process, or this job in it, has as many WatchProgress streams as it may have."""

    reason = "TOO_MANY_WATCHERS"
    retry_after = 5.0

    def __init__(self, whose: str) -> None:
        super().__init__(f"this {whose} has as many WatchProgress streams as it may have; try again later")
        self.whose = whose


class Leaving(IndexerError):
    """This process is about to end; another one answers."""

    reason = "LEAVING"
    retry_after = 0.2

    def __init__(self) -> None:
        super().__init__("this process is about to end; another one answers")


class SlowConsumer(IndexerError):
    """A watcher did not read for so long that its stream was closed; its token lets it go on."""

    reason = "SLOW_CONSUMER"
    retry_after = 1.0

    def __init__(self) -> None:
        super().__init__("nothing was read for a minute; watch again with the last resume token")
