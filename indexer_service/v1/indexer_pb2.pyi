import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_OTHER: _ClassVar[Reason]
    REASON_BOT_NOT_INSTALLED: _ClassVar[Reason]
    REASON_BOT_REMOVED: _ClassVar[Reason]
    REASON_NO_ACCESS: _ClassVar[Reason]
    REASON_GUILD_UNAVAILABLE: _ClassVar[Reason]
    REASON_GUILD_TOO_LARGE: _ClassVar[Reason]
    REASON_NOT_INDEXED_YET: _ClassVar[Reason]
    REASON_ROLES_UNKNOWN: _ClassVar[Reason]
    REASON_LIST_TOO_OLD: _ClassVar[Reason]
    REASON_CHANNELS_TOO_OLD: _ClassVar[Reason]
    REASON_USER_LEFT: _ClassVar[Reason]
    REASON_MUTED: _ClassVar[Reason]
    REASON_DISCORD_TRANSIENT: _ClassVar[Reason]
    REASON_DISCORD_REFUSED: _ClassVar[Reason]
    REASON_EGRESS_BLOCKED: _ClassVar[Reason]
    REASON_BOT_TOKEN_REFUSED: _ClassVar[Reason]
    REASON_CLIENT_REFUSED: _ClassVar[Reason]
    REASON_CREDENTIAL_MISSING: _ClassVar[Reason]
    REASON_CREDENTIAL_REVOKED: _ClassVar[Reason]
    REASON_REAUTH_REQUIRED: _ClassVar[Reason]
    REASON_CREDENTIAL_OF_ANOTHER_USER: _ClassVar[Reason]
    REASON_CREDENTIAL_OF_ANOTHER_APPLICATION: _ClassVar[Reason]
    REASON_IDENTIFY_SCOPE_MISSING: _ClassVar[Reason]
    REASON_USER_ERASED: _ClassVar[Reason]
    REASON_TURNS_LOST: _ClassVar[Reason]
    REASON_INTERNAL: _ClassVar[Reason]
    REASON_CREDENTIAL_UNVERIFIABLE: _ClassVar[Reason]
    REASON_ANSWER_UNREADABLE: _ClassVar[Reason]

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_ARGUMENT: _ClassVar[ErrorReason]
    ERROR_REASON_REQUEST_ID_REUSED: _ClassVar[ErrorReason]
    ERROR_REASON_CREDENTIAL_OF_ANOTHER_USER: _ClassVar[ErrorReason]
    ERROR_REASON_CREDENTIAL_OF_ANOTHER_APPLICATION: _ClassVar[ErrorReason]
    ERROR_REASON_IDENTIFY_SCOPE_MISSING: _ClassVar[ErrorReason]
    ERROR_REASON_CREDENTIAL_REFUSED: _ClassVar[ErrorReason]
    ERROR_REASON_UNAUTHENTICATED: _ClassVar[ErrorReason]
    ERROR_REASON_SCOPE_MISSING: _ClassVar[ErrorReason]
    ERROR_REASON_JOB_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_USER_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_JOB_RUNNING: _ClassVar[ErrorReason]
    ERROR_REASON_NOTHING_FAILED: _ClassVar[ErrorReason]
    ERROR_REASON_CREDENTIAL_MISSING: _ClassVar[ErrorReason]
    ERROR_REASON_REAUTH_REQUIRED: _ClassVar[ErrorReason]
    ERROR_REASON_TOO_MANY_REQUESTS: _ClassVar[ErrorReason]
    ERROR_REASON_TOO_MANY_WATCHERS: _ClassVar[ErrorReason]
    ERROR_REASON_OVERLOADED: _ClassVar[ErrorReason]
    ERROR_REASON_LEAVING: _ClassVar[ErrorReason]
    ERROR_REASON_SLOW_CONSUMER: _ClassVar[ErrorReason]
    ERROR_REASON_SLOW_SENDER: _ClassVar[ErrorReason]
    ERROR_REASON_STORE_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_QUEUE_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_LIMITER_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_RATE_LIMITED: _ClassVar[ErrorReason]
    ERROR_REASON_METHOD_NOT_OFFERED: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL: _ClassVar[ErrorReason]
    ERROR_REASON_GUILD_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_CHANNEL_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_CALLER_STOPPED: _ClassVar[ErrorReason]

class StartReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    START_REASON_UNSPECIFIED: _ClassVar[StartReason]
    START_REASON_FIRST_JOB: _ClassVar[StartReason]
    START_REASON_FORCED: _ClassVar[StartReason]
    START_REASON_LAST_JOB_OLD: _ClassVar[StartReason]
    START_REASON_LAST_JOB_NOT_CLEAN: _ClassVar[StartReason]
    START_REASON_JOB_RUNNING: _ClassVar[StartReason]
    START_REASON_LISTED_LATELY: _ClassVar[StartReason]

class SnapshotReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SNAPSHOT_REASON_UNSPECIFIED: _ClassVar[SnapshotReason]
    SNAPSHOT_REASON_TOKEN_TOO_OLD: _ClassVar[SnapshotReason]
    SNAPSHOT_REASON_EVENTS_LOST: _ClassVar[SnapshotReason]

class GoingAwayReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GOING_AWAY_REASON_UNSPECIFIED: _ClassVar[GoingAwayReason]
    GOING_AWAY_REASON_DRAINING: _ClassVar[GoingAwayReason]
    GOING_AWAY_REASON_MAX_AGE: _ClassVar[GoingAwayReason]

class BudgetKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BUDGET_KIND_UNSPECIFIED: _ClassVar[BudgetKind]
    BUDGET_KIND_GLOBAL: _ClassVar[BudgetKind]
    BUDGET_KIND_USER: _ClassVar[BudgetKind]
    BUDGET_KIND_ROUTE: _ClassVar[BudgetKind]
    BUDGET_KIND_INVALID_REQUESTS: _ClassVar[BudgetKind]
    BUDGET_KIND_EGRESS: _ClassVar[BudgetKind]
    BUDGET_KIND_CREDENTIAL: _ClassVar[BudgetKind]
    BUDGET_KIND_DISCORD: _ClassVar[BudgetKind]
    BUDGET_KIND_IDENTIFIES: _ClassVar[BudgetKind]

class PauseReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAUSE_REASON_UNSPECIFIED: _ClassVar[PauseReason]
    PAUSE_REASON_PAUSE: _ClassVar[PauseReason]
    PAUSE_REASON_SHARED: _ClassVar[PauseReason]
    PAUSE_REASON_HOLD: _ClassVar[PauseReason]
    PAUSE_REASON_EDGE: _ClassVar[PauseReason]
    PAUSE_REASON_BREAKER: _ClassVar[PauseReason]
    PAUSE_REASON_CALLER: _ClassVar[PauseReason]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_SUCCEEDED: _ClassVar[JobState]
    JOB_STATE_SUCCEEDED_WITH_ERRORS: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]

class Disposition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISPOSITION_UNSPECIFIED: _ClassVar[Disposition]
    DISPOSITION_CREATED: _ClassVar[Disposition]
    DISPOSITION_JOINED: _ClassVar[Disposition]
    DISPOSITION_FRESH: _ClassVar[Disposition]

class GuildState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GUILD_STATE_UNSPECIFIED: _ClassVar[GuildState]
    GUILD_STATE_QUEUED: _ClassVar[GuildState]
    GUILD_STATE_RUNNING: _ClassVar[GuildState]
    GUILD_STATE_SUCCEEDED: _ClassVar[GuildState]
    GUILD_STATE_SKIPPED: _ClassVar[GuildState]
    GUILD_STATE_FAILED: _ClassVar[GuildState]
    GUILD_STATE_CANCELLED: _ClassVar[GuildState]

class ChannelOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANNEL_ORDER_UNSPECIFIED: _ClassVar[ChannelOrder]
    CHANNEL_ORDER_POSITION: _ClassVar[ChannelOrder]
    CHANNEL_ORDER_ACTIVITY: _ClassVar[ChannelOrder]

class CredentialState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CREDENTIAL_STATE_UNSPECIFIED: _ClassVar[CredentialState]
    CREDENTIAL_STATE_MISSING: _ClassVar[CredentialState]
    CREDENTIAL_STATE_ACTIVE: _ClassVar[CredentialState]
    CREDENTIAL_STATE_REAUTH_REQUIRED: _ClassVar[CredentialState]
    CREDENTIAL_STATE_UNVERIFIED: _ClassVar[CredentialState]
REASON_UNSPECIFIED: Reason
REASON_OTHER: Reason
REASON_BOT_NOT_INSTALLED: Reason
REASON_BOT_REMOVED: Reason
REASON_NO_ACCESS: Reason
REASON_GUILD_UNAVAILABLE: Reason
REASON_GUILD_TOO_LARGE: Reason
REASON_NOT_INDEXED_YET: Reason
REASON_ROLES_UNKNOWN: Reason
REASON_LIST_TOO_OLD: Reason
REASON_CHANNELS_TOO_OLD: Reason
REASON_USER_LEFT: Reason
REASON_MUTED: Reason
REASON_DISCORD_TRANSIENT: Reason
REASON_DISCORD_REFUSED: Reason
REASON_EGRESS_BLOCKED: Reason
REASON_BOT_TOKEN_REFUSED: Reason
REASON_CLIENT_REFUSED: Reason
REASON_CREDENTIAL_MISSING: Reason
REASON_CREDENTIAL_REVOKED: Reason
REASON_REAUTH_REQUIRED: Reason
REASON_CREDENTIAL_OF_ANOTHER_USER: Reason
REASON_CREDENTIAL_OF_ANOTHER_APPLICATION: Reason
REASON_IDENTIFY_SCOPE_MISSING: Reason
REASON_USER_ERASED: Reason
REASON_TURNS_LOST: Reason
REASON_INTERNAL: Reason
REASON_CREDENTIAL_UNVERIFIABLE: Reason
REASON_ANSWER_UNREADABLE: Reason
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_INVALID_ARGUMENT: ErrorReason
ERROR_REASON_REQUEST_ID_REUSED: ErrorReason
ERROR_REASON_CREDENTIAL_OF_ANOTHER_USER: ErrorReason
ERROR_REASON_CREDENTIAL_OF_ANOTHER_APPLICATION: ErrorReason
ERROR_REASON_IDENTIFY_SCOPE_MISSING: ErrorReason
ERROR_REASON_CREDENTIAL_REFUSED: ErrorReason
ERROR_REASON_UNAUTHENTICATED: ErrorReason
ERROR_REASON_SCOPE_MISSING: ErrorReason
ERROR_REASON_JOB_NOT_FOUND: ErrorReason
ERROR_REASON_USER_NOT_FOUND: ErrorReason
ERROR_REASON_JOB_RUNNING: ErrorReason
ERROR_REASON_NOTHING_FAILED: ErrorReason
ERROR_REASON_CREDENTIAL_MISSING: ErrorReason
ERROR_REASON_REAUTH_REQUIRED: ErrorReason
ERROR_REASON_TOO_MANY_REQUESTS: ErrorReason
ERROR_REASON_TOO_MANY_WATCHERS: ErrorReason
ERROR_REASON_OVERLOADED: ErrorReason
ERROR_REASON_LEAVING: ErrorReason
ERROR_REASON_SLOW_CONSUMER: ErrorReason
ERROR_REASON_SLOW_SENDER: ErrorReason
ERROR_REASON_STORE_UNAVAILABLE: ErrorReason
ERROR_REASON_QUEUE_UNAVAILABLE: ErrorReason
ERROR_REASON_LIMITER_UNAVAILABLE: ErrorReason
ERROR_REASON_RATE_LIMITED: ErrorReason
ERROR_REASON_METHOD_NOT_OFFERED: ErrorReason
ERROR_REASON_INTERNAL: ErrorReason
ERROR_REASON_GUILD_NOT_FOUND: ErrorReason
ERROR_REASON_CHANNEL_NOT_FOUND: ErrorReason
ERROR_REASON_CALLER_STOPPED: ErrorReason
START_REASON_UNSPECIFIED: StartReason
START_REASON_FIRST_JOB: StartReason
START_REASON_FORCED: StartReason
START_REASON_LAST_JOB_OLD: StartReason
START_REASON_LAST_JOB_NOT_CLEAN: StartReason
START_REASON_JOB_RUNNING: StartReason
START_REASON_LISTED_LATELY: StartReason
SNAPSHOT_REASON_UNSPECIFIED: SnapshotReason
SNAPSHOT_REASON_TOKEN_TOO_OLD: SnapshotReason
SNAPSHOT_REASON_EVENTS_LOST: SnapshotReason
GOING_AWAY_REASON_UNSPECIFIED: GoingAwayReason
GOING_AWAY_REASON_DRAINING: GoingAwayReason
GOING_AWAY_REASON_MAX_AGE: GoingAwayReason
BUDGET_KIND_UNSPECIFIED: BudgetKind
BUDGET_KIND_GLOBAL: BudgetKind
BUDGET_KIND_USER: BudgetKind
BUDGET_KIND_ROUTE: BudgetKind
BUDGET_KIND_INVALID_REQUESTS: BudgetKind
BUDGET_KIND_EGRESS: BudgetKind
BUDGET_KIND_CREDENTIAL: BudgetKind
BUDGET_KIND_DISCORD: BudgetKind
BUDGET_KIND_IDENTIFIES: BudgetKind
PAUSE_REASON_UNSPECIFIED: PauseReason
PAUSE_REASON_PAUSE: PauseReason
PAUSE_REASON_SHARED: PauseReason
PAUSE_REASON_HOLD: PauseReason
PAUSE_REASON_EDGE: PauseReason
PAUSE_REASON_BREAKER: PauseReason
PAUSE_REASON_CALLER: PauseReason
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_SUCCEEDED: JobState
JOB_STATE_SUCCEEDED_WITH_ERRORS: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
DISPOSITION_UNSPECIFIED: Disposition
DISPOSITION_CREATED: Disposition
DISPOSITION_JOINED: Disposition
DISPOSITION_FRESH: Disposition
GUILD_STATE_UNSPECIFIED: GuildState
GUILD_STATE_QUEUED: GuildState
GUILD_STATE_RUNNING: GuildState
GUILD_STATE_SUCCEEDED: GuildState
GUILD_STATE_SKIPPED: GuildState
GUILD_STATE_FAILED: GuildState
GUILD_STATE_CANCELLED: GuildState
CHANNEL_ORDER_UNSPECIFIED: ChannelOrder
CHANNEL_ORDER_POSITION: ChannelOrder
CHANNEL_ORDER_ACTIVITY: ChannelOrder
CREDENTIAL_STATE_UNSPECIFIED: CredentialState
CREDENTIAL_STATE_MISSING: CredentialState
CREDENTIAL_STATE_ACTIVE: CredentialState
CREDENTIAL_STATE_REAUTH_REQUIRED: CredentialState
CREDENTIAL_STATE_UNVERIFIED: CredentialState

class Progress(_message.Message):
    __slots__ = ("total", "queued", "running", "succeeded", "skipped", "failed", "cancelled")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    total: int
    queued: int
    running: int
    succeeded: int
    skipped: int
    failed: int
    cancelled: int
    def __init__(self, total: _Optional[int] = ..., queued: _Optional[int] = ..., running: _Optional[int] = ..., succeeded: _Optional[int] = ..., skipped: _Optional[int] = ..., failed: _Optional[int] = ..., cancelled: _Optional[int] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("job_id", "user_id", "state", "progress", "error", "create_time", "end_time", "guilds_listed", "throttled", "reason_code", "advice", "cancelled_by")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    GUILDS_LISTED_FIELD_NUMBER: _ClassVar[int]
    THROTTLED_FIELD_NUMBER: _ClassVar[int]
    REASON_CODE_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_BY_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    user_id: str
    state: JobState
    progress: Progress
    error: str
    create_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    guilds_listed: bool
    throttled: Throttled
    reason_code: Reason
    advice: str
    cancelled_by: str
    def __init__(self, job_id: _Optional[str] = ..., user_id: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., error: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., guilds_listed: _Optional[bool] = ..., throttled: _Optional[_Union[Throttled, _Mapping]] = ..., reason_code: _Optional[_Union[Reason, str]] = ..., advice: _Optional[str] = ..., cancelled_by: _Optional[str] = ...) -> None: ...

class JobGuild(_message.Message):
    __slots__ = ("guild_id", "name", "state", "position", "channel_count", "error", "attempts", "retry_time", "revision", "advice", "reason_code")
    GUILD_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_COUNT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    RETRY_TIME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    REASON_CODE_FIELD_NUMBER: _ClassVar[int]
    guild_id: str
    name: str
    state: GuildState
    position: int
    channel_count: int
    error: str
    attempts: int
    retry_time: _timestamp_pb2.Timestamp
    revision: int
    advice: str
    reason_code: Reason
    def __init__(self, guild_id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[_Union[GuildState, str]] = ..., position: _Optional[int] = ..., channel_count: _Optional[int] = ..., error: _Optional[str] = ..., attempts: _Optional[int] = ..., retry_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revision: _Optional[int] = ..., advice: _Optional[str] = ..., reason_code: _Optional[_Union[Reason, str]] = ...) -> None: ...

class Throttled(_message.Message):
    __slots__ = ("budget", "end_time", "budget_kind")
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    BUDGET_KIND_FIELD_NUMBER: _ClassVar[int]
    budget: str
    end_time: _timestamp_pb2.Timestamp
    budget_kind: BudgetKind
    def __init__(self, budget: _Optional[str] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., budget_kind: _Optional[_Union[BudgetKind, str]] = ...) -> None: ...

class StartIndexingRequest(_message.Message):
    __slots__ = ("user_id", "request_id", "wait", "immediate_guilds", "force")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    IMMEDIATE_GUILDS_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    request_id: str
    wait: _duration_pb2.Duration
    immediate_guilds: int
    force: bool
    def __init__(self, user_id: _Optional[str] = ..., request_id: _Optional[str] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., immediate_guilds: _Optional[int] = ..., force: _Optional[bool] = ...) -> None: ...

class StartIndexingResponse(_message.Message):
    __slots__ = ("job", "disposition", "guilds", "remaining", "watch_token", "reason")
    JOB_FIELD_NUMBER: _ClassVar[int]
    DISPOSITION_FIELD_NUMBER: _ClassVar[int]
    GUILDS_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    WATCH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job: Job
    disposition: Disposition
    guilds: _containers.RepeatedCompositeFieldContainer[JobGuild]
    remaining: int
    watch_token: str
    reason: StartReason
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., disposition: _Optional[_Union[Disposition, str]] = ..., guilds: _Optional[_Iterable[_Union[JobGuild, _Mapping]]] = ..., remaining: _Optional[int] = ..., watch_token: _Optional[str] = ..., reason: _Optional[_Union[StartReason, str]] = ...) -> None: ...

class WatchProgressRequest(_message.Message):
    __slots__ = ("job_id", "user_id", "resume_token", "heartbeat")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    user_id: str
    resume_token: str
    heartbeat: _duration_pb2.Duration
    def __init__(self, job_id: _Optional[str] = ..., user_id: _Optional[str] = ..., resume_token: _Optional[str] = ..., heartbeat: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WatchProgressResponse(_message.Message):
    __slots__ = ("snapshot", "snapshot_end", "guild", "job", "throttled", "heartbeat", "terminal", "going_away", "progress", "resume_token")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_END_FIELD_NUMBER: _ClassVar[int]
    GUILD_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    THROTTLED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    GOING_AWAY_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    snapshot: Snapshot
    snapshot_end: SnapshotEnd
    guild: JobGuild
    job: Job
    throttled: Throttled
    heartbeat: Heartbeat
    terminal: Terminal
    going_away: GoingAway
    progress: Progress
    resume_token: str
    def __init__(self, snapshot: _Optional[_Union[Snapshot, _Mapping]] = ..., snapshot_end: _Optional[_Union[SnapshotEnd, _Mapping]] = ..., guild: _Optional[_Union[JobGuild, _Mapping]] = ..., job: _Optional[_Union[Job, _Mapping]] = ..., throttled: _Optional[_Union[Throttled, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., terminal: _Optional[_Union[Terminal, _Mapping]] = ..., going_away: _Optional[_Union[GoingAway, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., resume_token: _Optional[str] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("job", "guilds", "reason")
    JOB_FIELD_NUMBER: _ClassVar[int]
    GUILDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job: Job
    guilds: _containers.RepeatedCompositeFieldContainer[JobGuild]
    reason: SnapshotReason
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., guilds: _Optional[_Iterable[_Union[JobGuild, _Mapping]]] = ..., reason: _Optional[_Union[SnapshotReason, str]] = ...) -> None: ...

class SnapshotEnd(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("send_time",)
    SEND_TIME_FIELD_NUMBER: _ClassVar[int]
    send_time: _timestamp_pb2.Timestamp
    def __init__(self, send_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Terminal(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class GoingAway(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: GoingAwayReason
    def __init__(self, reason: _Optional[_Union[GoingAwayReason, str]] = ...) -> None: ...

class WaitJobRequest(_message.Message):
    __slots__ = ("job_id", "wait")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    wait: _duration_pb2.Duration
    def __init__(self, job_id: _Optional[str] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WaitJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class GetJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("user_id", "page_size", "page_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    page_size: int
    page_token: str
    def __init__(self, user_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("job_id", "request_id")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    request_id: str
    def __init__(self, job_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class RetryJobRequest(_message.Message):
    __slots__ = ("job_id", "request_id")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    request_id: str
    def __init__(self, job_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RetryJobResponse(_message.Message):
    __slots__ = ("job", "disposition")
    JOB_FIELD_NUMBER: _ClassVar[int]
    DISPOSITION_FIELD_NUMBER: _ClassVar[int]
    job: Job
    disposition: Disposition
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., disposition: _Optional[_Union[Disposition, str]] = ...) -> None: ...

class Guild(_message.Message):
    __slots__ = ("guild_id", "name", "icon", "owner", "position", "channel_count", "fetch_time", "stale", "reason", "advice", "install_url", "rank", "reason_code")
    GUILD_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ICON_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_COUNT_FIELD_NUMBER: _ClassVar[int]
    FETCH_TIME_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    INSTALL_URL_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    REASON_CODE_FIELD_NUMBER: _ClassVar[int]
    guild_id: str
    name: str
    icon: str
    owner: bool
    position: int
    channel_count: int
    fetch_time: _timestamp_pb2.Timestamp
    stale: bool
    reason: str
    advice: str
    install_url: str
    rank: Rank
    reason_code: Reason
    def __init__(self, guild_id: _Optional[str] = ..., name: _Optional[str] = ..., icon: _Optional[str] = ..., owner: _Optional[bool] = ..., position: _Optional[int] = ..., channel_count: _Optional[int] = ..., fetch_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stale: _Optional[bool] = ..., reason: _Optional[str] = ..., advice: _Optional[str] = ..., install_url: _Optional[str] = ..., rank: _Optional[_Union[Rank, _Mapping]] = ..., reason_code: _Optional[_Union[Reason, str]] = ...) -> None: ...

class Rank(_message.Message):
    __slots__ = ("pinned", "score", "signals")
    class SignalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    PINNED_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    pinned: int
    score: float
    signals: _containers.ScalarMap[str, float]
    def __init__(self, pinned: _Optional[int] = ..., score: _Optional[float] = ..., signals: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ListGuildsRequest(_message.Message):
    __slots__ = ("user_id", "page_size", "page_token", "max_age")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    page_size: int
    page_token: str
    max_age: _duration_pb2.Duration
    def __init__(self, user_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListGuildsResponse(_message.Message):
    __slots__ = ("guilds", "next_page_token", "outdated_guild_ids")
    GUILDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    OUTDATED_GUILD_IDS_FIELD_NUMBER: _ClassVar[int]
    guilds: _containers.RepeatedCompositeFieldContainer[Guild]
    next_page_token: str
    outdated_guild_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, guilds: _Optional[_Iterable[_Union[Guild, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., outdated_guild_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Channel(_message.Message):
    __slots__ = ("channel_id", "guild_id", "type", "name", "topic", "position", "parent_id", "nsfw", "last_message_time")
    CHANNEL_ID_FIELD_NUMBER: _ClassVar[int]
    GUILD_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    NSFW_FIELD_NUMBER: _ClassVar[int]
    LAST_MESSAGE_TIME_FIELD_NUMBER: _ClassVar[int]
    channel_id: str
    guild_id: str
    type: int
    name: str
    topic: str
    position: int
    parent_id: str
    nsfw: bool
    last_message_time: _timestamp_pb2.Timestamp
    def __init__(self, channel_id: _Optional[str] = ..., guild_id: _Optional[str] = ..., type: _Optional[int] = ..., name: _Optional[str] = ..., topic: _Optional[str] = ..., position: _Optional[int] = ..., parent_id: _Optional[str] = ..., nsfw: _Optional[bool] = ..., last_message_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListChannelsRequest(_message.Message):
    __slots__ = ("user_id", "guild_id", "name_prefix", "types", "order", "page_size", "page_token", "max_age")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    GUILD_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_PREFIX_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    guild_id: str
    name_prefix: str
    types: _containers.RepeatedScalarFieldContainer[int]
    order: ChannelOrder
    page_size: int
    page_token: str
    max_age: _duration_pb2.Duration
    def __init__(self, user_id: _Optional[str] = ..., guild_id: _Optional[str] = ..., name_prefix: _Optional[str] = ..., types: _Optional[_Iterable[int]] = ..., order: _Optional[_Union[ChannelOrder, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListChannelsResponse(_message.Message):
    __slots__ = ("channels", "next_page_token", "stale_guild_ids", "outdated_guild_ids")
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STALE_GUILD_IDS_FIELD_NUMBER: _ClassVar[int]
    OUTDATED_GUILD_IDS_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedCompositeFieldContainer[Channel]
    next_page_token: str
    stale_guild_ids: _containers.RepeatedScalarFieldContainer[str]
    outdated_guild_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, channels: _Optional[_Iterable[_Union[Channel, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., stale_guild_ids: _Optional[_Iterable[str]] = ..., outdated_guild_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class GetGuildRequest(_message.Message):
    __slots__ = ("user_id", "guild_id", "max_age")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    GUILD_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    guild_id: str
    max_age: _duration_pb2.Duration
    def __init__(self, user_id: _Optional[str] = ..., guild_id: _Optional[str] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetGuildResponse(_message.Message):
    __slots__ = ("guild", "outdated_guild_ids")
    GUILD_FIELD_NUMBER: _ClassVar[int]
    OUTDATED_GUILD_IDS_FIELD_NUMBER: _ClassVar[int]
    guild: Guild
    outdated_guild_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, guild: _Optional[_Union[Guild, _Mapping]] = ..., outdated_guild_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class GetChannelRequest(_message.Message):
    __slots__ = ("user_id", "channel_id", "max_age")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    channel_id: str
    max_age: _duration_pb2.Duration
    def __init__(self, user_id: _Optional[str] = ..., channel_id: _Optional[str] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetChannelResponse(_message.Message):
    __slots__ = ("channel", "outdated_guild_ids")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    OUTDATED_GUILD_IDS_FIELD_NUMBER: _ClassVar[int]
    channel: Channel
    outdated_guild_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, channel: _Optional[_Union[Channel, _Mapping]] = ..., outdated_guild_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class BatchGetChannelsRequest(_message.Message):
    __slots__ = ("user_id", "channel_ids", "max_age")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_IDS_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    channel_ids: _containers.RepeatedScalarFieldContainer[str]
    max_age: _duration_pb2.Duration
    def __init__(self, user_id: _Optional[str] = ..., channel_ids: _Optional[_Iterable[str]] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class BatchGetChannelsResponse(_message.Message):
    __slots__ = ("channels", "missing_channel_ids", "outdated_guild_ids")
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    MISSING_CHANNEL_IDS_FIELD_NUMBER: _ClassVar[int]
    OUTDATED_GUILD_IDS_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedCompositeFieldContainer[Channel]
    missing_channel_ids: _containers.RepeatedScalarFieldContainer[str]
    outdated_guild_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, channels: _Optional[_Iterable[_Union[Channel, _Mapping]]] = ..., missing_channel_ids: _Optional[_Iterable[str]] = ..., outdated_guild_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class SearchChannelsRequest(_message.Message):
    __slots__ = ("user_id", "query", "page_size", "max_age")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    query: str
    page_size: int
    max_age: _duration_pb2.Duration
    def __init__(self, user_id: _Optional[str] = ..., query: _Optional[str] = ..., page_size: _Optional[int] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class SearchChannelsResponse(_message.Message):
    __slots__ = ("channels", "outdated_guild_ids")
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    OUTDATED_GUILD_IDS_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedCompositeFieldContainer[Channel]
    outdated_guild_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, channels: _Optional[_Iterable[_Union[Channel, _Mapping]]] = ..., outdated_guild_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchIndexRequest(_message.Message):
    __slots__ = ("user_id", "resume_token", "heartbeat")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    resume_token: str
    heartbeat: _duration_pb2.Duration
    def __init__(self, user_id: _Optional[str] = ..., resume_token: _Optional[str] = ..., heartbeat: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WatchIndexResponse(_message.Message):
    __slots__ = ("change", "reset", "bookmark", "going_away", "resume_token")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    BOOKMARK_FIELD_NUMBER: _ClassVar[int]
    GOING_AWAY_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    change: GuildChange
    reset: IndexReset
    bookmark: Bookmark
    going_away: GoingAway
    resume_token: str
    def __init__(self, change: _Optional[_Union[GuildChange, _Mapping]] = ..., reset: _Optional[_Union[IndexReset, _Mapping]] = ..., bookmark: _Optional[_Union[Bookmark, _Mapping]] = ..., going_away: _Optional[_Union[GoingAway, _Mapping]] = ..., resume_token: _Optional[str] = ...) -> None: ...

class GuildChange(_message.Message):
    __slots__ = ("channels", "guild_id", "guild", "replace", "removed_channel_ids", "removed")
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    GUILD_ID_FIELD_NUMBER: _ClassVar[int]
    GUILD_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    REMOVED_CHANNEL_IDS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedCompositeFieldContainer[Channel]
    guild_id: str
    guild: Guild
    replace: bool
    removed_channel_ids: _containers.RepeatedScalarFieldContainer[str]
    removed: bool
    def __init__(self, channels: _Optional[_Iterable[_Union[Channel, _Mapping]]] = ..., guild_id: _Optional[str] = ..., guild: _Optional[_Union[Guild, _Mapping]] = ..., replace: _Optional[bool] = ..., removed_channel_ids: _Optional[_Iterable[str]] = ..., removed: _Optional[bool] = ...) -> None: ...

class IndexReset(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: SnapshotReason
    def __init__(self, reason: _Optional[_Union[SnapshotReason, str]] = ...) -> None: ...

class Bookmark(_message.Message):
    __slots__ = ("read_time",)
    READ_TIME_FIELD_NUMBER: _ClassVar[int]
    read_time: _timestamp_pb2.Timestamp
    def __init__(self, read_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PutCredentialRequest(_message.Message):
    __slots__ = ("user_id", "access_token", "refresh_token", "expire_time", "scopes", "request_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    access_token: str
    refresh_token: str
    expire_time: _timestamp_pb2.Timestamp
    scopes: _containers.RepeatedScalarFieldContainer[str]
    request_id: str
    def __init__(self, user_id: _Optional[str] = ..., access_token: _Optional[str] = ..., refresh_token: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., scopes: _Optional[_Iterable[str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class PutCredentialResponse(_message.Message):
    __slots__ = ("verified",)
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    verified: bool
    def __init__(self, verified: _Optional[bool] = ...) -> None: ...

class GetCredentialStatusRequest(_message.Message):
    __slots__ = ("user_id",)
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    def __init__(self, user_id: _Optional[str] = ...) -> None: ...

class GetCredentialStatusResponse(_message.Message):
    __slots__ = ("state", "scopes", "expire_time")
    STATE_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    state: CredentialState
    scopes: _containers.RepeatedScalarFieldContainer[str]
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, state: _Optional[_Union[CredentialState, str]] = ..., scopes: _Optional[_Iterable[str]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RevokeCredentialRequest(_message.Message):
    __slots__ = ("user_id", "request_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    request_id: str
    def __init__(self, user_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RevokeCredentialResponse(_message.Message):
    __slots__ = ("revoked_at_discord",)
    REVOKED_AT_DISCORD_FIELD_NUMBER: _ClassVar[int]
    revoked_at_discord: bool
    def __init__(self, revoked_at_discord: _Optional[bool] = ...) -> None: ...

class DeleteUserDataRequest(_message.Message):
    __slots__ = ("user_id", "request_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    request_id: str
    def __init__(self, user_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteUserDataResponse(_message.Message):
    __slots__ = ("removed",)
    class RemovedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    removed: _containers.ScalarMap[str, int]
    def __init__(self, removed: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Preferences(_message.Message):
    __slots__ = ("pinned_guild_ids", "muted_guild_ids")
    PINNED_GUILD_IDS_FIELD_NUMBER: _ClassVar[int]
    MUTED_GUILD_IDS_FIELD_NUMBER: _ClassVar[int]
    pinned_guild_ids: _containers.RepeatedScalarFieldContainer[str]
    muted_guild_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, pinned_guild_ids: _Optional[_Iterable[str]] = ..., muted_guild_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class GetPreferencesRequest(_message.Message):
    __slots__ = ("user_id",)
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    def __init__(self, user_id: _Optional[str] = ...) -> None: ...

class GetPreferencesResponse(_message.Message):
    __slots__ = ("preferences",)
    PREFERENCES_FIELD_NUMBER: _ClassVar[int]
    preferences: Preferences
    def __init__(self, preferences: _Optional[_Union[Preferences, _Mapping]] = ...) -> None: ...

class UpdatePreferencesRequest(_message.Message):
    __slots__ = ("user_id", "preferences", "request_id", "update_mask")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PREFERENCES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    preferences: Preferences
    request_id: str
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, user_id: _Optional[str] = ..., preferences: _Optional[_Union[Preferences, _Mapping]] = ..., request_id: _Optional[str] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdatePreferencesResponse(_message.Message):
    __slots__ = ("preferences",)
    PREFERENCES_FIELD_NUMBER: _ClassVar[int]
    preferences: Preferences
    def __init__(self, preferences: _Optional[_Union[Preferences, _Mapping]] = ...) -> None: ...

class GetRateLimitsRequest(_message.Message):
    __slots__ = ("user_ids",)
    USER_IDS_FIELD_NUMBER: _ClassVar[int]
    user_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, user_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("kind", "key", "capacity", "window", "free", "next_free_time", "pause_end_time", "budget_kind", "pause_reason")
    KIND_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    NEXT_FREE_TIME_FIELD_NUMBER: _ClassVar[int]
    PAUSE_END_TIME_FIELD_NUMBER: _ClassVar[int]
    BUDGET_KIND_FIELD_NUMBER: _ClassVar[int]
    PAUSE_REASON_FIELD_NUMBER: _ClassVar[int]
    kind: str
    key: str
    capacity: int
    window: _duration_pb2.Duration
    free: int
    next_free_time: _timestamp_pb2.Timestamp
    pause_end_time: _timestamp_pb2.Timestamp
    budget_kind: BudgetKind
    pause_reason: PauseReason
    def __init__(self, kind: _Optional[str] = ..., key: _Optional[str] = ..., capacity: _Optional[int] = ..., window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., free: _Optional[int] = ..., next_free_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., pause_end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., budget_kind: _Optional[_Union[BudgetKind, str]] = ..., pause_reason: _Optional[_Union[PauseReason, str]] = ...) -> None: ...

class GetRateLimitsResponse(_message.Message):
    __slots__ = ("budgets",)
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    budgets: _containers.RepeatedCompositeFieldContainer[Budget]
    def __init__(self, budgets: _Optional[_Iterable[_Union[Budget, _Mapping]]] = ...) -> None: ...
