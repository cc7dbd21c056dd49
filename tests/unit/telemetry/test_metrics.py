"""The guarantees of the metrics to queries."""

import itertools
import re

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import registry
from prometheus_client.openmetrics import exposition

from docs import make_metrics
from indexer_service import interceptors
from indexer_service.v1 import indexer_pb2 as pb
from indexing.discord import routes
from indexing.domain import model, reasons, turns
from indexing.ratelimit import limiter
from indexing.store import database as store
from indexing.telemetry import gateway_metrics, metric_types, metrics
from workers import worker


@pytest.fixture
def groups() -> list[metric_types.Group]:
    """All groups of metrics."""
    return make_metrics.groups()


def test_amounts_are_counted_alike_when_they_are_observed_at_once() -> None:
    """Each in the first bucket whose bound it does not exceed."""
    alone, together = (metrics.ServiceMetrics(metric_types.new_registry(), []).read_age for _ in range(2))
    amounts = [0.0, 60.0, 60.5, 86_400.0, 1e9, 1e9]

    together.observe_all(amounts)
    for amount in amounts:
        alone.observe(amount)

    (expected,), (found,) = alone.collect(), together.collect()
    assert found.samples == expected.samples


def test_labels_have_all_values_when_they_repeat_an_enumeration() -> None:
    """A state, lane, queue or route without its label value would be counted as another."""
    ended = {state.value for state in model.JobState if state.terminal}
    assert set(metric_types.LANE.values) == {lane.value for lane in model.Lane}
    assert set(metric_types.JOB_STATE.values) == ended
    assert set(metric_types.GUILD_TASK_STATE.values) == {state.value for state in model.TaskState if state.terminal}
    assert {*turns.QUEUES, metric_types.OTHER} == set(metric_types.QUEUE.values)
    ours = [routes.user_guilds(), routes.guild_channels(1), routes.own_member(1), routes.guild_member(1, 1)]
    assert {route.template for route in ours} <= set(metric_types.ROUTE.values)
    assert set(interceptors.metrics.CODES.values()) == set(metric_types.GRPC_CODE.values)
    assert set(limiter.SCOPE_LABELS.values()) == set(metric_types.SCOPE.values)
    assert set(store.COMMANDS.values()) == set(metric_types.COMMAND.values)
    assert set(reasons.ADVICE) - {reasons.LIST_TOO_OLD, reasons.CHANNELS_TOO_OLD} <= set(metric_types.REASON.values)
    dispositions = {name.removeprefix("DISPOSITION_") for name in pb.Disposition.keys()}  # noqa: SIM118 -- no dict
    assert dispositions - {"UNSPECIFIED"} | {"REPLAYED"} == set(metric_types.DISPOSITION.values)
    assert {*worker.PERIODIC_TASKS, "bot_guilds", "export", metric_types.OTHER} == set(
        metric_types.PERIODIC_TASK.values
    )


def test_every_series_exists_at_0_when_nothing_has_happened(groups: list[metric_types.Group]) -> None:
    """A first failure has a rate only after a value of 0."""
    to = registry.CollectorRegistry()
    metrics.Metrics(to)
    metrics.ServiceMetrics(to, interceptors.metrics.METHODS)
    metrics.WorkerMetrics(to)
    gateway_metrics.GatewayMetrics(to)
    counted = [one for group in groups for one in group.declared if one.kind != "gauge"]

    for one in counted:
        name = one.name + ("_count" if one.kind == "histogram" else "")
        known = [label for label in one.labels if not label.name.startswith("grpc_")]
        if known == list(one.labels):
            for values in itertools.product(*(label.values for label in known)):
                named = dict(zip((label.name for label in known), values, strict=True))
                assert to.get_sample_value(name, named) == 0, (name, named)
    for kind, method in interceptors.metrics.METHODS:
        call = {"grpc_type": kind, "grpc_service": interceptors.base.SERVICE.full_name, "grpc_method": method}
        assert to.get_sample_value("grpc_server_started_total", call) == 0
        assert to.get_sample_value("grpc_server_handling_seconds_count", call) == 0
        for code in metric_types.GRPC_CODE.values:
            assert to.get_sample_value("grpc_server_handled_total", {**call, "grpc_code": code}) == 0
    assert len(counted) > 20


def test_a_periodic_task_reports_0_when_it_has_never_succeeded() -> None:
    """It is stale from the start; tasks of other processes have no series."""
    to = registry.CollectorRegistry()
    metrics.ProcessMetrics(to, ["sweep"])

    name = "indexer_periodic_task_last_success_timestamp_seconds"
    assert to.get_sample_value(name, {"task": "sweep"}) == 0
    assert to.get_sample_value(name, {"task": "bot_guilds"}) is None


def page(to: registry.CollectorRegistry) -> str:
    """Return what Prometheus reads."""
    return str(exposition.generate_latest(to).decode())  # type: ignore[no-untyped-call]  # untyped there


def test_a_measurement_has_an_exemplar_when_its_trace_is_recorded() -> None:
    """In the OpenMetrics format; without tracing there is none."""
    to = registry.CollectorRegistry()
    seen = metrics.Metrics(to)
    seen.indexing.observe_milestone("first", 0.3)
    without = page(to)

    with TracerProvider().get_tracer("test").start_as_current_span("work") as span:
        seen.discord.count("GET /users/@me/guilds", "200", 0.1, lane="background")
        seen.indexing.observe_milestone("first", 0.3)

    trace_id = trace.format_trace_id(span.get_span_context().trace_id)
    linked = [line.partition("{")[0] for line in page(to).splitlines() if f'# {{trace_id="{trace_id}"}}' in line]
    assert "# {" not in without
    assert linked == ["indexer_discord_call_seconds_bucket", "indexer_job_milestone_seconds_bucket"]


def test_a_value_is_counted_as_other_when_it_is_not_declared() -> None:
    """The number of series stays bounded, whatever Discord returns."""
    to = registry.CollectorRegistry()
    seen = metrics.DiscordMetrics(to)

    seen.count("GET /brand/new", "418", 0.1, lane="background")

    names = {"route": "other", "status": "other", "lane": "background"}
    assert to.get_sample_value("indexer_discord_calls_total", names) == 1


def test_every_metric_has_unit_and_help_when_it_is_declared(groups: list[metric_types.Group]) -> None:
    """By Prometheus' conventions: base units, counters end in _total, help ends in a full stop."""
    declared = [one for group in groups for one in group.declared]
    units = ("_seconds", "_seconds_total", "_ratio", "_permits", "_total", "_timestamp_seconds")
    counts = {"indexer_streams_open", "indexer_turns_running", "indexer_worker_threads", "indexer_budget_routes"}
    counts |= {
        "indexer_queue_turns",
        "indexer_turns_waiting",
        "indexer_jobs_active",
        "indexer_workers_live",
        "indexer_credentials",
        "indexer_caller_refused_tokens",
    }
    counts |= {
        "indexer_exporter_source_up",
        "indexer_build_info",
        "indexer_authentication_required",
        "indexer_discord_outage",
        "indexer_redis_trouble",
        "indexer_mongodb_trouble",
        "indexer_mongodb_operations_limit",
        "indexer_redis_replicas",
        "indexer_redis_fault",
        "indexer_file_refused",
        "indexer_server_slow",
    }
    counts |= {f"indexer_gateway_shards_{state}" for state in ("owned", "connected", "unowned")}
    counts |= {"indexer_gateway_events_queued", "indexer_gateway_identifies_left"}

    for one in declared:
        assert re.fullmatch(r"(indexer|grpc_server)_[a-z0-9_]+", one.name)
        assert one.name.endswith("_total") is (one.kind == "counter"), one.name
        assert one.name.endswith(units) or one.name in counts, one.name
        assert one.help.endswith("."), one.name
        assert not {label.name for label in one.labels} & {"user", "guild", "job", "user_id", "guild_id", "job_id"}
    assert len({one.name for one in declared}) == len(declared)


def test_every_metric_is_documented_when_it_is_declared(groups: list[metric_types.Group]) -> None:
    """With each of its labels and their values."""
    page = make_metrics.render_page(groups)

    for group in groups:
        for one in group.declared:
            (row,) = [line for line in page.splitlines() if line.startswith(f"| `{one.name}` |")]
            assert all(f"`{label.name}`: " in row for label in one.labels)


async def test_the_success_of_a_periodic_task_is_recorded_when_it_succeeds() -> None:
    """A failure is not recorded, so the metric becomes stale."""
    to = registry.CollectorRegistry()
    seen = metrics.ProcessMetrics(to)
    failing = True

    async def work() -> None:
        if failing:
            raise OSError("away")

    noted = seen.recording_success("sweep", work, lambda: 77.0)
    with pytest.raises(OSError, match="away"):
        await noted()
    before = to.get_sample_value("indexer_periodic_task_last_success_timestamp_seconds", {"task": "sweep"})
    failing = False
    await noted()

    assert before is None
    assert to.get_sample_value("indexer_periodic_task_last_success_timestamp_seconds", {"task": "sweep"}) == 77.0
