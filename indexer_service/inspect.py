"""`python -m indexer_service inspect guild|user ID`: prints what is stored, without secrets, for an operator."""

import json
import sys
from typing import Any

from indexing import settings
from indexing.domain import id_sets, model
from indexing.store import credentials, database, guilds, users


async def inspect(config: settings.MigrationConfig, kind: str, identity: int) -> int:
    """
    Print a guild with its channels, or a user with their rights, as JSON; returns 1 when nothing is stored.

    Raises:
        errors.StoreUnavailable: MongoDB does not answer.
    """
    async with database.open_database(config.mongo) as opened:
        found: Any = await (_guild(opened, identity) if kind == "guild" else _user(opened, identity))
    if found is None:
        sys.stderr.write(f"no {kind} {identity} is stored in documents\n")
        return 1
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0


async def _guild(opened: database.Database, guild_id: int) -> dict[str, Any] | None:
    found = (await guilds.Guilds(opened).load([guild_id])).get(guild_id)
    if found is None:
        return None
    guild = found.guild
    return {
        "guild_id": str(guild.guild_id),
        "name": guild.name,
        "access": guild.access.value,
        "reason": guild.reason,
        "version": found.version,
        "fetched_at": guild.fetched_at,
        "channels": [_channel(row) for row in found.channels],
        "gone": [{"channel_id": str(row.channel_id), "gone_at": row.gone_at} for row in found.gone],
    }


def _channel(row: model.Channel) -> dict[str, Any]:
    sets = ("roles_allow", "roles_deny", "members_allow", "members_deny")
    view = {name: [str(one) for one in id_sets.unpack_ids(getattr(row.overwrites, name))] for name in sets}
    return {
        "channel_id": str(row.channel_id),
        "type": row.kind,
        "name": row.name,
        "position": row.position,
        "parent_id": row.parent_id and str(row.parent_id),
        "view_channel": {name: ids for name, ids in view.items() if ids},
    }


async def _user(opened: database.Database, user_id: int) -> dict[str, Any] | None:
    # Credentials are not read, so no key is needed.
    found = await users.Users(opened, credentials.Vault((bytes(32),))).load(user_id)
    if found is None:
        return None
    return {
        "user_id": str(user_id),
        "version": found.version,
        "listed_at": found.listed_at,
        "pinned": [str(one) for one in found.preferences.pinned],
        "muted": [str(one) for one in found.preferences.muted],
        "guilds": [
            {
                "guild_id": str(row.guild_id),
                "owner": row.owner,
                "permissions": str(row.permissions),
                "role_ids": None if row.role_ids is None else [str(one) for one in row.role_ids],
                "roles_at": row.roles_at,
            }
            for row in found.memberships.values()
        ],
    }
