"""Refused tokens are counted for the caller that brought them; a caller with too many is stopped, others go on."""

import asyncio

import pytest
import structlog.testing

from indexing import errors
from indexing.domain import model
from indexing.ratelimit import limiter, limits
from tests.contract.ratelimit import fleet

pytestmark = pytest.mark.clockwork
PROOF = "GET /oauth2/@me"


def junk(caller: str, **others: object) -> limits.Charge:
    """Return the charge of a call with a token that a caller brought."""
    fields: dict[str, object] = {"route": PROOF, "identity": "proof:abc", "major": None, "brought_by": caller}
    return fleet.charge(None, **(fields | others))


async def refuse(process: fleet.Process, of: limits.Charge, count: int, status: int = 401) -> None:
    """Make *count* calls, each of which Discord answers with *status*."""
    for _ in range(count):
        permit = await process.take(of, max_wait=10.0)
        await process.limiter.settle(permit, limiter.Answer(status, {}, 0.01))
        await process.limiter.close()
        await asyncio.sleep(0.05)


@pytest.fixture
async def process(shared: fleet.Fleet) -> fleet.Process:
    """A process of a fleet that stops at 50 invalid answers, and a caller at 10."""
    made = shared.process(limiter_stop_bulk=0.004, limiter_stop_all=0.005)
    await made.learn_routes(fleet.CHANNELS, fleet.GUILDS)
    await made.learn_routes(PROOF, identity="proof:abc")
    return made


async def test_a_caller_is_stopped_at_a_fifth_of_the_limit_when_its_tokens_are_refused(
    process: fleet.Process, shared: fleet.Fleet
) -> None:
    """In every process and lane, until enough of the answers are ten minutes old; not one answer earlier."""
    await refuse(process, junk("b"), 9)
    await refuse(process, junk("b"), 1)
    other = shared.process(limiter_stop_bulk=0.004, limiter_stop_all=0.005)

    for each in (process, other):
        for lane in model.Lane:
            refusal = await each.refused(junk("b", lane=lane))
            assert isinstance(refusal, errors.CallerStopped)
            assert (refusal.caller, refusal.budget, refusal.why) == ("b", "egress", "caller")
    assert 500 < refusal.retry_after <= 600
    await asyncio.sleep(refusal.retry_after)
    await process.take(junk("b"))


async def test_others_go_on_when_a_caller_is_stopped(process: fleet.Process) -> None:
    """Another caller's tokens, the unnamed one's, and the bot's calls for the users of the stopped one."""
    await refuse(process, junk("b"), 10)

    for going_on in (junk("a"), junk(""), fleet.charge(1, callers=("b",), lane=model.Lane.BACKGROUND)):
        await process.call(going_on)
    with pytest.raises(errors.CallerStopped):
        process.limiter.check_caller("b")
    process.limiter.check_caller("a")


async def test_a_stopped_caller_delays_nobody_when_its_jobs_wait(process: fleet.Process) -> None:
    """What waits for the end of a stop keeps no position in the queue."""
    await refuse(process, junk("b"), 10)
    for number in range(60):
        await process.refused(junk("b", lane=model.Lane.BACKGROUND, waiter=f"job {number}", callers=("b",)))
    await asyncio.sleep(5)

    for number in range(3):
        await process.take(fleet.charge(100 + number, lane=model.Lane.BACKGROUND, callers=("a",)))


@pytest.mark.parametrize(
    ("of", "status"),
    [
        pytest.param(junk(""), 401, id="the-unnamed-callers"),
        pytest.param(fleet.charge(1, callers=("b",)), 403, id="the-bots"),
        pytest.param(junk("b"), 404, id="not-found"),
        pytest.param(junk("b"), 200, id="accepted"),
    ],
)
async def test_nothing_counts_for_a_caller_when_no_token_of_its_own_is_refused(
    process: fleet.Process, of: limits.Charge, status: int
) -> None:
    """A large honest caller gets hundreds of 403s to the bot's token."""
    await refuse(process, of, 12, status)

    await process.take(junk("b"))
    assert [state for state in await process.limiter.snapshot() if state.kind == "invalid_requests"][1:] == []


async def test_a_429_is_not_the_callers_when_it_answers_a_call_with_its_token(process: fleet.Process) -> None:
    """Our own calls were too many."""
    await fleet.settle_429(process, {"x-ratelimit-scope": "user"}, of=junk("b"), retry_after=0.1)

    rows = [state for state in await process.limiter.snapshot() if state.kind == "invalid_requests"]
    assert [(row.key, row.free) for row in rows] == [("", 9_999)]


async def test_a_stop_is_logged_once_when_it_begins(process: fleet.Process, shared: fleet.Fleet) -> None:
    """With the caller; answers that arrive later belong to the same stop."""
    late = [await process.take(junk("b"), max_wait=10.0) for _ in range(3)]

    with structlog.testing.capture_logs() as logged:
        await refuse(process, junk("b"), 10)
        for permit in late:
            await process.limiter.settle(permit, limiter.Answer(401, {}, 0.01))
        await process.limiter.close()
        await shared.process(limiter_stop_bulk=0.004, limiter_stop_all=0.005).refused(junk("b"))

    (line,) = [line for line in logged if line["event"] == "caller_stopped"]
    assert (line["caller"], line["refused_tokens"], line["log_level"]) == ("b", 10, "warning")
    assert 500 < line["seconds"] <= 600


async def test_a_snapshot_names_callers_when_their_tokens_are_refused(process: fleet.Process) -> None:
    """What is left until each one's stop, and for how long it is stopped."""
    await refuse(process, junk("b"), 10)
    await refuse(process, junk("a"), 3)

    everything, first, second = (
        state for state in await process.limiter.snapshot() if state.kind == "invalid_requests"
    )
    assert (everything.key, everything.free, everything.paused_for) == ("", 9_987, 0)
    assert (first.key, first.capacity, first.free, first.reason) == ("a", 10, 7, "")
    assert (second.key, second.capacity, second.free, second.reason) == ("b", 10, 0, "caller")
    assert 500 < second.paused_for <= 600
    await asyncio.sleep(660)
    assert len([state for state in await process.limiter.snapshot() if state.kind == "invalid_requests"]) == 1
