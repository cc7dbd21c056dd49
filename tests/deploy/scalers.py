"""Rules about scalers, and what their queries and formula give for known numbers."""

import json
import math
import pathlib
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import yaml

from tests.deploy import policy, rendered

TOLERANCE = 0.1
"""A HorizontalPodAutoscaler leaves a size alone that is wrong by no more (kubernetes.io, horizontal-pod-autoscale)."""
STREAMS = 5000
"""Streams that one service process has carried (docs/scale.md); a scaler leaves room for those of another pod."""
TABLE: dict[str, tuple[tuple[int, float, int], float, int]] = {
    "nothing-to-do": ((0, 1.0, 2), 0, 2),
    "within-the-tolerance": ((200, 0.8, 2), 200, 2),
    "a-queue-and-a-budget-for-it": ((240, 0.8, 2), 240, 3),
    "headroom-that-suffices-exactly": ((384, 0.1, 2), 384, 4),
    "headroom-just-too-small": ((384, 0.0999, 2), 192, 2),
    "never-more-than-the-budget-feeds": ((5000, 0.5, 4), 5000, 4),
    "a-queue-that-waits-for-the-budget": ((5000, 0.05, 2), 192, 2),
    "no-fewer-while-the-queue-is-long": ((5000, 0.05, 4), 384, 4),
    "fewer-when-the-queue-is-short": ((10, 0.05, 4), 10, 2),
    "no-worker-yet": ((5000, 0.0, 0), 0, 2),
}
"""Turns, headroom and workers, with the formula's result and the workers that the autoscaler wants."""
SERIES = {
    'indexer_queue_turns{namespace="NS",queue="background",state="live",pod="a"}': "60x20",
    'indexer_queue_turns{namespace="NS",queue="background",state="live",pod="b"}': "60x20",
    'indexer_queue_turns{namespace="NS",queue="background",state="dead"}': "900x20",
    'indexer_queue_turns{namespace="other",queue="background",state="live"}': "700x20",
    'indexer_ratelimit_permits_taken_total{namespace="NS",pod="a"}': "0+300x20",
    'indexer_ratelimit_permits_taken_total{namespace="NS",pod="b"}': "0+150x20",
    'indexer_ratelimit_permits_taken_total{namespace="other"}': "0+3000x20",
    'indexer_budget_capacity_permits{namespace="NS",budget="global"}': "100x20",
    'indexer_budget_window_seconds{namespace="NS",budget="global"}': "2x20",
    'indexer_budget_capacity_permits{namespace="NS",budget="user"}': "500x20",
    'indexer_budget_window_seconds{namespace="NS",budget="user"}': "1x20",
    'indexer_workers_live{namespace="NS",pod="a"}': "3x20",
    'indexer_workers_live{namespace="other"}': "9x20",
    'indexer_streams_open{namespace="NS",pod="a"}': "3000x20",
    'indexer_streams_open{namespace="NS",pod="b"}': "2000x20",
    'indexer_streams_open{namespace="other"}': "9000x20",
}
"""What a Prometheus holds in the test of the queries, every 15 s: 60 turns, 30 of 50 calls a second, 3 workers."""
ANSWERS = {"turns": 60, "headroom": 0.4, "workers": 3, "watchers": 5000}


def scalers_are_complete(objects: rendered.Objects) -> Iterator[str]:
    """Scalers have a range, stay there when Prometheus is away, and use each trigger as KEDA has it."""
    for found in rendered.of_kind(objects, "HorizontalPodAutoscaler"):
        if found["spec"]["maxReplicas"] < found["spec"]["minReplicas"]:
            yield f"{rendered.title(found)} has no range"
    for found in rendered.of_kind(objects, "ScaledObject"):
        spec, title = found["spec"], rendered.title(found)
        asked = [each["metadata"] for each in spec["triggers"] if each["type"] == "prometheus"]
        if spec.get("maxReplicaCount", math.inf) < spec["minReplicaCount"]:
            yield f"{title} has no range"
        if spec.get("fallback", {}).get("replicas", 0) < spec["minReplicaCount"]:
            yield f"{title} ends pods when Prometheus is away"
        if any(each.get("ignoreNullValues") != "false" for each in asked):
            yield f"{title} takes a missing number for 0"
        if len({each.get("serverAddress") for each in asked}) > 1:
            yield f"{title} asks several servers"
        if any(each.get("metricType", "AverageValue") != "AverageValue" for each in spec["triggers"]):
            yield f"{title} compares with something else than the average of its pods"
        yield from _by_formula(title, spec)


def _by_formula(title: str, spec: rendered.Object) -> Iterator[str]:
    names = {each.get("name") for each in spec["triggers"]}
    if spec["scaleTargetRef"]["name"] != "indexer-worker":
        limits = [float(each["metadata"]["threshold"]) for each in spec["triggers"] if each.get("name") == "watchers"]
        if not limits or limits[0] > STREAMS / 2:
            yield f"{title} lets a process have more streams than it can carry"
        return
    modifiers = spec.get("advanced", {}).get("scalingModifiers", {})
    # Names of functions, such as min, have three letters.
    if set(re.findall(r"[a-z]{4,}", modifiers.get("formula", ""))) != names:
        yield f"{title}: the formula has other names than the triggers"
    elif modifiers.get("metricType") != "AverageValue":
        yield f"{title} compares with something else than the average of its pods"


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


def wrong_rows(spec: rendered.Object) -> list[str]:
    """Return the rows of the table that a scaler answers in another way."""
    return [
        name
        for name, ((turns, headroom, there), value, expected) in TABLE.items()
        if evaluated(spec, turns=turns, headroom=headroom, workers=there) != value
        or workers(spec, there, turns=turns, headroom=headroom) != expected
    ]


def wrong_answers(objects: rendered.Objects, folder: pathlib.Path) -> str:
    """Return what promtool says against the queries of all scalers; empty when each gives what ANSWERS has."""
    space = objects[0]["metadata"]["namespace"]
    checks: list[dict[str, Any]] = [
        {"expr": trigger["metadata"]["query"], "eval_time": "4m",
         "exp_samples": [{"labels": "{}", "value": ANSWERS[trigger["name"]]}]}
        for found in rendered.of_kind(objects, "ScaledObject")
        for trigger in found["spec"]["triggers"]
        if trigger["type"] == "prometheus"
    ]  # fmt: skip
    series = [{"series": name.replace("NS", space), "values": values} for name, values in SERIES.items()]
    tests = {"tests": [{"interval": "15s", "input_series": series, "promql_expr_test": checks}]}
    path = folder / "queries.yaml"
    path.write_text(yaml.safe_dump(tests))
    done = subprocess.run(
        ["promtool", "test", "rules", str(path)], check=False, capture_output=True, text=True, timeout=60
    )
    return done.stdout + done.stderr if done.returncode else ""


RULES: tuple[policy.Rule, ...] = (scalers_are_complete,)
