"""The simulated Gateway: identify, resume, events and refusals as Discord documents them."""

import asyncio
import contextlib
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from devstack.simulator import app, clock, options
from tests.unit.devstack.simulator import bench

HEADERS = {"User-Agent": bench.AGENT, "Authorization": "Bot sim-bot-token"}
TOKEN = "sim-bot-token"


class Client:
    """One websocket of a test."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self._inflate = zlib.decompressobj()

    async def send(self, op: int, data: object) -> None:
        """Send a frame."""
        await self.socket.send_str(json.dumps({"op": op, "d": data}))

    async def frame(self) -> dict[str, Any]:
        """Return the next frame, or the close code as {"closed": code}."""
        message = await asyncio.wait_for(self.socket.receive(), 5)
        if message.type is aiohttp.WSMsgType.BINARY:
            return json.loads(self._inflate.decompress(message.data))  # type: ignore[no-any-return]
        if message.type is aiohttp.WSMsgType.TEXT:
            return json.loads(message.data)  # type: ignore[no-any-return]
        return {"closed": message.data}

    async def identify(self, **changes: object) -> None:
        """Read HELLO and identify."""
        assert (await self.frame())["op"] == 10
        await self.send(2, {"token": TOKEN, "intents": 1, "shard": [0, 1], "properties": {}} | changes)

    async def ready(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return READY's data and the GUILD_CREATEs after it."""
        ready = await self.frame()
        assert ready["t"] == "READY"
        return ready["d"], [await self.frame() for _ in ready["d"]["guilds"]]


class Discord:
    """A simulator with its Gateway."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.http = session

    @contextlib.asynccontextmanager
    async def connected(self, query: str = "v=10&encoding=json") -> AsyncIterator[Client]:
        """Connect."""
        async with self.http.ws_connect(f"/gateway?{query}", max_msg_size=0) as socket:
            yield Client(socket)

    async def post(self, path: str, body: object) -> Any:  # noqa: ANN401 -- JSON
        """Post to a control endpoint."""
        async with self.http.post(f"/_sim/{path}", json=body) as reply:
            return await reply.json()

    async def guild_ids(self) -> list[str]:
        """Return the bot's guilds."""
        async with self.http.get("/api/v10/users/@me/guilds") as reply:
            return [row["id"] for row in await reply.json()]


@pytest.fixture
async def discord() -> AsyncIterator[Discord]:
    """A simulator with three guilds."""
    chosen = options.parse(
        ["--latency", "none", "--guilds-per-user", "3", "--without-bot", "0", "--gateway-identify-window", "0.2"]
    )
    runner = await app.listen(app.make_application(app.make_state(chosen, clock.SystemClock()), {}), 0)
    try:
        root = f"http://{app.HOST}:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(root, headers=HEADERS) as session:
            yield Discord(session)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("query", ["v=10&encoding=json", "v=10&encoding=json&compress=zlib-stream"])
async def test_every_guild_is_created_when_a_session_is_identified(discord: Discord, query: str) -> None:
    """READY names the guilds; a GUILD_CREATE for each has what the HTTP API lists, numbered without a gap."""
    guild_ids = await discord.guild_ids()

    async with discord.connected(query) as client:
        await client.identify()
        ready, created = await client.ready()

    listed = await (await discord.http.get(f"/api/v10/guilds/{guild_ids[0]}/channels")).json()
    first = next(frame["d"] for frame in created if frame["d"]["id"] == guild_ids[0])
    shown = {row["id"]: row for row in first["channels"] if not row["flags"]}
    assert sorted(guild["id"] for guild in ready["guilds"]) == guild_ids
    assert [frame["s"] for frame in created] == [2, 3, 4]
    assert {row["id"]: {**row, "guild_id": guild_ids[0]} for row in shown.values()} == {
        row["id"]: row for row in listed
    }


async def test_a_change_is_sent_when_the_world_changes(discord: Discord) -> None:
    """A new, a renamed and a removed channel, a role and a guild each have their event."""
    async with discord.connected() as client:
        await client.identify()
        _, created = await client.ready()
        guild = created[0]["d"]
        added = (await discord.post("world", {"op": "add_channel", "guild": guild["id"], "name": "new"}))[0]["channel"]
        await discord.post(
            "world",
            [
                {"op": "change_channel", "guild": guild["id"], "channel": added, "message": True},
                {"op": "change_channel", "guild": guild["id"], "channel": added, "name": "newer"},
                {"op": "remove_channel", "guild": guild["id"], "channel": added},
                {"op": "change_guild", "guild": guild["id"], "name": "renamed"},
            ],
        )

        frames = [await client.frame() for _ in range(4)]

    assert [frame["t"] for frame in frames] == ["CHANNEL_CREATE", "CHANNEL_UPDATE", "CHANNEL_DELETE", "GUILD_UPDATE"]
    assert [frames[0]["d"]["name"], frames[1]["d"]["name"], frames[3]["d"]["name"]] == ["new", "newer", "renamed"]


async def test_missed_events_are_replayed_when_a_session_is_resumed(discord: Discord) -> None:
    """Events after the given number come in order, then RESUMED; no identify is counted."""
    async with discord.connected() as client:
        await client.identify()
        ready, created = await client.ready()
        await client.socket.close(code=4900)
    await discord.post("world", {"op": "add_channel", "guild": created[0]["d"]["id"], "name": "while away"})

    async with discord.connected() as client:
        assert (await client.frame())["op"] == 10
        await client.send(6, {"token": TOKEN, "session_id": ready["session_id"], "seq": created[-1]["s"]})
        missed, resumed = await client.frame(), await client.frame()

    assert (missed["t"], missed["d"]["name"], missed["s"]) == ("CHANNEL_CREATE", "while away", created[-1]["s"] + 1)
    assert resumed["t"] == "RESUMED"
    assert (await (await discord.http.get("/_sim/gateway")).json())["counts"]["identifies"] == 1


async def test_a_session_is_gone_when_the_client_closed_it_normally(discord: Discord) -> None:
    """Close code 1000 ends a session, and its resume is refused with op 9."""
    async with discord.connected() as client:
        await client.identify()
        ready, _ = await client.ready()
        await client.socket.close(code=1000)
    await asyncio.sleep(0.05)

    async with discord.connected() as client:
        await client.frame()
        await client.send(6, {"token": TOKEN, "session_id": ready["session_id"], "seq": 1})

        assert await client.frame() == {"op": 9, "s": None, "t": None, "d": False}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"token": "wrong"}, 4004),
        ({"shard": [1, 1]}, 4010),
        ({"intents": 1 << 40}, 4013),
        ({"intents": 3}, 4014),
    ],
)
async def test_an_identify_is_refused_when_discord_would_refuse_it(
    discord: Discord, change: dict[str, object], code: int
) -> None:
    """A wrong token, shard, unknown and privileged intents each have their close code."""
    async with discord.connected() as client:
        await client.identify(**change)

        assert await client.frame() == {"closed": code}


async def test_an_identify_is_refused_when_it_comes_too_fast(discord: Discord) -> None:
    """With a concurrency of 1 the second identify in the window gets op 9, and is counted as a violation."""
    async with discord.connected() as one, discord.connected() as two:
        await one.identify()
        await one.ready()
        await two.identify()

        assert (await two.frame())["op"] == 9
    assert (await (await discord.http.get("/_sim/gateway")).json())["violations"] == {"identify_too_fast": 1}


async def test_members_are_sent_when_they_are_requested_by_id(discord: Discord) -> None:
    """Op 8 with user ids needs no privileged intent; unknown users are named as not found."""
    user = (await (await discord.http.get("/_sim/users")).json())[0]["id"]
    async with discord.connected() as client:
        await client.identify()
        _, created = await client.ready()
        await client.send(8, {"guild_id": created[0]["d"]["id"], "user_ids": [user, "42"], "nonce": "n"})

        chunk = await client.frame()

    assert chunk["t"] == "GUILD_MEMBERS_CHUNK"
    assert [row["user"]["id"] for row in chunk["d"]["members"]] == [user]
    assert (chunk["d"]["not_found"], chunk["d"]["nonce"]) == (["42"], "n")


async def test_a_channel_is_redacted_when_the_bot_may_not_view_it(discord: Discord) -> None:
    """Losing sight by a channel's own change is told with a redacted object, gaining it with a full one."""
    async with discord.connected() as client:
        await client.identify()
        _, created = await client.ready()
        guild = created[0]["d"]
        channel = next(row for row in guild["channels"] if not row["flags"] and row["type"] == 0)
        change = {"op": "change_channel", "guild": guild["id"], "channel": channel["id"]}
        await discord.post("world", [change | {"hidden": True}, change | {"hidden": False}])

        frames = [await client.frame(), await client.frame()]

    assert [frame["d"]["name"] for frame in frames] == ["___hidden___", channel["name"]]
    assert [frame["d"]["flags"] for frame in frames] == [1 << 17, 0]


async def test_faults_are_played_when_they_are_posted(discord: Discord) -> None:
    """Op 7, op 9 and close codes reach the client; an outage deletes and creates the guild."""
    async with discord.connected() as client:
        await client.identify()
        _, created = await client.ready()
        guild = created[0]["d"]["id"]
        for fault in (
            {"kind": "reconnect"},
            {"kind": "outage", "guild": guild},
            {"kind": "outage_ends", "guild": guild},
            {"kind": "invalid", "resumable": True},
            {"kind": "close", "code": 4009},
        ):
            await discord.post("gateway", fault)

        frames = [await client.frame() for _ in range(5)]

    assert [frame.get("op") for frame in frames] == [7, 0, 0, 9, None]
    assert (frames[1]["d"], frames[2]["t"]) == ({"id": guild, "unavailable": True}, "GUILD_CREATE")
    assert (frames[3]["d"], frames[4]) == (True, {"closed": 4009})
