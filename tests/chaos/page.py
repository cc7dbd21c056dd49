"""
The tables of docs/reliability.md: `python -m tests.chaos.page` writes them from the files of the last results.

Each table stands between two comments with its name. Nothing in it is written by hand.
"""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.chaos import invariants, scenarios, waves

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs/reliability.md"
FOLDER = ROOT / "docs/benchmarks"
Results = Mapping[str, Any]


def render_scenarios(results: Results) -> str:
    """Return the number of runs, and a table for each group of scenarios."""
    groups: dict[str, list[waves.Scenario]] = {}
    for scenario in scenarios.SCENARIOS.values():
        groups.setdefault(scenario.group, []).append(scenario)
    runs = [run for name in scenarios.SCENARIOS for run in results["scenarios"].get(name, [])]
    good = sum(not any(verdict["failures"] for verdict in run["verdicts"].values()) for run in runs)
    newest = max((run.get("at", ""), run.get("code", "")) for run in runs)
    same = sum(run.get("code") == newest[1] for run in runs)
    head = (
        f"{len(scenarios.SCENARIOS)} scenarios, {len(runs)} runs, {good} of them without a failure. "
        f"{same} runs are of the newest code that was played ({newest[0]} UTC), the others of earlier code.\n\n"
    )
    tables = (_scenarios_of(group, members, results["scenarios"]) for group, members in groups.items())
    return head + "\n".join(tables)


def _scenarios_of(group: str, members: Sequence[waves.Scenario], results: Results) -> str:
    rows = []
    for scenario in members:
        runs = results.get(scenario.name, [])
        cells = [_cell(runs, name) for name in invariants.INVARIANTS]
        rows.append([scenario.promise, f"`{scenario.name}`", len(runs), *cells])
    return f"### {group.capitalize()}\n\n{_table(['promise', 'scenario', 'runs', *invariants.INVARIANTS], rows)}"


def _cell(runs: Sequence[Mapping[str, Any]], name: str) -> str:
    """Return checks, and failures if there are any; nothing for an invariant that was not checked."""
    verdicts = [run["verdicts"][name] for run in runs if name in run["verdicts"]]
    checked = sum(verdict["checked"] for verdict in verdicts)
    failed = sum(len(verdict["failures"]) for verdict in verdicts)
    return "" if not verdicts else f"**{failed} of {checked}**" if failed else str(checked)


def render_controls(results: Results) -> str:
    """Return what each deliberate break of the product led to."""
    names = ["invariant", "break", "scenario", "found", "what the harness says", "failures by invariant"]
    rows = [
        [
            control["invariant"],
            control["break"],
            f"`{control['scenario']}`",
            "yes" if control["found"] else "**no**",
            control["says"],
            ", ".join(f"{name} {count}" for name, count in json.loads(control["failures"]).items()),
        ]
        for control in results["controls"]
    ]
    return _table(names, rows)


def render_slope(results: Results) -> str:
    """Return what jobs cost with each delay, and what the product said."""
    names = ["server", "ms more", "seconds", "calls a turn", "turns that began nothing"]
    names += ["slow by the metric", "unready", "log at warning and above", "others' cores"]
    rows = []
    for found in results.values():
        runs = found["runs"]
        last = runs[-1]
        rows.append(
            [
                last["server"],
                last["delay_ms"],
                found["median_ended_s"] if found["median_ended_s"] is not None else "not ended",
                last["calls_a_turn"],
                last["turns_without_task"],
                ", ".join(last["waits"]) or "-",
                ", ".join(last["unready"]) or "-",
                ", ".join(f"{count} x {event}" for event, count in last["log"].items()) or "-",
                last["cores_used_by_others"],
            ]
        )
    return _table(names, sorted(rows, key=lambda row: (row[0], row[1])))


def render_soak(results: Results) -> str:
    """Return the figures of the soak, and the growth of everything that was measured."""
    head = (
        f"{results['minutes']} minutes, seed {results['seed']}, {len(results['faults'])} faults: "
        f"{results['jobs']} jobs, {results['calls']} calls, {results['share_of_the_budget']:.0%} of the budget"
        f"{_without_faults(results)}.\n\n"
    )
    verdicts = [
        [name, one["checked"], len(one["failures"]), "; ".join(one["failures"][:2])]
        for name, one in results["verdicts"].items()
    ]
    sizes = [[what, one["early"], one["late"], one["most"]] for what, one in results["growth"].items()]
    checks = _table(["invariant", "checked", "failures", "first failures"], verdicts)
    if results.get("consents"):
        head += (
            f"{results['consents']} more jobs ended REAUTH_REQUIRED, because a fault lost the answer with the new "
            "refresh token ([decision 15](decisions/0015-token-renewal-and-key-rotation.md)); "
            "their users consented again.\n\n"
        )
    return head + checks + "\n" + _table(["size", "second fifth", "last fifth", "most"], sizes)


def _without_faults(results: Results) -> str:
    share = results.get("share_without_faults")
    return "" if share is None else f", {share:.0%} in the seconds that no fault touches"


def render_mutants(results: Results) -> str:
    """Return how many mutations of each folder were tried and noticed."""
    names = ["folder", "mutations", "tried", "killed", "survived", "not run by any test", "timed out"]
    rows = [[*(row[name] for name in names), f"{row['share']:.1%}"] for row in results["folders"]]
    head = f"A sample drawn with seed {results['seed']}.\n\n"
    return head + _table([*names, "killed of those with a verdict"], rows)


TABLES: Mapping[str, tuple[str, Callable[[Results], str]]] = {
    "scenarios": ("chaos.json", render_scenarios),
    "controls": ("chaos-controls.json", render_controls),
    "slope": ("slope.json", render_slope),
    "soak": ("soak.json", render_soak),
    "mutants": ("mutants.json", render_mutants),
}
"""By name: the file of the results, and the function that makes the text."""


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def with_tables(page: str) -> str:
    """Return the page with all of its tables replaced."""
    for name, (file, make) in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        head, rest = page.split(begin)
        _, tail = rest.split(end)
        path = FOLDER / file
        made = make(json.loads(path.read_text())) if path.exists() else "Not measured yet.\n"
        page = f"{head}{begin}{made}{end}{tail}"
    return page


def main() -> None:
    """Write the page."""
    PAGE.write_text(with_tables(PAGE.read_text()))


if __name__ == "__main__":
    main()
