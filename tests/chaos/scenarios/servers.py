"""Faults of Redis and MongoDB."""

import itertools

import redis

from tests.chaos import fleet, mongo_faults, play, waves

CLOCKS = fleet.Shape(clocks=True)


async def flush_redis(stage: play.Play) -> None:
    """Lose all data of Redis in the middle."""
    await stage.fetched(stage.dice.randint(3, 20))
    stage.fault()
    await stage.do(_flush, stage)


def _flush(stage: play.Play) -> None:
    with stage.fleet.redis() as client:
        client.flushall()


async def kill_redis(stage: play.Play) -> None:
    """Kill Redis, and start it with its data after two seconds."""
    await stage.fetched(stage.dice.randint(3, 20))
    await stage.kill("valkey", 2.0)


async def empty_redis(stage: play.Play) -> None:
    """Kill Redis, and start it without data."""
    await stage.fetched(stage.dice.randint(3, 20))
    stage.fault()
    await stage.do(stage.fleet.restart_empty, "valkey")


async def freeze_redis(stage: play.Play) -> None:
    """Stop Redis for four seconds."""
    await stage.pause(0.5, 1.5)
    await stage.freeze("valkey", 4.0)


async def full_redis(stage: play.Play) -> None:
    """Let Redis be out of memory for four seconds."""
    await stage.pause(0.5, 1.5)
    await _configured(stage, "maxmemory", "1", "0")


async def read_only_redis(stage: play.Play) -> None:
    """Let Redis be a replica without a primary for four seconds."""
    await stage.pause(0.5, 1.5)
    stage.fault()
    with stage.fleet.redis() as client:
        await stage.do(client.replicaof, "127.0.0.1", "1")
        await stage.pause(4.0)
        await stage.do(client.replicaof, "NO", "ONE")


async def refusing_redis(stage: play.Play) -> None:
    """Let Redis refuse writes for want of replicas for four seconds."""
    await stage.pause(0.5, 1.5)
    await _configured(stage, "min-replicas-to-write", "1", "0")


async def _configured(stage: play.Play, name: str, bad: str, good: str) -> None:
    stage.fault()
    with stage.fleet.redis() as client:
        await stage.do(client.config_set, name, bad)
        await stage.pause(4.0)
        await stage.do(client.config_set, name, good)


async def scripts_lost(stage: play.Play) -> None:
    """Remove all scripts of Redis, five times."""
    for _ in range(5):
        await stage.pause(0.3, 0.8)
        stage.fault()
        with stage.fleet.redis() as client:
            await stage.do(client.script_flush)


async def clients_killed(stage: play.Play) -> None:
    """Let Redis close the connections of all clients, five times."""
    for _ in range(5):
        await stage.pause(0.3, 0.8)
        stage.fault()
        with stage.fleet.redis() as client:
            await stage.do(_kill_clients, client)


def _kill_clients(client: redis.Redis) -> None:
    for kind in ("normal", "pubsub"):
        client.client_kill_filter(_type=kind, skipme=True)


async def redis_clock_back(stage: play.Play) -> None:
    """Set the clock of Redis back by five minutes."""
    await stage.fetched(5)
    stage.fault()
    stage.fleet.set_clock("valkey", -300)
    await stage.pause(1.0)


async def redis_clock_ahead(stage: play.Play) -> None:
    """Set the clock of Redis ahead by five minutes."""
    await stage.fetched(5)
    stage.fault()
    stage.fleet.set_clock("valkey", 300)
    await stage.pause(1.0)


async def kill_mongodb(stage: play.Play) -> None:
    """Kill MongoDB, and start it with its data."""
    await stage.fetched(stage.dice.randint(3, 20))
    await stage.kill("mongodb", 1.0)


async def freeze_mongodb(stage: play.Play) -> None:
    """Stop MongoDB beyond the timeout of an operation."""
    await stage.pause(0.5, 1.5)
    await stage.freeze("mongodb", 6.0)


async def read_only_mongodb(stage: play.Play) -> None:
    """Let MongoDB refuse writes as a server that is no primary."""
    await _answered(stage, lambda name: mongo_faults.NOT_PRIMARY if name in mongo_faults.WRITES else None, 4.0)


async def full_mongodb(stage: play.Play) -> None:
    """Let MongoDB refuse writes for want of disk space."""
    await _answered(stage, lambda name: mongo_faults.DISK_FULL if name in mongo_faults.WRITES else None, 4.0)


async def stepped_down_mongodb(stage: play.Play) -> None:
    """Let every third write take effect and be answered with an error of a failover."""
    count = itertools.count(1)

    def answer(name: str) -> dict[str, object] | None:
        return mongo_faults.STEPPING_DOWN if name in mongo_faults.WRITES and next(count) % 3 == 0 else None

    await _answered(stage, answer, 6.0, after=True)


async def _answered(stage: play.Play, answer: mongo_faults.Play, seconds: float, *, after: bool = False) -> None:
    await stage.pause(0.2, 0.5)
    made = mongo_faults.MongoFaults()
    for link in stage.to("mongodb"):
        link.serve = made.serve
        link.cut()  # new connections are served message by message
    await stage.pause(0.5)
    stage.fault()
    made.play, made.after = answer, after
    await stage.pause(seconds)
    made.play = None
    stage.notes["answered"] = made.answered


SCENARIOS = [
    waves.Scenario("flush-redis", "servers", "Redis may lose all its data.", flush_redis),
    waves.Scenario("kill-redis", "servers", "Redis may be killed and started again.", kill_redis),
    waves.Scenario("empty-redis", "servers", "Redis may be replaced by an empty one.", empty_redis),
    waves.Scenario("freeze-redis", "servers", "Redis may stand still.", freeze_redis),
    waves.Scenario("full-redis", "servers", "Redis may be out of memory.", full_redis),
    waves.Scenario("read-only-redis", "servers", "Redis may be a replica for a while.", read_only_redis),
    waves.Scenario("refusing-redis", "servers", "Redis may refuse writes.", refusing_redis),
    waves.Scenario("scripts-lost", "servers", "Redis may lose its scripts.", scripts_lost),
    waves.Scenario("clients-killed", "servers", "Redis may close all connections.", clients_killed),
    waves.Scenario("redis-clock-back", "servers", "The clock of Redis may be set back.", redis_clock_back, CLOCKS),
    waves.Scenario("redis-clock-ahead", "servers", "The clock of Redis may be set ahead.", redis_clock_ahead, CLOCKS),
    waves.Scenario("kill-mongodb", "servers", "MongoDB may be killed and started again.", kill_mongodb),
    waves.Scenario("freeze-mongodb", "servers", "MongoDB may stand still.", freeze_mongodb),
    waves.Scenario("read-only-mongodb", "servers", "MongoDB may refuse writes in a failover.", read_only_mongodb),
    waves.Scenario("full-mongodb", "servers", "MongoDB's disk may be full.", full_mongodb),
    waves.Scenario(
        "stepped-down-mongodb", "servers", "A write that fails may have taken effect.", stepped_down_mongodb
    ),
]
