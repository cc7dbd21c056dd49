"""
Memory and event-loop lag while the largest legal listings are fetched: 500 channels with 1,000 overwrites each.

Run `python -m tests.benchmarks.large_listing`. The listing is served by another process on loopback. For 1, 2 and 4
fetches at once the table shows the seconds until the last is decoded, the growth of the resident memory at its peak and
after the results are dropped, and the longest time for which the event loop did nothing else.
"""

import argparse
import asyncio
import gc
import json
import multiprocessing
import pathlib
import sys
import time
from collections.abc import Iterator
from multiprocessing import connection
from typing import cast

from aiohttp import web
from prometheus_client import registry

from indexing import settings
from indexing.discord import client
from indexing.domain import id_sets, model, ports
from indexing.ratelimit import limiter
from indexing.telemetry import metrics
from tests import values
from tests.unit.discord import wire

CHANNELS, OVERWRITES = 500, 1_000
TICK = 0.001
PURPOSE = ports.Purpose(model.Lane.BACKGROUND, values.USER, "", 1.0)
Row = dict[str, float | int]


def listing(channels: int = CHANNELS, overwrites: int = OVERWRITES) -> bytes:
    """Return a listing in which every channel has other overwrites."""
    return b"[" + b",".join(_channels(channels, overwrites)) + b"]"


def _channels(channels: int, overwrites: int) -> Iterator[bytes]:
    for number in range(1, channels + 1):
        first = 10**17 + number * overwrites
        yield json.dumps(
            {
                "id": str(10**18 + number),
                "type": 0,
                "name": f"channel-{number}",
                "topic": "t" * 1_024,
                "position": number,
                "permission_overwrites": [
                    {"id": str(first + each), "type": each % 2, "allow": "0", "deny": "1024"}
                    for each in range(overwrites)
                ],
            }
        ).encode()


def serve(pipe: connection.Connection) -> None:
    """Serve the listing on a free port, which is sent through *pipe*."""
    body = listing()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        pipe.send((runner.addresses[0][1], len(body)))
        await asyncio.Event().wait()

    asyncio.run(run())


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    return int(pathlib.Path("/proc/self/statm").read_text("ascii").split()[1]) * 4_096


class Watch:
    """Records the longest pause of the event loop and the peak of the memory, while it runs."""

    def __init__(self) -> None:
        self.lag = 0.0
        self.peak = 0

    async def run(self) -> None:
        """Look every millisecond."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(TICK)
            self.lag = max(self.lag, time.monotonic() - began - TICK)
            self.peak = max(self.peak, resident_bytes())


async def measure(port: int, at_once: int) -> Row:
    """Fetch the listing several times at once."""
    config = settings.DiscordSettings(api_base=f"http://127.0.0.1:{port}", bot_token="bot", timeout=30.0)

    async def wanted() -> bool:
        return True

    async with client.open_session(config) as session:
        permits = cast("limiter.Limiter", wire.RecordingLimiter())
        discord = client.DiscordClient(session, permits, config, metrics.Metrics(registry.CollectorRegistry()).discord)
        gc.collect()
        before, began, watch = resident_bytes(), time.monotonic(), Watch()
        ticking = asyncio.create_task(watch.run())
        await asyncio.sleep(0.05)

        async def fetch() -> int:
            found = await discord.guild_channels(values.GUILD, PURPOSE, wanted)
            return sum(len(id_sets.unpack_ids(channel.overwrites.roles_allow)) for channel in found or [])

        counts = await asyncio.gather(*(fetch() for _ in range(at_once)))
        seconds = time.monotonic() - began
        ticking.cancel()
        assert counts == [CHANNELS * OVERWRITES] * at_once
        gc.collect()
        return {
            "at_once": at_once,
            "seconds": round(seconds, 2),
            "peak_mib": (watch.peak - before) >> 20,
            "after_mib": (resident_bytes() - before) >> 20,
            "lag_ms": round(watch.lag * 1_000),
        }


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    port, size = ours.recv()
    sys.stdout.write(f"body: {size / 2**20:.1f} MiB\n")
    try:
        for at_once in (1, 2, 4):
            sys.stdout.write(f"{asyncio.run(measure(port, at_once))}\n")
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
