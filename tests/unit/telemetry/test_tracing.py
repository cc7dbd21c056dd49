"""Where a piece of work comes from, on its way through a process and to the next."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from indexing.domain import turns
from indexing.telemetry import logs, tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_request_id_goes_on_elsewhere_when_the_work_does() -> None:
    """Without any tracing, and into the log lines there."""
    with tracing.continue_trace("call", "req-1 "):
        carried = tracing.serialize_context()
    assert logs.field("request_id") == ""

    with tracing.continue_trace("turn", carried):
        assert logs.field("request_id") == "req-1"


def test_a_trace_goes_on_elsewhere_when_it_is_recorded_there() -> None:
    """With the same trace id, whether or not there is a request id."""
    for carried in (PARENT, f"req-1 {PARENT}", f"- {PARENT}"):
        with tracing.continue_trace("turn", carried):
            assert trace.format_trace_id(trace.get_current_span().get_span_context().trace_id) == PARENT[3:35]


@pytest.mark.parametrize("carried", ["", "nonsense", "req-1 00-zz-zz-01", "a b c d"])
def test_work_begins_anew_when_what_it_carries_cannot_be_read(carried: str) -> None:
    """Whoever wrote it."""
    with tracing.continue_trace("turn", carried):
        pass


def test_nothing_is_carried_when_nobody_asked() -> None:
    """So a turn of the sweeper, and of an older version, has nothing."""
    assert tracing.serialize_context() == ""
    assert turns.Turn("a" * 32, 1).payload() == {"job_id": "a" * 32, "number": 1}
    assert turns.parse({"job_id": "a" * 32, "number": 1}).carried == ""


def test_what_a_turn_carries_arrives_when_its_message_does() -> None:
    """And makes it no other turn."""
    turn = turns.Turn("a" * 32, 1, f"req-1 {PARENT}")

    arrived = turns.parse(turn.payload())

    assert arrived.carried == turn.carried
    assert arrived == turns.Turn("a" * 32, 1)


def test_a_measurement_is_linked_to_its_trace_when_that_is_recorded() -> None:
    """And to none otherwise."""
    assert tracing.exemplar() is None

    with TracerProvider().get_tracer("test").start_as_current_span("work") as span:
        linked = tracing.exemplar()

    assert linked == {"trace_id": trace.format_trace_id(span.get_span_context().trace_id)}
