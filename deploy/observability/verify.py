"""
`python -m deploy.observability.verify`: rules and dashboards against a real Prometheus that scrapes a running stack.

promtool checks the rules and runs their unit tests. Then users are indexed while Prometheus scrapes, and every query of
every panel, and what every alert looks at, is asked: each must be valid and have data, except what `SILENT` explains.
With --picture the main panels are drawn into docs/headroom.svg. Without Prometheus on the machine it says so and ends.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable

import grpc
from rich import console

from deploy.observability import make, picture, server
from indexer_service.cli import output
from indexer_service.embedded import demo, stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

USERS = 24
GUILDS = 40
NAMES_OF_WINDOWS = {"$__rate_interval": "1m", "$namespace": ".*"}
"""What Grafana would fill in; the stack is scraped every second."""
SELECTOR = re.compile(r"\b(?:indexer|grpc_server)[_:][\w:]+(?:\{[^}]*\})?")
FAULTS = [
    '{"kind": "status", "status": 502, "probability": 0.01, "route": "GET /guilds/{guild.id}/channels"}',
    '{"kind": "status", "status": 403, "code": 50001, "probability": 0.02, "route": "GET /guilds/{guild.id}/channels"}',
    '{"kind": "rate_limit", "scope": "shared", "retry_after": 0.5, "times": 2, "after": 40}',
]
SILENT: dict[str, str] = {}
"""Panels for which the run produces no number, and why."""


def main(arguments: list[str]) -> int:
    """Verify everything; returns the exit code."""
    missing = [name for name in ("promtool", "prometheus") if shutil.which(name) is None]
    if missing:
        required = os.environ.get("CI") == "true"  # noqa: TID251 -- for this check, not for the product
        print(f"{'FAILED' if required else 'SKIPPED'}: {' and '.join(missing)} not installed", end="")
        print(" (Debian and Ubuntu: apt-get install prometheus); rules and queries were NOT checked")
        return 1 if required else 0
    if not _promtool():
        return 1
    problems = _against_a_run(draw="--picture" in arguments)
    for problem in problems:
        print(f"FAILED: {problem}")
    return 1 if problems else 0


def _promtool() -> bool:
    folder = make.RULES.parent
    checks = [
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", make.RULES.name],
        ["promtool", "test", "rules", "indexer.test.yaml"],
    ]
    return all(subprocess.run(check, cwd=folder, check=False).returncode == 0 for check in checks)  # noqa: S603 -- our own command line


def _against_a_run(*, draw: bool) -> list[str]:
    options = stack.Options(users=USERS, workers=2, guilds_per_user=GUILDS, exporter=True)
    with stack.Stack(options) as running, server.scraping(running.metrics_urls, make.RULES) as asked:
        start = time.time()  # noqa: TID251 -- Prometheus' own time
        found = demo.run(running, console.Console(quiet=True), FAULTS)
        _browse(running)
        time.sleep(3.0)  # two scrapes and an evaluation
        end = time.time()  # noqa: TID251 -- as above
        output.line(json.dumps(found.document()))
        problems = [*_panels(asked, end), *_alerts(asked, end)]
        if draw:
            picture.draw(asked, start, end, make.HERE.parents[1] / "docs" / "headroom.svg")
    return problems


def _browse(running: stack.Stack) -> None:
    """Read the index, as callers do after a job."""
    with grpc.insecure_channel(running.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        api = pb_grpc.IndexerServiceStub(channel)
        for user in running.users:
            api.ListGuilds(pb.ListGuildsRequest(user_id=user.id), timeout=30)


def _panels(asked: server.Prometheus, at: float) -> Iterable[str]:
    """Ask every query of every panel."""
    silent = set()
    number = 0
    for name, board in make.BOARDS.items():
        for row in board.rows:
            for panel in row.panels:
                for query in panel.queries:
                    number += 1
                    text = query.expanded()
                    for variable, value in NAMES_OF_WINDOWS.items():
                        text = text.replace(variable, value)
                    try:
                        rows = asked.series(text, at)
                    except server.Failed as refusal:
                        yield f"{name} / {panel.title}: {refusal}"
                        continue
                    if not rows:
                        silent.add(panel.title)
                        if panel.title not in SILENT:
                            yield f"{name} / {panel.title}: no data for {text}"
    yield from (f"{title}: has data, but SILENT says it cannot" for title in SILENT.keys() - silent)
    print(f"{number} queries of panels asked; without data, as expected:")
    for title in sorted(silent & SILENT.keys()):
        print(f"  {title}: {SILENT[title]}")


def _alerts(asked: server.Prometheus, at: float) -> Iterable[str]:
    """Ask what every rule looks at: its expression is valid, and each of its series is there."""
    rules = asked.rules()
    firing = sorted(rule["name"] for rule in rules if rule["type"] == "alerting" and rule["state"] != "inactive")
    for rule in rules:
        if rule["health"] != "ok":
            yield f"rule {rule['name']}: {rule.get('lastError', rule['health'])}"
        asked.series(rule["query"], at)
        for selector in SELECTOR.findall(rule["query"]):
            if not asked.series(selector, at):
                yield f"rule {rule['name']}: no series for {selector}"
    print(f"{len(rules)} rules asked; pending or firing after the run: {', '.join(firing) or 'none'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
