"""The numbers of pods: the scaler's formula by the evaluator that KEDA uses, and what starts without it."""

import math
import pathlib
import shutil
import subprocess

import pytest

from tests.deploy import rendered, scalers

NEEDS_PROMETHEUS = pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed")


@pytest.mark.parametrize(("seen", "value", "expected"), scalers.TABLE.values(), ids=scalers.TABLE)
def test_workers_follow_queue_and_headroom(
    production: rendered.Objects, seen: tuple[int, float, int], value: float, expected: int
) -> None:
    """Turns, headroom and workers: more are started only while the budget has room for their calls."""
    turns, headroom, there = seen
    spec = rendered.one(production, "ScaledObject", "indexer-worker")["spec"]

    assert scalers.evaluated(spec, turns=turns, headroom=headroom, workers=there) == value
    assert scalers.workers(spec, there, turns=turns, headroom=headroom) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("formula", "headroom < 0.1 ? turns : min(turns, workers * 96)"),
        ("formula", "headroom < 1 ? min(turns, workers * 96) : turns"),
        ("formula", "headroom <= 0.1 ? min(turns, workers * 96) : turns"),
        ("formula", "headroom < 0.1 ? min(turns, workers * 960) : turns"),
        ("formula", "headroom < 0.1 ? max(turns, workers * 96) : turns"),
        ("target", "960"),
    ],
    ids=["branches-swapped", "another-headroom", "exactly-the-headroom", "ten-times", "max-for-min", "target"],
)
def test_a_mistake_in_the_formula_changes_a_row_of_the_table(
    production: rendered.Objects, field: str, value: str
) -> None:
    """Seeded mistakes: each is a formula that KEDA accepts."""
    spec = rendered.one(production, "ScaledObject", "indexer-worker")["spec"]
    assert scalers.wrong_rows(spec) == []

    spec["advanced"]["scalingModifiers"][field] = value

    assert scalers.wrong_rows(spec) != []


@NEEDS_PROMETHEUS
@pytest.mark.parametrize("name", ["production", "second-bot"])
def test_queries_find_their_own_fleets_numbers(name: str, tmp_path: pathlib.Path) -> None:
    """Prometheus itself evaluates them: exporters that overlap count once, other fleets and budgets not at all."""
    assert scalers.wrong_answers(rendered.own(name), tmp_path) == ""


@NEEDS_PROMETHEUS
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("turns", "max(", "sum("),
        ("turns", ',state="live"', ""),
        ("headroom", ',budget="global"', ""),
        ("headroom", "1 - ", ""),
        ("headroom", "sum(rate", "max(rate"),
        ("headroom", ", 0)", ""),
        ("workers", 'namespace="indexer"', ""),
        ("watchers", "sum(", "max("),
    ],
)
def test_a_mistake_in_a_query_changes_its_answer(
    production: rendered.Objects, tmp_path: pathlib.Path, name: str, old: str, new: str
) -> None:
    """Seeded mistakes: all but one are queries that Prometheus accepts."""
    triggers = [each for found in rendered.of_kind(production, "ScaledObject") for each in found["spec"]["triggers"]]
    (asked,) = [each["metadata"] for each in triggers if each.get("name") == name]
    assert old in asked["query"]

    asked["query"] = asked["query"].replace(old, new)

    assert scalers.wrong_answers(production, tmp_path) != ""


def test_a_formula_is_refused_when_it_names_an_unknown_trigger(production: rendered.Objects) -> None:
    """KEDA refuses the object then; this proves that the evaluator would notice."""
    spec = rendered.one(production, "ScaledObject", "indexer-worker")["spec"]
    names = {trigger["name"]: 1.0 for trigger in spec["triggers"]}
    spec["advanced"]["scalingModifiers"]["formula"] = spec["advanced"]["scalingModifiers"]["formula"].replace(
        "workers", "pods"
    )

    with pytest.raises(subprocess.CalledProcessError):
        scalers.evaluated(spec, **names)


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
