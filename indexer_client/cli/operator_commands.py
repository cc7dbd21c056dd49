"""Commands for operators, which do not call the service."""

import subprocess
import sys
from typing import Annotated

import typer

from indexer_client.cli import commands, service_tokens

token = typer.Typer(help="Create service tokens, which authenticate callers of the API.")
keys = typer.Typer(help="Rotate the keys that encrypt stored tokens.")
LONGEST_LOCAL = 10.0
"""Seconds for a command that reads this machine's environment alone."""


def add_to(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(token, name="token")
    app.add_typer(keys, name="keys")
    app.command(name="settings")(settings)


@keys.callback()
def _keys() -> None:
    """Keep `rotate` a subcommand: typer drops the name of an app's only command without a callback."""


@token.command(name="new")
def token_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the caller, such as shop.", show_default=False)],
    scopes: Annotated[
        list[service_tokens.Scope] | None, typer.Option("--scope", help="Scope of the token. May be repeated.")
    ] = None,
    rate: Annotated[str, typer.Option(help="Rate limit of this caller, as requests/seconds.")] = "100/1",
    out: Annotated[commands.File, typer.Option(help="New file for the token, instead of standard error.")] = None,
) -> int:
    """
    Create a service token for a caller of the API.

    Standard output gets the line for INDEXER_SERVICE_TOKENS_FILE, which holds the token's hash.
    The token itself is shown once, on standard error, and cannot be recovered.

    Example: indexer token new shop --scope index --scope read --out shop.token >> tokens
    """
    return service_tokens.create_token(name, scopes or [], rate, out)


def settings() -> int:
    """
    Show the service's settings, without secrets.

    They are read from this machine's environment, without calling the service. Problems are printed to standard error.

    Example: indexer settings
    """
    # A separate process, because the command line is a client and does not import the service's code.
    program = [sys.executable, "-m", "indexer_service", "settings"]
    return subprocess.run(program, check=False, timeout=LONGEST_LOCAL).returncode  # noqa: S603 -- no input in it


@keys.command(name="rotate")
def keys_rotate() -> int:
    """
    Encrypt all credentials with the newest key.

    The newest key is the first one of INDEXER_CREDENTIAL_KEYS. Service and workers can keep running.
    For operators: the keys and MONGODB_URL must be set in the environment. The service is not called.
    The command is idempotent: repeat it after an interruption.

    Example: indexer keys rotate
    """
    program = [sys.executable, "-m", "indexer_service", "keys", "rotate"]
    try:
        # No timeout, because the duration grows with the number of users. Each step has the store's timeout.
        return subprocess.run(program, check=False).returncode  # noqa: S603 -- no input in it
    except KeyboardInterrupt:
        # The program was interrupted as well, and has reported it.
        return 130
