"""Values for tests, with defaults for fields that a test does not set."""

import dataclasses
from typing import Any

from indexing.domain import model, ports
from tests import clockwork

USER = 200_000_000_000_000_001
GUILD = 300_000_000_000_000_001
VIEW = 1 << 10
ADMINISTRATOR = 1 << 3


def snowflake(at: float) -> int:
    """Return an id that was created at that epoch second."""
    return int((at - model.DISCORD_EPOCH) * 1000) << 22


def credential(**changes: Any) -> ports.Credential:  # noqa: ANN401 -- any field
    """Return a credential with all scopes that we use."""
    scopes = ("identify", "guilds", "guilds.members.read")
    return dataclasses.replace(ports.Credential("access", "refresh", None, scopes), **changes)


def user_guild(guild_id: int = GUILD, **changes: Any) -> model.UserGuild:  # noqa: ANN401 -- any field
    """Return a row of a guild list; its member may view channels."""
    row = model.UserGuild(
        guild_id=guild_id,
        name=f"guild {guild_id}",
        icon=None,
        owner=False,
        permissions=VIEW,
        member_count=None,
        presence_count=None,
    )
    return dataclasses.replace(row, **changes)


def channel(channel_id: int, guild_id: int = GUILD, **changes: Any) -> model.Channel:  # noqa: ANN401 -- any field
    """Return a text channel that every member may view."""
    row = model.Channel(
        channel_id=channel_id,
        guild_id=guild_id,
        kind=0,
        name=f"channel {channel_id}",
        topic=None,
        position=0,
        parent_id=None,
        nsfw=False,
        flags=0,
        last_message_id=None,
        overwrites=model.NO_OVERWRITES,
    )
    if not isinstance(changes.get("overwrites", model.NO_OVERWRITES), model.Overwrites):
        changes["overwrites"] = model.Overwrites.of(changes["overwrites"])
    return dataclasses.replace(row, **changes)


def denied(target_id: int, kind: int = 0) -> model.Overwrite:
    """Return an overwrite that hides a channel from a role, or with *kind* 1 from a member."""
    return model.Overwrite(target_id, kind, allow=0, deny=VIEW)


def allowed(target_id: int, kind: int = 0) -> model.Overwrite:
    """Return an overwrite that shows a channel to a role, or with *kind* 1 to a member."""
    return model.Overwrite(target_id, kind, allow=VIEW, deny=0)


def membership(**changes: Any) -> model.Membership:  # noqa: ANN401 -- any field
    """Return the membership of a user with VIEW_CHANNEL and unknown roles."""
    row = model.Membership(
        user_id=USER,
        guild_id=GUILD,
        owner=False,
        permissions=VIEW,
        role_ids=None,
        roles_at=None,
    )
    return dataclasses.replace(row, **changes)


async def stored_membership(users: ports.Users, user_id: int = USER, guild_id: int = GUILD) -> model.Membership | None:
    """Return the present membership of a user in a guild."""
    user = await users.load(user_id)
    return user.memberships.get(guild_id) if user else None


def guild(**changes: Any) -> model.Guild:  # noqa: ANN401 -- any field
    """Return a guild that has our bot and was never fetched."""
    row = model.Guild(
        guild_id=GUILD,
        name="guild",
        icon=None,
        member_count=None,
        access=model.Access.INSTALLED,
        fetched_at=None,
        newest_message_id=None,
        channel_count=0,
        reason="",
        retry_at=0.0,
        lease_until=0.0,
    )
    return dataclasses.replace(row, **changes)


def task(guild_id: int = GUILD, **changes: Any) -> model.GuildTask:  # noqa: ANN401 -- any field
    """Return a task before its first attempt."""
    row = model.GuildTask(
        guild_id=guild_id,
        name=f"guild {guild_id}",
        state=model.TaskState.QUEUED,
        step=model.Step.CHANNELS,
        position=0,
        attempts=0,
        retry_at=0.0,
        reason="",
        channel_count=None,
        revision=1,
    )
    return dataclasses.replace(row, **changes)


def job(job_id: str = "a" * 32, **changes: Any) -> model.Job:  # noqa: ANN401 -- any field
    """Return a job before its first turn."""
    now = clockwork.START
    return dataclasses.replace(model.new_job(job_id, USER, now=now, due=now + 2.0, force=False), **changes)


RICH_CHANNEL = channel(
    11,
    kind=15,
    name="général 🎉",
    topic="what is said here",
    position=7,
    parent_id=10,
    nsfw=True,
    flags=1 << 4,
    last_message_id=(1 << 62) + 1,
    overwrites=(denied(GUILD), allowed(USER, 1), model.Overwrite(5, 0, (1 << 63) - 1, 0)),
)
"""A channel with another value than the default in every field."""
