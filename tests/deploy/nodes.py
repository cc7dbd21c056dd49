"""Rules about nodes: spreading, priorities, and disruption budgets."""

from collections.abc import Iterator

from tests.deploy import policy, rendered

REPLICATED = ("indexer-service", "indexer-worker", "indexer-gateway")
"""Workloads with several pods, which must not all be lost at once. The last one is optional."""


def replicated(objects: rendered.Objects) -> list[str]:
    """Return the names of `REPLICATED` that the installation has."""
    names = {found["metadata"]["name"] for found in rendered.of_kind(objects, "Deployment")}
    return [name for name in REPLICATED if name in names or name != "indexer-gateway"]


def disruption_budgets_exist(objects: rendered.Objects) -> Iterator[str]:
    """Every workload that must survive node drains has a disruption budget, and each budget allows evictions."""
    budgets = rendered.of_kind(objects, "PodDisruptionBudget")
    for name in replicated(objects):
        labels = rendered.pod_labels(rendered.one(objects, "Deployment", name))
        if not any(rendered.matches(budget["spec"]["selector"], labels) for budget in budgets):
            yield f"Deployment/{name} has no disruption budget"
    for budget in budgets:
        if not budget["spec"].get("maxUnavailable"):
            yield f"{rendered.title(budget)} allows no eviction"
        if budget["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{rendered.title(budget)} protects pods that are not ready"


def pods_are_spread(objects: rendered.Objects) -> Iterator[str]:
    """Pods of workloads with several replicas are spread over zones and nodes."""
    for name in replicated(objects):
        pod = rendered.pod_of(rendered.one(objects, "Deployment", name))
        over = {each["topologyKey"] for each in pod.get("topologySpreadConstraints", [])}
        if over != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
            yield f"Deployment/{name} is not spread over zones and nodes"


def service_has_priority(objects: rendered.Objects) -> Iterator[str]:
    """The service has the highest priority, and no pod of the product preempts pods of others."""
    classes = {found["metadata"]["name"]: found for found in rendered.of_kind(objects, "PriorityClass")}
    values = {
        found["metadata"]["name"]: classes.get(rendered.pod_of(found).get("priorityClassName", ""), {}).get("value", 0)
        for found in rendered.of_kind(objects, "Deployment")
    }
    if any(value >= values["indexer-service"] for name, value in values.items() if name != "indexer-service"):
        yield "the service does not have the highest priority"
    for found in classes.values():
        if found.get("preemptionPolicy") != "Never":
            yield f"{rendered.title(found)} preempts other pods"


RULES: tuple[policy.Rule, ...] = (disruption_budgets_exist, pods_are_spread, service_has_priority)
