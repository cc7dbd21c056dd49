"""Rate-limit headroom, the operators' first dashboard: the distance to each of Discord's limits."""

from deploy.observability.panels import Dashboard, Panel, Query, Row, quantile, quantiles, rate

TAKEN = rate("indexer_ratelimit_permits_taken_total")
PERMITTED = "sum(indexer:global_permitted:rate{$ns})"
NOW = Row(
    "How much is left",
    [
        Panel(
            "Global headroom",
            "Unused share of the bot's permitted calls over the last minute; amber below 25 %.",
            "percentunit",
            [Query("min(indexer:global_headroom:ratio1m{$ns})")],
            "IndexerHeadroomExhausted",
            limits=(0.25, 0.1),
            single=True,
            span=4,
        ),
        Panel(
            "Wait of interactive calls, p95",
            "For a permit; while a user waits for their first guilds, calls should not. Amber from 250 ms.",
            "s",
            [Query(quantile(0.95, "indexer_ratelimit_wait_seconds", more=',lane="interactive"'))],
            "IndexerStartLatencyBurnFast",
            limits=(0.25, 1),
            single=True,
            span=4,
        ),
        Panel(
            "Routes without permits",
            "Routes whose own limit is used up now; many for long mean that Discord lowered its limits.",
            "suffix: routes",
            [Query('max(indexer:budget_routes:max{$ns,state="exhausted"})')],
            limits=(20, 100),
            single=True,
            span=4,
        ),
        Panel(
            "Invalid-request limit used",
            "Invalid requests of the last 10 minutes as a share of the 10,000 at which Discord bans the address; "
            "background calls stop at 5 %, all calls at 10 %.",
            "percentunit",
            [Query("max(indexer:invalid_requests:used_ratio{$ns})")],
            "IndexerInvalidRequestsNear",
            limits=(0.05, 0.1),
            single=True,
            span=4,
        ),
        Panel(
            "Unforeseen 429s, 24 h",
            "429 responses of scope user or global: each is a bug in the limiter; must be 0.",
            "short",
            [Query('sum(increase(indexer_discord_rate_limited_total{$ns,scope=~"user|global"}[24h]))')],
            "IndexerUnforeseenRateLimit",
            limits=(0.5, 1),
            single=True,
            span=4,
        ),
        Panel(
            "Paused for",
            "Time until permits are granted again, after a global 429, lost state, or many invalid requests.",
            "s",
            [Query("max(indexer:budget_paused_seconds:max{$ns})")],
            "IndexerUnforeseenRateLimit",
            limits=(0.1, 10),
            single=True,
            span=4,
        ),
    ],
)
GLOBAL = Row(
    "The bot's budget",
    [
        Panel(
            "Permits taken against the limit",
            "The stacked lanes stay below the limit; reaching it is efficient, staying at it delays jobs.",
            "suffix: permits/s",
            [Query(rate("indexer_ratelimit_permits_taken_total", "lane"), "{{lane}}"), Query(PERMITTED, "permitted")],
            "IndexerHeadroomExhausted",
            span=12,
        ),
        Panel(
            "Headroom",
            "1 minus the share of permits taken, exact over the window; alerts when below 10 % for 15 minutes.",
            "percentunit",
            [Query(f"clamp_min(1 - {TAKEN} / {PERMITTED}, 0)", "headroom")],
            "IndexerHeadroomExhausted",
            limits=(0.25, 0.1),
            most=1,
            span=12,
        ),
        Panel(
            "User headroom",
            "Of users with an active job; 0 is normal while jobs run, and means slow jobs when it lasts.",
            "percentunit",
            [
                Query('min(indexer:budget_user_free_ratio:max{$ns,statistic="p10"})', "10th percentile"),
            ],
            most=1,
            span=6,
        ),
        Panel(
            "Left right after a permit was taken",
            "Shows what happens between scrapes: 5th percentile and median of the share left, by kind of budget.",
            "percentunit",
            quantiles("indexer_ratelimit_share_left_ratio", "budget", (0.05, 0.5)),
            most=1,
            span=6,
        ),
        Panel(
            "Permits free now",
            "A sample of a budget with a window of a second: informative, too coarse for alerts.",
            "short",
            [
                Query('max(indexer:budget_free_permits:max{$ns,budget="global"})', "free"),
                Query('max(indexer:budget_capacity_permits:max{$ns,budget="global"})', "capacity"),
            ],
            span=6,
        ),
        Panel(
            "Route budgets in use",
            "Calls to exhausted routes wait; many exhausted routes for long mean that Discord lowered its limits.",
            "short",
            [Query("max by (state) (indexer:budget_routes:max{$ns})", "{{state}}")],
            stacked=True,
            span=6,
        ),
    ],
)
WAITS = Row(
    "Waiting for permits",
    [
        Panel(
            "Wait for a permit, by lane",
            "Interactive calls wait milliseconds even when background calls reach the limit.",
            "s",
            quantiles("indexer_ratelimit_wait_seconds", "lane", (0.5, 0.95, 0.99)),
        ),
        Panel(
            "Permits refused, by reason",
            "The wait would exceed max_wait, so the turn continues later; used up is normal, "
            "pause, hold (after a loss of Redis), edge and breaker (circuit breaker) are not.",
            "suffix: refusals/s",
            [Query(rate("indexer_ratelimit_refusals_total", "budget, reason"), "{{budget}}: {{reason}}")],
            stacked=True,
        ),
        Panel(
            "Callers asleep for a permit",
            "Average number of callers that wait, by the exhausted budget.",
            "suffix: callers",
            [Query(rate("indexer_ratelimit_waited_seconds_total", "lane, budget"), "{{lane}}: {{budget}}")],
            stacked=True,
        ),
    ],
)
DISCORD = Row(
    "Responses of Discord",
    [
        Panel(
            "Calls by status",
            "Nearly all are 200; 403s count towards the invalid-request limit, 5xx and lost calls are retried.",
            "reqps",
            [Query(rate("indexer_discord_calls_total", "status"), "{{status}}")],
            stacked=True,
        ),
        Panel(
            "429s by scope",
            "shared: caused by other clients; user, global: a bug in the limiter; egress: the edge blocks the address.",
            "reqps",
            [Query(rate("indexer_discord_rate_limited_total", "scope"), "{{scope}}")],
            "IndexerUnforeseenRateLimit",
        ),
        Panel(
            "Pauses",
            "Time until permits are granted again, by reason; hold is the warm-up after a loss of Redis.",
            "s",
            [Query("max by (budget, reason) (indexer:budget_paused_seconds:max{$ns})", "{{budget}}: {{reason}}")],
            "IndexerUnforeseenRateLimit",
        ),
        Panel(
            "Pauses required by 429s, p95",
            "Retry times in Discord's 429 responses; minutes mean that Discord restricts the token.",
            "s",
            [Query(quantile(0.95, "indexer_ratelimit_pause_seconds", "scope"), "{{scope}}")],
            "IndexerUnforeseenRateLimit",
        ),
        Panel(
            "Invalid-request limit used",
            "401, 403 and 429 responses of 10 minutes as a share of 10,000; background calls stop at 5 %.",
            "percentunit",
            [Query("max(indexer:invalid_requests:used_ratio{$ns})", "used")],
            "IndexerInvalidRequestsNear",
            limits=(0.05, 0.1),
        ),
        Panel(
            "Refused tokens by caller",
            "Answers 401 and 403 of 10 minutes to tokens that a caller brought; at 200 its calls stop.",
            "short",
            [Query("max by (caller) (indexer:caller_refused_tokens:max{$ns})", "{{caller}}")],
            "IndexerCallerStopped",
        ),
        Panel(
            "Round trip by route, p95",
            "Latency of Discord; a rise lengthens every job and holds permits longer.",
            "s",
            [Query(quantile(0.95, "indexer_discord_call_seconds", "route"), "{{route}}")],
        ),
        Panel(
            "Unreadable rows",
            "Rows of Discord's lists left out or hidden; more than a few mean that Discord changed its format.",
            "suffix: rows/s",
            [Query(rate("indexer_discord_unreadable_rows_total", "kind"), "{{kind}}")],
        ),
        Panel(
            "Processes that wait for Discord",
            "Processes that make only probes because Discord answers nobody; jobs go on by themselves.",
            "short",
            [Query("sum(indexer_discord_outage{$ns})", "processes")],
            "IndexerNothingSucceeds",
        ),
        Panel(
            "Foreign usage of the bot token",
            "Calls with the bot token that this fleet did not make; should be 0.",
            "suffix: permits/s",
            [Query(rate("indexer_ratelimit_foreign_use_total"), "permits")],
            "IndexerTokenUsedElsewhere",
        ),
    ],
)
ITSELF = Row(
    "The limiter itself",
    [
        Panel(
            "Script calls for each permit",
            "About one, and one more for each wait; far more means that callers retry too early.",
            "short",
            [Query(f"{rate('indexer_ratelimit_script_seconds_count')} / {TAKEN}", "calls")],
        ),
        Panel(
            "Script time",
            "One or two milliseconds; above a second the budgets count as unreachable and calls stop.",
            "s",
            quantiles("indexer_ratelimit_script_seconds", shares=(0.5, 0.99)),
        ),
        Panel(
            "Budgets unreachable",
            "Without a permit no call is made: while this is above 0, indexing stops.",
            "suffix: failures/s",
            [Query(rate("indexer_ratelimit_unavailable_total"), "failed")],
            "IndexerRedisErrors",
        ),
    ],
)
DASHBOARD = Dashboard(
    "indexer-headroom",
    "Discord indexer / Rate-limit headroom",
    "The fleet's distance to each of Discord's limits, waits for permits, and the responses of Discord.",
    [NOW, GLOBAL, WAITS, DISCORD, ITSELF],
)
