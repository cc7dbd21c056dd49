"""A small evaluator of NetworkPolicies: whether a connection is allowed, if the network enforces policies."""

import dataclasses
import ipaddress

from tests.deploy import rendered


@dataclasses.dataclass(frozen=True)
class End:
    """A pod with its labels, its namespace and the namespace's labels; without a namespace, an external address."""

    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    namespace_labels: tuple[tuple[str, str], ...] = ()
    address: str = ""
    ports: tuple[tuple[str, int], ...] = ()


def pod(objects: rendered.Objects, name: str) -> End:
    """Return a pod of a workload of the installation."""
    workload = rendered.one(objects, "Deployment", name)
    inside = [port for each in rendered.pod_of(workload)["containers"] for port in each.get("ports", [])]
    return End(
        namespace=workload["metadata"]["namespace"],
        labels=tuple(rendered.pod_labels(workload).items()),
        namespace_labels=(("kubernetes.io/metadata.name", workload["metadata"]["namespace"]),),
        ports=tuple((port["name"], port["containerPort"]) for port in inside),
    )


def allowed(objects: rendered.Objects, source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Return whether the policies of both ends allow the connection."""
    return _passes(objects, "Egress", source, target, (port, protocol)) and _passes(
        objects, "Ingress", target, source, (port, protocol)
    )


def _passes(objects: rendered.Objects, way: str, own: End, other: End, port: tuple[int, str]) -> bool:
    policies = [
        found["spec"]
        for found in rendered.of_kind(objects, "NetworkPolicy")
        if found["metadata"]["namespace"] == own.namespace
        and way in found["spec"]["policyTypes"]
        and rendered.matches(found["spec"]["podSelector"], dict(own.labels))
    ]
    if not policies:
        return True
    rules = [rule for spec in policies for rule in spec.get(way.lower(), [])]
    peers = "to" if way == "Egress" else "from"
    opened = other if way == "Egress" else own
    return any(_peer(rule.get(peers), own, other) and _port(rule.get("ports"), opened, port) for rule in rules)


def _peer(peers: list[rendered.Object] | None, own: End, other: End) -> bool:
    return not peers or any(_matches(peer, own, other) for peer in peers)


def _matches(peer: rendered.Object, own: End, other: End) -> bool:
    if "ipBlock" in peer:
        return bool(other.address) and _inside(peer["ipBlock"], other.address)
    if other.address:
        return False
    if "namespaceSelector" in peer:
        if not rendered.matches(peer["namespaceSelector"], dict(other.namespace_labels)):
            return False
    elif other.namespace != own.namespace:
        return False
    return rendered.matches(peer.get("podSelector", {}), dict(other.labels))


def _inside(block: rendered.Object, address: str) -> bool:
    asked = ipaddress.ip_address(address)
    within = [asked in ipaddress.ip_network(each) for each in [block["cidr"], *block.get("except", [])]]
    return within[0] and not any(within[1:])


def _port(ports: list[rendered.Object] | None, opened: End, asked: tuple[int, str]) -> bool:
    names = dict(opened.ports)
    return not ports or any(
        (names.get(each["port"], each["port"]), each.get("protocol", "TCP")) == asked for each in ports
    )
