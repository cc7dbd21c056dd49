"""Every metric, declared once: name, help, unit, and the bound on each label's values."""

import prometheus_client
from prometheus_client import registry

PREFIX = "indexer_"
SHARE_BUCKETS = (0.0, 0.02, 0.04, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9, 1.0)
WAIT_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class LimiterMetrics:
    """What the limiter counts in one process. `budget` is global, user, route or egress; `lane` one of three."""

    def __init__(self, to: registry.CollectorRegistry) -> None:
        self.permits = prometheus_client.Counter(
            PREFIX + "ratelimit_permits_taken", "Permits taken, by lane.", ["lane"], registry=to
        )
        self.share_left = prometheus_client.Histogram(
            PREFIX + "ratelimit_share_left_ratio",
            "Share of a budget that was free right after a permit was taken (0..1).",
            ["budget"],
            buckets=SHARE_BUCKETS,
            registry=to,
        )
        self.wait = prometheus_client.Histogram(
            PREFIX + "ratelimit_wait_seconds",
            "Time from asking for a permit to having it, in seconds.",
            ["lane"],
            buckets=WAIT_BUCKETS,
            registry=to,
        )
        self.refusals = prometheus_client.Counter(
            PREFIX + "ratelimit_refusals",
            "Times a caller was sent away because the wait was longer than its patience.",
            ["budget", "why"],
            registry=to,
        )
        self.rate_limited = prometheus_client.Counter(
            PREFIX + "discord_rate_limited",
            "429 answers by scope: user, global, shared, or egress for the edge in front of Discord.",
            ["scope"],
            registry=to,
        )
        self.foreign = prometheus_client.Counter(
            PREFIX + "ratelimit_foreign_use", "Permits that somebody else seems to use with our token.", registry=to
        )
        self.unavailable = prometheus_client.Counter(
            PREFIX + "ratelimit_unavailable", "Questions to the budgets that failed; no call was made.", registry=to
        )
        self.script_seconds = prometheus_client.Histogram(
            PREFIX + "ratelimit_script_seconds",
            "Time of one call to the budgets in Redis as the caller sees it, in seconds.",
            registry=to,
        )


class DiscordMetrics:
    """Calls to Discord. `route` is one of four templates; `status` an HTTP status, unreachable or lost."""

    def __init__(self, to: registry.CollectorRegistry) -> None:
        self.calls = prometheus_client.Counter(
            PREFIX + "discord_calls", "Calls to Discord, by route and HTTP status.", ["route", "status"], registry=to
        )
        self.seconds = prometheus_client.Histogram(
            PREFIX + "discord_call_seconds", "Round trip of one call, in seconds.", ["route"], registry=to
        )

    def count(self, route: str, status: str, seconds: float) -> None:
        """Count one call."""
        self.calls.labels(route, status).inc()
        self.seconds.labels(route).observe(seconds)


class IndexingMetrics:
    """Jobs and units. `state` is a final JobState or UnitState, `cause` one of our constants."""

    def __init__(self, to: registry.CollectorRegistry) -> None:
        self.jobs = prometheus_client.Counter(
            PREFIX + "jobs_finished", "Jobs that ended, by final state.", ["state"], registry=to
        )
        self.units = prometheus_client.Counter(
            PREFIX + "units_finished", "Guilds done inside jobs, by outcome and cause.", ["state", "cause"], registry=to
        )
        self.saved = prometheus_client.Counter(
            PREFIX + "calls_saved", "Channel fetches not made because another job's result served.", registry=to
        )
        self.turns = prometheus_client.Histogram(
            PREFIX + "turn_seconds", "Time of one turn of a job, in seconds.", registry=to
        )


class Metrics:
    """All metrics of one process."""

    def __init__(self, to: registry.CollectorRegistry) -> None:
        self.limiter = LimiterMetrics(to)
        self.discord = DiscordMetrics(to)
        self.indexing = IndexingMetrics(to)
