"""What interceptors make of handlers."""

from indexer_service import handlers
from indexer_service.v1 import indexer_pb2 as pb


def test_a_handler_is_wrapped_once_when_it_is_asked_for_again() -> None:
    """And anew when the handler below has changed."""
    made = handlers.Wrapped(lambda method, handler: [method, handler])
    below, other = object(), object()

    first = made.get("/a/B", below)

    assert first == ["/a/B", below]
    assert made.get("/a/B", below) is first
    assert made.get("/a/B", other) == ["/a/B", other]
    assert made.get("/a/C", below) == ["/a/C", below]


def test_nothing_is_kept_when_the_method_does_not_exist() -> None:
    """Or callers with made-up names could fill the memory."""
    made = handlers.Wrapped(lambda _method, handler: handler)

    answers = [made.get(f"/a/{number}", None) for number in range(10)]

    assert answers == [None] * 10
    assert made._made == {}


def test_bytes_pass_when_a_handler_has_serialised_its_answer() -> None:
    """Both kinds of answers are the same on the wire."""
    serialize = handlers.passing(pb.CancelJobResponse.SerializeToString)
    answer = pb.CancelJobResponse(job=pb.Job(job_id="a"))

    assert serialize(answer) == serialize(answer.SerializeToString()) == answer.SerializeToString()
