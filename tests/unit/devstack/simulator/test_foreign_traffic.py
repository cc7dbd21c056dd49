"""Traffic of somebody else on our token."""

import msgspec
import pytest

from devstack.simulator import foreign_traffic
from tests.unit.devstack.simulator import bench


def test_our_share_shrinks_when_others_use_the_token() -> None:
    """Invented requests take their part of the global limit at the moments when they were due."""
    sim = bench.Bench("--route-limit", "GET /users/@me=1000/1")
    sim.state.foreign.add(foreign_traffic.TrafficSpec(rate=20, seconds=10), sim.clock.now)
    sim.clock.now += 0.99

    statuses = [sim.call("/users/@me").status for _ in range(50)]

    assert statuses.count(200) == 30
    assert sim.state.foreign.admitted == 20
    assert sim.state.stats.calls == 50


def test_fewer_remain_when_others_use_the_same_route(sim: bench.Bench) -> None:
    """With a route the headers of that bucket show fewer requests left than we made ourselves."""
    guild = str(sim.guild(bot=True))
    order = foreign_traffic.TrafficSpec(rate=4, seconds=1, route="GET /guilds/{guild.id}/channels", guild=guild)
    sim.state.foreign.add(order, sim.clock.now)
    sim.clock.now += 1

    reply = sim.call(f"/guilds/{guild}/channels")

    assert reply.headers["X-RateLimit-Remaining"] == "5"


def test_the_traffic_ends_when_its_time_is_over(sim: bench.Bench) -> None:
    """No more requests are invented than rate times seconds."""
    sim.state.foreign.add(foreign_traffic.TrafficSpec(rate=10, seconds=2), sim.clock.now)
    sim.clock.now += 30

    sim.call("/users/@me")
    sim.clock.now += 30
    sim.call("/users/@me")

    assert sim.state.foreign.admitted == 20


@pytest.mark.parametrize("order", [b'{"rate": 0, "seconds": 1}', b'{"rate": 1, "seconds": 1, "route": "x"}', b"[]"])
def test_the_order_is_refused_when_it_makes_no_sense(order: bytes) -> None:
    """Rates, durations and routes are checked."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(order, type=foreign_traffic.TrafficSpec)
