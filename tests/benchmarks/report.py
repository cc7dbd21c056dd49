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
        _write(text, path)


def merge(name: str, found: Mapping[str, object], path: pathlib.Path) -> None:
    """Write results into the JSON file *path* under a name, and keep those under other names."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    _write(json.dumps({**kept, name: found}, indent=2), path)


def _write(text: str, path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
