"""The simulator over HTTP, and as a program."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest

from devstack.simulator import app, clock, options
from tests.unit.devstack.simulator import bench

HEADERS = {"User-Agent": bench.AGENT, "Authorization": "Bot sim-bot-token"}


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a simulator with three guilds."""
    chosen = options.parse(["--latency", "none", "--guilds-per-user", "3", "--without-bot", "0"])
    served = app.make_application(app.make_state(chosen, clock.SystemClock()), {"port": 1})
    runner = await app.listen(served, 0)
    try:
        root = f"http://{app.HOST}:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(root, headers=HEADERS) as connected:
            yield connected
    finally:
        await runner.cleanup()


async def test_discord_answers_when_it_is_called_over_http(client: aiohttp.ClientSession) -> None:
    """Responses are JSON with Discord's headers."""
    async with client.get("/api/v10/users/@me/guilds?limit=2") as reply:
        listed = await reply.json()

    assert (reply.status, len(listed)) == (200, 2)
    assert reply.headers["Via"] == "1.1 google"
    assert reply.headers["X-RateLimit-Remaining"] == "9"


async def test_control_endpoints_answer_over_http(client: aiohttp.ClientSession) -> None:
    """Users, truth, guilds, stats and reset need no token and have no limits."""
    user = (await (await client.get("/_sim/users?limit=1")).json())[0]["id"]
    truth = await (await client.get(f"/_sim/truth/{user}")).json()
    guild = truth["guilds"][0]["id"]
    shown = await (await client.get(f"/_sim/guilds/{guild}")).json()
    await client.get(f"/api/v10/guilds/{guild}/channels")
    stats = await (await client.get("/_sim/stats?log=1")).json()
    await client.post("/_sim/reset")
    after = await (await client.get("/_sim/stats")).json()

    assert len(truth["guilds"]) == 3
    assert set(truth["guilds"][0]["channels"]) <= {channel["id"] for channel in shown["channels"]}
    assert (stats["calls"], stats["log"][0][1:]) == (1, ["bot", "GET /guilds/{guild.id}/channels", guild, 200])
    assert after["calls"] == 0
    assert (await (await client.get("/_sim/about")).json()) == {"port": 1}


async def test_the_world_and_limits_can_be_changed_over_http(client: aiohttp.ClientSession) -> None:
    """Changes, faults, foreign traffic, limits and latency are posted as JSON."""
    guild = (await (await client.get("/api/v10/users/@me/guilds")).json())[0]["id"]
    posts = {
        "world": {"op": "add_channel", "guild": guild},
        "faults": [{"kind": "status", "status": 500, "times": 1}],
        "foreign": {"rate": 1, "seconds": 1},
        "limits": {"bot": [5, 1], "routes": {"GET /users/@me": [3, 10]}},
        "network": {"latency": "none"},
    }

    statuses = [(await client.post(f"/_sim/{name}", json=body)).status for name, body in posts.items()]
    rules = await (await client.get("/_sim/faults")).json()
    cleared = await client.delete("/_sim/faults")
    limited = await client.get("/api/v10/users/@me")

    assert statuses == [200] * 5
    assert (len(rules), rules[0]["served"], cleared.status) == (1, 0, 200)
    assert limited.headers["X-RateLimit-Limit"] == "3"


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("faults", '{"kind": "flood"}'),
        ("faults", "not json"),
        ("world", '{"op": "add_channel", "guild": "1"}'),
        ("limits", '{"bot": [0, 1]}'),
        ("limits", '{"routes": {"x": [1, 1]}}'),
        ("network", '{"latency": "warp"}'),
        ("foreign", "{}"),
    ],
)
async def test_the_reason_is_answered_when_a_document_is_invalid(
    client: aiohttp.ClientSession, name: str, body: str
) -> None:
    """An invalid document is answered 400 with the reason."""
    async with client.post(f"/_sim/{name}", data=body) as reply:
        explained = await reply.json()

    assert reply.status == 400
    assert explained["error"]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("reset", (aiohttp.ClientConnectionResetError, aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)),
        ("cut", aiohttp.ClientPayloadError),
        ("hang", (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)),
        ("truncate", json.JSONDecodeError),
    ],
)
async def test_the_client_sees_connection_faults(
    client: aiohttp.ClientSession, kind: str, error: type[Exception] | tuple[type[Exception], ...]
) -> None:
    """Each connection fault reaches the client as the real failure would."""
    await client.post("/_sim/faults", json={"kind": kind, "seconds": 0.01})

    with pytest.raises(error):
        await (await client.get("/api/v10/users/@me")).json()


async def test_a_call_is_counted_when_its_client_disconnected(client: aiohttp.ClientSession) -> None:
    """A sent request is counted, even if its client has disconnected."""
    await client.post("/_sim/network", json={"latency": "60-60"})

    with pytest.raises(TimeoutError):
        await client.get("/api/v10/users/@me", timeout=aiohttp.ClientTimeout(total=0.005))
    await client.post("/_sim/network", json={"latency": "none"})

    async def counted() -> int:
        stats = await (await client.get("/_sim/stats")).json()
        calls: int = stats["calls"]
        return calls

    async with asyncio.timeout(2):
        while await counted() == 0:
            pass


def test_the_program_prints_its_addresses_and_ends_on_sigterm() -> None:
    """One line of JSON has the addresses; SIGTERM ends the program with exit code 0."""
    command = [sys.executable, "-m", "devstack.simulator", "--show-users", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        shown = json.loads(program.stdout.readline())
        program.terminate()
        status = program.wait(timeout=5)

    assert status == 0
    assert shown["base_url"] == f"http://127.0.0.1:{shown['port']}/api/v10"
    assert shown["users"][0]["token"] == f"sim-user-{shown['users'][0]['id']}"
