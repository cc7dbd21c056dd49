"""Help that fits a narrow terminal: there, an option or a command stands above its text."""

import shutil
from collections.abc import Iterable
from typing import Any

import typer
from typer import main as typer_main

from indexer_client.cli import fitting

NARROW = 60
"""Columns below which two columns of help do not fit."""
WIDEST = 80
FORMATTER: Any = typer.Context.formatter_class


class _Formatter(FORMATTER):  # type: ignore[misc]  # typer does not export the class
    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        columns = min(shutil.get_terminal_size().columns, WIDEST) - 2
        super().__init__(indent_increment, width or columns, max_width)

    def write_text(self, text: str) -> None:
        """Write paragraphs; an example that is longer than a line as a command that can be copied."""
        for number, paragraph in enumerate(text.split("\n\n")):
            self.write("\n" if number else "")
            label, mark, command = paragraph.partition("Example: ")
            if label or not mark or len(paragraph) + self.current_indent <= self.width:
                super().write_text(paragraph)
                continue
            super().write_text(mark.strip())
            for line in fitting.command_lines(command, self.width):
                self.write(f"{line}\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write terms and texts; a term longer than *col_max* has a line of its own."""
        super().write_dl(rows, col_max if self.width >= NARROW else col_spacing, col_spacing)


class _Context(typer.Context):
    formatter_class = _Formatter


def fitted(app: typer.Typer) -> Any:  # noqa: ANN401 -- typer does not export the class
    """Return the command of *app*, with help that fits the terminal, also that of its commands."""
    command = typer_main.get_command(app)
    _fit(command)
    return command


def _fit(command: Any) -> None:  # noqa: ANN401 -- as above
    command.context_class = _Context
    for each in getattr(command, "commands", {}).values():
        # Whole, because the list of commands would cut what is longer than one line.
        each.short_help = each.short_help or " ".join((each.help or "").split("\n\n")[0].split())
        _fit(each)
