"""
Every metric, declared once: name with its unit, help, and the bound on each label's values.

What belongs to a process is a counter or histogram there and is summed over the fleet. What belongs to the fleet is
read by one exporter (`FleetMetrics`); queries take its maximum, so that a second exporter changes nothing. No label
carries the id of a user, guild or job (labels.py has all values). docs/metrics.md is made from here.
"""

import importlib.metadata
import platform
from collections.abc import Awaitable, Callable, Iterable

from prometheus_client import registry

from indexing.telemetry import metric_types, tracing

SHARE_BUCKETS = (0.0, 0.02, 0.04, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9, 1.0)
WAIT_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
SERVER_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
JOB_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
AGE_BUCKETS = (1.0, 10.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0, 86_400.0, 604_800.0, 2_592_000.0)


class LimiterMetrics(metric_types.Group):
    """What the limiter counts in one process."""

    def __init__(self, to: registry.CollectorRegistry) -> None:
        super().__init__(to)
        self.permits = self._counter("indexer_ratelimit_permits_taken_total", "Permits taken.", metric_types.LANE)
        self.share_left = self._histogram(
            "indexer_ratelimit_share_left_ratio",
            "Share of a budget that was free right after a permit was taken, 0 to 1.",
            metric_types.BUDGET,
            buckets=SHARE_BUCKETS,
        )
        self.wait = self._histogram(
            "indexer_ratelimit_wait_seconds",
            "From asking for a permit to having it.",
            metric_types.LANE,
            buckets=WAIT_BUCKETS,
        )
        self.waited = self._counter(
            "indexer_ratelimit_waited_seconds_total",
            "Time slept for permits, by whose budget was short.",
            metric_types.LANE,
            metric_types.BUDGET,
        )
        self.refusals = self._counter(
            "indexer_ratelimit_refusals_total",
            "Callers sent away: the wait exceeded their patience.",
            metric_types.BUDGET,
            metric_types.REFUSAL_REASON,
        )
        self.rate_limited = self._counter(
            "indexer_discord_rate_limited_total",
            "429 answers; egress is the edge in front of Discord. user and global ones are bugs of ours.",
            metric_types.SCOPE,
        )
        self.pause = self._histogram(
            "indexer_ratelimit_pause_seconds",
            "Pauses that 429 answers asked for.",
            metric_types.SCOPE,
            buckets=JOB_BUCKETS,
        )
        self.foreign = self._counter(
            "indexer_ratelimit_foreign_use_total", "Permits that somebody else seems to use with our token."
        )
        self.unavailable = self._counter(
            "indexer_ratelimit_unavailable_total", "Questions to the budgets that failed; no call was made."
        )
        self.script_seconds = self._histogram(
            "indexer_ratelimit_script_seconds",
            "One call to the budgets in Redis, as the caller sees it.",
            buckets=SERVER_BUCKETS,
        )


class DiscordMetrics(metric_types.Group):
    """Calls to Discord."""

    def __init__(self, to: registry.CollectorRegistry) -> None:
        super().__init__(to)
        self.calls = self._counter(
            "indexer_discord_calls_total",
            "Calls to Discord, by HTTP status or what became of them.",
            metric_types.ROUTE,
            metric_types.STATUS,
            metric_types.LANE,
        )
        self.seconds = self._histogram(
            "indexer_discord_call_seconds",
            "Round trip of one call.",
            metric_types.ROUTE,
            buckets=WAIT_BUCKETS,
        )

    def count(self, route: str, status: str, seconds: float, *, lane: str) -> None:
        """Count one call."""
        self.calls.labels(metric_types.ROUTE.fit(route), metric_types.STATUS.fit(status), lane).inc()
        self.seconds.labels(metric_types.ROUTE.fit(route)).observe(seconds, tracing.exemplar())


class IndexingMetrics(metric_types.Group):
    """Jobs, their guilds (units), their turns, and what their watchers are told."""

    def __init__(self, to: registry.CollectorRegistry) -> None:
        super().__init__(to)
        self.jobs = self._counter(
            "indexer_jobs_finished_total", "Jobs that ended, by final state.", metric_types.JOB_STATE
        )
        self.milestones = self._histogram(
            "indexer_job_milestone_seconds",
            "From the start of a job to its guild list, first guild, first five (or all of fewer), and end.",
            metric_types.MILESTONE,
            buckets=JOB_BUCKETS,
        )
        self.units = self._counter(
            "indexer_units_finished_total",
            "Guilds done inside jobs, by final state and cause.",
            metric_types.GUILD_TASK_STATE,
            metric_types.REASON,
        )
        self.saved = self._counter(
            "indexer_calls_saved_total", "Channel fetches not made because a fresh or another job's result served."
        )
        self.doubted = self._counter(
            "indexer_listings_doubted_total", "Channel listings asked for again because they lacked very much."
        )
        self.refreshes = self._counter(
            "indexer_refreshes_total", "Guilds read again, by what came of it.", metric_types.RESULT
        )
        self.renewals = self._counter(
            "indexer_credential_refreshes_total",
            "Users' token pairs that were to be renewed, by what came of it; lost: renewed, but not stored.",
            metric_types.RENEWAL,
        )
        self.merged = self._counter(
            "indexer_stream_updates_merged_total", "Updates that a slow watcher got merged into a later one."
        )
        self.turns = self._histogram("indexer_turn_seconds", "One turn of a job.", buckets=WAIT_BUCKETS)

    def observe_milestone(self, milestone: str, seconds: float) -> None:
        """Note that a job reached a milestone *seconds* after its start."""
        self.milestones.labels(milestone).observe(seconds, tracing.exemplar())

    def count_guild_task(self, state: str, cause: str) -> None:
        """Count a guild that is done."""
        self.units.labels(state, metric_types.REASON.fit(cause)).inc()


class ServerMetrics(metric_types.Group):
    """Our servers as a process sees them. Redis is counted without commands that block on purpose."""

    def __init__(self, to: registry.CollectorRegistry) -> None:
        super().__init__(to)
        self.mongodb = self._histogram(
            "indexer_mongodb_command_seconds",
            "One command to MongoDB, with the wait for a connection.",
            metric_types.COMMAND,
            buckets=SERVER_BUCKETS,
        )
        self.mongodb_errors = self._counter(
            "indexer_mongodb_errors_total", "Commands that failed.", metric_types.COMMAND
        )
        self.redis = self._histogram(
            "indexer_redis_command_seconds", "One command or pipeline to Redis.", buckets=SERVER_BUCKETS
        )
        self.redis_errors = self._counter("indexer_redis_errors_total", "Commands that Redis did not answer.")


class ProcessMetrics(metric_types.Group):
    """What every process says of itself."""

    def __init__(self, to: registry.CollectorRegistry, duties: Iterable[str] = ()) -> None:
        """*duties*: the periodic ones of this process, which say 0 until they succeed: never is the latest of all."""
        super().__init__(to)
        self.duties = self._gauge(
            "indexer_duty_last_success_timestamp_seconds",
            "When a periodic duty last succeeded in this process, 0: not yet; of all processes one does it.",
            metric_types.PERIODIC_TASK,
            absent=True,
        )
        for duty in duties:
            self.record_success(duty, 0.0)
        version = metric_types.Label("version", (importlib.metadata.version("discord-channel-indexer"),), "ours")
        python = metric_types.Label("python", (platform.python_version(),), "Python's version")
        self.build = self._gauge("indexer_build_info", "1, by version.", version, python)
        self.build.labels(*version.values, *python.values).set(1)

    def record_success(self, duty: str, now: float) -> None:
        """Note that a duty succeeded at *now*, in epoch seconds."""
        self.duties.labels(metric_types.PERIODIC_TASK.fit(duty)).set(now)

    def recording_success(
        self, duty: str, work: Callable[[], Awaitable[object]], clock: Callable[[], float]
    ) -> Callable[[], Awaitable[None]]:
        """Return *work* with its successes noted."""

        async def noted() -> None:
            await work()
            self.record_success(duty, clock())

        return noted


class Metrics:
    """What service and workers have in common."""

    def __init__(self, to: registry.CollectorRegistry, duties: Iterable[str] = ()) -> None:
        """*duties*: see `ProcessMetrics`."""
        self.limiter = LimiterMetrics(to)
        self.discord = DiscordMetrics(to)
        self.indexing = IndexingMetrics(to)
        self.servers = ServerMetrics(to)
        self.process = ProcessMetrics(to, duties)


class ServiceMetrics(metric_types.Group):
    """The gRPC service; the first three have the names that public dashboards know."""

    def __init__(self, to: registry.CollectorRegistry, methods: Iterable[tuple[str, str]]) -> None:
        """*methods*: type (unary or server_stream) and name of each method of the API."""
        super().__init__(to)
        known = [(kind, metric_types.GRPC_SERVICE.values[0], name) for kind, name in methods]
        method = metric_types.Label("grpc_method", tuple(name for _, _, name in known))
        one = (metric_types.GRPC_TYPE, metric_types.GRPC_SERVICE, method)
        self.rpcs_started = self._counter("grpc_server_started_total", "Calls that began.", *one, first=known)
        self.rpcs_handled = self._counter(
            "grpc_server_handled_total",
            "Calls that ended, by code.",
            *one,
            metric_types.GRPC_CODE,
            first=[(*each, code) for each in known for code in metric_types.GRPC_CODE.values],
        )
        self.rpc_seconds = self._histogram(
            "grpc_server_handling_seconds",
            "From a call's begin to its end.",
            *one,
            buckets=WAIT_BUCKETS,
            first=known,
        )
        self.streams = self._gauge("indexer_streams_open", "WatchProgress streams that are open in this process.")
        self.guarded = self._gauge(
            "indexer_callers_checked",
            "1 when callers must show a token, over TLS; 0 when only the address keeps others out, or nothing.",
        )
        self.starts = self._counter("indexer_starts_total", "StartIndexing calls answered.", metric_types.DISPOSITION)
        self.read_age = self._histogram(
            "indexer_read_age_seconds", "Age of the channels of each guild that ListGuilds showed.", buckets=AGE_BUCKETS
        )


class WorkerMetrics(metric_types.Group):
    """A worker process."""

    def __init__(self, to: registry.CollectorRegistry) -> None:
        super().__init__(to)
        self.running = self._gauge("indexer_turns_running", "Turns that run in this process now.")
        self.threads = self._gauge("indexer_worker_threads", "Turns that this process can run at once.")
        self.delay = self._histogram(
            "indexer_turn_queue_delay_seconds",
            "From enqueueing a turn to its begin.",
            metric_types.QUEUE,
            buckets=JOB_BUCKETS,
        )


class FleetMetrics(metric_types.Group):
    """What belongs to no process, read at scrape time by the exporter. Take the maximum over exporters."""

    def __init__(self, to: registry.CollectorRegistry) -> None:
        super().__init__(to)
        self.capacity = self._gauge(
            "indexer_budget_capacity_permits",
            "Permits of a budget in its window.",
            metric_types.SHOWN_BUDGET,
            absent=True,
        )
        self.window = self._gauge(
            "indexer_budget_window_seconds", "Window of a budget.", metric_types.SHOWN_BUDGET, absent=True
        )
        self.free = self._gauge(
            "indexer_budget_free_permits",
            "Permits free now, of budgets that are one for the fleet; invalid requests: how many more until the ban.",
            metric_types.SINGLE_BUDGET,
            absent=True,
        )
        self.user_free = self._gauge(
            "indexer_budget_user_free_ratio",
            "Share of a user's budget free now, over users with an active job (1 without any): least, 10th percentile.",
            metric_types.STATISTIC,
            absent=True,
        )
        self.paused = self._gauge(
            "indexer_budget_paused_seconds",
            "For how long nothing is granted, and why; 0 when not paused.",
            metric_types.SINGLE_BUDGET,
            metric_types.REFUSAL_REASON,
            absent=True,
        )
        self.routes = self._gauge(
            "indexer_budget_routes",
            "Route budgets in use (at most 100).",
            metric_types.BUCKET_STATE,
            absent=True,
        )
        self.queue = self._gauge(
            "indexer_queue_turns",
            "Turns: live (in the queue or held by workers), of them ready (no worker has taken them); dead letters.",
            metric_types.QUEUE,
            metric_types.QUEUE_STATE,
            absent=True,
        )
        self.oldest = self._gauge(
            "indexer_queue_oldest_seconds",
            "Age of the oldest turn that no worker has taken; 0 without any.",
            metric_types.QUEUE,
            absent=True,
        )
        self.waiting = self._gauge("indexer_turns_waiting", "Turns that wait for their time.", absent=True)
        self.overdue = self._gauge(
            "indexer_jobs_overdue_seconds", "How long the job that waits longest for its turn is overdue.", absent=True
        )
        self.active = self._gauge("indexer_jobs_active", "Jobs that have not ended.", absent=True)
        self.workers = self._gauge("indexer_workers_live", "Worker processes with a fresh heartbeat.", absent=True)
        self.credentials = self._gauge(
            "indexer_credentials",
            "Users, and those who must log in again.",
            metric_types.CREDENTIAL,
            absent=True,
        )
        self.up = self._gauge(
            "indexer_exporter_source_up", "1 if the source answered this scrape.", metric_types.SOURCE
        )
        self.scrape = self._gauge("indexer_exporter_read_seconds", "Time that reading all sources took.", absent=True)
