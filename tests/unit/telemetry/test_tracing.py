"""The context of a piece of work, within a process and across processes."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from indexing.domain import turns
from indexing.telemetry import logs, tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_request_id_is_restored_when_the_context_is() -> None:
    """Without tracing, and in the log lines there."""
    with tracing.continue_trace("call", "req-1 "):
        carried = tracing.serialize_context()
    assert logs.field("request_id") == ""

    with tracing.continue_trace("turn", carried):
        assert logs.field("request_id") == "req-1"


def test_the_trace_is_continued_when_the_context_is_restored() -> None:
    """With the same trace id, with or without a request id."""
    for carried in (PARENT, f"req-1 {PARENT}", f"- {PARENT}"):
        with tracing.continue_trace("turn", carried):
            assert trace.format_trace_id(trace.get_current_span().get_span_context().trace_id) == PARENT[3:35]


@pytest.mark.parametrize("carried", ["", "nonsense", "req-1 00-zz-zz-01", "a b c d"])
def test_a_new_context_starts_when_the_serialized_one_is_invalid(carried: str) -> None:
    """Whatever the text contains."""
    with tracing.continue_trace("turn", carried):
        pass


def test_the_serialized_context_is_empty_when_there_is_no_context() -> None:
    """As for a turn of the sweeper, or of an older version."""
    assert tracing.serialize_context() == ""
    assert turns.Turn("a" * 32, 1).payload() == {"job_id": "a" * 32, "number": 1}
    assert turns.parse({"job_id": "a" * 32, "number": 1}).carried == ""


def test_the_context_of_a_turn_survives_its_message_when_it_is_parsed() -> None:
    """The context does not change the turn's identity."""
    turn = turns.Turn("a" * 32, 1, f"req-1 {PARENT}")

    arrived = turns.parse(turn.payload())

    assert arrived.carried == turn.carried
    assert arrived == turns.Turn("a" * 32, 1)


def test_an_exemplar_links_to_the_trace_when_it_is_recorded() -> None:
    """Without a recorded trace there is none."""
    assert tracing.exemplar() is None

    with TracerProvider().get_tracer("test").start_as_current_span("work") as span:
        linked = tracing.exemplar()

    assert linked == {"trace_id": trace.format_trace_id(span.get_span_context().trace_id)}
