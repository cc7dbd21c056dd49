"""Prints docs/metrics.md from the declarations in indexing/telemetry/metrics.py."""

from collections.abc import Iterable

from indexer_service.interceptors import metrics as rpc_metrics
from indexing.telemetry import metric_types, metrics

INTRO = """# Metrics

Service and workers serve them at `/metrics` (`INDEXER_METRICS_PORT`, `WORKERS_METRICS_PORT`), one process in a pod.
What belongs to the whole fleet is served by `python -m workers.exporter` (`EXPORTER_PORT`), read at scrape time.
Take the maximum of that, so that a second copy during a rollout changes nothing, and sums of everything else.
Every series of a counter or histogram is there from the start at 0, so that the first event has a rate.
No label carries the id of a user, guild or job.
Beside these, each process serves `process_*` and `python_gc_*` of the Python client of Prometheus.
This page is made from `indexing/telemetry/metrics.py` by `make docs`.
"""


def groups() -> list[metric_types.Group]:
    """Return all groups of metrics, declared on a registry of their own."""
    to = metric_types.new_registry()
    common = metrics.Metrics(to)
    return [
        common.limiter,
        common.discord,
        common.indexing,
        common.servers,
        common.process,
        metrics.ServiceMetrics(to, rpc_metrics.METHODS),
        metrics.WorkerMetrics(to),
        metrics.FleetMetrics(to),
    ]


def page(found: Iterable[metric_types.Group]) -> str:
    """Return the page."""
    lines = [INTRO]
    for group in found:
        lines += [f"## {(group.__doc__ or '').strip()}\n", "| metric | type | meaning | labels |", "|---|---|---|---|"]
        for one in group.declared:
            bounds = "<br>".join(f"`{label.name}`: {_bound(label)}" for label in one.labels)
            lines.append(f"| `{one.name}` | {one.kind} | {one.help} | {bounds} |")
        lines.append("")
    return "\n".join(lines)


def _bound(label: metric_types.Label) -> str:
    return label.bound or ", ".join(value or '""' for value in label.values).replace("|", "\\|")


if __name__ == "__main__":
    print(page(groups()))
