"""
A closed loop of callers in a separate process: each calls again as soon as it has its response.

The same callers call both sides alternately for a fraction of a second each, so that other load on the machine affects
both alike.
"""

import argparse
import asyncio
import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import TypeAlias

import grpc.aio

from tests.benchmarks import facts

CHANNELS = 4
Call: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """One of the two compared servers: its calls, process id and metadata."""

    calls: list[Call]
    pid: int
    metadata: tuple[tuple[str, str], ...]


async def _loop(call: Call, requests: Iterator[bytes], until: float, side: Side) -> list[float]:
    took = []
    while (began := time.perf_counter()) < until:
        await call(next(requests), timeout=30.0, metadata=side.metadata)
        took.append(time.perf_counter() - began)
    return took


async def measure_side(side: Side, wheel: Iterator[bytes], options: argparse.Namespace) -> dict[str, float]:
    """Call one side; returns calls per second, latencies, and the server's CPU time per call."""
    before, began = facts.cpu_seconds(side.pid), time.perf_counter()
    until = began + options.seconds
    loops = [_loop(side.calls[number % CHANNELS], wheel, until, side) for number in range(options.callers)]
    took = sorted(itertools.chain.from_iterable(await asyncio.gather(*loops)))
    return {
        "per_s": len(took) / (time.perf_counter() - began),
        "cpu_us": 1e6 * (facts.cpu_seconds(side.pid) - before) / len(took),
        "p50_ms": 1000 * took[len(took) // 2],
        "p99_ms": 1000 * took[int(len(took) * 0.99)],
    }


async def measure_rounds(options: argparse.Namespace, requests: list[bytes]) -> list[list[dict[str, float]]]:
    """Call both sides in each round, in alternating order."""
    wheel = itertools.cycle(requests)
    metadata = (("authorization", f"Bearer {options.token}"),)
    local = [("grpc.use_local_subchannel_pool", 1)]
    sides, opened = [], []
    for address, method, pid in options.side:
        channels = [grpc.aio.insecure_channel(address, options=local) for _ in range(CHANNELS)]
        opened += channels
        sides.append(Side([each.unary_unary(method, None, None) for each in channels], int(pid), metadata))
        await asyncio.gather(
            *(sides[-1].calls[at % CHANNELS](request, metadata=metadata) for at, request in enumerate(requests))
        )
    found = []
    for number in range(options.rounds):
        order = sides if number % 2 else sides[::-1]
        seen = {id(side): await measure_side(side, wheel, options) for side in order}
        found.append([seen[id(side)] for side in sides])
    for channel in opened:
        await channel.close(None)
    return found


def main() -> None:
    """Read requests, one in each line in hexadecimal, from standard input; print a line of JSON for each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", nargs=3, action="append", metavar=("ADDRESS", "METHOD", "PID"), required=True)
    parser.add_argument("--token", default="none")
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--callers", type=int, default=64)
    options = parser.parse_args()
    requests = [bytes.fromhex(line) for line in sys.stdin.read().split("\n")[:-1]]
    for each in asyncio.run(measure_rounds(options, requests)):
        sys.stdout.write(json.dumps(each) + "\n")


if __name__ == "__main__":
    main()
