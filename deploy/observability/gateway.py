"""The dashboard row of the feed from Discord's Gateway."""

from deploy.observability.panels import Panel, Query, Row, quantiles, rate

ROW = Row(
    "Gateway",
    [
        Panel(
            "Fed guilds",
            "Share of the guilds with our bot that are kept current by events; the others are read by REST.",
            "percentunit",
            [Query("max(indexer:gateway_fed_ratio:max{$ns})", "fed")],
            "IndexerGatewayFedShareLow",
            most=1,
        ),
        Panel(
            "Oldest proof",
            "Age of what the least current shard has stored; a heartbeat interval of 41 s is normal.",
            "s",
            [Query("max(indexer:gateway_oldest_proof_seconds:max{$ns})", "oldest")],
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
                Query("max(indexer:gateway_shards_unowned:max{$ns})", "without an owner"),
            ],
            "IndexerGatewayShardUnowned",
        ),
        Panel(
            "Events",
            "Received events by name, and the guilds that were written because of them.",
            "reqps",
            [
                Query(rate("indexer_gateway_events_total", "event"), "{{event}}"),
                Query(rate("indexer_gateway_guilds_stored_total"), "guilds stored"),
            ],
        ),
        Panel(
            "Event lag",
            "From receiving an event to its storage, and events that wait; it rises with a slow MongoDB.",
            "s",
            [
                *quantiles("indexer_gateway_event_lag_seconds", shares=(0.5, 0.99)),
                Query("sum(indexer_gateway_events_queued{$ns})", "queued"),
            ],
        ),
        Panel(
            "Sessions and closes",
            "Resumes are normal, several a day for each shard; identifies are rare.",
            "reqps",
            [
                Query(rate("indexer_gateway_sessions_total", "how"), "{{how}}"),
                Query(rate("indexer_gateway_closes_total", "reason"), "closed: {{reason}}"),
            ],
        ),
        Panel(
            "Gaps",
            "Sessions that ended, by cause; their guilds are by REST until the next session.",
            "reqps",
            [Query(rate("indexer_gateway_gaps_total", "cause"), "{{cause}}")],
        ),
        Panel(
            "Identifies left today",
            "Discord resets the bot's token beyond the last one; the fleet stops at GATEWAY_IDENTIFY_RESERVE.",
            "short",
            [Query("max(indexer:gateway_identifies_left:max{$ns})", "left")],
            "IndexerGatewayIdentifiesLow",
        ),
        Panel(
            "Audits and role requests",
            "Audits that differ show a session that loses events; unanswered role requests are made by REST.",
            "reqps",
            [
                Query(rate("indexer_gateway_audits_total", "result"), "audit: {{result}}"),
                Query(rate("indexer_gateway_role_requests_total", "result"), "roles: {{result}}"),
            ],
            "IndexerGatewayAuditDiffers",
        ),
    ],
)
