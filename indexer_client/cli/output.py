"""Standard output and standard error: live displays on a terminal, plain lines elsewhere; JSON and YAML."""

import enum
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TextIO

from google.protobuf import json_format, message
from rich import console, table, text

from indexer_client.cli import escape, fitting, pager

LABEL = 8
"""Columns of the names of fields: beside a job's id, 40 columns are enough."""
GAP = 2
"""Columns between two columns of a table."""


class Form(enum.StrEnum):
    """What a command prints."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"

    @property
    def structured(self) -> bool:
        """Whether messages are printed with all fields, for programs."""
        return self is not Form.TABLE


def make_console(stream: TextIO) -> console.Console:
    """
    Return a console for *stream*, with colors only if it is a terminal.

    Printed text is never parsed as markup, and no environment variable makes a file count as a terminal. NO_COLOR turns
    colors off (no-color.org).
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
    _write(sys.stdout, escape.visible(words))


def print_sentence(words: str, *, indent: int = 0) -> None:
    """Write one line to standard output as `print_line` does; a terminal's are wrapped between words, and indented."""
    _write(sys.stdout, *_fitted(escape.visible(words), sys.stdout, indent=indent))


def print_paged(lines: Sequence[str], fit: Callable[[str, int], Iterable[str]]) -> None:
    """Write lines; on a terminal those that *fit* makes of each for its columns, through the pager if they are many."""
    lines = [escape.visible(line) for line in lines]
    if not sys.stdout.isatty():
        _write(sys.stdout, *lines)
        return
    to = make_console(sys.stdout)
    fitted = [part for line in lines for part in fit(line, to.width)]
    with pager.paging(to, lines=len(fitted)):
        for part in fitted:
            to.print(text.Text(part), soft_wrap=True)


def print_error(words: str) -> None:
    """Write one line to standard error, with control characters escaped, and flush; wrapped as by `print_sentence`."""
    _write(sys.stderr, *_fitted(escape.visible(words), sys.stderr))


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Write names and values to standard output, one a line; a long value continues below itself on a terminal."""
    for name, value in fields:
        label = name.ljust(LABEL)
        first, *rest = _fitted(escape.visible(value), sys.stdout, used=LABEL) or [""]
        _write(sys.stdout, label + first, *(" " * LABEL + line for line in rest))


def _write(stream: TextIO, *lines: str) -> None:
    stream.writelines(f"{line}\n" for line in lines)
    stream.flush()


def _fitted(words: str, stream: TextIO, *, used: int = 0, indent: int = 0) -> list[str]:
    """Return the lines of a text that is longer than the terminal is wide; elsewhere one line."""
    return fitting.wrap(words, make_console(stream).width - used, indent=indent) if stream.isatty() else [words]


def print_message(row: message.Message, form: Form) -> None:
    """Write a message as one line of ASCII JSON, or as a YAML document."""
    print_object(
        json_format.MessageToDict(row, preserving_proto_field_name=True, always_print_fields_with_no_presence=True),
        form,
    )


def print_object(fields: dict[str, Any], form: Form) -> None:
    """Write names and values as `print_message` does."""
    if form is Form.YAML:
        print_line("---")
        for line in _yaml_lines(fields, ""):
            print_line(line)
    else:
        print_line(_scalar(fields))


def _yaml_lines(fields: dict[str, Any], indent: str) -> Iterator[str]:
    """Yield the lines of a mapping in block style. Scalars are those of JSON, which YAML 1.2 contains."""
    for name, value in fields.items():
        key = name if name.isidentifier() else _scalar(name)
        if isinstance(value, dict) and value:
            yield f"{indent}{key}:"
            yield from _yaml_lines(value, indent + "  ")
        elif isinstance(value, list) and value:
            yield f"{indent}{key}:"
            for each in value:
                if isinstance(each, dict) and each:
                    first, *rest = _yaml_lines(each, indent + "  ")
                    yield f"{indent}- {first.removeprefix(indent + '  ')}"
                    yield from rest
                else:
                    yield f"{indent}- {_scalar(each)}"
        else:
            yield f"{indent}{key}: {_scalar(value)}"


def _scalar(value: object) -> str:
    return json.dumps(value).replace("\x7f", "\\u007f")  # the only ASCII control that JSON does not escape


def print_table(headings: Sequence[str], cells: Iterable[Sequence[str]], *, empty: str = "") -> None:
    """
    Write a table: aligned on a terminal, through the pager if it is longer; tab-separated without headings elsewhere.

    A table without rows is the line *empty* on standard error, so that a program still reads nothing.

    The prefix `>` of a heading right-aligns its column, `~` allows it to be cut when there is no room, and `?` to be
    left out on a narrow terminal, the last such column first. Columns without `~` hold ids and times, which are never
    cut: where even these have no room, or the only row would lose a column, rows take several lines, without headings.
    """
    cells = [tuple(map(escape.visible, row)) for row in cells]
    if not cells and empty:
        print_error(empty)
        return
    to = make_console(sys.stdout)
    if not to.is_terminal:
        for row in cells:
            sys.stdout.write("\t".join(row) + "\n")
        sys.stdout.flush()
        return
    kept, fits = _fitting(headings, cells, to.width)
    if not fits or (len(cells) == 1 and len(kept) < len(headings)):
        lines = [line for row in cells for line in _stacked(row, to.width)]
        with pager.paging(to, lines=len(lines)):
            for line in lines:
                to.print(text.Text(fitting.cut_in_the_middle(line, to.width), no_wrap=True))
        return
    drawn = table.Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold dim")
    for number in kept:
        heading = headings[number]
        drawn.add_column(
            heading.lstrip(">~?"),
            justify="right" if ">" in heading else "left",
            no_wrap="~" not in heading,
            min_width=min(fitting.LEAST_NAME, _width(number, headings, cells)) if "~" in heading else None,
        )
    for row in cells:
        drawn.add_row(*(fitting.Cut(row[n]) if "~" in headings[n] else text.Text(row[n], no_wrap=True) for n in kept))
    with pager.paging(to, lines=len(cells) + 1):
        to.print(drawn)


def _fitting(headings: Sequence[str], cells: Sequence[Sequence[str]], room: int) -> tuple[list[int], bool]:
    """Return the numbers of the columns that have room, and whether all of them have."""
    kept = list(range(len(headings)))
    while True:
        widths = [_width(number, headings, cells) for number in kept]
        least = sum(
            min(fitting.LEAST_NAME, width) if "~" in headings[number] else width
            for number, width in zip(kept, widths, strict=True)
        )
        dispensable = [number for number in kept if "?" in headings[number]]
        fits = least + GAP * (len(kept) - 1) <= room
        if fits or not dispensable:
            return kept, fits
        kept.remove(dispensable[-1])


def _stacked(row: Sequence[str], room: int) -> list[str]:
    """Return a row as its first cell and, below it, indented, as many cells a line as fit."""
    lines = [row[0]]
    for cell in filter(None, row[1:]):
        longer = f"{lines[-1]}{' ' * GAP}{cell}"
        if len(lines) > 1 and text.Text(longer).cell_len <= room:
            lines[-1] = longer
        else:
            lines.append(f"{' ' * GAP}{cell}")
    return lines


def _width(number: int, headings: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    return max(text.Text(word).cell_len for word in (headings[number].lstrip(">~?"), *(row[number] for row in cells)))
