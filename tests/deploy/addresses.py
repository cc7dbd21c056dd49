"""Settings that hold an address, and whether the rendered policies let its process reach it."""

import base64
import contextlib
import ipaddress
import re
import urllib.parse
from collections.abc import Iterator

from tests.deploy import network, rendered

PORTS = {"https": 443, "http": 80, "redis": 6379, "rediss": 6379, "mongodb": 27017, "mongodb+srv": 27017}
PUBLIC = "162.159.128.233"
"""Stands for every host that is not of the cluster: one of Discord's addresses."""
NOT_USED = {"indexer-exporter": {"DISCORD_API_BASE", "OTEL_EXPORTER_OTLP_ENDPOINT"}}
"""Settings that a process is given and makes no connection by."""
LINKS = {"INDEXING_INSTALL_URL"}
"""Settings with an address that only people open."""


def unreachable(objects: rendered.Objects) -> Iterator[str]:
    """Every address in a setting is allowed by the policies of the processes that have the setting."""
    for workload in rendered.of_kind(objects, "Deployment"):
        name = workload["metadata"]["name"]
        if "app.kubernetes.io/component" not in rendered.pod_labels(workload) or not name.startswith("indexer-"):
            continue
        own = network.pod(objects, name)
        for variable, value in sorted(_settings(objects, workload).items()):
            if not re.match(r"[a-z+]+://", value) or variable in {*LINKS, *NOT_USED.get(name, ())}:
                continue
            for host, port in _hosts(value):
                if not network.allowed(objects, own, _end(objects, own, host), port):
                    yield f"{name} cannot reach {variable}: {host}:{port}"


def _hosts(value: str) -> Iterator[tuple[str, int]]:
    """Yield hosts and ports of a URL; those of replica sets and Sentinels have several."""
    whole = urllib.parse.urlsplit(value)
    for each in whole.netloc.rpartition("@")[2].split(","):
        one = urllib.parse.urlsplit(f"//{each}")
        yield one.hostname or "", one.port or PORTS[whole.scheme]


def _settings(objects: rendered.Objects, workload: rendered.Object) -> dict[str, str]:
    """Return the variables of a workload, as far as the installation has their values."""
    found: dict[str, str] = {}
    for container in rendered.pod_of(workload)["containers"]:
        for source in container.get("envFrom", []):
            for each in rendered.of_kind(objects, "ConfigMap"):
                if each["metadata"]["name"] == source.get("configMapRef", {}).get("name"):
                    found |= each["data"]
        for each in container.get("env", []):
            found[each["name"]] = _value(objects, each)
    return found


def _value(objects: rendered.Objects, variable: rendered.Object) -> str:
    """Return the value of a variable, empty when it comes from outside."""
    wanted = variable.get("valueFrom", {}).get("secretKeyRef", {})
    for secret in rendered.of_kind(objects, "Secret"):
        if secret["metadata"]["name"] == wanted.get("name") and wanted["key"] in secret.get("data", {}):
            return base64.b64decode(secret["data"][wanted["key"]]).decode()
    return str(variable.get("value", ""))


def _end(objects: rendered.Objects, own: network.End, host: str) -> network.End:
    """Return what a host leads to: itself, pods of a Service, an unknown pod of a namespace, or a public address."""
    with contextlib.suppress(ValueError):
        return network.End(address=str(ipaddress.ip_address(host)))
    name, _, rest = host.partition(".")
    if rest and ".svc" not in f".{rest}":
        return network.End(address=PUBLIC)
    namespace = rest.split(".")[0] if rest else own.namespace
    for service in rendered.of_kind(objects, "Service"):
        if (service["metadata"]["namespace"], service["metadata"]["name"]) == (namespace, name):
            selector = {"matchLabels": service["spec"]["selector"]}
            for workload in rendered.of_kind(objects, "Deployment"):
                if rendered.matches(selector, rendered.pod_labels(workload)):
                    return network.pod(objects, workload["metadata"]["name"])
    return network.End(namespace, (), (("kubernetes.io/metadata.name", namespace),))
