"""Commands for operators, which do not call the service."""

import importlib.util
import re
import subprocess
import sys
from typing import Annotated

import typer

from indexer_client.cli import commands, errors, output, service_tokens

token = typer.Typer(
    help="Create service tokens, which authenticate callers of the API.\n\nExample: indexer token new shop --scope read"
)
keys = typer.Typer(help="Rotate the keys that encrypt stored tokens.\n\nExample: indexer keys rotate")
LONGEST_LOCAL = 30.0
"""Seconds for a command that reads this machine's environment alone; its imports take most of them."""
UNSET = "  # default"
"""End of the line of a setting that the environment does not set."""


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


def settings(*, form: commands.Form = output.Form.TABLE) -> int:
    """
    Show the service's settings, without secrets.

    They are read from this machine's environment, without calling the service. Problems are printed to standard error.

    Example: indexer settings
    """
    # A separate process, because the command line is a client and does not import the service's code.
    program = _service_program("settings")
    try:
        read = subprocess.run(program, check=False, capture_output=True, text=True, timeout=LONGEST_LOCAL)  # noqa: S603 -- no input in it
    except subprocess.TimeoutExpired as error:
        line = f"the settings could not be read within {LONGEST_LOCAL:g} s; try again: this machine is busy"
        raise errors.CliError(line) from error
    lines = read.stdout.splitlines()
    if form.structured:
        for line in lines:
            output.print_object(_setting(line), form)
    else:
        output.print_paged(lines, setting_lines)
    for problem in read.stderr.splitlines():
        output.print_error(problem)
    return read.returncode


def _setting(line: str) -> dict[str, object]:
    name, _, rest = line.partition("=")
    value = rest.removesuffix(UNSET)
    return {"name": name, "value": value, "default": value != rest}


def setting_lines(line: str, room: int) -> list[str]:
    """Return the lines of a setting that fit: a long list continues after a comma, indented."""
    parts = [part for part in re.split(r"(?<=,)", line.removesuffix(UNSET)) if part]
    parts += [UNSET] if line.endswith(UNSET) else []
    lines = parts[:1]
    for part in parts[1:]:
        if len(lines[-1] + part) <= room:
            lines[-1] += part
        else:
            lines.append(part if part == UNSET else f"  {part}")
    return lines


def _service_program(*arguments: str) -> list[str]:
    """
    Return the command that runs the service's own program.

    Raises:
        errors.CliError: Only the client is installed here.
    """
    if importlib.util.find_spec("indexer_service.__main__") is None:
        name = " ".join(arguments)
        raise errors.CliError(f"{name}: only the client is installed here; run it where the service is installed")
    return [sys.executable, "-m", "indexer_service", *arguments]


@keys.command(name="rotate")
def keys_rotate() -> int:
    """
    Encrypt all credentials with the newest key.

    The newest key is the first one of INDEXER_CREDENTIAL_KEYS. Service and workers can keep running.
    For operators: the keys and MONGODB_URL must be set in the environment. The service is not called.
    The command is idempotent: repeat it after an interruption.

    Example: indexer keys rotate
    """
    program = _service_program("keys", "rotate")
    try:
        # No timeout, because the duration grows with the number of users. Each step has the store's timeout.
        return subprocess.run(program, check=False).returncode  # noqa: S603 -- no input in it
    except KeyboardInterrupt:
        # The program was interrupted as well, and has reported it.
        return 130
