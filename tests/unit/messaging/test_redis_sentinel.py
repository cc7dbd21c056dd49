"""What a process believes when Sentinels disagree."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from indexing import settings
from indexing.messaging import redis_client, redis_sentinel
from tests import clockwork, fake_redis

OLD, NEW = redis_sentinel.Primary(1, "a", 6379), redis_sentinel.Primary(2, "b", 6379)


def test_an_older_answer_is_not_believed_when_a_newer_one_was_heard() -> None:
    """A Sentinel that has not heard of the failover leads nobody back."""
    known = redis_sentinel.KnownPrimary(clockwork.ManualClock())

    answers = [known.note(found) for found in (OLD, NEW, OLD)]

    assert answers == [OLD, NEW, NEW]
    assert known.has_moved("a", 6379)
    assert not known.has_moved("b", 6379)


def test_a_smaller_epoch_is_believed_when_nobody_confirms_the_greater_one() -> None:
    """The Sentinels were set up anew."""
    clock = clockwork.ManualClock()
    known = redis_sentinel.KnownPrimary(clock)
    known.note(NEW)

    clock.advance(redis_sentinel.FORGET - 1.0)
    before = known.note(OLD)
    clock.advance(2.0)
    after = known.note(OLD)

    assert (before, after) == (NEW, OLD)


def test_nothing_has_moved_when_nothing_is_known() -> None:
    """Before the first answer."""
    assert not redis_sentinel.KnownPrimary().has_moved("a", 6379)


@contextlib.contextmanager
def sentinel(port: int, epoch: int) -> Iterator[fake_redis.FakeRedis]:
    """Run a Sentinel that names a primary on loopback."""
    fake = fake_redis.FakeRedis()
    tell(fake, port, epoch)
    with fake.running():
        yield fake


def tell(fake: fake_redis.FakeRedis, port: int, epoch: int) -> None:
    """Have a Sentinel name another primary."""
    address = fake_redis.array(fake_redis.bulk("127.0.0.1"), fake_redis.bulk(str(port)))
    about = fake_redis.array(fake_redis.bulk("config-epoch"), fake_redis.bulk(str(epoch)))
    fake.replies["SENTINEL"] = lambda command: address if command[1] == "GET-MASTER-ADDR-BY-NAME" else about


async def test_kept_connections_move_when_a_sentinel_names_another_primary() -> None:
    """Though the old one still accepts writes, as for ten seconds after a failover on command."""
    with contextlib.ExitStack() as stack:
        old, new = (stack.enter_context(fake_redis.FakeRedis().running()) for _ in range(2))
        first, second = (stack.enter_context(sentinel(old.port, 1)) for _ in range(2))
        url = f"redis+sentinel://127.0.0.1:{first.port},127.0.0.1:{second.port}/main"
        config = settings.RedisSettings(url=url)
        threads = redis_client.open_threaded_client(config)
        stack.callback(threads.connection_pool.disconnect)
        async with redis_client.open_redis(config) as client, redis_client.open_redis(config) as other:
            blocking = redis_client.make_blocking_client(client, max_block=1.0)
            await blocking.get("a")
            threads.set("a", 1)

            tell(second, new.port, 2)
            await redis_sentinel.refresh_primary([client, other, threads, SimpleNamespace(), None])
            for one in (client, other):
                await one.set("a", 2)
            await blocking.get("b")
            threads.set("a", 3)
            await blocking.aclose()

    assert [command[1:] for command in old.named("SET")] == [["a", "1"]]
    assert [command[1:] for command in new.named("SET")] == [["a", "2"], ["a", "2"], ["a", "3"]]
    assert [command[1] for command in new.named("GET")] == ["b"]


async def test_nothing_is_asked_when_the_url_is_plain() -> None:
    """Refreshing costs nothing then."""
    with fake_redis.FakeRedis().running() as server:
        async with redis_client.open_redis(settings.RedisSettings(url=server.url)) as client:
            before = len(server.commands)
            await redis_sentinel.refresh_primary([client, None])

    assert len(server.commands) == before


async def test_refreshing_does_nothing_when_no_sentinel_answers() -> None:
    """What was known stays; a new connection will say what is wrong."""
    finder = redis_sentinel.AsyncPrimaryFinder(
        settings.SentinelUrl("main", "redis://primary/0", (f"redis://127.0.0.1:{fake_redis.refuse_connections()}/",))
    )
    finder.known.note(OLD)

    await finder.refresh()

    assert finder.has_moved("b", 6379)
    with pytest.raises(redis_sentinel.PrimaryUnknown):
        await finder()
