"""
`python -m deploy.observability.verify`: checks rules and dashboards with a Prometheus that scrapes a running stack.

promtool checks the rules, runs their unit tests, and checks the metrics page of each process. Then users are indexed
while Prometheus scrapes, and every query of every panel and alert is evaluated over the whole run. Each query must be
valid and have data, and each panel must rise above 0 except those in `SILENT`: a metric that is always 0 may not be
counted at all. --picture only draws the boards into docs/boards. Without Prometheus (Debian's, 2.42 or newer) the
program reports that and exits: with success on a laptop, with a failure in CI.
"""

import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping

import grpc
from rich import console

from deploy.observability import make, picture, server
from devstack import demo, probes, stack
from indexer_client.cli import output
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

USERS = 24
GUILDS = 40
DRAWN_USERS = 12
"""Users of the run that is drawn: fewer series, and it ends soon on a busy machine too."""
STEP = 1.0
"""Seconds between two scrapes, and between two points of a query."""
VARIABLES = {"$__rate_interval": "1m", "$namespace": ".*", "$pod": ".*"}
"""Values of Grafana's variables. The stack is scraped every second."""
SELECTOR = re.compile(r"\b(?:indexer|grpc_server)[_:][\w:]+(?:\{[^}]*\})?")
FAULTS = [
    '{"kind": "status", "status": 502, "probability": 0.01, "route": "GET /guilds/{guild.id}/channels"}',
    '{"kind": "status", "status": 403, "code": 50001, "probability": 0.02, "route": "GET /guilds/{guild.id}/channels"}',
    '{"kind": "rate_limit", "scope": "shared", "retry_after": 0.5, "times": 2, "after": 40}',
]
NO_FAULT = "the run provokes no such fault"
USED_UP = "a short run on a busy machine may use it up"
FAST_ENOUGH = "the machine is fast enough to avoid it"
OBJECTIVES = ("availability", "start latency", "freshness", "update lag", "feed lag")
SILENT = {
    "Unforeseen 429s, 24 h": NO_FAULT,
    "Refused tokens by caller": NO_FAULT,
    "Paused for": NO_FAULT,
    "Jobs that failed, 1 h": NO_FAULT,
    "Guilds that failed, 1 h": "each failure is passing, and a repetition succeeds",
    "Most overdue job": FAST_ENOUGH,
    "Routes without permits": "the simulator's routes are seldom used up",
    "Shards without an owner": NO_FAULT,
    "Pauses": NO_FAULT,
    "Foreign usage of the bot token": NO_FAULT,
    "Budgets unreachable": NO_FAULT,
    "Channel lists verified": NO_FAULT,
    "Calls that failed": NO_FAULT,
    "Dead letters": NO_FAULT,
    "MongoDB, failed commands": NO_FAULT,
    "Redis, failed commands": NO_FAULT,
    "Users who must log in again": NO_FAULT,
    "Unreadable rows": NO_FAULT,
    "Turns that begin nothing": FAST_ENOUGH,
    "Processes that wait for a slow server": FAST_ENOUGH,
    "Processes that wait for Discord": NO_FAULT,
    "Redis, processes that cannot write": NO_FAULT,
    "Tokens renewed": "tokens outlast the run",
    "Refreshes": "a guild that was just fetched is not refreshed within the run",
    **{f"Error budget left: {of}": USED_UP for of in OBJECTIVES},
    "MongoDB, processes that cannot write": NO_FAULT,
    "Servers that refuse": NO_FAULT,
    "Calls that failed, 1 h": NO_FAULT,
    "Certificate, time left": "the stack listens on loopback only, without TLS",
    "Files refused": NO_FAULT,
    "Redis, lag of the slowest replica": "the stack's Redis has no replica",
    "Redis, memory used": "the stack's Redis has no limit of memory",
    "Redis, faults": NO_FAULT,
    "Redis, replicas": "the stack's Redis has no replica",
    "Authentication required": "the stack listens on loopback only, without authentication",
    "Audits and role requests": "audits are minutes apart, and no process asks for roles over the Gateway",
    "Overdue": FAST_ENOUGH,
    "Events that wait": FAST_ENOUGH,
    "First guild later than 2.5 s": FAST_ENOUGH,
    "Age of the oldest ready turn": FAST_ENOUGH,
    "Updates merged for slow watchers": FAST_ENOUGH,
}
"""Panels that may stay at 0 in this run, with the reason."""


def main(arguments: list[str]) -> int:
    """Run all checks; return the exit code."""
    missing = [name for name in ("promtool", "prometheus") if shutil.which(name) is None]
    if missing:
        required = os.environ.get("CI") == "true"  # noqa: TID251 -- a variable of this check
        print(f"{'FAILED' if required else 'SKIPPED'}: {' and '.join(missing)} not installed", end="")
        print(" (Debian and Ubuntu: apt-get install prometheus); rules and queries were NOT checked")
        return 1 if required else 0
    draw = "--picture" in arguments
    if not draw and not _check_rules():
        return 1
    problems = _check_against_a_run(draw=draw)
    for problem in problems:
        print(f"FAILED: {problem}")
    return 1 if problems else 0


def _check_rules() -> bool:
    folder = make.RULES[0].parent
    tests = sorted(path.name for path in folder.glob("*.test.yaml"))
    checks = [
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", *(path.name for path in make.RULES)],
        ["promtool", "test", "rules", *tests],
    ]
    return all(subprocess.run(check, cwd=folder, check=False).returncode == 0 for check in checks)  # noqa: S603 -- a fixed command line


def _check_against_a_run(*, draw: bool) -> list[str]:
    # The Gateway's process runs, but the others do not rely on it, so that the run makes calls.
    environment = {"GATEWAY_ENABLED": "0", "INDEXING_MAX_AGE": "0"}
    options = stack.Options(
        users=DRAWN_USERS if draw else USERS,
        workers=2,
        guilds_per_user=GUILDS,
        exporter=True,
        gateway=True,
        environment=environment,
    )
    with stack.Stack(options) as running, server.scraping(running.metrics_urls, make.RULES) as prometheus:
        start = time.time()  # noqa: TID251 -- Prometheus' own time
        demo.post_fault(f"{running.simulator_url}/_sim/gateway", '{"kind": "expire"}')
        with _watched(running):
            found = demo.run_demo(running, console.Console(quiet=True), FAULTS)
        _list_guilds(running)
        time.sleep(3.0)  # two scrapes and an evaluation
        end = time.time()  # noqa: TID251 -- as above
        output.print_line(json.dumps(found.document()))
        if draw:
            _draw(picture.Run(prometheus, start, end))
            return []
        return [
            *_check_pages(running.metrics_urls),
            *_check_panels(prometheus, start, end),
            *_check_rule_queries(prometheus, end),
        ]


def _draw(run: picture.Run) -> None:
    for name, board in make.DASHBOARDS.items():
        title = f"{board.title}, while {DRAWN_USERS} users with {GUILDS} guilds each are indexed at once"
        picture.draw(run, board, title, make.HERE.parents[1] / "docs" / "boards" / f"{name}.png")


@contextlib.contextmanager
def _watched(running: stack.Stack) -> Iterator[None]:
    """Keep a stream of one user's index open, as soon as the service knows them, so that its lag has data."""
    ended = threading.Event()
    with grpc.insecure_channel(running.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        request = pb.WatchIndexRequest(user_id=running.users[0].id)

        def watch() -> None:
            while not ended.wait(0.2):
                with contextlib.suppress(grpc.RpcError):
                    for _ in pb_grpc.IndexerServiceStub(channel).WatchIndex(request):
                        pass

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            channel.close()
            watcher.join()


def _list_guilds(running: stack.Stack) -> None:
    """List the guilds of all users, as callers do after a job."""
    with grpc.insecure_channel(running.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        api = pb_grpc.IndexerServiceStub(channel)
        for user in running.users:
            api.ListGuilds(pb.ListGuildsRequest(user_id=user.id), timeout=30)


def _check_pages(urls: Mapping[str, str]) -> Iterable[str]:
    """Check names, units and help of each process's metrics with promtool."""
    for name, url in urls.items():
        _, page = probes.read_page(url)
        check = ["promtool", "check", "metrics"]
        found = subprocess.run(check, input=page, capture_output=True, check=False)  # noqa: S603 -- a fixed command line
        if found.returncode:
            yield f"{name}: {found.stderr.decode(errors='replace')}"


def _check_panels(prometheus: server.Prometheus, start: float, end: float) -> Iterable[str]:
    """Evaluate every query of every panel."""
    silent = set()
    number = 0
    for name, board in make.DASHBOARDS.items():
        for panel in (panel for row in board.rows for panel in row.panels):
            highest = 0.0
            for query in panel.queries:
                number += 1
                text = query.expanded()
                for variable, value in VARIABLES.items():
                    text = text.replace(variable, value)
                try:
                    rows = prometheus.query_range(text, start, end, STEP)
                except server.Failed as refusal:
                    yield f"{name} / {panel.title}: {refusal}"
                    continue
                values = [value for _, points in rows for _, value in points if not math.isnan(value)]
                if not values:
                    yield f"{name} / {panel.title}: no data for {text}"
                highest = max([highest, *values])
            if highest == 0.0:
                silent.add(panel.title)
                if panel.title not in SILENT:
                    yield f"{name} / {panel.title}: 0 throughout"
    print(
        f"{number} queries of {sum(len(row.panels) for board in make.DASHBOARDS.values() for row in board.rows)} panels"
    )
    print("valid and with data; at 0 throughout, as expected:")
    for title in sorted(silent & SILENT.keys()):
        print(f"  {title}: {SILENT[title]}")


def _check_rule_queries(prometheus: server.Prometheus, at: float) -> Iterable[str]:
    """Check that the expression of every rule is valid and that each of its series exists."""
    rules = prometheus.list_rules()
    firing = sorted(rule["name"] for rule in rules if rule["type"] == "alerting" and rule["state"] != "inactive")
    for rule in rules:
        if rule["health"] != "ok":
            yield f"rule {rule['name']}: {rule.get('lastError', rule['health'])}"
        prometheus.query(rule["query"], at)
        for selector in SELECTOR.findall(rule["query"]):
            if not prometheus.query(f"last_over_time({selector}[1m])", at):
                yield f"rule {rule['name']}: no series for {selector}"
    print(f"{len(rules)} rules evaluated; pending or firing after the run: {', '.join(firing) or 'none'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
