"""The store's clock, as a process estimates it."""

import pytest
import structlog.testing

from indexing.store import store_clock
from tests import clockwork

STORE = 3_600_000_000.0


class Machine:
    """
    A machine whose clock differs from the store's.

    Attributes:
        ahead: Seconds by which its clock is ahead of the store's true one.
        trip: Seconds of one way to the store.
        set_by: Seconds by which the store's clock was set.
        witness: By how much the other server's clock differs from the store's true one; None when unknown.
    """

    def __init__(self) -> None:
        self.monotonic = clockwork.ManualClock()
        self.ahead = 0.0
        self.trip = 0.0
        self.set_by = 0.0
        self.witness: float | None = 0.0
        self.clock = store_clock.StoreClock(
            self._read,
            witness=lambda: None if self.witness is None else self.true + self.witness,
            local=lambda: self.true + self.ahead,
            monotonic=lambda: self.monotonic.elapsed,
        )

    @property
    def true(self) -> float:
        """The true time."""
        return STORE + self.monotonic.elapsed

    async def _read(self) -> float | None:
        self.monotonic.advance(self.trip)
        shown = self.true + self.set_by
        self.monotonic.advance(self.trip)
        return shown


@pytest.fixture
def machine() -> Machine:
    """A machine one hour ahead."""
    made = Machine()
    made.ahead = 3_600.0
    return made


async def test_time_is_the_stores_when_the_machines_clock_is_wrong(machine: Machine) -> None:
    """Due times and leases of all processes are moments of one clock."""
    machine.trip = 0.5
    await machine.clock.measure()

    machine.monotonic.advance(100.0)

    assert machine.clock() == pytest.approx(machine.true)
    assert machine.clock.difference == pytest.approx(3_600.0)


async def test_time_goes_on_when_the_machines_clock_is_set(machine: Machine) -> None:
    """Only monotonic seconds count between two readings."""
    await machine.clock.measure()

    machine.ahead = -86_400.0

    assert machine.clock() == pytest.approx(machine.true)


async def test_a_precise_reading_is_kept_when_a_later_one_was_slow(machine: Machine) -> None:
    """A slow store shows its clock at an unknown moment of the exchange."""
    await machine.clock.measure()
    machine.trip = 2.0
    machine.set_by = 1.9

    await machine.clock.measure()

    assert machine.clock() == pytest.approx(machine.true)


@pytest.mark.parametrize("seconds", [-300.0, 300.0])
async def test_time_follows_the_store_when_its_clock_is_set(machine: Machine, seconds: float) -> None:
    """As after a failover to a machine with another clock; one line is logged."""
    await machine.clock.measure()
    machine.set_by = seconds

    with structlog.testing.capture_logs() as lines:
        await machine.clock.measure()
        await machine.clock.measure()

    assert machine.clock() == pytest.approx(machine.true + seconds)
    assert [(line["event"], line["seconds"]) for line in lines] == [("store_clock_set", seconds)]


@pytest.mark.parametrize(
    ("ahead", "set_by", "witness", "unready"),
    [
        (3_600.0, 0.0, 0.0, True),
        (-3_600.0, 0.0, 0.0, True),
        (10.0, 0.0, 0.0, False),
        (0.0, 3_600.0, 0.0, False),
        (3_600.0, 0.0, None, False),
    ],
    ids=["ahead", "behind", "near", "store-wrong", "no-witness"],
)
async def test_process_is_unready_when_its_machines_clock_is_wrong(
    machine: Machine, *, ahead: float, set_by: float, witness: float | None, unready: bool
) -> None:
    """Another pod does better then, but not when the store's clock is the odd one."""
    machine.ahead, machine.set_by, machine.witness = ahead, set_by, witness

    await machine.clock.measure()

    assert bool(machine.clock.unready_reason()) is unready
