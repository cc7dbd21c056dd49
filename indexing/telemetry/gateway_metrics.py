"""Metrics of the feed from Discord's Gateway."""

import prometheus_client

from indexing.telemetry import metric_types

LAG_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class GatewayMetrics(metric_types.Group):
    """The feed from Discord's Gateway, in one process."""

    def __init__(self, registry: prometheus_client.CollectorRegistry) -> None:
        super().__init__(registry)
        self.events = self._counter(
            "indexer_gateway_events_total", "Events received, by name.", metric_types.GATEWAY_EVENT
        )
        self.stored = self._counter("indexer_gateway_guilds_stored_total", "Guilds written because of events.")
        self.members = self._counter(
            "indexer_gateway_memberships_stored_total", "Memberships written because of member events."
        )
        self.lag = self._histogram(
            "indexer_gateway_event_lag_seconds", "From receiving an event to its storage.", buckets=LAG_BUCKETS
        )
        self.sessions = self._counter(
            "indexer_gateway_sessions_total",
            "Sessions: identified, resumed, or refused by Discord for good.",
            metric_types.GATEWAY_SESSION,
        )
        self.gaps = self._counter(
            "indexer_gateway_gaps_total",
            "Sessions that ended, so that their guilds are by REST until the next one, by cause.",
            metric_types.GATEWAY_GAP,
        )
        self.closes = self._counter(
            "indexer_gateway_closes_total", "Connections that ended, by reason.", metric_types.GATEWAY_CLOSE
        )
        self.audits = self._counter(
            "indexer_gateway_audits_total",
            "Guilds, and shards with the bot's guild list, compared with Discord's HTTP API, by result; missing: listed"
            " guilds are not fed; unknown: it could not be read.",
            metric_types.AUDIT,
        )
        self.roles = self._counter(
            "indexer_gateway_role_requests_total",
            "Role requests over the Gateway, by result; unanswered and not_sent ones are made by REST.",
            metric_types.ROLE_REQUEST,
        )
        self.shards = self._gauge("indexer_gateway_shards_owned", "Shards that this process owns.")
        self.connected = self._gauge("indexer_gateway_shards_connected", "Of these, shards with a session.")
        self.queued = self._gauge("indexer_gateway_events_queued", "Events that wait to be stored.")


class GatewayFleetMetrics(metric_types.Group):
    """The feed's state, read by the exporter at each scrape while there are shards. Take the maximum over exporters."""

    def __init__(self, registry: prometheus_client.CollectorRegistry) -> None:
        super().__init__(registry)
        self.unowned = self._gauge("indexer_gateway_shards_unowned", "Shards that no process owns.", absent=True)
        self.proof_age = self._gauge(
            "indexer_gateway_oldest_proof_seconds",
            "Age of the oldest proof: up to when the session of a shard is known to be complete.",
            absent=True,
        )
        self.fed = self._gauge(
            "indexer_gateway_fed_ratio", "Share of the guilds of all shards that are fed now, 0 to 1.", absent=True
        )
        self.identifies_left = self._gauge(
            "indexer_gateway_identifies_left", "Identifies left today, of those that Discord allows.", absent=True
        )

    def gauges(self) -> list[prometheus_client.Gauge]:
        """Return all gauges."""
        return [self.unowned, self.proof_age, self.fed, self.identifies_left]
