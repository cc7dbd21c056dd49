"""
`make fuzz`: a hundred thousand random requests at the edge, and as many mutilated answers of Discord.

Ends with 1 and shows the first faults, with what brings each out again, when a call ended as none may.
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


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def main() -> int:
    """Throw them; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="random requests (default 100000)")
    parser.add_argument("--stack", type=int, default=10_000, help="the same at a whole stack (default 10000)")
    parser.add_argument("--answers", type=int, default=100_000, help="mutilated answers (default 100000)")
    parser.add_argument(
        "--seed", type=int, default=time.time_ns(), help="the same seed throws the same (default: the time)"
    )
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    _say(f"seed {options.seed}")
    began = time.perf_counter()
    calls = asyncio.run(edge.throw(options.requests, options.seed))
    took = {"requests_s": round(time.perf_counter() - began, 1), "slowest_call_s": round(calls.slowest, 2)}
    began = time.perf_counter()
    real = edge.throw_at_stack(options.stack, options.seed) if options.stack else edge.Outcome()
    took["stack_s"] = round(time.perf_counter() - began, 1)
    took["slowest_call_of_stack_s"] = round(real.slowest, 2)
    began = time.perf_counter()
    read = answers.throw(options.answers, options.seed)
    took["answers_s"] = round(time.perf_counter() - began, 1)
    _say(
        json.dumps(
            {"ends": calls.codes, "answered": calls.answered, "stack": real.codes, "answers": read.counts, **took},
            indent=2,
        )
    )
    faults = [f"{fault.method} {fault.request.hex()[:400]}: {fault.problem}" for fault in calls.faults + real.faults]
    faults += [f"{body[:400]!r}: {problem}" for body, problem in read.faults]
    _say(f"{len(faults)} faults")
    for fault in faults[:SHOWN]:
        _say(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
