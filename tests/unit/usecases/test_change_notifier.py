"""Which streams are told of a change, and what becomes of lost announcements."""

import asyncio

import pytest

from indexing.usecases import change_notifier
from tests import fake_backend, stored, values

pytestmark = pytest.mark.clockwork
USER = values.USER


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """A user in two guilds that were indexed."""
    made = fake_backend.make()
    await made.add_user([values.user_guild(10), values.user_guild(20)])
    await made.start_job()
    await made.run_all_turns()
    return made


def notifier(backend: fake_backend.FakeBackend, *, current: bool = True) -> change_notifier.ChangeNotifier:
    """Return a notifier for which every fetch is recent, or none."""
    return change_notifier.ChangeNotifier(
        backend.users, backend.guilds, lambda _: current, lambda: backend.clock.elapsed
    )


async def test_only_the_streams_concerned_are_told_when_a_guild_or_a_user_changes(
    backend: fake_backend.FakeBackend,
) -> None:
    """A guild to all that watch it, a user to their own streams; not after a stream has ended."""
    made = notifier(backend)
    with made.open(USER) as mine, made.open(USER + 1) as other:
        made.watch_guilds(mine, [10, 20])
        made.watch_guilds(other, [20])
        mine.user_changed = other.user_changed = False

        made.notify([10], [USER + 1])
        told = (set(mine.guild_ids), mine.user_changed, set(other.guild_ids), other.user_changed)
        made.watch_guilds(mine, [20])
        made.notify([10, 20], [])
        later = (mine.guild_ids, other.guild_ids)

    assert told == ({10}, False, set(), True)
    assert later == ({10, 20}, {20})
    assert not made._by_guild
    assert not made._by_user


async def test_a_wait_ends_at_once_when_something_changed_or_the_process_leaves(
    backend: fake_backend.FakeBackend,
) -> None:
    """Whether it changed before the wait or during it; otherwise it takes its time."""
    made = notifier(backend)
    with made.open(USER) as pending:
        made.watch_guilds(pending, [10])
        began = backend.clock.elapsed
        await pending.wait(10.0)
        pending.user_changed = False
        waiting = asyncio.create_task(pending.wait(10.0))
        await asyncio.sleep(1.0)
        made.notify([10], [])
        await waiting
        seconds = backend.clock.elapsed - began
        pending.take(1)
        await pending.wait(10.0)
        slept = backend.clock.elapsed - began - seconds
        made.wake_all()
        await pending.wait(10.0)
    with made.open(USER) as late:
        late.user_changed = False
        await late.wait(10.0)

    assert (seconds, slept) == (1.0, 10.0)
    assert backend.clock.elapsed - began == 11.0


async def test_a_lost_announcement_is_found_when_versions_are_compared(backend: fake_backend.FakeBackend) -> None:
    """Of guilds, of users, and of users who were erased; nothing is told when nothing changed."""
    made = notifier(backend)
    with made.open(USER) as pending:
        made.watch_guilds(pending, [10, 20])
        await made.poll()
        first = pending.take(9)
        pending.user_changed = False
        await made.poll()
        quiet = (pending.take(9), pending.user_changed)
        await backend.guilds.mark_bot_removed([20], backend.clock())
        await stored.guild_list(backend.users, USER, [], backend.clock() + 1)
        await made.poll()
        found = (pending.take(9), pending.user_changed)
        pending.user_changed = False
        backend.users.forget(USER)
        await made.poll()

    assert first == {10, 20}
    assert quiet == (set(), False)
    assert found == ({20}, True)
    assert pending.user_changed


async def test_channels_that_were_too_old_are_told_when_a_fetch_changes_nothing_else(
    backend: fake_backend.FakeBackend,
) -> None:
    """A fetch without changes makes no version, but shows them again."""
    made = notifier(backend, current=False)
    with made.open(USER) as pending:
        made.watch_guilds(pending, [10])
        await made.poll()
        pending.take(1)
        made._is_current = lambda _: True

        await made.poll()

        assert pending.guild_ids == {10}


async def test_a_comparison_asks_for_a_thousand_versions_at_a_time_when_much_is_watched(
    backend: fake_backend.FakeBackend,
) -> None:
    """With a pause after each query, so that the store is not busier."""
    made = notifier(backend)
    with made.open(USER) as pending:
        made.watch_guilds(pending, range(1, 2501))
        began = backend.clock.elapsed
        await made.poll()

    assert backend.clock.elapsed - began == pytest.approx(4 * change_notifier.QUERY_PAUSE)
