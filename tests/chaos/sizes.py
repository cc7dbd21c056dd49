"""Sizes of everything that must not grow."""

import pathlib
from typing import Any

import pymongo

from tests.chaos import fleet


def of(running: fleet.Fleet) -> dict[str, float]:
    """Return the size of everything that must not grow."""
    found: dict[str, float] = {}
    for name in running.processes:
        found[f"MiB of {name}"], found[f"files of {name}"] = _use(running.process_ids(name))
    with running.redis() as client:
        info: Any = client.info()
        found["connections of Redis"] = info["connected_clients"]
        keys: list[Any] = list(client.scan_iter(count=1000))
        found["keys of Redis without expiry"] = sum(client.ttl(key) == -1 for key in keys)
    with pymongo.MongoClient[dict[str, Any]](running.mongodb_url) as mongodb:
        database = mongodb[running.database]
        for name in database.list_collection_names():
            found[f"documents in {name}"] = database[name].count_documents({})
    return found


def _use(processes: list[int]) -> tuple[float, float]:
    """Return the resident MiB and the open files of some processes."""
    size, files = 0.0, 0.0
    for process in processes:
        try:
            status = pathlib.Path(f"/proc/{process}/status").read_text()
            files += sum(1 for _ in pathlib.Path(f"/proc/{process}/fd").iterdir())
        except OSError:
            continue
        size += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024
    return round(size, 1), files
