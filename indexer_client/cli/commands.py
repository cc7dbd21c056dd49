"""The commands, their options and their help."""

import asyncio
import contextlib
import dataclasses
import enum
import importlib.metadata
import pathlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

import typer

from indexer_client import errors as client_errors
from indexer_client import options as client_options
from indexer_client.cli import (
    browsing,
    connection,
    contexts,
    credentials,
    erasure,
    errors,
    index_watch,
    jobs,
    limits,
    output,
    times,
)
from indexer_service.v1 import indexer_pb2 as pb

User = Annotated[str, typer.Argument(metavar="USER", help="The user's Discord id.", show_default=False)]
Form = Annotated[
    output.Form,
    typer.Option(
        "--output", "-o", help="What to print: a table for people, or messages as JSON (also --json) or YAML."
    ),
]

app = typer.Typer(
    name="indexer",
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
credential = typer.Typer(help="Manage users' OAuth2 tokens.\n\nExample: indexer credential status 806171784905752576")
app.add_typer(credential, name="credential")
File = pathlib.Path | None


class ChannelOrder(enum.StrEnum):
    """Order of listed channels."""

    POSITION = "position"
    ACTIVITY = "activity"


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """
    Options shared by all commands.

    Attributes:
        given: The fields of a context that options or environment variables set; they come before those of the context.
        context: Name of the context; empty for the one in use.
    """

    given: Mapping[str, str | bool]
    context: str
    patience: connection.Patience

    def endpoint(self) -> connection.Endpoint:
        """
        Return how the service is reached.

        Raises:
            errors.CliError: There is no such context.
        """
        found = dataclasses.replace(contexts.find(self.context), **self.given)  # type: ignore[arg-type]  # by name
        if bool(found.tls_cert) != bool(found.tls_key):
            raise errors.CliError("--tls-cert: --tls-cert and --tls-key must be given together", errors.EXIT_USAGE)
        ca, cert, key, token = (
            pathlib.Path(file) if file else None
            for file in (found.tls_ca, found.tls_cert, found.tls_key, found.token_file)
        )
        tls = client_options.Tls(ca, cert, key, found.tls_name) if found.secure else None
        return connection.Endpoint(found.address, tls, token)


def print_version(wanted: bool) -> None:  # noqa: FBT001 -- typer's callback
    """Print the version, and end the command."""
    if not wanted:
        return
    for name in ("discord-channel-indexer", "discord-channel-indexer-client"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            typer.echo(f"indexer {importlib.metadata.version(name)}")
            break
    raise typer.Exit


@app.callback()
def configure(  # noqa: PLR0913 -- one parameter an option
    context: typer.Context,
    name: Annotated[
        str, typer.Option("--context", envvar="INDEXER_CONTEXT", help="Name of a stored context; see: indexer context.")
    ] = "",
    address: Annotated[
        str | None,
        typer.Option(envvar="INDEXER_ADDRESS", help=f"Address as host:port; {contexts.DEFAULT_ADDRESS} by default."),
    ] = None,
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    tls: Annotated[
        bool,
        typer.Option("--tls", envvar="INDEXER_CLIENT_TLS", help="Connect over TLS; the other --tls options imply it."),
    ] = False,
    tls_ca: Annotated[
        File,
        typer.Option(envvar="INDEXER_CLIENT_TLS_CA", help="File with the CA that signed the service's certificate."),
    ] = None,
    tls_cert: Annotated[
        File, typer.Option(envvar="INDEXER_CLIENT_TLS_CERT", help="File with a client certificate, for mTLS.")
    ] = None,
    tls_key: Annotated[
        File, typer.Option(envvar="INDEXER_CLIENT_TLS_KEY", help="File with the client certificate's key.")
    ] = None,
    tls_name: Annotated[
        str | None,
        typer.Option(envvar="INDEXER_CLIENT_TLS_NAME", help="Name in the service's certificate, if not the host."),
    ] = None,
    token_file: Annotated[
        File,
        typer.Option(
            envvar="INDEXER_CLIENT_TOKEN_FILE",
            help="File with your service token. Alternatively set INDEXER_CLIENT_TOKEN to the token.",
        ),
    ] = None,
) -> None:
    """
    Command line of the Discord channel indexer: index a user's guilds, watch progress, list the results.

    Example: indexer index 806171784905752576

    Exit codes: 0 success, 1 failure, 2 a request that must be changed, 130 after Ctrl-C.
    Long tables go through PAGER on a terminal. NO_COLOR turns colors off.
    """
    files = {"tls_ca": tls_ca, "tls_cert": tls_cert, "tls_key": tls_key, "token_file": token_file}
    given: dict[str, str | bool] = {field: str(file.absolute()) for field, file in files.items() if file is not None}
    texts = {"address": address, "tls_name": tls_name}
    given |= {field: text for field, text in texts.items() if text is not None}
    given |= {"tls": True} if tls else {}
    context.obj = Session(given, name, context.obj)


def call_service(
    context: typer.Context, call: Callable[[connection.Client], Awaitable[int]], user: str = "USER"
) -> int:
    """
    Run *call* with a client; returns the exit code.

    Args:
        context: Carries the Session.

        call: Makes the calls, and returns the exit code.

        user: The user's id, for the commands that an error line suggests.

    Raises:
        errors.CliError: A call failed.
    """
    session: Session = context.obj
    endpoint = session.endpoint()

    async def connect_and_call() -> int:
        async with connection.open_client(endpoint, session.patience) as client:
            return await call(client)

    try:
        return asyncio.run(connect_and_call())
    except client_errors.ClientError as error:
        raise errors.describe(error, address=str(endpoint), user=user) from error


@app.command()
def index(  # noqa: PLR0913 -- one parameter an option
    context: typer.Context,
    user: User,
    *,
    watch: Annotated[bool, typer.Option(help="Show progress until the job ends.")] = True,
    wait: Annotated[
        float | None,
        typer.Option(min=0, max=10, help="Seconds to wait for the first guilds; the service's default is 2."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch guilds again even if they are fresh.")] = False,
    form: Form = output.Form.TABLE,
) -> int:
    """
    Index a user's guilds, the highest-ranked first.

    With --json, the first line is StartIndexing's response, and each further line a WatchProgress event.
    Ctrl-C leaves the job running.

    Example: indexer index 806171784905752576
    """
    request = jobs.start_request(user, wait=wait, force=force)
    options = jobs.IndexOptions(follow=watch, form=form)
    return call_service(context, lambda client: jobs.index_user(client, request, options), user)


@app.command()
def job(
    context: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", show_default=False)],
    *,
    form: Form = output.Form.TABLE,
) -> int:
    """
    Show one job.

    Example: indexer job 0123456789abcdef0123456789abcdef
    """
    return call_service(context, lambda client: jobs.show_job(client, job_id, form=form))


@app.command()
def guilds(context: typer.Context, user: User, *, form: Form = output.Form.TABLE) -> int:
    """
    List a user's stored guilds, the highest-ranked first.

    Example: indexer guilds 806171784905752576
    """
    return call_service(context, lambda client: browsing.list_guilds(client, user, form=form), user)


@app.command()
def channels(  # noqa: PLR0913 -- one parameter an option
    context: typer.Context,
    user: User,
    guild: Annotated[str, typer.Argument(metavar="[GUILD]", help="Only this guild.", show_default=False)] = "",
    *,
    prefix: Annotated[str, typer.Option(help="Only names with this prefix, ignoring case.")] = "",
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--type", help=f"Only this type: {', '.join(browsing.CHANNEL_TYPES)}, or its number. May be repeated."
        ),
    ] = None,
    order: Annotated[
        ChannelOrder, typer.Option(help="Discord's order, or newest message first.")
    ] = ChannelOrder.POSITION,
    form: Form = output.Form.TABLE,
) -> int:
    """
    List the stored channels that a user can see.

    Example: indexer channels 806171784905752576 --type text --type forum --order activity
    """
    wanted = {
        "guild_id": guild,
        "name_prefix": prefix,
        "types": [_channel_type(name) for name in kinds or []],
        "order": pb.CHANNEL_ORDER_ACTIVITY if order is ChannelOrder.ACTIVITY else pb.CHANNEL_ORDER_POSITION,
    }
    return call_service(context, lambda client: browsing.list_channels(client, user, wanted, form=form), user)


@app.command(name="watch")
def watch_user(context: typer.Context, user: User, *, form: Form = output.Form.TABLE) -> int:
    """
    Watch what a user can see: guilds and channels that are added, changed (~) and removed, until interrupted.

    With --json, each line is a WatchIndex message.

    Example: indexer watch 806171784905752576
    """
    return call_service(context, lambda client: index_watch.watch_index(client, user, form=form), user)


@app.command()
def erase(
    context: typer.Context,
    user: User,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Skip the confirmation.")] = False,
    form: Form = output.Form.TABLE,
) -> int:
    """
    Delete all data of a user permanently.

    A running job of the user is cancelled. The user's tokens stay valid at
    Discord. To revoke them, run `indexer credential revoke` first.

    Example: indexer erase 806171784905752576
    """
    erasure.confirm_erasure(user, sure=yes)
    return call_service(context, lambda client: erasure.erase_user(client, user, form=form), user)


@app.command(name="limits")
def rate_limits(
    context: typer.Context,
    users: Annotated[
        list[str] | None, typer.Option("--user", help="Also show this user's budget. May be repeated.")
    ] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every second until interrupted.")] = False,
    form: Form = output.Form.TABLE,
) -> int:
    """
    Show the rate-limit budgets.

    For each budget: free permits, window, time of the next free permit, and the end and reason of a pause.

    Example: indexer limits --user 806171784905752576 --watch
    """
    return call_service(context, lambda client: limits.show_limits(client, users or [], watch=watch, form=form))


@credential.command(name="put")
def credential_put(
    context: typer.Context,
    user: User,
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", help="A granted OAuth2 scope, such as guilds. May be repeated.")
    ] = None,
    expires_in: Annotated[
        float | None, typer.Option(min=0, max=times.CENTURY, help="Seconds until the access token expires.")
    ] = None,
    *,
    form: Form = output.Form.TABLE,
) -> int:
    """
    Store a user's OAuth2 tokens.

    Standard input holds the access token, and on an optional second line the refresh token.
    On a terminal, the command prompts for both.

    Example: indexer credential put 806171784905752576 --scope identify --scope guilds
    """
    wanted = credentials.put_request(user, credentials.read_tokens(), scopes=scopes or [], expires_in=expires_in)
    return call_service(context, lambda client: credentials.put_credential(client, wanted, form=form), user)


@credential.command(name="status")
def credential_status(context: typer.Context, user: User, *, form: Form = output.Form.TABLE) -> int:
    """
    Show the state and expiry of a user's tokens; the exit code is 1 unless they are active.

    Example: indexer credential status 806171784905752576
    """
    return call_service(context, lambda client: credentials.show_status(client, user, form=form), user)


@credential.command(name="revoke")
def credential_revoke(context: typer.Context, user: User, *, form: Form = output.Form.TABLE) -> int:
    """
    Delete a user's tokens, cancel their running job, and ask Discord to revoke the tokens.

    Example: indexer credential revoke 806171784905752576
    """
    return call_service(context, lambda client: credentials.revoke_credential(client, user, form=form), user)


def _channel_type(name: str) -> int:
    number = browsing.CHANNEL_TYPES.get(name.lower())
    if number is None and name.isascii() and name.isdecimal():
        number = int(name)
    if number is None or number >= 1 << 31:
        raise typer.BadParameter(
            f"{name!r} is not a number and none of {', '.join(browsing.CHANNEL_TYPES)}", param_hint="--type"
        )
    return number
