"""Numbers of different files that have to fit each other, computed from the rendered objects."""

import math
import re
from collections.abc import Iterator

from tests.deploy import policy, rendered

LAST_TURNS = 5.0
"""indexer_service.app.LAST_TURNS: seconds for first turns after the drain."""
CLOSING = 5.0
"""Seconds to close connections and exit; about one was seen."""
CALLS_PER_WORKER = 25.0
"""Calls to Discord a second that one worker process makes with one CPU, see the sizing table in docs/deploy.md."""


SHOWN = set(re.findall(r"^\| `(indexer_\w+)`", (rendered.REPOSITORY / "docs/metrics.md").read_text(), re.MULTILINE))
"""Every metric of ours; a query of another one finds nothing, without a word."""


def settings_of(objects: rendered.Objects) -> dict[str, str]:
    """Return the variables that all processes get, defaults of base/indexer.env included."""
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


def graceful(objects: rendered.Objects) -> Iterator[str]:
    """A pod is killed only after everything that it may do at its end is over."""
    given = settings_of(objects)
    service = rendered.pod_of(rendered.one(objects, "Deployment", "indexer-service"))
    pause = service["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = pause + float(given["INDEXER_DRAIN"]) + LAST_TURNS + CLOSING
    if pause < 5 or service.get("terminationGracePeriodSeconds", 30) < needed:
        yield f"the service needs {needed} s to end, after a pause in which endpoints forget it"
    worker = rendered.pod_of(rendered.one(objects, "Deployment", "indexer-worker"))
    needed = 2 * float(given["WORKERS_SHUTDOWN_TIMEOUT"]) + CLOSING
    if worker.get("terminationGracePeriodSeconds", 30) < needed:
        yield f"a worker needs {needed} s to end"


def scaled_to_the_budget(objects: rendered.Objects) -> Iterator[str]:
    """Workers beyond what the global budget feeds are never started; two more are there for a zone that is lost."""
    capacity, window = settings_of(objects)["GLOBAL_BUDGET"].split("/")
    most = math.ceil(float(capacity) / float(window) / CALLS_PER_WORKER) + 2
    for found in rendered.of_kind(objects, "ScaledObject"):
        spec = found["spec"]
        if spec["maxReplicaCount"] != most or spec["minReplicaCount"] < 2:
            yield f"{rendered.title(found)}: between 2 and {most} workers make sense with this budget"
        kinds = {trigger["type"] for trigger in spec["triggers"]}
        asked = " ".join(trigger["metadata"].get("query", "") for trigger in spec["triggers"])
        if asked.count("{") != asked.count(f'namespace="{found["metadata"]["namespace"]}"'):
            yield f"{rendered.title(found)} looks at other namespaces"
        unknown = set(re.findall(r"indexer_\w+", asked)) - SHOWN
        if unknown:
            yield f"{rendered.title(found)} asks for what nobody shows: {unknown}"
        if kinds & {"cpu", "memory"} or "indexer_queue" not in asked or "indexer_budget" not in asked:
            yield f"{rendered.title(found)} must look at queue and headroom"
    for workload in rendered.of_kind(objects, "Deployment"):
        owned = any(each["spec"]["scaleTargetRef"]["name"] == workload["metadata"]["name"]
                    for each in rendered.of_kind(objects, "ScaledObject"))  # fmt: skip
        if owned and "replicas" in workload["spec"]:
            yield f"{rendered.title(workload)} names a size that its scaler owns"


def refreshed(objects: rendered.Objects) -> Iterator[str]:
    """Guilds are read again by the workers, or by one Deployment for that, and not by both."""
    apart = [
        found
        for found in rendered.of_kind(objects, "Deployment")
        for container in rendered.pod_of(found)["containers"]
        if container.get("command") == ["python", "-m", "workers.refresh"]
    ]
    by_workers = settings_of(objects)["WORKERS_REFRESH"] not in {"0", "False"}
    if len(apart) + by_workers != 1:
        yield "guilds are refreshed by nobody, or by two kinds of processes"


def trusted(objects: rendered.Objects) -> Iterator[str]:
    """Beyond dev callers prove who they are, and the certificate names the service as they dial it."""
    given = settings_of(objects)
    guards = ("INDEXER_TLS_CERT", "INDEXER_TLS_KEY", "INDEXER_SERVICE_TOKENS_FILE")
    if given.get("INDEXER_INSECURE") != "1" and not all(given.get(name) for name in guards):
        yield "callers are neither authenticated nor is that accepted"
    if given.get("INDEXER_INSECURE") != "1" and given.get("INDEXER_REFLECTION") == "1":
        yield "everybody is shown what the API looks like"
    mounted = {
        mount["mountPath"]
        for container in rendered.pod_of(rendered.one(objects, "Deployment", "indexer-service"))["containers"]
        for mount in container["volumeMounts"]
    }
    for name in (*guards, "INDEXER_TLS_CLIENT_CA"):
        path = given.get(name, "")
        if path and path.rpartition("/")[0] not in mounted:
            yield f"{name} names a file that is not mounted"
    for found in rendered.of_kind(objects, "Certificate"):
        names = found["spec"].get("dnsNames", [])
        if names and f"indexer-service.{found['metadata']['namespace']}.svc.cluster.local" not in names:
            yield f"{rendered.title(found)} does not carry the service's name"


RULES: tuple[policy.Rule, ...] = (graceful, scaled_to_the_budget, refreshed, trusted)
