"""What happens when Discord's answers are mutilated. `make fuzz` throws many more."""

import random

import hypothesis
import pytest
from hypothesis import strategies

from indexing.domain import model
from indexing.store import database, guilds
from tests import clockwork, stored, values
from tests.fuzz import answers

COUNT = 3_000


def test_a_response_is_refused_or_can_be_stored_and_returned_when_it_is_mutated() -> None:
    """Refused as a temporary failure, or decoded to values that MongoDB and the API can carry."""
    outcome = answers.read_responses(COUNT, 20_261_123)

    assert outcome.faults == []
    assert all(outcome.counts[f"read: {name}"] > 100 for name in ("read_channels", "decode_guilds", "decode_member"))
    assert outcome.counts["refused: RecursionError"]


@hypothesis.given(strategies.integers(0, 1 << 64))
def test_a_response_is_refused_or_can_be_stored_and_returned_with_any_seed(seed: int) -> None:
    """Each run tries new seeds."""
    assert answers.read_responses(10, seed).faults == []


async def test_decoded_channels_are_unchanged_when_mongodb_has_stored_them(
    database: database.Database,
) -> None:
    """With any names and topics: NUL, control characters, the last code point."""
    read: list[list[model.Channel]] = []
    answers.read_responses(600, 7, read.append)
    read.sort(key=lambda rows: -len(repr(rows)))
    store = guilds.Guilds(database)
    hostile = [values.channel(5, answers.GUILD, name="a\0b\x1b\u202e\U0010ffff", topic="\0", position=-(1 << 31))]
    for number, listing in enumerate([hostile, *read[:20], *random.Random(1).sample(read, 10)]):
        at = clockwork.START + number
        await store.upsert_guilds([values.user_guild(answers.GUILD)], {answers.GUILD})
        fence = await store.acquire_lease(answers.GUILD, now=at, until=at + 0.5, fetched_before=at)
        assert fence is not None

        written = await stored.channels(store, answers.GUILD, fence=fence, channels=listing, now=at)

        assert written
        back = await stored.list_channels(store, [answers.GUILD])
        last = {row.channel_id: row for row in listing}
        if len(last) == len(listing):
            assert {row.channel_id: row for row in back} == last


@pytest.mark.parametrize("seed", range(3))
def test_the_same_responses_are_made_when_the_seed_is_the_same(seed: int) -> None:
    """So that a fault can be reproduced."""
    mutators = [answers.Mutator(random.Random(seed)) for _ in range(2)]

    bodies = [[mutator.make_response()[1] for _ in range(50)] for mutator in mutators]

    assert bodies[0] == bodies[1]
