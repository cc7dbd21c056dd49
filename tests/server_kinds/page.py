"""Writes docs/servers.md from what the drills have recorded in docs/servers.json."""

import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

DOCS = pathlib.Path(__file__).parents[2] / "docs"
RECORD, PAGE = DOCS / "servers.json", DOCS / "servers.md"
HEADER = """<!-- Generated from docs/servers.json by make check-servers, which adds what it has seen. -->
# Servers

On which servers the product has run, and what it says about a faulty one. [deploy.md](deploy.md) says how to set them up.

## Redis and Valkey

`make check-servers` runs the contract tests of everything that speaks to Redis on each server, and the whole product: it indexes users, shows limits, and erases a user, with the separate refresh process and the exporter.
A *limited user* has [the documented rights](deploy.md#rights-of-the-redis-user) and no others; the server's ACL log must stay empty but for `client|setinfo`, which redis-py ignores.
TLS is with an authority of its own: `rediss://…?ssl_ca_certs=FILE`. Failovers are played by `make check-failover`.

"""
MONGODB = """
## MongoDB

The product has run on the embedded MongoDB-compatible server only (SecantusDB 0.7), because MongoDB's own server is in none of the package registries that its development can reach. It keeps to what the manuals of MongoDB 4.4 to 8.0 document, and tries at boot what it relies on.

| server | state |
|---|---|
| MongoDB 4.4 to 8.0 | written for; not run |
| SecantusDB 0.7 | all tests; for development only |
| FerretDB 1.24 | the boot ends: it lacks partial indexes, TTL indexes and `findAndModify` with a projection |
| Amazon DocumentDB | unproven; `retryWrites=true` does not work there, so set `retryWrites=false` |
"""
FAULTS = """
## Faults

What the product says when a server is faulty: a service that starts, and a running one whose server becomes faulty.
Answers are those of `ListGuilds` and `StartIndexing` at the end of the watch; alerts are those that a Prometheus with the product's rules had pending or firing by then. Redis is 7.0; the faults of MongoDB are played by a proxy in front of the embedded server.
That Prometheus scrapes each second and waits a second for an answer, so an exporter that waits for a slow server counts as absent. The machine was busy with other work.
The waiting times at start were set to 4 s; the defaults are 60 s for Redis and 45 s for MongoDB.

| fault | at start | readiness | callers | log | alerts |
|---|---|---|---|---|---|
"""
ADDRESS = re.compile(r"127\.0\.0\.1:\d+")
Record = dict[str, dict[str, Any]]


def load() -> Record:
    """Return what is recorded: results of kinds and of faults, by name."""
    return dict(json.loads(RECORD.read_text("utf-8"))) if RECORD.exists() else {"kinds": {}, "faults": {}}


def write(record: Record, kinds: Iterable[str], faults: Iterable[str]) -> None:
    """Write the record and the page, in the order of the names."""
    order = {"kinds": list(kinds), "faults": list(faults)}
    kept = {part: {name: record[part][name] for name in order[part] if name in record[part]} for part in order}
    RECORD.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    PAGE.write_text(render(kept), "utf-8")


def render(record: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page."""
    kinds = ["| server | version | contract tests | product |", "|---|---|---|---|"]
    kinds += [
        _row(name, result["version"], result["tests"] or "-", result["product"])
        for name, result in record["kinds"].items()
    ]
    faults = [_fault(name, seen) for name, seen in record["faults"].items()]
    return HEADER + "\n".join(kinds) + "\n" + MONGODB + FAULTS + "".join(f"{line}\n" for line in faults)


def _fault(name: str, seen: Mapping[str, Any]) -> str:
    boot, later = seen["boot"], seen["later"]
    said = "<br>".join(f"`{line}`" for line in boot["lines"])
    ended = f"exits with {boot['code']} after {boot['seconds']:.0f} s"
    if boot["code"] is None:
        ended = f"{'serves' if boot['ready'] else 'neither serves nor ends'} after {boot['seconds']:.0f} s"
    start = f"{ended}: {said}" if said else ended
    if later is None:
        return _row(name, start, "-", "-", "-", "-")
    unready = later["unready_after"]
    ready = "stays ready" if unready is None else f"not ready after {unready:.0f} s"
    callers = "<br>".join(f"{method}: {answer}" for method, answer in later["answers"].items())
    log = f"`{later['line']}`" if later["line"] else "-"
    return _row(name, start, ready, callers, log, ", ".join(f"`{one}`" for one in later["alerts"]) or "none")


def _row(*cells: str) -> str:
    shown = (ADDRESS.sub("HOST:PORT", cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(shown)} |"
