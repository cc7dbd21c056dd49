"""Reads guilds from their documents."""

import dataclasses
from typing import Any

from indexing.domain import model
from indexing.store import database, guild_codec, shards


def indexed_of(row: database.Document, proven: shards.ProofTable = shards.NO_PROOFS) -> model.IndexedGuild:
    """Return the guild of a whole document; without a valid listing it has no channels."""
    guild = guild_of(row, proven)
    packed: Any = row.get("channels")
    if guild.fetched_at is None or not packed:
        return model.IndexedGuild(guild, row.get("version", 0), ())
    try:
        channels, gone = guild_codec.decode(guild.guild_id, packed, row["activity"])
    except guild_codec.NewerFormat:
        # Not shown until this release fetches it; the other guilds of the page are.
        return model.IndexedGuild(dataclasses.replace(guild, fetched_at=None), row.get("version", 0), ())
    return model.IndexedGuild(guild, row.get("version", 0), channels, gone)


def known_at(row: database.Document, proven: shards.ProofTable) -> float | None:
    """Return the moment as of which a guild's channels are known: of the last listing, or of the feed's proof."""
    fetched_at: float | None = row.get("fetched_at")
    proven_at = proven.proven_at(row)
    return fetched_at if fetched_at is None or proven_at is None else max(fetched_at, proven_at)


def guild_of(row: database.Document, proven: shards.ProofTable = shards.NO_PROOFS) -> model.Guild:
    """Return the guild of a document."""
    return model.Guild(
        guild_id=int(row["_id"]),
        name=row.get("name", ""),
        icon=row.get("icon"),
        member_count=row.get("people"),
        access=model.Access(row.get("access", "UNKNOWN")),
        fetched_at=known_at(row, proven),
        fed_by=proven.feeding_shard(row),
        newest_message_id=row.get("newest_message_id"),
        channel_count=row.get("channel_count", 0),
        reason=row.get("error", ""),
        retry_at=row.get("retry_at", 0.0),
        lease_until=row.get("lease_until", 0.0),
        refusals=row.get("refusals", 0),
        refused_at=row.get("refused_at", 0.0),
        last_viewed_at=row.get("looked_at"),
        demand=row.get("waiting", 0),
        schedule=model.Schedule(
            next_at=row.get("next_refresh_at", 0.0),
            interval=row.get("interval", 0.0),
            changed_at=row.get("changed_at"),
            fingerprint=row.get("fingerprint") or "",
            failures=row.get("failures", 0),
        ),
    )
