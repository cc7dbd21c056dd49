"""
`python -m deploy.observability.verify`: rules and dashboards against a real Prometheus that scrapes a running stack.

promtool checks the rules, runs their unit tests, and reads the pages of all processes. Then users are indexed while
Prometheus scrapes, and every query of every panel, and what every alert looks at, is asked over the whole run: each
must be valid, have data, and have been above 0 at some time, except what `SILENT` explains: a number that is 0 whatever
happens is one that nobody counts. With --picture the main panels are drawn into docs/headroom.svg. Without Prometheus
(Debian's, 2.42 or newer) on the machine it says so and ends: with success on a laptop, with a failure in CI.
"""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping

import grpc
from rich import console

from deploy.observability import make, picture, server
from devstack import demo, probes, stack
from indexer_client.cli import output
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

USERS = 24
GUILDS = 40
STEP = 1.0
"""Seconds between two scrapes, and between two looks at a panel."""
NAMES_OF_WINDOWS = {"$__rate_interval": "1m", "$namespace": ".*"}
"""What Grafana would fill in; the stack is scraped every second."""
SELECTOR = re.compile(r"\b(?:indexer|grpc_server)[_:][\w:]+(?:\{[^}]*\})?")
FAULTS = [
    '{"kind": "status", "status": 502, "probability": 0.01, "route": "GET /guilds/{guild.id}/channels"}',
    '{"kind": "status", "status": 403, "code": 50001, "probability": 0.02, "route": "GET /guilds/{guild.id}/channels"}',
    '{"kind": "rate_limit", "scope": "shared", "retry_after": 0.5, "times": 2, "after": 40}',
]
WELL = "nothing of the kind goes wrong in the run"
FAST = "the machine is fast enough"
SILENT = {
    "Unforeseen 429s, 24 h": WELL,
    "Paused for": WELL,
    "Pauses": WELL,
    "Strangers on our token": WELL,
    "Budgets unreachable": WELL,
    "Listings doubted": WELL,
    "Calls that failed": WELL,
    "Dead letters": WELL,
    "MongoDB, commands that failed": WELL,
    "Redis, commands that failed": WELL,
    "Users who must log in again": WELL,
    "Tokens renewed": "they last longer than the run",
    "Refreshes": "what has just been read is not read again within the run",
    "Callers checked": "the stack listens on loopback only, where nobody is asked for a token",
    "Overdue": FAST,
    "First guild later than 2.5 s": FAST,
    "Age of the oldest turn that is ready": FAST,
    "Updates merged for slow watchers": FAST,
}
"""Panels that may stay at 0 in this run, and why."""


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
    tests = sorted(path.name for path in folder.glob("*.test.yaml"))
    checks = [
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", make.RULES.name],
        ["promtool", "test", "rules", *tests],
    ]
    return all(subprocess.run(check, cwd=folder, check=False).returncode == 0 for check in checks)  # noqa: S603 -- our own command line


def _against_a_run(*, draw: bool) -> list[str]:
    options = stack.Options(users=USERS, workers=2, guilds_per_user=GUILDS, exporter=True)
    with stack.Stack(options) as running, server.scraping(running.metrics_urls, make.RULES) as asked:
        start = time.time()  # noqa: TID251 -- Prometheus' own time
        found = demo.run_demo(running, console.Console(quiet=True), FAULTS)
        _browse(running)
        time.sleep(3.0)  # two scrapes and an evaluation
        end = time.time()  # noqa: TID251 -- as above
        output.print_line(json.dumps(found.document()))
        problems = [*_pages(running.metrics_urls), *_panels(asked, start, end), *_alerts(asked, end)]
        if draw:
            title = f"Rate-limit headroom while {USERS} users with {GUILDS} guilds each are indexed at once"
            picture.draw(picture.Run(asked, start, end), title, make.HERE.parents[1] / "docs" / "headroom.svg")
    return problems


def _browse(running: stack.Stack) -> None:
    """Read the index, as callers do after a job."""
    with grpc.insecure_channel(running.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        api = pb_grpc.IndexerServiceStub(channel)
        for user in running.users:
            api.ListGuilds(pb.ListGuildsRequest(user_id=user.id), timeout=30)


def _pages(urls: Mapping[str, str]) -> Iterable[str]:
    """Have promtool look at what each process serves: names, units, help."""
    for name, url in urls.items():
        _, page = probes.read_page(url)
        check = ["promtool", "check", "metrics"]
        found = subprocess.run(check, input=page, capture_output=True, check=False)  # noqa: S603 -- our own command line
        if found.returncode:
            yield f"{name}: {found.stderr.decode(errors='replace')}"


def _panels(asked: server.Prometheus, start: float, end: float) -> Iterable[str]:
    """Ask every query of every panel."""
    still = set()
    number = 0
    for name, board in make.BOARDS.items():
        for panel in (panel for row in board.rows for panel in row.panels):
            highest = 0.0
            for query in panel.queries:
                number += 1
                text = query.expanded()
                for variable, value in NAMES_OF_WINDOWS.items():
                    text = text.replace(variable, value)
                try:
                    rows = asked.ranges(text, start, end, STEP)
                except server.Failed as refusal:
                    yield f"{name} / {panel.title}: {refusal}"
                    continue
                values = [value for _, points in rows for _, value in points if not math.isnan(value)]
                if not values:
                    yield f"{name} / {panel.title}: no data for {text}"
                highest = max([highest, *values])
            if highest == 0.0:
                still.add(panel.title)
                if panel.title not in SILENT:
                    yield f"{name} / {panel.title}: 0 throughout"
    print(f"{number} queries of {sum(len(row.panels) for board in make.BOARDS.values() for row in board.rows)} panels")
    print("valid and with data; at 0 throughout, as expected:")
    for title in sorted(still & SILENT.keys()):
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
            if not asked.series(f"last_over_time({selector}[1m])", at):
                yield f"rule {rule['name']}: no series for {selector}"
    print(f"{len(rules)} rules asked; pending or firing after the run: {', '.join(firing) or 'none'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
