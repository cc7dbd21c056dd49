"""What happens when Discord's answers are mutilated. `make fuzz` throws many more."""

import random

import hypothesis
import pytest
from hypothesis import strategies

from indexing.domain import model
from indexing.store import database, guilds
from tests import clockwork, values
from tests.fuzz import answers

COUNT = 3_000


def test_an_answer_is_refused_or_can_be_stored_and_shown_when_it_is_mutilated() -> None:
    """Refused with what the client takes for a passing failure, or read to what MongoDB and our API can hold."""
    outcome = answers.throw(COUNT, 20_261_123)

    assert outcome.faults == []
    assert all(outcome.counts[f"read: {name}"] > 100 for name in ("read_channels", "decode_guilds", "decode_roles"))
    assert outcome.counts["refused: RecursionError"]


@hypothesis.given(strategies.integers(0, 1 << 64))
def test_an_answer_is_refused_or_can_be_stored_and_shown_whatever_the_seed(seed: int) -> None:
    """New ones with every run of the tests."""
    assert answers.throw(10, seed).faults == []


async def test_what_can_be_read_is_stored_and_comes_back_when_it_is_written_to_mongodb(
    database: database.Database,
) -> None:
    """Whatever stands in names and topics: NUL, controls, the last code point."""
    read: list[list[model.Channel]] = []
    answers.throw(600, 7, read.append)
    read.sort(key=lambda rows: -len(repr(rows)))
    store = guilds.Guilds(database)
    hostile = [values.channel(5, answers.GUILD, name="a\0b\x1b\u202e\U0010ffff", topic="\0", position=-(1 << 31))]
    for number, listing in enumerate([hostile, *read[:20], *random.Random(1).sample(read, 10)]):
        at = clockwork.START + number
        await store.upsert_guilds([values.user_guild(answers.GUILD)], {answers.GUILD})
        fence = await store.acquire_lease(answers.GUILD, now=at, until=at + 0.5, fetched_before=at)
        assert fence is not None

        stored = await store.store_channels(answers.GUILD, fence=fence, channels=listing, now=at)

        assert stored
        back = await store.list_channels([answers.GUILD])
        last = {row.channel_id: row for row in listing}
        if len(last) == len(listing):
            assert {row.channel_id: row for row in back} == last


@pytest.mark.parametrize("seed", range(3))
def test_the_same_answers_are_thrown_when_the_seed_is_the_same(seed: int) -> None:
    """So that a fault can be looked at again."""
    bodies = [[maker.answer()[1] for _ in range(50)] for maker in (answers.Maker(random.Random(seed)) for _ in "ab")]

    assert bodies[0] == bodies[1]
