"""What a run cost: calls to Discord as the simulator counted them, or as our own processes did with the real one."""

import collections
import dataclasses
import json
import re
from collections.abc import Iterable, Mapping

from devstack import probes

PREFIX = "indexer_"
SHARE_LEFT = PREFIX + "ratelimit_share_left_ratio_bucket"
CALLS = PREFIX + "discord_calls_total"
SAMPLE = re.compile(r"^(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """
    The cost of a run.

    Attributes:
        by_route: Calls to Discord.
        duplicates: Channel fetches beyond the first of a guild; None when nobody counts that.
        headroom: Least share of a budget that was ever left after a permit was taken, by kind of budget, as the lower
            bound of the histogram's bucket.
    """

    by_route: Mapping[str, int]
    http_429: int
    duplicates: int | None
    headroom: Mapping[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One line of a page of metrics."""

    name: str
    labels: Mapping[str, str]
    value: float


def collect(simulator_url: str, metrics_urls: Iterable[str]) -> Counts:
    """Read all counters. Raises OSError when a process does not answer."""
    found = [sample for url in metrics_urls for sample in samples(_read(url))]
    headroom = lowest_shares(found)
    if not simulator_url:
        by_route = _sum(found, "route")
        return Counts(by_route, _sum(found, "status").get("429", 0), None, headroom)
    stats = json.loads(_read(f"{simulator_url}/_sim/stats"))
    return Counts(stats["by_route"], stats["http_429"], stats["duplicate_guild_fetches"], headroom)


def samples(page: str) -> list[Sample]:
    """Read a page in Prometheus' text format; samples without labels are left out."""
    return [
        Sample(match["name"], dict(LABEL.findall(match["labels"])), float(match["value"]))
        for match in SAMPLE.finditer(page)
    ]


def lowest_shares(found: Iterable[Sample]) -> dict[str, float]:
    """Return, for each budget, the lower bound of the lowest bucket that anything fell into, over all processes."""
    buckets: dict[str, collections.Counter[float]] = collections.defaultdict(collections.Counter)
    for sample in found:
        if sample.name == SHARE_LEFT:
            buckets[sample.labels["budget"]][float(sample.labels["le"])] += int(sample.value)
    lowest = {}
    for budget, upto in buckets.items():
        below = 0.0
        for bound in sorted(upto):
            if upto[bound]:
                lowest[budget] = below
                break
            below = bound
    return lowest


def _sum(found: Iterable[Sample], label: str) -> dict[str, int]:
    sums: collections.Counter[str] = collections.Counter()
    for sample in found:
        if sample.name == CALLS:
            sums[sample.labels[label]] += int(sample.value)
    return dict(sorted(sums.items()))


def _read(url: str) -> str:
    status, body = probes.read_page(url)
    if status != 200:  # noqa: PLR2004 -- OK
        raise OSError(f"{url} answered {status}")
    return body.decode()
