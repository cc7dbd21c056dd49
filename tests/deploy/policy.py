"""
Rules that schemas cannot express. Each rule takes an installation's objects and yields one line per problem.

Unlike a cluster's API server, they reject references to ConfigMaps, ports or Secret keys that do not exist.
"""

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

from tests.deploy import rendered

Rule: TypeAlias = Callable[[rendered.Objects], Iterator[str]]
EXTERNAL_SECRETS = {
    "indexer-discord": {"bot-token"},
    "indexer-keys": {"credential-keys"},
    "indexer-backends": {"redis-url", "mongodb-url"},
    "indexer-service-tokens": {"tokens"},
}
"""Secrets that production gets from outside, with their keys, as documented in docs/deploy.md."""
OPTIONAL_MONITORS = {"indexer-gateway"}
"""Monitors of processes that an installation may lack."""
SECRETS = re.compile(r"TOKEN$|_KEYS$|^(REDIS|MONGODB)_URL$|SECRET$|PASSWORD$")
"""Names of variables with secret values; URLs of backends contain passwords."""


def containers_are_unprivileged(objects: rendered.Objects) -> Iterator[str]:
    """Every container runs as non-root, read-only, without capabilities or a cluster token, and with seccomp."""
    for where, pod, container in rendered.containers(objects):
        outer, inner = pod.get("securityContext", {}), container.get("securityContext", {})
        wanted = {
            "runs as root": outer.get("runAsNonRoot") is True and outer.get("runAsUser", 0) > 0,
            "has a writable root file system": inner.get("readOnlyRootFilesystem") is True,
            "may gain privileges": inner.get("allowPrivilegeEscalation") is False,
            "has capabilities": inner.get("capabilities") == {"drop": ["ALL"]},
            "has no seccomp profile": outer.get("seccompProfile") == {"type": "RuntimeDefault"},
            "gets a service account token": pod.get("automountServiceAccountToken") is False,
            "gets service link variables": pod.get("enableServiceLinks") is False,
            "shares namespaces of its node": not {"hostNetwork", "hostPID", "hostIPC"} & set(pod),
        }
        yield from (f"{where} {problem}" for problem, good in wanted.items() if not good)


def containers_have_resources(objects: rendered.Objects) -> Iterator[str]:
    """Every container has resource requests and limits."""
    for where, _, container in rendered.containers(objects):
        for bound in ("requests", "limits"):
            given = container.get("resources", {}).get(bound, {})
            yield from (
                f"{where} has no {bound} of {what}"
                for what in ("cpu", "memory", "ephemeral-storage")
                if what not in given
            )


def containers_have_probes(objects: rendered.Objects) -> Iterator[str]:
    """Every container has all three probes on one of its ports; liveness depends on no backend."""
    for where, _, container in rendered.containers(rendered.of_kind(objects, "Deployment")):
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container.get(kind, {})
            asked = probe.get("grpc") or probe.get("httpGet") or probe.get("tcpSocket") or {}
            if asked.get("port") not in {*ports, *ports.values()}:
                yield f"{where} has no {kind} on one of its ports"
        live = container.get("livenessProbe", {})
        if live.get("httpGet", {}).get("path", "/livez") != "/livez" or live.get("grpc", {}).get("service"):
            yield f"{where}: the liveness probe depends on more than the process"


def referenced_keys_exist(objects: rendered.Objects) -> Iterator[str]:
    """Every referenced ConfigMap and Secret key exists, and no secret is a literal value."""
    made = {rendered.title(found) for found in objects}
    keys = _keys(objects)
    for where, _, container in rendered.containers(objects):
        for variable in container.get("env", []):
            if "value" in variable and SECRETS.search(variable["name"]):
                yield f"{where}: {variable['name']} is a literal value"
            wanted = variable.get("valueFrom", {}).get("secretKeyRef")
            if wanted and not wanted.get("optional") and wanted["key"] not in keys.get(wanted["name"], set()):
                yield f"{where}: {wanted['name']}/{wanted['key']} does not exist"
        for source in container.get("envFrom", []):
            if f"ConfigMap/{source.get('configMapRef', {}).get('name')}" not in made:
                yield f"{where}: {source} does not exist"


def referenced_objects_exist(objects: rendered.Objects) -> Iterator[str]:
    """Every referenced volume, secret, service account and priority class exists."""
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
                yield f"{where}: the secret {secret} does not exist"
            for source in volume.get("projected", {}).get("sources", []):
                yield from _missing_files(objects, where, source["secret"])
        for kind, name in (("ServiceAccount", "serviceAccountName"), ("PriorityClass", "priorityClassName")):
            if name in pod and f"{kind}/{pod[name]}" not in made:
                yield f"{where}: {kind} {pod[name]} does not exist"


def _missing_files(objects: rendered.Objects, where: str, source: rendered.Object) -> Iterator[str]:
    known = _keys(objects).get(source["name"], set())
    yield from (f"{where}: {source['name']}/{item['key']} does not exist" for item in source["items"]
                if item["key"] not in known)  # fmt: skip


def _keys(objects: rendered.Objects) -> dict[str, set[str]]:
    """Return the keys of every secret that the installation creates, or else expects from outside."""
    made = rendered.of_kind(objects, "Secret")
    fetched = {
        found["spec"]["target"]["name"]: {each["secretKey"] for each in found["spec"]["data"]}
        for found in rendered.of_kind(objects, "ExternalSecret")
    }
    return {
        **(fetched or EXTERNAL_SECRETS),
        **{found["metadata"]["name"]: {*found.get("data", {}), *found.get("stringData", {})} for found in made},
    }


def no_secret_in_a_config_map(objects: rendered.Objects) -> Iterator[str]:
    """No ConfigMap contains a secret."""
    for found in rendered.of_kind(objects, "ConfigMap"):
        yield from (f"{rendered.title(found)}: {name} is a secret" for name in found["data"] if SECRETS.search(name))


def selectors_match_pods(objects: rendered.Objects) -> Iterator[str]:
    """Every selector of Services, disruption budgets and policies selects a pod."""
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


def workloads_select_their_own_pods(objects: rendered.Objects) -> Iterator[str]:
    """
    Workloads, their spreads and disruption budgets select the pods of one workload, by labels that never change.

    Kubernetes evicts no pod that two disruption budgets select, and refuses another selector of a Deployment.
    """
    workloads = rendered.of_kind(objects, "Deployment")
    selectors = [(each, each["spec"]["selector"]) for each in rendered.of_kind(objects, "PodDisruptionBudget")]
    for found in workloads:
        spreads = [each["labelSelector"] for each in rendered.pod_of(found).get("topologySpreadConstraints", [])]
        for selector in [found["spec"]["selector"], *spreads]:
            selectors.append((found, selector))
            if not rendered.matches(selector, rendered.pod_labels(found)):
                yield f"{rendered.title(found)} does not select its own pods"
    for found, selector in selectors:
        if sum(rendered.matches(selector, rendered.pod_labels(each)) for each in workloads) > 1:
            yield f"{rendered.title(found)} selects pods of others"
        if "app.kubernetes.io/version" in selector["matchLabels"]:
            yield f"{rendered.title(found)} selects pods of one version"
    for found in [*rendered.of_kind(objects, "ScaledObject"), *rendered.of_kind(objects, "HorizontalPodAutoscaler")]:
        target = found["spec"]["scaleTargetRef"]
        if f"{target['kind']}/{target['name']}" not in {rendered.title(each) for each in workloads}:
            yield f"{rendered.title(found)} scales a workload that does not exist"


def one_namespace_has_all(objects: rendered.Objects) -> Iterator[str]:
    """Everything that a pod refers to, and what selects it, is in the namespace of the pods."""
    watched = {found["metadata"]["namespace"] for found in rendered.of_kind(objects, "PodMonitor")}
    spaces = {found["metadata"]["namespace"] for found in objects if "namespace" in found["metadata"]} - watched
    if len(spaces) > 1:
        yield f"the installation is in several namespaces: {sorted(spaces)}"


def certificates_have_an_issuer(objects: rendered.Objects) -> Iterator[str]:
    """Every certificate's issuer exists."""
    issuers = {found["metadata"]["name"] for found in rendered.of_kind(objects, "Issuer")}
    for found in rendered.of_kind(objects, "Certificate"):
        if found["spec"]["issuerRef"]["name"] not in issuers:
            yield f"{rendered.title(found)} has no issuer"


def named_ports_exist(objects: rendered.Objects) -> Iterator[str]:
    """Every named port exists in each selected pod."""
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


def metrics_ports_are_scraped(objects: rendered.Objects) -> Iterator[str]:
    """Every metrics port is scraped by exactly one monitor, and every monitor scrapes one."""
    shown = [
        workload
        for workload in rendered.of_kind(objects, "Deployment")
        for container in rendered.pod_of(workload)["containers"]
        if any(port["name"] == "metrics" for port in container.get("ports", []))
    ]
    monitors = rendered.of_kind(objects, "PodMonitor")
    for found in monitors:
        ports = [end["port"] for end in found["spec"]["podMetricsEndpoints"]]
        if found["metadata"]["name"] in OPTIONAL_MONITORS and not any(rendered.scrapes(found, each) for each in shown):
            continue
        if ports != ["metrics"] or not any(rendered.scrapes(found, each) for each in shown):
            yield f"{rendered.title(found)} scrapes nothing"
    for workload in shown:
        if sum(rendered.scrapes(found, workload) for found in monitors) != 1:
            yield f"{rendered.title(workload)} is not scraped exactly once"


def objects_are_found_by_labels(objects: rendered.Objects) -> Iterator[str]:
    """Labels name the product, the installation, its version and Helm, so that leftovers can be selected."""
    for found in objects:
        labels = found["metadata"].get("labels", {})
        wanted = {"part-of", "instance", "version", "managed-by"} if "namespace" in found["metadata"] else {"part-of"}
        missing = {f"app.kubernetes.io/{each}" for each in wanted} - set(labels)
        if missing:
            yield f"{rendered.title(found)} lacks {sorted(missing)}"


RULES: tuple[Rule, ...] = (
    containers_are_unprivileged,
    containers_have_resources,
    containers_have_probes,
    referenced_keys_exist,
    referenced_objects_exist,
    no_secret_in_a_config_map,
    selectors_match_pods,
    workloads_select_their_own_pods,
    one_namespace_has_all,
    certificates_have_an_issuer,
    named_ports_exist,
    metrics_ports_are_scraped,
    objects_are_found_by_labels,
)
