"""Changes of the world: what users and administrators do to guilds, channels and grants."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from devstack.simulator import channels, guilds, permissions, snowflakes, state, tokens, world

Snowflake = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,20}$")]
Bits = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,30}$")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class InvalidChange(Exception):
    """The change refers to something that does not exist."""


class OverwriteSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A permission overwrite in Discord's format: `type` 0 role, 1 member; decimal bits."""

    id: Snowflake
    type: Annotated[int, msgspec.Meta(ge=0, le=1)]
    allow: Bits = "0"
    deny: Bits = "0"

    def to_overwrite(self) -> permissions.Overwrite:
        """Return the overwrite in the world's format."""
        return permissions.Overwrite(int(self.id), self.type, int(self.allow), int(self.deny))


class _Change(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="op"):
    def apply(self, simulator: state.SimulatorState) -> dict[str, Any]:
        raise NotImplementedError


class AddChannel(_Change, tag="add_channel"):
    """Create a channel; answers its id."""

    guild: Snowflake
    name: Name = "new-channel"
    type: Annotated[int, msgspec.Meta(ge=0, le=99)] = channels.TEXT
    parent: Snowflake | None = None
    overwrites: Sequence[OverwriteSpec] = ()

    def apply(self, simulator: state.SimulatorState) -> dict[str, Any]:
        """Apply the change."""
        all_channels = simulator.world.editable(_guild(simulator.world, self.guild))
        made = channels.Channel(simulator.world.fresh_id(), self.type, self.name, len(all_channels))
        made.parent_id = None if self.parent is None else int(self.parent)
        made.overwrites = [overwrite.to_overwrite() for overwrite in self.overwrites]
        all_channels.append(made)
        return {"channel": str(made.id)}


class RemoveChannel(_Change, tag="remove_channel"):
    """Delete a channel; children of a category stay, without a parent."""

    guild: Snowflake
    channel: Snowflake

    def apply(self, simulator: state.SimulatorState) -> dict[str, Any]:
        """Apply the change."""
        guild = _guild(simulator.world, self.guild)
        gone = _channel(simulator.world, guild, self.channel)
        all_channels = simulator.world.editable(guild)
        all_channels.remove(gone)
        for channel in all_channels:
            if channel.parent_id == gone.id:
                channel.parent_id = None
        return {}


class ChangeChannel(_Change, tag="change_channel"):
    """
    Change a channel's name, overwrites or visibility to the bot, or add a message now; omitted fields do not change.

    `hidden` hides the channel from the bot regardless of overwrites and administrator permission.
    """

    guild: Snowflake
    channel: Snowflake
    name: Name | None = None
    overwrites: Sequence[OverwriteSpec] | None = None
    hidden: bool | None = None
    message: bool = False

    def apply(self, simulator: state.SimulatorState) -> dict[str, Any]:
        """Apply the change."""
        guild = _guild(simulator.world, self.guild)
        simulator.world.editable(guild)
        channel = _channel(simulator.world, guild, self.channel)
        if self.name is not None:
            channel.name = self.name
        if self.overwrites is not None:
            channel.overwrites = [overwrite.to_overwrite() for overwrite in self.overwrites]
        if self.hidden is not None:
            channel.hidden = self.hidden
        if self.message:
            channel.last_message_id = snowflakes.from_ms(
                simulator.world.spec.now_ms + 60_000, (channel.last_message_id or 0) + 1
            )
        return {}


class ChangeGuild(_Change, tag="change_guild"):
    """Change a guild's name, owner, or whether the bot is installed; omitted fields do not change."""

    guild: Snowflake
    name: Name | None = None
    owner: Snowflake | None = None
    bot: bool | None = None

    def apply(self, simulator: state.SimulatorState) -> dict[str, Any]:
        """Apply the change."""
        guild = _guild(simulator.world, self.guild)
        guild.name = self.name or guild.name
        guild.owner_id = guild.owner_id if self.owner is None else int(self.owner)
        if self.bot is not None:
            simulator.world.set_bot(guild, present=self.bot)
        return {}


class ChangeRole(_Change, tag="change_role"):
    """Change a role's permissions; the role with the guild's id is @everyone."""

    guild: Snowflake
    role: Snowflake
    permissions: Bits

    def apply(self, simulator: state.SimulatorState) -> dict[str, Any]:
        """Apply the change."""
        guild = _guild(simulator.world, self.guild)
        role = next((role for role in guild.roles if role.id == int(self.role)), None)
        if role is None:
            raise InvalidChange(f"guild {self.guild} has no role {self.role}")
        role.permissions = int(self.permissions)
        guild.version += 1
        return {}


class ChangeMember(_Change, tag="change_member"):
    """Add or remove a member, or change their roles; omitted fields do not change."""

    guild: Snowflake
    user: Snowflake
    joined: bool | None = None
    roles: Sequence[Snowflake] | None = None

    def apply(self, simulator: state.SimulatorState) -> dict[str, Any]:
        """Apply the change."""
        guild, user_id = _guild(simulator.world, self.guild), _user(simulator.world, self.user)
        if self.joined is not None:
            simulator.world.set_joined(user_id, guild, joined=self.joined)
        if self.roles is not None:
            simulator.world.set_roles(user_id, guild, frozenset(int(role) for role in self.roles))
        return {}


class ExpireToken(_Change, tag="expire_token"):
    """Expire the user's access tokens; the refresh token stays valid."""

    user: Snowflake

    def apply(self, simulator: state.SimulatorState) -> dict[str, Any]:
        """Apply the change."""
        simulator.tokens.expire(_user(simulator.world, self.user))
        return {}


class RevokeGrant(_Change, tag="revoke_grant"):
    """Revoke the user's grant with all its tokens."""

    user: Snowflake

    def apply(self, simulator: state.SimulatorState) -> dict[str, Any]:
        """Apply the change."""
        simulator.tokens.revoke(_user(simulator.world, self.user))
        return {}


class Consent(_Change, tag="consent"):
    """Grant consent again; answers the new token pair."""

    user: Snowflake
    scopes: Sequence[str] = tuple(sorted(tokens.ALL_SCOPES))

    def apply(self, simulator: state.SimulatorState) -> dict[str, Any]:
        """Apply the change."""
        pair = simulator.tokens.consent(_user(simulator.world, self.user), frozenset(self.scopes))
        return {"token": pair.access, "refresh_token": pair.refresh}


Change = (
    AddChannel
    | RemoveChannel
    | ChangeChannel
    | ChangeGuild
    | ChangeRole
    | ChangeMember
    | ExpireToken
    | RevokeGrant
    | Consent
)


def apply(simulator: state.SimulatorState, change: Change) -> dict[str, Any]:
    """Apply a change, and send its events to the Gateway's sessions; returns the answer."""
    guild_id = getattr(change, "guild", None)
    if guild_id is None:
        return change.apply(simulator)
    changed = simulator.gateway.changing(int(guild_id))
    answer = change.apply(simulator)
    changed()
    return answer


def parse(body: bytes) -> list[Change]:
    """
    Parse one change or a list of changes.

    Raises:
        msgspec.ValidationError: A change is invalid; the text names the field.
        msgspec.DecodeError: The body is not JSON.
    """
    if body.lstrip()[:1] == b"{":
        return [msgspec.json.decode(body, type=Change)]
    return msgspec.json.decode(body, type=list[Change])


def _guild(simulated: world.World, guild_id: str) -> guilds.Guild:
    guild = simulated.guild(int(guild_id))
    if guild is None:
        raise InvalidChange(f"there is no guild {guild_id}")
    return guild


def _user(simulated: world.World, user_id: str) -> int:
    if simulated.user_name(int(user_id)) is None:
        raise InvalidChange(f"there is no user {user_id}")
    return int(user_id)


def _channel(simulated: world.World, guild: guilds.Guild, channel_id: str) -> channels.Channel:
    for channel in simulated.channels_of(guild):
        if channel.id == int(channel_id):
            return channel
    raise InvalidChange(f"guild {guild.id} has no channel {channel_id}")
