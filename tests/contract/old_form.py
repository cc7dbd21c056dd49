"""A database as the release before writes it, built without that release's code."""

import collections
import random
from typing import Any

from indexing.domain import job_updates, reasons
from indexing.store import database
from tests import clockwork

NOW = clockwork.START
GUILDS, USERS, JOBS = 300, 120, 60
FIRST_GUILD, FIRST_USER = 3_000, 9_000
VIEW, SPEAK = 1 << 10, 1 << 21


async def fill(db: database.Database, seed: int = 1) -> None:
    """Store guilds in all states, users with and without roles, and running and ended jobs."""
    rng = random.Random(seed)
    made: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for guild_id in range(FIRST_GUILD, FIRST_GUILD + GUILDS):
        head, rows = guild(guild_id, rng)
        made["guilds"].append(head)
        made["channels"] += rows
    for user_id in range(FIRST_USER, FIRST_USER + USERS):
        made["users"].append(user(user_id, rng))
        made["memberships"] += [
            membership(user_id, place, rng) for place in rng.sample(range(GUILDS), rng.randrange(25))
        ]
    for number in range(JOBS):
        head, rows = job(number, rng)
        made["jobs"].append(head)
        made["units"] += rows
    for name, rows in made.items():
        await db[name].insert_many(rows)


def guild(guild_id: int, rng: random.Random) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a guild and its channels: never fetched, fetched, or hidden because our bot was removed."""
    head = {
        "_id": guild_id,
        "name": f"guild {guild_id}",
        "icon": rng.choice([None, "a1"]),
        "people": rng.choice([None, 250]),
        "access": "INSTALLED",
        "fence": 0,
        "lease_until": 0.0,
        "fetched_at": None,
        "looked_at": rng.choice([None, NOW - 90]),
        "next_refresh_at": 0.0,
    }
    state = rng.choice(["unread", "fetched", "fetched", "fetched", "removed"])
    if state == "unread":
        return head, []
    rows = [channel(guild_id, number, rng) for number in range(rng.randrange(8))]
    if state == "removed":
        gone = {"gone_at": NOW - 50, "gone_why": reasons.BOT_REMOVED}
        removed = {"access": "NOT_INSTALLED", "error": reasons.BOT_REMOVED, "fence": 4, "channel_count": 0}
        return {**head, **removed, "fingerprint": "f" * 32, "changed_at": NOW - 99}, [{**row, **gone} for row in rows]
    shown = [row for row in rows if row["gone_at"] is None]
    fetched = {
        "fence": rng.randrange(1, 9),
        "fetched_at": NOW - rng.randrange(9_000),
        "channel_count": len(shown),
        "newest_message_id": max((row["last_message_id"] or 0 for row in shown), default=0) or None,
        "error": "",
        "retry_at": 0.0,
        "refusals": 0,
        "refused_at": 0.0,
        "waiting": rng.randrange(3),
        "next_refresh_at": rng.choice([0.0, NOW + 900]),
        "interval": 1800.0,
        "changed_at": NOW - 9_999,
        "fingerprint": f"{rng.getrandbits(128):032x}",
        "failures": 0,
    }
    return {**head, **fetched}, rows


def channel(guild_id: int, number: int, rng: random.Random) -> dict[str, Any]:
    """Return a channel, present or gone, with overwrites of all kinds."""
    gone_at = rng.choice([None, None, None, NOW - rng.randrange(99)])
    return {
        "_id": guild_id * 100 + number,
        "guild_id": guild_id,
        "kind": rng.choice([0, 2, 4, 15, 999]),
        "name": f"größer {number} 🎉",
        "topic": rng.choice([None, "", "what is said here"]),
        "position": rng.randrange(5),
        "parent_id": rng.choice([None, guild_id * 100]),
        "nsfw": rng.random() < 0.5,
        "flags": rng.choice([0, 16]),
        "last_message_id": rng.choice([None, (1 << 62) + number]),
        "overwrites": [
            [rng.choice([guild_id, 5, 6, 7]) + kind, kind, rng.choice([0, VIEW, SPEAK]), rng.choice([0, VIEW | SPEAK])]
            for kind in rng.choices((0, 1), k=rng.randrange(4))
        ],
        "fence": 1,
        "gone_at": gone_at,
        **({} if gone_at is None else {"gone_why": reasons.HIDDEN_OR_DELETED}),
    }


def user(user_id: int, rng: random.Random) -> dict[str, Any]:
    """Return a user."""
    row = {"_id": user_id, "credential": b"sealed", "scopes": ["guilds"], "expires_at": None, "reauth": False}
    wishes = rng.choice([{}, {"pinned": [FIRST_GUILD + 7], "muted": []}])
    return {**row, **wishes, **rng.choice([{}, {"listed_at": NOW - 500}])}


def membership(user_id: int, place: int, rng: random.Random) -> dict[str, Any]:
    """Return a membership: with roles, without, with roles that are not believed any more, or ended."""
    guild_id = FIRST_GUILD + place
    row = {
        "_id": f"{user_id}:{guild_id}",
        "user_id": user_id,
        "guild_id": guild_id,
        "owner": rng.random() < 0.1,
        "permissions": rng.choice([0, VIEW, (1 << 50) + 8]),
        "left_at": None,
    }
    roles = {"role_ids": rng.sample(range(40), rng.randrange(5))}
    kinds: list[dict[str, Any]] = [
        {},
        {**roles, "roles_at": NOW - 40, "looked_at": NOW - 20},
        {**roles, "roles_at": None},
        {"left_at": NOW - 30, "role_ids": None, "roles_at": None, "looked_at": None},
    ]
    return {**row, **rng.choice(kinds)}


def job(number: int, rng: random.Random) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a job and its tasks: not listed yet, running, or ended with or without open tasks."""
    job_id, user_id = f"{number:032x}", FIRST_USER + number
    state = rng.choice(["RUNNING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"])
    listed = rng.random() < 0.8
    head = {
        "_id": job_id,
        "user_id": user_id,
        "state": state,
        "active": state == "RUNNING",
        "force": rng.random() < 0.5,
        "turn": rng.randrange(4),
        "next_turn_at": NOW + 1,
        "listed": listed,
        "attempts": 0,
        "error": "REAUTH_REQUIRED" if state == "FAILED" else "",
        "created_at": NOW - number,
        "finished_at": None if state == "RUNNING" else NOW,
        "waiting_for": "",
        "waiting_until": 0.0,
        "waited_for": "",
        "unfinished": 0,
        "expires_at": None,
    }
    states = ["SUCCEEDED", "SKIPPED"] if state == "SUCCEEDED" else ["QUEUED", "RUNNING", "SUCCEEDED", "FAILED"]
    rows = [task(job_id, guild_id, position, rng.choice(states), rng) for position, guild_id in enumerate((5, 3, 9, 8))]
    return head, rows if listed else []


def task(job_id: str, guild_id: int, position: int, state: str, rng: random.Random) -> dict[str, Any]:
    """Return a guild task."""
    return {
        "_id": f"{job_id}:{guild_id}",
        "job_id": job_id,
        "guild_id": guild_id,
        "name": f"guild {guild_id}",
        "state": state,
        "step": rng.choice(["CHANNELS", "ROLES"]),
        "position": position,
        "score": 0.0,
        "attempts": rng.randrange(3),
        "retry_at": rng.choice([0.0, NOW + 5]),
        "error": rng.choice(["", "GUILD_UNAVAILABLE"]),
        "channel_count": rng.choice([None, 0, 12]),
        "revision": job_updates.revision_of(1, rng.randrange(9)),
        "expires_at": None,
    }
