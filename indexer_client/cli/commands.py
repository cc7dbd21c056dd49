"""The commands, their options and their help."""

import asyncio
import contextlib
import dataclasses
import enum
import importlib.metadata
import pathlib
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import grpc.aio
import typer

from indexer_client.cli import (
    browsing,
    connection,
    credentials,
    erasure,
    errors,
    index_watch,
    jobs,
    limits,
    service_tokens,
    times,
    watch,
)
from indexer_service.v1 import indexer_pb2 as pb

User = Annotated[str, typer.Argument(metavar="USER", help="The user's Discord id.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]

app = typer.Typer(
    name="indexer",
    help="Command line of the Discord channel indexer: index a user's guilds, watch progress, list the results.",
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
credential = typer.Typer(help="Manage users' OAuth2 tokens.")
app.add_typer(credential, name="credential")
token = typer.Typer(help="Create service tokens, which authenticate callers of the API.")
app.add_typer(token, name="token")
keys = typer.Typer(help="Rotate the keys that encrypt stored tokens.")
app.add_typer(keys, name="keys")
File = pathlib.Path | None


@keys.callback()
def _keys() -> None:
    """Keep `rotate` a subcommand: typer drops the name of an app's only command without a callback."""


class ChannelOrder(enum.StrEnum):
    """Order of listed channels."""

    POSITION = "position"
    ACTIVITY = "activity"


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """Options shared by all commands."""

    endpoint: connection.Endpoint
    retry_policy: watch.RetryPolicy


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
    address: Annotated[
        str, typer.Option(envvar="INDEXER_ADDRESS", help="Address of the service, as host:port.")
    ] = "127.0.0.1:50051",
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
        str,
        typer.Option(envvar="INDEXER_CLIENT_TLS_NAME", help="Name in the service's certificate, if not the host."),
    ] = "",
    token_file: Annotated[
        File,
        typer.Option(
            envvar="INDEXER_CLIENT_TOKEN_FILE",
            help="File with your service token. Alternatively set INDEXER_CLIENT_TOKEN to the token.",
        ),
    ] = None,
) -> None:
    """Command line of the Discord channel indexer: index a user's guilds, watch progress, list the results."""
    if bool(tls_cert) != bool(tls_key):
        raise typer.BadParameter("--tls-cert and --tls-key must be given together", param_hint="--tls-cert")
    secure = connection.Tls(tls_ca, tls_cert, tls_key, tls_name) if tls or tls_ca or tls_cert or tls_name else None
    context.obj = Session(connection.Endpoint(address, secure, token_file), context.obj)


def call_service(context: typer.Context, call: Callable[[connection.Stub], Awaitable[int]], user: str = "USER") -> int:
    """
    Run *call* with a connected stub; returns the exit code.

    Args:
        context: Carries the Session.

        call: Makes the calls, and returns the exit code.

        user: The user's id, for the commands that an error line suggests.

    Raises:
        errors.CliError: A call failed.
    """
    session: Session = context.obj

    async def connect_and_call() -> int:
        async with connection.open_stub(session.endpoint) as stub:
            return await call(stub)

    try:
        return asyncio.run(connect_and_call())
    except grpc.aio.AioRpcError as error:
        raise errors.describe_rpc_error(error, address=str(session.endpoint), user=user) from error


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
    as_json: Json = False,
) -> int:
    """
    Index a user's guilds, the highest-ranked first.

    With --json, the first line is StartIndexing's response, and each further line a WatchProgress event.
    """
    request = jobs.start_request(user, wait=wait, force=force)
    session: Session = context.obj
    options = jobs.IndexOptions(follow=watch, as_json=as_json, retry_policy=session.retry_policy)
    return call_service(context, lambda stub: jobs.index_user(stub, request, options), user)


@app.command()
def job(
    context: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", show_default=False)],
    *,
    as_json: Json = False,
) -> int:
    """Show one job."""
    return call_service(context, lambda stub: jobs.show_job(stub, job_id, as_json=as_json))


@app.command()
def guilds(context: typer.Context, user: User, *, as_json: Json = False) -> int:
    """List a user's stored guilds, the highest-ranked first."""
    return call_service(context, lambda stub: browsing.list_guilds(stub, user, as_json=as_json), user)


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
    as_json: Json = False,
) -> int:
    """List the stored channels that a user can see."""
    request = pb.ListChannelsRequest(
        user_id=user,
        guild_id=guild,
        name_prefix=prefix,
        types=[_channel_type(name) for name in kinds or []],
        order=pb.CHANNEL_ORDER_ACTIVITY if order is ChannelOrder.ACTIVITY else pb.CHANNEL_ORDER_POSITION,
    )
    return call_service(context, lambda stub: browsing.list_channels(stub, request, as_json=as_json), user)


@app.command(name="watch")
def watch_user(context: typer.Context, user: User, *, as_json: Json = False) -> int:
    """
    Watch what a user can see: guilds and channels that are added, changed (~) and removed, until interrupted.

    With --json, each line is a WatchIndex message.
    """
    session: Session = context.obj
    policy = session.retry_policy
    return call_service(
        context, lambda stub: index_watch.watch_index(stub, user, as_json=as_json, retry_policy=policy), user
    )


@app.command()
def erase(
    context: typer.Context,
    user: User,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Skip the confirmation.")] = False,
    as_json: Json = False,
) -> int:
    """
    Delete all data of a user permanently.

    A running job of the user is cancelled. The user's tokens stay valid at
    Discord. To revoke them, run `indexer credential revoke` first.
    """
    erasure.confirm_erasure(user, sure=yes)
    return call_service(context, lambda stub: erasure.erase_user(stub, user, as_json=as_json), user)


@app.command(name="limits")
def rate_limits(
    context: typer.Context,
    users: Annotated[
        list[str] | None, typer.Option("--user", help="Also show this user's budget. May be repeated.")
    ] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every second until interrupted.")] = False,
    as_json: Json = False,
) -> int:
    """
    Show the rate-limit budgets.

    For each budget: free permits, window, time of the next free permit, and the end and reason of a pause.
    """
    return call_service(context, lambda stub: limits.show_limits(stub, users or [], watch=watch, as_json=as_json))


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
) -> int:
    """
    Store a user's OAuth2 tokens.

    Standard input holds the access token, and on an optional second line the refresh token.
    On a terminal, the command prompts for both.
    """
    wanted = credentials.put_request(user, credentials.read_tokens(), scopes=scopes or [], expires_in=expires_in)
    return call_service(context, lambda stub: credentials.put_credential(stub, wanted), user)


@credential.command(name="status")
def credential_status(context: typer.Context, user: User, *, as_json: Json = False) -> int:
    """Show the state and expiry of a user's tokens; the exit code is 1 unless they are active."""
    return call_service(context, lambda stub: credentials.show_status(stub, user, as_json=as_json), user)


@credential.command(name="revoke")
def credential_revoke(context: typer.Context, user: User, *, as_json: Json = False) -> int:
    """Delete a user's tokens, cancel their running job, and ask Discord to revoke the tokens."""
    return call_service(context, lambda stub: credentials.revoke_credential(stub, user, as_json=as_json), user)


@token.command(name="new")
def token_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the caller, such as shop.", show_default=False)],
    scopes: Annotated[
        list[service_tokens.Scope] | None, typer.Option("--scope", help="Scope of the token. May be repeated.")
    ] = None,
    rate: Annotated[str, typer.Option(help="Rate limit of this caller, as requests/seconds.")] = "100/1",
    out: Annotated[File, typer.Option(help="New file for the token, instead of standard error.")] = None,
) -> int:
    """
    Create a service token for a caller of the API.

    Standard output gets the line for INDEXER_SERVICE_TOKENS_FILE, which holds the token's hash.
    The token itself is shown once, on standard error, and cannot be recovered.
    """
    return service_tokens.create_token(name, scopes or [], rate, out)


@app.command()
def settings() -> int:
    """
    Show the service's settings, without secrets.

    They are read from this machine's environment, without calling the service. Problems are printed to standard error.
    """
    # A separate process, because the command line is a client and does not import the service's code.
    program = [sys.executable, "-m", "indexer_service", "settings"]
    return subprocess.run(program, check=False, timeout=connection.DEADLINE).returncode  # noqa: S603 -- no input in it


@keys.command(name="rotate")
def keys_rotate() -> int:
    """
    Encrypt all credentials with the newest key.

    The newest key is the first one of INDEXER_CREDENTIAL_KEYS. Service and workers can keep running.
    For operators: the keys and MONGODB_URL must be set in the environment. The service is not called.
    The command is idempotent: repeat it after an interruption.
    """
    program = [sys.executable, "-m", "indexer_service", "keys", "rotate"]
    try:
        # No timeout, because the duration grows with the number of users. Each step has the store's timeout.
        return subprocess.run(program, check=False).returncode  # noqa: S603 -- no input in it
    except KeyboardInterrupt:
        # The program was interrupted as well, and has reported it.
        return 130


def _channel_type(name: str) -> int:
    number = browsing.CHANNEL_TYPES.get(name.lower())
    if number is None and name.isascii() and name.isdecimal():
        number = int(name)
    if number is None or number >= 1 << 31:
        raise typer.BadParameter(
            f"{name!r} is not a number and none of {', '.join(browsing.CHANNEL_TYPES)}", param_hint="--type"
        )
    return number
