"""Rules about numbers in different files that must be consistent, computed from the rendered objects."""

import math
import re
from collections.abc import Iterator

from tests.deploy import nodes, policy, rendered

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
    """Return the variables of all processes, including the defaults of settings.env."""
    text = (rendered.REPOSITORY / "deploy/chart/settings.env").read_text()
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
        if spec["minReplicaCount"] < 2:
            yield f"{rendered.title(found)} does not survive the loss of a node"
        kinds = {trigger["type"] for trigger in spec["triggers"]}
        asked = " ".join(trigger["metadata"].get("query", "") for trigger in spec["triggers"])
        if asked.count("{") != asked.count(f'namespace="{found["metadata"]["namespace"]}"'):
            yield f"{rendered.title(found)} does not restrict every query to its namespace"
        unknown = set(re.findall(r"indexer_\w+", asked)) - KNOWN_METRICS
        if unknown:
            yield f"{rendered.title(found)} queries unknown metrics: {unknown}"
        if spec["scaleTargetRef"]["name"] == "indexer-service":
            if "cpu" not in kinds or "indexer_streams_open" not in asked or "maxReplicaCount" not in spec:
                yield f"{rendered.title(found)} must use CPU and watchers, and have an end"
            continue
        if spec["maxReplicaCount"] != most:
            yield f"{rendered.title(found)}: the budget needs {most} workers at most"
        if kinds & {"cpu", "memory"} or "indexer_queue" not in asked or "indexer_budget" not in asked:
            yield f"{rendered.title(found)} must use queue and headroom"


def one_owner_sets_each_size(objects: rendered.Objects) -> Iterator[str]:
    """A Deployment has replicas or one scaler, and enough pods from the start; dev may have one."""
    scalers = [*rendered.of_kind(objects, "ScaledObject"), *rendered.of_kind(objects, "HorizontalPodAutoscaler")]
    targets = [found["spec"]["scaleTargetRef"]["name"] for found in scalers]
    dev = settings_of(objects).get("INDEXER_INSECURE") == "1"
    for workload in rendered.of_kind(objects, "Deployment"):
        name = workload["metadata"]["name"]
        if targets.count(name) + ("replicas" in workload["spec"]) != 1:
            yield f"{rendered.title(workload)}: its size is set by nobody, or by two"
        if name in nodes.REPLICATED and workload["spec"].get("replicas", 2) < 2 and not dev:
            yield f"{rendered.title(workload)} does not survive the loss of a node"


def migrations_run_before_the_rollout(objects: rendered.Objects) -> Iterator[str]:
    """The Job is a hook of Helm's, and needs nothing that the same upgrade creates."""
    for found in rendered.of_kind(objects, "Job"):
        if found["metadata"].get("annotations", {}).get("helm.sh/hook") != "pre-upgrade":
            yield f"{rendered.title(found)} does not run before the rollout"
        for container in rendered.pod_of(found)["containers"]:
            if container.get("envFrom"):
                yield f"{rendered.title(found)} reads a ConfigMap that is not upgraded yet"
            if container.get("command") != ["python", "-m", "indexer_service", "migrate"]:
                yield f"{rendered.title(found)} does not migrate"


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


def images_are_pinned(objects: rendered.Objects) -> Iterator[str]:
    """Outside dev, an image is named by digest: a tag can be moved."""
    if settings_of(objects).get("INDEXER_INSECURE") != "1":
        for where, _, container in rendered.containers(objects):
            if "@sha256:" not in container["image"]:
                yield f"{where} names its image by tag"


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
    one_owner_sets_each_size,
    migrations_run_before_the_rollout,
    one_kind_of_process_refreshes,
    images_are_pinned,
    callers_are_authenticated,
)
