"""Every label of our metrics with all its values; tests hold them to the enumerations they repeat."""

from indexing.telemetry.metric_types import Label

LANE = Label("lane", ("interactive", "background", "refresh"))
BUDGET = Label("budget", ("global", "user", "route", "egress"))
WHY = Label("why", ("used up", "probe", "hold", "pause", "shared", "edge", "breaker", "other"))
SCOPE = Label("scope", ("user", "global", "shared", "egress"))
ROUTE = Label(
    "route",
    (
        "GET /users/@me/guilds",
        "GET /guilds/{guild.id}/channels",
        "GET /users/@me/guilds/{guild.id}/member",
        "GET /guilds/{guild.id}/members/{user.id}",
        "POST /oauth2/token",
        "POST /oauth2/token/revoke",
        "other",
    ),
)
STATUS = Label(
    "status", ("200", "401", "403", "404", "429", "500", "502", "503", "504", "unreachable", "lost", "other")
)
JOB_STATE = Label("state", ("SUCCEEDED", "SUCCEEDED_WITH_ERRORS", "FAILED", "CANCELLED"))
UNIT_STATE = Label("state", ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELLED"))
CAUSE = Label(
    "cause",
    (
        *("", "BOT_NOT_INSTALLED", "BOT_REMOVED", "MUTED", "USER_LEFT", "NO_ACCESS", "GUILD_UNAVAILABLE"),
        *("ROLES_UNKNOWN", "DISCORD_REFUSED", "DISCORD_TRANSIENT", "BOT_TOKEN_REFUSED", "CLIENT_REFUSED"),
        *("TURNS_LOST", "CREDENTIAL_MISSING", "REAUTH_REQUIRED", "CREDENTIAL_REVOKED", "INTERNAL", "other"),
    ),
)
MILESTONE = Label("milestone", ("list", "first", "five", "done"))
RESULT = Label("result", ("changed", "unchanged", "error"))
RENEWAL = Label("result", ("renewed", "refused", "failed", "lost"))
DISPOSITION = Label("disposition", ("CREATED", "JOINED", "FRESH", "REPLAYED"))
DUTY = Label("duty", ("alarm", "sweep", "installs", "refresh", "purge", "read", "other"))
COMMAND = Label(
    "command",
    ("find", "insert", "update", "delete", "findAndModify", "aggregate", "count", "distinct", "createIndexes"),
)
GRPC_TYPE = Label("grpc_type", ("unary", "server_stream"))
GRPC_SERVICE = Label("grpc_service", ("indexer_service.v1.IndexerService",))
GRPC_CODE = Label(
    "grpc_code",
    (
        *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
        *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
        *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
    ),
)
QUEUE = Label("queue", ("background", "other"))
QUEUE_STATE = Label("state", ("live", "ready", "dead"))
SHOWN_BUDGET = Label("budget", ("global", "user", "invalid_requests"))
SINGLE_BUDGET = Label("budget", ("global", "invalid_requests"))
STATISTIC = Label("statistic", ("min", "p10"))
BUCKET_STATE = Label("state", ("open", "exhausted", "paused"))
CREDENTIAL = Label("state", ("stored", "reauth_required"))
SOURCE = Label("source", ("budgets", "redis", "mongodb"))
