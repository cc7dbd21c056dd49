"""
The set of guilds that have our bot, cached for all users: a guild outside it is skipped without a call.

A listing that lacks many known guilds is not believed at once, because Discord sometimes answers with a part.
"""

import asyncio
import dataclasses
import math
import random
from collections.abc import Callable, Collection, Iterable

from indexing import concurrency, errors, settings
from indexing.domain import freshness, model, permissions, ports, reasons
from indexing.telemetry import logs

MAX_UNCONFIRMED_LOSS = 0.3
"""Share of the known guilds that a list may lack without being fetched a second time."""
REFRESH_PURPOSE = ports.Purpose(model.Lane.REFRESH, user_id=None, waiter="installs", max_wait=1.0)
"""Purpose of a refresh that no job waits for."""
SUSPECT_AFTER = 600.0
"""Seconds between the first listing that lacks a guild and the one that confirms its absence."""
ASKED_EVERY = 5.0
"""Seconds between two checks of one guild for a newly installed bot, however many starts list it."""
OTHERS_EVERY = 1.0
"""Seconds between two checks by one process of guilds in which the user cannot install bots: such guilds are many, and
each check costs a call."""
ASKED_WINDOW, MOST_ASKED = 10.0, 50
"""Seconds, and the most checks of the whole fleet in them: a tenth of the bot's budget."""
MOST_ASKED_BY_START = 3
"""Guilds that one start checks, those in which the user can install bots first."""
REFRESH_WAIT = 1.0
"""Longest wait of a turn for the listing, in seconds; it then continues without it."""
PAGE_WAIT = 30.0
"""Longest wait of the listing for the permit of a page, in seconds: a bot in thousands of guilds has dozens of pages,
and a listing that gives up begins again with the first."""
REFRESH_LEASE, REFRESH_POLL = 120.0, 0.2
"""Seconds for which one process lists alone, and between two checks by the others for its result."""


class BotGuilds:
    """
    The set of guilds that have our bot, cached for the fleet; one page of 200 guilds a call.

    A guild that a listing lacks stays in the set as a suspect until the guild refuses a call, or until a listing
    `SUSPECT_AFTER` later lacks it too. When a listing lacks many guilds, only the guilds' own refusals remove them. A
    guild outside the set may have got the bot since the last listing: a start checks it with a call of its own, each
    guild once in `ASKED_EVERY`, and the fleet `MOST_ASKED` times in `ASKED_WINDOW`.
    """

    def __init__(self, deps: ports.Dependencies, config: settings.IndexingSettings) -> None:
        self._deps = deps
        self._config = config
        self._check_others_at = 0.0
        self._refreshing: asyncio.Task[frozenset[int]] | None = None
        self._log = logs.get(__name__)

    async def get(self, purpose: ports.Purpose, *, max_age: float = math.inf) -> frozenset[int] | None:
        """
        Return the guilds that have our bot; one process of the fleet fetches them when the cache is lost or old.

        Args:
            purpose: Why they are asked for.
            max_age: Seconds after which the cache is old, if that is less than `bot_guilds_age`.

        Returns:
            The new set if the listing takes less than `REFRESH_WAIT`, else the cached one, however old; None when
            nothing is cached.

        Raises:
            errors.BotTokenRefused: Discord refuses the bot's token.
            And the errors of `ports.Discord`, when nothing is cached.
        """
        cached = await self._deps.bot_guilds.load()
        if cached is not None and self._deps.clock() - cached[1] < min(max_age, self._config.bot_guilds_age):
            return cached[0]
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = concurrency.spawn_shared(self._refresh(cached, purpose))
        task = self._refreshing
        await asyncio.wait({task}, timeout=REFRESH_WAIT)
        if task.done():
            return task.result()
        return cached[0] if cached is not None else None

    async def close(self) -> None:
        """End a refresh that runs."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})

    async def get_cached(self) -> frozenset[int] | None:
        """Return the cached set, however old; None when nothing is known."""
        cached = await self._deps.bot_guilds.load()
        return cached[0] if cached is not None else None

    async def with_new(
        self,
        known: frozenset[int],
        guilds: Iterable[model.UserGuild | model.Membership],
        purpose: ports.Purpose,
        *,
        only_theirs: bool = False,
    ) -> frozenset[int]:
        """
        Return *known* with those of the user's guilds that have got our bot since; checks a few, the likeliest ones.

        Only members who manage a server can install a bot; one of them may have installed it for this user, which
        *only_theirs* does not consider.
        """
        missing = [guild for guild in guilds if guild.guild_id not in known]
        theirs = {guild.guild_id for guild in missing if guild.owner or guild.permissions & permissions.CAN_INSTALL}
        # In random order, so that repeated starts check all of them.
        candidates = random.sample(sorted(theirs), len(theirs))
        if not only_theirs:
            candidates += [guild.guild_id for guild in missing if guild.guild_id not in theirs][:MOST_ASKED_BY_START]
        found: set[int] = set()
        asked = 0
        for guild_id in candidates:
            if asked == MOST_ASKED_BY_START or (guild_id not in theirs and self._deps.clock() < self._check_others_at):
                break
            if not await self._deps.bot_guilds.claim(f"{guild_id}", ASKED_EVERY):
                continue
            asked += 1
            if guild_id not in theirs:
                self._check_others_at = self._deps.clock() + OTHERS_EVERY
            if await self._deps.bot_guilds.count_question(ASKED_WINDOW) > MOST_ASKED:
                break
            try:
                if await self._deps.discord.bot_is_in(guild_id, _without_user(purpose)):
                    found.add(guild_id)
            except (errors.RateLimited, errors.DiscordTransient, errors.EgressBlocked, errors.DiscordRefused):
                # What the guild needs is the next listing's to find out; the start goes on without it.
                break
        if found:
            await self._change_cached(lambda cached: cached | found)
        return known | found

    async def is_new_in(self, guilds: Collection[model.Membership], purpose: ports.Purpose) -> bool:
        """Return whether our bot was installed lately in one of the user's guilds that they can install it in."""
        cached = await self.get_cached()
        if cached is None:
            return False
        known = cached.intersection(guild.guild_id for guild in guilds)
        return await self.with_new(known, guilds, purpose, only_theirs=True) != known

    async def keep_fresh(self) -> None:
        """Refresh the cache when it is due, so that no start waits for it. Raises the errors of `ports.Discord`."""
        await self.get(REFRESH_PURPOSE)

    async def verify_installed(self, guild_id: int, purpose: ports.Purpose) -> bool:
        """Return whether our bot is in a guild that refused it: one call instead of a listing of all guilds."""
        asked_at = self._deps.clock()
        if await self._deps.discord.bot_is_in(guild_id, _without_user(purpose)):
            return True
        await self._change_cached(lambda cached: cached - {guild_id})
        await self._record_removed({guild_id}, asked_at)
        return False

    async def _change_cached(self, change: Callable[[frozenset[int]], frozenset[int]]) -> None:
        """Change the cached set, which keeps its age; nothing is cached when nothing was."""
        cached = await self._deps.bot_guilds.load()
        if cached is not None:
            # The next time that a float can say: processes tell sets apart by their times.
            await self._deps.bot_guilds.store(change(cached[0]), math.nextafter(cached[1], math.inf))

    async def _refresh(self, cached: tuple[frozenset[int], float] | None, purpose: ports.Purpose) -> frozenset[int]:
        """List the guilds, or wait for the process that already lists them."""
        while not await self._deps.bot_guilds.claim("refresh", REFRESH_LEASE):
            await asyncio.sleep(REFRESH_POLL)
            newer = await self._deps.bot_guilds.load()
            if newer is not None and (self._deps.clock() - newer[1] < self._config.bot_guilds_age or newer != cached):
                return newer[0]
        try:
            return await self._list_and_store(cached, purpose)
        finally:
            await self._deps.bot_guilds.release("refresh")

    async def _list_and_store(
        self, cached: tuple[frozenset[int], float] | None, purpose: ports.Purpose
    ) -> frozenset[int]:
        asked_at, patient = self._deps.clock(), dataclasses.replace(_without_user(purpose), max_wait=PAGE_WAIT)
        try:
            found = await self._deps.discord.bot_guilds(patient)
            if cached is None and not found:
                # Nothing is known that it could lack many of, and it would hide everything.
                found = await self._deps.discord.bot_guilds(patient)
        except errors.BotTokenRefused:
            raise
        except (errors.RateLimited, errors.DiscordTransient, errors.EgressBlocked, errors.DiscordRefused) as problem:
            if cached is None:
                raise
            self._log.warning("bot_guilds_not_listed", reason=problem.reason, error=str(problem))
            return cached[0]
        kept = await self._merge_listing(cached[0] if cached else frozenset(), found, asked_at)
        await self._deps.bot_guilds.store(kept, self._deps.clock())
        return kept

    async def _merge_listing(self, before: frozenset[int], found: frozenset[int], asked_at: float) -> frozenset[int]:
        """Return the set after a listing: missing guilds stay as suspects until their absence is confirmed."""
        now, lacking = self._deps.clock(), before - found
        known = await self._deps.bot_guilds.load_suspects()
        suspects = {guild_id: known.get(guild_id, now) for guild_id in lacking}
        gone: set[int] = set()
        if not freshness.needs_confirmation(before, found, MAX_UNCONFIRMED_LOSS):
            gone = {guild_id for guild_id, since in suspects.items() if now - since >= SUSPECT_AFTER}
        if suspects or known:
            await self._deps.bot_guilds.store_suspects({key: at for key, at in suspects.items() if key not in gone})
        if suspects:
            self._log.warning("bot_guilds_missing", guilds=len(suspects), removed=len(gone), listed=len(found))
        if gone:
            await self._record_removed(gone, asked_at)
        return (before | found) - gone

    async def _record_removed(self, guild_ids: Collection[int], asked_at: float) -> None:
        self._log.info("bot_removed", guilds=len(guild_ids), reason=reasons.BOT_REMOVED)
        await self._deps.guilds.mark_bot_removed(guild_ids, asked_at)


def _without_user(purpose: ports.Purpose) -> ports.Purpose:
    """Return the purpose of a call for all users: it charges no user's budget."""
    return dataclasses.replace(purpose, user_id=None, waiter="installs")
