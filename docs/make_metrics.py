"""Generates docs/metrics.md from the declarations in indexing/telemetry/metrics.py."""

from collections.abc import Iterable

from indexer_service import interceptors
from indexing.telemetry import fleet_metrics, gateway_metrics, metric_types, metrics

INTRO = """# Metrics

Service and workers serve metrics at `/metrics` (`INDEXER_METRICS_PORT`, `WORKERS_METRICS_PORT`), one process a pod.
So does `python -m workers.gateway` (`GATEWAY_METRICS_PORT`).
`python -m workers.exporter` (`EXPORTER_PORT`) serves the state of the whole fleet, read at each scrape.
Take the maximum over exporters, so that a second one during a rollout changes nothing, and sums of all other metrics.
Every series of a counter or histogram exists from the start with the value 0, so that the first event has a rate.
No label carries the id of a user, guild or job.
In addition each process serves `process_*` and `python_gc_*` of Prometheus' Python client.
`make docs` generates this page from `indexing/telemetry/metrics.py` and `gateway_metrics.py`.
"""


def groups() -> list[metric_types.Group]:
    """Return all groups of metrics, on a new registry."""
    registry = metric_types.new_registry()
    common, fleet = metrics.Metrics(registry), fleet_metrics.FleetMetrics(registry)
    return [
        common.limiter,
        common.discord,
        common.indexing,
        common.servers,
        common.process,
        metrics.ServiceMetrics(registry, interceptors.metrics.METHODS),
        metrics.WorkerMetrics(registry),
        gateway_metrics.GatewayMetrics(registry),
        fleet,
        fleet.gateway,
    ]


def render_page(found: Iterable[metric_types.Group]) -> str:
    """Return the text of docs/metrics.md."""
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
    print(render_page(groups()))
