"""One round of `make drill-drain`: a service and a worker get SIGTERM under load."""

from devstack import stack
from tests.benchmarks.drain import __main__ as drain
from tests.benchmarks.drain import load


async def test_no_call_fails_when_a_service_and_a_worker_drain() -> None:
    """Calls that retry UNAVAILABLE succeed, no guild task is lost, streams send `going_away`, both end in time."""
    options = stack.Options(
        users=2,
        services=2,
        workers=2,
        guilds_per_user=8,
        latency="5-25",
        simulator=("--user-limit", "5/1"),
        environment={**drain.ENVIRONMENT, "USER_BUDGET": "5/1", "INDEXING_ROLES_MAX_AGE": "0"},
    )
    with stack.Stack(options) as running:
        running.put_credentials()
        seen = load.Observations()
        found = await drain.drill(running, 1, seen)

    assert found["failures"] == {}
    assert seen.jobs > 0
    assert seen.going_away > 0
