"""
Many WatchIndex streams in one process: `python -m tests.benchmarks.watch_index.watchers ADDRESS`.

Reads a user id from each line of standard input. Prints `ready` when every stream has its snapshot. Ends at the change
of a channel named END in all streams, and prints the figures as JSON. A changed channel's name contains the time at
which its change began to be stored.
"""

import argparse
import asyncio
import gc
import json
import sys
import time

import grpc
import grpc.aio

from indexer_client import index_state
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

STREAMS_A_CHANNEL = 50
MARK, END = "at-", "end"


class Figures:
    """What all streams of this process received."""

    def __init__(self, streams: int) -> None:
        self.late: list[float] = []
        self.messages = 0
        self.bytes = 0
        self.broken: list[str] = []
        self._waiting = streams
        self.ready = asyncio.Event()

    def count_snapshot(self) -> None:
        """Count a stream that has its snapshot."""
        self._waiting -= 1
        if not self._waiting:
            self.ready.set()

    def count(self, message: pb.WatchIndexResponse, now: float) -> None:
        """Count a message."""
        self.messages += 1
        self.bytes += message.ByteSize()
        for row in message.change.channels:
            if row.name.startswith(MARK):
                self.late.append(now - float(row.name[len(MARK) :]))


async def watch(stub: "pb_grpc.IndexerServiceAsyncStub", user_id: str, figures: Figures) -> dict[str, str]:
    """Watch until the end; returns the names of all channels."""
    state, ready = index_state.IndexState(), False
    try:
        async for message in stub.WatchIndex(pb.WatchIndexRequest(user_id=user_id)):
            state.apply(message)
            if ready:
                figures.count(message, time.monotonic())
                if any(row.name == END for row in message.change.channels):
                    break
            elif state.complete:
                ready = True
                figures.count_snapshot()
    except grpc.aio.AioRpcError as problem:
        figures.broken.append(f"{problem.code().name}: {problem.details()}")
        if not ready:
            figures.count_snapshot()
    return {key: row.name for rows in state.channels.values() for key, row in rows.items()}


async def watch_all(address: str, user_ids: list[str]) -> dict[str, object]:
    """Watch for all users until the end."""
    gc.disable()  # its pauses would count as the service's latency
    figures = Figures(len(user_ids))
    count = -(-len(user_ids) // STREAMS_A_CHANNEL)
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(count)]
    stubs = [pb_grpc.IndexerServiceStub(channel) for channel in channels]
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(watch(stubs[number % count], user_id, figures)) for number, user_id in enumerate(user_ids)
        ]
        await figures.ready.wait()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
    for channel in channels:
        await channel.close(None)
    return {
        "late": [round(1000 * value, 2) for value in figures.late],
        "messages": figures.messages,
        "bytes": figures.bytes,
        "broken": figures.broken[:5],
        "names": {user_id: task.result() for user_id, task in zip(user_ids, tasks, strict=True)},
    }


def main() -> None:
    """Read user ids, watch, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    options = parser.parse_args()
    user_ids = sys.stdin.read().split()
    sys.stdout.write(json.dumps(asyncio.run(watch_all(options.address, user_ids))) + "\n")


if __name__ == "__main__":
    main()
