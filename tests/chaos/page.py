"""The tables of docs/reliability.md: `python -m tests.chaos.page` writes them from scenarios and last results."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tests.chaos import invariants, scenarios, waves

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs/reliability.md"
RESULTS = ROOT / "docs/benchmarks/chaos.json"
BEGIN, END = "<!-- scenarios -->\n", "<!-- end of scenarios -->"


def render(results: Mapping[str, Any]) -> str:
    """Return the tables, one for each group of scenarios."""
    groups: dict[str, list[waves.Scenario]] = {}
    for scenario in scenarios.SCENARIOS.values():
        groups.setdefault(scenario.group, []).append(scenario)
    return "\n".join(_table(group, members, results["scenarios"]) for group, members in groups.items())


def _table(group: str, members: Sequence[waves.Scenario], results: Mapping[str, Any]) -> str:
    lines = [f"### {group.capitalize()}\n", f"| promise | scenario | runs | {' | '.join(invariants.INVARIANTS)} |"]
    lines.append("|---" * (3 + len(invariants.INVARIANTS)) + "|")
    for scenario in members:
        runs = results.get(scenario.name, [])
        cells = [_cell(runs, name) for name in invariants.INVARIANTS]
        lines.append(f"| {scenario.promise} | `{scenario.name}` | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(runs: Sequence[Mapping[str, Any]], name: str) -> str:
    """Return checks, and failures if there are any; nothing for an invariant that was not checked."""
    verdicts = [run["verdicts"][name] for run in runs if name in run["verdicts"]]
    checked = sum(verdict["checked"] for verdict in verdicts)
    failed = sum(len(verdict["failures"]) for verdict in verdicts)
    return "" if not verdicts else f"**{failed} of {checked}**" if failed else str(checked)


def with_tables(page: str, results: Mapping[str, Any]) -> str:
    """Return the page with its tables replaced."""
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}{render(results)}{END}{tail}"


def main() -> None:
    """Write the page."""
    PAGE.write_text(with_tables(PAGE.read_text(), json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
