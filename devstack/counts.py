"""The cost of a run: calls to Discord and rate-limit headroom, read from counters."""

import collections
import dataclasses
import json
from collections.abc import Iterable, Mapping

from prometheus_client import parser, samples

from devstack import probes

PREFIX = "indexer_"
SHARE_LEFT = PREFIX + "ratelimit_share_left_ratio_bucket"
CALLS = PREFIX + "discord_calls_total"


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """
    The cost of a run.

    Attributes:
        by_route: Calls to Discord.
        duplicates: Channel fetches beyond the first of each guild; None without a simulator.
        headroom: Smallest share of a budget that was left after a permit was taken, by kind of budget, as the lower
            bound of the histogram's bucket.
    """

    by_route: Mapping[str, int]
    http_429: int
    duplicates: int | None
    headroom: Mapping[str, float]


def collect(simulator_url: str, metrics_urls: Iterable[str]) -> Counts:
    """
    Read all counters: calls from the simulator, or from the processes' metrics when *simulator_url* is empty.

    Raises:
        OSError: A process does not answer.
    """
    found = [sample for url in metrics_urls for sample in parse_samples(read_page(url))]
    headroom = lowest_shares(found)
    if not simulator_url:
        by_route = _sum_calls(found, "route")
        return Counts(by_route, _sum_calls(found, "status").get("429", 0), None, headroom)
    stats = json.loads(read_page(f"{simulator_url}/_sim/stats"))
    return Counts(stats["by_route"], stats["http_429"], stats["duplicate_guild_fetches"], headroom)


def parse_samples(page: str) -> list[samples.Sample]:
    """Return all samples of a page in Prometheus' text format."""
    return [sample for family in parser.text_string_to_metric_families(page) for sample in family.samples]


def lowest_shares(found: Iterable[samples.Sample]) -> dict[str, float]:
    """Return, by budget, the lower bound of the lowest bucket that any process observed a value in."""
    buckets: dict[str, collections.Counter[float]] = collections.defaultdict(collections.Counter)
    for sample in found:
        if sample.name == SHARE_LEFT:
            buckets[sample.labels["budget"]][float(sample.labels["le"])] += int(sample.value)
    lowest = {}
    for budget, cumulative in buckets.items():
        lower_bound = 0.0
        for upper_bound in sorted(cumulative):
            if cumulative[upper_bound]:
                lowest[budget] = lower_bound
                break
            lower_bound = upper_bound
    return lowest


def _sum_calls(found: Iterable[samples.Sample], label: str) -> dict[str, int]:
    sums: collections.Counter[str] = collections.Counter()
    for sample in found:
        if sample.name == CALLS:
            sums[sample.labels[label]] += int(sample.value)
    return dict(sorted(sums.items()))


def read_page(url: str) -> str:
    """Return a page. Raises OSError."""
    status, body = probes.read_page(url)
    if status != 200:  # noqa: PLR2004 -- OK
        raise OSError(f"{url} answered {status}")
    return body.decode()
