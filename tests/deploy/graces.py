"""Rules about numbers in different files that must be consistent, computed from the rendered objects."""

import math
import re
from collections.abc import Iterator

from tests.deploy import policy, rendered

LAST_TURNS = 5.0
"""indexer_service.server.app.LAST_TURNS: seconds for first turns after the drain."""
CLOSING = 5.0
"""Seconds to close connections and exit; about one was measured."""
SOURCES = 3
"""Sources that a scrape of the exporter reads in sequence."""
CALLS_PER_WORKER = 25.0
"""Calls to Discord per second of one worker process with one CPU; see the sizing table in docs/deploy.md."""


KNOWN_METRICS = set(
    re.findall(r"^\| `(indexer_\w+)`", (rendered.REPOSITORY / "docs/metrics.md").read_text(), re.MULTILINE)
)
"""All metrics of the product; a query of any other metric silently finds nothing."""


def settings_of(objects: rendered.Objects) -> dict[str, str]:
    """Return the variables of all processes, including the defaults of base/indexer.env."""
    text = (rendered.REPOSITORY / "deploy/k8s/base/indexer.env").read_text()
    defaults = dict(
        line.lstrip("#").split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("# ")
    )
    (found,) = [
        each
        for each in rendered.of_kind(objects, "ConfigMap")
        if each["metadata"]["name"].startswith("indexer-settings")
    ]
    return {**defaults, **found["data"]}


def grace_periods_suffice(objects: rendered.Objects) -> Iterator[str]:
    """The termination grace period covers drain, last turns, a scrape, and closing."""
    given = settings_of(objects)
    service = rendered.pod_of(rendered.one(objects, "Deployment", "indexer-service"))
    pause = service["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = pause + float(given["INDEXER_DRAIN"]) + LAST_TURNS + CLOSING
    if pause < 5 or service.get("terminationGracePeriodSeconds", 30) < needed:
        yield f"the service needs a grace period of {needed} s, and a preStop pause of at least 5 s"
    worker = rendered.pod_of(rendered.one(objects, "Deployment", "indexer-worker"))
    needed = 2 * float(given["WORKERS_SHUTDOWN_TIMEOUT"]) + CLOSING
    if worker.get("terminationGracePeriodSeconds", 30) < needed:
        yield f"a worker needs a grace period of {needed} s"
    exporter = rendered.pod_of(rendered.one(objects, "Deployment", "indexer-exporter"))
    needed = SOURCES * float(given["EXPORTER_TIMEOUT"]) + CLOSING
    if exporter.get("terminationGracePeriodSeconds", 30) < needed:
        yield f"the exporter needs a grace period of {needed} s"


def scaling_follows_the_budget(objects: rendered.Objects) -> Iterator[str]:
    """The maximum number of workers is what the global budget can use, plus two for the loss of a zone."""
    capacity, window = settings_of(objects)["GLOBAL_BUDGET"].split("/")
    most = math.ceil(float(capacity) / float(window) / CALLS_PER_WORKER) + 2
    for found in rendered.of_kind(objects, "ScaledObject"):
        spec = found["spec"]
        if spec["maxReplicaCount"] != most or spec["minReplicaCount"] < 2:
            yield f"{rendered.title(found)}: the budget needs between 2 and {most} workers"
        kinds = {trigger["type"] for trigger in spec["triggers"]}
        asked = " ".join(trigger["metadata"].get("query", "") for trigger in spec["triggers"])
        if asked.count("{") != asked.count(f'namespace="{found["metadata"]["namespace"]}"'):
            yield f"{rendered.title(found)} does not restrict every query to its namespace"
        unknown = set(re.findall(r"indexer_\w+", asked)) - KNOWN_METRICS
        if unknown:
            yield f"{rendered.title(found)} queries unknown metrics: {unknown}"
        if kinds & {"cpu", "memory"} or "indexer_queue" not in asked or "indexer_budget" not in asked:
            yield f"{rendered.title(found)} must use queue and headroom"
    for workload in rendered.of_kind(objects, "Deployment"):
        owned = any(each["spec"]["scaleTargetRef"]["name"] == workload["metadata"]["name"]
                    for each in rendered.of_kind(objects, "ScaledObject"))  # fmt: skip
        if owned and "replicas" in workload["spec"]:
            yield f"{rendered.title(workload)} sets replicas, which its scaler controls"


def one_kind_of_process_refreshes(objects: rendered.Objects) -> Iterator[str]:
    """Guilds are refreshed either by the workers or by one Deployment, not by both."""
    apart = [
        found
        for found in rendered.of_kind(objects, "Deployment")
        for container in rendered.pod_of(found)["containers"]
        if container.get("command") == ["python", "-m", "workers.refresh"]
    ]
    by_workers = settings_of(objects)["WORKERS_REFRESH"] not in {"0", "False"}
    if len(apart) + by_workers != 1:
        yield "guilds are refreshed by no process, or by two kinds of processes"


def callers_are_authenticated(objects: rendered.Objects) -> Iterator[str]:
    """Outside dev, callers authenticate, and the certificate has the service's DNS name."""
    given = settings_of(objects)
    guards = ("INDEXER_TLS_CERT", "INDEXER_TLS_KEY", "INDEXER_SERVICE_TOKENS_FILE")
    if given.get("INDEXER_INSECURE") != "1" and not all(given.get(name) for name in guards):
        yield "callers are not authenticated, and INDEXER_INSECURE is not set"
    if given.get("INDEXER_INSECURE") != "1" and given.get("INDEXER_REFLECTION") == "1":
        yield "reflection is enabled"
    mounted = {
        mount["mountPath"]
        for container in rendered.pod_of(rendered.one(objects, "Deployment", "indexer-service"))["containers"]
        for mount in container["volumeMounts"]
    }
    for name in (*guards, "INDEXER_TLS_CLIENT_CA"):
        path = given.get(name, "")
        if path and path.rpartition("/")[0] not in mounted:
            yield f"{name} refers to a file that is not mounted"
    for found in rendered.of_kind(objects, "Certificate"):
        names = found["spec"].get("dnsNames", [])
        if names and f"indexer-service.{found['metadata']['namespace']}.svc.cluster.local" not in names:
            yield f"{rendered.title(found)} does not contain the service's DNS name"


RULES: tuple[policy.Rule, ...] = (
    grace_periods_suffice,
    scaling_follows_the_budget,
    one_kind_of_process_refreshes,
    callers_are_authenticated,
)
