"""A closed loop of callers in a process of its own: each calls again as soon as it has its answer."""

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import TypeAlias

import grpc.aio

CHANNELS = 4


Call: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"


async def _loop(call: Call, requests: Iterator[bytes], until: float) -> list[float]:
    took = []
    while (began := time.perf_counter()) < until:
        await call(next(requests), timeout=30.0)
        took.append(time.perf_counter() - began)
    return took


async def run(options: argparse.Namespace, requests: list[bytes]) -> dict[str, float]:
    """Call for some seconds; returns calls a second and the middle and slow latencies in milliseconds."""
    wheel = itertools.cycle(requests)
    channels = [
        grpc.aio.insecure_channel(options.address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(CHANNELS)
    ]
    calls = [channel.unary_unary(options.method, None, None) for channel in channels]
    await asyncio.gather(*(calls[number % CHANNELS](request) for number, request in enumerate(requests)))
    sys.stdout.write("warm\n")
    sys.stdout.flush()
    began = time.perf_counter()
    until = began + options.seconds
    loops = [_loop(calls[number % CHANNELS], wheel, until) for number in range(options.callers)]
    took = sorted(itertools.chain.from_iterable(await asyncio.gather(*loops)))
    seconds = time.perf_counter() - began
    for channel in channels:
        await channel.close(None)
    return {
        "calls": len(took),
        "rate": len(took) / seconds,
        "p50_ms": 1000 * took[len(took) // 2],
        "p99_ms": 1000 * took[int(len(took) * 0.99)],
    }


def main() -> None:
    """
    Read requests, one in each line in hexadecimal, from standard input.

    Prints a line when each was answered once, then what was measured, as JSON.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("method")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--callers", type=int, default=64)
    options = parser.parse_args()
    requests = [bytes.fromhex(line) for line in sys.stdin.read().split("\n")[:-1]]
    sys.stdout.write(json.dumps(asyncio.run(run(options, requests))) + "\n")


if __name__ == "__main__":
    main()
