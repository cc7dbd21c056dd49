"""
Many WatchProgress streams in one process: `python -m tests.benchmarks.watch.watchers ADDRESS`.

Reads a job id from each line of standard input and watches it with one stream. Prints `ready` when every stream has
its snapshot, and at the end what was seen, as JSON. The time at which a row was published stands in its name.
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

STREAMS_A_CHANNEL = 500
OPENING = 50
"""Streams that are being opened at once."""
MARK = "at "


class Seen:
    """What all streams of this process were told."""

    def __init__(self, streams: int) -> None:
        self.late: list[float] = []
        self.messages = 0
        self.ended = 0
        self.broken: list[str] = []
        self._waiting = streams
        self.ready = asyncio.Event()

    def snapshot(self) -> None:
        """Count a stream that has its snapshot."""
        self._waiting -= 1
        if not self._waiting:
            self.ready.set()

    def take(self, event: pb.WatchProgressResponse) -> None:
        """Count a message."""
        self.messages += 1
        if event.guild.name.startswith(MARK):
            self.late.append(time.monotonic() - float(event.guild.name[len(MARK) :]))

    def summary(self) -> dict[str, object]:
        """Return what was seen; latencies in milliseconds."""
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


async def watch(stub: "pb_grpc.IndexerServiceAsyncStub", job_id: str, seen: Seen, opening: asyncio.Semaphore) -> None:
    """Watch a job to its end."""
    await opening.acquire()
    held = True
    try:
        async for event in stub.WatchProgress(pb.WatchProgressRequest(job_id=job_id)):
            if held and event.HasField("snapshot_end"):
                opening.release()
                held = False
                seen.snapshot()
            seen.take(event)
            seen.ended += event.HasField("terminal")
    except grpc.aio.AioRpcError as problem:
        seen.broken.append(f"{problem.code().name}: {problem.details()}")
    finally:
        if held:
            opening.release()
            seen.snapshot()


async def run(address: str, job_ids: list[str]) -> dict[str, object]:
    """Watch all jobs to their ends."""
    gc.disable()  # pauses of this process would be taken for the service's
    seen, opening = Seen(len(job_ids)), asyncio.Semaphore(OPENING)
    count = -(-len(job_ids) // STREAMS_A_CHANNEL)
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(count)]
    stubs = [pb_grpc.IndexerServiceStub(channel) for channel in channels]
    async with asyncio.TaskGroup() as group:
        for number, job_id in enumerate(job_ids):
            group.create_task(watch(stubs[number % count], job_id, seen, opening))
        await seen.ready.wait()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
    for channel in channels:
        await channel.close(None)
    return seen.summary()


def main() -> None:
    """Read job ids, watch, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    options = parser.parse_args()
    job_ids = sys.stdin.read().split()
    sys.stdout.write(json.dumps(asyncio.run(run(options.address, job_ids))) + "\n")


if __name__ == "__main__":
    main()
