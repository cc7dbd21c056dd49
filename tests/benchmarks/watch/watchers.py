"""
Many WatchProgress streams in one process: `python -m tests.benchmarks.watch.watchers ADDRESS`.

Reads a job id from each line of standard input and watches it with one stream. Prints `ready` when every stream has
its snapshot, and the figures as JSON at the end. A row's name contains the time at which it was published.
"""

import argparse
import asyncio
import gc
import json
import sys
import time

import grpc
import grpc.aio

from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

STREAMS_A_CHANNEL = 100
"""As many as the service allows on one connection."""
OPENING = 50
"""Streams that are opened at once."""
MARK = "at "


class Figures:
    """What all streams of this process received."""

    def __init__(self, streams: int) -> None:
        self.late: list[float] = []
        self.messages = 0
        self.ended = 0
        self.broken: list[str] = []
        self._waiting = streams
        self.ready = asyncio.Event()

    def count_snapshot(self) -> None:
        """Count a stream that has its snapshot."""
        self._waiting -= 1
        if not self._waiting:
            self.ready.set()

    def count_message(self, event: pb.WatchProgressResponse) -> None:
        """Count a message."""
        self.messages += 1
        if event.guild.name.startswith(MARK):
            self.late.append(time.monotonic() - float(event.guild.name[len(MARK) :]))

    def summary(self) -> dict[str, object]:
        """Return the figures; latencies in milliseconds."""
        late = sorted(self.late) or [0.0]
        parts = {f"p{part}_ms": 1000 * late[int(len(late) * part / 100)] for part in (50, 90, 99)}
        return {
            "rows": len(self.late),
            "messages": self.messages,
            "ended": self.ended,
            "broken": self.broken[:5],
            **parts,
            "most_ms": 1000 * late[-1],
            "late": [round(1000 * value, 2) for value in late],
        }


async def watch(
    stub: "pb_grpc.IndexerServiceAsyncStub", job_id: str, figures: Figures, opening: asyncio.Semaphore
) -> None:
    """Watch a job until its stream ends."""
    await opening.acquire()
    held = True
    try:
        async for event in stub.WatchProgress(pb.WatchProgressRequest(job_id=job_id)):
            if held and event.HasField("snapshot_end"):
                opening.release()
                held = False
                figures.count_snapshot()
            figures.count_message(event)
            figures.ended += event.HasField("terminal")
    except grpc.aio.AioRpcError as problem:
        figures.broken.append(f"{problem.code().name}: {problem.details()}")
    finally:
        if held:
            opening.release()
            figures.count_snapshot()


async def watch_all(address: str, job_ids: list[str]) -> dict[str, object]:
    """Watch all jobs until their streams end."""
    gc.disable()  # its pauses would count as the service's latency
    figures, opening = Figures(len(job_ids)), asyncio.Semaphore(OPENING)
    count = -(-len(job_ids) // STREAMS_A_CHANNEL)
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(count)]
    stubs = [pb_grpc.IndexerServiceStub(channel) for channel in channels]
    async with asyncio.TaskGroup() as group:
        for number, job_id in enumerate(job_ids):
            group.create_task(watch(stubs[number % count], job_id, figures, opening))
        await figures.ready.wait()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
    for channel in channels:
        await channel.close(None)
    return figures.summary()


def main() -> None:
    """Read job ids, watch, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    options = parser.parse_args()
    job_ids = sys.stdin.read().split()
    sys.stdout.write(json.dumps(asyncio.run(watch_all(options.address, job_ids))) + "\n")


if __name__ == "__main__":
    main()
