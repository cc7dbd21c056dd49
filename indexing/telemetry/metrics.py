"""
Every metric, declared once: name with its unit, help, and bounded labels (values in metric_types.py).

Each process has its own counters and histograms; queries sum them over the fleet. The exporter reads the fleet's state
(`FleetMetrics`); queries take the maximum, so that a second exporter changes nothing. No label carries the id of a
user, guild or job. docs/metrics.md is generated from this module.
"""

import importlib.metadata
import platform
from collections.abc import Awaitable, Callable, Iterable

import prometheus_client

from indexing.telemetry import metric_types, slow_servers, tracing

SHARE_BUCKETS = (0.0, 0.02, 0.04, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9, 1.0)
WAIT_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
SERVER_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
JOB_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
SLOW_MONGODB, SLOW_REDIS = 0.1, 0.05  # seconds
AGE_BUCKETS = (1.0, 10.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0, 86_400.0, 604_800.0, 2_592_000.0)


class LimiterMetrics(metric_types.Group):
    """Rate limiter, in one process."""

    def __init__(self, registry: prometheus_client.CollectorRegistry) -> None:
        super().__init__(registry)
        self.permits = self._counter("indexer_ratelimit_permits_taken_total", "Permits taken.", metric_types.LANE)
        self.share_left = self._histogram(
            "indexer_ratelimit_share_left_ratio",
            "Share of a budget left right after a permit was taken, 0 to 1.",
            metric_types.BUDGET,
            buckets=SHARE_BUCKETS,
        )
        self.wait = self._histogram(
            "indexer_ratelimit_wait_seconds",
            "Wait for a permit, from the request to the grant.",
            metric_types.LANE,
            buckets=WAIT_BUCKETS,
        )
        self.waited = self._counter(
            "indexer_ratelimit_waited_seconds_total",
            "Time slept for permits, by the exhausted budget.",
            metric_types.LANE,
            metric_types.BUDGET,
        )
        self.refusals = self._counter(
            "indexer_ratelimit_refusals_total",
            "Permit requests refused because the wait would exceed max_wait.",
            metric_types.BUDGET,
            metric_types.REFUSAL_REASON,
        )
        self.rate_limited = self._counter(
            "indexer_discord_rate_limited_total",
            "429 responses. egress: the edge in front of Discord. user and global: a bug in the limiter.",
            metric_types.SCOPE,
        )
        self.pause = self._histogram(
            "indexer_ratelimit_pause_seconds",
            "Pauses that 429 responses required.",
            metric_types.SCOPE,
            buckets=JOB_BUCKETS,
        )
        self.foreign = self._counter(
            "indexer_ratelimit_foreign_use_total",
            "Foreign usage: calls with the bot token that this fleet did not make.",
        )
        self.unavailable = self._counter(
            "indexer_ratelimit_unavailable_total", "Limiter scripts that failed in Redis. No call to Discord was made."
        )
        self.script_seconds = self._histogram(
            "indexer_ratelimit_script_seconds",
            "One limiter script in Redis, measured by the caller.",
            buckets=SERVER_BUCKETS,
        )


class DiscordMetrics(metric_types.Group):
    """Calls to Discord."""

    def __init__(self, registry: prometheus_client.CollectorRegistry) -> None:
        super().__init__(registry)
        self.calls = self._counter(
            "indexer_discord_calls_total",
            "Calls to Discord, by HTTP status; unreachable: not sent, lost: no response.",
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
        self.unreadable_rows = self._counter(
            "indexer_discord_unreadable_rows_total",
            "Rows of Discord's lists left out because they cannot be read; overwrites: channels that only owners and "
            "administrators see; duplicate: rows of an id that was listed before; member: members without their user's "
            "id, which are believed; redacted: channels that our bot may not view, which are hidden.",
            metric_types.ROW,
        )
        self.outage = self._gauge(
            "indexer_discord_outage", "1 while this process makes only probes because Discord answers nobody."
        )

    def count(self, route: str, status: str, seconds: float, *, lane: str) -> None:
        """Count one call."""
        self.calls.labels(metric_types.ROUTE.fit(route), metric_types.STATUS.fit(status), lane).inc()
        self.seconds.labels(metric_types.ROUTE.fit(route)).observe(seconds, tracing.exemplar())


class IndexingMetrics(metric_types.Group):
    """Jobs, guild tasks, turns, and updates to watchers."""

    def __init__(self, registry: prometheus_client.CollectorRegistry) -> None:
        super().__init__(registry)
        self.jobs = self._counter(
            "indexer_jobs_finished_total", "Jobs that ended, by final state.", metric_types.JOB_STATE
        )
        self.milestones = self._histogram(
            "indexer_job_milestone_seconds",
            "From the start of a job to its guild list, first guild, first five guilds (or all of fewer), and end.",
            metric_types.MILESTONE,
            buckets=JOB_BUCKETS,
        )
        self.guild_tasks = self._counter(
            "indexer_guild_tasks_finished_total",
            "Guild tasks that ended, by final state and reason.",
            metric_types.GUILD_TASK_STATE,
            metric_types.REASON,
        )
        self.saved = self._counter(
            "indexer_calls_saved_total", "Channel fetches saved because the guild was fresh or another job fetched it."
        )
        self.lists_verified = self._counter(
            "indexer_channel_lists_verified_total",
            "Channel lists fetched a second time because most known channels were missing.",
        )
        self.refreshes = self._counter(
            "indexer_refreshes_total", "Periodic refreshes of guilds, by result.", metric_types.RESULT
        )
        self.renewals = self._counter(
            "indexer_credential_refreshes_total",
            "Renewals of users' OAuth2 token pairs, by result; lost: renewed, but not stored.",
            metric_types.RENEWAL,
        )
        self.proofs = self._counter(
            "indexer_credential_proofs_total",
            "Attempts to prove whose token it is, by result; no_user: the scope identify is missing, unverifiable: "
            "Discord does not know the question, unanswered: it could not be asked in time.",
            metric_types.PROOF,
        )
        self.merged = self._counter(
            "indexer_stream_updates_merged_total", "Updates that a slow watcher received merged into a later one."
        )
        self.update_lag = self._histogram(
            "indexer_update_lag_seconds",
            "From the publishing of a job's update to its arrival in a process with watchers, by two clocks.",
            buckets=WAIT_BUCKETS,
        )
        self.turns = self._histogram("indexer_turn_seconds", "One turn of a job.", buckets=WAIT_BUCKETS)
        self.idle_turns = self._counter(
            "indexer_turns_without_task_total",
            "Turns that completed no step of a guild task although one was due; time: none was started, permit: the "
            "permit expired before its call, limiter: the limiter's Redis did not answer in time.",
            metric_types.IDLE_REASON,
        )

    def observe_milestone(self, milestone: str, seconds: float) -> None:
        """Record that a job reached a milestone *seconds* after its start."""
        self.milestones.labels(milestone).observe(seconds, tracing.exemplar())

    def count_guild_task(self, state: str, reason: str) -> None:
        """Count a guild task that ended."""
        self.guild_tasks.labels(state, metric_types.REASON.fit(reason)).inc()


class ServerMetrics(metric_types.Group):
    """MongoDB and Redis, measured by their clients. Blocking commands to Redis are not counted."""

    def __init__(self, registry: prometheus_client.CollectorRegistry) -> None:
        super().__init__(registry)
        self.mongodb = self._histogram(
            "indexer_mongodb_command_seconds",
            "One command to MongoDB, including the wait until fewer are under way.",
            metric_types.COMMAND,
            buckets=SERVER_BUCKETS,
        )
        self.mongodb_limit = self._gauge(
            "indexer_mongodb_operations_limit",
            "Operations that this process may have under way at MongoDB now: more while the server is far away.",
        )
        self.mongodb_errors = self._counter(
            "indexer_mongodb_errors_total", "Commands that failed.", metric_types.COMMAND
        )
        self.redis = self._histogram(
            "indexer_redis_command_seconds", "One command or pipeline to Redis.", buckets=SERVER_BUCKETS
        )
        self.redis_errors = self._counter("indexer_redis_errors_total", "Commands without a response from Redis.")
        self.redis_trouble = self._gauge(
            "indexer_redis_trouble",
            "1 for the reason why this process cannot write to Redis now, tried once a second.",
            metric_types.REDIS_TROUBLE,
        )
        self.mongodb_trouble = self._gauge(
            "indexer_mongodb_trouble",
            "1 for the reason why this process cannot write to MongoDB now, tried every 5 seconds.",
            metric_types.MONGODB_TROUBLE,
        )
        self.clock_difference = self._gauge(
            "indexer_clock_difference_seconds",
            "Seconds by which the clock of this machine is ahead of MongoDB's, which decides when turns are due.",
        )
        self.mongodb_speed = slow_servers.SlowServer("mongodb", SLOW_MONGODB)
        self.redis_speed = slow_servers.SlowServer("redis", SLOW_REDIS)
        slow = self._gauge(
            "indexer_server_slow",
            "1 while more than 5 % of this process' commands take longer: 100 ms to MongoDB, 50 ms to Redis.",
            metric_types.SERVER,
        )
        slow.labels("mongodb").set_function(self.mongodb_speed.is_slow)
        slow.labels("redis").set_function(self.redis_speed.is_slow)


class ProcessMetrics(metric_types.Group):
    """Every process."""

    def __init__(self, registry: prometheus_client.CollectorRegistry, tasks: Iterable[str] = ()) -> None:
        """*tasks*: the periodic tasks of this process. Each reports 0 until it first succeeds."""
        super().__init__(registry)
        self.last_success = self._gauge(
            "indexer_periodic_task_last_success_timestamp_seconds",
            "Last success of a periodic task in this process, 0: none yet. One elected process runs each task.",
            metric_types.PERIODIC_TASK,
            absent=True,
        )
        for task in tasks:
            self.record_success(task, 0.0)
        version = metric_types.Label(
            "version", (importlib.metadata.version("discord-channel-indexer"),), "the product's version"
        )
        python = metric_types.Label("python", (platform.python_version(),), "Python's version")
        self.build = self._gauge("indexer_build_info", "1, labelled with versions.", version, python)
        self.build.labels(*version.values, *python.values).set(1)

    def record_success(self, task: str, now: float) -> None:
        """Record that a periodic task succeeded at *now*, in epoch seconds."""
        self.last_success.labels(metric_types.PERIODIC_TASK.fit(task)).set(now)

    def recording_success(
        self, task: str, work: Callable[[], Awaitable[object]], clock: Callable[[], float]
    ) -> Callable[[], Awaitable[None]]:
        """Return *work*, wrapped so that each success is recorded."""

        async def recorded() -> None:
            await work()
            self.record_success(task, clock())

        return recorded


class Metrics:
    """The metrics that service and workers share."""

    def __init__(self, registry: prometheus_client.CollectorRegistry, tasks: Iterable[str] = ()) -> None:
        """*tasks*: see `ProcessMetrics`."""
        self.limiter = LimiterMetrics(registry)
        self.discord = DiscordMetrics(registry)
        self.indexing = IndexingMetrics(registry)
        self.servers = ServerMetrics(registry)
        self.process = ProcessMetrics(registry, tasks)


class ServiceMetrics(metric_types.Group):
    """The gRPC service. The first three metrics have the names of go-grpc-prometheus, for public dashboards."""

    def __init__(self, registry: prometheus_client.CollectorRegistry, methods: Iterable[tuple[str, str]]) -> None:
        """*methods*: (type, name) of each API method; type is unary or server_stream."""
        super().__init__(registry)
        self.certificate_expiry = self._gauge(
            "indexer_tls_certificate_expiry_timestamp_seconds",
            "End of validity of the first of the service's certificates to expire; +Inf without TLS.",
            absent=True,
        )
        self.file_refused = self._gauge(
            "indexer_file_refused", "1 while a changed file of certificates or service tokens cannot be used."
        )
        known = [(kind, metric_types.GRPC_SERVICE.values[0], name) for kind, name in methods]
        method = metric_types.Label("grpc_method", tuple(name for _, _, name in known))
        one = (metric_types.GRPC_TYPE, metric_types.GRPC_SERVICE, method)
        self.rpcs_started = self._counter("grpc_server_started_total", "Calls started.", *one, first=known)
        self.rpcs_handled = self._counter(
            "grpc_server_handled_total",
            "Calls completed, by code.",
            *one,
            metric_types.GRPC_CODE,
            first=[(*each, code) for each in known for code in metric_types.GRPC_CODE.values],
        )
        self.rpc_seconds = self._histogram(
            "grpc_server_handling_seconds",
            "Duration of a call.",
            *one,
            buckets=WAIT_BUCKETS,
            first=known,
        )
        self.streams = self._gauge("indexer_streams_open", "WatchProgress and WatchIndex streams open in this process.")
        self.watch_index_lag = self._histogram(
            "indexer_watch_index_lag_seconds",
            "From the announcement of a change to its message on a WatchIndex stream.",
            buckets=WAIT_BUCKETS,
        )
        self.authentication_required = self._gauge(
            "indexer_authentication_required",
            "1 when callers must present a service token over TLS; 0 when at most the network restricts them.",
        )
        self.starts = self._counter(
            "indexer_starts_total", "StartIndexing calls answered, by disposition.", metric_types.DISPOSITION
        )
        self.read_age = self._histogram(
            "indexer_read_age_seconds",
            "Age of the channels of each guild in ListGuilds responses.",
            buckets=AGE_BUCKETS,
        )


class WorkerMetrics(metric_types.Group):
    """A worker process."""

    def __init__(self, registry: prometheus_client.CollectorRegistry) -> None:
        super().__init__(registry)
        self.running = self._gauge("indexer_turns_running", "Turns running in this process.")
        self.threads = self._gauge("indexer_worker_threads", "Turns that this process can run at the same time.")
        self.delay = self._histogram(
            "indexer_turn_queue_delay_seconds",
            "From the enqueueing of a turn to its start.",
            metric_types.QUEUE,
            buckets=JOB_BUCKETS,
        )
