"""The dashboard of the feed from Discord's Gateway, which is off by default."""

from deploy.observability.panels import Dashboard, Panel, Query, Row, quantile, quantiles, rate

FED = "clamp_max(max(indexer:gateway_fed_ratio:max{$ns}), 1)"
OLDEST = "max(indexer:gateway_oldest_proof_seconds:max{$ns})"
UNOWNED = "max(indexer:gateway_shards_unowned:max{$ns})"
LEFT = "max(indexer:gateway_identifies_left:max{$ns})"
GLANCE = Row(
    "Is all well?",
    [
        Panel(
            "Guilds fed now",
            "Share of the guilds with our bot that events keep current.",
            "percentunit",
            [Query(FED)],
            "IndexerGatewayFedShareLow",
            limits=(0.95, 0.8),
            single=True,
            span=4,
        ),
        Panel(
            "Age of the oldest proof",
            "Of what the least current shard has stored; 41 s is normal.",
            "s",
            [Query(OLDEST)],
            "IndexerGatewayProofOld",
            limits=(90, 180),
            single=True,
            span=4,
        ),
        Panel(
            "Shards without an owner",
            "Taken by another process within seconds.",
            "short",
            [Query(UNOWNED)],
            "IndexerGatewayShardUnowned",
            limits=(1, 2),
            single=True,
            span=4,
        ),
        Panel(
            "Events stored within, p99",
            "From receiving an event to its storage.",
            "s",
            [Query(quantile(0.99, "indexer_gateway_event_lag_seconds"))],
            "IndexerFeedLagBurnFast",
            limits=(1, 5),
            single=True,
            span=4,
        ),
        Panel(
            "Identifies left",
            "Of today; Discord resets the bot's token beyond the last one.",
            "short",
            [Query(LEFT)],
            "IndexerGatewayIdentifiesLow",
            limits=(300, 100),
            single=True,
            span=4,
        ),
        Panel(
            "Error budget left: feed lag",
            "Of 28 days; below 0 it is overdrawn, at -100 % by as much again or more (docs/slo.md).",
            "percentunit",
            [Query("clamp_min(min(indexer:feed:budget_left_ratio28d{$ns}), -1)")],
            "IndexerFeedLagBurnSlow",
            limits=(0.5, 0.1),
            single=True,
            span=4,
        ),
    ],
)
FEED = Row(
    "The feed",
    [
        Panel(
            "Fed guilds",
            "Share of the guilds with our bot that are kept current by events; the others are read by REST.",
            "percentunit",
            [Query(FED, "fed")],
            "IndexerGatewayFedShareLow",
            most=1,
        ),
        Panel(
            "Oldest proof",
            "Age of what the least current shard has stored; a heartbeat interval of 41 s is normal.",
            "s",
            [Query(OLDEST, "oldest")],
            "IndexerGatewayProofOld",
            limits=(90, 180),
        ),
        Panel(
            "Shards",
            "Owned and connected ones by process; a shard without an owner is taken within seconds.",
            "short",
            [
                Query("sum(indexer_gateway_shards_owned{$ns})", "owned"),
                Query("sum(indexer_gateway_shards_connected{$ns})", "connected"),
                Query(UNOWNED, "without an owner"),
            ],
            "IndexerGatewayShardUnowned",
        ),
        Panel(
            "Events",
            "Received events by name, and the guilds and memberships that were written because of them.",
            "suffix: events/s",
            [
                Query(rate("indexer_gateway_events_total", "event"), "{{event}}"),
                Query(rate("indexer_gateway_guilds_stored_total"), "guilds stored"),
                Query(rate("indexer_gateway_memberships_stored_total"), "memberships stored"),
            ],
        ),
        Panel(
            "Event lag",
            "From receiving an event to its storage; it rises with a slow MongoDB.",
            "s",
            quantiles("indexer_gateway_event_lag_seconds", shares=(0.5, 0.99)),
        ),
        Panel(
            "Events that wait",
            "Received and not stored yet; a number that grows means that MongoDB is too slow for the events.",
            "suffix: events",
            [Query("sum(indexer_gateway_events_queued{$ns})", "waiting")],
        ),
        Panel(
            "Sessions and closes",
            "Resumes are normal, several a day for each shard; identifies are rare.",
            "suffix: sessions/s",
            [
                Query(rate("indexer_gateway_sessions_total", "how"), "{{how}}"),
                Query(rate("indexer_gateway_closes_total", "reason"), "closed: {{reason}}"),
            ],
        ),
        Panel(
            "Gaps",
            "Sessions that ended, by cause; their guilds are by REST until the next session.",
            "suffix: gaps/s",
            [Query(rate("indexer_gateway_gaps_total", "cause"), "{{cause}}")],
        ),
        Panel(
            "Identifies left today",
            "Discord resets the bot's token beyond the last one; the fleet stops at GATEWAY_IDENTIFY_RESERVE.",
            "short",
            [Query(LEFT, "left")],
            "IndexerGatewayIdentifiesLow",
        ),
        Panel(
            "Audits and role requests",
            "Audits that differ show a session that loses events; unanswered role requests are made by REST.",
            "suffix: results/s",
            [
                Query(rate("indexer_gateway_audits_total", "result"), "audit: {{result}}"),
                Query(rate("indexer_gateway_role_requests_total", "result"), "roles: {{result}}"),
            ],
            "IndexerGatewayAuditDiffers",
        ),
    ],
)
DASHBOARD = Dashboard(
    "indexer-gateway",
    "Discord indexer / Gateway",
    "The feed from Discord's Gateway: what it keeps current, its shards, and what it lost. Empty while it is off.",
    [GLANCE, FEED],
)
