"""Commands for jobs, preferences, and single guilds and channels. Importing this module adds them to the app."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from indexer_client.cli import browsing, commands, connection, escape, formatting, jobs, output, times
from indexer_service.v1 import indexer_pb2 as pb

Job = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", show_default=False)]
Guild = Annotated[str, typer.Argument(metavar="GUILD", help="The guild's id.", show_default=False)]
app = commands.app
jobs_app = typer.Typer(
    help="List, show, watch, wait for, cancel and retry jobs.\n\nExample: indexer jobs list 806171784905752576"
)
app.add_typer(jobs_app, name="jobs")
preferences = typer.Typer(
    help="Show and change a user's pinned and muted guilds.\n\nExample: indexer preferences show 806171784905752576"
)
app.add_typer(preferences, name="preferences")


@jobs_app.command(name="list")
def jobs_list(context: typer.Context, user: commands.User, *, form: commands.Form = output.Form.TABLE) -> int:
    """
    List a user's jobs, newest first.

    Example: indexer jobs list 806171784905752576
    """

    async def show(client: connection.Client) -> int:
        if form.structured:
            async for job in client.jobs(user):
                output.print_message(job, form)
            return 0
        headings = ["job", "~state", "?created", "?>guilds", "?~reason"]
        cells = [_job_cells(job) async for job in client.jobs(user)]
        output.print_table(headings, cells, empty=f"user {user} has no job")
        return 0

    return commands.call_service(context, show, user)


def _job_cells(job: pb.Job) -> tuple[str, ...]:
    progress = job.progress
    state = formatting.JOB_STATES.get(job.state, "unknown")
    done = progress.succeeded + progress.skipped + progress.failed + progress.cancelled
    return job.job_id, state, times.date_and_time(job.create_time), f"{done}/{progress.total}", job.error


@jobs_app.command(name="show")
def jobs_show(context: typer.Context, job_id: Job, *, form: commands.Form = output.Form.TABLE) -> int:
    """
    Show one job.

    Example: indexer jobs show 0123456789abcdef0123456789abcdef
    """
    return commands.call_service(context, lambda client: jobs.show_job(client, job_id, form=form))


@jobs_app.command(name="watch")
def jobs_watch(context: typer.Context, job_id: Job, *, form: commands.Form = output.Form.TABLE) -> int:
    """
    Show a job's progress until it ends, without starting one. Ctrl-C leaves the job running.

    Example: indexer jobs watch 0123456789abcdef0123456789abcdef
    """
    options = jobs.IndexOptions(follow=True, form=form)
    return commands.call_service(context, lambda client: jobs.follow_job(client, job_id, options))


@jobs_app.command(name="wait")
def jobs_wait(
    context: typer.Context,
    job_id: Job,
    *,
    seconds: Annotated[float, typer.Option("--seconds", min=0, max=60, help="Longest wait.")] = 30.0,
    form: commands.Form = output.Form.TABLE,
) -> int:
    """
    Wait until a job has ended, and show it.

    Example: indexer jobs wait 0123456789abcdef0123456789abcdef --seconds 60
    """

    async def wait(client: connection.Client) -> int:
        request = pb.WaitJobRequest(job_id=job_id, wait=times.to_duration(seconds))
        found = await client.api.WaitJob(request)
        return jobs.print_job(found.job, form=form)

    return commands.call_service(context, wait)


@jobs_app.command(name="cancel")
def jobs_cancel(context: typer.Context, job_id: Job, *, form: commands.Form = output.Form.TABLE) -> int:
    """
    Cancel a job's queued guilds. Running fetches finish and keep their results.

    Example: indexer jobs cancel 0123456789abcdef0123456789abcdef
    """

    async def cancel(client: connection.Client) -> int:
        request = pb.CancelJobRequest(job_id=job_id)
        return jobs.print_job((await client.api.CancelJob(request)).job, form=form)

    return commands.call_service(context, cancel)


@jobs_app.command(name="retry")
def jobs_retry(context: typer.Context, job_id: Job, *, form: commands.Form = output.Form.TABLE) -> int:
    """
    Start a new job with the guilds that failed in a job, and show it.

    Example: indexer jobs retry 0123456789abcdef0123456789abcdef
    """

    async def retry(client: connection.Client) -> int:
        request = pb.RetryJobRequest(job_id=job_id)
        return jobs.print_job((await client.api.RetryJob(request)).job, form=form)

    return commands.call_service(context, retry)


@preferences.command(name="show")
def preferences_show(context: typer.Context, user: commands.User, *, form: commands.Form = output.Form.TABLE) -> int:
    """
    Show a user's pinned and muted guilds.

    Example: indexer preferences show 806171784905752576
    """

    async def show(client: connection.Client) -> int:
        found = await client.api.GetPreferences(pb.GetPreferencesRequest(user_id=user))
        return _print_preferences(found.preferences, form=form)

    return commands.call_service(context, show, user)


@preferences.command(name="set")
def preferences_set(  # noqa: PLR0913 -- one parameter an option
    context: typer.Context,
    user: commands.User,
    *,
    pin: Annotated[list[str] | None, typer.Option(help="Rank this guild first. May be repeated, in order.")] = None,
    mute: Annotated[list[str] | None, typer.Option(help="Do not index this guild. May be repeated.")] = None,
    unpin_all: Annotated[bool, typer.Option("--unpin-all", help="Pin no guild.")] = False,
    unmute_all: Annotated[bool, typer.Option("--unmute-all", help="Mute no guild.")] = False,
    form: commands.Form = output.Form.TABLE,
) -> int:
    """
    Replace a user's pinned guilds, their muted guilds, or both. What is not given stays.

    Example: indexer preferences set 806171784905752576 --pin 41771983423143937 --unmute-all
    """
    request = pb.UpdatePreferencesRequest(user_id=user)
    request.preferences.pinned_guild_ids.extend(pin or [])
    request.preferences.muted_guild_ids.extend(mute or [])
    request.update_mask.paths.extend(["pinned_guild_ids"] if pin or unpin_all else [])
    request.update_mask.paths.extend(["muted_guild_ids"] if mute or unmute_all else [])
    if not request.update_mask.paths:
        raise typer.BadParameter("give at least one of --pin, --mute, --unpin-all and --unmute-all")

    async def change(client: connection.Client) -> int:
        found = await client.api.UpdatePreferences(request)
        return _print_preferences(found.preferences, form=form)

    return commands.call_service(context, change, user)


def _print_preferences(found: pb.Preferences, *, form: output.Form) -> int:
    if form.structured:
        output.print_message(found, form)
        return 0
    lists = {"pinned": found.pinned_guild_ids, "muted": found.muted_guild_ids}
    output.print_fields((name, " ".join(ids) or "none") for name, ids in lists.items())
    return 0


@app.command(name="guild")
def guild(
    context: typer.Context, user: commands.User, guild_id: Guild, *, form: commands.Form = output.Form.TABLE
) -> int:
    """
    Show one of a user's guilds as stored.

    Example: indexer guild 806171784905752576 41771983423143937
    """

    async def show(client: connection.Client) -> int:
        request = pb.GetGuildRequest(user_id=user, guild_id=guild_id)
        found = await client.api.GetGuild(request)
        if form.structured:
            output.print_message(found.guild, form)
            return 0
        browsing.print_guilds([found.guild], user)
        if found.guild.advice:
            output.print_sentence(escape.visible(found.guild.advice))
        return 0

    return commands.call_service(context, show, user)


@app.command(name="channel")
def channel(
    context: typer.Context,
    user: commands.User,
    channel_id: Annotated[str, typer.Argument(metavar="CHANNEL", help="The channel's id.", show_default=False)],
    *,
    form: commands.Form = output.Form.TABLE,
) -> int:
    """
    Show one channel, if the user can see it.

    Example: indexer channel 806171784905752576 41771983423143940
    """

    async def rows(client: connection.Client) -> list[pb.Channel]:
        request = pb.GetChannelRequest(user_id=user, channel_id=channel_id)
        return [(await client.api.GetChannel(request)).channel]

    return commands.call_service(context, _printing_channels(rows, user, form=form), user)


@app.command(name="check")
def check(
    context: typer.Context,
    user: commands.User,
    channel_ids: Annotated[list[str], typer.Argument(metavar="CHANNEL...", help="Ids of channels.")],
    *,
    form: commands.Form = output.Form.TABLE,
) -> int:
    """
    Show which of up to 1,000 channels a user can see.

    Example: indexer check 806171784905752576 41771983423143940 41771983423143941
    """

    async def rows(client: connection.Client) -> list[pb.Channel]:
        request = pb.BatchGetChannelsRequest(user_id=user, channel_ids=channel_ids)
        found = await client.api.BatchGetChannels(request)
        if found.missing_channel_ids:
            output.print_error(f"not visible to user {user}: {' '.join(found.missing_channel_ids)}")
        return list(found.channels)

    return commands.call_service(context, _printing_channels(rows, user, form=form), user)


@app.command(name="search")
def search(
    context: typer.Context,
    user: commands.User,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Part of a name; typing errors are tolerated.")],
    *,
    form: commands.Form = output.Form.TABLE,
) -> int:
    """
    Find channels of all of a user's guilds by name, best match first.

    Example: indexer search 806171784905752576 anouncements
    """

    async def rows(client: connection.Client) -> list[pb.Channel]:
        request = pb.SearchChannelsRequest(user_id=user, query=query)
        return list((await client.api.SearchChannels(request)).channels)

    return commands.call_service(context, _printing_channels(rows, user, form=form), user)


def _printing_channels(
    rows: Callable[[connection.Client], Awaitable[list[pb.Channel]]], user: str, *, form: output.Form
) -> Callable[[connection.Client], Awaitable[int]]:
    async def show(client: connection.Client) -> int:
        found = await rows(client)
        if form.structured:
            for row in found:
                output.print_message(row, form)
        else:
            await browsing.print_channels(client, found, user)
        return 0

    return show
