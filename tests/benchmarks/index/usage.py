"""CPU and memory of a stack's processes, and their commands to MongoDB and Redis."""

import collections
import dataclasses
import os
import pathlib
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

import prometheus_client.parser
import pymongo
import redis

from devstack import probes, stack
from tests.benchmarks import facts
from tests.benchmarks.size import processes

CLIENT = "client"
"""This process, which runs the callers."""
MONGODB_COMMANDS = "indexer_mongodb_command_seconds_count"
REDIS_COMMANDS = "indexer_redis_command_seconds_count"
"""Commands and pipelines, without commands that block on purpose."""
ESTABLISHED = "01"


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """
    Counters at one moment; they only grow.

    Attributes:
        cpu: Seconds of CPU by program, with its children.
        peak: Most resident MiB by program so far.
        busy: Seconds of CPU of the whole machine.
        mongodb: Commands by name, as the product's processes count them.
        mongodb_server: Operations by kind, as the server counts them.
        redis: Commands and pipelines, as the product's processes count them.
        redis_server: Commands by name, as the server counts them, those that scripts call included.
    """

    at: float
    cpu: Mapping[str, float]
    peak: Mapping[str, float]
    busy: float
    mongodb: "collections.Counter[str]"
    mongodb_server: "collections.Counter[str]"
    redis: int
    redis_server: "collections.Counter[str]"


def read_usage(running: stack.Stack) -> Usage:
    """Read all counters of a stack."""
    used = {name: processes.use_of(running.process_id(name)) for name in running.names}
    mongodb: collections.Counter[str] = collections.Counter()
    exchanges = 0
    for url in running.metrics_urls.values():
        for name, labels, value in _samples(url):
            if name == MONGODB_COMMANDS:
                mongodb[labels["command"]] += int(value)
            elif name == REDIS_COMMANDS:
                exchanges += int(value)
    return Usage(
        at=time.monotonic(),
        cpu={name: use.cpu for name, use in used.items()} | {CLIENT: facts.cpu_seconds(os.getpid())},
        peak={name: use.peak for name, use in used.items()},
        busy=_busy(),
        mongodb=mongodb,
        mongodb_server=_mongodb_operations(running.mongodb_url),
        redis=exchanges,
        redis_server=_redis_commands(running.redis_url),
    )


def per_call(before: Usage, after: Usage, calls: int) -> dict[str, Any]:
    """Return the cost of one call to Discord."""
    cpu = {name: after.cpu[name] - before.cpu[name] for name in before.cpu}
    cost = {name: round(1000 * seconds / calls, 2) for name, seconds in cpu.items()}
    product = sum(cpu[name] for name in cpu if name.startswith(("service", "worker")))
    return {
        "cpu_ms_product": round(1000 * product / calls, 2),
        "cpu_ms_mongodb": cost.get("mongodb", 0.0),
        "cpu_ms_redis": cost.get("valkey", 0.0),
        "mongodb_commands": _share((after.mongodb - before.mongodb).total(), calls),
        "redis_commands": _share(after.redis - before.redis, calls),
        "by_name": {
            "cpu_ms": cost,
            "mongodb_commands": _shares(after.mongodb - before.mongodb, calls),
            "mongodb_server_operations": _shares(after.mongodb_server - before.mongodb_server, calls),
            "redis_server_commands": _shares(after.redis_server - before.redis_server, calls),
        },
        "cores_used_by_others": round((after.busy - before.busy - sum(cpu.values())) / (after.at - before.at), 2),
    }


def connections(mongodb_url: str) -> int:
    """Return the number of connections to the MongoDB server."""
    port = f"{urllib.parse.urlsplit(mongodb_url).port:04X}"
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port}") and row[3] == ESTABLISHED for row in rows)


def _samples(url: str) -> list[tuple[str, dict[str, str], float]]:
    _, body = probes.read_page(url)
    families = prometheus_client.parser.text_string_to_metric_families(body.decode())
    return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]


def _mongodb_operations(url: str) -> "collections.Counter[str]":
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        return collections.Counter(client.admin.command("serverStatus")["opcounters"])


def _redis_commands(url: str) -> "collections.Counter[str]":
    with redis.Redis.from_url(url) as client:
        stats: Any = client.info("commandstats")
        return collections.Counter({name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()})


def _busy() -> float:
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(
        int, pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / processes.TICKS


def _share(count: int, calls: int) -> float:
    return round(count / calls, 2)


def _shares(counts: "collections.Counter[str]", calls: int) -> dict[str, float]:
    return {name: _share(count, calls) for name, count in counts.most_common() if count / calls >= 0.005}
