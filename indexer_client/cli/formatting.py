"""Jobs and guild tasks as text. Names are escaped here."""

from indexer_client.cli import escape, job_state, times
from indexer_service.v1 import indexer_pb2 as pb

JOB_STATES = {
    pb.JOB_STATE_RUNNING: "running",
    pb.JOB_STATE_SUCCEEDED: "succeeded",
    pb.JOB_STATE_SUCCEEDED_WITH_ERRORS: "succeeded with errors",
    pb.JOB_STATE_FAILED: "failed",
    pb.JOB_STATE_CANCELLED: "cancelled",
}
DISPOSITIONS = {
    pb.DISPOSITION_CREATED: "started",
    pb.DISPOSITION_JOINED: "joined: it was already running",
    pb.DISPOSITION_FRESH: "nothing to do: everything is fresh",
}
WAITS = {
    pb.BUDGET_KIND_EGRESS: "the block of this address by Discord's edge to end",
    pb.BUDGET_KIND_CREDENTIAL: "the user's tokens to be renewed",
    pb.BUDGET_KIND_DISCORD: "Discord's outage to end",
}
"""What a job waits for that is no rate limit."""


def guild_name(row: pb.JobGuild | pb.Guild) -> str:
    """Return the guild's name, or its id when it has none."""
    return escape.visible(row.name or row.guild_id)


def reason_phrase(error: str) -> str:
    """Return a reason such as BOT_NOT_INSTALLED in words."""
    return escape.visible(error).replace("_", " ").lower()


def guild_state(row: pb.JobGuild) -> str:
    """Return the state of the guild task in words."""
    if row.state == pb.GUILD_STATE_QUEUED and row.HasField("retry_time"):
        if times.has_passed(row.retry_time):
            return f"retry due, {times.pluralize(row.attempts, 'failure')}"
        return f"retry at {times.time_of_day(row.retry_time)}, {times.pluralize(row.attempts, 'failure')}"
    if row.state == pb.GUILD_STATE_RUNNING:
        return "reading roles" if row.HasField("channel_count") else "fetching"
    if row.state == pb.GUILD_STATE_SKIPPED:
        return reason_phrase(row.error) or "skipped"
    if row.state == pb.GUILD_STATE_FAILED:
        return f"failed: {reason_phrase(row.error)}"
    plain = {
        pb.GUILD_STATE_QUEUED: "queued",
        pb.GUILD_STATE_SUCCEEDED: "indexed",
        pb.GUILD_STATE_CANCELLED: "cancelled",
    }
    return plain.get(row.state, "")


def throttle_notice(throttled: pb.Throttled) -> str:
    """Return the budget that the job waits for, and until when."""
    words = WAITS.get(throttled.budget_kind) or f"the {escape.visible(throttled.budget)} rate limit"
    if times.has_passed(throttled.end_time):
        return f"waiting for {words}, about to continue"
    return f"waiting for {words} until {times.time_of_day(throttled.end_time)}"


def failure_line(row: pb.JobGuild) -> str:
    """Return the error line of a failed guild task."""
    tried = f" after {times.pluralize(row.attempts, 'attempt')}" if row.attempts else ""
    advice = f". {escape.visible(row.advice)}" if row.advice else ""
    return f"not indexed: {guild_name(row)} ({row.guild_id}): {escape.visible(row.error)}{tried}{advice}"


def skipped_summary(tracked: job_state.TrackedJob) -> str:
    """Return the number of skipped guilds by reason; empty when none was skipped."""
    parts = []
    for reason, number in tracked.skipped_by_reason():
        parts.append(f"{number} skipped ({reason_phrase(reason)})" if reason else f"{number} skipped")
    return ", ".join(parts)


def job_summary(tracked: job_state.TrackedJob, seconds: float) -> str:
    """Return the job's outcome in one line; *seconds* is its duration if the job has no timestamps."""
    progress, job = tracked.job.progress, tracked.job
    numbers = f"{progress.succeeded} of {times.pluralize(progress.total, 'guild')} indexed"
    parts = [numbers, times.pluralize(tracked.channel_count, "channel")]
    parts += [f"{progress.skipped} skipped"] if progress.skipped else []
    parts += [f"{progress.failed} failed"] if progress.failed else []
    error = f" ({escape.visible(job.error)})" if job.error else ""
    if job.HasField("end_time") and job.HasField("create_time"):
        seconds = max(0.0, (job.end_time.ToNanoseconds() - job.create_time.ToNanoseconds()) / 1e9)
    fresh = f"{DISPOSITIONS[tracked.disposition]}; the last job " if tracked.disposition == pb.DISPOSITION_FRESH else ""
    return f"{fresh}{JOB_STATES.get(job.state, 'ended')}{error} in {times.format_seconds(seconds)}: {', '.join(parts)}"
