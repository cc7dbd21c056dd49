"""
Many WatchIndex streams in one process: `python -m tests.benchmarks.watch_index.watchers ADDRESS`.

Reads the user ids from the first line of standard input. Prints `ready` when every stream has its snapshot. Then reads
a line with the names that each user's channels have in the end, as JSON, waits until every stream has them, at most
CONVERGE seconds, and prints the figures as JSON. A changed channel's name contains the time at which its change began.
"""

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Mapping

import grpc
import grpc.aio

from indexer_client import index_state
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

STREAMS_A_CHANNEL = 50
MARK = "at-"
CONVERGE = 30.0
"""Most seconds until every stream has the last names. A lost announcement costs 4 s, so that a busy machine is left."""
CHECK_EVERY = 0.1


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


async def watch(
    stub: "pb_grpc.IndexerServiceAsyncStub", user_id: str, state: index_state.IndexState, figures: Figures
) -> None:
    """Watch until cancelled."""
    ready = False
    try:
        async for message in stub.WatchIndex(pb.WatchIndexRequest(user_id=user_id)):
            state.apply(message)
            if ready:
                figures.count(message, time.monotonic())
            elif state.complete:
                ready = True
                figures.count_snapshot()
    except grpc.aio.AioRpcError as problem:
        figures.broken.append(f"{problem.code().name}: {problem.details()}")
        if not ready:
            figures.count_snapshot()


async def converge(states: Mapping[str, index_state.IndexState], expected: Mapping[str, dict[str, str]]) -> list[str]:
    """Wait until the expected channels have their names; returns the users who see others when the time is over."""
    differing, until = list(expected), time.monotonic() + CONVERGE
    while True:
        differing = [user_id for user_id in differing if expected[user_id].items() - _names(states[user_id]).items()]
        if not differing or time.monotonic() >= until:
            return differing
        await asyncio.sleep(CHECK_EVERY)


def _names(state: index_state.IndexState) -> dict[str, str]:
    return {key: row.name for rows in state.channels.values() for key, row in rows.items()}


async def watch_all(address: str, user_ids: list[str]) -> dict[str, object]:
    """Watch for all users until they have the names of the second line."""
    gc.disable()  # its pauses would count as the service's latency
    figures = Figures(len(user_ids))
    count = -(-len(user_ids) // STREAMS_A_CHANNEL)
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(count)]
    stubs = [pb_grpc.IndexerServiceStub(channel) for channel in channels]
    states = {user_id: index_state.IndexState() for user_id in user_ids}
    tasks = [
        asyncio.create_task(watch(stubs[number % count], user_id, state, figures))
        for number, (user_id, state) in enumerate(states.items())
    ]
    await figures.ready.wait()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    expected = json.loads(await asyncio.to_thread(sys.stdin.readline))
    asked_at = time.monotonic()
    differing = await converge(states, expected)
    equal_after = time.monotonic() - asked_at
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for channel in channels:
        await channel.close(None)
    return {
        "late": [round(1000 * value, 2) for value in figures.late],
        "messages": figures.messages,
        "bytes": figures.bytes,
        "broken": figures.broken[:5],
        "equal_after_s": round(equal_after, 1),
        "differing": differing,
    }


def main() -> None:
    """Read user ids, watch, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    options = parser.parse_args()
    user_ids = sys.stdin.readline().split()
    sys.stdout.write(json.dumps(asyncio.run(watch_all(options.address, user_ids))) + "\n")


if __name__ == "__main__":
    main()
