"""The number of workers by the scaler's rendered formula; KEDA's own evaluation is not tested."""

import math
import re

import pytest

from tests.deploy import rendered


def workers(spec: rendered.Object, **seen: float) -> int:
    """Return the number of workers for given values of the triggers."""
    modifiers = spec["advanced"]["scalingModifiers"]
    condition, then, otherwise = re.split(r" [?:] ", modifiers["formula"])
    chosen = then if _value(condition, seen) else otherwise
    wanted = math.ceil(_value(chosen, seen) / float(modifiers["target"]))
    return max(int(spec["minReplicaCount"]), min(int(spec["maxReplicaCount"]), wanted))


def _value(expression: str, seen: dict[str, float]) -> float:
    return float(eval(expression, {"__builtins__": {}, "min": min}, seen))  # noqa: S307 -- our own manifest


@pytest.mark.parametrize(
    ("turns", "headroom", "there", "expected"),
    [
        pytest.param(0, 1.0, 2, 2, id="nothing-to-do"),
        pytest.param(60, 0.8, 2, 3, id="a-queue-and-a-budget-for-it"),
        pytest.param(5000, 0.5, 4, 4, id="never-more-than-the-budget-feeds"),
        pytest.param(5000, 0.05, 2, 2, id="a-queue-that-waits-for-the-budget"),
        pytest.param(10, 0.05, 4, 2, id="fewer-when-the-queue-is-short"),
        pytest.param(5000, 0.0, 0, 2, id="no-headroom"),
    ],
)
def test_workers_follow_queue_and_headroom(
    production: rendered.Objects, turns: int, headroom: float, there: int, expected: int
) -> None:
    """More workers are started only while the budget has room for their calls."""
    spec = rendered.one(production, "ScaledObject", "indexer-worker")["spec"]

    assert [trigger["name"] for trigger in spec["triggers"]] == ["turns", "headroom", "workers"]
    assert workers(spec, turns=turns, headroom=headroom, workers=there) == expected
