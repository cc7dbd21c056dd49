"""
Lint rules for dashboards, after Grafana's dashboard-linter (github.com/grafana/dashboard-linter, docs/rules).

Every panel has a title, a unit and a description, works in any namespace and with any data source, and uses no window
that may be shorter than two scrapes.
"""

import collections
import re
from typing import Any

SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}")
COUNTER = re.compile(r"\b(\w+_(?:total|count|bucket|sum))\{")
WINDOW = re.compile(r"\[([^\]]+)\]")
LONG = {"1h", "1d", "24h"}
"""Fixed windows that a panel may use, because its title names them."""
RATES = ("rate(", "increase(")
MOST_NUMBERS = (3, 6)
"""Fewest and most numbers at the top of a board."""


def problems(board: dict[str, Any]) -> list[str]:
    """Return the problems of a dashboard's JSON, one line each."""
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    found = _board_problems(board, panels)
    for panel in panels:
        found += [f"{panel.get('title', '?')}: {text}" for text in _panel_problems(panel)]
    return found


def _board_problems(board: dict[str, Any], panels: list[dict[str, Any]]) -> list[str]:
    found = []
    variables = {one["name"]: one for one in board.get("templating", {}).get("list", [])}
    if variables.get("datasource", {}).get("type") != "datasource":
        found.append("has no variable for the data source")
    if variables.get("namespace", {}).get("refresh") != 2:  # noqa: PLR2004 -- Grafana's "on time range change"
        found.append("does not refresh its namespaces when the time range changes")
    if board.get("editable", True):
        found.append("is editable, but the next deployment reverts edits")
    if not any("runbook" in link.get("url", "") for link in board.get("links", [])):
        found.append("does not link to the runbook")
    if len(board.get("annotations", {}).get("list", [])) < len(("alerts", "releases")):
        found.append("does not mark alerts and releases")
    first = _first_row(board)
    if not MOST_NUMBERS[0] <= len(first) <= MOST_NUMBERS[1] or any(panel["type"] != "stat" for panel in first):
        found.append("does not open with three to six numbers that say whether all is well")
    for name, key in (("id", "id"), ("title and row", "title")):
        counted = collections.Counter(panel.get(key) for panel in panels if key == "id" or panel["type"] != "stat")
        found += [f"{name} {value} occurs twice" for value, times in counted.items() if times > 1]
    return found


def _first_row(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels between the first heading and the second."""
    headings = [at for at, panel in enumerate(board["panels"]) if panel["type"] == "row"]
    found: list[dict[str, Any]] = board["panels"][1 : headings[1]] if len(headings) > 1 else []
    return found


def _panel_problems(panel: dict[str, Any]) -> list[str]:
    found = []
    if not panel.get("title"):
        found.append("has no title")
    if not re.search(r"\w{3}.*[.]$", panel.get("description", "")):
        found.append("has no description that is a sentence")
    if not panel.get("fieldConfig", {}).get("defaults", {}).get("unit"):
        found.append("has no unit")
    if panel.get("datasource", {}).get("uid") != "${datasource}":
        found.append("does not use the selected data source")
    if panel["type"] == "timeseries":
        found += _graph_problems(panel)
    if not panel.get("targets"):
        found.append("has no query")
    for target in panel.get("targets", []):
        found += _query_problems(target["expr"])
        if panel["type"] == "timeseries" and not target.get("legendFormat"):
            found.append(f"has no legend for {target['expr']}")
    return found


def _graph_problems(panel: dict[str, Any]) -> list[str]:
    found = []
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    if defaults.get("unit") == "percentunit" and defaults.get("max") != 1:
        found.append("has percentages on an axis that does not end at 100")
    several = any("{{" in target.get("legendFormat", "") for target in panel.get("targets", []))
    hidden = [one["matcher"]["options"].get("reducer") for one in panel["fieldConfig"].get("overrides") or []]
    if several and "allIsZero" not in hidden:
        found.append("draws series that stay at 0")
    if not {"lastNotNull", "max"} <= set(panel.get("options", {}).get("legend", {}).get("calcs", [])):
        found.append("has a legend without the last value and the maximum")
    return found


def _query_problems(query: str) -> list[str]:
    found = []
    selectors = SELECTOR.findall(query)
    if not selectors:
        found.append(f"has no selector: {query}")
    found += [f"{name} is not limited to the namespace" for name, match in selectors if "$namespace" not in match]
    bare = set(re.findall(r"\b(?:indexer|grpc_server|process)[_:][a-z0-9_:]+", query)) - {name for name, _ in selectors}
    found += [f"{name} is selected without a matcher" for name in sorted(bare)]
    for match in COUNTER.finditer(query):
        if not query[: match.start()].endswith(RATES):
            found.append(f"{match[1]} is a counter: use its rate")
    for window in WINDOW.findall(query):
        if window != "$__rate_interval" and window not in LONG:
            found.append(f"the window {window} may be shorter than two scrapes: use $__rate_interval")
    return found
