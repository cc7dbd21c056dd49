"""However the server counts and whatever the network does, no window contains more calls than its budget."""

import asyncio
import dataclasses
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
from tests.ratelimit_model import store as model_store
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
    speedup=st.floats(0.85, 1.0),
    late=st.sampled_from((0.0, 0.05, 2.5)),
    users=st.integers(1, 20),
    guilds=st.integers(1, 10),
    callers=st.integers(2, 40),
)


def config(sizes: Sizes, **others: float) -> settings.LimiterSettings:
    """Return settings for these budgets, without a warm-up hold."""
    return settings.LimiterSettings.model_validate(
        {
            "global_budget": f"{sizes.token.capacity}/{sizes.token.window}",
            "user_budget": f"{sizes.user.capacity}/{sizes.user.window}",
            "limiter_hold": 0.0,
        }
        | others
    )


def process(store: model_store.MemoryBudgetStore, of: settings.LimiterSettings) -> limiter.Limiter:
    """Start a process over the shared store."""
    clock = limiter.Clock(asyncio.get_running_loop().time, asyncio.sleep)
    limiter_metrics = metrics.LimiterMetrics(prometheus_client.CollectorRegistry())
    return limiter.Limiter(store, of, limiter_metrics, call_timeout=network.TIMEOUT, clock=clock)


def serve_fleet(
    conditions: network.Conditions, sizes: Sizes, phase: float, headers: str, of: settings.LimiterSettings
) -> Server:
    """Run three processes of the limiter against a server; return it."""

    async def work() -> Server:
        server = Server(sizes, phase, headers=headers)
        store = model_store.MemoryBudgetStore(asyncio.get_running_loop().time)
        clients = [process(store, of) for _ in range(3)]
        await network.Fleet(conditions, server, [*clients]).run()
        for client in clients:
            await client.close()
        return server

    return network.on_jumping_clock(work)


@given(CONDITIONS, SIZES, st.floats(0.0, 1.0), st.sampled_from(("first", "sliding")))
@PROFILE
def test_no_model_rejects_a_call_when_the_network_stays_as_fast_as_the_default_credits_assume(
    conditions: network.Conditions, sizes: Sizes, phase: float, headers: str
) -> None:
    """Token, user and route budgets hold under four models at once."""
    server = serve_fleet(conditions, sizes, phase, headers, config(sizes))

    assert not server.rejections
    assert server.arrivals > 0


@given(CONDITIONS, SIZES, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
@PROFILE
def test_no_model_rejects_a_call_when_credit_is_zero_however_fast_the_network_becomes(
    conditions: network.Conditions, sizes: Sizes, phase: float, speedup: float
) -> None:
    """Without a credit the promise assumes nothing about the network."""
    faster = dataclasses.replace(conditions, speedup=speedup)
    no_credit = config(sizes, limiter_global_credit=0.0, limiter_user_credit=0.0)

    server = serve_fleet(faster, sizes, phase, "first", no_credit)

    assert not server.rejections


TYPICAL = network.Conditions(seed=1, least=0.04, jitter=0.75, users=500, guilds=500, callers=80, lanes=False)


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(naive.Refill, id="a full bucket plus its refill exceed a window"),
        pytest.param(naive.SendStamped, id="calls sent a window apart arrive closer together"),
        pytest.param(naive.Paced, id="jitter pushes evenly sent calls together"),
    ],
)
def test_models_reject_calls_when_a_rule_in_wide_use_limits_them(
    rule: Callable[[models.Limit], network.Client],
) -> None:
    """The server and network that the limiter passes tell unsafe rules from safe ones."""
    sizes = Sizes(models.Limit(50, 1.0), models.Limit(1000, 1.0), models.Limit(1000, 1.0))

    async def work() -> Server:
        server = Server(sizes, 0.3, headers="first")
        await network.Fleet(TYPICAL, server, [rule(sizes.token)]).run()
        return server

    assert network.on_jumping_clock(work).rejections
