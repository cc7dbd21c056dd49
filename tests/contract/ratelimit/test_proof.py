"""The real script in a real Redis: no model rejects a call, although clocks are set and state is lost meanwhile."""

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import prometheus_client
import redis
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from devstack.simulator import models
from indexing import settings
from indexing.ratelimit import (
    codec,
    limiter,
    limits,
    protocol,
    redis_store,
    route_limits,
)
from indexing.telemetry import metrics
from tests.contract.ratelimit import blocking, fleet
from tests.unit.ratelimit import network
from tests.unit.ratelimit.server import Server, Sizes

SIZES = Sizes(models.Limit(10, 1.0), models.Limit(3, 2.0), models.Limit(4, 1.0))
SLOW = 0.02
"""Share of ways between a process and Redis that take up to 1.6 s; after 1 s the limiter gives up."""
GRANTED = 1
"""First value of a reply that grants a permit."""
STEPS = (-3600.0, -5.0, -1.0, -0.2, 0.5, 1.0, 5.0, 3600.0)


@dataclasses.dataclass(slots=True)
class Wall:
    """The clock of Redis' machine, which the test sets."""

    loop: asyncio.AbstractEventLoop
    off: float = 3_500_000_000.0

    def __call__(self) -> float:
        """Return epoch seconds."""
        return self.loop.time() + self.off


class SlowClient(blocking.BlockingClient):
    """
    A client whose commands take time on both ways, and run even after their caller gave up.

    Attributes:
        wasted: Exchanges that granted a permit after their caller gave up.
    """

    def __init__(self, client: redis.Redis, wall: Wall, dice: random.Random) -> None:
        super().__init__(client)
        self._redis = client
        self._wall = wall
        self._dice = dice
        self.wasted = 0

    def register_script(self, source: str) -> Callable[[list[str], list[bytes]], Awaitable[Any]]:
        """Return the script."""
        script = self._redis.register_script(source)

        async def run(keys: list[str], args: list[bytes]) -> Any:  # noqa: ANN401 -- a script may reply anything
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[Any] = loop.create_future()

            def read(reply: Any) -> None:  # noqa: ANN401 -- see above
                if not answer.done():
                    answer.set_result(reply)
                elif any(decision[0] == GRANTED for decision in reply[-1]):
                    self.wasted += 1

            def execute() -> None:
                # Redis reads its clock when it runs the command.
                script_input = msgspec.json.decode(args[0]) | {"now": int(self._wall() * 1000)}
                reply = script(keys, [msgspec.json.encode(script_input)])
                loop.call_later(self._way(), read, reply)

            loop.call_later(self._way(), execute)
            return await answer

        return run

    def _way(self) -> float:
        return self._dice.expovariate(1 / 0.002) + (self._dice.random() * 1.6 if self._dice.random() < SLOW else 0.0)


def process(client: SlowClient, wall: Wall, offset: float) -> limiter.Limiter:
    """Start a process on a host whose monotonic clock has an offset."""

    def now() -> float:
        return wall.loop.time() + offset

    store = redis_store.RedisBudgetStore(blocking.as_async(client), "test", clock=now, now=wall)
    config = settings.LimiterSettings.model_validate(
        {
            "global_budget": f"{SIZES.token.capacity}/{SIZES.token.window}",
            "user_budget": f"{SIZES.user.capacity}/{SIZES.user.window}",
        }
    )
    limiter_metrics = metrics.LimiterMetrics(prometheus_client.CollectorRegistry())
    return limiter.Limiter(
        store, config, limiter_metrics, call_timeout=network.TIMEOUT, clock=limiter.Clock(now, asyncio.sleep)
    )


@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(st.sampled_from(STEPS), max_size=3),
    losses=st.integers(0, 1),
)
@example(seed=6341, steps=[-3600.0, -1.0], losses=0)
@example(seed=1030299, steps=[0.5], losses=0)
@example(seed=977285134, steps=[-3600.0, 0.5], losses=0)
@example(seed=32626, steps=[-3600.0, 0.5, 3600.0], losses=0)
@example(seed=891, steps=[], losses=1)
@example(seed=284570, steps=[3600.0, -3600.0], losses=1)
@hypothesis_settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_model_rejects_a_call_when_clocks_are_set_and_state_is_lost(
    blocking_redis: redis.Redis,
    seed: int,
    steps: list[float],
    losses: int,
) -> None:
    """Host clocks differ, Redis is slow at times, its clock steps, and it may lose its state."""
    blocking_redis.flushdb()
    dice = random.Random(seed)
    conditions = network.Conditions(
        seed, least=0.02 + dice.random() / 20, lost=0.01, crashes=0.01, users=6, guilds=4, callers=15, seconds=30.0
    )

    async def work() -> tuple[Server, int]:
        wall = Wall(asyncio.get_running_loop())
        server = Server(SIZES, dice.random(), headers="first")
        links = [SlowClient(blocking_redis, wall, dice) for _ in range(3)]
        clients = [process(link, wall, 1000.0 * number) for number, link in enumerate(links)]
        for client in clients:
            await client.warm_up()

        async def step(by: float) -> None:
            wall.off += by

        async def lose() -> None:
            blocking_redis.flushdb()

        events = [lambda by=by: step(by) for by in steps]
        await network.Fleet(conditions, server, [*clients]).run(*events, *[lose] * losses)
        for client in clients:
            await client.close()
        return server, sum(link.wasted for link in links)

    server, wasted = network.on_jumping_clock(work)

    assert not server.rejections
    # Each of these costs a hold of six seconds, or one of ten for the first call of a route.
    assert server.arrivals > 0 or len(steps) + losses + wasted > 2


@given(
    st.builds(
        limits.Charge,
        st.sampled_from(limits.LANES),
        st.sampled_from((fleet.CHANNELS, fleet.GUILDS)),
        st.sampled_from(("bot", "user:1")),
        st.none() | st.integers(1, 2**63),
        st.none() | st.integers(1, 2**63),
        st.text(max_size=20),
    ),
    st.sampled_from(("", "b1 5 1000 0", "b1 5 1000 1", "- 0 0 0")),
)
def test_all_keys_have_one_hash_tag_whatever_is_requested(charge: limits.Charge, known: str) -> None:
    """One script may access them in a cluster: the text between the first braces is the same."""
    limit = route_limits.RouteLimit.parse_stored(known)
    permit = limits.Permit("1", charge, 0.0, limit=limit)
    outcome = protocol.Outcome(0.1, headers=route_limits.BucketHeaders("b2", 5, 4, 1.0))
    request = protocol.PermitRequest("1", charge, 1.0, limit, 0.0)

    keys = codec.script_keys(limits.Keys("app"), "default", [protocol.Settlement(permit, outcome, 0.0)], [request])

    assert {key.partition("{")[2].partition("}")[0] for key in keys} == {"dl:app"}
