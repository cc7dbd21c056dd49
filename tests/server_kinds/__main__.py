"""
`make check-servers`: runs tests and product on several Redis servers, and plays the faults of servers.

What was seen is added to docs/servers.json and docs/servers.md. A server that this machine lacks is left out; in CI
that is a failure.
"""

import argparse
import dataclasses
import os
import sys
from typing import Any

from tests.server_kinds import faults, kinds, page


def main() -> int:
    """Run what is named, or all; returns 1 when something failed."""
    parser = argparse.ArgumentParser(prog="make check-servers", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of servers or faults", default=[])
    parser.add_argument("--list", action="store_true", help="show the names")
    options = parser.parse_args()
    by_name = {kind.name: kind for kind in kinds.KINDS}
    names = [*by_name, *faults.names()]
    if options.list:
        print("\n".join(names))
        return 0
    unknown = set(options.only) - set(names)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    chosen = options.only or names
    failed = [name for name in chosen if not _run(name, by_name)]
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed{''.join(f' {one}' for one in failed)}")
    return 1 if failed else 0


def _run(name: str, by_name: dict[str, kinds.Kind]) -> bool:
    """Run one, and record what was seen."""
    if name in by_name:
        result = kinds.try_out(by_name[name])
        if result is None:
            print(f"{name}: this machine has no such server", flush=True)
            return os.environ.get("CI") != "true"  # noqa: TID251 -- a variable of this check
        print(f"{name}: {result.version}; {result.tests or 'no tests'}; {result.product}", flush=True)
        _record("kinds", name, dataclasses.asdict(result), by_name)
        return result.passed
    program = kinds.redis_7() or kinds.valkey()
    if program is None:
        print(f"{name}: this machine has no Redis", flush=True)
        return False
    seen = faults.play(name, program)
    print(f"{name}: {seen}", flush=True)
    _record("faults", name, seen, by_name)
    return True


def _record(part: str, name: str, seen: dict[str, Any], by_name: dict[str, kinds.Kind]) -> None:
    record = page.load()
    record[part][name] = seen
    page.write(record, by_name, faults.names())


if __name__ == "__main__":
    sys.exit(main())
