"""The commands, their options and their help."""

import asyncio
import dataclasses
import enum
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
    jobs,
    limits,
    service_tokens,
    times,
    watch,
)
from indexer_service.v1 import indexer_pb2 as pb

User = Annotated[str, typer.Argument(metavar="USER", help="The user's Discord id.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line and nothing else.")]

app = typer.Typer(
    name="indexer",
    help="Ask the Discord channel indexer: index a user's guilds, watch it happen, list what is there.",
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
credential = typer.Typer(help="The OAuth2 tokens with which a user's guilds are listed.")
app.add_typer(credential, name="credential")
token = typer.Typer(help="The tokens with which callers get into the service.")
app.add_typer(token, name="token")
keys = typer.Typer(help="The keys that seal stored tokens.")
app.add_typer(keys, name="keys")
File = pathlib.Path | None


@keys.callback()
def _keys() -> None:
    """Do what operators do to the keys that seal stored tokens."""


class ChannelOrder(enum.StrEnum):
    """IndexOptions channels can be ordered."""

    POSITION = "position"
    ACTIVITY = "activity"


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """What all commands share."""

    endpoint: connection.Endpoint
    retry_policy: watch.RetryPolicy


@app.callback()
def configure(  # noqa: PLR0913 -- one parameter an option
    context: typer.Context,
    address: Annotated[
        str, typer.Option(envvar="INDEXER_ADDRESS", help="The service, as host:port.")
    ] = "127.0.0.1:50051",
    *,
    tls: Annotated[
        bool, typer.Option("--tls", envvar="INDEXER_CLIENT_TLS", help="Connect over TLS; the options below do as well.")
    ] = False,
    tls_ca: Annotated[
        File, typer.Option(envvar="INDEXER_CLIENT_TLS_CA", help="File with the authority of the service's certificate.")
    ] = None,
    tls_cert: Annotated[
        File, typer.Option(envvar="INDEXER_CLIENT_TLS_CERT", help="File with a certificate of your own, for mTLS.")
    ] = None,
    tls_key: Annotated[
        File, typer.Option(envvar="INDEXER_CLIENT_TLS_KEY", help="File with the key of your certificate.")
    ] = None,
    tls_name: Annotated[
        str,
        typer.Option(envvar="INDEXER_CLIENT_TLS_NAME", help="Name in the service's certificate, if not the address's."),
    ] = "",
    token_file: Annotated[
        File,
        typer.Option(
            envvar="INDEXER_CLIENT_TOKEN_FILE",
            help="File with your service token; or put the token itself into INDEXER_CLIENT_TOKEN.",
        ),
    ] = None,
) -> None:
    """Ask the Discord channel indexer: index a user's guilds, watch it happen, list what is there."""
    if bool(tls_cert) != bool(tls_key):
        raise typer.BadParameter("needs the other one of --tls-cert and --tls-key", param_hint="--tls-cert")
    secure = connection.Tls(tls_ca, tls_cert, tls_key, tls_name) if tls or tls_ca or tls_cert or tls_name else None
    context.obj = Session(connection.Endpoint(address, secure, token_file), context.obj)


def call_service(context: typer.Context, call: Callable[[connection.Stub], Awaitable[int]], user: str = "USER") -> int:
    """
    Run *work* with a connection; returns the exit code.

    Raises:
        errors.CliError: The server is away or refuses.
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
    watch: Annotated[bool, typer.Option(help="Show the job until it ends.")] = True,
    wait: Annotated[
        float | None,
        typer.Option(min=0, max=10, help="Seconds the first answer may take; the server's default is 2."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch again even what is fresh.")] = False,
    as_json: Json = False,
) -> int:
    """
    Index a user's guilds, the most important first.

    With --json the first line is the answer of StartIndexing, each further one a message of WatchProgress.
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
    """List a user's guilds as stored, the most important first."""
    return call_service(context, lambda stub: browsing.list_guilds(stub, user, as_json=as_json), user)


@app.command()
def channels(  # noqa: PLR0913 -- one parameter an option
    context: typer.Context,
    user: User,
    guild: Annotated[str, typer.Argument(metavar="[GUILD]", help="Only this guild.", show_default=False)] = "",
    *,
    prefix: Annotated[str, typer.Option(help="Only names that begin so, ignoring case.")] = "",
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--type", help=f"Only this type: {', '.join(browsing.CHANNEL_TYPES)}, or its number. May be repeated."
        ),
    ] = None,
    order: Annotated[
        ChannelOrder, typer.Option(help="As Discord shows them, or by newest message.")
    ] = ChannelOrder.POSITION,
    as_json: Json = False,
) -> int:
    """List the channels that a user may see, as stored."""
    request = pb.ListChannelsRequest(
        user_id=user,
        guild_id=guild,
        name_prefix=prefix,
        types=[_channel_type(name) for name in kinds or []],
        order=pb.CHANNEL_ORDER_ACTIVITY if order is ChannelOrder.ACTIVITY else pb.CHANNEL_ORDER_POSITION,
    )
    return call_service(context, lambda stub: browsing.list_channels(stub, request, as_json=as_json), user)


@app.command()
def erase(
    context: typer.Context,
    user: User,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
    as_json: Json = False,
) -> int:
    """
    Erase everything that is known of a user, for good; his running job ends.

    The tokens still work at Discord: revoke them first with `indexer credential revoke`.
    """
    erasure.confirm_erasure(user, sure=yes)
    return call_service(context, lambda stub: erasure.erase_user(stub, user, as_json=as_json), user)


@app.command(name="limits")
def rate_limits(
    context: typer.Context,
    users: Annotated[
        list[str] | None, typer.Option("--user", help="Also this user's own budget. May be repeated.")
    ] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Ask again every second, until interrupted.")] = False,
    as_json: Json = False,
) -> int:
    """Show the rate-limit budgets: what is free, when the next call is, what is paused and why."""
    return call_service(context, lambda stub: limits.show_limits(stub, users or [], watch=watch, as_json=as_json))


@credential.command(name="put")
def credential_put(
    context: typer.Context,
    user: User,
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", help="A granted scope, such as guilds. May be repeated.")
    ] = None,
    expires_in: Annotated[
        float | None, typer.Option(min=0, max=times.CENTURY, help="Seconds until the access token expires.")
    ] = None,
) -> int:
    """
    Store a user's OAuth2 tokens.

    The access token is read from standard input, or asked for if that is a terminal.
    A second line, if there is one, is the refresh token.
    """
    wanted = credentials.put_request(user, credentials.read_tokens(), scopes=scopes or [], expires_in=expires_in)
    return call_service(context, lambda stub: credentials.put_credential(stub, wanted), user)


@credential.command(name="status")
def credential_status(context: typer.Context, user: User, *, as_json: Json = False) -> int:
    """Show whether a user's tokens can be used, and until when; exits with 1 when they cannot."""
    return call_service(context, lambda stub: credentials.show_status(stub, user, as_json=as_json), user)


@credential.command(name="revoke")
def credential_revoke(context: typer.Context, user: User, *, as_json: Json = False) -> int:
    """Forget a user's tokens, end his running job, and ask Discord to revoke them."""
    return call_service(context, lambda stub: credentials.revoke_credential(stub, user, as_json=as_json), user)


@token.command(name="new")
def token_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, such as shop.", show_default=False)],
    scopes: Annotated[
        list[service_tokens.Scope] | None, typer.Option("--scope", help="What it opens. May be repeated.")
    ] = None,
    rate: Annotated[str, typer.Option(help="Requests of this caller, as requests/seconds.")] = "100/1",
    out: Annotated[File, typer.Option(help="New file for the token, in place of standard error.")] = None,
) -> int:
    """
    Make a token for a caller of the service.

    Standard output has the line for INDEXER_SERVICE_TOKENS_FILE, which holds the token's hash.
    The token itself is shown once, on standard error; nobody can find it out again.
    """
    return service_tokens.create_token(name, scopes or [], rate, out)


@app.command()
def settings() -> int:
    """
    Show the settings that the service would have if it were started here, secrets left out.

    They come from this machine's environment; nothing is asked of any server. Problems stand on standard error.
    """
    # The service's own program prints them: the command line is a client and knows none of the service's code.
    program = [sys.executable, "-m", "indexer_service", "settings"]
    return subprocess.run(program, check=False, timeout=connection.DEADLINE).returncode  # noqa: S603 -- no input in it


@keys.command(name="rotate")
def keys_rotate() -> int:
    """
    Seal every stored credential anew with the first of INDEXER_CREDENTIAL_KEYS, while all else runs.

    For operators: it needs the keys and MONGODB_URL in this machine's environment, and asks no server of ours.
    It may be stopped at any time; started again it goes on with what is left.
    """
    program = [sys.executable, "-m", "indexer_service", "keys", "rotate"]
    try:
        # No bound on the whole, which grows with the users: each of its steps has the store's own.
        return subprocess.run(program, check=False).returncode  # noqa: S603 -- no input in it
    except KeyboardInterrupt:
        # The program was interrupted as well, and has said so.
        return 130


def _channel_type(name: str) -> int:
    number = browsing.CHANNEL_TYPES.get(name.lower())
    if number is None and name.isascii() and name.isdecimal():
        number = int(name)
    if number is None or number >= 1 << 31:
        raise typer.BadParameter(
            f"{name!r} is none of {', '.join(browsing.CHANNEL_TYPES)}, and no number", param_hint="--type"
        )
    return number
