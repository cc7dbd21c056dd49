"""Rules about what a pod runs, and where its probes, settings and ports must agree."""

from collections.abc import Iterator
from typing import Any

from tests.deploy import graces, policy, rendered

READY = "indexer_service.v1.IndexerService"
HTTP: dict[str, dict[str, Any]] = {
    "startupProbe": {"httpGet": {"path": "/readyz", "port": "metrics"}},
    "livenessProbe": {"httpGet": {"path": "/livez", "port": "metrics"}},
    "readinessProbe": {"httpGet": {"path": "/readyz", "port": "metrics"}},
}
GRPC: dict[str, dict[str, Any]] = {
    "startupProbe": {"grpc": {"port": 50052}},
    "livenessProbe": {"grpc": {"port": 50052}},
    "readinessProbe": {"grpc": {"port": 50052, "service": READY}},
}
TCP: dict[str, dict[str, Any]] = {name: {"tcpSocket": {"port": "metrics"}} for name in HTTP}
PROBES = {"indexer-service": GRPC, "indexer-exporter": TCP}
"""What the kubelet asks; all other processes answer over HTTP. The exporter's /metrics reads Redis and MongoDB."""
PATIENCE = {"startupProbe": (60, 2), "livenessProbe": (30, 5), "readinessProbe": (5, 2)}
"""Least seconds until a probe counts as failed, and least seconds that one answer may take."""
PORTS = {
    "indexer-service": {"grpc": "INDEXER_LISTEN", "probe": "INDEXER_PROBE_PORT", "metrics": "INDEXER_METRICS_PORT"},
    "indexer-worker": {"metrics": "WORKERS_METRICS_PORT"},
    "indexer-refresh": {"metrics": "WORKERS_METRICS_PORT"},
    "indexer-exporter": {"metrics": "EXPORTER_PORT"},
    "indexer-gateway": {"metrics": "GATEWAY_METRICS_PORT"},
}
"""The setting that opens each port."""
COMMANDS = {
    "indexer-service": ("service", None),
    "indexer-worker": ("worker", None),
    "indexer-refresh": ("worker", ["python", "-m", "workers.refresh"]),
    "indexer-exporter": ("worker", ["python", "-m", "workers.exporter"]),
    "indexer-gateway": ("worker", ["python", "-m", "workers.gateway"]),
}
"""Image and command of each process."""


def processes(objects: rendered.Objects) -> Iterator[tuple[str, rendered.Object, rendered.Object]]:
    """Yield (name, workload, container) for every process of the product."""
    for workload in rendered.of_kind(objects, "Deployment"):
        if (name := workload["metadata"]["name"]) in COMMANDS:
            yield name, workload, rendered.pod_of(workload)["containers"][0]


def probes_ask_the_process(objects: rendered.Objects) -> Iterator[str]:
    """Each probe asks what the process answers, and bears a busy node."""
    for name, _, container in processes(objects):
        for kind, wanted in PROBES.get(name, HTTP).items():
            probe = container.get(kind, {})
            if {each: probe[each] for each in ("httpGet", "grpc", "tcpSocket") if each in probe} != wanted:
                yield f"{name}: the {kind} asks for {probe}"
            failed, answer = PATIENCE[kind]
            if probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3) < failed:
                yield f"{name}: the {kind} fails within {failed} s"
            if probe.get("timeoutSeconds", 1) < answer:
                yield f"{name}: the {kind} waits less than {answer} s for an answer"


def ports_are_opened_by_settings(objects: rendered.Objects) -> Iterator[str]:
    """A process listens on the ports that its pod names, on all addresses; the Service offers the port it targets."""
    given = graces.settings_of(objects)
    opened: dict[str, int] = {}
    for name, _, container in processes(objects):
        opened = {port["name"]: port["containerPort"] for port in container["ports"]}
        for port, setting in PORTS[name].items():
            if given[setting].rpartition(":")[2] != str(opened.get(port)):
                yield f"{name}: the port {port} is not the one of {setting}"
            host = given.get(setting.replace("_PORT", "_HOST"), "") if port == "metrics" else ""
            host = given[setting].rpartition(":")[0] if port == "grpc" else host
            if host not in {"", "[::]", "::", "0.0.0.0"}:
                yield f"{name}: {setting} is not open to other pods"
    for found in rendered.of_kind(objects, "Service"):
        if found["metadata"]["name"] == "indexer-service":
            if [port["port"] for port in found["spec"]["ports"]] != [50051]:
                yield "Service/indexer-service does not offer the port that callers are told"
            if found["spec"].get("clusterIP") != "None":
                yield "Service/indexer-service is not headless: clients would keep one pod"


def processes_run_their_program(objects: rendered.Objects) -> Iterator[str]:
    """Each process has its image and command, a rollout without loss, and restarts when a setting changes."""
    for name, workload, container in processes(objects):
        image, command = COMMANDS[name]
        if f"discord-channel-indexer-{image}" not in container["image"] or container.get("command") != command:
            yield f"{name} does not run its program"
        if container.get("imagePullPolicy", "IfNotPresent") != "IfNotPresent":
            yield f"{name} does not pull its image once"
        strategy = workload["spec"].get("strategy", {})
        if name == "indexer-exporter":
            if strategy.get("type") != "Recreate":
                yield f"{name}: two of it would count everything twice"
        elif strategy.get("rollingUpdate", {}).get("maxUnavailable") != 0:
            yield f"{name} has fewer pods during a rollout"
        if "checksum/settings" not in workload["spec"]["template"]["metadata"].get("annotations", {}):
            yield f"{name} keeps the old settings after an upgrade"


RULES: tuple[policy.Rule, ...] = (probes_ask_the_process, ports_are_opened_by_settings, processes_run_their_program)
