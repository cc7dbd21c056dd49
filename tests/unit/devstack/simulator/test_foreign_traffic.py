"""Traffic of another client with the bot's token."""

import msgspec
import pytest

from devstack.simulator import foreign_traffic
from tests.unit.devstack.simulator import bench


def test_fewer_calls_are_admitted_when_others_use_the_token() -> None:
    """Generated requests are charged to the global limit at their due times."""
    sim = bench.Bench("--route-limit", "GET /users/@me=1000/1")
    sim.state.foreign.add(foreign_traffic.TrafficSpec(rate=20, seconds=10), sim.clock.now)
    sim.clock.now += 0.99

    statuses = [sim.call("/users/@me").status for _ in range(50)]

    assert statuses.count(200) == 30
    assert sim.state.foreign.admitted == 20
    assert sim.state.stats.calls == 50


def test_fewer_remain_when_others_use_the_same_route(sim: bench.Bench) -> None:
    """With a route, the headers of that bucket show fewer remaining requests."""
    guild = str(sim.guild(bot=True))
    order = foreign_traffic.TrafficSpec(rate=4, seconds=1, route="GET /guilds/{guild.id}/channels", guild=guild)
    sim.state.foreign.add(order, sim.clock.now)
    sim.clock.now += 1

    reply = sim.call(f"/guilds/{guild}/channels")

    assert reply.headers["X-RateLimit-Remaining"] == "5"


def test_the_traffic_ends_when_its_time_is_over(sim: bench.Bench) -> None:
    """The number of generated requests is at most rate times seconds."""
    sim.state.foreign.add(foreign_traffic.TrafficSpec(rate=10, seconds=2), sim.clock.now)
    sim.clock.now += 30

    sim.call("/users/@me")
    sim.clock.now += 30
    sim.call("/users/@me")

    assert sim.state.foreign.admitted == 20


@pytest.mark.parametrize("order", [b'{"rate": 0, "seconds": 1}', b'{"rate": 1, "seconds": 1, "route": "x"}', b"[]"])
def test_foreign_traffic_is_rejected_when_it_is_invalid(order: bytes) -> None:
    """Rates, durations and routes are validated."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(order, type=foreign_traffic.TrafficSpec)
