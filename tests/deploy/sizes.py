"""Rules about what pods request, compared with docs/benchmarks/size.json."""

import json
from collections.abc import Iterator

from tests.deploy import policy, rendered

MEASURED = rendered.REPOSITORY / "docs" / "benchmarks" / "size.json"
PROCESSES = ("service", "worker", "refresh", "exporter")
MARGIN = 1.5
"""Requests are at least this many times what was measured at the whole limit."""
MOST = 4.0
"""Memory requested and not used is memory that other pods lack: at most this many times what was measured."""
UNITS = {"m": 0.001, "Mi": 1.0, "Gi": 1024.0}
"""In cores and MiB."""


def measured() -> dict[str, tuple[float, float]]:
    """Return the most CPU (cores) and memory (MiB) of each process in the benchmark."""
    found: dict[str, tuple[float, float]] = {}
    for row in json.loads(MEASURED.read_text())["rows"]:
        name = row["program"].removesuffix("-1")
        cpu, memory = found.get(name, (0.0, 0.0))
        found[name] = max(cpu, row["cpu"]), max(memory, row["memory_mib"])
    return found


def amount(quantity: str | int) -> float:
    """Return a quantity of Kubernetes in cores or MiB."""
    text = str(quantity)
    unit = next((each for each in UNITS if text.endswith(each)), "")
    return float(text.removesuffix(unit)) * UNITS.get(unit, 1.0)


def requests_follow_from_measurements(objects: rendered.Objects) -> Iterator[str]:
    """Every process of the benchmark requests what it uses at the whole limit and half as much again."""
    uses = measured()
    for where, _, container in rendered.containers(objects):
        if container["name"] not in PROCESSES or "resources" not in container:
            continue
        cpu, memory = uses[container["name"]]
        wanted = container["resources"].get("requests", {})
        if amount(wanted.get("cpu", 0)) < MARGIN * cpu:
            yield f"{where} requests less CPU than {MARGIN} x {cpu}"
        if not MARGIN * memory <= amount(wanted.get("memory", 0)) <= MOST * memory:
            yield f"{where} requests memory that is not {MARGIN} to {MOST} x {memory} MiB"


def limits_are_not_below_requests(objects: rendered.Objects) -> Iterator[str]:
    """Kubernetes refuses a pod otherwise. Memory in thousandths of a byte is a mistyped unit."""
    for where, _, container in rendered.containers(objects):
        given = container.get("resources", {})
        for what, least in given.get("requests", {}).items():
            most = given.get("limits", {}).get(what, least)
            if amount(most) < amount(least) or (what != "cpu" and str(most).endswith("m")):
                yield f"{where}: the limit of {what} is below its request"


RULES: tuple[policy.Rule, ...] = (requests_follow_from_measurements, limits_are_not_below_requests)
