"""
Runs a command and turns whatever fails into one line on standard error.

Exit codes: 0, 2 when the caller has to change what he asks for, 130 after Ctrl-C, 1 for all else.
"""

import io
import sys
from collections.abc import Sequence

import typer
from typer import exceptions

from indexer_client.cli import commands, errors, escape, output, watch

INTERRUPTED = 130


def run_process(arguments: Sequence[str]) -> int:
    """Run one command on the standard streams; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name must not fail on a terminal that cannot show it
            stream.reconfigure(errors="backslashreplace")
    return run(arguments, watch.Patience())


def run(arguments: Sequence[str], patience: watch.Patience) -> int:
    """Run one command; returns the exit code. *patience* bounds how often a broken watch is taken up again."""
    return run_app(commands.app, "indexer", arguments, patience)


def run_app(app: typer.Typer, name: str, arguments: Sequence[str], given: object) -> int:
    """Run one command of *app*, with *given* as the object of its context; returns the exit code."""
    try:
        code = app(args=list(arguments), prog_name=name, standalone_mode=False, obj=given)
    except exceptions.TyperException as mistake:
        output.warn(_usage(name, mistake))
        return errors.USAGE
    except errors.Problem as problem:
        output.warn(f"{name}: {problem}")
        return problem.code
    except exceptions.Abort:
        return INTERRUPTED
    return int(code or 0)


def _usage(name: str, mistake: exceptions.TyperException) -> str:
    context = getattr(mistake, "ctx", None)
    command = context.command_path if context else name
    text = escape.visible(mistake.format_message()).rstrip(". ")
    return f"{name}: {text}. See: {command} --help"
