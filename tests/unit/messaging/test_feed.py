"""One job's progress, kept once for all its watchers in a process."""

import asyncio

import hypothesis
from hypothesis import strategies

from indexing.domain import job_updates
from indexing.messaging import feed
from tests import values

JOB = values.job()
ROWS = strategies.lists(
    strategies.tuples(strategies.integers(1, 4), strategies.integers(1, 9)), max_size=3, unique_by=lambda row: row[0]
)


def update(place: int, rows: list[tuple[int, int]]) -> job_updates.JobUpdate:
    """Return the update at that position of the stream, with tasks as (guild, revision)."""
    tasks = tuple(values.task(guild_id, revision=revision) for guild_id, revision in rows)
    return job_updates.JobUpdate(JOB, job_updates.Tally(), tasks, f"{place}-0")


def latest_revisions(updates: list[job_updates.JobUpdate]) -> dict[int, int]:
    """Return the greatest revision of each guild."""
    found: dict[int, int] = {}
    for one in updates:
        for task in one.tasks:
            found[task.guild_id] = max(found.get(task.guild_id, 0), task.revision)
    return found


class Reader:
    """A watcher and the updates that it returned."""

    def __init__(self, watcher: feed.Watcher, place: int) -> None:
        self.place = place
        self.updates: list[job_updates.JobUpdate] = []
        self._watcher = watcher

    async def read(self) -> None:
        """Read the changes, without waiting."""
        news = await self._watcher.next(0.0)
        if news is not None:
            self.updates.append(news)


@hypothesis.given(
    strategies.lists(ROWS, min_size=1, max_size=12),
    strategies.integers(0, 12),
    strategies.lists(strategies.tuples(strategies.sampled_from(["take", "join", "read"]), strategies.integers(0, 12))),
)
async def test_every_watcher_gets_the_latest_tasks_when_it_joins_and_reads_at_any_time(
    stream: list[list[tuple[int, int]]], start: int, steps: list[tuple[str, int]]
) -> None:
    """Each watcher ends with the state of the whole stream, and gets no revision twice."""
    updates = [update(place, rows) for place, rows in enumerate(stream, start=1)]
    start = min(start, len(updates))
    shared, taken = feed.Feed(f"{start}-0"), start
    readers: list[Reader] = []
    for step, number in [*steps, *[("take", 0)] * len(updates)]:
        if step == "take" and taken < len(updates):
            shared.append(updates[taken])
            taken += 1
        if step == "join":
            place = min(number, taken)
            reader = Reader(feed.Watcher(shared, f"{place}-0"), place)
            first = shared.start[0]
            shared.prepend(f"{place}-0", [one for one in updates if place < int(one.position[:-2]) <= first])
            readers.append(reader)
        if step == "read" and readers:
            await readers[number % len(readers)].read()

    for reader in readers:
        await reader.read()
        await reader.read()

    for reader in readers:
        known = updates[: reader.place]
        assert latest_revisions([*known, *reader.updates]) == latest_revisions(updates)
        pairs = [(task.guild_id, task.revision) for one in reader.updates for task in one.tasks]
        assert len(pairs) == len(set(pairs))
        positions = [feed.parse(one.position) for one in reader.updates]
        assert positions == sorted(set(positions))


async def test_a_known_update_changes_nothing_when_it_is_appended_again() -> None:
    """A reader that restarts may read an entry twice."""
    shared = feed.Feed("0-0")
    reader = Reader(feed.Watcher(shared, "0-0"), 0)
    shared.append(update(1, [(1, 1)]))
    await reader.read()

    shared.append(update(1, [(1, 1)]))
    await reader.read()

    assert len(reader.updates) == 1


async def test_watchers_share_one_update_when_they_are_at_the_same_position() -> None:
    """Changes are merged once for all of them; a watcher at another position gets its own update."""
    shared = feed.Feed("0-0")
    watchers = [feed.Watcher(shared, "0-0") for _ in range(3)]
    shared.append(update(1, [(1, 1)]))
    await watchers[2].next(0.0)
    shared.append(update(2, [(2, 1)]))

    told = [await watcher.next(0.0) for watcher in watchers]

    assert told[0] is told[1]
    assert [len(one.tasks) for one in told if one is not None] == [2, 2, 1]


async def test_a_closed_watcher_is_removed_when_others_remain() -> None:
    """It is not woken any more, and closing twice is allowed."""
    shared = feed.Feed("0-0")
    first, second = feed.Watcher(shared, "0-0"), feed.Watcher(shared, "0-0")

    await first.close()
    await first.close()

    assert shared.watchers == {second}


async def test_a_release_ends_one_wait_when_there_are_no_changes() -> None:
    """Changes are returned first and do not consume it; the next wait waits again."""
    shared = feed.Feed("0-0")
    watcher = feed.Watcher(shared, "0-0")
    watcher.release()
    shared.append(update(1, [(1, 1)]))

    told = await watcher.next(10.0)
    let_go = await asyncio.wait_for(watcher.next(10.0), 1.0)
    waiting = asyncio.create_task(watcher.next(10.0))
    await asyncio.sleep(0)

    assert told is not None
    assert let_go is None
    assert not waiting.done()
    waiting.cancel()


def test_positions_are_ordered_as_numbers_when_they_are_compared() -> None:
    """As in Redis: 9 before 10, then by the second part."""
    texts = ["9-0", "10-0", "10-2", "10-10"]

    assert sorted(texts, key=feed.parse) == texts


async def test_merged_updates_are_counted_when_a_watcher_reads_slowly() -> None:
    """Each update that was merged into another counts once."""
    merged: list[int] = []
    shared = feed.Feed("0-0", merged.append)
    slow = feed.Watcher(shared, "0-0")

    for place in (1, 2, 3):
        shared.append(update(place, [(place, 1)]))
    await slow.next(0.0)
    shared.append(update(4, [(4, 1)]))
    await slow.next(0.0)

    assert merged == [2, 0]
