"""One job's progress, kept once for all its watchers in a process."""

import asyncio

import hypothesis
from hypothesis import strategies

from indexing.domain import model
from indexing.messaging import feed
from tests import values

JOB = values.job()
ROWS = strategies.lists(
    strategies.tuples(strategies.integers(1, 4), strategies.integers(1, 9)), max_size=3, unique_by=lambda row: row[0]
)


def update(place: int, rows: list[tuple[int, int]]) -> model.JobUpdate:
    """Return the update at that place of the stream, with rows as (guild, revision)."""
    units = tuple(values.task(guild_id, revision=revision) for guild_id, revision in rows)
    return model.JobUpdate(JOB, model.Tally(), units, f"{place}-0")


def newest(updates: list[model.JobUpdate]) -> dict[int, int]:
    """Return the greatest revision of each guild."""
    found: dict[int, int] = {}
    for one in updates:
        for unit in one.tasks:
            found[unit.guild_id] = max(found.get(unit.guild_id, 0), unit.revision)
    return found


class Reader:
    """A watcher with what he has been told."""

    def __init__(self, watcher: feed.Watcher, place: int) -> None:
        self.place = place
        self.told: list[model.JobUpdate] = []
        self._watcher = watcher

    async def read(self) -> None:
        """Take what there is."""
        news = await self._watcher.next(0.0)
        if news is not None:
            self.told.append(news)


@hypothesis.given(
    strategies.lists(ROWS, min_size=1, max_size=12),
    strategies.integers(0, 12),
    strategies.lists(strategies.tuples(strategies.sampled_from(["take", "join", "read"]), strategies.integers(0, 12))),
)
async def test_every_watcher_ends_up_with_the_newest_rows_when_he_comes_and_reads_at_any_time(
    stream: list[list[tuple[int, int]]], start: int, steps: list[tuple[str, int]]
) -> None:
    """Whoever joins wherever and reads whenever knows in the end what the whole stream says, each row told once."""
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
        assert newest([*known, *reader.told]) == newest(updates)
        pairs = [(unit.guild_id, unit.revision) for one in reader.told for unit in one.tasks]
        assert len(pairs) == len(set(pairs))
        positions = [feed.parse(one.position) for one in reader.told]
        assert positions == sorted(set(positions))


async def test_an_update_that_was_taken_already_changes_nothing_when_it_comes_again() -> None:
    """A reader that begins anew may read an entry twice."""
    shared = feed.Feed("0-0")
    reader = Reader(feed.Watcher(shared, "0-0"), 0)
    shared.append(update(1, [(1, 1)]))
    await reader.read()

    shared.append(update(1, [(1, 1)]))
    await reader.read()

    assert len(reader.told) == 1


async def test_watchers_share_one_update_when_they_are_at_the_same_place() -> None:
    """However many they are, what changed is put together once; who was elsewhere gets his own."""
    shared = feed.Feed("0-0")
    watchers = [feed.Watcher(shared, "0-0") for _ in range(3)]
    shared.append(update(1, [(1, 1)]))
    await watchers[2].next(0.0)
    shared.append(update(2, [(2, 1)]))

    told = [await watcher.next(0.0) for watcher in watchers]

    assert told[0] is told[1]
    assert [len(one.tasks) for one in told if one is not None] == [2, 2, 1]


async def test_a_closed_watcher_is_forgotten_when_others_remain() -> None:
    """He is not woken any more, and closing twice is closing."""
    shared = feed.Feed("0-0")
    first, second = feed.Watcher(shared, "0-0"), feed.Watcher(shared, "0-0")

    await first.close()
    await first.close()

    assert shared.watchers == {second}


async def test_a_poke_is_used_up_when_it_has_ended_one_wait() -> None:
    """News are told first and do not swallow it; the next wait is a wait again."""
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
    """As Redis orders them: 9 before 10, then by the second part."""
    texts = ["9-0", "10-0", "10-2", "10-10"]

    assert sorted(texts, key=feed.parse) == texts


async def test_merged_updates_are_counted_when_a_watcher_reads_slowly() -> None:
    """Each update that he did not get as such counts once."""
    merged: list[int] = []
    shared = feed.Feed("0-0", merged.append)
    slow = feed.Watcher(shared, "0-0")

    for place in (1, 2, 3):
        shared.append(update(place, [(place, 1)]))
    await slow.next(0.0)
    shared.append(update(4, [(4, 1)]))
    await slow.next(0.0)

    assert merged == [2, 0]
