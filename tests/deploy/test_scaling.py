"""The numbers of pods: the scaler's formula by the evaluator that KEDA uses, and what starts without it."""

import json
import math
import subprocess

import pytest

from tests.deploy import rendered

TOLERANCE = 0.1
"""A HorizontalPodAutoscaler leaves a size alone that is wrong by no more (kubernetes.io, horizontal-pod-autoscale)."""


def evaluated(spec: rendered.Object, **seen: float) -> float:
    """Return the formula's result, by the library that KEDA uses, in the way KEDA uses it."""
    formula = spec["advanced"]["scalingModifiers"]["formula"]
    command = [str(rendered.TOOLS / "formula"), formula, json.dumps(seen)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout)


def workers(spec: rendered.Object, there: int, **seen: float) -> int:
    """Return the size that the autoscaler wants, for given values of the triggers; *there* are running."""
    target = float(spec["advanced"]["scalingModifiers"]["target"])
    value = evaluated(spec, workers=there, **seen)
    near = there > 0 and abs(value / (target * there) - 1) <= TOLERANCE
    wanted = there if near else math.ceil(value / target)
    return max(int(spec["minReplicaCount"]), min(int(spec["maxReplicaCount"]), wanted))


@pytest.mark.parametrize(
    ("seen", "value", "expected"),
    [
        pytest.param((0, 1.0, 2), 0, 2, id="nothing-to-do"),
        pytest.param((200, 0.8, 2), 200, 2, id="within-the-tolerance"),
        pytest.param((240, 0.8, 2), 240, 3, id="a-queue-and-a-budget-for-it"),
        pytest.param((384, 0.1, 2), 384, 4, id="headroom-that-suffices-exactly"),
        pytest.param((384, 0.0999, 2), 192, 2, id="headroom-just-too-small"),
        pytest.param((5000, 0.5, 4), 5000, 4, id="never-more-than-the-budget-feeds"),
        pytest.param((5000, 0.05, 2), 192, 2, id="a-queue-that-waits-for-the-budget"),
        pytest.param((5000, 0.05, 4), 384, 4, id="no-fewer-while-the-queue-is-long"),
        pytest.param((10, 0.05, 4), 10, 2, id="fewer-when-the-queue-is-short"),
        pytest.param((5000, 0.0, 0), 0, 2, id="no-worker-yet"),
    ],
)
def test_workers_follow_queue_and_headroom(
    production: rendered.Objects, seen: tuple[int, float, int], value: float, expected: int
) -> None:
    """Turns, headroom and workers: more are started only while the budget has room for their calls."""
    turns, headroom, there = seen
    spec = rendered.one(production, "ScaledObject", "indexer-worker")["spec"]

    assert evaluated(spec, turns=turns, headroom=headroom, workers=there) == value
    assert workers(spec, there, turns=turns, headroom=headroom) == expected


def test_a_formula_is_refused_when_it_names_an_unknown_trigger(production: rendered.Objects) -> None:
    """KEDA refuses the object then; this proves that the evaluator would notice."""
    spec = rendered.one(production, "ScaledObject", "indexer-worker")["spec"]
    names = {trigger["name"]: 1.0 for trigger in spec["triggers"]}
    spec["advanced"]["scalingModifiers"]["formula"] = spec["advanced"]["scalingModifiers"]["formula"].replace(
        "workers", "pods"
    )

    with pytest.raises(subprocess.CalledProcessError):
        evaluated(spec, **names)


@pytest.mark.parametrize(
    ("budget", "most"), [("25/1", 3), ("50/1", 4), ("51/1", 5), ("100/2", 4), ("500/1", 22)], ids=str
)
def test_the_most_workers_follow_from_the_budget(budget: str, most: int) -> None:
    """A worker makes 25 calls a second; two more are for the loss of a zone."""
    objects = rendered.bot("indexer", {"settings": {"GLOBAL_BUDGET": budget}})

    assert rendered.one(objects, "ScaledObject", "indexer-worker")["spec"]["maxReplicaCount"] == most


@pytest.mark.parametrize("scaling", ["none", "hpa", "keda"])
def test_enough_processes_start_when_somebody_else_scales(scaling: str) -> None:
    """Three services and two workers, with KEDA, with an autoscaler of Kubernetes' own, or with neither."""
    objects = rendered.bot("indexer", {"scaling": scaling})
    least: dict[str, int] = {}
    for kind, field in (("ScaledObject", "minReplicaCount"), ("HorizontalPodAutoscaler", "minReplicas")):
        for found in rendered.of_kind(objects, kind):
            least[found["spec"]["scaleTargetRef"]["name"]] = found["spec"][field]
    for found in rendered.of_kind(objects, "Deployment"):
        if "replicas" in found["spec"]:
            least[found["metadata"]["name"]] = found["spec"]["replicas"]

    assert least == {"indexer-service": 3, "indexer-worker": 2, "indexer-refresh": 1, "indexer-exporter": 1}


def test_services_scale_by_watchers_and_cpu(production: rendered.Objects) -> None:
    """2,501 streams for each of three services want a fourth; CPU is compared with one core, not with the request."""
    spec = rendered.one(production, "ScaledObject", "indexer-service")["spec"]
    by = {trigger.get("name", trigger["type"]): trigger for trigger in spec["triggers"]}

    assert math.ceil(3 * 2501 / float(by["watchers"]["metadata"]["threshold"])) == 4
    assert by["cpu"]["metricType"] == "AverageValue"
    assert by["cpu"]["metadata"] == {"value": "600m"}
