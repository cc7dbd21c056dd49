"""
`python -m deploy.observability.make`: generates the dashboards for Grafana and the rules for the Prometheus operator.

Dashboards are generated from the modules in this package, the PrometheusRule from the files in rules. --check
writes nothing; it reports differences and exits with code 1.
"""

import json
import pathlib
import sys

from grafana_foundation_sdk.cog import encoder
from grafana_foundation_sdk.models import dashboard

from deploy.observability import gateway, headroom, indexing, lint, panels, processes

HERE = pathlib.Path(__file__).parent
RULES = [HERE / "rules" / f"{name}.rules.yaml" for name in ("indexer", "objectives", "servers")]
"""In parts, so that each unit test loads few rules."""
DASHBOARDS = {
    "headroom": headroom.DASHBOARD,
    "indexing": indexing.DASHBOARD,
    "processes": processes.DASHBOARD,
    "gateway": gateway.DASHBOARD,
}
RULE_HEADER = """# Generated from the files in rules by make dashboards.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: indexer
  labels:
    app.kubernetes.io/name: discord-channel-indexer
    app.kubernetes.io/component: observability
spec:
  groups:
"""


def files() -> dict[pathlib.Path, str]:
    """Return the generated files and their text."""
    made = {HERE / "dashboards" / f"{name}.json": page(board) for name, board in DASHBOARDS.items()}
    texts = [path.read_text() for path in RULES]
    rules = [line for text in texts for line in text.splitlines() if not line.startswith(("#", "groups:"))]
    made[HERE / "prometheusrule.yaml"] = RULE_HEADER + "".join(f"  {line}".rstrip() + "\n" for line in rules)
    return made


def page(board: panels.Dashboard) -> str:
    """Return a dashboard's JSON."""
    return encoder.JSONEncoder(sort_keys=True, indent=2).encode(panels.build(board)) + "\n"


def list_unknown_fields(text: str) -> list[str]:
    """Return the fields of a dashboard's JSON that Grafana's types do not have, which are usually misspelt."""
    before = json.loads(text)
    known = dashboard.Dashboard.from_json(json.loads(text))
    return sorted(_missing(before, json.loads(encoder.JSONEncoder().encode(known)), "$"))


def _missing(before: object, after: object, path: str) -> set[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        missing = {f"{path}.{key}" for key in before if key not in after}
        return missing.union(*(_missing(before[key], after[key], f"{path}.{key}") for key in before if key in after))
    if isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            return {path}
        return set().union(*(_missing(one, other, f"{path}[]") for one, other in zip(before, after, strict=True)))
    return set() if before == after else {path}


def main(arguments: list[str]) -> int:
    """Write or check the files; return the exit code."""
    problems: list[str] = []
    for path, text in files().items():
        if path.suffix == ".json":
            found = [
                *lint.problems(json.loads(text)),
                *(f"{field}: not known to Grafana" for field in list_unknown_fields(text)),
            ]
            problems += [f"{path.name}: {problem}" for problem in found]
        if "--check" not in arguments:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            problems.append(f"{path.name}: differs from its source; run make dashboards")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
