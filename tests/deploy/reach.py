"""Rules about what the policies of an installation open, beyond the connections of test_network."""

from collections.abc import Iterator

from tests.deploy import network, policy, rendered

KUBE_SYSTEM = (("kubernetes.io/metadata.name", "kube-system"),)
OTHER = network.End("kube-system", (("k8s-app", "metrics-server"),), KUBE_SYSTEM)
DNS = network.End("kube-system", (("k8s-app", "kube-dns"),), KUBE_SYSTEM)


def every_opening_is_named(objects: rendered.Objects) -> Iterator[str]:
    """Each rule of a policy names peers and ports: without one of them it opens everything."""
    for found in rendered.of_kind(objects, "NetworkPolicy"):
        for way, peers in (("ingress", "from"), ("egress", "to")):
            for opened in found["spec"].get(way, []):
                if not opened.get(peers) or not opened.get("ports"):
                    yield f"{rendered.title(found)}: an {way} rule opens every address or port"
                if any(peer in ({}, {"namespaceSelector": {}}) for peer in opened.get(peers) or []):
                    yield f"{rendered.title(found)}: an {way} rule opens every pod"


def names_are_resolved(objects: rendered.Objects) -> Iterator[str]:
    """Every pod asks the cluster's DNS by UDP and TCP, and no other pod beside it."""
    for own in pods(objects):
        name = dict(own.labels).get("app.kubernetes.io/component", "a pod")
        for protocol in ("UDP", "TCP"):
            if not network.allowed(objects, own, DNS, 53, protocol):
                yield f"{name} cannot resolve names by {protocol}"
            if network.allowed(objects, own, OTHER, 53, protocol):
                yield f"{name} reaches other pods of kube-system by {protocol}"


def jobs_reach_the_database(objects: rendered.Objects) -> Iterator[str]:
    """The policies of the backends select the pods of Jobs, too."""
    backends = [found for found in rendered.of_kind(objects, "NetworkPolicy")
                if found["metadata"]["name"] == "reach-backends"]  # fmt: skip
    for job in rendered.of_kind(objects, "Job"):
        labels = rendered.pod_labels(job)
        if not all(rendered.matches(found["spec"]["podSelector"], labels) for found in backends):
            yield f"{rendered.title(job)} cannot reach MongoDB"


def pods(objects: rendered.Objects) -> Iterator[network.End]:
    """Yield the pods of every Deployment and Job."""
    for workload in [*rendered.of_kind(objects, "Deployment"), *rendered.of_kind(objects, "Job")]:
        space = workload["metadata"]["namespace"]
        labels = rendered.pod_labels(workload)
        yield network.End(space, tuple(labels.items()), (("kubernetes.io/metadata.name", space),))


RULES: tuple[policy.Rule, ...] = (every_opening_is_named, names_are_resolved, jobs_reach_the_database)
