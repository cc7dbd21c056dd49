"""
The list of a user's guilds, of which a job is made.

It is stored at once and ranked; each of its guilds becomes a guild task. A list that lacks many known guilds is fetched
a second time before it is trusted, because Discord sometimes answers with a part.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Collection, Sequence

from indexing import errors, settings
from indexing.domain import feed, freshness, model, ports, ranking, reasons
from indexing.telemetry import logs
from indexing.usecases import bot_list, demand, erase_user

STORED_AT_ONCE, STORE_WAIT = 4, 2.0
"""
Lists that a process stores concurrently beside a near store, and the longest wait for a place in seconds. When many
users start at once, storing takes longer than listing: one after the other, the first have their first guild while
others are stored.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class GuildList:
    """
    A user's fetched and stored guild list.

    Attributes:
        tasks: The tasks of the job, most important first, with revision 0.
        user: The user as stored with the list.
        guilds: The listed guilds by id, as stored.
    """

    tasks: list[model.GuildTask]
    user: model.User
    guilds: dict[int, model.Guild]


class GuildLists:
    """
    Fetches users' guild lists. Round trips for one: 1 to Discord, 3 to Redis, 6 to MongoDB, and 1 or 2 more when guilds
    were not viewed for some minutes or have lost the bot.

    Attributes:
        bot_guilds: The guilds that have our bot.
    """

    def __init__(
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        *,
        most_stored: Callable[[], int] = lambda: STORED_AT_ONCE,
    ) -> None:
        """*most_stored* returns how many lists may be stored at once: more while the store is far away."""
        self.bot_guilds = bot_list.BotGuilds(deps, config)
        self._deps = deps
        self._config = config
        self._most_stored = most_stored
        self._storing = 0
        self._stored = asyncio.Event()
        self._demand = demand.DemandCounter(deps)
        self._log = logs.get(__name__)

    async def close(self) -> None:
        """End a refresh of the bot's list, and store which guilds users wait for."""
        await self.bot_guilds.close()
        await self._demand.close()

    async def fetch_guild_list(self, job: model.Job, credential: ports.Credential, purpose: ports.Purpose) -> GuildList:
        """
        Fetch and store the user's guilds.

        Raises:
            errors.TokenRefused: Discord refuses the user's token.
            errors.BotTokenRefused: Discord refuses the bot's token.
            And the errors of `ports.Discord`.
        """
        with_bot, known = await asyncio.gather(self.bot_guilds.get(purpose), self._load_user(job.user_id))
        asked_at = self._deps.clock()
        listed = await self._fetch_confirmed(known, credential, purpose)
        if with_bot is not None:
            # Only the user's guilds: while many lists wait to be stored, each would hold a set of all of the bot's.
            ids = [guild.guild_id for guild in listed]
            fed, followed = await self._followed(ids)
            unknown = [guild for guild in listed if guild.guild_id not in followed]
            with_bot = await self.bot_guilds.with_new(fed.union(with_bot.intersection(ids)), unknown, purpose)
        async with self._place_to_store():
            return await self._store(job, known, listed, with_bot, asked_at)

    @contextlib.asynccontextmanager
    async def _place_to_store(self) -> AsyncIterator[None]:
        held = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STORE_WAIT):
                while self._storing >= self._most_stored():
                    await self._stored.wait()
                held = 1
        self._storing += held
        try:
            yield
        finally:
            self._storing -= held
            self._stored.set()
            self._stored = asyncio.Event()

    async def _store(
        self,
        job: model.Job,
        known: model.User,
        listed: list[model.UserGuild],
        with_bot: Collection[int] | None,
        asked_at: float,
    ) -> GuildList:
        # Memberships before guilds: their roster names the guilds that an erasure checks. A list that is older than the
        # stored one is dropped.
        await self._deps.users.replace_guild_list(known, listed, asked_at)
        guilds, new, user = await self._store_guilds(job.user_id, listed, with_bot)
        if user is None:
            await erase_user.compensate_if_user_erased(self._deps, job, [guild.guild_id for guild in listed])
            raise errors.CredentialMissing(job.user_id)
        tasks = self._make_tasks(user, guilds)
        await self._note_views(tasks, guilds, new)
        return GuildList(tasks, user, guilds)

    async def _followed(self, guild_ids: Collection[int]) -> tuple[frozenset[int], frozenset[int]]:
        """
        Return the guilds that the Gateway feeds, and those of the shards that it follows.

        Our bot is in the former, whatever the cached list says. The latter need not be checked: the Gateway tells
        within a second when our bot joins one of them.
        """
        if self._deps.fed_roles is None:
            return frozenset(), frozenset()
        guilds = await self._deps.guilds.get(guild_ids)
        shards = {guild.fed_by for guild in guilds.values() if guild.fed_by}
        counts = {int(key.partition("/")[2]) for key in shards}
        fed = frozenset(guild_id for guild_id, guild in guilds.items() if guild.fed_by)
        return fed, frozenset(
            guild_id for guild_id in guild_ids if any(feed.shard_key(guild_id, count) in shards for count in counts)
        )

    async def _load_user(self, user_id: int) -> model.User:
        user = await self._deps.users.load(user_id)
        if user is None:
            raise errors.CredentialMissing(user_id)
        return user

    async def _fetch_confirmed(
        self, known: model.User, credential: ports.Credential, purpose: ports.Purpose
    ) -> list[model.UserGuild]:
        """Return the user's guilds; a list that lacks many known guilds is fetched a second time, seconds later."""
        listed = await self._deps.discord.user_guilds(credential, purpose)
        if freshness.needs_confirmation(
            known.memberships, [guild.guild_id for guild in listed], bot_list.MAX_UNCONFIRMED_LOSS
        ):
            self._log.warning(
                "guild_list_lacks_many", user=known.user_id, known=len(known.memberships), listed=len(listed)
            )
            await asyncio.sleep(freshness.CONFIRMATION_PAUSE)
            return await self._deps.discord.user_guilds(credential, purpose)
        return listed

    async def _store_guilds(
        self, user_id: int, listed: list[model.UserGuild], with_bot: Collection[int] | None
    ) -> tuple[dict[int, model.Guild], set[int], model.User | None]:
        """
        Store the guilds; returns them, the ids of the new ones, and the user as stored afterwards.

        A guild erased meanwhile is stored again.
        """
        now = self._deps.clock()
        guilds, new = await self._deps.guilds.upsert_guilds(listed, with_bot, viewed_at=now)
        if len(guilds) < len(listed):
            guilds, more = await self._deps.guilds.upsert_guilds(listed, with_bot, viewed_at=now)
            new |= more
        user = await self._deps.users.load(user_id)
        fetched = [guild.guild_id for guild in guilds.values() if guild.fetched_at is not None]
        removed = [guild_id for guild_id in fetched if with_bot is not None and guild_id not in with_bot]
        if removed:
            await self._deps.guilds.mark_bot_removed(removed, now)
            guilds |= await self._deps.guilds.get(removed)
        return guilds, new, user

    def _make_tasks(self, user: model.User, guilds: dict[int, model.Guild]) -> list[model.GuildTask]:
        now, weights = self._deps.clock(), self._config.rank_weights
        ordered = ranking.rank_guilds(user.memberships, guilds, user.preferences, now=now, weights=weights)
        muted = user.preferences.muted
        return [
            _task(guilds[row.inputs.guild_id], position, muted=row.inputs.guild_id in muted)
            for position, row in enumerate(ordered)
        ]

    async def _note_views(
        self, tasks: Sequence[model.GuildTask], guilds: dict[int, model.Guild], new: Collection[int]
    ) -> None:
        """Record views of guilds, and for which of them the user waits; new guilds were stored with both."""
        now = self._deps.clock()
        known = [guilds[task.guild_id] for task in tasks if not task.state.terminal and task.guild_id not in new]
        await self._deps.guilds.mark_viewed(
            [guild.guild_id for guild in known if (guild.last_viewed_at or 0.0) <= now - freshness.VIEW_STEP], now
        )
        self._demand.count(
            [guild.guild_id for guild in known if not freshness.is_fresh(guild, now=now, max_age=self._config.max_age)]
        )


def _task(guild: model.Guild, position: int, *, muted: bool) -> model.GuildTask:
    reason = reasons.MUTED if muted else ""
    if guild.access is model.Access.NOT_INSTALLED:
        reason = reasons.BOT_NOT_INSTALLED
    return model.GuildTask(
        guild_id=guild.guild_id,
        name=guild.name,
        state=model.TaskState.SKIPPED if reason else model.TaskState.QUEUED,
        step=model.Step.CHANNELS,
        position=position,
        attempts=0,
        retry_at=0.0,
        reason=reason,
        channel_count=None,
        revision=0,
    )
