"""Rules about nodes: what is where, what goes first when they are short, and what stays when they are emptied."""

from collections.abc import Iterator

from tests.deploy import policy, rendered

MANY = ("indexer-service", "indexer-worker")
"""Of these several run, and must not all be lost at once."""


def disrupted_gently(objects: rendered.Objects) -> Iterator[str]:
    """What must be up during changes of nodes has a budget for it, and each budget leaves room to move."""
    budgets = rendered.of_kind(objects, "PodDisruptionBudget")
    for name in MANY:
        labels = rendered.pod_labels(rendered.one(objects, "Deployment", name))
        if not any(rendered.matches(budget["spec"]["selector"], labels) for budget in budgets):
            yield f"Deployment/{name} has no disruption budget"
    for budget in budgets:
        if not budget["spec"].get("maxUnavailable"):
            yield f"{rendered.title(budget)} lets nobody go"
        if budget["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{rendered.title(budget)} keeps pods that serve nobody"


def spread(objects: rendered.Objects) -> Iterator[str]:
    """No zone and no node has all pods of what runs more than once."""
    for name in MANY:
        pod = rendered.pod_of(rendered.one(objects, "Deployment", name))
        over = {each["topologyKey"] for each in pod.get("topologySpreadConstraints", [])}
        if over != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
            yield f"Deployment/{name} is not spread over zones and nodes"


def prior(objects: rendered.Objects) -> Iterator[str]:
    """When nodes are short, callers go before all else, and nobody else's pods are thrown out for ours."""
    classes = {found["metadata"]["name"]: found for found in rendered.of_kind(objects, "PriorityClass")}
    values = {
        found["metadata"]["name"]: classes.get(rendered.pod_of(found).get("priorityClassName", ""), {}).get("value", 0)
        for found in rendered.of_kind(objects, "Deployment")
    }
    if any(value >= values["indexer-service"] for name, value in values.items() if name != "indexer-service"):
        yield "something goes before the service"
    for found in classes.values():
        if found.get("preemptionPolicy") != "Never":
            yield f"{rendered.title(found)} throws out others"


RULES: tuple[policy.Rule, ...] = (disrupted_gently, spread, prior)
