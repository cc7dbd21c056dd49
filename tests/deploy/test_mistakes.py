"""Common mistakes, each applied to a rendered installation: a check must find it."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.deploy import addresses, network, rendered, rules, schemas, test_network

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
    ("an exporter's grace too short", "Deployment", "indexer-exporter", at(f"{POD}.terminationGracePeriodSeconds", 15)),
    ("a request below the measured CPU", "Deployment", "indexer-worker", at(f"{FIRST}.resources.requests.cpu", "100m")),
    ("a request below the measured memory", "Deployment", "indexer-service", at(f"{FIRST}.resources.requests.memory", "100Mi")),
    ("memory that nobody uses", "Deployment", "indexer-exporter", at(f"{FIRST}.resources.requests.memory", "1Gi")),
    ("an unlimited maximum of services", "ScaledObject", "indexer-service", without("spec.maxReplicaCount")),
    ("services by CPU alone", "ScaledObject", "indexer-service", at("spec.triggers", [TRIGGER])),
    ("a single service", "ScaledObject", "indexer-service", at("spec.minReplicaCount", 1)),
    ("a migration beside the rollout", "Job", "indexer-migrate", without("metadata.annotations")),
    ("a migration with settings that are not there yet", "Job", "indexer-migrate",
     at(f"{FIRST}.envFrom", [{"configMapRef": {"name": "indexer-settings"}}])),
    ("an image by tag", "Deployment", "indexer-worker", at(f"{FIRST}.image", "ghcr.io/example/discord-channel-indexer-worker:0.1.0")),
    ("a migration as root", "Job", "indexer-migrate", at(f"{POD}.securityContext.runAsNonRoot", False)),
    ("an object that pruning does not find", "NetworkPolicy", "reach-backends", without("metadata.labels.app~1kubernetes~1io/instance")),
    ("an object of an unknown version", "Deployment", "indexer-worker", without("metadata.labels.app~1kubernetes~1io/version")),
    ("the cloud's metadata by NAT64", "NetworkPolicy", "indexer-worker",
     at("spec.egress.0.to.1.ipBlock.except", ["fc00::/7", "fe80::/10", "64:ff9b:1::/48"])),
    ("a certificate of another name", "Certificate", "indexer-service", at("spec.dnsNames", ["localhost"])),
    ("a certificate without an issuer", "Certificate", "indexer-service", at("spec.issuerRef.name", "authority")),
    ("a private network", "NetworkPolicy", "indexer-worker",
     at("spec.egress.0.to.0.ipBlock.except", ["10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"])),
    ("a private network of IPv6", "NetworkPolicy", "indexer-service", at("spec.egress.0.to.1.ipBlock.except.0", "fc00::/8")),
    ("a private network by NAT64", "NetworkPolicy", "indexer-refresh", at("spec.egress.0.to.1.ipBlock.except.6", "64:ff9b::ac10:0/112")),
    ("liveness on the port of TLS", "Deployment", "indexer-service", at(f"{FIRST}.livenessProbe.grpc.port", 50051)),
    ("readiness of another service", "Deployment", "indexer-service", without(f"{FIRST}.readinessProbe.grpc.service")),
    ("readiness that is liveness", "Deployment", "indexer-worker", at(f"{FIRST}.readinessProbe.httpGet.path", "/livez")),
    ("liveness by an open port", "Deployment", "indexer-worker", at(f"{FIRST}.livenessProbe", {"tcpSocket": {"port": "metrics"}})),
    ("liveness without patience", "Deployment", "indexer-worker", at(f"{FIRST}.livenessProbe.failureThreshold", 1)),
    ("a start without patience", "Deployment", "indexer-refresh", at(f"{FIRST}.startupProbe.failureThreshold", 3)),
    ("a disruption budget of all pods", "PodDisruptionBudget", "indexer-worker",
     at("spec.selector.matchLabels", {"app.kubernetes.io/name": "indexer"})),
    ("a workload of all pods", "Deployment", "indexer-worker", at("spec.selector.matchLabels", {"app.kubernetes.io/name": "indexer"})),
    ("a workload of one version", "Deployment", "indexer-worker",
     at("spec.selector.matchLabels.app~1kubernetes~1io/version", "0.1.0")),
    ("pods spread among others'", "Deployment", "indexer-worker",
     at(f"{POD}.topologySpreadConstraints.0.labelSelector.matchLabels", {"app.kubernetes.io/name": "indexer"})),
    ("settings in another namespace", "ConfigMap", "indexer-settings", at("metadata.namespace", "indexer-second")),
    ("a balancer between clients and pods", "Service", "indexer-service", without("spec.clusterIP")),
    ("another port than callers are told", "Service", "indexer-service", at("spec.ports.0.port", 50050)),
    ("a rollout with fewer pods", "Deployment", "indexer-service", at("spec.strategy.rollingUpdate.maxUnavailable", 1)),
    ("two exporters", "Deployment", "indexer-exporter", at("spec.strategy", {"type": "RollingUpdate"})),
    ("settings that need no restart", "Deployment", "indexer-worker", without("spec.template.metadata.annotations")),
    ("backends of every port", "NetworkPolicy", "reach-backends", without("spec.egress.0.ports")),
    ("backends of every address", "NetworkPolicy", "reach-backends", at("spec.egress.1.to", [])),
    ("names over UDP alone", "NetworkPolicy", "resolve-names", at("spec.egress.0.ports", [{"protocol": "UDP", "port": 53}])),
    ("all of kube-system", "NetworkPolicy", "resolve-names", without("spec.egress.0.to.0.podSelector")),
    ("a migration that no policy lets out", "Job", "indexer-migrate", at("spec.template.metadata.labels", {})),
    ("a limit below the request", "Deployment", "indexer-worker", at(f"{FIRST}.resources.limits.memory", "128Mi")),
    ("a limit of thousandths of a byte", "Deployment", "indexer-worker", at(f"{FIRST}.resources.limits.memory", "512m")),
    ("another process' image", "Deployment", "indexer-worker", at(f"{FIRST}.image", "r/discord-channel-indexer-service@sha256:0")),
    ("another process' command", "Deployment", "indexer-exporter", without(f"{FIRST}.command")),
    ("an image that is never pulled", "Deployment", "indexer-worker", at(f"{FIRST}.imagePullPolicy", "Never")),
    ("no formula", "ScaledObject", "indexer-worker", without("spec.advanced.scalingModifiers")),
    ("a trigger of another name", "ScaledObject", "indexer-worker", at("spec.triggers.1.name", "free")),
    ("a sum that is not divided by the pods", "ScaledObject", "indexer-worker", at("spec.advanced.scalingModifiers.metricType", "Value")),
    ("no number taken for 0", "ScaledObject", "indexer-worker", at("spec.triggers.0.metadata.ignoreNullValues", "true")),
    ("no size without Prometheus", "ScaledObject", "indexer-worker", at("spec.fallback.replicas", 0)),
    ("another Prometheus for one trigger", "ScaledObject", "indexer-worker", at("spec.triggers.0.metadata.serverAddress", "http://x:9090")),
    ("more streams than a process carries", "ScaledObject", "indexer-service", at("spec.triggers.0.metadata.threshold", "25000")),
    ("CPU compared with the request", "ScaledObject", "indexer-service", at("spec.triggers.1.metricType", "Utilization")),
    ("a maximum below the minimum", "ScaledObject", "indexer-service", at("spec.maxReplicaCount", 2)),
]  # fmt: skip


OPTIONAL: list[tuple[str, str, str, Change]] = [
    ("a file whose secret has no such key", "Deployment", "indexer-worker",
     at(f"{POD}.volumes.1.projected.sources.0.secret.items.0.key", "token")),
    ("a file of another secret", "Deployment", "indexer-gateway", at(f"{POD}.volumes.1.projected.sources.0.secret.name", "x")),
    ("a secret that the store does not fill", "ExternalSecret", "indexer-keys", at("spec.data.0.secretKey", "key")),
    ("a misspelt field of the store", "ExternalSecret", "indexer-keys", at("spec.secretStore", {"name": "vault"})),
    ("an autoscaler without a workload", "HorizontalPodAutoscaler", "indexer-service", at("spec.scaleTargetRef.name", "service")),
    ("an autoscaler without a range", "HorizontalPodAutoscaler", "indexer-service", at("spec.maxReplicas", 1)),
    ("an autoscaler and a fixed size", "Deployment", "indexer-service", at("spec.replicas", 3)),
    ("a size that nobody sets", "Deployment", "indexer-worker", without("spec.replicas")),
    ("a single worker", "Deployment", "indexer-worker", at("spec.replicas", 1)),
    ("a trace endpoint that no policy allows", "NetworkPolicy", "send-traces", at("spec.egress.0.ports.0.port", 4317)),
    ("a feed of all in one zone", "Deployment", "indexer-gateway", without(f"{POD}.topologySpreadConstraints")),
    ("a feed with a token in the open", "Deployment", "indexer-gateway", at(f"{FIRST}.env.0", {"name": "DISCORD_BOT_TOKEN", "value": "x"})),
]  # fmt: skip


def caught(objects: rendered.Objects, changed: rendered.Object) -> bool:
    """Return whether any check finds a problem."""
    if any(True for rule in [*rules.RULES, addresses.unreachable] for _ in rule(objects)):
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
    """Each mistake is applied to an otherwise valid installation."""
    found = rendered.one(production, kind, name)

    change(found)

    assert caught(production, found)


@pytest.mark.parametrize(
    ("kind", "name", "change"), [each[1:] for each in OPTIONAL], ids=[each[0] for each in OPTIONAL]
)
def test_a_mistake_is_caught_when_it_is_made_in_an_optional_part(kind: str, name: str, change: Change) -> None:
    """The same, with everything on that production leaves off."""
    objects = rendered.installation("everything")
    found = rendered.one(objects, kind, name)

    change(found)

    assert caught(objects, found)


def test_a_missing_object_is_caught() -> None:
    """Each policy and disruption budget of the feed's process is needed, and so is its monitor."""
    objects = rendered.installation("everything")
    for kind in ("PodDisruptionBudget", "PodMonitor", "ServiceAccount"):
        left = [found for found in objects if (found["kind"], found["metadata"]["name"]) != (kind, "indexer-gateway")]
        assert caught(left, left[0]), kind


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REDIS_URL", "redis://:password@redis"),
        ("INDEXER_SERVICE_TOKENS_FILE", ""),
        ("INDEXER_REFLECTION", "1"),
        ("WORKERS_REFRESH", "1"),
        ("INDEXER_LISTEN", "[::]:50050"),
        ("INDEXER_LISTEN", "127.0.0.1:50051"),
        ("INDEXER_PROBE_PORT", "50060"),
        ("WORKERS_METRICS_PORT", "9999"),
        ("EXPORTER_HOST", "127.0.0.1"),
        ("DISCORD_API_BASE", "https://10.0.0.1/api/v10"),
    ],
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
