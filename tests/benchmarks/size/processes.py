"""Memory and CPU of running programs, from Linux's /proc."""

import dataclasses
import os
import pathlib

TICKS = os.sysconf("SC_CLK_TCK")
PROC = pathlib.Path("/proc")


@dataclasses.dataclass(frozen=True)
class Use:
    """
    Resources used by a program with all its processes.

    Attributes:
        cpu: Seconds of CPU time.
        memory: Resident MiB now; shared pages count in each process.
        peak: Sum of the processes' peak resident MiB.
    """

    cpu: float
    memory: float
    peak: float


def use_of(pid: int) -> Use:
    """Return the resources used by a process and its descendants."""
    found = [_one(each) for each in _family(pid)]
    return Use(sum(use.cpu for use in found), sum(use.memory for use in found), sum(use.peak for use in found))


def _family(pid: int) -> list[int]:
    children = (PROC / str(pid) / "task" / str(pid) / "children").read_text().split()
    return [pid, *(each for child in children for each in _family(int(child)))]


def _one(pid: int) -> Use:
    numbers = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    status = dict(line.split(":", 1) for line in (PROC / str(pid) / "status").read_text().splitlines())
    resident, peak = (int(status[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return Use((int(numbers[11]) + int(numbers[12])) / TICKS, resident, peak)
