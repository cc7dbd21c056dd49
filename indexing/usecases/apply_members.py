"""
Applies member events of the Gateway to the stored role ids of users, where GUILD_MEMBERS is granted.

An event replaces the role ids of a membership, or ends it. It proves nothing beyond that moment: one that is lost costs
the time until the roles are asked for again. Most events are about users that are not stored; one query finds these.
"""

import asyncio
import collections
from collections.abc import Mapping, Sequence

from indexing.domain import feed, ports

MOST_TRIES = 4
"""Attempts to store an event whose membership others write at the same time."""


class MemberWriter:
    """Stores what member events say."""

    def __init__(self, users: ports.Users, clock: ports.Clock) -> None:
        self._users = users
        self._clock = clock

    async def apply(self, events: Sequence[feed.MemberChanged]) -> int:
        """
        Store the latest of these events of each member; returns how many memberships were written.

        Raises:
            errors.StoreUnavailable: Some may be stored; apply the same events again.
        """
        by_user: dict[int, dict[int, feed.MemberChanged]] = collections.defaultdict(dict)
        for event in events:
            by_user[event.user_id][event.guild_id] = event
        known = await self._users.versions(by_user.keys())
        return sum(await asyncio.gather(*(self._apply_to_user(user_id, by_user[user_id]) for user_id in known)))

    async def _apply_to_user(self, user_id: int, events: Mapping[int, feed.MemberChanged]) -> int:
        left, written = dict(events), 0
        for _ in range(MOST_TRIES):
            user = await self._users.load(user_id)
            for guild_id, event in list(left.items()):
                member = user.memberships.get(guild_id) if user is not None else None
                if member is None or (event.roles is not None and event.roles == member.role_ids):
                    del left[guild_id]
                    continue
                if event.roles is None:
                    done = await self._users.mark_left(member)
                else:
                    done = await self._users.store_roles(member, event.roles, self._clock())
                if done:
                    del left[guild_id]
                    written += 1
            if not left:
                break
        return written
