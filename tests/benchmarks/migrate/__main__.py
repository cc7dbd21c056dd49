"""
Migrates a database of the release before: `make bench-migrate`.

Guilds have 50 channels, 10 of them gone, with two overwrites each; users are members of 20 guilds. The rows are made by
the same functions as those of tests/contract/test_migrations.py. The server is a process of its own on this machine.
"""

import argparse
import asyncio
import os
import pathlib
import random
import time
from typing import Any

from indexing import settings
from indexing.store import database, migrations, schema
from tests import clockwork, servers
from tests.benchmarks import facts, report
from tests.contract import old_form

CHANNELS = 50
GUILDS_A_USER = 20
AT_ONCE = 5_000
"""Rows inserted at once."""


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guilds", type=int, default=2_000)
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file as well")
    return parser.parse_args()


async def fill(db: database.Database, guilds: int, users: int) -> int:
    """Store the rows; returns how many channels."""
    rng = random.Random(1)
    rows: dict[str, list[dict[str, Any]]] = {"guilds": [], "channels": [], "users": [], "memberships": []}
    for guild_id in range(old_form.FIRST_GUILD, old_form.FIRST_GUILD + guilds):
        head, _ = old_form.guild(guild_id, rng)
        rows["guilds"].append({**head, "fetched_at": clockwork.START, "fence": 1, "fingerprint": "f" * 32})
        rows["channels"] += [old_form.channel(guild_id, number, rng) for number in range(CHANNELS)]
    for user_id in range(old_form.FIRST_USER, old_form.FIRST_USER + users):
        rows["users"].append(old_form.user(user_id, rng))
        places = rng.sample(range(guilds), min(guilds, GUILDS_A_USER))
        rows["memberships"] += [old_form.membership(user_id, place, rng) for place in places]
    for name, each in rows.items():
        for first in range(0, len(each), AT_ONCE):
            await db[name].insert_many(each[first : first + AT_ONCE])
    return len(rows["channels"])


async def measure(url: str, pid: int, guilds: int, users: int) -> dict[str, object]:
    """Migrate a database of this size; returns figures."""
    config = settings.MongoSettings(url=url, database="bench", timeout=60.0)
    async with database.open_database(config) as db:
        form = await schema.open_schema(db, "rows")
        await migrations.make_indexes(db, await form.state())
        channels = await fill(db, guilds, users)
        batches: list[migrations.Batch] = []
        began, server, own = time.monotonic(), facts.cpu_seconds(pid), facts.cpu_seconds(os.getpid())
        await migrations.Migrator(db, lambda: clockwork.START, batches.append, settle=0.0).migrate()
        seconds = time.monotonic() - began
        cpu = facts.cpu_seconds(pid) - server, facts.cpu_seconds(os.getpid()) - own
        stored = await db.command("collStats", "guilds")
    steps = sorted({(batch.again, batch.step) for batch in batches})
    report.show("Steps", [_step(batches, again=again, name=name) for again, name in steps])
    return {
        "machine": facts.machine(),
        "guilds": guilds,
        "channels": channels,
        "users": users,
        "seconds": round(seconds, 2),
        "slowest_batch_seconds": round(max(batch.seconds for batch in batches), 3),
        "server_cpu_seconds": round(cpu[0], 2),
        "own_cpu_seconds": round(cpu[1], 2),
        "bytes_a_guild": round(stored["size"] / guilds),
    }


def _step(batches: list[migrations.Batch], *, again: bool, name: str) -> dict[str, object]:
    found = [batch for batch in batches if (batch.again, batch.step) == (again, name)]
    return {
        "pass": 2 if again else 1,
        "step": name,
        "batches": len(found),
        "copied": sum(batch.copied for batch in found),
        "seconds": sum(batch.seconds for batch in found),
        "slowest": max(batch.seconds for batch in found),
    }


def _only_child() -> int:
    children = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    (pid,) = children
    return int(pid)


def main() -> None:
    """Measure, and print what was found."""
    given = options()
    with servers.mongodb() as url:
        found = asyncio.run(measure(url, _only_child(), given.guilds, given.users))
    report.keep(found, given.json)


if __name__ == "__main__":
    main()
