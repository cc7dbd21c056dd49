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
LONG = {"1d", "24h"}
"""Fixed windows that a panel may use, because its title names them."""
RATES = ("rate(", "increase(")


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
    for name, key in (("id", "id"), ("title and row", "title")):
        counted = collections.Counter(panel.get(key) for panel in panels if key == "id" or panel["type"] != "stat")
        found += [f"{name} {value} occurs twice" for value, times in counted.items() if times > 1]
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
    if not panel.get("targets"):
        found.append("has no query")
    for target in panel.get("targets", []):
        found += _query_problems(target["expr"])
        if panel["type"] == "timeseries" and not target.get("legendFormat"):
            found.append(f"has no legend for {target['expr']}")
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
