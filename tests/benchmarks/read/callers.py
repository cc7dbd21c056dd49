"""
A closed loop of readers in a separate process that alternates between the service and an empty handler.

Reads one line of JSON (see `Orders`) from standard input; prints a line of JSON for each case, each number of calls in
flight and each round.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import grpc.aio
import msgspec

from tests.benchmarks.size import processes

CHANNELS = 4
DEADLINE = 60.0
PAUSE = 0.05
"""Seconds after a failed call."""
WARM_UP = 20.0
"""Longest time for calling each request once before the first round."""
Call: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"


class Case(msgspec.Struct):
    """Requests of one kind, each in hexadecimal, called one after the other, again and again."""

    name: str
    method: str
    requests: list[str]


class Target(msgspec.Struct):
    """A server: its address and its process."""

    address: str
    pid: int


class Orders(msgspec.Struct):
    """
    Everything to call.

    Attributes:
        seconds: Of one turn; calls in progress at its end are completed.
        limit: Seconds for all rounds of a case with one number of calls in flight; there is always one round.
    """

    product: Target
    empty: Target
    empty_method: str
    mongodb_pid: int
    cases: list[Case]
    in_flight: list[int]
    rounds: int
    seconds: float
    limit: float


class Turn(msgspec.Struct):
    """Figures of one turn on one side; CPU in seconds."""

    calls: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu: float
    mongodb_cpu: float

    @property
    def per_s(self) -> float:
        """Answered calls a second."""
        return self.calls / self.seconds


class Round(msgspec.Struct):
    """One turn on each side; `last` if no other round of this case with these calls in flight follows."""

    case: str
    in_flight: int
    product: Turn
    empty: Turn
    last: bool


class Side:
    """One of the two compared servers, with its connections and requests."""

    def __init__(self, target: Target, method: str, requests: Sequence[bytes], mongodb_pid: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        channels = [grpc.aio.insecure_channel(target.address, options=options) for _ in range(CHANNELS)]
        self._calls: list[Call] = [channel.unary_unary(method, None, None) for channel in channels]
        self._pids = (target.pid, mongodb_pid)
        self._requests = requests
        self._wheel = itertools.cycle(requests)

    async def warm(self) -> None:
        """Use each connection, then send each request once, so that the first turn is not slower than others."""
        await self._call(iter([self._requests[0]] * CHANNELS), CHANNELS, WARM_UP)
        await self._call(iter(self._requests), CHANNELS, WARM_UP)

    async def turn(self, in_flight: int, seconds: float) -> Turn:
        """Call for a while."""
        before = [_cpu(pid) for pid in self._pids]
        began = time.perf_counter()
        took, failed = await self._call(self._wheel, in_flight, seconds)
        lasted = time.perf_counter() - began
        cpu = [_cpu(pid) - used for pid, used in zip(self._pids, before, strict=True)]
        middle, late = (1000 * took[int(len(took) * share)] if took else 0.0 for share in (0.5, 0.99))
        return Turn(len(took), failed, lasted, middle, late, *cpu)

    async def _call(self, requests: Iterator[bytes], in_flight: int, seconds: float) -> tuple[list[float], int]:
        """Return the seconds of all answered calls in order, and how many calls failed."""
        until = time.perf_counter() + seconds
        loops = [_loop(self._calls[number % CHANNELS], requests, until) for number in range(in_flight)]
        found = await asyncio.gather(*loops)
        return sorted(itertools.chain.from_iterable(took for took, _ in found)), sum(failed for _, failed in found)


async def _loop(call: Call, requests: Iterator[bytes], until: float) -> tuple[list[float], int]:
    took, failed = [], 0
    for request in requests:
        began = time.perf_counter()
        if began > until:
            break
        try:
            await call(request, timeout=DEADLINE)
        except grpc.aio.AioRpcError:
            failed += 1
            await asyncio.sleep(PAUSE)
        else:
            took.append(time.perf_counter() - began)
    return took, failed


def _cpu(pid: int) -> float:
    return processes.use_of(pid).cpu


async def call_all(orders: Orders) -> None:
    """Call all cases; a round continues with the next request after the round before."""
    for case in orders.cases:
        requests = [bytes.fromhex(request) for request in case.requests]
        product = Side(orders.product, case.method, requests, orders.mongodb_pid)
        empty = Side(orders.empty, orders.empty_method, requests, orders.mongodb_pid)
        for side in (product, empty):
            await side.warm()
        for in_flight in orders.in_flight:
            began, number, last = time.perf_counter(), 0, False
            while not last:
                sides = (product, empty) if number % 2 else (empty, product)
                turns = {side: await side.turn(in_flight, orders.seconds) for side in sides}
                number += 1
                last = number == orders.rounds or time.perf_counter() - began > orders.limit
                line = msgspec.json.encode(Round(case.name, in_flight, turns[product], turns[empty], last))
                sys.stdout.write(line.decode() + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(call_all(msgspec.json.decode(sys.stdin.readline(), type=Orders)))
