"""`indexer index` and `indexer job`."""

import asyncio
import contextlib
import dataclasses
import sys
import uuid
from collections.abc import AsyncGenerator

from indexer_client.cli import connection, errors, escape, formatting, job_state, output, times, views, watch
from indexer_service.v1 import indexer_pb2 as pb


@dataclasses.dataclass(frozen=True, slots=True)
class IndexOptions:
    """
    Options of `indexer index`.

    Attributes:
        follow: Whether to watch the job until it ends.
    """

    follow: bool
    as_json: bool
    retry_policy: watch.RetryPolicy


def start_request(user: str, *, wait: float | None, force: bool) -> pb.StartIndexingRequest:
    """Return the StartIndexing request, with a request id that makes it idempotent."""
    request = pb.StartIndexingRequest(user_id=user, request_id=str(uuid.uuid4()), force=force)
    if wait is not None:
        request.wait.CopyFrom(times.to_duration(wait))
    return request


async def index_user(stub: connection.Stub, request: pb.StartIndexingRequest, options: IndexOptions) -> int:
    """Start a job, show its progress, and return the exit code."""
    tracked = job_state.TrackedJob()
    tracked.job.user_id = request.user_id
    elapsed = views.elapsed_timer()
    wait_seconds = request.wait.ToMilliseconds() / 1000
    try:
        async with views.open_view(tracked, output.make_console(sys.stdout), as_json=options.as_json) as view:
            answer = await stub.StartIndexing(request, timeout=wait_seconds + connection.DEADLINE)
            tracked.apply_start(answer)
            view.show_start(answer)
            if options.follow:
                messages = watch.watch_events(stub, tracked.job.job_id, answer.watch_token, options.retry_policy)
                await _follow_job(messages, tracked, view)
    except asyncio.CancelledError:
        if tracked.job.job_id and not tracked.ended:
            output.print_error(f"the job continues in the background; check it with: indexer job {tracked.job.job_id}")
        raise
    if not options.as_json:
        output.print_line(
            formatting.job_summary(tracked, elapsed()) if tracked.ended else _remaining_line(tracked, answer.remaining)
        )
    return _report_failures(tracked)


async def follow_job(stub: connection.Stub, job_id: str, options: IndexOptions) -> int:
    """Show the progress of a job that was started before, and return the exit code."""
    tracked, elapsed = job_state.TrackedJob(), views.elapsed_timer()
    try:
        async with views.open_view(tracked, output.make_console(sys.stdout), as_json=options.as_json) as view:
            await _follow_job(watch.watch_events(stub, job_id, "", options.retry_policy), tracked, view)
    except asyncio.CancelledError:
        output.print_error(f"the job continues in the background; watch it again with: indexer jobs watch {job_id}")
        raise
    if not options.as_json:
        output.print_line(formatting.job_summary(tracked, elapsed()))
    return _report_failures(tracked)


async def _follow_job(
    messages: AsyncGenerator[pb.WatchProgressResponse, None], tracked: job_state.TrackedJob, view: views.View
) -> None:
    try:
        async with contextlib.aclosing(messages):
            async for message in messages:
                view.show_event(message, tracked.apply_event(message))
    except watch.StreamLost as lost:
        raise errors.CliError(
            f"{lost}; the job continues in the background; check it with: indexer job {tracked.job.job_id}"
        ) from lost


def _remaining_line(tracked: job_state.TrackedJob, remaining: int) -> str:
    return f"{times.pluralize(remaining, 'guild')} to go; check the job with: indexer job {tracked.job.job_id}"


def _report_failures(tracked: job_state.TrackedJob) -> int:
    """Print failures to standard error; returns the exit code."""
    for row in tracked.tasks_by_position():
        if row.state == pb.GUILD_STATE_FAILED:
            output.print_error(formatting.failure_line(row))
    job = tracked.job
    if job.state == pb.JOB_STATE_FAILED:
        advice = f". {escape.visible(job.advice)}" if job.advice else ""
        output.print_error(f"job {job.job_id} failed: {escape.visible(job.error) or 'no reason given'}{advice}")
    elif job.state == pb.JOB_STATE_CANCELLED:
        output.print_error(f"job {job.job_id} was cancelled")
    return errors.EXIT_FAILURE if job.state in {pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED} else 0


async def show_job(stub: connection.Stub, job_id: str, *, as_json: bool) -> int:
    """Print one job; returns the exit code."""
    answer = await stub.GetJob(pb.GetJobRequest(job_id=job_id), timeout=connection.DEADLINE)
    return print_job(answer.job, as_json=as_json)


def print_job(found: pb.Job, *, as_json: bool) -> int:
    """Print a job; returns the exit code."""
    if as_json:
        output.print_json(found)
        return 0
    progress = found.progress
    output.print_line(f"job      {found.job_id}")
    output.print_line(f"user     {found.user_id}")
    output.print_line(f"state    {formatting.JOB_STATES.get(found.state, 'unknown')}{_state_detail(found)}")
    numbers = [(progress.succeeded, "indexed"), (progress.skipped, "skipped"), (progress.failed, "failed")]
    numbers += [(progress.running, "running"), (progress.queued, "queued"), (progress.cancelled, "cancelled")]
    states = ", ".join(f"{number} {name}" for number, name in numbers if number)
    output.print_line(f"guilds   {progress.total}{f' ({states})' if states else ''}")
    output.print_line(f"created  {times.local_time(found.create_time):%Y-%m-%d %H:%M:%S}")
    if found.HasField("end_time"):
        output.print_line(f"finished {times.local_time(found.end_time):%Y-%m-%d %H:%M:%S}")
    if found.advice:
        output.print_line(f"advice   {escape.visible(found.advice)}")
    return 0


def _state_detail(found: pb.Job) -> str:
    if found.HasField("throttled"):
        return f", {formatting.throttle_notice(found.throttled)}"
    return f" ({escape.visible(found.error)})" if found.error else ""
