"""Output of measurements: a table and JSON."""

import json
import pathlib
from collections.abc import Mapping, Sequence

from rich import console, table

SCREEN = console.Console(width=160)


def show(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows as a table; the keys of the first row are the columns."""
    drawn = table.Table(title=title, title_justify="left")
    for name in rows[0]:
        drawn.add_column(name, justify="right")
    for row in rows:
        drawn.add_row(*(f"{value:,.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    SCREEN.print(drawn)


def keep(found: Mapping[str, object], path: pathlib.Path | None) -> None:
    """Print results as JSON, and write them to *path*, if given."""
    text = json.dumps(found, indent=2)
    SCREEN.print_json(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
