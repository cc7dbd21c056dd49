"""Connections that the rendered policies allow."""

import pytest

from tests.deploy import network, rendered

CALLER = network.End("shop", (("indexer-client", "allowed"),), (("indexer-client", "allowed"),))
STRANGER = network.End("shop", (), (("indexer-client", "allowed"),))
PRETENDER = network.End("elsewhere", (("indexer-client", "allowed"),), ())
PROMETHEUS = network.End("monitoring", (), (("kubernetes.io/metadata.name", "monitoring"),))
DNS = network.End("kube-system", (("k8s-app", "kube-dns"),), (("kubernetes.io/metadata.name", "kube-system"),))
DISCORD = network.End(address="162.159.128.233")
METADATA = network.End(address="169.254.169.254")
DISCORD_NAT64 = network.End(address="64:ff9b::a29f:80e9")
"""162.159.128.233 where a cluster has IPv6 alone (RFC 6052)."""
METADATA_NAT64 = network.End(address="64:ff9b::a9fe:a9fe")
PRIVATE_NAT64 = network.End(address="64:ff9b::10.1.2.3")
PRIVATE = (
    *("10.1.2.3", "100.64.0.1", "100.127.255.255", "169.254.1.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("fc00::1", "fd00:ec2::254", "fe80::1", "64:ff9b:1::a01:203"),
    *("64:ff9b::10.1.2.3", "64:ff9b::100.64.0.1", "64:ff9b::172.31.0.1", "64:ff9b::192.168.1.1"),
)
"""Addresses of machines beside the cluster, as such and behind NAT64."""
REDIS = network.End(address="10.1.2.3")
WORKLOADS = ("indexer-service", "indexer-worker", "indexer-refresh", "indexer-exporter")
FLOWS: list[tuple[str, str | network.End, str | network.End, int, bool]] = [
    ("a caller calls", CALLER, "indexer-service", 50051, True),
    ("a pod of the namespace without the label does not", STRANGER, "indexer-service", 50051, False),
    ("a pod that takes the label in another namespace does not", PRETENDER, "indexer-service", 50051, False),
    ("a caller does not read metrics", CALLER, "indexer-service", 9464, False),
    ("a caller does not reach the probes' port", CALLER, "indexer-service", 50052, False),
    ("a caller does not reach a worker", CALLER, "indexer-worker", 9465, False),
    ("Prometheus scrapes the service", PROMETHEUS, "indexer-service", 9464, True),
    ("Prometheus scrapes workers", PROMETHEUS, "indexer-worker", 9465, True),
    ("Prometheus scrapes the refresh", PROMETHEUS, "indexer-refresh", 9465, True),
    ("Prometheus scrapes the exporter", PROMETHEUS, "indexer-exporter", 9466, True),
    ("Prometheus does not call", PROMETHEUS, "indexer-service", 50051, False),
    ("the service calls Discord", "indexer-service", DISCORD, 443, True),
    ("a worker calls Discord", "indexer-worker", DISCORD, 443, True),
    ("the refresh calls Discord", "indexer-refresh", DISCORD, 443, True),
    ("a caller does not reach the refresh", CALLER, "indexer-refresh", 9465, False),
    ("no workload calls Discord without TLS", "indexer-worker", DISCORD, 80, False),
    ("the exporter does not call Discord", "indexer-exporter", DISCORD, 443, False),
    ("a worker does not ask the cloud for credentials", "indexer-worker", METADATA, 80, False),
    ("a worker does not ask it over TLS either", "indexer-worker", METADATA, 443, False),
    ("a worker calls Discord by NAT64", "indexer-worker", DISCORD_NAT64, 443, True),
    ("a worker does not ask the cloud by NAT64", "indexer-worker", METADATA_NAT64, 443, False),
    ("the service does not reach a private address by NAT64", "indexer-service", PRIVATE_NAT64, 443, False),
    ("a worker does not call the service", "indexer-worker", "indexer-service", 50051, False),
    ("a pod without a policy cannot open connections", "another pod", DISCORD, 443, False),
    ("a pod without a policy accepts no connections", CALLER, "another pod", 443, False),
    ("the service does not call workers", "indexer-service", "indexer-worker", 9465, False),
    *((f"{own} does not reach {at}", own, network.End(address=at), 443, False)
      for own in ("indexer-service", "indexer-worker", "indexer-refresh") for at in PRIVATE),
]  # fmt: skip


def end(objects: rendered.Objects, given: str | network.End) -> network.End:
    """Return a pod of a workload of the product, an unlabelled pod in the same namespace, or *name* itself."""
    if given == "another pod":
        return network.End(rendered.one(objects, "Deployment", "indexer-service")["metadata"]["namespace"])
    return network.pod(objects, given) if isinstance(given, str) else given


@pytest.mark.parametrize(
    ("source", "target", "port", "expected"), [flow[1:] for flow in FLOWS], ids=[f[0] for f in FLOWS]
)
def test_a_connection_is_allowed_only_when_it_is_needed(
    installation: rendered.Objects, source: str | network.End, target: str | network.End, port: int, *, expected: bool
) -> None:
    """This holds in every installation."""
    assert network.allowed(installation, end(installation, source), end(installation, target), port) is expected


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("port", [6379, 27017])
def test_every_process_reaches_redis_and_mongodb_when_they_are_outside(
    production: rendered.Objects, name: str, port: int
) -> None:
    """Only the addresses named in the installation are allowed."""
    own = network.pod(production, name)

    assert network.allowed(production, own, REDIS, port)
    assert not network.allowed(production, own, REDIS, 22)
    assert not network.allowed(production, own, DISCORD, port)


@pytest.mark.parametrize(
    "backend", [("redis", 6379), ("mongodb", 27017), ("simulator", 8080)], ids=lambda each: each[0]
)
def test_dev_backends_accept_only_connections_of_the_product(dev: rendered.Objects, backend: tuple[str, int]) -> None:
    """The backends themselves cannot open connections."""
    name, port = backend
    target = network.pod(dev, name)

    assert all(network.allowed(dev, network.pod(dev, own), target, port) for own in WORKLOADS)
    assert not network.allowed(dev, CALLER, target, port)
    assert not network.allowed(dev, target, DISCORD, 443)


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_every_pod_resolves_names_when_it_asks_the_clusters_dns(installation: rendered.Objects, protocol: str) -> None:
    """No other pod in kube-system is reachable."""
    other = network.End("kube-system", (("k8s-app", "metrics-server"),), DNS.namespace_labels)
    for workload in rendered.of_kind(installation, "Deployment"):
        own = network.pod(installation, workload["metadata"]["name"])
        assert network.allowed(installation, own, DNS, 53, protocol)
        assert not network.allowed(installation, own, other, 53, protocol)
