"""The packed channels of a guild: what is decoded is what was encoded, and it fits into a document."""

import dataclasses
import random

import bson
import hypothesis
import msgspec
import pytest
from hypothesis import strategies

from indexing.domain import model
from indexing.store import guild_codec
from tests import values

GUILD = values.GUILD
MOST_BYTES = 14 << 20
"""What the largest guild may take; MongoDB takes documents up to 16 MiB (mongodb.com, limits, read 2026-11)."""

ids = strategies.integers(1, (1 << 63) - 1)
numbers = strategies.integers(-(1 << 63), (1 << 63) - 1)
overwrites = strategies.builds(model.Overwrite, ids, strategies.integers(0, 2), *[strategies.integers(0, 1 << 11)] * 2)
channels = strategies.builds(
    model.Channel,
    channel_id=ids,
    guild_id=strategies.just(GUILD),
    kind=numbers,
    name=strategies.text(),
    topic=strategies.none() | strategies.text(),
    position=numbers,
    parent_id=strategies.none() | ids,
    nsfw=strategies.booleans(),
    flags=numbers,
    last_message_id=strategies.none() | ids,
    overwrites=strategies.lists(overwrites, max_size=6).map(model.Overwrites.of),
)
gone_channels = strategies.builds(
    model.GoneChannel, ids, numbers, strategies.floats(allow_nan=False), strategies.text()
)


@hypothesis.given(
    strategies.lists(channels, unique_by=lambda row: row.channel_id), strategies.lists(gone_channels, max_size=4)
)
def test_a_guild_is_the_same_when_it_was_encoded_and_decoded(
    listed: list[model.Channel], gone: list[model.GoneChannel]
) -> None:
    """In stored order: by position, then id."""
    decoded = guild_codec.decode(GUILD, *guild_codec.encode(listed, gone))

    assert decoded == (tuple(sorted(listed, key=lambda row: (row.position, row.channel_id))), tuple(gone))


@hypothesis.given(
    strategies.lists(channels, unique_by=lambda row: row.channel_id), strategies.randoms(use_true_random=False)
)
def test_only_the_activity_differs_when_only_messages_do(listed: list[model.Channel], dice: random.Random) -> None:
    """So that it can be written alone, beside the channels of an earlier listing."""
    busy = [dataclasses.replace(row, last_message_id=dice.randrange(1, 1 << 63)) for row in listed]
    dice.shuffle(busy)

    before, after = guild_codec.encode(listed), guild_codec.encode(busy)

    ordered = tuple(sorted(busy, key=lambda row: (row.position, row.channel_id)))
    assert before[0] == after[0]
    assert guild_codec.decode(GUILD, before[0], guild_codec.encode_activity(ordered))[0] == ordered
    assert len(after[1]) == 8 * len(listed)


def test_equal_overwrites_are_stored_once_when_many_channels_have_them() -> None:
    """And decoded to one object, so that what is computed from it is computed once."""
    rows = [[values.denied(role) for role in range(100 + private, 150 + private)] for private in range(2)]
    listed = [values.channel(number, overwrites=rows[number % 2]) for number in range(1, 101)]
    plain = [dataclasses.replace(row, overwrites=model.NO_OVERWRITES) for row in listed]

    packed, activity = guild_codec.encode(listed)

    found, _ = guild_codec.decode(GUILD, packed, activity)
    assert 2 * 50 * 8 < len(packed) - len(guild_codec.encode(plain)[0]) < 2 * 50 * 8 + 30
    assert len({id(row.overwrites) for row in found}) == 2


def test_the_shared_empty_overwrites_come_back_when_a_channel_has_none() -> None:
    """Most channels do, and need no search."""
    harmless = model.Overwrite(5, 0, allow=1 << 11, deny=0)
    listed = [values.channel(1), values.channel(2, overwrites=[harmless])]

    found, _ = guild_codec.decode(GUILD, *guild_codec.encode(listed))

    assert all(row.overwrites is model.NO_OVERWRITES for row in found)


def test_the_newest_are_kept_when_more_channels_are_gone_than_a_guild_keeps() -> None:
    """The newest are the last."""
    gone = [
        model.GoneChannel(number, 0, float(number), "HIDDEN_OR_DELETED") for number in range(guild_codec.MOST_GONE + 5)
    ]

    _, found = guild_codec.decode(GUILD, *guild_codec.encode([], gone))

    assert found == tuple(gone[5:])


@pytest.mark.parametrize(
    "value",
    [
        [guild_codec.FORMAT + 1, [], [], []],
        [guild_codec.FORMAT + 1, {"rows": []}],
    ],
    ids=["same-parts", "other-parts"],
)
def test_a_value_is_refused_when_a_newer_release_wrote_it(value: list[object]) -> None:
    """Whatever it consists of: only the place of the format's number is promised."""
    with pytest.raises(guild_codec.NewerFormat):
        guild_codec.decode(GUILD, msgspec.msgpack.encode(value), b"")


def test_the_largest_guild_fits_into_a_document_when_all_limits_are_reached() -> None:
    """
    500 channels with 1,000 different overwrites each, names of 100 and topics of 4,096 characters of 4 bytes.

    developers/resources/channel.mdx and developers/topics/opcodes-and-status-codes.mdx (30013, 30060), read 2026-08-06.
    """
    dice = random.Random(1)
    listed = [
        model.Channel(
            channel_id=dice.randrange(1 << 62, 1 << 63),
            guild_id=GUILD,
            kind=15,
            name="\N{PERFORMING ARTS}" * 100,
            topic="\N{PERFORMING ARTS}" * 4_096,
            position=number,
            parent_id=(1 << 63) - 1 - number,
            nsfw=True,
            flags=(1 << 31) - 1,
            last_message_id=dice.randrange(1 << 62, 1 << 63),
            overwrites=model.Overwrites.of(
                values.denied(dice.randrange(1 << 62, 1 << 63), kind=entry % 2) for entry in range(1_000)
            ),
        )
        for number in range(500)
    ]
    gone = [model.GoneChannel((1 << 63) - number, 15, 1.5, "HIDDEN_OR_DELETED") for number in range(1, 501)]

    packed, activity = guild_codec.encode(listed, gone)

    size = len(bson.encode({"_id": GUILD, "channels": packed, "activity": activity}))
    # 8.2 MB of topics, 4 MB of overwrites, 0.2 MB of names, and less than 0.1 MB of all else.
    assert 12_390_000 < size < 12_490_000 < MOST_BYTES
    assert guild_codec.decode(GUILD, packed, activity) == (tuple(listed), tuple(gone))


def test_a_document_is_spelled_out_when_people_look_at_it() -> None:
    """Ids instead of bytes; the other fields as they are."""
    listed = [
        values.channel(2, kind=5, parent_id=9, last_message_id=7, overwrites=[values.allowed(4), values.denied(3, 1)])
    ]
    packed, activity = guild_codec.encode(listed, [model.GoneChannel(8, 0, 1.5, "HIDDEN_OR_DELETED")])

    shown = guild_codec.readable({"_id": GUILD, "name": "first", "channels": packed, "activity": activity})

    assert shown == {
        "_id": GUILD,
        "name": "first",
        "channels": [
            {
                "id": 2,
                "kind": 5,
                "name": "channel 2",
                "position": 0,
                "parent_id": 9,
                "last_message_id": 7,
                "overwrites": {"roles_allow": [4], "roles_deny": [], "members_allow": [], "members_deny": [3]},
            }
        ],
        "gone": [[8, 1.5, "HIDDEN_OR_DELETED"]],
    }
    assert guild_codec.readable({"_id": GUILD, "name": "first"}) == {"_id": GUILD, "name": "first", "channels": []}
