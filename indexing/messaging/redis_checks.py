"""
What a process checks of Redis at its start: kind and version of the server, its memory policy, and the user's rights.

A missing right breaks the product where no log names it: without the limiter's keys starts are accepted and jobs stand
still, without INFO a failover is not noticed. CONFIG and ROLE, which many providers forbid, are not needed.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import redis.asyncio
import redis.exceptions

from indexing import errors
from indexing.messaging import redis_connections, redis_errors
from indexing.telemetry import logs

OLDEST = (6, 2)
FULL_SHARE = 0.8
KEYS = {"indexer:*": ("indexer:{boot}:check",), "dramatiq:*": ("dramatiq", "dramatiq:boot:check")}
"""Key patterns that the product writes, and keys of them for the check. Only the last key of each is written."""
CHECK = """
-- Write and delete a key, and run the commands that only scripts run.
-- KEYS declared ones, the last is written   ARGV 1 pattern of which no key exists
-- Reply: the first refused command and the error, or nothing.
redis.call('SET', KEYS[#KEYS], '1', 'PX', 1000)
redis.call('DEL', KEYS[#KEYS])
for _, command in ipairs({{'INFO', 'replication'}, {'TIME'}, {'KEYS', ARGV[1]}}) do
  local reply = redis.pcall(unpack(command))
  if type(reply) == 'table' and reply.err then
    return {command[1], reply.err}
  end
end
return {}
"""
MAY_NOT_INFO = "the Redis user may not run INFO: no failover would be noticed; grant +info"
SEE = "see docs/deploy.md"


async def check_server(client: redis.asyncio.Redis, limiter_key: str) -> None:
    """
    Check a Redis that answers, and log a warning for each fact that will do harm later.

    Raises:
        errors.QueueUnavailable: Redis cannot be used as it is, in one line for the operator.
    """
    with redis_errors.translated():
        facts = await _read_facts(client)
        if facts.mode == "cluster":
            raise errors.QueueUnavailable(f"REDIS_URL: {redis_errors.CLUSTER_LINE}")
        if facts.mode == "sentinel":
            raise errors.QueueUnavailable("REDIS_URL: a Sentinel listens there; begin the URL with redis+sentinel://")
        info = await _read_info(client)
        version = str(info.get("redis_version", facts.version))
        if _parse_version(version) < OLDEST:
            raise errors.QueueUnavailable(f"REDIS_URL: Redis {version} is too old; 6.2 or newer is needed")
        if info.get("redis_mode") == "cluster":
            raise errors.QueueUnavailable(f"REDIS_URL: {redis_errors.CLUSTER_LINE}")
        warnings = list_warnings(info)
        for pattern, keys in {**KEYS, "{dl:*": (limiter_key,)}.items():
            warnings += await _check_rights(client, pattern, keys)
    log = logs.get(__name__)
    for warning in dict.fromkeys(warnings):
        log.warning("redis_check", problem=warning)


async def _read_facts(client: redis.asyncio.Redis) -> redis_connections.ServerFacts:
    try:
        return redis_connections.ServerFacts(await client.execute_command("HELLO"))  # type: ignore[no-untyped-call]  # untyped there
    except redis.exceptions.ResponseError:
        return redis_connections.ServerFacts()


async def _read_info(client: redis.asyncio.Redis) -> Mapping[str, Any]:
    try:
        info: Mapping[str, Any] = await client.info()
    except redis.exceptions.ResponseError as error:
        if redis_errors.diagnose(error).trouble is redis_errors.Trouble.RIGHTS:
            raise errors.QueueUnavailable(MAY_NOT_INFO) from error
        raise
    return info


def _parse_version(text: str) -> tuple[int, ...]:
    """Return major and minor number. An unknown version counts as new."""
    numbers = [part for part in text.split(".")[:2] if part.isdecimal()]
    return tuple(map(int, numbers)) or OLDEST


def list_warnings(info: Mapping[str, Any]) -> list[str]:
    """Return a line for each harmful fact in the reply to INFO. Raises errors.QueueUnavailable if keys are evicted."""
    warnings = []
    policy, limit = str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0))
    if policy != "noeviction":
        line = f"Redis evicts keys ({policy}): set maxmemory-policy noeviction"
        if limit:
            raise errors.QueueUnavailable(line)
        warnings.append(line)
    used = int(info.get("used_memory", 0))
    if limit and used > FULL_SHARE * limit:
        warnings.append(f"Redis uses {used / limit:.0%} of its maxmemory; no call is made once it is full (OOM)")
    if not int(info.get("aof_enabled", 1)):
        warnings.append("Redis keeps nothing over a restart: set appendonly yes")
    if "err" in {info.get("aof_last_write_status"), info.get("rdb_last_bgsave_status")}:
        warnings.append("Redis cannot write to disk (MISCONF)")
    return warnings


async def _check_rights(client: redis.asyncio.Redis, pattern: str, keys: Sequence[str]) -> list[str]:
    """Run the check on keys of a pattern; returns warnings. Raises errors.QueueUnavailable for a missing right."""
    try:
        refused: Any = await client.eval(CHECK, len(keys), *keys, f"indexer:none:{uuid.uuid4().hex}")
    except redis.exceptions.ResponseError as error:
        diagnosis = redis_errors.diagnose(error)
        if diagnosis.trouble in {redis_errors.Trouble.FULL, redis_errors.Trouble.DISK}:
            return [f"Redis {diagnosis.text}"]
        if diagnosis.trouble is not redis_errors.Trouble.RIGHTS:
            raise
        if "EVAL" in diagnosis.text:
            raise errors.QueueUnavailable(f"the Redis user may not run scripts: {SEE}") from error
        raise errors.QueueUnavailable(f"the Redis user may not write {pattern}: {SEE}") from error
    if refused:
        command = refused[0].decode()
        raise errors.QueueUnavailable(
            MAY_NOT_INFO if command == "INFO" else f"the Redis user may not run {command}: {SEE}"
        )
    return []
