"""Pages a second against an empty handler; one process alternates between both."""

import contextlib
import dataclasses
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import msgspec

from devstack import stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.benchmarks.join import empty
from tests.benchmarks.read import callers, worlds

METHOD = "/indexer_service.v1.IndexerService/"
LIST_CHANNELS, LIST_GUILDS = f"{METHOD}ListChannels", f"{METHOD}ListGuilds"
PAGE = 100
ROWS = 50
LONG_PAGE = 500
CHECKED = 500
WALK = 30.0
"""Longest time for paging through all channels, in seconds."""
ATTEMPTS = 4
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Effort:
    """Amount of calls: see `callers.Orders`."""

    in_flight: list[int]
    rounds: int
    seconds: float
    limit: float


def measure(
    running: stack.Stack, cases: Sequence[callers.Case], effort: Effort, tell: Callable[[str], None]
) -> list[Row]:
    """Alternate calls to the service and to an empty handler."""
    rows: list[Row] = []
    found: list[callers.Round] = []
    with _empty_server() as nothing:
        orders = callers.Orders(
            product=callers.Target(running.address, running.process_id("service-1")),
            empty=nothing,
            empty_method=empty.METHOD,
            mongodb_pid=running.process_id("mongodb"),
            cases=list(cases),
            **dataclasses.asdict(effort),
        )
        for each in _rounds(orders):
            found.append(each)
            if each.last:
                rows.append(figures(found))
                tell(f"{each.case}, {each.in_flight} in flight: {rows[-1]['share']:.1%} of the empty handler")
                found.clear()
    return rows


def figures(rounds: Sequence[callers.Round]) -> Row:
    """Return the figures of all rounds of a case."""
    product, empties = [one.product for one in rounds], [one.empty for one in rounds]
    shares = sorted(one.product.per_s / one.empty.per_s for one in rounds)
    calls, empty_calls = (max(1, sum(turn.calls for turn in side)) for side in (product, empties))
    return {
        "case": rounds[0].case,
        "in_flight": rounds[0].in_flight,
        "share": round(statistics.median(shares), 4),
        "least_share": round(shares[0], 4),
        "most_share": round(shares[-1], 4),
        "per_s": round(statistics.median(turn.per_s for turn in product), 2),
        "empty_per_s": round(statistics.median(turn.per_s for turn in empties), 1),
        "p50_ms": round(statistics.median(turn.p50_ms for turn in product), 2),
        "p99_ms": round(statistics.median(turn.p99_ms for turn in product), 2),
        "empty_p50_ms": round(statistics.median(turn.p50_ms for turn in empties), 2),
        "empty_p99_ms": round(statistics.median(turn.p99_ms for turn in empties), 2),
        # Processor time is counted in hundredths of a second, so it is added up over all rounds.
        "service_cpu_ms": round(1000 * sum(turn.cpu for turn in product) / calls, 3),
        "empty_cpu_ms": round(1000 * sum(turn.cpu for turn in empties) / empty_calls, 3),
        "mongodb_cpu_ms": round(1000 * sum(turn.mongodb_cpu for turn in product) / calls, 3),
        "calls": sum(turn.calls for turn in product),
        "failed": sum(turn.failed for turn in product),
        "rounds": len(rounds),
    }


def cases_of_demo(running: stack.Stack) -> tuple[list[callers.Case], Row]:
    """Return the cases of the demo's user, and the user's size."""
    user_id = running.users[0].id
    with _stub(running) as stub:
        guilds = _guilds(stub, user_id)
        channels = sum(len(page.channels) for page in _pages(stub, user_id, LONG_PAGE))
    sizes = sorted((guild.channel_count, guild.guild_id) for guild in guilds if guild.channel_count)
    count, middle = sizes[len(sizes) // 2]
    one = pb.ListChannelsRequest(user_id=user_id, guild_id=middle)
    first = pb.ListChannelsRequest(user_id=user_id, page_size=PAGE)
    rows = pb.ListGuildsRequest(user_id=user_id, page_size=ROWS)
    cases = [
        callers.Case("one guild", LIST_CHANNELS, [one.SerializeToString().hex()]),
        callers.Case("first page", LIST_CHANNELS, [first.SerializeToString().hex()]),
        callers.Case("list of guilds", LIST_GUILDS, [rows.SerializeToString().hex()]),
    ]
    return cases, {"guilds": len(guilds), "channels": channels, "channels_of_one_guild": count}


def case_of_large_user(running: stack.Stack) -> tuple[list[callers.Case], Row]:
    """Return any page of the large user, in random order, and the user's size."""
    user_id = running.users[0].id
    with _stub(running) as stub:
        guilds = _guilds(stub, user_id)
        tokens = ["", *(page.next_page_token for page in _pages(stub, user_id, PAGE) if page.next_page_token)]
    random.Random(1).shuffle(tokens)
    requests = [pb.ListChannelsRequest(user_id=user_id, page_size=PAGE, page_token=token) for token in tokens]
    case = callers.Case("any page", LIST_CHANNELS, [request.SerializeToString().hex() for request in requests])
    channels = sum(guild.channel_count for guild in guilds)
    return [case], {"guilds": len(guilds), "channels": channels, "page_tokens": len(tokens)}


def cases_of_lookups(running: stack.Stack) -> tuple[list[callers.Case], Row]:
    """Return single channels, checks of 500 ids, half of them unknown, and searches, with the user's size."""
    user_id, dice = running.users[0].id, random.Random(1)
    with _stub(running) as stub:
        channels = [row for page in _pages(stub, user_id, LONG_PAGE) for row in page.channels]
    single = [pb.GetChannelRequest(user_id=user_id, channel_id=row.channel_id) for row in dice.sample(channels, 100)]
    checks = []
    for _ in range(10):
        known = [row.channel_id for row in dice.sample(channels, CHECKED // 2)]
        unknown = [str(int(channel_id) + 1_000_000_007) for channel_id in known]
        checks.append(pb.BatchGetChannelsRequest(user_id=user_id, channel_ids=[*known, *unknown]))
    names = [row.name for row in dice.sample(channels, 30)]
    queries = [name if number % 3 else f"{name[:2]}{name[3:]}" for number, name in enumerate(names)]
    searches = [pb.SearchChannelsRequest(user_id=user_id, query=query) for query in queries if query]
    cases = [
        callers.Case("one channel", f"{METHOD}GetChannel", [each.SerializeToString().hex() for each in single]),
        callers.Case("check of 500", f"{METHOD}BatchGetChannels", [each.SerializeToString().hex() for each in checks]),
        callers.Case("search", f"{METHOD}SearchChannels", [each.SerializeToString().hex() for each in searches]),
    ]
    return cases, {"channels": len(channels), "names": len({row.name for row in channels})}


@contextlib.contextmanager
def _stub(running: stack.Stack) -> Iterator[worlds.Stub]:
    with grpc.insecure_channel(running.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        yield pb_grpc.IndexerServiceStub(channel)


def _guilds(stub: worlds.Stub, user_id: str) -> list[pb.Guild]:
    request, found = pb.ListGuildsRequest(user_id=user_id, page_size=ROWS), list[pb.Guild]()
    while True:
        page = _answer(stub.ListGuilds, request)
        found += page.guilds
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


def _pages(stub: worlds.Stub, user_id: str, size: int) -> Iterator[pb.ListChannelsResponse]:
    """Return pages of all channels, as many as fit into the time limit."""
    request = pb.ListChannelsRequest(user_id=user_id, page_size=size)
    until = time.monotonic() + WALK
    while True:
        page = _answer(stub.ListChannels, request)
        yield page
        request.page_token = page.next_page_token
        if not page.next_page_token or time.monotonic() > until:
            return


def _answer(call: Callable[[Any], Any], request: object) -> Any:  # noqa: ANN401 -- the stub's
    """Repeat a call that fails, because a slow store may time out."""
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(grpc.RpcError):
            return call(request)
    return call(request)


@contextlib.contextmanager
def _empty_server() -> Iterator[callers.Target]:
    command = [sys.executable, "-m", "tests.benchmarks.join.empty"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield callers.Target(f"127.0.0.1:{int(process.stdout.readline())}", process.pid)
        finally:
            process.kill()


def _rounds(orders: callers.Orders) -> Iterator[callers.Round]:
    """Call in another process, and return each round as it ends."""
    command = [sys.executable, "-m", "tests.benchmarks.read.callers"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(msgspec.json.encode(orders) + b"\n")
            process.stdin.flush()
            for line in process.stdout:
                yield msgspec.json.decode(line, type=callers.Round)
            if process.wait():
                raise subprocess.CalledProcessError(process.returncode, command)
        finally:
            process.kill()
