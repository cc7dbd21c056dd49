"""Clients of the core in a failover: how long until commands succeed again, and which failed."""

import asyncio
import contextlib
import time
from collections.abc import Callable

import pytest

from indexing import errors, settings
from indexing.domain import turns
from indexing.messaging import queue, redis_client
from tests.failover import redis_servers

BEFORE, AFTER = 0.5, 5.0
"""Seconds of commands before the failover, and without a failure after it."""
SENTINEL_LIMIT = 5.0
"""Seconds from the promotion until Sentinel announces it to its clients; it takes one."""


def show(capsys: pytest.CaptureFixture[str], line: str) -> None:
    """Print a measured number beside the test."""
    with capsys.disabled():
        print(f"\n  {line}", end="", flush=True)  # noqa: T201 -- what is measured


async def last_failure(url: str, fail_over: Callable[[], None]) -> tuple[float, dict[str, int]]:
    """Write by both clients over a failover; returns the time of the last failure, and how many failed."""
    config = settings.RedisSettings(url=url)
    failed = {"asyncio": 0, "threads": 0}
    broker = queue.make_broker(config, middleware=[])
    async with redis_client.open_redis(config) as client:
        made = queue.DramatiqQueue(broker, client)
        # More connections than one, so that some are idle.
        await asyncio.gather(*(client.set(f"a{number}", 1) for number in range(8)))
        began = failed_at = time.monotonic()
        moving: asyncio.Task[None] | None = None
        while moving is None or time.monotonic() - max(failed_at, began + BEFORE) < AFTER:
            for name, work in (("asyncio", client.set("a", 1)), ("threads", made.enqueue(turns.Turn("a", 1)))):
                try:
                    with redis_client.translated():
                        await work
                except errors.QueueUnavailable:
                    failed[name] += 1
                    failed_at = time.monotonic()
            if moving is None and time.monotonic() > began + BEFORE:
                moving = asyncio.create_task(asyncio.to_thread(fail_over))
            await asyncio.sleep(0.02)
        await moving
    broker.client.connection_pool.disconnect()
    return failed_at, failed


@pytest.mark.parametrize("cut", [False, True], ids=["kept", "cut"])
def test_no_command_fails_when_the_address_moves(
    stack: contextlib.ExitStack,
    capsys: pytest.CaptureFixture[str],
    cut: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Connections that are kept lead to the demoted server; those that are cut are made again."""
    pair = redis_servers.Pair(stack)
    address = redis_servers.Address(pair.ports[0])
    stack.callback(address.close)
    pair.watch_promotion()

    failed_at, failed = asyncio.run(last_failure(address.url, lambda: pair.promote(address, cut=cut)))

    seconds = max(0.0, failed_at - pair.promoted_at)
    show(capsys, f"address moves, {'cut' if cut else 'kept'}: {seconds:.2f} s after the promotion, failed {failed}")
    assert failed["asyncio"] == 0
    # The reply to a push may be lost with its connection; it is not repeated.
    assert failed["threads"] <= (1 if cut else 0)


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "on-command"])
def test_clients_follow_when_sentinel_promotes_the_replica(
    stack: contextlib.ExitStack,
    capsys: pytest.CaptureFixture[str],
    kill: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """With passwords of servers and Sentinels that need an encoding in the URL."""
    pair = redis_servers.Pair(stack)
    url = pair.sentinels()
    pair.watch_promotion()

    failed_at, failed = asyncio.run(last_failure(url, pair.kill_primary if kill else pair.fail_over))

    seconds = max(0.0, failed_at - pair.promoted_at)
    how = "kill -9" if kill else "SENTINEL FAILOVER"
    show(capsys, f"Sentinel, {how}: {seconds:.2f} s after the promotion, failed {failed}")
    assert seconds < SENTINEL_LIMIT
    if not kill:
        assert sum(failed.values()) <= 1
