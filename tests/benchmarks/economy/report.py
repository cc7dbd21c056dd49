"""The report of the simulations: JSON, a page with tables, and a chart."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Sequence

import matplotlib as mpl

from tests.benchmarks.economy import audits, rush, week, world

mpl.use("Agg")
from matplotlib import pyplot

CALLS, ROLES, STALE, FIRST, FIVE, DRAIN = 13.0, 5.0, 0.06, 15.0, 3.0, 0.03
"""The promises: calls per user and day, stale share, seconds, and share above the minimum."""
FED = {"channels": (7.7, 0.005), "channels and roles": (3.2, 0.001)}
"""The promises with the feed: calls for lists, channels, roles and audits per user and day, and stale share."""

INTRODUCTION = """\
`make bench-economy` simulates with stores, Discord and clock in memory. The week runs the real rules, guild lists,
fetches and refresh schedule, without the limiter, which would not change a count. The rush runs the real start, turns
and limiter.
`tests/benchmarks/economy/world.py` describes the simulated users; its figures are guesses of ordinary use."""
WEEK = """\
Calls are per user and day, including the cold start of the first day.
Stale: what was served differed from the truth at that moment, in the guild's structure or in the user's roles.
Naive: fetch every guild of every user at every visit."""
FED_WEEK = """\
The same with the feed from the Gateway ([gateway.md](../gateway.md)), as if every event arrived at once and no session
was lost. Roles are read by REST, or over the Gateway, which is no call.
Audits are calls as well, for all guilds with the bot, also those of no user. The bot's guild list is among *lists*;
the feed is compared with the same one.

A session that loses all events is found {silent[0]:.1f} hours after the loss (median), {silent[1]:.1f} hours (p95).
One that loses most of them, but never all for an hour, is found after {partial[0]:.1f} and {partial[1]:.1f} hours.
These are of 100 losses at one shard of 1,000 guilds."""
RUSH = """\
Seconds of simulated time; every answer takes 0.1 s.
With *known* lists only guilds are fetched.
With *charged* lists, as in the product, each user's own list takes a permit of the token's 50 a second and of the
user's 5 in 5 s: two calls precede a first guild and six the first five, so no order of calls could keep the promises
for first guilds.
*The least* is what the first guilds, or all calls, take at exactly the rate of the limits.
The user in the middle starts when half of the calls are made."""


@dataclasses.dataclass(frozen=True, slots=True)
class Promise:
    """One promise and its result."""

    what: str
    limit: str
    found: str
    kept: bool


def promises(largest: week.Week, known: rush.Rush, fed_weeks: Iterable[week.Week]) -> list[Promise]:
    """Return all promises with the results of the largest week, of the weeks with the feed, and of the rush."""
    calls = largest.lists + largest.channels
    return [
        Promise("calls for lists and channels, per user and day", f"{CALLS:g}", f"{calls:.2f}", calls <= CALLS),
        Promise("calls for role ids, per user and day", f"{ROLES:g}", f"{largest.roles:.2f}", largest.roles <= ROLES),
        Promise("stale reads", f"{STALE:.0%}", f"{largest.stale:.2%}", largest.stale <= STALE),
        Promise("calls answered 403", "0", f"{largest.refused}", largest.refused == 0),
        Promise(
            "first guild, 95th percentile, lists known",
            f"{FIRST:g} s",
            f"{known.first_p95:.2f} s",
            known.first_p95 <= FIRST,
        ),
        Promise(
            "first five in the middle, list known",
            f"{FIVE:g} s",
            f"{known.middle_five:.2f} s",
            known.middle_five <= FIVE,
        ),
        Promise(
            "drain over the least, lists known",
            f"{DRAIN:.0%}",
            f"{known.drain_over_least:.2%}",
            known.drain_over_least <= DRAIN,
        ),
        *(promise for each in fed_weeks for promise in _fed_promises(each)),
    ]


def _fed_promises(fed: week.Week) -> list[Promise]:
    (most, stale), calls = FED[fed.feed], fed.lists + fed.channels + fed.roles + fed.audits
    return [
        Promise(f"calls per user and day, {fed.feed} fed", f"{most:g}", f"{calls:.2f}", calls <= most),
        Promise(f"stale reads, {fed.feed} fed", f"{stale:.1%}", f"{fed.stale:.2%}", fed.stale <= stale),
        Promise(f"calls answered 403, {fed.feed} fed", "0", f"{fed.refused}", fed.refused == 0),
    ]


def write(
    folder: pathlib.Path,
    weeks: Sequence[week.Week],
    fed_weeks: Sequence[week.Week],
    rushes: Sequence[rush.Rush],
    audited: audits.Found,
) -> list[Promise]:
    """Write all files into *folder*; returns the promises."""
    folder.mkdir(parents=True, exist_ok=True)
    found = promises(weeks[-1], next(one for one in rushes if one.lists_are_known), fed_weeks)
    data = {
        "promises": [dataclasses.asdict(each) for each in found],
        "world": dataclasses.asdict(world.WorldSpec(users=weeks[-1].users)),
        "weeks": [dataclasses.asdict(each) for each in weeks],
        "fed_weeks": [dataclasses.asdict(each) for each in fed_weeks],
        "audits": dataclasses.asdict(audited),
        "rushes": [dataclasses.asdict(each) for each in rushes],
    }
    (folder / "economy.json").write_text(json.dumps(data, indent=2) + "\n")
    (folder / "economy.md").write_text(page(found, weeks, fed_weeks, rushes, audited))
    plot(folder / "economy.png", weeks)
    return found


def page(
    found: Iterable[Promise],
    weeks: Sequence[week.Week],
    fed_weeks: Sequence[week.Week],
    rushes: Sequence[rush.Rush],
    audited: audits.Found,
) -> str:
    """Return the page."""
    lines = [
        "# Calls to Discord",
        "",
        INTRODUCTION,
        "",
        *_table(
            ("promise", "at most", "found", "kept"),
            [(p.what, p.limit, p.found, "yes" if p.kept else "NO") for p in found],
        ),
        "",
        "## A week",
        "",
        WEEK,
        "",
        *_week_table(weeks),
        "",
        "![Calls per user and day](economy.png)",
        "",
        "## A week with the feed",
        "",
        FED_WEEK.format(silent=audited.silent, partial=audited.partial),
        "",
        *_fed_table(fed_weeks),
        "",
        "## 500 users at once",
        "",
        RUSH,
        "",
        *_rush_table(rushes),
        "",
    ]
    return "\n".join(lines)


def _week_table(weeks: Sequence[week.Week]) -> list[str]:
    return _table(
        (
            "users",
            "guilds with the bot",
            "lists",
            "channels",
            "both",
            "roles",
            "stale",
            "403",
            "naive",
            "naive 403",
        ),
        [
            (
                f"{w.users:,}",
                f"{w.distinct:,}",
                f"{w.lists:.2f}",
                f"{w.channels:.2f}",
                f"{w.lists + w.channels:.2f}",
                f"{w.roles:.2f}",
                f"{w.stale:.2%}",
                f"{w.refused}",
                f"{w.naive:.1f}",
                f"{w.naive_refused:.1f}",
            )
            for w in weeks
        ],
    )


def _fed_table(weeks: Sequence[week.Week]) -> list[str]:
    return _table(
        (
            "users",
            "fed",
            "lists",
            "channels",
            "roles",
            "audits",
            "all",
            "role requests over the Gateway",
            "stale",
            "403",
        ),
        [
            (
                f"{w.users:,}",
                w.feed,
                f"{w.lists:.2f}",
                f"{w.channels:.2f}",
                f"{w.roles:.2f}",
                f"{w.audits:.2f}",
                f"{w.lists + w.channels + w.roles + w.audits:.2f}",
                f"{w.over_gateway:.1f}",
                f"{w.stale:.2%}",
                f"{w.refused}",
            )
            for w in weeks
        ],
    )


def _rush_table(rushes: Sequence[rush.Rush]) -> list[str]:
    return _table(
        ("lists", "users", "calls", "first, median", "p95", "the least p95", "five, middle", "drain", "the least"),
        [
            (
                "known" if r.lists_are_known else "charged",
                f"{r.users}",
                f"{r.calls:,}",
                f"{r.first_p50:.1f}",
                f"{r.first_p95:.1f}",
                f"{r.first_least:.1f}",
                f"{r.middle_five:.2f}",
                f"{r.drain:.1f}",
                f"{r.least:.1f} (+{r.drain_over_least:.1%})",
            )
            for r in rushes
        ],
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(each)} |" for each in (head, ["---"] * len(head), *rows)]


def plot(path: pathlib.Path, weeks: Sequence[week.Week]) -> None:
    """Draw calls per user and day against the number of users."""
    users = [each.users for each in weeks]
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    axes.plot(users, [w.naive for w in weeks], "o--", color="tab:gray", label="naive: every guild at every visit")
    axes.plot(users, [w.lists + w.channels for w in weeks], "o-", color="tab:blue", label="guild lists and channels")
    axes.plot(users, [w.roles for w in weeks], "o-", color="tab:orange", label="role ids")
    axes.axhline(CALLS, color="tab:blue", linewidth=0.8, linestyle=":", label=f"promise: {CALLS:g} with 4,000 users")
    axes.set(xscale="log", yscale="log", xlabel="users", ylabel="calls per user and day")
    axes.set_xticks(users, [f"{each:,}" for each in users])
    axes.set_yticks([3, 5, 10, 20, 50, 100, 150], ["3", "5", "10", "20", "50", "100", "150"])
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110, metadata={"Software": ""})
    pyplot.close(figure)
