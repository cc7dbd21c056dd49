"""`indexer index` and `indexer job`."""

import asyncio
import contextlib
import dataclasses
import sys
from collections.abc import AsyncGenerator

from indexer_client import errors as client_errors
from indexer_client.cli import connection, errors, escape, formatting, job_state, output, times, views
from indexer_service.v1 import indexer_pb2 as pb


@dataclasses.dataclass(frozen=True, slots=True)
class IndexOptions:
    """
    Options of `indexer index`.

    Attributes:
        follow: Whether to watch the job until it ends.
    """

    follow: bool
    form: output.Form


def start_request(user: str, *, wait: float | None, force: bool) -> pb.StartIndexingRequest:
    """Return the StartIndexing request."""
    request = pb.StartIndexingRequest(user_id=user, force=force)
    if wait is not None:
        request.wait.CopyFrom(times.to_duration(wait))
    return request


async def index_user(client: connection.Client, request: pb.StartIndexingRequest, options: IndexOptions) -> int:
    """Start a job, show its progress, and return the exit code."""
    tracked = job_state.TrackedJob()
    tracked.job.user_id = request.user_id
    elapsed = views.elapsed_timer()
    try:
        async with views.open_view(tracked, output.make_console(sys.stdout), form=options.form) as view:
            answer = await client.api.StartIndexing(request)
            tracked.apply_start(answer)
            view.show_start(answer)
            if options.follow:
                await _follow_job(client.watch(tracked.job.job_id, token=answer.watch_token), tracked, view)
    except asyncio.CancelledError:
        if not tracked.job.job_id:
            output.print_error(f"the job may have started; look with: indexer jobs list {request.user_id}")
        elif not tracked.ended:
            output.print_error(_come_back(tracked.job.job_id))
        raise
    if not options.form.structured:
        output.print_sentence(
            formatting.job_summary(tracked, elapsed()) if tracked.ended else _remaining_line(tracked, answer.remaining)
        )
    return _report_failures(tracked)


async def follow_job(client: connection.Client, job_id: str, options: IndexOptions) -> int:
    """Show the progress of a job that was started before, and return the exit code."""
    tracked, elapsed = job_state.TrackedJob(), views.elapsed_timer()
    tracked.job.job_id = job_id
    try:
        async with views.open_view(tracked, output.make_console(sys.stdout), form=options.form) as view:
            await _follow_job(client.watch(job_id), tracked, view)
    except asyncio.CancelledError:
        output.print_error(_come_back(job_id))
        raise
    if not options.form.structured:
        output.print_sentence(formatting.job_summary(tracked, elapsed()))
    return _report_failures(tracked)


async def _follow_job(
    messages: AsyncGenerator[pb.WatchProgressResponse, None], tracked: job_state.TrackedJob, view: views.View
) -> None:
    try:
        async with contextlib.aclosing(messages):
            async for message in messages:
                view.show_event(message, tracked.apply_event(message))
    except client_errors.StreamLost as lost:
        raise errors.CliError(f"{escape.visible(lost.text)}; {_come_back(tracked.job.job_id)}") from lost


def _come_back(job_id: str) -> str:
    return f"the job continues in the background; watch it again with: indexer jobs watch {job_id}"


def _remaining_line(tracked: job_state.TrackedJob, remaining: int) -> str:
    left = f"{times.pluralize(remaining, 'guild')} to go" if tracked.job.guilds_listed else "reading the guild list"
    return f"{left}; watch the job with: indexer jobs watch {tracked.job.job_id}"


def _report_failures(tracked: job_state.TrackedJob) -> int:
    """Print failures to standard error; returns the exit code."""
    for row in tracked.tasks_by_position():
        if row.state == pb.GUILD_STATE_FAILED:
            output.print_error(formatting.failure_line(row))
    job = tracked.job
    if job.state == pb.JOB_STATE_FAILED:
        advice = errors.advice_for(job.error, job.user_id) or job.advice
        shown = "; ".join(filter(None, (job.error or "no reason given", advice)))
        output.print_error(f"job {job.job_id} failed: {shown}")
    elif job.state == pb.JOB_STATE_CANCELLED:
        output.print_error(f"job {job.job_id} was cancelled")
    return errors.EXIT_FAILURE if job.state in {pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED} else 0


async def show_job(client: connection.Client, job_id: str, *, form: output.Form) -> int:
    """Print one job; returns the exit code."""
    answer = await client.api.GetJob(pb.GetJobRequest(job_id=job_id))
    return print_job(answer.job, form=form)


def print_job(found: pb.Job, *, form: output.Form) -> int:
    """Print a job; returns the exit code."""
    if form.structured:
        output.print_message(found, form)
        return 0
    progress = found.progress
    numbers = [(progress.succeeded, "indexed"), (progress.skipped, "skipped"), (progress.failed, "failed")]
    numbers += [(progress.running, "running"), (progress.queued, "queued"), (progress.cancelled, "cancelled")]
    states = ", ".join(f"{number} {name}" for number, name in numbers if number)
    fields = [
        ("job", found.job_id),
        ("user", found.user_id),
        ("state", f"{formatting.JOB_STATES.get(found.state, 'unknown')}{_state_detail(found)}"),
        ("guilds", f"{progress.total}{f' ({states})' if states else ''}"),
        ("created", f"{times.local_time(found.create_time):%Y-%m-%d %H:%M:%S}"),
    ]
    if found.HasField("end_time"):
        fields.append(("ended", f"{times.local_time(found.end_time):%Y-%m-%d %H:%M:%S}"))
    if found.advice:
        fields.append(("advice", found.advice))
    if command := errors.advice_for(found.error, found.user_id):
        fields.append(("next", command))
    output.print_fields(fields)
    return 0


def _state_detail(found: pb.Job) -> str:
    if found.HasField("throttled"):
        return f", {formatting.throttle_notice(found.throttled)}"
    return f" ({escape.visible(found.error)})" if found.error else ""
