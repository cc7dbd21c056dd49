"""Counters are read from Prometheus' text format."""

import pytest

from devstack import counts

PAGE = """\
# HELP indexer_ratelimit_share_left_ratio Share of a budget that was free right after a permit was taken (0..1).
# TYPE indexer_ratelimit_share_left_ratio histogram
indexer_ratelimit_share_left_ratio_bucket{budget="global",le="0.0"} 0.0
indexer_ratelimit_share_left_ratio_bucket{budget="global",le="0.5"} 0.0
indexer_ratelimit_share_left_ratio_bucket{budget="global",le="0.9"} 3.0
indexer_ratelimit_share_left_ratio_bucket{budget="global",le="+Inf"} 7.0
indexer_ratelimit_share_left_ratio_bucket{budget="user",le="0.0"} 2.0
indexer_ratelimit_share_left_ratio_bucket{budget="user",le="0.5"} 2.0
indexer_ratelimit_share_left_ratio_bucket{budget="idle",le="0.0"} 0.0
indexer_discord_calls_total{route="GET /guilds/{guild.id}/channels",status="200"} 5.0
indexer_discord_calls_total{route="GET /guilds/{guild.id}/channels",status="429"} 1.0
process_cpu_seconds_total 1.5
"""
LOWER = 'indexer_ratelimit_share_left_ratio_bucket{budget="global",le="0.5"} 1.0\n'


@pytest.mark.parametrize(
    ("pages", "least"),
    [
        pytest.param([PAGE], {"global": 0.5, "user": 0.0}, id="one process"),
        pytest.param([PAGE, LOWER], {"global": 0.0, "user": 0.0}, id="another process went lower"),
        pytest.param([""], {}, id="nothing taken"),
    ],
)
def test_lowest_shares_returns_the_lower_bound_of_the_lowest_used_bucket(
    pages: list[str], least: dict[str, float]
) -> None:
    """Headroom is never overstated, and an unused budget is left out."""
    found = [sample for page in pages for sample in counts.parse_samples(page)]

    assert counts.lowest_shares(found) == least


def test_labels_may_contain_braces_when_a_page_is_parsed() -> None:
    """Braces in a route template do not end the labels."""
    calls = [sample for sample in counts.parse_samples(PAGE) if sample.name == counts.CALLS]

    assert [(sample.labels["route"], sample.labels["status"], sample.value) for sample in calls] == [
        ("GET /guilds/{guild.id}/channels", "200", 5.0),
        ("GET /guilds/{guild.id}/channels", "429", 1.0),
    ]
