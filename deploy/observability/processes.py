"""The dashboard about the machine: calls, streams, queues, servers, and what the processes use."""

from deploy.observability.panels import Board, Panel, Query, Row, quantile, quantiles, rate

BAD = ',grpc_code=~"UNAVAILABLE|INTERNAL|UNKNOWN|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED"'
OURS = " and on (instance) group by (instance) (indexer_build_info{$ns})"
"""Leaves out what else runs in the namespace."""
CALLS = Row(
    "gRPC",
    [
        Panel(
            "Calls",
            "By method; a fall to nothing is as bad as errors.",
            "reqps",
            [Query(rate("grpc_server_started_total", "grpc_method"), "{{grpc_method}}")],
            stacked=True,
        ),
        Panel(
            "Calls that failed",
            "UNAVAILABLE is a server that is away, INTERNAL a bug; what callers did wrong is not here.",
            "reqps",
            [Query(rate("grpc_server_handled_total", "grpc_method, grpc_code", BAD), "{{grpc_method}} {{grpc_code}}")],
            stacked=True,
        ),
        Panel(
            "Time of a call, p95",
            "Of single calls; StartIndexing waits up to 2 s on purpose, WaitJob up to a minute.",
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
            "Watchers by process; they spread when streams reach their age.",
            "short",
            [Query("sum by (instance) (indexer_streams_open{$ns})", "{{instance}}")],
            stacked=True,
        ),
        Panel(
            "Updates merged for slow watchers",
            "Watchers that read slowly get the latest of each guild; many are no harm, but somebody's reader is slow.",
            "reqps",
            [Query(rate("indexer_stream_updates_merged_total"), "merged")],
        ),
    ],
)
QUEUE = Row(
    "Queue and workers",
    [
        Panel(
            "Turns in the queue",
            "Live ones include those that workers hold; ready ones wait for a thread.",
            "short",
            [Query("max by (queue, state) (indexer:queue_turns:max{$ns})", "{{queue}}: {{state}}")],
            "IndexerQueueOld",
        ),
        Panel(
            "Age of the oldest turn that is ready",
            "Under a second while there are enough workers.",
            "s",
            [Query("max by (queue) (indexer:queue_oldest_seconds:max{$ns})", "{{queue}}")],
            "IndexerQueueOld",
            limits=(30, 60),
        ),
        Panel(
            "From enqueueing to beginning",
            "What the queue adds to a job, at each of its turns.",
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
            "Share of turns that could run at once; near 1 for long asks for more workers.",
            "percentunit",
            [Query("sum(indexer_turns_running{$ns}) / sum(indexer_worker_threads{$ns})", "in use")],
            "IndexerQueueOld",
            most=1,
        ),
        Panel(
            "Dead letters",
            "Messages that Dramatiq gave up; our turns never go there, so any is a surprise.",
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
            "Milliseconds; what rises for all commands at once is the server.",
            "s",
            [Query(quantile(0.95, "indexer_mongodb_command_seconds", "command"), "{{command}}")],
            "IndexerMongoErrors",
            span=6,
        ),
        Panel(
            "MongoDB, commands that failed",
            "Jobs go on when it is back; starts answer UNAVAILABLE meanwhile.",
            "reqps",
            [Query(rate("indexer_mongodb_errors_total", "command"), "{{command}}")],
            "IndexerMongoErrors",
            stacked=True,
            span=6,
        ),
        Panel(
            "Redis, by command or pipeline",
            "About a millisecond.",
            "s",
            quantiles("indexer_redis_command_seconds", shares=(0.5, 0.99)),
            "IndexerRedisErrors",
            span=6,
        ),
        Panel(
            "Redis, commands that failed",
            "Without Redis no call is made to Discord.",
            "reqps",
            [Query(rate("indexer_redis_errors_total"), "failed")],
            "IndexerRedisErrors",
            span=6,
        ),
    ],
)
TOKENS = Row(
    "Credentials and callers",
    [
        Panel(
            "Users who must log in again",
            "Share of all users; a jump means that tokens were revoked at once.",
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
            "renewed is everyday; lost ones were renewed while MongoDB was away, and their users must log in again.",
            "reqps",
            [Query(rate("indexer_credential_refreshes_total", "result"), "{{result}}")],
            "IndexerReauthWave",
            stacked=True,
        ),
        Panel(
            "Callers checked",
            "1 where callers must show a token, over TLS; a 0 in production answers whoever reaches the port.",
            "short",
            [Query("min by (instance) (indexer_callers_checked{$ns})", "{{instance}}")],
            most=1,
        ),
    ],
)
MACHINE = Row(
    "Processes",
    [
        Panel(
            "CPU",
            "Cores by process; a process has one at most for its Python code.",
            "short",
            [Query(rate("process_cpu_seconds_total", "instance") + OURS, "{{instance}}")],
        ),
        Panel(
            "Memory",
            "Resident; it does not grow with the number of users.",
            "bytes",
            [Query("sum by (instance) (process_resident_memory_bytes{$ns})" + OURS, "{{instance}}")],
        ),
        Panel(
            "Since a duty last succeeded",
            "One process of all does it: sweep and refresh each 15 s, purge once a day; one never done is not shown.",
            "s",
            [
                Query(
                    "time() - (max by (duty) (indexer_duty_last_success_timestamp_seconds{$ns}) > 0)",
                    "{{duty}}",
                )
            ],
            "IndexerDutyStale",
        ),
        Panel(
            "Builds",
            "Two versions side by side only during a rollout.",
            "short",
            [Query("count by (version) (indexer_build_info{$ns})", "{{version}}")],
            stacked=True,
        ),
        Panel(
            "Sources of the exporter",
            "1 while it can be read; at 0 the fleet's numbers are missing.",
            "short",
            [Query("min by (source) (indexer:exporter_source_up:max{$ns})", "{{source}}")],
            "IndexerExporterBlind",
            most=1,
        ),
        Panel(
            "Time of an exporter's reading",
            "Milliseconds; towards EXPORTER_TIMEOUT a source is slow, and its numbers will go missing.",
            "s",
            [Query("max by (instance) (indexer_exporter_read_seconds{$ns})", "{{instance}}")],
            "IndexerExporterBlind",
        ),
    ],
)
BOARD = Board(
    "indexer-processes",
    "Discord indexer / Service and workers",
    "Calls, streams, queues, servers and resources: where it is slow, and what is away.",
    [CALLS, QUEUE, SERVERS, TOKENS, MACHINE],
)
