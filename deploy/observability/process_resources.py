"""The row of the processes' own resources: CPU, memory, connections, threads."""

from deploy.observability.panels import PROCESS, Panel, Query, Row, rate

PRODUCT_ONLY = " and on (instance) group by (instance) (indexer_build_info{$ns})"
"""Excludes other programs in the namespace."""

MACHINE = Row(
    "Processes",
    [
        Panel(
            "CPU",
            "Cores by process; Python code uses at most one core of a process.",
            "suffix: cores",
            [Query(rate("process_cpu_seconds_total", "pod, instance") + PRODUCT_ONLY, PROCESS)],
        ),
        Panel(
            "Memory",
            "Resident memory; it does not grow with the number of users.",
            "bytes",
            [Query("sum by (pod, instance) (process_resident_memory_bytes{$ns})" + PRODUCT_ONLY, PROCESS)],
        ),
        Panel(
            "Since a periodic task last succeeded",
            "One process runs each: sweep and refresh every 15 s, purge once a day; not shown before a first success.",
            "s",
            [
                Query(
                    "time() - (max by (task) (indexer_periodic_task_last_success_timestamp_seconds{$ns}) > 0)",
                    "{{task}}",
                )
            ],
            "IndexerPeriodicTaskStale",
        ),
        Panel(
            "Builds",
            "Two versions at the same time only during a rollout.",
            "short",
            [Query("count by (version) (indexer_build_info{$ns})", "{{version}}")],
            stacked=True,
        ),
        Panel(
            "Sources of the exporter",
            "1 while the exporter can read the source; at 0 metrics of the fleet are missing.",
            "short",
            [Query("min by (source) (indexer:exporter_source_up:max{$ns})", "{{source}}")],
            "IndexerExporterSourceDown",
            most=1,
        ),
        Panel(
            "Duration of an exporter's read",
            "Milliseconds are normal; near EXPORTER_TIMEOUT a source is slow, and its metrics may go missing.",
            "s",
            [Query("max by (pod, instance) (indexer_exporter_read_seconds{$ns})", PROCESS)],
            "IndexerExporterSourceDown",
        ),
    ],
)
