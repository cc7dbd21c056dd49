"""Changes of the world."""

import json

import msgspec
import pytest

from devstack.simulator import guilds, mutations, permissions, visibility
from tests.unit.devstack.simulator import bench


def change(sim: bench.Bench, op: str, **fields: object) -> dict[str, object]:
    """Apply one change."""
    return mutations.parse(json.dumps({"op": op, **fields}).encode())[0].apply(sim.state)


def listed(sim: bench.Bench, guild_id: int) -> dict[str, dict[str, object]]:
    """Return the channels that the bot sees."""
    return {channel["id"]: channel for channel in bench.document(sim.call(f"/guilds/{guild_id}/channels"))}


def found(sim: bench.Bench, guild_id: int) -> guilds.Guild:
    """Return a guild that exists."""
    guild = sim.state.world.guild(guild_id)
    assert guild is not None
    return guild


def test_a_channel_is_listed_between_its_addition_and_removal(sim: bench.Bench) -> None:
    """The channel list shows the new channel, and no longer shows the removed one."""
    guild = sim.guild(bot=True)
    before = listed(sim, guild)

    made = str(change(sim, "add_channel", guild=str(guild), name="fresh", type=15)["channel"])
    added = listed(sim, guild)
    change(sim, "remove_channel", guild=str(guild), channel=made)

    assert added.keys() - before.keys() == {made}
    assert (added[made]["name"], added[made]["type"]) == ("fresh", 15)
    assert listed(sim, guild) == before


def test_the_channel_list_shows_changes_of_a_channel(sim: bench.Bench) -> None:
    """The name changes, and a message makes the channel the most recently active one."""
    guild = sim.guild(bot=True)
    before = listed(sim, guild)
    channel = next(key for key, shown in before.items() if shown["type"] == 0)

    change(sim, "change_channel", guild=str(guild), channel=channel, name="renamed", message=True)
    after = listed(sim, guild)

    assert after[channel]["name"] == "renamed"
    newest = max(int(str(shown.get("last_message_id") or 0)) for shown in after.values())
    assert str(newest) == after[channel]["last_message_id"]


def test_a_channel_can_be_hidden_from_the_bot(sim: bench.Bench) -> None:
    """A hidden channel is missing in the bot's list only; unhiding restores it."""
    guild = sim.guild(bot=True)
    seen = {channel.id for channel in visibility.visible_channels(sim.state.world, found(sim, guild), sim.user)}
    channel = next(key for key, shown in listed(sim, guild).items() if shown["type"] != 4 and int(key) in seen)

    change(sim, "change_channel", guild=str(guild), channel=channel, hidden=True)
    hidden = listed(sim, guild)
    truth = visibility.true_view(sim.state.world, found(sim, guild), sim.user)
    change(sim, "change_channel", guild=str(guild), channel=channel, hidden=False)

    assert channel not in hidden
    assert channel in truth["channels"]
    assert channel not in truth["indexable"]
    assert channel in listed(sim, guild)


def test_the_ground_truth_follows_permission_changes(sim: bench.Bench) -> None:
    """Overwrites, roles and ownership immediately change what the user sees."""
    guild = sim.guild(bot=True)
    change(sim, "change_role", guild=str(guild), role=str(guild), permissions=str(permissions.VIEW_CHANNEL))
    change(sim, "change_guild", guild=str(guild), owner="1")
    change(sim, "change_member", guild=str(guild), user=str(sim.user), roles=[])
    denial = [{"id": str(guild), "type": 0, "deny": str(permissions.VIEW_CHANNEL)}]
    made = str(change(sim, "add_channel", guild=str(guild), overwrites=denial)["channel"])

    def seen() -> list[str]:
        shown: list[str] = visibility.true_view(sim.state.world, found(sim, guild), sim.user)["channels"]
        return shown

    private = made in seen()
    change(sim, "change_channel", guild=str(guild), channel=made, overwrites=[])
    opened = made in seen()
    change(sim, "change_channel", guild=str(guild), channel=made, overwrites=denial)
    change(sim, "change_guild", guild=str(guild), owner=str(sim.user))

    assert (private, opened, made in seen()) == (False, True, True)


def test_the_bot_can_be_removed_and_installed(sim: bench.Bench) -> None:
    """Without the bot, its calls fail with 50001 and its list omits the guild; the user's list keeps it."""
    guild = sim.guild(bot=True)

    change(sim, "change_guild", guild=str(guild), bot=False, name="Renamed")
    refused = sim.call(f"/guilds/{guild}/channels")
    without = guild in sim.state.world.bot_guilds()
    change(sim, "change_guild", guild=str(guild), bot=True)

    assert refused.status == 403
    assert not without
    assert guild in sim.state.world.bot_guilds()
    assert "Renamed" in {shown["name"] for shown in bench.document(sim.as_user("/users/@me/guilds"))}


def test_a_user_can_leave_and_join(sim: bench.Bench) -> None:
    """A user who left a guild does not list it and is no member; joining restores both."""
    guild = sim.guild(bot=True)

    change(sim, "change_member", guild=str(guild), user=str(sim.user), joined=False)
    left = guild in sim.state.world.guilds_of(sim.user)
    member = sim.call(f"/guilds/{guild}/members/{sim.user}")
    change(sim, "change_member", guild=str(guild), user=str(sim.user), joined=True)

    assert not left
    assert member.status == 404
    assert guild in sim.state.world.guilds_of(sim.user)


def test_tokens_can_be_expired_revoked_and_granted_again(sim: bench.Bench) -> None:
    """Expiry keeps the refresh token valid, revocation does not, consent creates a new pair."""
    change(sim, "expire_token", user=str(sim.user))
    expired = sim.as_user("/users/@me").status
    pair = sim.state.tokens.refresh(f"sim-refresh-{sim.user}-0")
    change(sim, "revoke_grant", user=str(sim.user))
    revoked = sim.state.tokens.refresh(f"sim-refresh-{sim.user}-1")
    fresh = change(sim, "consent", user=str(sim.user))

    assert expired == 401
    assert pair is not None
    assert revoked is None
    assert sim.as_user("/users/@me", str(fresh["token"])).status == 200


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("add_channel", {"guild": "1"}),
        ("remove_channel", {"guild": "{guild}", "channel": "1"}),
        ("change_role", {"guild": "{guild}", "role": "1", "permissions": "0"}),
        ("change_member", {"guild": "{guild}", "user": "1", "joined": True}),
    ],
)
def test_a_change_is_rejected_when_its_object_does_not_exist(sim: bench.Bench, op: str, fields: dict[str, str]) -> None:
    """The error names the unknown guild, channel, role or user."""
    filled = {key: str(sim.guild(bot=True)) if value == "{guild}" else value for key, value in fields.items()}

    with pytest.raises(mutations.InvalidChange, match="no "):
        change(sim, op, **filled)


@pytest.mark.parametrize("body", [b'{"op": "explode"}', b'{"guild": "1"}', b'[{"op": "expire_token", "user": "x"}]'])
def test_a_change_is_rejected_when_it_is_invalid(body: bytes) -> None:
    """Unknown operations, missing fields and invalid ids are rejected."""
    with pytest.raises(msgspec.ValidationError):
        mutations.parse(body)
