"""
Rules that schemas cannot say. Each takes an overlay's objects and returns what is wrong, one line a problem.

A cluster's API server accepts a reference to a ConfigMap, port or Secret key that does not exist; these rules do not.
"""

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

from tests.deploy import rendered

Rule: TypeAlias = Callable[[rendered.Objects], Iterator[str]]
OUTSIDE = {
    "indexer-discord": {"bot-token"},
    "indexer-keys": {"credential-keys"},
    "indexer-backends": {"redis-url", "mongodb-url"},
    "indexer-service-tokens": {"tokens"},
}
"""Secrets that production takes from outside, with their keys: the contract that docs/deploy.md tells operators."""
SECRETS = re.compile(r"TOKEN$|_KEYS$|_URL$|SECRET$|PASSWORD$")
"""Names of variables whose values are secret; backends' URLs carry passwords."""


def confined(objects: rendered.Objects) -> Iterator[str]:
    """Every container runs as a user, read-only, without capabilities, under seccomp, and knows no cluster."""
    for where, pod, container in rendered.containers(objects):
        outer, inner = pod.get("securityContext", {}), container.get("securityContext", {})
        wanted = {
            "runs as root": outer.get("runAsNonRoot") is True and outer.get("runAsUser", 0) > 0,
            "may write its root file system": inner.get("readOnlyRootFilesystem") is True,
            "may gain privileges": inner.get("allowPrivilegeEscalation") is False,
            "has capabilities": inner.get("capabilities") == {"drop": ["ALL"]},
            "has no seccomp profile": outer.get("seccompProfile") == {"type": "RuntimeDefault"},
            "gets a token of the cluster": pod.get("automountServiceAccountToken") is False,
            "gets other services' variables": pod.get("enableServiceLinks") is False,
            "shares with its node": not {"hostNetwork", "hostPID", "hostIPC"} & set(pod),
        }
        yield from (f"{where} {problem}" for problem, good in wanted.items() if not good)


def limited(objects: rendered.Objects) -> Iterator[str]:
    """Every container says what it needs and what it may take at most."""
    for where, _, container in rendered.containers(objects):
        for bound in ("requests", "limits"):
            given = container.get("resources", {}).get(bound, {})
            yield from (
                f"{where} has no {bound} of {what}"
                for what in ("cpu", "memory", "ephemeral-storage")
                if what not in given
            )


def probed(objects: rendered.Objects) -> Iterator[str]:
    """Every container has all three probes, on a port that it opens; liveness depends on no server."""
    for where, _, container in rendered.containers(objects):
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container.get(kind, {})
            asked = probe.get("grpc") or probe.get("httpGet") or probe.get("tcpSocket") or {}
            if asked.get("port") not in {*ports, *ports.values()}:
                yield f"{where} has no {kind} on one of its ports"
        live = container.get("livenessProbe", {})
        if live.get("httpGet", {}).get("path", "/livez") != "/livez" or live.get("grpc", {}).get("service"):
            yield f"{where}: liveness asks for more than life"


def configured(objects: rendered.Objects) -> Iterator[str]:
    """Every ConfigMap and Secret key that a variable needs exists, and no secret is written down."""
    made = {rendered.title(found) for found in objects}
    keys = _keys(objects)
    for where, _, container in rendered.containers(objects):
        for variable in container.get("env", []):
            if "value" in variable and SECRETS.search(variable["name"]):
                yield f"{where}: {variable['name']} is written down"
            wanted = variable.get("valueFrom", {}).get("secretKeyRef")
            if wanted and not wanted.get("optional") and wanted["key"] not in keys.get(wanted["name"], set()):
                yield f"{where}: nobody makes {wanted['name']}/{wanted['key']}"
        for source in container.get("envFrom", []):
            if f"ConfigMap/{source.get('configMapRef', {}).get('name')}" not in made:
                yield f"{where}: {source} does not exist"


def furnished(objects: rendered.Objects) -> Iterator[str]:
    """Every volume, account and priority that a pod names exists."""
    made = {rendered.title(found) for found in objects}
    issued = {found["spec"]["secretName"] for found in rendered.of_kind(objects, "Certificate")}
    for where, pod, container in rendered.containers(objects):
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"{where}: there is no volume {mount['name']}"
        for volume in pod.get("volumes", []):
            secret = volume.get("secret", {}).get("secretName")
            if secret and secret not in {*_keys(objects), *issued}:
                yield f"{where}: nobody makes the secret {secret}"
        for kind, name in (("ServiceAccount", "serviceAccountName"), ("PriorityClass", "priorityClassName")):
            if name in pod and f"{kind}/{pod[name]}" not in made:
                yield f"{where}: {kind} {pod[name]} does not exist"


def _keys(objects: rendered.Objects) -> dict[str, set[str]]:
    """Return the keys of every secret that the overlay makes, or that comes from outside."""
    made = rendered.of_kind(objects, "Secret")
    return {
        **OUTSIDE,
        **{found["metadata"]["name"]: {*found.get("data", {}), *found.get("stringData", {})} for found in made},
    }


def no_secret_in_a_config_map(objects: rendered.Objects) -> Iterator[str]:
    """A ConfigMap is no place for a secret."""
    for found in rendered.of_kind(objects, "ConfigMap"):
        yield from (f"{rendered.title(found)}: {name} is a secret" for name in found["data"] if SECRETS.search(name))


def selected(objects: rendered.Objects) -> Iterator[str]:
    """Every selector selects pods: of Services, budgets and policies."""
    for found in objects:
        spec = found.get("spec", {})
        if found["kind"] not in {"Service", "PodDisruptionBudget", "NetworkPolicy"}:
            continue
        selector = spec["podSelector"] if found["kind"] == "NetworkPolicy" else spec["selector"]
        if found["kind"] == "Service":
            selector = {"matchLabels": selector}
        workloads = rendered.of_kind(objects, "Deployment")
        if not any(rendered.matches(selector, rendered.pod_labels(each)) for each in workloads):
            yield f"{rendered.title(found)} selects no pod"


def self_selected(objects: rendered.Objects) -> Iterator[str]:
    """A workload selects its own pods, spreads them and not others, and what scales it exists."""
    workloads = rendered.of_kind(objects, "Deployment")
    for found in workloads:
        own = rendered.pod_labels(found)
        spreads = [each["labelSelector"] for each in rendered.pod_of(found).get("topologySpreadConstraints", [])]
        if not all(rendered.matches(each, own) for each in [found["spec"]["selector"], *spreads]):
            yield f"{rendered.title(found)} does not select its own pods"
    for found in rendered.of_kind(objects, "ScaledObject"):
        target = found["spec"]["scaleTargetRef"]
        if f"{target['kind']}/{target['name']}" not in {rendered.title(each) for each in workloads}:
            yield f"{rendered.title(found)} scales what does not exist"


def ported(objects: rendered.Objects) -> Iterator[str]:
    """Every port that is named is opened by each pod that is meant."""
    for found in objects:
        if found["kind"] == "Service":
            named = [port["targetPort"] for port in found["spec"]["ports"]]
            yield from _unopened(objects, found, {"matchLabels": found["spec"]["selector"]}, named)
        if found["kind"] == "NetworkPolicy":
            named = [port["port"] for rule in found["spec"].get("ingress", []) for port in rule.get("ports", [])]
            yield from _unopened(objects, found, found["spec"]["podSelector"], named)


def _unopened(
    objects: rendered.Objects, found: rendered.Object, selector: rendered.Object, named: list[str | int]
) -> Iterator[str]:
    for workload in rendered.of_kind(objects, "Deployment"):
        if rendered.matches(selector, rendered.pod_labels(workload)):
            inside = [port for each in rendered.pod_of(workload)["containers"] for port in each.get("ports", [])]
            opened = {port["name"] for port in inside} | {port["containerPort"] for port in inside}
            yield from (
                f"{rendered.title(found)}: {rendered.title(workload)} has no port {port}"
                for port in named
                if port not in opened
            )


def watched(objects: rendered.Objects) -> Iterator[str]:
    """Every port for metrics is scraped by one monitor, and every monitor scrapes one."""
    shown = [
        workload
        for workload in rendered.of_kind(objects, "Deployment")
        for container in rendered.pod_of(workload)["containers"]
        if any(port["name"] == "metrics" for port in container.get("ports", []))
    ]
    monitors = rendered.of_kind(objects, "PodMonitor")
    for found in monitors:
        ports = [end["port"] for end in found["spec"]["podMetricsEndpoints"]]
        if ports != ["metrics"] or not any(rendered.scrapes(found, each) for each in shown):
            yield f"{rendered.title(found)} scrapes nothing"
    for workload in shown:
        if sum(rendered.scrapes(found, workload) for found in monitors) != 1:
            yield f"{rendered.title(workload)} is not scraped once"


def restricted(objects: rendered.Objects) -> Iterator[str]:
    """The namespace refuses pods that are less than restricted."""
    for found in rendered.of_kind(objects, "Namespace"):
        if found["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{rendered.title(found)} does not enforce restricted pods"


RULES: tuple[Rule, ...] = (
    confined,
    limited,
    probed,
    configured,
    furnished,
    no_secret_in_a_config_map,
    selected,
    self_selected,
    ported,
    watched,
    restricted,
)
