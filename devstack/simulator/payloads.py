"""The API's JSON objects (developers/resources/user.mdx, channel.mdx and guild.mdx, read 2026-08-06)."""

import datetime
from typing import Any

from devstack.simulator import channels, guilds, permissions, world

Json = dict[str, Any]


def user(user_id: int, name: str, *, bot: bool = False) -> Json:
    """Return a user object."""
    shown: Json = {
        "id": str(user_id),
        "username": name,
        "discriminator": "0",
        "global_name": None if bot else name.replace("_", " ").title(),
        "avatar": None,
        "public_flags": 0,
        "flags": 0,
    }
    return shown | ({"bot": True} if bot else {"locale": "en-US", "mfa_enabled": True, "premium_type": 0})


def authorization(application: str, scopes: list[str], expires_ms: int, shown_user: Json | None) -> Json:
    """Return the answer of `GET /oauth2/@me`; `user` only with the scope `identify` (topics/oauth2.mdx)."""
    shown: Json = {
        "application": {
            "id": application,
            "name": application,
            "icon": None,
            "description": "",
            "bot_public": True,
            "bot_require_code_grant": False,
            "verify_key": "0" * 64,
        },
        "scopes": scopes,
        "expires": _iso(expires_ms),
    }
    return shown if shown_user is None else shown | {"user": shown_user}


def partial_guild(guild: guilds.Guild, viewer: permissions.Viewer, *, counts: bool) -> Json:
    """Return a guild as in its member's guild list; `permissions` ignores overwrites."""
    shown: Json = {
        "id": str(guild.id),
        "name": guild.name,
        "icon": guild.icon,
        "banner": None,
        "owner": viewer.owner,
        "permissions": str(permissions.guild_permissions(viewer, guild.role_permissions())),
        "features": guild.features,
    }
    if counts:
        shown |= {"approximate_member_count": guild.members, "approximate_presence_count": guild.online}
    return shown


def member(found: world.Member, shown_user: Json, *, now_ms: int) -> Json:
    """Return a guild member; @everyone is not among the roles."""
    until = _iso(now_ms + 7 * 86_400_000) if found.timed_out else None
    return {
        "user": shown_user,
        "nick": found.nick,
        "avatar": None,
        "banner": None,
        "roles": [str(role) for role in sorted(found.roles)],
        "joined_at": _iso(found.joined_ms),
        "premium_since": None,
        "deaf": False,
        "mute": False,
        "flags": 0,
        "pending": False,
        "communication_disabled_until": until,
    }


def channel(shown: channels.Channel, guild_id: int) -> Json:
    """Return a guild channel."""
    return {
        "id": str(shown.id),
        "type": shown.type,
        "guild_id": str(guild_id),
        "name": shown.name,
        "position": shown.position,
        "parent_id": None if shown.parent_id is None else str(shown.parent_id),
        "permission_overwrites": [_overwrite(overwrite) for overwrite in shown.overwrites],
        "flags": 0,
    } | _by_type(shown)


def _by_type(shown: channels.Channel) -> Json:
    if shown.type == channels.CATEGORY:
        return {}
    last = None if shown.last_message_id is None else str(shown.last_message_id)
    common: Json = {"last_message_id": last, "nsfw": shown.nsfw, "rate_limit_per_user": 0}
    if shown.type in {channels.VOICE, channels.STAGE}:
        return common | {"bitrate": 64000, "user_limit": 0, "rtc_region": None}
    if shown.type in {channels.FORUM, channels.MEDIA}:
        tag = {"id": str(shown.id + 1), "name": "solved", "moderated": False, "emoji_id": None, "emoji_name": "✅"}
        forum = {"available_tags": [tag], "default_reaction_emoji": None, "default_sort_order": None}
        return common | forum | {"topic": shown.topic, "default_forum_layout": 0}
    if shown.type == channels.FUTURE:
        return {"last_message_id": last, "shape": {"unheard": ["of"]}}
    return common | {"topic": shown.topic, "last_pin_timestamp": None}


def _overwrite(overwrite: permissions.Overwrite) -> Json:
    return {
        "id": str(overwrite.id),
        "type": overwrite.kind,
        "allow": str(overwrite.allow),
        "deny": str(overwrite.deny),
    }


def _iso(unix_ms: int) -> str:
    return datetime.datetime.fromtimestamp(unix_ms / 1000, tz=datetime.UTC).isoformat(timespec="microseconds")
