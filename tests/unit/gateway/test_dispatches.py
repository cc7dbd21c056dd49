"""Frames and events of the Gateway, from the JSON that Discord documents."""

import collections
import json

import msgspec
import pytest

from indexing.domain import feed, permissions
from indexing.gateway import dispatches, protocol

BOT = 9
GUILD = 4_194_304_000
VIEW = permissions.VIEW_CHANNEL


def decoded(name: str, data: object) -> feed.Event | feed.MemberChanged | None:
    """Return what an event changes."""
    return dispatches.decode_event(name, msgspec.Raw(json.dumps(data).encode()), BOT, collections.Counter())


def role(role_id: int, bits: int) -> dict[str, object]:
    """Return a role."""
    return {"id": str(role_id), "name": "r", "permissions": str(bits), "color": 0}


CHANNEL = {"id": "5", "type": 0, "name": "general", "position": 3, "permission_overwrites": []}
CREATED = {
    "id": str(GUILD),
    "name": "g",
    "icon": None,
    "owner_id": "8",
    "member_count": 12,
    "roles": [role(GUILD, VIEW | 1 << 40), role(77, 0)],
    "channels": [CHANNEL],
    "members": [{"user": {"id": "6"}, "roles": []}, {"user": {"id": str(BOT)}, "roles": ["77"]}],
    "threads": [{"id": "x"}],
}


def test_a_frame_keeps_its_data_encoded_when_it_is_an_event() -> None:
    """Most events are dropped by their name, so that nothing of them is decoded."""
    frame = dispatches.decode_frame(b'{"op":0,"s":3,"t":"TYPING_START","d":{"a":[1]}}')

    assert (frame.op, frame.seq, frame.name, bytes(frame.data)) == (0, 3, "TYPING_START", b'{"a":[1]}')


def test_ready_names_the_session_the_bot_and_its_guilds() -> None:
    """Of READY nothing else is used."""
    data = {
        "session_id": "s",
        "resume_gateway_url": "wss://r",
        "user": {"id": "9"},
        "guilds": [{"id": "1", "unavailable": True}],
    }
    frame = dispatches.decode_frame(json.dumps({"op": 0, "s": 1, "t": "READY", "d": data}).encode())

    assert frame.data == {"session_id": "s", "resume_gateway_url": "wss://r", "bot_id": 9, "guild_ids": [1]}


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"op":"a"}', b'{"op":0,"s":1,"t":"READY","d":{}}', b"[" * 9_999])
def test_a_frame_is_refused_when_it_is_not_as_documented(text: bytes) -> None:
    """Nothing says then what was missed, so the session must end."""
    with pytest.raises(dispatches.UnreadableFrame):
        dispatches.decode_frame(text)


def test_a_created_guild_has_its_channels_and_what_the_bot_may_view() -> None:
    """Permissions are reduced to those that decide about viewing; others' members and threads are not kept."""
    event = decoded("GUILD_CREATE", CREATED)

    assert isinstance(event, feed.GuildCreated)
    assert (event.guild_id, event.name, event.member_count) == (GUILD, "g", 12)
    assert [(row.channel_id, row.name, row.position) for row in event.channels] == [(5, "general", 3)]
    assert event.sight == feed.BotSight(BOT, 8, {GUILD: VIEW, 77: 0}, (77,))


@pytest.mark.parametrize(
    "missing",
    [{"members": []}, {"roles": None}, {"members": [{"roles": ["77"]}]}, {"members": [{"user": {"id": "9"}}]}],
    ids=["no members", "no roles", "nobody named", "no roles of the bot"],
)
def test_a_created_guild_has_no_sight_when_the_bots_roles_are_unknown(missing: dict[str, object]) -> None:
    """Such a guild is not fed: what the bot may view could not be computed."""
    event = decoded("GUILD_CREATE", CREATED | missing)

    assert isinstance(event, feed.GuildCreated)
    assert event.sight is None


OF_GUILD = {"guild_id": str(GUILD)}
MEMBER = OF_GUILD | {"user": {"id": "6"}, "roles": ["78", "77"]}


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("GUILD_CREATE", {"id": str(GUILD), "unavailable": True}, feed.GuildUnavailable(GUILD)),
        ("GUILD_DELETE", {"id": str(GUILD), "unavailable": True}, feed.GuildUnavailable(GUILD)),
        ("GUILD_DELETE", {"id": str(GUILD)}, feed.BotRemoved(GUILD)),
        (
            "GUILD_UPDATE",
            {"id": str(GUILD), "name": "h", "icon": "i", "owner_id": "8", "roles": [role(77, VIEW)]},
            feed.GuildChanged(GUILD, "h", "i", 8, {77: VIEW}),
        ),
        ("GUILD_ROLE_UPDATE", OF_GUILD | {"role": role(77, VIEW)}, feed.RoleChanged(GUILD, 77, VIEW)),
        ("GUILD_ROLE_DELETE", OF_GUILD | {"role_id": "77"}, feed.RoleChanged(GUILD, 77, None)),
        ("CHANNEL_DELETE", CHANNEL | OF_GUILD, feed.ChannelDeleted(GUILD, 5, 0)),
        ("GUILD_MEMBER_UPDATE", MEMBER | {"user": {"id": "9"}}, feed.BotRolesChanged(GUILD, (78, 77))),
        ("GUILD_MEMBER_UPDATE", MEMBER, feed.MemberChanged(GUILD, 6, (77, 78))),
        ("GUILD_MEMBER_ADD", MEMBER, feed.MemberChanged(GUILD, 6, (77, 78))),
        ("GUILD_MEMBER_REMOVE", OF_GUILD | {"user": {"id": "6"}}, feed.MemberChanged(GUILD, 6, None)),
        ("GUILD_MEMBER_REMOVE", OF_GUILD | {"user": {"id": "9"}}, None),
        ("GUILD_MEMBER_ADD", OF_GUILD | {"user": 5}, None),
        ("THREAD_CREATE", {"broken": True}, None),
        ("CHANNEL_UPDATE", OF_GUILD | {"id": "5", "type": "odd"}, feed.Unreadable(GUILD)),
        ("GUILD_ROLE_CREATE", OF_GUILD | {"role": {"id": "77", "permissions": "all"}}, feed.Unreadable(GUILD)),
    ],
)
def test_an_event_is_what_it_changes(name: str, data: object, expected: feed.Event | feed.MemberChanged | None) -> None:
    """An odd event costs its guild only, and one of a member nothing."""
    assert decoded(name, data) == expected


def test_a_redacted_channel_is_known_as_such() -> None:
    """Only its id, type, position and parent are true (change log of 2026-08-12)."""
    hidden = {"id": "5", "type": 0, "position": 3, "name": "___hidden___", "flags": 1 << 17}
    event = decoded("CHANNEL_UPDATE", hidden | OF_GUILD)

    assert isinstance(event, feed.ChannelChanged)
    assert event.channel.redacted


def test_an_event_is_refused_when_it_does_not_name_its_guild() -> None:
    """Nothing says which guild must be read by REST, so the session must end."""
    with pytest.raises(dispatches.UnreadableFrame):
        decoded("CHANNEL_UPDATE", {"type": "odd"})


def test_an_answer_to_op_8_has_roles_and_who_is_no_member() -> None:
    """Ids arrive as text, and those that were not found also as numbers."""
    chunk = OF_GUILD | {"nonce": "n", "members": [{"user": {"id": "6"}, "roles": ["77"]}], "not_found": ["4", 3]}

    found = dispatches.decode_chunk(msgspec.Raw(json.dumps(chunk).encode()))

    assert found == ("n", {6: (77,), 4: None, 3: None})
    assert dispatches.decode_chunk(msgspec.Raw(b'{"members":1}')) is None


def test_a_sent_frame_has_op_and_data_only() -> None:
    """As documented for what a client sends."""
    assert json.loads(dispatches.encode_frame(protocol.Send(1, 7))) == {"op": 1, "d": 7}
