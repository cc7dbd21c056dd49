"""The dashboard of service and workers: calls, streams, queues, servers, and resources of the processes."""

from deploy.observability import process_resources
from deploy.observability.panels import PROCESS, Dashboard, Panel, Query, Row, quantile, quantiles, rate

BAD = ',grpc_code=~"UNAVAILABLE|INTERNAL|UNKNOWN|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED"'
GLANCE = Row(
    "Is all well?",
    [
        Panel(
            "Calls that failed, 1 h",
            "Share of unary calls that ended with INTERNAL, UNAVAILABLE or UNKNOWN; the objective is 0.1 %.",
            "percentunit",
            [Query("max(indexer:api:failed_ratio1h{$ns})")],
            "IndexerApiBurnFast",
            limits=(0.001, 0.0144),
            single=True,
            span=4,
        ),
        *(
            Panel(
                f"Error budget left: {title}",
                "Of 28 days; below 0 it is overdrawn, at -100 % by as much again or more (docs/slo.md).",
                "percentunit",
                [Query(f"clamp_min(min(indexer:{name}:budget_left_ratio28d{{$ns}}), -1)")],
                alert,
                limits=(0.5, 0.1),
                single=True,
                span=4,
            )
            for title, name, alert in (
                ("availability", "api", "IndexerApiBurnSlow"),
                ("start latency", "first_guild", "IndexerStartLatencyBurnSlow"),
                ("freshness", "reads", "IndexerFreshnessBurnSlow"),
                ("update lag", "updates", "IndexerUpdateLagBurnSlow"),
            )
        ),
        Panel(
            "Servers that refuse",
            "Processes that cannot write to Redis or MongoDB now.",
            "short",
            [Query("sum(indexer_redis_trouble{$ns}) + sum(indexer_mongodb_trouble{$ns})")],
            "IndexerMongoRefuses",
            limits=(1, 2),
            single=True,
            span=4,
        ),
    ],
)
CALLS = Row(
    "gRPC",
    [
        Panel(
            "Calls",
            "By method; a drop to 0 is as bad as errors.",
            "reqps",
            [Query(rate("grpc_server_started_total", "grpc_method"), "{{grpc_method}}")],
            stacked=True,
        ),
        Panel(
            "Calls that failed",
            "UNAVAILABLE: a server is unreachable; INTERNAL: a bug; errors of callers are not shown.",
            "reqps",
            [Query(rate("grpc_server_handled_total", "grpc_method, grpc_code", BAD), "{{grpc_method}} {{grpc_code}}")],
            stacked=True,
        ),
        Panel(
            "Duration of a call, p95",
            "Unary calls; StartIndexing waits up to 2 s and WaitJob up to a minute by design.",
            "s",
            [
                Query(
                    quantile(0.95, "grpc_server_handling_seconds", "grpc_method", ',grpc_type="unary"'),
                    "{{grpc_method}}",
                )
            ],
        ),
        Panel(
            "Streams open",
            "Watchers by process; they spread over processes as streams reach their maximum age.",
            "short",
            [Query("sum by (pod, instance) (indexer_streams_open{$ns})", PROCESS)],
            stacked=True,
        ),
        Panel(
            "Lag of updates",
            "From the publishing of a job's update to its arrival in a process with watchers.",
            "s",
            quantiles("indexer_update_lag_seconds", shares=(0.5, 0.99)),
            "IndexerUpdateLagBurnFast",
        ),
        Panel(
            "Lag of WatchIndex",
            "From the announcement of a change to its message; a slow reader's own time counts as well.",
            "s",
            quantiles("indexer_watch_index_lag_seconds", shares=(0.5, 0.99)),
            "IndexerWatchIndexLag",
        ),
        Panel(
            "Certificate, time left",
            "Until the service's certificate ends; infinite without TLS.",
            "s",
            [Query("min(indexer_tls_certificate_expiry_timestamp_seconds{$ns}) - time()", "left")],
            "IndexerCertificateEnds",
            limits=(7 * 86400, 86400),
        ),
        Panel(
            "Files refused",
            "Processes that refused a changed file of certificates or tokens; they go on with the last good one.",
            "short",
            [Query("sum(indexer_file_refused{$ns})", "processes")],
            "IndexerFileRefused",
        ),
        Panel(
            "Updates merged for slow watchers",
            "Slow watchers get coalesced updates; a high rate is harmless, but shows a slow client.",
            "suffix: updates/s",
            [Query(rate("indexer_stream_updates_merged_total"), "merged")],
        ),
    ],
)
QUEUE = Row(
    "Queue and workers",
    [
        Panel(
            "Turns in the queue",
            "Live turns include those held by workers; ready turns wait for a thread.",
            "short",
            [Query("max by (queue, state) (indexer:queue_turns:max{$ns})", "{{queue}}: {{state}}")],
            "IndexerQueueOld",
        ),
        Panel(
            "Age of the oldest ready turn",
            "Below a second while there are enough workers.",
            "s",
            [Query("max by (queue) (indexer:queue_oldest_seconds:max{$ns})", "{{queue}}")],
            "IndexerQueueOld",
            limits=(30, 60),
        ),
        Panel(
            "Queue delay",
            "The delay that the queue adds to each turn of a job.",
            "s",
            quantiles("indexer_turn_queue_delay_seconds"),
            "IndexerQueueOld",
        ),
        Panel(
            "Workers alive",
            "By heartbeat in Redis.",
            "short",
            [Query("max(indexer:workers_live:max{$ns})", "workers")],
            "IndexerWorkersGone",
        ),
        Panel(
            "Threads in use",
            "Running turns as a share of threads; add workers when it stays near 1.",
            "percentunit",
            [Query("sum(indexer_turns_running{$ns}) / sum(indexer_worker_threads{$ns})", "in use")],
            "IndexerQueueOld",
            most=1,
        ),
        Panel(
            "Dead letters",
            "Messages that Dramatiq gave up; turns are never retried, so any dead letter is unexpected.",
            "short",
            [Query('max by (queue) (indexer:queue_turns:max{$ns,state="dead"})', "{{queue}}")],
            "IndexerDeadLetters",
        ),
    ],
)
SERVERS = Row(
    "MongoDB and Redis",
    [
        Panel(
            "MongoDB, p95 by command",
            "Milliseconds; a rise for all commands at once points to the server.",
            "s",
            [Query(quantile(0.95, "indexer_mongodb_command_seconds", "command"), "{{command}}")],
            "IndexerMongoErrors",
            span=6,
        ),
        Panel(
            "MongoDB, processes that cannot write",
            "By the reason of their last probe. Only away and readonly end by themselves.",
            "short",
            [Query("sum by (trouble) (indexer_mongodb_trouble{$ns})", "{{trouble}}")],
            "IndexerMongoRefuses",
            stacked=True,
        ),
        Panel(
            "Redis, memory used",
            "Share of maxmemory; 0 without one. No call is made once it is full.",
            "percentunit",
            [Query("max by (namespace) (indexer:redis_memory_used_ratio:max{$ns})", "{{namespace}}")],
            "IndexerRedisNearlyFull",
            limits=(0.8, 0.95),
            most=1,
        ),
        Panel(
            "Redis, faults",
            "1: evicts keys, or cannot write to disk.",
            "short",
            [Query("max by (fault) (indexer:redis_fault:max{$ns})", "{{fault}}")],
            "IndexerRedisFault",
        ),
        Panel(
            "Redis, replicas",
            "Connected ones.",
            "short",
            [Query("max(indexer:redis_replicas:max{$ns})", "replicas")],
            "IndexerRedisReplicaGone",
        ),
        Panel(
            "Redis, lag of the slowest replica",
            "Since it was heard; what it lacks is lost in a failover.",
            "s",
            [Query("max(indexer:redis_replica_lag_seconds:max{$ns})", "lag")],
            "IndexerRedisReplicaLags",
        ),
        Panel(
            "MongoDB, failed commands",
            "During an outage starts return UNAVAILABLE; jobs continue when it ends.",
            "suffix: commands/s",
            [Query(rate("indexer_mongodb_errors_total", "command"), "{{command}}")],
            "IndexerMongoErrors",
            stacked=True,
            span=6,
        ),
        Panel(
            "Redis, by command or pipeline",
            "About a millisecond is normal.",
            "s",
            quantiles("indexer_redis_command_seconds", shares=(0.5, 0.99)),
            "IndexerRedisErrors",
            span=6,
        ),
        Panel(
            "Redis, failed commands",
            "Without Redis no call to Discord is made.",
            "suffix: commands/s",
            [Query(rate("indexer_redis_errors_total"), "failed")],
            "IndexerRedisErrors",
            span=6,
        ),
        Panel(
            "Redis, processes that cannot write",
            "By the reason of their last probe. Only away ends by itself, and readonly within a failover.",
            "short",
            [Query("sum by (trouble) (indexer_redis_trouble{$ns})", "{{trouble}}")],
            "IndexerRedisRefuses",
            span=4,
        ),
        Panel(
            "Processes that wait for a slow server",
            "More than 5 % of their commands take over 100 ms to MongoDB, or 50 ms to Redis.",
            "short",
            [Query("sum by (server) (indexer_server_slow{$ns})", "{{server}}")],
            "IndexerServerSlow",
            span=4,
        ),
        Panel(
            "MongoDB, operations under way at most",
            "Of one process: MONGODB_CONNECTIONS while the server is near, more while it is far away.",
            "short",
            [Query("max by (pod) (indexer_mongodb_operations_limit{$ns})", "{{pod}}")],
            "IndexerServerSlow",
            span=4,
        ),
        Panel(
            "Turns that begin nothing",
            "By reason. Jobs stand still while most turns do.",
            "suffix: turns/s",
            [Query(rate("indexer_turns_without_task_total", "reason"), "{{reason}}")],
            "IndexerTurnsBeginNothing",
            span=4,
        ),
        Panel(
            "Difference of clocks",
            "Between the clock of a machine and MongoDB's, which decides when turns are due; largest and smallest.",
            "s",
            [
                Query("max(indexer_clock_difference_seconds{$ns})", "largest"),
                Query("min(indexer_clock_difference_seconds{$ns})", "smallest"),
            ],
            "IndexerClockDiffers",
            span=8,
        ),
    ],
)
TOKENS = Row(
    "Credentials and callers",
    [
        Panel(
            "Users who must log in again",
            "Share of all users; a jump means that many tokens were revoked at once.",
            "percentunit",
            [
                Query(
                    'max(indexer:credentials:max{$ns,state="reauth_required"}) / '
                    'max(indexer:credentials:max{$ns,state="stored"})',
                    "must log in again",
                )
            ],
            "IndexerReauthWave",
        ),
        Panel(
            "Tokens renewed",
            "renewed is normal; lost: renewed but not stored during a MongoDB outage, so the user must log in again.",
            "suffix: tokens/s",
            [Query(rate("indexer_credential_refreshes_total", "result"), "{{result}}")],
            "IndexerReauthWave",
            stacked=True,
        ),
        Panel(
            "Tokens proven",
            "proven is normal; unverifiable: Discord does not say whose they are; other_user: wrong ones.",
            "suffix: tokens/s",
            [Query(rate("indexer_credential_proofs_total", "result"), "{{result}}")],
            "IndexerTokensUnproven",
            stacked=True,
        ),
        Panel(
            "Authentication required",
            "1: callers need a service token over TLS; 0 in production exposes the API to every client of the port.",
            "short",
            [Query("min by (pod, instance) (indexer_authentication_required{$ns})", PROCESS)],
            most=1,
        ),
    ],
)
DASHBOARD = Dashboard(
    "indexer-processes",
    "Discord indexer / Service and workers",
    "Calls, streams, queues, servers and resources: what is slow, and what is unreachable.",
    [GLANCE, CALLS, QUEUE, SERVERS, TOKENS, process_resources.MACHINE],
)
