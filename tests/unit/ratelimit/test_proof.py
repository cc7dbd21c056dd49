"""Whatever way the server counts and whatever the network does, no budget ever sees more calls than it allows."""

import asyncio
from collections.abc import Callable

import prometheus_client
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from devstack.simulator import models
from indexing import settings
from indexing.ratelimit import limiter
from indexing.telemetry import metrics
from tests.ratelimit_model import store as ratelimit_model_store
from tests.unit.ratelimit import naive, network
from tests.unit.ratelimit.server import Server, Sizes

SEEDS = st.integers(min_value=0, max_value=2**32)
PROFILE = hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def limits(capacity: tuple[int, int], windows: tuple[float, ...]) -> st.SearchStrategy[models.Limit]:
    """Return limits whose capacity lies in a range."""
    return st.builds(models.Limit, st.integers(*capacity), st.sampled_from(windows))


SIZES = st.builds(Sizes, limits((2, 50), (0.5, 1.0)), limits((1, 6), (1.0, 5.0)), limits((1, 8), (1.0, 4.0)))
CONDITIONS = st.builds(
    network.Conditions,
    seed=SEEDS,
    least=st.floats(0.001, 0.15),
    jitter=st.floats(0.05, 1.5),
    stalls=st.sampled_from((0.0, 0.02)),
    lost=st.sampled_from((0.0, 0.02)),
    crashes=st.sampled_from((0.0, 0.02)),
    quicker=st.floats(0.85, 1.0),
    late=st.sampled_from((0.0, 0.05, 2.5)),
    users=st.integers(1, 20),
    guilds=st.integers(1, 10),
    callers=st.integers(2, 40),
)


def config(sizes: Sizes, *, server_time: bool) -> settings.LimiterSettings:
    """Return settings for these budgets, which begin without a hold."""
    return settings.LimiterSettings.model_validate(
        {
            "global_budget": f"{sizes.token.capacity}/{sizes.token.window}",
            "user_budget": f"{sizes.user.capacity}/{sizes.user.window}",
            "limiter_server_time": server_time,
            "limiter_hold": 0.0,
        }
    )


def process(store: ratelimit_model_store.MemoryBudgets, of: settings.LimiterSettings) -> limiter.Limiter:
    """Start a process over the shared store."""
    clock = limiter.Clock(asyncio.get_running_loop().time, asyncio.sleep)
    seen = metrics.LimiterMetrics(prometheus_client.CollectorRegistry())
    return limiter.Limiter(store, of, seen, call_timeout=network.TIMEOUT, clock=clock)


@given(CONDITIONS, SIZES, st.floats(0.0, 1.0), st.sampled_from(("first", "sliding")), st.booleans())
@PROFILE
def test_no_model_rejects_a_call_whatever_the_network_does(
    conditions: network.Conditions,
    sizes: Sizes,
    phase: float,
    headers: str,
    server_time: bool,  # noqa: FBT001 -- drawn
) -> None:
    """Token, user and route budgets hold under four models at once."""

    async def work() -> Server:
        server = Server(sizes, phase, headers=headers)
        store = ratelimit_model_store.MemoryBudgets(asyncio.get_running_loop().time)
        clients = [process(store, config(sizes, server_time=server_time)) for _ in range(3)]
        await network.Fleet(conditions, server, [*clients]).run()
        for client in clients:
            await client.close()
        return server

    server = network.on_jumping_clock(work)

    assert not server.rejections
    assert server.arrivals > 0


TYPICAL = network.Conditions(seed=1, least=0.04, jitter=0.75, users=500, guilds=500, callers=80, lanes=False)


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(rule, marks=pytest.mark.xfail(strict=True, reason=reason, raises=AssertionError))
        for rule, reason in (
            (naive.Refill, "a full bucket plus its refill are more than a window allows"),
            (naive.SendStamped, "calls that were sent a window apart arrive closer than that"),
            (naive.Paced, "jitter pushes evenly sent calls together"),
        )
    ],
)
def test_no_model_rejects_a_call_of_a_widely_used_rule(client: Callable[[models.Limit], network.Client]) -> None:
    """The same server and network tell unsafe rules from safe ones."""
    sizes = Sizes(models.Limit(50, 1.0), models.Limit(1000, 1.0), models.Limit(1000, 1.0))

    async def work() -> Server:
        server = Server(sizes, 0.3, headers="first")
        await network.Fleet(TYPICAL, server, [client(sizes.token)]).run()
        return server

    assert not network.on_jumping_clock(work).rejections
