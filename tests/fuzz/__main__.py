"""
`make fuzz`: a hundred thousand random requests to the service, and as many mutated responses of Discord.

Exits with 1 and prints the first faults, with the input that reproduces each.
"""

import argparse
import asyncio
import json
import logging
import sys
import time

import structlog

from tests.fuzz import answers, edge

SHOWN = 10


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the fuzzers; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="random requests (default 100000)")
    parser.add_argument("--stack", type=int, default=10_000, help="random requests to a whole stack (default 10000)")
    parser.add_argument("--answers", type=int, default=100_000, help="mutated responses of Discord (default 100000)")
    parser.add_argument(
        "--seed", type=int, default=time.time_ns(), help="the same seed sends the same (default: the time)"
    )
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    _print(f"seed {options.seed}")
    began = time.perf_counter()
    calls = asyncio.run(edge.send_requests(options.requests, options.seed))
    took = {"requests_s": round(time.perf_counter() - began, 1), "slowest_call_s": round(calls.slowest, 2)}
    began = time.perf_counter()
    real = edge.send_requests_to_stack(options.stack, options.seed) if options.stack else edge.Outcome()
    took["stack_s"] = round(time.perf_counter() - began, 1)
    took["slowest_call_of_stack_s"] = round(real.slowest, 2)
    began = time.perf_counter()
    read = answers.read_responses(options.answers, options.seed)
    took["answers_s"] = round(time.perf_counter() - began, 1)
    _print(
        json.dumps(
            {"ends": calls.codes, "answered": calls.answered, "stack": real.codes, "answers": read.counts, **took},
            indent=2,
        )
    )
    faults = [f"{fault.method} {fault.request.hex()[:400]}: {fault.problem}" for fault in calls.faults + real.faults]
    faults += [f"{body[:400]!r}: {problem}" for body, problem in read.faults]
    _print(f"{len(faults)} faults")
    for fault in faults[:SHOWN]:
        _print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
