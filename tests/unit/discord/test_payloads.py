"""Decoding of Discord's JSON, with fields that are missing, new or broken."""

import json
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import strategies

from indexing.discord import bounds, gateway_payload, payloads
from indexing.domain import id_sets, model, permissions
from indexing.gateway import dispatches
from tests import values

BIG = str((1 << 63) - 1)
LARGEST = (1 << 63) - 1
GUILD = {
    "id": BIG,
    "name": "größer 🎉",
    "icon": "8342729096ea3675442027381ff50dfe",
    "banner": None,
    "owner": True,
    "permissions": "36953089",
    "features": ["COMMUNITY", "NEWS"],
    "approximate_member_count": 3268,
    "approximate_presence_count": 784,
}
CHANNEL = {
    "id": "41771983423143937",
    "guild_id": "9",
    "name": "general",
    "type": 0,
    "position": 6,
    "permission_overwrites": [{"id": "5", "type": 1, "allow": "1024", "deny": "2048"}],
    "rate_limit_per_user": 2,
    "nsfw": True,
    "topic": "24/7 chat",
    "last_message_id": "155117677105512449",
    "parent_id": "399942396007890945",
    "default_auto_archive_duration": 60,
    "flags": 16,
}


def body(*rows: object) -> bytes:
    """Return a list as JSON."""
    return json.dumps(rows).encode()


def test_a_guild_is_read_whole_when_discord_sends_all_fields() -> None:
    """The documentation's example of a partial guild, with counts."""
    found = payloads.decode_guilds(body(GUILD))

    assert found == [
        model.UserGuild(
            guild_id=LARGEST,
            name="größer 🎉",
            icon="8342729096ea3675442027381ff50dfe",
            owner=True,
            permissions=36953089,
            member_count=3268,
            presence_count=784,
        )
    ]


def test_a_guild_is_read_when_only_its_id_and_permissions_are_sent() -> None:
    """Nothing is invented: no ownership, no size."""
    found = payloads.decode_guilds(body({"id": "7", "permissions": "0"}))

    assert found == [values.user_guild(7, name="", permissions=0)]


def test_a_channel_is_read_whole_when_discord_sends_all_fields() -> None:
    """The documentation's example of a text channel; the guild is the one that was asked for."""
    found = payloads.decode_channels(body(CHANNEL), 9)

    assert found == [
        model.Channel(
            channel_id=41771983423143937,
            guild_id=9,
            kind=0,
            name="general",
            topic="24/7 chat",
            position=6,
            parent_id=399942396007890945,
            nsfw=True,
            flags=16,
            last_message_id=155117677105512449,
            overwrites=model.Overwrites(members_allow=id_sets.pack_ids([5])),
        )
    ]


def test_a_channel_is_read_when_only_id_type_and_overwrites_are_sent() -> None:
    """Everything else falls back to its default."""
    found = payloads.decode_channels(body({"id": "7", "type": 2, "permission_overwrites": []}), 9)

    assert found == [values.channel(7, 9, kind=2, name="")]


@pytest.mark.parametrize("kind", [0, 2, 4, 5, 13, 14, 15, 16, 17, 250], ids=str)
def test_a_channel_is_kept_when_its_type_is_not_known(kind: int) -> None:
    """Unknown types are stored like known ones."""
    found = payloads.decode_channels(body(CHANNEL | {"type": kind}), 9)

    assert [channel.kind for channel in found] == [kind]


def test_new_fields_do_not_matter_when_discord_adds_them() -> None:
    """At any level, of any type."""
    new = {"brand_new": {"nested": [1, None]}, "linked_lobby": None}
    overwrites = [{"id": "5", "type": 0, "allow": "0", "deny": "0", "brand_new": True}]

    found = payloads.decode_channels(body(CHANNEL | new | {"permission_overwrites": overwrites}), 9)

    assert found[0].overwrites == model.NO_OVERWRITES
    assert payloads.decode_guilds(body(GUILD | new)) == payloads.decode_guilds(body(GUILD))


def test_a_redacted_channel_is_marked_when_discord_sends_one() -> None:
    """Its name and overwrites are placeholders, which must not be stored as real ones."""
    redacted = CHANNEL | {"id": "8", "flags": 1 << 17 | 16, "name": "___hidden___"}

    found = payloads.decode_channels(body(redacted, CHANNEL), 9)

    assert [(channel.channel_id, channel.redacted) for channel in found] == [
        (8, True),
        (int(str(CHANNEL["id"])), False),
    ]


def test_a_channel_is_kept_when_only_its_name_looks_redacted() -> None:
    """The flag marks a redacted channel, not the name."""
    found = payloads.decode_channels(body(CHANNEL | {"name": "___hidden___"}), 9)

    assert [channel.name for channel in found] == ["___hidden___"]


@pytest.mark.parametrize("decode", [payloads.decode_guilds, lambda text: payloads.decode_channels(text, 9)])
@pytest.mark.parametrize("text", [b"[]", b"null"], ids=["empty", "null"])
def test_an_empty_list_is_read_when_there_is_nothing(decode: Any, text: bytes) -> None:  # noqa: ANN401 -- a decoder
    """Discord's specification allows null for it."""
    assert decode(text) == []


def test_permissions_keep_63_bits_when_discord_sends_more() -> None:
    """On the wire they have any number of bits; the store keeps 63, which is more than Discord uses."""
    huge = str((1 << 80) + 1024 + 8)

    found = payloads.decode_guilds(body(GUILD | {"permissions": huge}))

    assert found[0].permissions == 1024 + 8


@pytest.mark.parametrize("text", ["-1", "-8", "1_024", "٨", "0x8", "1e3", "", " 8", "8.0"])
def test_permissions_are_unreadable_when_they_are_no_decimal_number(text: str) -> None:
    """Text that is not understood must not become permissions: -1 has every bit set."""
    unreadable = payloads.Unreadable()
    overwrite = {"id": "5", "type": 0, "allow": text, "deny": "0"}

    assert payloads.decode_guilds(body(GUILD | {"permissions": text}), unreadable) == []
    (channel,) = payloads.decode_channels(body(CHANNEL | {"permission_overwrites": [overwrite]}), 9, unreadable)

    assert channel.overwrites == permissions.sealed(9)
    assert unreadable == {"guild": 1, "overwrites": 1}


@pytest.mark.parametrize("text", ["0", "-5", str(1 << 63), "9" * 30, "9" * 5_000, "abc", "", "1_0", "٨", " 5"])
def test_a_row_is_left_out_when_its_id_is_no_snowflake(text: str) -> None:
    """Ids are decimal numbers of 1 to 63 bits."""
    unreadable = payloads.Unreadable()

    assert payloads.decode_guilds(body(GUILD | {"id": text}), unreadable) == []
    assert payloads.decode_guild_ids(body(GUILD | {"id": text}), unreadable) == []
    assert payloads.decode_channels(body(CHANNEL | {"id": text}), 9, unreadable) == []
    member = {"roles": ["5"], "user": {"id": text}}
    assert payloads.decode_member(json.dumps(member).encode(), unreadable) == (None, (5,))

    assert unreadable == {"guild": 1, "bot_guild": 1, "channel": 1, "member": 1}


@pytest.mark.parametrize("number", [1 << 63, 1 << 31, -(1 << 31) - 1, 10**400])
def test_a_number_falls_back_when_the_store_cannot_hold_it(number: int) -> None:
    """Beyond 63 bits the write to the store would fail, beyond 31 the API's response. A type has no default."""
    unreadable = payloads.Unreadable()

    (channel,) = payloads.decode_channels(body(CHANNEL | {"position": number}), 9, unreadable)
    assert payloads.decode_channels(body(CHANNEL | {"type": number}), 9, unreadable) == []

    assert channel.position == 0
    assert unreadable == {"channel": 1}


def test_a_channel_is_sealed_when_its_overwrites_would_not_fit_into_a_document() -> None:
    """Discord's own bound is far below."""
    overwrites = [
        {"id": str(number), "type": 0, "allow": "0", "deny": "1024"} for number in range(1, bounds.MAX_OVERWRITES + 2)
    ]

    (whole,) = payloads.decode_channels(body(CHANNEL | {"permission_overwrites": overwrites[1:]}), 9)
    (longer,) = payloads.decode_channels(body(CHANNEL | {"permission_overwrites": overwrites}), 9)

    assert len(id_sets.unpack_ids(whole.overwrites.roles_deny)) == bounds.MAX_OVERWRITES
    assert longer.overwrites == permissions.sealed(9)


def test_texts_are_cut_when_they_are_longer_than_discord_allows() -> None:
    """A longer row could be stored but would not fit into a message of the API."""
    (channel,) = payloads.decode_channels(body(CHANNEL | {"name": "n" * 5_000, "topic": "t" * 50_000}), 9)
    (guild,) = payloads.decode_guilds(body(GUILD | {"name": "n" * 5_000}))

    assert (len(channel.name), len(channel.topic or ""), len(guild.name)) == (100, 4_096, 100)


@pytest.mark.parametrize(
    ("user", "user_id"),
    [
        ({"id": "7", "username": "someone"}, 7),
        (None, None),
        ({}, None),
        ({"id": 7}, 7),
        ({"id": "0"}, None),
        ([], None),
    ],
)
def test_roles_are_read_when_a_member_is_sent(user: object, user_id: int | None) -> None:
    """In Discord's order, with the user if one is named, and counted if none is; all other fields are ignored."""
    unreadable = payloads.Unreadable()
    member: dict[str, Any] = {"user": user, "nick": None, "roles": ["5", BIG], "joined_at": "2015-04-26T06:26:56+00:00"}

    assert payloads.decode_member(json.dumps(member).encode(), unreadable) == (user_id, (5, LARGEST))

    assert unreadable["member"] == (user_id is None)


@pytest.mark.parametrize("role", [None, "x", "0", "", -5, True, 301.0, [], {"id": "5"}], ids=repr)
def test_roles_are_refused_when_one_cannot_be_read(role: object) -> None:
    """An overwrite may deny the role that it stands for."""
    with pytest.raises(ValueError):
        payloads.decode_member(json.dumps({"roles": ["5", role]}).encode())


def test_roles_are_refused_when_a_member_has_none_listed() -> None:
    """A missing list differs from an empty one: the roles are unknown."""
    with pytest.raises(ValueError):
        payloads.decode_member(b"{}")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        pytest.param(b'{"message": "Missing Access", "code": 50001}', (50001, None, False), id="error"),
        pytest.param(b'{"message": "401: Unauthorized"}', (None, None, False), id="without-code"),
        pytest.param(b'{"message": "x", "retry_after": 64.57, "global": true}', (None, 64.57, True), id="429"),
        pytest.param(b'{"message": "x", "retry_after": 1, "global": false, "code": 0}', (0, 1.0, False), id="whole"),
    ],
)
def test_decode_error_returns_code_and_wait_when_the_body_is_discords(text: bytes, wanted: tuple[object, ...]) -> None:
    """With its code, and the wait of a 429."""
    found = payloads.decode_error(text)

    assert found is not None
    assert (found.code, found.retry_after, found.is_global) == wanted


@pytest.mark.parametrize(
    "text",
    [
        *(b"<html>error code: 1015</html>", b"", b"null", b"[]", b'{"error": "x"}', b'"text"', b'\xff{"message": "x"}'),
        b'{"message": "x", "errors": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    ],
    ids=["html", "empty", "null", "list", "other-json", "text", "not-utf8", "nested-deeply"],
)
def test_decode_error_returns_none_when_the_body_is_not_discords(text: bytes) -> None:
    """Bodies of the edge in front of Discord are recognized by that."""
    assert payloads.decode_error(text) is None


DECODERS: list[Any] = [
    payloads.decode_guilds,
    payloads.decode_guild_ids,
    lambda text: payloads.decode_channels(text, 9),
    payloads.decode_member,
    payloads.decode_error,
]
JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | strategies.text(),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(), inner, max_size=3),
    max_leaves=6,
)


@hypothesis.given(strategies.data())
def test_decoders_raise_only_value_errors_when_fields_are_mutated(data: strategies.DataObject) -> None:
    """Any value that is decoded fits into the store: 63 bits, valid text."""
    rows = [GUILD, CHANNEL | {"permission_overwrites": [{"id": "5", "type": 0, "allow": "0", "deny": "0"}]}]
    row: dict[str, Any] = dict(data.draw(strategies.sampled_from(rows)))
    if data.draw(strategies.booleans()) and "permission_overwrites" in row:
        target: dict[str, Any] = dict(row["permission_overwrites"][0])
        row["permission_overwrites"] = [target]
    else:
        target = row
    for name in data.draw(strategies.lists(strategies.sampled_from(sorted(target)), min_size=1, max_size=3)):
        target[name] = data.draw(JSON)

    for decode in DECODERS:
        try:
            found = decode(json.dumps([row]).encode("utf-8", "surrogatepass"))
        except ValueError:
            continue
        for number in numbers_in(found):
            assert -(1 << 63) <= number < 1 << 63
        repr(found).encode()


@hypothesis.given(strategies.sampled_from([GUILD, CHANNEL]), strategies.data())
def test_decoders_raise_only_value_errors_when_bytes_are_mutated(
    row: dict[str, Any], data: strategies.DataObject
) -> None:
    """Truncated, spliced or changed bytes."""
    text = bytearray(body(row))
    at = data.draw(strategies.integers(0, len(text) - 1))
    text[at:] = data.draw(
        strategies.sampled_from([b"", bytes([data.draw(strategies.integers(0, 255))]), text[at + 1 :]])
    )

    for decode in DECODERS:
        try:
            decode(bytes(text))
        except ValueError:
            continue


def numbers_in(value: object) -> list[int]:
    """Return all integers in decoded values, at any depth."""
    if isinstance(value, int):
        return [value]
    if isinstance(value, list | tuple):
        return [number for item in value for number in numbers_in(item)]
    slots = getattr(type(value), "__dataclass_fields__", {})
    return [number for name in slots for number in numbers_in(getattr(value, name))]


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        (41_250, 41.25),
        (45_000.5, 45.0005),
        (1, 1.0),
        (0, 41.25),
        (-5, 41.25),
        (1e15, 300.0),
        ("41250", 41.25),
        (None, 41.25),
        (True, 41.25),
    ],
    ids=repr,
)
def test_the_pause_between_heartbeats_is_within_bounds(sent: object, seconds: float) -> None:
    """One of a millisecond would exceed the limit of the connection, one of years would never notice its end."""
    hello = json.dumps({"op": 10, "d": {"heartbeat_interval": sent}}).encode()

    assert dispatches.decode_frame(hello).data == {"heartbeat_interval": pytest.approx(1000 * seconds)}


@pytest.mark.parametrize(
    "odd",
    [
        {"shards": 0},
        {"shards": 10**9},
        {"max_concurrency": 0},
        {"max_concurrency": -1},
        {"remaining": -1},
        {"total": "1000"},
    ],
    ids=str,
)
def test_gateway_numbers_beyond_their_bounds_are_unreadable(odd: dict[str, object]) -> None:
    """The answer before is used; shards are never divided by zero."""
    answer: dict[str, object] = {"url": "wss://gateway", "shards": 1}
    limit: dict[str, object] = {"total": 1000, "remaining": 999, "max_concurrency": 1, "reset_after": 0}
    assert gateway_payload.decode(bytearray(msgspec.json.encode({**answer, "session_start_limit": limit}))).shards

    for fields in (answer, limit):
        fields.update({name: value for name, value in odd.items() if name in fields})

    with pytest.raises(ValueError, match=next(iter(odd))):
        gateway_payload.decode(bytearray(msgspec.json.encode({**answer, "session_start_limit": limit})))
