"""The metrics of the exporter."""

import prometheus_client

from indexing.telemetry import gateway_metrics, metric_types


class FleetMetrics(metric_types.Group):
    """State of the fleet, read by the exporter at each scrape. Take the maximum over exporters."""

    def __init__(self, registry: prometheus_client.CollectorRegistry) -> None:
        super().__init__(registry)
        self.gateway = gateway_metrics.GatewayFleetMetrics(registry)
        self._declare_budgets()
        self._declare_work()
        self.credentials = self._gauge(
            "indexer_credentials",
            "Users: stored, and of these reauth_required (must log in again).",
            metric_types.CREDENTIAL,
            absent=True,
        )
        self._declare_redis()
        self.up = self._gauge(
            "indexer_exporter_source_up", "1 if the exporter could read the source.", metric_types.SOURCE
        )
        self.scrape = self._gauge("indexer_exporter_read_seconds", "Duration of reading all sources.", absent=True)

    def _declare_redis(self) -> None:
        self.redis_memory = self._gauge(
            "indexer_redis_memory_used_ratio", "Used share of Redis' maxmemory; 0 without one.", absent=True
        )
        self.redis_replicas = self._gauge("indexer_redis_replicas", "Replicas connected to Redis.", absent=True)
        self.redis_replica_lag = self._gauge(
            "indexer_redis_replica_lag_seconds",
            "Since the last word of the slowest replica; 0 without one.",
            absent=True,
        )
        self.redis_fault = self._gauge(
            "indexer_redis_fault",
            "1 if Redis' INFO says so. evicts: keys are evicted; disk: the last write to disk failed.",
            metric_types.REDIS_FAULT,
            absent=True,
        )

    def _declare_budgets(self) -> None:
        self.capacity = self._gauge(
            "indexer_budget_capacity_permits",
            "Permits of a budget in its window.",
            metric_types.EXPORTED_BUDGET,
            absent=True,
        )
        self.window = self._gauge(
            "indexer_budget_window_seconds", "Window of a budget.", metric_types.EXPORTED_BUDGET, absent=True
        )
        self.free = self._gauge(
            "indexer_budget_free_permits",
            "Permits free now in a fleet-wide budget; invalid_requests: requests left until Discord's limit.",
            metric_types.SINGLE_BUDGET,
            absent=True,
        )
        self.user_free = self._gauge(
            "indexer_budget_user_free_ratio",
            "Share of a user's budget free now, over users with an active job (1 without any): min, 10th percentile.",
            metric_types.STATISTIC,
            absent=True,
        )
        self.paused = self._gauge(
            "indexer_budget_paused_seconds",
            "Time until permits are granted again, by reason; 0 when not paused.",
            metric_types.SINGLE_BUDGET,
            metric_types.REFUSAL_REASON,
            absent=True,
        )
        self.refused_tokens = self._gauge(
            "indexer_caller_refused_tokens",
            "Answers 401 and 403 of 10 minutes to tokens that a caller brought, up to the number that stops it.",
            metric_types.CALLER,
            absent=True,
        )
        self.caller_stopped = self._gauge(
            "indexer_caller_stopped_seconds",
            "Time until calls are made again with the tokens that a caller brought; 0 when it is not stopped.",
            metric_types.CALLER,
            absent=True,
        )
        self.routes = self._gauge(
            "indexer_budget_routes",
            "Route budgets in use, by state (at most 100).",
            metric_types.ROUTE_STATE,
            absent=True,
        )

    def _declare_work(self) -> None:
        self.queue = self._gauge(
            "indexer_queue_turns",
            "Turns: live (queued or held by workers), ready (queued, not yet held by a worker), dead (dead letters).",
            metric_types.QUEUE,
            metric_types.QUEUE_STATE,
            absent=True,
        )
        self.oldest = self._gauge(
            "indexer_queue_oldest_seconds",
            "Age of the oldest ready turn; 0 without any.",
            metric_types.QUEUE,
            absent=True,
        )
        self.waiting = self._gauge("indexer_turns_waiting", "Delayed turns, not yet due.", absent=True)
        self.overdue = self._gauge(
            "indexer_jobs_overdue_seconds", "Time by which the most overdue job missed its next turn.", absent=True
        )
        self.active = self._gauge("indexer_jobs_active", "Jobs that have not ended.", absent=True)
        self.workers = self._gauge("indexer_workers_live", "Worker processes with a fresh heartbeat.", absent=True)
