"""Standard output and standard error: live displays on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from google.protobuf import json_format, message
from rich import console, table, text

from indexer_client.cli import escape


def make_console(stream: TextIO) -> console.Console:
    """
    Return a console for *stream*, with colors only if it is a terminal.

    Printed text is never parsed as markup, and no environment variable makes a file count as a terminal.
    """
    terminal = stream.isatty()
    return console.Console(
        file=stream,
        force_terminal=terminal,
        color_system="auto" if terminal else None,
        markup=False,
        emoji=False,
        highlight=False,
    )


def supports_live_display(screen: console.Console) -> bool:
    """Return whether the terminal can redraw a display in place."""
    return screen.is_terminal and not screen.is_dumb_terminal


def print_line(words: str) -> None:
    """Write one line to standard output, with control characters escaped, and flush."""
    sys.stdout.write(escape.visible(words) + "\n")
    sys.stdout.flush()


def print_error(words: str) -> None:
    """Write one line to standard error, with control characters escaped, and flush."""
    sys.stderr.write(escape.visible(words) + "\n")
    sys.stderr.flush()


def print_json(row: message.Message) -> None:
    """Write a message as one line of ASCII JSON."""
    written = json_format.MessageToJson(
        row, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
    )
    print_line(written.replace("\x7f", "\\u007f"))  # the only ASCII control that JSON does not escape


def print_table(headings: Sequence[str], cells: Iterable[Sequence[str]], *, empty: str = "") -> None:
    """
    Write a table: aligned on a terminal, tab-separated without headings elsewhere.

    A table without rows is the line *empty* on standard error, so that a program still reads nothing.

    The prefix `>` of a heading right-aligns its column. The prefix `~` allows the column to be cut when there is no
    room. Columns without it hold ids, which are never cut.
    """
    cells = list(cells)
    if not cells and empty:
        print_error(empty)
        return
    to = make_console(sys.stdout)
    if not to.is_terminal:
        for row in cells:
            sys.stdout.write("\t".join(map(escape.visible, row)) + "\n")
        sys.stdout.flush()
        return
    drawn = table.Table(box=None, pad_edge=False, header_style="bold dim")
    for heading in headings:
        drawn.add_column(
            heading.lstrip(">~"),
            justify="right" if heading.startswith(">") else "left",
            no_wrap=not heading.startswith("~"),
        )
    for row in cells:
        drawn.add_row(*(text.Text(escape.visible(cell), no_wrap=True, overflow="ellipsis") for cell in row))
    to.print(drawn)
