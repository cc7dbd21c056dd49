"""The indexing dashboard: how soon users see their guilds, and the calls to Discord that this costs."""

from deploy.observability.panels import Dashboard, Panel, Query, Row, quantile, quantiles, rate, share

CALLS = 'sum(increase(indexer_discord_calls_total{$ns,status="200"}[1d]))'
FAILED_JOBS = share("indexer_jobs_finished_total", 'state="FAILED"')
FAILED_GUILDS = share("indexer_guild_tasks_finished_total", 'state="FAILED"')
GLANCE = Row(
    "Is all well?",
    [
        Panel(
            "First guild shown, p95",
            "What a waiting user sees; the objective is 2.5 s for 99 %.",
            "s",
            [Query(quantile(0.95, "indexer_job_milestone_seconds", more=',milestone="first"'))],
            "IndexerStartLatencyBurnFast",
            limits=(2.5, 5),
            single=True,
            span=4,
        ),
        Panel(
            "Jobs that failed, 1 h",
            "Share of the jobs that ended as FAILED; single guilds may fail without that.",
            "percentunit",
            [Query(FAILED_JOBS)],
            "IndexerNothingSucceeds",
            limits=(0.01, 0.05),
            single=True,
            span=4,
        ),
        Panel(
            "Guilds that failed, 1 h",
            "Share of the guild tasks that ended as FAILED; guilds that lack the bot do not count.",
            "percentunit",
            [Query(FAILED_GUILDS)],
            "IndexerNothingSucceeds",
            limits=(0.02, 0.1),
            single=True,
            span=4,
        ),
        Panel(
            "Most overdue job",
            "Seconds are normal, minutes are repaired by the sweeper.",
            "s",
            [Query("max(indexer:jobs_overdue_seconds:max{$ns})")],
            "IndexerJobsOverdue",
            limits=(60, 120),
            single=True,
            span=4,
        ),
        Panel(
            "Jobs at work",
            "Active jobs of all users.",
            "suffix: jobs",
            [Query("max(indexer:jobs_active:max{$ns})")],
            "IndexerNothingSucceeds",
            single=True,
            span=4,
        ),
        Panel(
            "Shown channels, age p95",
            "Of what callers have read; the objective is a day for 95 %.",
            "s",
            [Query(quantile(0.95, "indexer_read_age_seconds"))],
            "IndexerFreshnessBurnFast",
            limits=(43200, 86400),
            single=True,
            span=4,
        ),
    ],
)
JOBS = Row(
    "Jobs",
    [
        Panel(
            "Starts",
            "StartIndexing calls by disposition: JOINED, FRESH and REPLAYED start no job.",
            "reqps",
            [Query(rate("indexer_starts_total", "disposition"), "{{disposition}}")],
            stacked=True,
            span=6,
        ),
        Panel(
            "Jobs that ended",
            "SUCCEEDED_WITH_ERRORS: some guilds failed; FAILED should be rare.",
            "suffix: jobs/s",
            [Query(rate("indexer_jobs_finished_total", "state"), "{{state}}")],
            "IndexerNothingSucceeds",
            stacked=True,
            span=6,
        ),
        Panel(
            "Active jobs",
            "Active jobs and delayed turns; a plateau that never falls means that jobs make no progress.",
            "short",
            [
                Query("max(indexer:jobs_active:max{$ns})", "active"),
                Query("max(indexer:turns_waiting:max{$ns})", "delayed turns"),
            ],
            "IndexerNothingSucceeds",
            span=6,
        ),
        Panel(
            "Overdue",
            "Delay of the most overdue job; seconds are normal, minutes are repaired by the sweeper.",
            "s",
            [Query("max(indexer:jobs_overdue_seconds:max{$ns})", "overdue")],
            "IndexerJobsOverdue",
            limits=(60, 120),
            span=6,
        ),
    ],
)
FIRST = Row(
    "Latency",
    [
        Panel(
            "Until the guild list, the first guild, the first five",
            "What a waiting user sees: the first guild within one or two seconds.",
            "s",
            quantiles("indexer_job_milestone_seconds", "milestone"),
            "IndexerStartLatencyBurnFast",
            span=12,
        ),
        Panel(
            "First guild later than 2.5 s",
            "Share of jobs; the objective is at most 1 %.",
            "percentunit",
            [
                Query("max(indexer:first_guild:slow_ratio5m{$ns})", "5 min"),
                Query("max(indexer:first_guild:slow_ratio1h{$ns})", "1 h"),
            ],
            "IndexerStartLatencyBurnFast",
            limits=(0.01, 0.144),
            most=1,
            span=12,
        ),
    ],
)
UNITS = Row(
    "Guilds",
    [
        Panel(
            "Guild tasks finished",
            "By final state; SKIPPED guilds lack the bot or are muted.",
            "suffix: guilds/s",
            [Query(rate("indexer_guild_tasks_finished_total", "state"), "{{state}}")],
            "IndexerNothingSucceeds",
            stacked=True,
            span=6,
        ),
        Panel(
            "Guild tasks without success, by reason",
            "BOT_NOT_INSTALLED and NO_ACCESS need an action of the guild's administrators; INTERNAL is a bug.",
            "suffix: guilds/s",
            [Query(rate("indexer_guild_tasks_finished_total", "reason", ',state!="SUCCEEDED"'), "{{reason}}")],
            stacked=True,
            span=6,
        ),
        Panel(
            "Duration of a turn",
            "Turns end after a few seconds, so that many users share few threads.",
            "s",
            quantiles("indexer_turn_seconds"),
            span=6,
        ),
        Panel(
            "Channel lists verified",
            "Lists fetched twice because over half of the known channels were missing; many mean a Discord outage.",
            "suffix: lists/s",
            [Query(rate("indexer_channel_lists_verified_total"), "verified")],
            span=6,
        ),
    ],
)
ECONOMY = Row(
    "Economy",
    [
        Panel(
            "Calls for each user and day",
            "Successful calls to Discord in a day for each stored user; lower is better.",
            "short",
            [Query(f'{CALLS} / max(indexer:credentials:max{{$ns,state="stored"}})', "calls")],
        ),
        Panel(
            "Calls for each guild indexed",
            "About one without sharing, far less when users share guilds, more when roles are fetched.",
            "short",
            [
                Query(
                    f"{rate('indexer_discord_calls_total')} / "
                    + rate("indexer_guild_tasks_finished_total", more=',state="SUCCEEDED"'),
                    "calls",
                )
            ],
        ),
        Panel(
            "Guilds served without a call",
            "The guild was fresh, or another job had just fetched it.",
            "percentunit",
            [
                Query(
                    f"clamp_max({rate('indexer_calls_saved_total')} / "
                    + rate("indexer_guild_tasks_finished_total", more=',state="SUCCEEDED"')
                    + ", 1)",
                    "saved",
                )
            ],
            most=1,
        ),
        Panel(
            "Calls by route",
            "Most calls should fetch the channels of guilds.",
            "reqps",
            [Query(rate("indexer_discord_calls_total", "route"), "{{route}}")],
            stacked=True,
        ),
        Panel(
            "Refreshes",
            "By result: many unchanged guilds could be refreshed less often; errors are retried later.",
            "suffix: guilds/s",
            [Query(rate("indexer_refreshes_total", "result"), "{{result}}")],
            stacked=True,
        ),
        Panel(
            "Age of listed channels",
            "Age of the channels in ListGuilds responses.",
            "s",
            quantiles("indexer_read_age_seconds"),
        ),
    ],
)
DASHBOARD = Dashboard(
    "indexer-indexing",
    "Discord indexer / Indexing",
    "Jobs and guilds: latency for users, failures, and cost in calls to Discord.",
    [GLANCE, JOBS, FIRST, UNITS, ECONOMY],
)
