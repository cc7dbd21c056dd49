"""
Runs a command, and prints every failure as one line on standard error.

Exit codes: 0 for success, 2 for a request that must be changed, 130 after Ctrl-C, 1 for every other failure.
"""

import io
import os
import sys
from collections.abc import Sequence

import typer
from typer import completion, exceptions

from indexer_client.cli import (
    connection,
    context_commands,
    errors,
    escape,
    help_pages,
    job_commands,
    operator_commands,
    output,
)

EXIT_INTERRUPTED = 130
app = job_commands.app
operator_commands.add_to(app)
context_commands.add_to(app)


def run_process(arguments: Sequence[str]) -> int:
    """Run one command on the standard streams; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name must not fail on a terminal that cannot encode it
            stream.reconfigure(errors="backslashreplace")
    if context_commands.COMPLETE in os.environ:  # noqa: TID251 -- set by the shell's completion
        completion.completion_init()  # type: ignore[attr-defined]  # missing in its exports
    return run_command(arguments, connection.Patience())


def run_command(arguments: Sequence[str], patience: connection.Patience) -> int:
    """Run one command; returns the exit code."""
    own = list(arguments)
    ours = own[: own.index("--")] if "--" in own else own
    own[: len(ours)] = ["--output=json" if each == "--json" else each for each in ours]
    return run_app(app, "indexer", own, patience)


def run_app(app: typer.Typer, name: str, arguments: Sequence[str], context_object: object) -> int:
    """Run one command of *app*, with *context_object* as `typer.Context.obj`; returns the exit code."""
    try:
        code = help_pages.fitted(app)(args=list(arguments), prog_name=name, standalone_mode=False, obj=context_object)
    except exceptions.TyperException as mistake:
        output.print_error(_usage_error(name, mistake))
        return errors.EXIT_USAGE
    except errors.CliError as problem:
        output.print_error(f"{name}: {problem}")
        return problem.code
    except exceptions.Abort:
        return EXIT_INTERRUPTED
    return int(code or 0)


def _usage_error(name: str, mistake: exceptions.TyperException) -> str:
    context = getattr(mistake, "ctx", None)
    command = context.command_path if context else name
    text = escape.visible(mistake.format_message()).rstrip(". ")
    return f"{name}: {text}. See: {command} --help"
