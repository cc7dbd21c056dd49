"""The simulated Discord with its Gateway in this process, and gateway processes of the product over real servers."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from aiohttp import web

from devstack.simulator import app, clock, gateway_control, mutations, options, state, visibility
from indexing import settings
from indexing.domain import feed_ports
from indexing.store import database as store_database
from indexing.store import guilds, shards
from workers import gateway

SIMULATOR = {
    "--latency": "none",
    "--guilds-per-user": "6",
    "--channels-per-guild": "8",
    "--without-bot": "0",
    "--gateway-heartbeat": "1.5",
    "--gateway-identify-window": "0.1",
    "--gateway-session-life": "30",
}


class World:
    """A simulated Discord, and what the product stores of it."""

    def __init__(self, simulator: state.SimulatorState, runner: web.AppRunner, db: store_database.Database) -> None:
        self.simulator = simulator
        self.hub = simulator.gateway
        self.url = f"http://{app.HOST}:{runner.addresses[0][1]}"
        self.database = db
        self.proofs = shards.Proofs(db, simulator.clock.wall, notice=0.0)
        self.guilds = guilds.Guilds(db, proofs=self.proofs)

    @property
    def guild_ids(self) -> list[int]:
        """The bot's guilds."""
        return list(self.simulator.world.bot_guilds())

    def change(self, **change: object) -> dict[str, object]:
        """Change the world, and tell the sessions."""
        (parsed,) = mutations.parse(json.dumps(change).encode())
        return mutations.apply(self.simulator, parsed)

    def fault(self, **fault: object) -> None:
        """Play a fault of the Gateway."""
        (parsed,) = gateway_control.parse(json.dumps(fault).encode())
        gateway_control.apply(self.hub, parsed)

    def truth(self, guild_id: int) -> dict[int, str]:
        """Return the channels that the bot may view, with their names."""
        guild = self.simulator.world.guild(guild_id)
        assert guild is not None
        if not guild.has_bot:
            return {}
        seen = visibility.visible_channels(self.simulator.world, guild, self.simulator.world.bot_id)
        return {channel.id: channel.name for channel in seen}

    async def stored(self) -> dict[int, dict[int, str]]:
        """Return the stored channels of every guild, with their names."""
        found = await self.guilds.load(self.guild_ids)
        return {key: {row.channel_id: row.name for row in one.channels} for key, one in found.items()}

    async def fed(self) -> int:
        """Return how many guilds are fed now."""
        return sum(bool(guild.fed_by) for guild in (await self.guilds.get(self.guild_ids)).values())

    async def feeds(self, count: int) -> bool:
        """Return whether so many guilds are fed now."""
        return await self.fed() == count

    async def connected(self) -> bool:
        """Return whether every stored session has a connection."""
        links = {session.id: session.link for session in self.hub.sessions.values()}
        stored = await self.shards()
        return bool(stored) and all(links.get(shard.session) is not None for shard in stored.values())

    async def shards(self) -> dict[str, feed_ports.Shard]:
        """Return the stored shards."""
        return {shard.key: shard for shard in await shards.MongoShards(self.database).list()}

    async def all_live(self, within: float) -> None:
        """Wait until the sessions of now feed every guild; cheaper than `all_fed` for many."""

        async def live() -> bool:
            sessions = list(self.hub.sessions)
            fed = {"live": True, "session": {"$in": sessions}}
            return bool(await self.database["guilds"].count_documents(fed) == len(self.guild_ids))

        await until(live, within, every=0.2)

    async def settled(self, within: float = 10.0) -> None:
        """Wait until everything stored equals the world."""

        async def equal() -> bool:
            return await self.stored() == {guild_id: self.truth(guild_id) for guild_id in self.guild_ids}

        await until(equal, within)

    async def all_fed(self, within: float = 10.0) -> None:
        """Wait until every guild is fed."""

        async def fed() -> bool:
            return await self.fed() == len(self.guild_ids)

        await until(fed, within)

    async def none_fed(self, within: float = 10.0) -> None:
        """Wait until no guild is fed."""

        async def unfed() -> bool:
            return not await self.fed()

        await until(unfed, within)


async def until(holds: Callable[[], Awaitable[bool]], within: float, every: float = 0.02) -> None:
    """Wait until something holds, asking *every* so many seconds."""
    async with asyncio.timeout(within):
        while not await holds():  # noqa: ASYNC110 -- what is stored has no event
            await asyncio.sleep(every)


@contextlib.asynccontextmanager
async def simulated(
    db: store_database.Database, changes: Mapping[str, str] | None = None, flags: Sequence[str] = ()
) -> AsyncIterator[World]:
    """Run a simulator with the options of `SIMULATOR`, changed, and with flags."""
    chosen = options.parse([*flags, *(part for pair in {**SIMULATOR, **(changes or {})}.items() for part in pair)])
    simulator = app.make_state(chosen, clock.SystemClock())
    runner = await app.listen(app.make_application(simulator, {}), 0)
    try:
        yield World(simulator, runner, db)
    finally:
        await runner.cleanup()


def product_environment(world: World, redis_url: str, mongodb_url: str, **more: str) -> dict[str, str]:
    """Return the product's environment."""
    return {
        "DISCORD_API_BASE": f"{world.url}/api/v10",
        "DISCORD_BOT_TOKEN": "sim-bot-token",
        "INDEXER_CREDENTIAL_KEYS": base64.urlsafe_b64encode(b"k" * 32).decode(),
        "REDIS_URL": redis_url,
        "MONGODB_URL": mongodb_url,
        "MONGODB_DATABASE": world.database.name,
        "LIMITER_HOLD": "0",
        "GATEWAY_ENABLED": "1",
        "GATEWAY_METRICS_PORT": "0",
        "GATEWAY_LEASE": "3",
        "GATEWAY_AUDIT_INTERVAL": "0",
        **more,
    }


@contextlib.asynccontextmanager
async def gateway_process(world: World) -> AsyncIterator[None]:
    """Run what one gateway process runs."""
    async with gateway.running_gateway(settings.load(), world.simulator.clock.wall):
        yield
