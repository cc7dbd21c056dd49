"""The table of docs/security.md, made of the drill's results."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

RESULTS = pathlib.Path("docs/benchmarks/strangers.json")
PAGE = pathlib.Path("docs/security.md")
BEGIN, END = "<!-- make drill-strangers writes this table -->\n", "<!-- end of the table -->\n"
CONNECTION, STREAM = 50, 20
"""KiB that a stranger's connection, and each of its streams, are planned with."""
SHAPES = {
    "half-sent": (4, 100),
    "half-sent-wide": (100, 100),
    "half-sent-health": (40, 100),
    "health-watchers": (40, 100),
    "watchers": (40, 100),
    "idle": (128, 0),
    "preface": (128, 0),
    "half-tls": (128, 0),
    "rapid-reset": (1, 100),
    "rapid-reset-8": (8, 100),
    "flood": (1, 100),
    "health-flood": (1, 100),
    "large-headers": (8, 100),
}
"""Connections and streams of each that the service lets an attack have; `slow-readers` are callers, not strangers."""


def planned_mib(attack: str) -> float | None:
    """Return the memory that the attack is planned with; None for attacks of callers."""
    if attack not in SHAPES:
        return None
    connections, streams = SHAPES[attack]
    return connections * (CONNECTION + streams * STREAM) / 1024


def keep(machine: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Add one attack's result to the file of results, in place of an earlier one."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[found["attack"]] = {**found, "date": machine["date"], "load": machine["load"][0]}
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n")


def write() -> None:
    """Write the table into the page."""
    kept = json.loads(RESULTS.read_text())
    lines = [
        "| attack | date, load | MiB before, most | growth, planned (MiB) | reads' p99 before, under (ms) | goal |",
        "|---|---|---|---|---|---|",
    ]
    for attack, row in kept.items():
        grown, planned = row["mib_most"] - row["mib_before"], planned_mib(attack)
        lines.append(
            f"| {attack} | {row['date']}, {row['load']:.1f} | {row['mib_before']:.0f}, {row['mib_most']:.0f} "
            f"| {grown:.0f}, {'-' if planned is None else f'{planned:.0f}'} "
            f"| {row['p99_before_ms']:.0f}, {row['p99_ms']:.0f} | {'met' if row['good'] else 'missed'} |"
        )
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n\n" + END + rest.partition(END)[2])
