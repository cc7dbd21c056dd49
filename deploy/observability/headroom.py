"""The dashboard that operators look at first: how far we are from each of Discord's limits."""

from deploy.observability.panels import Board, Panel, Query, Row, quantile, quantiles, rate

TAKEN = rate("indexer_ratelimit_permits_taken_total")
PERMITTED = "sum(indexer:global_permitted:rate{$ns})"
NOW = Row(
    "How much is left",
    [
        Panel(
            "Global headroom",
            "Share of the bot's calls a second that was not used over the last minute; amber below 25 %.",
            "percentunit",
            [Query("min(indexer:global_headroom:ratio1m{$ns})")],
            "IndexerHeadroomExhausted",
            limits=(0.25, 0.1),
            single=True,
            span=4,
        ),
        Panel(
            "User headroom, 10th percentile",
            "Nine of ten users with an active job have more than this left of their own budget; "
            "low is normal while jobs run, for long it means that they are slow.",
            "percentunit",
            [Query('min(indexer:budget_user_free_ratio:max{$ns,statistic="p10"})')],
            single=True,
            span=4,
        ),
        Panel(
            "User headroom, least",
            "What the busiest user has left; 0 only means that he waits for his own budget.",
            "percentunit",
            [Query('min(indexer:budget_user_free_ratio:max{$ns,statistic="min"})')],
            single=True,
            span=4,
        ),
        Panel(
            "Ban line used",
            "Invalid answers of the last 10 minutes against the 10,000 after which Discord bans the address; "
            "background stops at 5 %, everything at 10 %.",
            "percentunit",
            [Query("max(indexer:invalid_requests:used_ratio{$ns})")],
            "IndexerBanLineNear",
            limits=(0.05, 0.1),
            single=True,
            span=4,
        ),
        Panel(
            "Unforeseen 429s, 24 h",
            "429 answers of scope user or global: each is a bug of ours; must be 0.",
            "short",
            [Query('sum(increase(indexer_discord_rate_limited_total{$ns,scope=~"user|global"}[24h]))')],
            "IndexerUnforeseenRateLimit",
            limits=(0.5, 1),
            single=True,
            span=4,
        ),
        Panel(
            "Paused for",
            "Time for which nothing is granted at all: after a global 429, lost state, or a stop at the ban line.",
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
            "The lanes stacked stay below the line; filling up to it is wanted, pressing against it for long is not.",
            "reqps",
            [Query(rate("indexer_ratelimit_permits_taken_total", "lane"), "{{lane}}"), Query(PERMITTED, "permitted")],
            "IndexerHeadroomExhausted",
            span=12,
        ),
        Panel(
            "Headroom",
            "1 less permits taken by permitted, exact over the window; below 10 % for a quarter of an hour alerts.",
            "percentunit",
            [Query(f"clamp_min(1 - {TAKEN} / {PERMITTED}, 0)", "headroom")],
            "IndexerHeadroomExhausted",
            limits=(0.25, 0.1),
            most=1,
            span=12,
        ),
        Panel(
            "User headroom",
            "Of users with an active job; at 0 while jobs run is normal, for long it means that they are slow.",
            "percentunit",
            [
                Query('min(indexer:budget_user_free_ratio:max{$ns,statistic="p10"})', "10th percentile"),
                Query('min(indexer:budget_user_free_ratio:max{$ns,statistic="min"})', "least"),
            ],
            most=1,
            span=6,
        ),
        Panel(
            "Left right after a permit was taken",
            "What happens between scrapes: lowest twentieth and median of the share left, for each kind of budget.",
            "percentunit",
            quantiles("indexer_ratelimit_share_left_ratio", "budget", (0.05, 0.5)),
            most=1,
            span=6,
        ),
        Panel(
            "Permits free now",
            "A sample of a budget that turns over in a second: for a look, not for alarms.",
            "short",
            [
                Query('max(indexer:budget_free_permits:max{$ns,budget="global"})', "free"),
                Query('max(indexer:budget_capacity_permits:max{$ns,budget="global"})', "capacity"),
            ],
            span=6,
        ),
        Panel(
            "Route budgets in use",
            "Exhausted ones make their calls wait; many of them for long mean that Discord's limits shrank.",
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
            "Interactive calls wait milliseconds even when background presses against the limit.",
            "s",
            quantiles("indexer_ratelimit_wait_seconds", "lane", (0.5, 0.95, 0.99)),
        ),
        Panel(
            "Who was sent away, and why",
            "The wait was longer than the caller's patience, so his turn comes back later; used up is everyday, "
            "pause, hold, edge and breaker are not.",
            "reqps",
            [Query(rate("indexer_ratelimit_refusals_total", "budget, why"), "{{budget}}: {{why}}")],
            stacked=True,
        ),
        Panel(
            "Callers asleep for a permit",
            "Time slept in each second, so callers asleep on average, by whose budget is short.",
            "short",
            [Query(rate("indexer_ratelimit_waited_seconds_total", "lane, budget"), "{{lane}}: {{budget}}")],
            stacked=True,
        ),
    ],
)
DISCORD = Row(
    "What Discord says",
    [
        Panel(
            "Calls by status",
            "Nearly all 200; 403s count towards the ban line, 5xx and lost ones are tried again.",
            "reqps",
            [Query(rate("indexer_discord_calls_total", "status"), "{{status}}")],
            stacked=True,
        ),
        Panel(
            "429s by scope",
            "shared ones are others' doing; user and global ones are bugs of ours; egress is the edge that blocks us.",
            "reqps",
            [Query(rate("indexer_discord_rate_limited_total", "scope"), "{{scope}}")],
            "IndexerUnforeseenRateLimit",
        ),
        Panel(
            "Pauses",
            "For how long nothing is granted, and why; hold follows a loss of Redis.",
            "s",
            [Query("max by (budget, why) (indexer:budget_paused_seconds:max{$ns})", "{{budget}}: {{why}}")],
            "IndexerUnforeseenRateLimit",
        ),
        Panel(
            "Pauses that 429s asked for, p95",
            "How long Discord sends us away; minutes mean that it no longer trusts the token.",
            "s",
            [Query(quantile(0.95, "indexer_ratelimit_pause_seconds", "scope"), "{{scope}}")],
            "IndexerUnforeseenRateLimit",
        ),
        Panel(
            "Ban line used",
            "401, 403 and 429 answers of 10 minutes, as a share of 10,000; far below the lines at which we stop.",
            "percentunit",
            [Query("max(indexer:invalid_requests:used_ratio{$ns})", "used")],
            "IndexerBanLineNear",
            limits=(0.05, 0.1),
        ),
        Panel(
            "Round trip by route, p95",
            "Discord's own pace; a rise lengthens every job and holds permits for longer.",
            "s",
            [Query(quantile(0.95, "indexer_discord_call_seconds", "route"), "{{route}}")],
        ),
        Panel(
            "Strangers on our token",
            "Permits that somebody else uses with the bot's token; should be 0.",
            "reqps",
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
            "About one, and one more for what waits; far more means that callers come back too early.",
            "short",
            [Query(f"{rate('indexer_ratelimit_script_seconds_count')} / {TAKEN}", "calls")],
        ),
        Panel(
            "Script time",
            "A millisecond or two; from 250 ms on the budgets count as away and calls stop.",
            "s",
            quantiles("indexer_ratelimit_script_seconds", shares=(0.5, 0.99)),
        ),
        Panel(
            "Budgets unreachable",
            "No permit, no call: while this is above 0 nothing is indexed.",
            "reqps",
            [Query(rate("indexer_ratelimit_unavailable_total"), "failed")],
            "IndexerRedisErrors",
        ),
    ],
)
BOARD = Board(
    "indexer-headroom",
    "Discord indexer / Rate-limit headroom",
    "How far the fleet is from each of Discord's limits, what waits for permits, and what Discord says.",
    [NOW, GLOBAL, WAITS, DISCORD, ITSELF],
)
