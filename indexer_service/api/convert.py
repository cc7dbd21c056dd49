"""Conversion of domain values to messages of the API."""

import datetime

from google.protobuf import duration_pb2, message, timestamp_pb2

from indexer_service.v1 import indexer_pb2 as pb
from indexing.domain import job_updates, model, ranking, reasons
from indexing.ratelimit import limiter
from indexing.usecases import control_credential, guild_views

REASONS: "dict[str, pb.Reason]" = dict(pb.Reason.items())  # type: ignore[arg-type]  # a value is an int at run time
BUDGET_KINDS: "dict[str, pb.BudgetKind]" = dict(pb.BudgetKind.items())  # type: ignore[arg-type]  # as above
PAUSE_REASONS: "dict[str, pb.PauseReason]" = dict(pb.PauseReason.items())  # type: ignore[arg-type]  # as above


def timestamp(seconds: float) -> timestamp_pb2.Timestamp:
    """Return an epoch second as a Timestamp."""
    made = timestamp_pb2.Timestamp()
    made.FromDatetime(datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC))
    return made


def optional_timestamp(seconds: float | None) -> timestamp_pb2.Timestamp | None:
    """Return an epoch second as a Timestamp; None for None and 0."""
    return timestamp(seconds) if seconds else None


def reason(text: str) -> pb.Reason:
    """Return the value of a reason; REASON_OTHER for one that the API has no value for, e.g. of a newer release."""
    if not text:
        return pb.REASON_UNSPECIFIED
    return REASONS.get(f"REASON_{text}", pb.REASON_OTHER)


def budget_kind(text: str) -> pb.BudgetKind:
    """Return the value of a budget's kind; unspecified for one that the API has no value for."""
    return BUDGET_KINDS.get(f"BUDGET_KIND_{text.upper()}", pb.BUDGET_KIND_UNSPECIFIED)


def pause_reason(text: str) -> pb.PauseReason:
    """Return the value of a pause's reason; unspecified for one that the API has no value for."""
    return PAUSE_REASONS.get(f"PAUSE_REASON_{text.upper()}", pb.PAUSE_REASON_UNSPECIFIED)


def throttled(job: model.Job) -> pb.Throttled | None:
    """Return the budget that the job waits for; None when it does not wait."""
    if not job.waiting_for or job.state.terminal:
        return None
    return pb.Throttled(
        budget=job.waiting_for, budget_kind=budget_kind(job.waiting_for), end_time=timestamp(job.waiting_until)
    )


def progress(tally: job_updates.Tally) -> pb.Progress:
    """Return a job's guilds by state."""
    return pb.Progress(
        total=tally.total,
        queued=tally.queued,
        running=tally.running,
        succeeded=tally.succeeded,
        skipped=tally.skipped,
        failed=tally.failed,
        cancelled=tally.cancelled,
    )


def job(row: model.Job, tally: job_updates.Tally) -> pb.Job:
    """Return a job with its progress."""
    return pb.Job(
        job_id=row.job_id,
        user_id=str(row.user_id),
        state=f"JOB_STATE_{row.state}",
        progress=progress(tally),
        error=row.reason,
        create_time=timestamp(row.created_at),
        end_time=optional_timestamp(row.finished_at),
        guilds_listed=row.listed,
        throttled=throttled(row),
        reason_code=reason(row.reason),
        advice=reasons.advice(row.reason),
        cancelled_by=row.cancelled_by,
    )


def job_guild(task: model.GuildTask) -> pb.JobGuild:
    """Return one guild of a job."""
    return pb.JobGuild(
        guild_id=str(task.guild_id),
        name=task.name,
        state=f"GUILD_STATE_{task.state}",
        position=task.position,
        channel_count=task.channel_count,
        error=task.reason,
        attempts=task.attempts,
        retry_time=optional_timestamp(task.retry_at),
        revision=task.revision,
        reason_code=reason(task.reason),
        advice=reasons.advice(task.reason),
    )


def guild(view: guild_views.GuildView) -> pb.Guild:
    """Return one of a user's guilds."""
    return pb.Guild(
        guild_id=str(view.guild.guild_id),
        name=view.guild.name,
        icon=view.guild.icon or "",
        owner=view.owner,
        position=view.position,
        channel_count=view.channel_count,
        fetch_time=optional_timestamp(view.guild.fetched_at),
        stale=view.stale,
        reason=view.reason,
        reason_code=reason(view.reason),
        advice=reasons.advice(view.reason),
        install_url=view.install_url,
        rank=rank(view.rank) if view.rank else None,
    )


def watched_guild(view: guild_views.GuildView) -> bytes:
    """Return a guild as WatchIndex sends it, encoded: without what changes with time alone."""
    row = guild(view)
    for field in ("position", "rank", "fetch_time", "stale"):
        row.ClearField(field)
    return row.SerializeToString(deterministic=True)


def rank(ranked: ranking.RankedGuild) -> pb.Rank:
    """
    Return a guild's rank and its signals, rounded to hundredths.

    The activity signal depends on the guild's newest message, which may be in a channel that is hidden from the user.
    The exact value would reveal the second of that message; hundredths reveal no more than its day.
    """
    signals = {name: round(part, 2) for name, part in ranked.contributions.items()}
    return pb.Rank(pinned=ranked.inputs.pinned, score=round(sum(signals.values()), 2), signals=signals)


def channel(row: model.Channel) -> pb.Channel:
    """Return one channel."""
    return pb.Channel(
        channel_id=str(row.channel_id),
        guild_id=str(row.guild_id),
        type=row.kind,
        name=row.name,
        topic=row.topic or "",
        position=row.position,
        parent_id=str(row.parent_id) if row.parent_id else "",
        nsfw=row.nsfw,
        last_message_time=optional_timestamp(
            model.snowflake_time(row.last_message_id) if row.last_message_id else None
        ),
    )


VARINT_MORE = 0x80
"""Bit of a length's byte that says that another one follows."""


def encoded_channel(row: model.Channel) -> bytes:
    """Return one channel as it stands in a ListChannelsResponse, whose pages are joined from these."""
    return _as_first_field(channel(row))


def encoded_guild(view: guild_views.GuildView) -> bytes:
    """Return one guild as it stands in a ListGuildsResponse."""
    return _as_first_field(guild(view))


def _as_first_field(row: message.Message) -> bytes:
    """Return a row as an element of the repeated field 1 (protobuf.dev/programming-guides/encoding)."""
    return as_first_field(row.SerializeToString())


def as_first_field(body: bytes) -> bytes:
    """Return an encoded message as the value, or as an element, of field 1 of another message."""
    size, prefix = len(body), bytearray(b"\x0a")
    while size >= VARINT_MORE:
        prefix.append(size % VARINT_MORE | VARINT_MORE)
        size //= VARINT_MORE
    prefix.append(size)
    return bytes(prefix) + body


def preferences(stored: model.Preferences) -> pb.Preferences:
    """Return a user's preferences."""
    return pb.Preferences(
        pinned_guild_ids=[str(guild_id) for guild_id in stored.pinned],
        muted_guild_ids=[str(guild_id) for guild_id in stored.muted],
    )


def budget(state: limiter.BudgetState, now: float) -> pb.Budget:
    """Return a budget's state at *now*."""
    window = duration_pb2.Duration()
    window.FromMilliseconds(round(state.window * 1000))
    return pb.Budget(
        kind=state.kind,
        budget_kind=budget_kind(state.kind),
        key=state.key,
        capacity=state.capacity,
        window=window,
        free=state.free,
        next_free_time=optional_timestamp(now + state.next_free_in if state.next_free_in else None),
        pause_end_time=optional_timestamp(now + state.paused_for if state.paused_for else None),
        pause_reason=pause_reason(state.reason),
    )


def credential(status: control_credential.CredentialStatus) -> pb.GetCredentialStatusResponse:
    """Return a credential's status; it never contains a token."""
    return pb.GetCredentialStatusResponse(
        state=f"CREDENTIAL_STATE_{status.state}",
        scopes=status.scopes,
        expire_time=optional_timestamp(status.expires_at),
    )
