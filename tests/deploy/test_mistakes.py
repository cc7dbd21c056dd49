"""Common mistakes, each applied to a rendered overlay: a check must find it."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.deploy import graces, network, nodes, policy, rendered, schemas, test_network

Change = Callable[[rendered.Object], object]


def at(path: str, value: Any) -> Change:  # noqa: ANN401 -- whatever YAML can say
    """Return a change that sets the value at a path such as `spec.ports.0.port`."""

    def change(found: rendered.Object) -> None:
        here, last = walked(found, path)
        here[last] = value

    return change


def without(path: str) -> Change:
    """Return a change that removes the value at a path."""

    def change(found: rendered.Object) -> None:
        here, last = walked(found, path)
        del here[last]

    return change


def walked(found: rendered.Object, path: str) -> tuple[Any, Any]:
    """Return the parent of a path's end, and the last step; a dot inside a step is written ~1."""
    here: Any = found
    *way, last = [int(step) if step.isdigit() else step.replace("~1", ".") for step in path.split(".")]
    for step in way:
        here = here[step]
    return here, last


POD = "spec.template.spec"
FIRST = f"{POD}.containers.0"
TRIGGER = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}}
MISTAKES: list[tuple[str, str, str, Change]] = [
    ("a misspelt field", "Deployment", "indexer-service", at(f"{FIRST}.livenesProbe", {})),
    ("a number as text", "Deployment", "indexer-service", at("spec.replicas", "2")),
    ("a kind of long ago", "PodDisruptionBudget", "indexer-service", at("apiVersion", "policy/v1beta1")),
    ("an unknown kind", "Service", "indexer-service", at("kind", "Servize")),
    ("a misspelt field of KEDA", "ScaledObject", "indexer-worker", at("spec.maxReplicasCount", 4)),
    ("a misspelt field of a trigger", "ScaledObject", "indexer-worker", at("spec.triggers.0.metdata", {})),
    ("a misspelt field of cert-manager", "Certificate", "indexer-service", at("spec.dnsName", "x")),
    ("a wrong interval of a monitor", "PodMonitor", "indexer-worker", at("spec.podMetricsEndpoints.0.interval", "15")),
    ("root", "Deployment", "indexer-worker", at(f"{POD}.securityContext.runAsUser", 0)),
    ("runAsNonRoot forgotten", "Deployment", "indexer-worker", without(f"{POD}.securityContext.runAsNonRoot")),
    ("a writable root", "Deployment", "indexer-worker", at(f"{FIRST}.securityContext.readOnlyRootFilesystem", False)),
    ("a capability", "Deployment", "indexer-service",
     at(f"{FIRST}.securityContext.capabilities", {"drop": ["ALL"], "add": ["NET_ADMIN"]})),
    ("no seccomp profile", "Deployment", "indexer-exporter", without(f"{POD}.securityContext.seccompProfile")),
    ("privileges", "Deployment", "indexer-service", at(f"{FIRST}.securityContext.allowPrivilegeEscalation", True)),
    ("the node's network", "Deployment", "indexer-service", at(f"{POD}.hostNetwork", True)),
    ("a token of the cluster", "Deployment", "indexer-service", at(f"{POD}.automountServiceAccountToken", True)),
    ("variables of other services", "Deployment", "indexer-service", without(f"{POD}.enableServiceLinks")),
    ("no limit of memory", "Deployment", "indexer-worker", without(f"{FIRST}.resources.limits.memory")),
    ("no request of CPU", "Deployment", "indexer-worker", without(f"{FIRST}.resources.requests.cpu")),
    ("no liveness", "Deployment", "indexer-service", without(f"{FIRST}.livenessProbe")),
    ("a probe of an unopened port", "Deployment", "indexer-service", at(f"{FIRST}.readinessProbe.grpc.port", 1)),
    ("liveness that is readiness", "Deployment", "indexer-worker", at(f"{FIRST}.livenessProbe.httpGet.path", "/readyz")),
    ("a secret in the open", "Deployment", "indexer-service", at(f"{FIRST}.env.0", {"name": "DISCORD_BOT_TOKEN", "value": "x"})),
    ("a key that the secret lacks", "Deployment", "indexer-service", at(f"{FIRST}.env.0.valueFrom.secretKeyRef.key", "token")),
    ("a missing secret", "Deployment", "indexer-service", at(f"{FIRST}.env.0.valueFrom.secretKeyRef.name", "x")),
    ("a missing ConfigMap", "Deployment", "indexer-worker", at(f"{FIRST}.envFrom.0.configMapRef.name", "x")),
    ("a volume that is not there", "Deployment", "indexer-worker", at(f"{POD}.volumes.0.name", "temp")),
    ("an account that is not there", "Deployment", "indexer-worker", at(f"{POD}.serviceAccountName", "default")),
    ("a priority that is not there", "Deployment", "indexer-worker", at(f"{POD}.priorityClassName", "high")),
    ("a selector that misses", "Service", "indexer-service", at("spec.selector", {"app": "indexer"})),
    ("a disruption budget without pods", "PodDisruptionBudget", "indexer-worker", at("spec.selector.matchLabels", {"app": "indexer"})),
    ("a disruption budget without evictions", "PodDisruptionBudget", "indexer-worker", at("spec.maxUnavailable", 0)),
    ("a budget that keeps what is broken", "PodDisruptionBudget", "indexer-worker", without("spec.unhealthyPodEvictionPolicy")),
    ("all callers in one zone", "Deployment", "indexer-service", without(f"{POD}.topologySpreadConstraints.0")),
    ("workers before callers", "PriorityClass", "indexer-background", at("value", 20000)),
    ("others thrown out", "PriorityClass", "indexer-interactive", without("preemptionPolicy")),
    ("an unknown metric", "ScaledObject", "indexer-worker",
     at("spec.triggers.0.metadata.query", 'max(indexer_queue_turn{namespace="indexer"})')),
    ("a monitor without pods", "PodMonitor", "indexer-worker", at("spec.selector.matchLabels", {"app": "indexer"})),
    ("a monitor of its own namespace alone", "PodMonitor", "indexer-worker", without("spec.namespaceSelector")),
    ("a monitor of pods that another one scrapes", "PodMonitor", "indexer-worker",
     without("spec.selector.matchLabels.app~1kubernetes~1io/component")),
    ("a misspelt field of a rule", "PrometheusRule", "indexer", at("spec.groups.0.rule", [])),
    ("a monitor of a port that is not there", "PodMonitor", "indexer-worker", at("spec.podMetricsEndpoints.0.port", "web")),
    ("a target port that is not there", "Service", "indexer-service", at("spec.ports.0.targetPort", "http")),
    ("a policy without pods", "NetworkPolicy", "indexer-worker", at("spec.podSelector.matchLabels", {"app": "indexer"})),
    ("a policy for a port that is not there", "NetworkPolicy", "indexer-service", at("spec.ingress.0.ports.0.port", "http")),
    ("a policy that is open", "NetworkPolicy", "indexer-worker", at("spec.egress", [{}])),
    ("callers of every namespace", "NetworkPolicy", "indexer-service", at("spec.ingress.0.from.0.namespaceSelector", {})),
    ("no default", "NetworkPolicy", "default-deny", at("spec.policyTypes", ["Egress"])),
    ("no process that refreshes", "Deployment", "indexer-refresh", without(f"{FIRST}.command")),
    ("a grace too short", "Deployment", "indexer-service", at(f"{POD}.terminationGracePeriodSeconds", 30)),
    ("no pause before the drain", "Deployment", "indexer-service", without(f"{FIRST}.lifecycle")),
    ("a worker's grace too short", "Deployment", "indexer-worker", at(f"{POD}.terminationGracePeriodSeconds", 30)),
    ("workers without end", "ScaledObject", "indexer-worker", at("spec.maxReplicaCount", 50)),
    ("another fleet's queue", "ScaledObject", "indexer-worker", at("spec.triggers.0.metadata.query", 'indexer_queue_turns{state="live"}')),
    ("no workers", "ScaledObject", "indexer-worker", at("spec.minReplicaCount", 0)),
    ("scaling by CPU", "ScaledObject", "indexer-worker", at("spec.triggers", [TRIGGER])),
    ("a scaler without a workload", "ScaledObject", "indexer-worker", at("spec.scaleTargetRef.name", "worker")),
    ("two owners of a size", "Deployment", "indexer-worker", at("spec.replicas", 2)),
    ("a file that is not mounted", "Deployment", "indexer-service", at(f"{FIRST}.volumeMounts.1.mountPath", "/elsewhere")),
    ("a certificate of another name", "Certificate", "indexer-service", at("spec.dnsNames", ["localhost"])),
    ("a namespace that lets anything in", "Namespace", "indexer", at("metadata.labels", {})),
]  # fmt: skip


def caught(objects: rendered.Objects, changed: rendered.Object) -> bool:
    """Return whether any check finds a problem."""
    if any(True for rule in [*policy.RULES, *nodes.RULES, *graces.RULES] for _ in rule(objects)):
        return True
    if any(True for _ in schemas.schema_errors([changed])):
        return True
    return any(
        network.allowed(objects, test_network.end(objects, source), test_network.end(objects, target), port) != expected
        for _, source, target, port, expected in test_network.FLOWS
    )


@pytest.mark.parametrize(
    ("kind", "name", "change"), [each[1:] for each in MISTAKES], ids=[each[0] for each in MISTAKES]
)
def test_a_mistake_is_caught_when_it_is_made(
    production: rendered.Objects, kind: str, name: str, change: Change
) -> None:
    """Each mistake is applied to an otherwise valid overlay."""
    found = rendered.one(production, kind, name)

    change(found)

    assert caught(production, found)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REDIS_URL", "redis://:password@redis"),
        ("INDEXER_SERVICE_TOKENS_FILE", ""),
        ("INDEXER_REFLECTION", "1"),
        ("WORKERS_REFRESH", "1"),
    ],
    ids=["a secret", "callers without tokens", "reflection", "workers that refresh, too"],
)
def test_a_mistake_in_the_settings_is_caught_when_it_is_made(
    production: rendered.Objects, variable: str, value: str
) -> None:
    """Not part of the table, because the map's name has a hash."""
    (found, *_) = rendered.of_kind(production, "ConfigMap")
    found["data"][variable] = value

    assert caught(production, found)


def test_nothing_is_caught_when_nothing_is_wrong(production: rendered.Objects) -> None:
    """This proves that the tests above find the mistake itself."""
    assert not any(caught(production, found) for found in production)
