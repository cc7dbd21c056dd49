"""The dashboard about the product's main job: how soon users see their servers, and what that costs."""

from deploy.observability.panels import Board, Panel, Query, Row, quantiles, rate

CALLS = 'sum(increase(indexer_discord_calls_total{$ns,status="200"}[1d]))'
JOBS = Row(
    "Jobs",
    [
        Panel(
            "Starts",
            "How StartIndexing was served: JOINED, FRESH and REPLAYED cost nothing.",
            "reqps",
            [Query(rate("indexer_starts_total", "disposition"), "{{disposition}}")],
            stacked=True,
        ),
        Panel(
            "Jobs that ended",
            "SUCCEEDED_WITH_ERRORS names guilds that failed; FAILED should be rare.",
            "reqps",
            [Query(rate("indexer_jobs_finished_total", "state"), "{{state}}")],
            "IndexerNothingSucceeds",
            stacked=True,
        ),
        Panel(
            "Jobs that run",
            "Active ones, and turns that wait for their time; a plateau that never falls means that nothing moves.",
            "short",
            [
                Query("max(indexer:jobs_active:max{$ns})", "active"),
                Query("max(indexer:turns_waiting:max{$ns})", "waiting for their time"),
            ],
            "IndexerNothingSucceeds",
        ),
        Panel(
            "Overdue",
            "By how much the latest job is behind its time; seconds are normal, the sweeper mends minutes.",
            "s",
            [Query("max(indexer:jobs_overdue_seconds:max{$ns})", "overdue")],
            "IndexerJobsOverdue",
            limits=(60, 120),
        ),
    ],
)
FIRST = Row(
    "How soon",
    [
        Panel(
            "Until the guild list, the first guild, the first five",
            "What somebody who waits sees: the first guild within a second or two.",
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
            "Guilds done",
            "By final state; SKIPPED ones have no bot or are muted.",
            "reqps",
            [Query(rate("indexer_units_finished_total", "state"), "{{state}}")],
            "IndexerNothingSucceeds",
            stacked=True,
            span=6,
        ),
        Panel(
            "Guilds that did not succeed, by cause",
            "BOT_NOT_INSTALLED and NO_ACCESS are for those who run the guild; INTERNAL is a bug of ours.",
            "reqps",
            [Query(rate("indexer_units_finished_total", "cause", ',state!="SUCCEEDED"'), "{{cause}}")],
            stacked=True,
            span=6,
        ),
        Panel(
            "Time of a turn",
            "Turns end after a few seconds by themselves, so that many users share few threads.",
            "s",
            quantiles("indexer_turn_seconds"),
            span=6,
        ),
        Panel(
            "Listings doubted",
            "Lists of channels asked for again because more than half was missing; many at once are Discord's trouble.",
            "reqps",
            [Query(rate("indexer_listings_doubted_total"), "doubted")],
            span=6,
        ),
    ],
)
ECONOMY = Row(
    "Economy",
    [
        Panel(
            "Calls for each user and day",
            "Successful calls to Discord of one day over stored users; the call not made is the best one.",
            "short",
            [Query(f'{CALLS} / max(indexer:credentials:max{{$ns,state="stored"}})', "calls")],
        ),
        Panel(
            "Calls for each guild done",
            "About one for a guild alone, far below when users share guilds, more when roles must be read.",
            "short",
            [
                Query(
                    f"{rate('indexer_discord_calls_total')} / "
                    + rate("indexer_units_finished_total", more=',state="SUCCEEDED"'),
                    "calls",
                )
            ],
        ),
        Panel(
            "Guilds served without a call",
            "Because the guild was fresh, or somebody else had just fetched it.",
            "percentunit",
            [
                Query(
                    f"{rate('indexer_calls_saved_total')} / "
                    + rate("indexer_units_finished_total", more=',state="SUCCEEDED"'),
                    "saved",
                )
            ],
            most=1,
        ),
        Panel(
            "Calls by route",
            "Channels of guilds should be most of them.",
            "reqps",
            [Query(rate("indexer_discord_calls_total", "route"), "{{route}}")],
            stacked=True,
        ),
        Panel(
            "Refreshes",
            "Unchanged ones could have come later; errors are tried again later.",
            "reqps",
            [Query(rate("indexer_refreshes_total", "result"), "{{result}}")],
            stacked=True,
        ),
        Panel(
            "Age of what is read",
            "How old the channels are that users are shown.",
            "s",
            quantiles("indexer_read_age_seconds"),
        ),
    ],
)
BOARD = Board(
    "indexer-indexing",
    "Discord indexer / Indexing",
    "Jobs and guilds: how soon users see their servers, what fails, and what it costs in calls to Discord.",
    [JOBS, FIRST, UNITS, ECONOMY],
)
