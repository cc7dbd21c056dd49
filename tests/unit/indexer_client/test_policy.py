"""When a client repeats a call, and how a watch continues."""

from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from indexer_client import errors, policy
from indexer_service.v1 import indexer_pb2 as pb

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Failure(grpc.RpcError):
    """An error as gRPC raises it."""

    def __init__(self, code: grpc.StatusCode, *details: Any, raw: bytes | None = None) -> None:  # noqa: ANN401 -- any detail
        super().__init__(code)
        status = status_pb2.Status(code=code.value[0], message="text")
        for each in details:
            packed = any_pb2.Any()
            packed.Pack(each)
            status.details.append(packed)
        self._code = code
        self._raw = raw if raw is not None else status.SerializeToString()

    def code(self) -> grpc.StatusCode:
        """Return the code."""
        return self._code

    def details(self) -> str:
        """Return the message."""
        return "text"

    def trailing_metadata(self) -> Any:  # noqa: ANN401 -- as in grpc-stubs
        """Return the metadata."""
        return ((errors.DETAILS, self._raw),)


def come_again(seconds: float) -> error_details_pb2.RetryInfo:
    """Return a RetryInfo."""
    delay = duration_pb2.Duration()
    delay.FromMilliseconds(round(1000 * seconds))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def row(revision: int) -> pb.WatchProgressResponse:
    """Return a changed row."""
    return pb.WatchProgressResponse(guild=pb.JobGuild(guild_id="7", revision=revision), resume_token=f"t{revision}")


@pytest.mark.parametrize(
    ("failure", "least"),
    [
        (Failure(UNAVAILABLE), 0.05),
        (Failure(UNAVAILABLE, come_again(3)), 3.0),
        (Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, come_again(5)), 5.0),
    ],
    ids=["no-server", "leaving", "too-many-requests"],
)
def test_a_call_is_repeated_when_it_may_succeed_later(failure: Failure, least: float) -> None:
    """After the delay that the service names, and a little more."""
    assert least <= policy.Repeats(0.0, 30.0).delay(failure, 0.0) <= least + 0.1


@pytest.mark.parametrize(
    ("failure", "now", "kind"),
    [
        (Failure(UNAVAILABLE), 30.0, errors.Unavailable),
        (Failure(UNAVAILABLE, come_again(31)), 0.0, errors.Unavailable),
        (Failure(grpc.StatusCode.RESOURCE_EXHAUSTED), 0.0, errors.TooMuch),
        (Failure(grpc.StatusCode.INVALID_ARGUMENT), 0.0, errors.InvalidRequest),
        (Failure(grpc.StatusCode.DEADLINE_EXCEEDED), 0.0, errors.TooSlow),
        (Failure(grpc.StatusCode.DATA_LOSS), 0.0, errors.ClientError),
    ],
    ids=["time-is-over", "too-late", "message-too-large", "wrong", "deadline", "other"],
)
def test_a_call_fails_with_a_typed_error_when_it_is_not_repeated(
    failure: Failure, now: float, kind: type[errors.ClientError]
) -> None:
    """By its code."""
    with pytest.raises(errors.ClientError) as raised:
        policy.Repeats(0.0, 30.0).delay(failure, now)

    assert type(raised.value) is kind


def test_an_error_has_what_the_service_sent() -> None:
    """Reason, metadata, retry time and wrong fields."""
    violation = error_details_pb2.BadRequest.FieldViolation(field="user_id", description="is wrong")
    details = [
        error_details_pb2.ErrorInfo(reason="SOME_REASON", metadata={"user_id": "x"}),
        error_details_pb2.BadRequest(field_violations=[violation]),
        come_again(1.5),
    ]

    found = errors.of_rpc_error(Failure(grpc.StatusCode.INVALID_ARGUMENT, *details))

    assert (found.reason, found.metadata, found.retry_after) == ("SOME_REASON", {"user_id": "x"}, 1.5)
    assert found.violations == (("user_id", "is wrong"),)
    assert str(found) == "SOME_REASON: text"


def test_an_error_is_typed_when_its_details_do_not_decode() -> None:
    """They may come from something between client and service."""
    found = errors.of_rpc_error(Failure(UNAVAILABLE, raw=b"\xff"))

    assert (type(found), found.reason, found.retry_after) == (errors.Unavailable, "", None)


def test_a_watch_continues_from_its_last_message() -> None:
    """Also when that message is not for the caller; a message without a token keeps the last one."""
    place = policy.Resume(0.0, 300.0, "t0")

    taken = [
        place.take(message, 1.0)
        for message in (
            row(2),
            pb.WatchProgressResponse(heartbeat=pb.Heartbeat(), resume_token="t3"),
            pb.WatchProgressResponse(guild=pb.JobGuild(guild_id="7", revision=2)),
            pb.WatchProgressResponse(guild=pb.JobGuild(guild_id="7", revision=1)),
            pb.WatchProgressResponse(guild=pb.JobGuild(guild_id="8", revision=1)),
        )
    ]

    assert taken == [True, False, False, False, True]
    assert place.request("job", "").resume_token == "t3"
    assert not place.ended
    assert place.take(pb.WatchProgressResponse(terminal=pb.Terminal()), 2.0)
    assert place.ended


def test_a_watch_continues_at_once_when_its_server_leaves() -> None:
    """But not again and again."""
    place = policy.Resume(0.0, 300.0)
    place.take(pb.WatchProgressResponse(going_away=pb.GoingAway(), resume_token="t"), 1.0)

    assert place.delay(None, 1.0) == 0.0
    assert place.delay(None, 1.0) > 0.0


def test_a_watch_fails_when_nothing_was_heard_for_too_long() -> None:
    """With the last error, or with one that says so."""
    place = policy.Resume(0.0, 300.0)
    assert place.delay(Failure(UNAVAILABLE), 300.0) > 0.0
    with pytest.raises(errors.Unavailable):
        place.delay(Failure(UNAVAILABLE), 300.1)
    with pytest.raises(errors.StreamLost, match="keeps closing the stream"):
        place.delay(None, 300.1)

    place.take(row(1), 400.0)
    assert place.delay(None, 500.0) > 0.0


def test_a_watch_fails_when_it_is_refused() -> None:
    """At once: a retry would be refused too."""
    with pytest.raises(errors.NotFound):
        policy.Resume(0.0, 300.0).delay(Failure(grpc.StatusCode.NOT_FOUND), 0.0)


def test_a_request_gets_an_id_when_it_takes_one() -> None:
    """The caller's own is kept; reads have none."""
    made = policy.with_request_id(pb.CancelJobRequest())
    own = policy.with_request_id(pb.CancelJobRequest(request_id="mine"))

    assert len(made.request_id) == 36
    assert own.request_id == "mine"
    assert policy.with_request_id(pb.GetJobRequest(job_id="j")) == pb.GetJobRequest(job_id="j")


@pytest.mark.parametrize(
    ("request_", "seconds"),
    [
        (pb.GetJobRequest(), 10.0),
        (pb.StartIndexingRequest(wait={"seconds": 4}), 14.0),
        (pb.WaitJobRequest(), 40.0),
    ],
    ids=["get", "start", "wait"],
)
def test_a_deadline_leaves_time_for_what_the_call_waits(request_: Any, seconds: float) -> None:  # noqa: ANN401 -- any request
    """WaitJob waits 30 s by default."""
    assert policy.deadline_of(request_, 10.0) == seconds


def test_a_watch_fails_when_streams_bring_nothing_but_snapshots() -> None:
    """A server may send one and break every time; anything else counts as progress."""
    place = policy.Resume(0.0, 300.0)
    place.take(pb.WatchProgressResponse(snapshot=pb.Snapshot(), resume_token="1"), 299.0)
    with pytest.raises(errors.StreamLost):
        place.delay(None, 300.1)

    place.take(pb.WatchProgressResponse(heartbeat=pb.Heartbeat(), resume_token="2"), 400.0)

    assert place.delay(None, 700.0) > 0.0
