"""Text in few columns: wrapped between words, names cut in their middle, and commands that can still be copied."""

import itertools
import re
import textwrap
from collections.abc import Iterator

from rich import cells, console, measure
from rich import text as rich_text

COMMAND = re.compile(r": (indexer [^;]+)$")
"""A command that a line suggests at its end."""
INDENT = 2
"""Columns before a suggested command, and again before its further lines."""
LEAST_NAME = 10
"""Columns of the terminal that a column of names keeps before others are left out."""


def cut_in_the_middle(words: str, width: int, *, end_share: float = 0.5) -> str:
    """Return a text of at most *width* columns: its beginning and its end, which takes *end_share* of the columns."""
    if cells.cell_len(words) <= width:
        return words
    end = int((width - 1) * end_share)
    return f"{_fit_start(words, width - 1 - end)}…{_fit_start(words[::-1], end)[::-1]}"


def _fit_start(words: str, room: int) -> str:
    used = itertools.accumulate(map(cells.cell_len, words))
    return words[: sum(1 for width in used if width <= room)]


class Cut:
    """A text for a cell of a table that is cut in its middle when the column is narrower."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __rich_measure__(self, _screen: console.Console, options: console.ConsoleOptions) -> measure.Measurement:
        """Return the least and the greatest number of columns."""
        width = cells.cell_len(self._words)
        return measure.Measurement(min(LEAST_NAME, width), width).with_maximum(options.max_width)

    def __rich_console__(self, _screen: console.Console, options: console.ConsoleOptions) -> console.RenderResult:
        """Yield the text as it fits."""
        yield rich_text.Text(cut_in_the_middle(self._words, options.max_width), no_wrap=True)


def wrap(words: str, room: int, *, indent: int = 0) -> list[str]:
    """
    Return the lines of a text that is longer than *room* columns.

    No word is broken. A command at the end has lines of its own, which can be copied together. Further lines are
    indented by *indent*.
    """
    if cells.cell_len(words) <= room:
        return [words]
    text_before, command = words, ""
    if found := COMMAND.search(words):
        text_before, command = words[: found.start(1)], found[1]
    further = " " * indent
    lines = textwrap.wrap(text_before, room, break_long_words=False, break_on_hyphens=False, subsequent_indent=further)
    return [*lines, *command_lines(command, room)]


def command_lines(command: str, room: int) -> Iterator[str]:
    r"""Yield the lines of a command, each but the last with a `\` at its end, as a shell reads them."""
    first, *words = command.split() or [""]
    line = " " * INDENT + first
    for number, word in enumerate(words, 1):
        mark = "" if number == len(words) else " \\"
        if len(f"{line} {word}{mark}") <= room:
            line = f"{line} {word}"
        else:
            yield f"{line} \\"
            line = " " * 2 * INDENT + word
    if first:
        yield line
