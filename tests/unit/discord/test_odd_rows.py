"""One odd row does not cost the others, and never shows more than a readable one would."""

import asyncio
import collections
import copy
import json
import re
from typing import Any

import hypothesis
import pytest
import structlog.testing
from hypothesis import strategies

from indexing.discord import bounds, payloads
from indexing.domain import model, permissions
from tests import values
from tests.unit.discord import conftest, wire

GUILD = 9
VIEW = str(permissions.VIEW_CHANNEL)
SEALED = permissions.sealed(GUILD)
CHANNEL: dict[str, Any] = {
    "id": "7",
    "type": 0,
    "guild_id": "9",
    "name": "general",
    "topic": "chat",
    "position": 6,
    "parent_id": "5",
    "nsfw": True,
    "flags": 16,
    "last_message_id": "11",
    "permission_overwrites": [{"id": "5", "type": 0, "allow": VIEW, "deny": "0"}],
}
PARTIAL: dict[str, Any] = {"id": "7", "name": "guild", "icon": "i", "owner": True, "permissions": "8"}
LONG = "9" * 5_000
WRONG = [None, 0, 1.5, -1, 10**30, True, "", "x", [], {}, [None], {"a": 1}, float(10**22)]
"""Values of other types than a field's own."""


def body(*rows: object) -> bytes:
    """Return a list as JSON; half a surrogate pair stays an escape."""
    return json.dumps(rows).encode()


def one_channel(row: object) -> model.Channel | None:
    """Return the channel of a row between two others, which are always there."""
    first, last = CHANNEL | {"id": "100"}, CHANNEL | {"id": "200"}
    found = {each.channel_id: each for each in payloads.decode_channels(body(first, row, last), GUILD)}
    assert found.pop(100).name == found.pop(200).name == "general"
    return next(iter(found.values()), None)


@pytest.mark.parametrize(
    ("field", "attribute", "default"),
    [
        ("name", "name", ""),
        ("topic", "topic", None),
        ("position", "position", 0),
        ("parent_id", "parent_id", None),
        ("nsfw", "nsfw", False),
        ("last_message_id", "last_message_id", None),
    ],
)
@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_a_field_of_a_channel_falls_back_when_it_has_the_wrong_type(
    field: str, attribute: str, default: object, value: object
) -> None:
    """The row is stored with everything else; a value that fits the type is kept."""
    channel = one_channel(CHANNEL | {field: value})

    assert channel is not None
    if getattr(channel, attribute) != default:
        assert type(getattr(channel, attribute)) is type(value)
    others = {"name": "general", "topic": "chat", "position": 6, "parent_id": 5, "nsfw": True, "last_message_id": 11}
    others.pop(attribute, None)
    assert {name: getattr(channel, name) for name in others} == others
    assert channel.overwrites == model.Overwrites.of([model.Overwrite(5, 0, 1024, 0)])


@pytest.mark.parametrize("value", [1.5, 10**30, True, "", "x", "1 ", [], {}, [None], {"a": 1}], ids=repr)
def test_a_channel_is_sealed_when_its_flags_cannot_be_read(value: object) -> None:
    """They may say that the row is redacted."""
    channel = one_channel(CHANNEL | {"flags": value})

    assert channel is not None
    assert channel.overwrites == permissions.sealed(GUILD)


@pytest.mark.parametrize("value", [None, 0, 16, "16", "0"], ids=repr)
def test_a_channel_is_as_its_overwrites_say_when_its_flags_can_be_read(value: object) -> None:
    """Also in another form than the documented one."""
    channel = one_channel(CHANNEL | {"flags": value})

    assert channel is not None
    assert (channel.flags, channel.redacted) == (int(str(value or 0)), False)
    assert channel.overwrites == model.Overwrites.of([model.Overwrite(5, 0, 1024, 0)])


def test_a_channel_is_redacted_when_its_flags_are_a_text_that_says_so() -> None:
    """Only its id is real."""
    channel = one_channel(CHANNEL | {"flags": str(model.OBFUSCATED)})

    assert channel is not None
    assert channel.redacted


@pytest.mark.parametrize("value", [0, "", "0", "09", 9.0, True, [], {"id": "9"}, "8", 8], ids=repr)
def test_a_row_is_left_out_when_it_may_name_another_guild(value: object) -> None:
    """Whatever its guild_id is, if it is not missing, null, or that of the guild."""
    assert one_channel(CHANNEL | {"guild_id": value}) is None


@pytest.mark.parametrize("field", ["name", "icon", "owner", "approximate_member_count", "approximate_presence_count"])
@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_a_field_of_a_guild_falls_back_when_it_has_the_wrong_type(field: str, value: object) -> None:
    """A guild's name may be null; nobody owns a guild by a field of another type."""
    unreadable = payloads.Unreadable()
    found = payloads.decode_guilds(body(PARTIAL | {field: value}, PARTIAL | {"id": "8"}), unreadable)

    assert [(guild.guild_id, guild.permissions) for guild in found] == [(7, 8), (8, 8)]
    assert found[0].owner is (value is True if field == "owner" else True)
    assert found[0].name == (
        value if field == "name" and isinstance(value, str) else "" if field == "name" else "guild"
    )
    assert not unreadable


@pytest.mark.parametrize(
    "row",
    [
        *[CHANNEL | {"id": value} for value in [*WRONG, 7, "0", "-7", "7.0", " 7", LONG]],
        *[CHANNEL | {"type": value} for value in WRONG if not isinstance(value, int) or abs(value) > bounds.INT64],
        *[CHANNEL | {"guild_id": value} for value in ["10", "x", 10]],
        *[{"type": 0}, {"id": "7"}, {}, [], None, 7, "text", [CHANNEL]],
        CHANNEL | {"unheard_of": "x" * bounds.MAX_ROW_BYTES},
    ],
    ids=lambda row: repr(row)[:60],
)
def test_a_channel_is_left_out_when_it_cannot_be_read(row: object) -> None:
    """Without a readable id or type, of another guild, or beyond all size. The others are stored; it is counted."""
    unreadable = payloads.Unreadable()

    assert one_channel(row) is None
    payloads.decode_channels(body(CHANNEL, row), GUILD, unreadable)

    assert unreadable == {"channel": 1}


@pytest.mark.parametrize(
    "row",
    [
        *[PARTIAL | {"id": value} for value in [*WRONG, 7, LONG]],
        *[PARTIAL | {"permissions": value} for value in [*WRONG, 8, "-1", LONG]],
        *[{"id": "7"}, {}, None, [], "text"],
    ],
    ids=lambda row: repr(row)[:60],
)
def test_a_guild_is_left_out_when_it_cannot_be_read(row: object) -> None:
    """Rights that cannot be read are none."""
    unreadable = payloads.Unreadable()

    found = payloads.decode_guilds(body(PARTIAL | {"id": "1"}, row, PARTIAL | {"id": "2"}), unreadable)

    assert [guild.guild_id for guild in found] == [1, 2]
    assert unreadable == {"guild": 1}


def test_the_bots_guild_is_known_when_only_its_id_can_be_read() -> None:
    """Nothing else of the bot's list is used, so nothing else can take a guild away."""
    rows = [{"id": "1", "permissions": None, "name": None}, {"id": "2"}, {"id": None}, {"id": "1"}]

    assert payloads.decode_guild_ids(body(*rows)) == [1, 2]


@pytest.mark.parametrize(
    "overwrites",
    [
        *[value for value in WRONG if value != []],
        *[
            [{"id": "5", "type": 0, "allow": "0", "deny": "0"} | {field: value}]
            for field in ("id", "type", "allow", "deny")
            for value in WRONG
            if not (field == "type" and isinstance(value, int) and abs(value) < bounds.INT64)
        ],
        *[
            [{name: "0" for name in ("id", "type", "allow", "deny") if name != field} | {"type": 0}]
            for field in ("id", "allow", "deny")
        ],
        [{"id": "5", "type": "role", "allow": "0", "deny": "0"}],
        [{"id": "5", "type": 2, "allow": "0", "deny": VIEW}],
        [{"id": "5", "type": -1, "allow": VIEW, "deny": VIEW}],
        [{"id": "5", "type": 0, "allow": VIEW, "deny": "0"}, {"id": "5", "type": 0, "allow": "0", "deny": VIEW}],
        [{"id": "5", "type": 0, "allow": "0", "deny": "0"}] * 2,
        [{"id": "5", "type": 0, "allow": VIEW, "deny": LONG}],
        [{"id": "5", "type": 0, "allow": VIEW}, {"id": "6", "type": 0, "allow": "0", "deny": "0"}],
    ],
    ids=lambda rows: repr(rows)[:70],
)
def test_a_channel_is_sealed_when_an_overwrite_cannot_be_read(overwrites: object) -> None:
    """Whatever else allows it: the unreadable one might deny it. It is counted once."""
    unreadable = payloads.Unreadable()

    (channel,) = payloads.decode_channels(body(CHANNEL | {"permission_overwrites": overwrites}), GUILD, unreadable)

    assert channel.overwrites == SEALED
    assert (channel.name, channel.position) == ("general", 6)
    assert unreadable == {"overwrites": 1}


def test_a_channel_is_sealed_when_it_has_no_overwrites_at_all() -> None:
    """A missing list differs from an empty one. Threads have none: their parent's count."""
    missing = {name: value for name, value in CHANNEL.items() if name != "permission_overwrites"}

    sealed = one_channel(missing)
    empty = one_channel(CHANNEL | {"permission_overwrites": []})
    thread = one_channel(missing | {"type": 11})

    assert sealed is not None
    assert empty is not None
    assert thread is not None
    assert (sealed.overwrites, empty.overwrites, thread.overwrites) == (
        SEALED,
        model.NO_OVERWRITES,
        model.NO_OVERWRITES,
    )


def test_an_overwrite_of_unknown_type_says_nothing_when_it_denies_nothing() -> None:
    """Discord may add types; what they allow is not given to anybody."""
    overwrites = [
        {"id": "5", "type": 3, "allow": VIEW, "deny": "2048"},
        {"id": "5", "type": 0, "allow": "0", "deny": VIEW},
    ]

    channel = one_channel(CHANNEL | {"permission_overwrites": overwrites})

    assert channel is not None
    assert channel.overwrites == model.Overwrites.of([model.Overwrite(5, 0, 0, 1024)])


MEMBERS = strategies.builds(
    values.membership,
    guild_id=strategies.just(GUILD),
    permissions=strategies.sampled_from([0, permissions.VIEW_CHANNEL]),
)
ROLES = strategies.none() | strategies.lists(strategies.sampled_from([5, 6, 7]), unique=True).map(tuple)
OVERWRITES = strategies.lists(
    strategies.builds(
        lambda target, kind, allow, deny: {"id": str(target), "type": kind, "allow": allow, "deny": deny},
        strategies.sampled_from([GUILD, 5, 6, values.USER]),
        strategies.sampled_from([0, 1]),
        strategies.sampled_from(["0", VIEW]),
        strategies.sampled_from(["0", VIEW]),
    ),
    max_size=4,
    unique_by=lambda row: (row["id"], row["type"]),
)


def shown(channels: list[model.Channel], member: model.Membership, roles: tuple[int, ...] | None) -> set[int]:
    """Return which channels a member sees."""
    return {channel.channel_id for channel in permissions.visible_channels(member, channels, roles)}


@hypothesis.given(MEMBERS, ROLES)
def test_nobody_but_owners_and_administrators_sees_a_sealed_channel(
    member: model.Membership, roles: tuple[int, ...] | None
) -> None:
    """Whatever roles they have; no call for roles is made because of it."""
    channel = values.channel(7, GUILD, overwrites=SEALED)
    owner = values.membership(guild_id=GUILD, owner=True, permissions=0)
    administrator = values.membership(guild_id=GUILD, permissions=permissions.ADMINISTRATOR)

    assert shown([channel], member, roles) == set()
    assert not permissions.needs_roles(member, [channel])
    assert shown([channel], owner, None) == shown([channel], administrator, None) == {7}


@hypothesis.given(
    strategies.lists(OVERWRITES, min_size=2, max_size=3),
    strategies.lists(strategies.sampled_from(["50", "60", None]), min_size=3, max_size=3),
    strategies.lists(strategies.sampled_from([0, 0, 2, 4]), min_size=3, max_size=3),
    MEMBERS,
    ROLES,
)
def test_a_channel_that_is_listed_twice_is_seen_only_by_those_whom_every_row_allows(
    overwrites: list[Any],
    parents: list[str | None],
    kinds: list[int],
    member: model.Membership,
    roles: Any,  # noqa: ANN401
) -> None:
    """The same holds of the categories that it makes visible; it is one channel."""
    hidden = [{"id": str(GUILD), "type": 0, "allow": "0", "deny": VIEW}]
    categories = [
        CHANNEL | {"id": key, "type": 4, "permission_overwrites": hidden, "parent_id": None} for key in ("50", "60")
    ]
    rows = [
        CHANNEL | {"permission_overwrites": each, "parent_id": parent, "type": kind}
        for each, parent, kind in zip(overwrites, parents, kinds, strict=False)
    ]
    unreadable = payloads.Unreadable()

    merged = payloads.decode_channels(body(*categories, *rows), GUILD, unreadable)

    allowed = [shown(payloads.decode_channels(body(*categories, row), GUILD), member, roles) for row in rows]
    assert shown(merged, member, roles) <= set.intersection(*allowed)
    assert sorted(channel.channel_id for channel in merged) == [7, 50, 60]
    assert unreadable["duplicate"] == len(rows) - 1


def test_a_channel_that_is_listed_twice_is_as_it_was_when_the_rows_are_equal() -> None:
    """Or when one of them is stricter: then it is as that one has it."""
    strict = CHANNEL | {"permission_overwrites": [{"id": "9", "type": 0, "allow": "0", "deny": VIEW}]}
    open_ = CHANNEL | {"permission_overwrites": []}

    (alone,) = payloads.decode_channels(body(CHANNEL), GUILD)
    assert payloads.decode_channels(body(CHANNEL, CHANNEL), GUILD) == [alone]
    (alone,) = payloads.decode_channels(body(strict), GUILD)
    assert payloads.decode_channels(body(open_, strict), GUILD) == [alone]
    assert payloads.decode_channels(body(strict, open_), GUILD) == [alone]


def test_a_redacted_row_wins_when_a_channel_is_listed_twice() -> None:
    """Nothing of it is real, so nothing of the other is believed."""
    redacted = CHANNEL | {"flags": model.OBFUSCATED, "name": "___hidden___"}

    for rows in ([CHANNEL, redacted], [redacted, CHANNEL]):
        (channel,) = payloads.decode_channels(body(*rows), GUILD)
        assert channel.redacted


@hypothesis.given(
    strategies.lists(strategies.tuples(strategies.booleans(), strategies.integers(0, 4096)), min_size=1, max_size=4)
)
def test_a_guild_that_is_listed_twice_gives_the_rights_that_every_row_gives(rows: list[tuple[bool, int]]) -> None:
    """Exactly those; owners and administrators have all."""
    listed = [PARTIAL | {"owner": owner, "permissions": str(bits)} for owner, bits in rows]

    (guild,) = payloads.decode_guilds(body(*listed))

    def rights(owner: bool, bits: int) -> int:  # noqa: FBT001 -- a field
        return ~0 if owner or bits & permissions.ADMINISTRATOR else bits

    common = ~0
    for owner, bits in rows:
        common &= rights(owner, bits)
    assert guild.owner is all(owner for owner, _ in rows)
    assert rights(guild.owner, guild.permissions) == common


@hypothesis.given(
    strategies.text(strategies.characters() | strategies.sampled_from(["\ud83d", "\udc00", "\\", '"', "\n"]))
)
def test_text_is_repaired_when_it_has_half_a_surrogate_pair(text: str) -> None:
    """A half is U+FFFD, a pair is its character, and everything else stays; also in fields that are not read."""
    wanted = re.sub("[\ud800-\udfff]", "\ufffd", json.loads(json.dumps(text)))

    channel = one_channel(CHANNEL | {"name": text, "topic": text, "unheard_of": {text: [text]}})
    (guild,) = payloads.decode_guilds(body(PARTIAL | {"name": text}))

    assert channel is not None
    assert (channel.name, channel.topic, guild.name) == (wanted[:100], wanted[:4096], wanted[:100])


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (rb'"party-\ud83d"', "party-\ufffd"),
        (rb'"\ude00party"', "\ufffdparty"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\uD83D\uD83D\uDE00"', "\ufffd\U0001f600"),
        (rb'"\\ud83d"', r"\ud83d"),
        (rb'"\\\ud83d"', "\\\ufffd"),
        (b'"caf\xe9"', "caf\ufffd"),
        (b'"a\x01b\nc"', "a b c"),
        (b'"\\u0000"', "\0"),
    ],
    ids=repr,
)
def test_text_is_repaired_when_it_is_not_valid(raw: bytes, name: str) -> None:
    """In rows, members and errors."""
    row = json.dumps(CHANNEL).encode().replace(b'"general"', raw)

    (channel,) = payloads.decode_channels(b"[" + row + b"]", GUILD)
    error = payloads.decode_error(b'{"message": ' + raw + b', "code": 50001}')

    assert channel.name == name
    assert channel.overwrites == model.Overwrites.of([model.Overwrite(5, 0, 1024, 0)])
    assert error is not None
    assert (error.message, error.code) == (name, 50001)
    assert payloads.decode_member(b'{"roles": ["5"], "nick": ' + raw + b"}") == (None, (5,))


JSON = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats(allow_nan=False, allow_infinity=False)
    | strategies.text(),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(), inner, max_size=3),
    max_leaves=6,
)


@hypothesis.given(strategies.data())
def test_the_other_rows_are_the_same_when_one_is_mutated(data: strategies.DataObject) -> None:
    """Any field of any type: the other two are as without it, and what was mutated is read, sealed or counted."""
    row = copy.deepcopy(CHANNEL)
    for name in data.draw(strategies.lists(strategies.sampled_from(sorted(row)), min_size=1, max_size=4, unique=True)):
        row[name] = data.draw(JSON)
    others = [CHANNEL | {"id": "100"}, CHANNEL | {"id": "200"}]
    unreadable = payloads.Unreadable()

    found = payloads.decode_channels(body(others[0], row, others[1]), GUILD, unreadable)

    known = {channel.channel_id: channel for channel in found}
    assert [known[100], known[200]] == payloads.decode_channels(body(*others), GUILD)
    assert len(found) + unreadable["channel"] == 3
    sealed = sum(channel.overwrites == SEALED for channel in found)
    assert sealed == unreadable["overwrites"]


@hypothesis.given(strategies.lists(JSON, max_size=5))
def test_no_body_is_an_unknown_failure_when_it_is_a_list(rows: list[Any]) -> None:
    """A list of anything is read, or is no list of rows at all."""
    for decode in (
        payloads.decode_guilds,
        payloads.decode_guild_ids,
        lambda text: payloads.decode_channels(text, GUILD),
    ):
        try:
            decode(body(*rows))
        except ValueError:
            assert rows
            assert not any(isinstance(row, dict) for row in rows)


async def test_slices_bring_what_one_go_brings_while_other_tasks_run() -> None:
    """A large listing does not keep the event loop to itself."""
    overwrites = [{"id": str(1_000 + number), "type": 0, "allow": "0", "deny": VIEW} for number in range(1_000)]
    text = body(*[CHANNEL | {"id": str(key), "permission_overwrites": overwrites} for key in range(1, 60)])
    turns = collections.Counter[str]()

    async def other() -> None:
        while True:
            turns["other"] += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    found = await payloads.decode_channels_in_slices(bytearray(text), GUILD, payloads.Unreadable())
    task.cancel()

    assert found == payloads.decode_channels(text, GUILD)
    assert turns["other"] > 5


async def test_slices_repair_text_when_it_is_not_valid() -> None:
    """As one go does."""
    text = bytearray(body(CHANNEL | {"name": "party-\ud83d"}))

    (channel,) = await payloads.decode_channels_in_slices(text, GUILD, payloads.Unreadable())

    assert channel.name == "party-\ufffd"


async def test_unreadable_rows_are_counted_and_logged_once_when_a_listing_has_them(
    bench: conftest.Bench,
) -> None:
    """Each is counted by its kind; the log says which route, not a thousand times."""
    rows = [CHANNEL | {"guild_id": str(values.GUILD)}, {"id": "8"}, {"id": "10", "type": 0}]
    bench.server.answer(*[wire.reply(200, rows)] * 3)

    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            found = await bench.channels()

    assert found is not None
    assert [channel.channel_id for channel in found] == [7, 10]
    counted = {
        kind: bench.registry.get_sample_value("indexer_discord_unreadable_rows_total", {"kind": kind})
        for kind in ("channel", "overwrites", "guild")
    }
    assert counted == {"channel": 3, "overwrites": 3, "guild": 0}
    (line,) = [each for each in logged if each["event"] == "discord_rows_unreadable"]
    assert line["route"] == "GET /guilds/{guild.id}/channels"
    assert line["rows"] == {"channel": 1, "overwrites": 1}


async def test_a_page_of_the_bots_guilds_is_not_the_last_when_a_row_is_unreadable(bench: conftest.Bench) -> None:
    """The listing ends with a page that brings nothing new."""
    full = [{"id": str(key)} for key in range(1, 201)]
    bench.server.answer(wire.reply(200, [*full[:50], {"id": None}, *full[51:]]), wire.reply(200, [{"id": "300"}]))

    found = await bench.discord.bot_guilds(conftest.PURPOSE)

    assert found == frozenset({*range(1, 51), *range(52, 201), 300})
