"""The running product when the clock of Redis' machine is set: jobs neither stand still nor exceed a limit."""

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable

import pytest

from devstack import programs
from devstack import stack as devstack
from tests.failover import test_product

LIBRARY = pathlib.Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
GOES_ON = 20.0
"""Seconds after the step in which calls go on: the hold of 7 s for a clock that was set, and slack."""


class Stack(devstack.Stack):
    """A stack whose Redis has a clock that can be set."""

    def __init__(self, options: devstack.Options, folder: pathlib.Path) -> None:
        super().__init__(options)
        self._clock = folder / "clock"
        self.set_clock(0)

    def set_clock(self, seconds: int) -> None:
        """Set the clock of Redis to *seconds* from the true time."""
        self._clock.write_text(f"{seconds:+d}s\n")

    def _start_program(self, make: Callable[[], programs.Program]) -> programs.Program:
        def with_clock() -> programs.Program:
            program = make()
            if program.name != "valkey":
                return program
            more = {
                "LD_PRELOAD": str(LIBRARY),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
            }
            return dataclasses.replace(program, environment={**program.environment, **more})

        return super()._start_program(with_clock)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("step", [-300, 300], ids=["back", "ahead"])
def test_waiting_jobs_go_on_when_redis_clock_is_set(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], step: int
) -> None:
    """As after a failover to a machine whose clock is behind: delays are kept, and the limiter holds once."""
    if not LIBRARY.exists():
        ours = os.environ.get("CI") == "true"  # noqa: TID251 -- for the tests, not for the product
        (pytest.fail if ours else pytest.skip)("faketime is missing: apt-get install faketime")
    options = dataclasses.replace(test_product.options("", 7.0, users=2), workers=1)
    environment = {name: value for name, value in options.environment.items() if name != "REDIS_URL"}
    with Stack(dataclasses.replace(options, environment=environment), tmp_path) as running:
        running.put_credentials()
        time.sleep(7.0)
        jobs = [test_product.start(running, user) for user in range(2)]
        time.sleep(2.0)
        running.set_clock(step)
        set_at = test_product.ask(running, "stats")["now"]
        ended = [test_product.end_of(running, job_id) for job_id in jobs]
        stats = test_product.ask(running, "stats?log=1")
    pause = min(at - set_at for at, *_ in stats["log"] if at > set_at + 3.0)
    with capsys.disabled():
        print(f"\n  clock set by {step} s: calls go on after {pause:.1f} s", end="", flush=True)  # noqa: T201 -- measured
    assert {job.state for job in ended} == {2}
    assert stats["http_429"] == 0
    assert pause < GOES_ON
