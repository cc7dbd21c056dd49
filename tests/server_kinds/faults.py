"""The faults of servers, each a few lines: how a good server becomes faulty, for a start and for a running product."""

import contextlib
import dataclasses
import urllib.parse
from collections.abc import Callable
from typing import Any

from tests import authority, servers
from tests.server_kinds import mongodb_proxy, product, redis_servers

PLAIN = redis_servers.SetUp()
LIMITED = redis_servers.SetUp(limited_user=True)
DEAD = 1
"""A port on which no primary is."""
SHORT, LONG = 20.0, 45.0
"""Seconds for which the product is watched; READONLY makes a process unready after 30 s."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """
    A fault.

    Attributes:
        name: What is wrong.
        inject: Makes a running server faulty: a `redis_servers.Server` or a `mongodb_proxy.Proxy`.
        setup: How the Redis is set up before.
        watched: Seconds for which the product is watched afterwards; 0 does not try it on a running product.
    """

    name: str
    inject: Callable[[Any], object]
    setup: redis_servers.SetUp = PLAIN
    watched: float = SHORT


def _replica(server: redis_servers.Server) -> None:
    server.admin.replicaof("127.0.0.1", str(DEAD))


def _cluster(server: redis_servers.Server) -> None:
    server.stop()
    server.start("--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{server.port}.conf")


def _evicting(server: redis_servers.Server) -> None:
    server.admin.config_set("maxmemory", "100mb")
    server.admin.config_set("maxmemory-policy", "allkeys-lru")


def _full(server: redis_servers.Server) -> None:
    server.admin.config_set("maxmemory", "1mb")


def _other_password(server: redis_servers.Server) -> None:
    server.allow(password="another")
    server.disconnect()


def _other_authority(server: redis_servers.Server) -> None:
    server.set_certificate(authority.Authority("another"))
    server.reload_certificate()
    server.disconnect()


REDIS = (
    Fault("Redis is a replica", _replica, watched=LONG),
    Fault("Redis is a cluster", _cluster),
    Fault("Redis evicts keys", _evicting),
    Fault("Redis is full", _full),
    Fault(
        "Redis user may not run scripts",
        lambda server: server.allow("-eval", "-evalsha"),
        LIMITED,
    ),
    Fault(
        "Redis user may not write the limiter's keys",
        lambda server: server.allow("resetkeys", "~indexer:*", "~dramatiq", "~dramatiq:*"),
        LIMITED,
    ),
    Fault("Redis has another password", _other_password, LIMITED),
    Fault("Redis has a certificate of an unknown authority", _other_authority, redis_servers.SetUp(tls=True)),
    Fault("Redis is away", lambda server: server.stop()),
)
MONGODB = (
    Fault("MongoDB lacks partial indexes", lambda proxy: proxy.play(mongodb_proxy.without_indexes), watched=0.0),
    Fault("MongoDB is read-only", lambda proxy: proxy.play(mongodb_proxy.read_only)),
    Fault("MongoDB user may not write", lambda proxy: proxy.play(mongodb_proxy.without_rights)),
    Fault("MongoDB refuses the login", lambda proxy: proxy.play(mongodb_proxy.refused_login)),
    Fault("MongoDB is full", lambda proxy: proxy.play(mongodb_proxy.disk_full)),
    Fault("MongoDB takes 0.6 s for each operation", lambda proxy: proxy.slow_down(0.6), watched=LONG),
    Fault("MongoDB is away", lambda proxy: proxy.refuse()),
)
OLD = "MongoDB is of version 4.0"


def names() -> list[str]:
    """Return the names of all faults."""
    return [*(fault.name for fault in REDIS), OLD, *(fault.name for fault in MONGODB)]


def play(name: str, program: str) -> dict[str, Any]:
    """Play a fault at a start and on a running product; returns what was seen. *program*: a Redis server."""
    with contextlib.ExitStack() as stack:
        mongodb_port = urllib.parse.urlsplit(stack.enter_context(servers.mongodb())).port or 0
        for fault in REDIS:
            if fault.name == name:
                return _play_redis(fault, program, f"mongodb://127.0.0.1:{mongodb_port}/?directConnection=true")
        good = stack.enter_context(redis_servers.Server(program))
        if name == OLD:
            return _row(product.boot(good.url, stack.enter_context(mongodb_proxy.old_server())), None)
        (fault,) = [one for one in MONGODB if one.name == name]
        return _play_mongodb(fault, good.url, mongodb_port)


def _play_redis(fault: Fault, program: str, mongodb_url: str) -> dict[str, Any]:
    with redis_servers.Server(program, fault.setup) as first:
        fault.inject(first)
        booted = product.boot(first.url, mongodb_url)
    with redis_servers.Server(program, fault.setup) as second, product.running(second.url, mongodb_url) as running:
        return _row(booted, product.observe(running, lambda: fault.inject(second), fault.watched))


def _play_mongodb(fault: Fault, redis_url: str, port: int) -> dict[str, Any]:
    with mongodb_proxy.Proxy(port) as first:
        product.boot(redis_url, first.url)  # makes the database, as at every start but the first
        fault.inject(first)
        booted = product.boot(redis_url, first.url)
    if not fault.watched:
        return _row(booted, None)
    with mongodb_proxy.Proxy(port) as second, product.running(redis_url, second.url) as running:
        return _row(booted, product.observe(running, lambda: fault.inject(second), fault.watched))


def _row(booted: product.Boot, later: product.Later | None) -> dict[str, Any]:
    return {"boot": dataclasses.asdict(booted), "later": None if later is None else dataclasses.asdict(later)}
