"""
Leaves out of a job what its user must not see any more: the guilds that they have left since.

Once a user's consent has ended, and until a credential is proven again, that is every guild.
"""

import asyncio
import dataclasses
from collections.abc import Iterable

from indexing import concurrency
from indexing.domain import id_sets, model, ports, reasons


class Memberships:
    """Loads users' present memberships. Round trips: 1 to MongoDB, shared by all calls for a user at the same time."""

    def __init__(self, deps: ports.Dependencies) -> None:
        self._deps = deps
        self._loads = concurrency.Coalescer(self._load)

    async def load(self, user_id: int) -> bytes:
        """Return the guilds that may be shown to the user, packed by `id_sets`; none for an unknown user."""
        return (await self._loads.fetch([user_id]))[user_id]

    async def _load(self, user_ids: list[int]) -> dict[int, bytes]:
        users = await asyncio.gather(*map(self._deps.users.load, user_ids))
        now = self._deps.clock()
        memberships = [user.shown_memberships(now) if user is not None else {} for user in users]
        return dict(zip(user_ids, map(id_sets.pack_ids, memberships), strict=True))


def without_left(tasks: Iterable[model.GuildTask], guild_ids: bytes) -> list[model.GuildTask]:
    """Return the tasks of guilds among the packed *guild_ids*."""
    return [task for task in tasks if id_sets.has_id(guild_ids, task.guild_id)]


def nameless_when_left(tasks: Iterable[model.GuildTask], guild_ids: bytes) -> tuple[model.GuildTask, ...]:
    """
    Return the tasks, those of guilds that are not among *guild_ids* without name and count.

    They are not left out, because a watcher learns from such a change that the guild is gone.
    """
    return tuple(
        task
        if task.reason != reasons.USER_LEFT and id_sets.has_id(guild_ids, task.guild_id)
        else dataclasses.replace(task, name="", channel_count=0)
        for task in tasks
    )
