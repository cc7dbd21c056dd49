"""The status that a caller gets for each error."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest
import structlog.testing
from google.rpc import code_pb2, error_details_pb2
from grpc_status import rpc_status

from indexer_service import interceptors
from indexer_service.v1 import indexer_pb2 as pb
from indexing import errors
from tests.unit.indexer_service import contexts
from tests.unit.indexer_service.interceptors import calls

INSIDE = {
    errors.IndexerError,
    errors.PositionTaken,
    errors.DiscordRefused,
    errors.TokenRefused,
    errors.BotTokenRefused,
    errors.GrantRefused,
    errors.ClientRefused,
    errors.CredentialBusy,
    errors.CredentialRejected,
    errors.CredentialUnverifiable,
    errors.DiscordOutage,
    errors.AnswerTooLarge,
    errors.AnswerUnreadable,
    errors.DocumentTooLarge,
    errors.NoAccess,
    errors.Gone,
    errors.DiscordTransient,
    errors.EgressBlocked,
}
"""Errors of one guild or one turn: they are stored in rows and never reach a caller."""
EDGE = [
    errors.SlowSender(),
    errors.InvalidArgument("user_id", "must be a Discord id"),
    errors.RequestIdReused(),
    errors.CredentialOfAnotherUser(),
    errors.CredentialOfAnotherApplication(),
    errors.IdentifyScopeMissing(),
    errors.CredentialRefused(),
    errors.JobNotFound("a" * 32),
    errors.GuildNotFound(7),
    errors.ChannelNotFound("7"),
    errors.JobRunning("a" * 32),
    errors.NothingFailed("a" * 32),
    errors.UserNotFound(7),
    errors.CredentialMissing(7),
    errors.ReauthRequired(7),
    errors.StoreUnavailable("away"),
    errors.QueueUnavailable("away"),
    errors.LimiterUnavailable(2.5),
    errors.RateLimited("global", retry_after=1.25, why="pause"),
    errors.Unauthenticated(),
    errors.ScopeMissing("read"),
    errors.TooManyRequests("shop", 0.25),
    errors.Overloaded(1.0),
    errors.TooManyWatchers("job"),
    errors.CallerStopped("shop", 554.2),
    errors.SlowConsumer(),
    errors.Leaving(),
]
METHOD = "/indexer_service.v1.IndexerService/GetJob"


async def called(
    behave: Callable[[Any, Any], Awaitable[Any]], method: str = METHOD, *, streams: bool = False
) -> contexts.Context:
    """Call a handler through the interceptor; returns the call's context."""
    call = calls.wrap(interceptors.ErrorInterceptor(), behave, method, streams=streams)
    context = contexts.Context()
    try:
        context.answer = await call(pb.GetJobRequest(), context)
    except grpc.aio.AbortError:
        assert context.status is not None
    return context


def failing(problem: BaseException) -> Callable[[Any, Any], Awaitable[Any]]:
    """Return a handler that fails."""

    async def behave(_request: object, _context: object) -> None:
        raise problem

    return behave


def test_every_error_has_a_code_when_it_can_reach_a_caller() -> None:
    """A new error needs a decision: whether callers see it, and as which code."""
    tree = {found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, errors.IndexerError)}

    assert set(interceptors.errors.CODES) == tree - INSIDE
    assert {type(problem) for problem in EDGE} == tree - INSIDE


@pytest.mark.parametrize("problem", EDGE, ids=lambda problem: type(problem).__name__)
@pytest.mark.parametrize("streams", [False, True], ids=["unary", "stream"])
async def test_the_status_has_code_message_and_reason_when_the_error_is_known(
    problem: errors.IndexerError,
    streams: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """From the table and the error itself, with the domain; nothing is logged as a fault."""
    with structlog.testing.capture_logs() as logged:
        context = await called(failing(problem), streams=streams)

    assert context.status is not None
    assert context.status.code == interceptors.errors.CODES[type(problem)]
    assert context.status.message == str(problem)
    assert context.detail(error_details_pb2.ErrorInfo).domain == "discord-channel-indexer.internal"
    assert context.reason == problem.reason
    assert logged == []


@pytest.mark.parametrize("problem", EDGE, ids=lambda problem: type(problem).__name__)
async def test_the_status_has_a_retry_delay_when_waiting_helps(problem: errors.IndexerError) -> None:
    """Exactly the temporary errors carry one."""
    context = await called(failing(problem))

    assert context.status is not None
    passing = context.status.code in {code_pb2.UNAVAILABLE, code_pb2.RESOURCE_EXHAUSTED}
    assert hasattr(problem, "retry_after") is passing
    if passing:
        delay = context.detail(error_details_pb2.RetryInfo).retry_delay
        assert delay.ToMilliseconds() == problem.retry_after * 1000  # type: ignore[attr-defined]  # just asked


async def test_the_status_names_the_field_when_an_argument_is_invalid() -> None:
    """As data, not only as text, and each one when there are several."""
    both = errors.InvalidArgument("page_size", "must be positive", errors.InvalidArgument("user_id", "is missing"))
    assert str(both) == "page_size: must be positive; user_id: is missing"
    found = (await called(failing(both))).detail(error_details_pb2.BadRequest).field_violations
    assert [(one.field, one.description) for one in found] == [
        ("page_size", "must be positive"),
        ("user_id", "is missing"),
    ]

    context = await called(failing(errors.InvalidArgument("page_size", "must be positive")))

    (violation,) = context.detail(error_details_pb2.BadRequest).field_violations
    assert (violation.field, violation.description) == ("page_size", "must be positive")


@pytest.mark.parametrize(
    ("problem", "subject"),
    [
        pytest.param(errors.CredentialMissing(7), "users/7", id="CredentialMissing"),
        pytest.param(errors.ReauthRequired(7), "users/7", id="ReauthRequired"),
        pytest.param(errors.JobRunning("f" * 32), f"jobs/{'f' * 32}", id="JobRunning"),
        pytest.param(errors.NothingFailed("f" * 32), f"jobs/{'f' * 32}", id="NothingFailed"),
    ],
)
async def test_the_status_names_the_subject_when_a_precondition_fails(
    problem: errors.IndexerError, subject: str
) -> None:
    """With the constant that says what is wrong with it."""
    context = await called(failing(problem))

    (violation,) = context.detail(error_details_pb2.PreconditionFailure).violations
    assert (violation.type, violation.subject) == (problem.reason, subject)


async def test_the_status_names_the_quota_when_there_are_too_many_watchers() -> None:
    """Of the process or of the job."""
    context = await called(failing(errors.TooManyWatchers("process")))

    (violation,) = context.detail(error_details_pb2.QuotaFailure).violations
    assert violation.subject == "watchers of this process"


@pytest.mark.parametrize(
    ("problem", "subject", "seconds"),
    [
        pytest.param(errors.CallerStopped("shop", 554.2), "callers/shop/invalid_requests", 554.2, id="refused-tokens"),
        pytest.param(
            errors.TooManyWatchers("caller", "shop", retry_after=7.5), "callers/shop/watchers", 7.5, id="watchers"
        ),
    ],
)
async def test_the_status_names_the_caller_when_its_share_is_used_up(
    problem: errors.IndexerError, subject: str, seconds: float
) -> None:
    """With the time after which it may come again."""
    context = await called(failing(problem))

    (violation,) = context.detail(error_details_pb2.QuotaFailure).violations
    delay = context.detail(error_details_pb2.RetryInfo).retry_delay
    assert (violation.subject, context.reason) == (subject, problem.reason)
    assert delay.ToMilliseconds() == 1000 * seconds


@pytest.mark.parametrize(
    "problem",
    [KeyError("token=secret"), errors.NoAccess(403, 50001, "secret"), errors.DiscordTransient("secret")],
    ids=["bug", "failure-of-a-guild", "failure-of-a-turn"],
)
async def test_the_status_has_only_a_request_id_when_the_error_is_unknown(problem: Exception) -> None:
    """The log has the error, once, under the id in the message."""
    with structlog.testing.capture_logs() as logged:
        context = await called(failing(problem))

    assert context.status is not None
    assert context.status.code == code_pb2.INTERNAL
    assert "secret" not in str(context.status)
    (line,) = logged
    assert (line["event"], line["method"], line["exc_info"]) == ("call_crashed", METHOD, problem)
    assert line["request_id"] in context.status.message


async def test_a_call_is_unimplemented_when_the_method_is_missing() -> None:
    """The generated base class raises NotImplementedError."""
    context = await called(failing(NotImplementedError("Method not implemented!")))

    assert context.status is not None
    assert context.status.code == code_pb2.UNIMPLEMENTED
    assert METHOD in context.status.message


async def test_a_call_stays_cancelled_when_its_caller_cancels_it() -> None:
    """Nothing is answered and nothing is logged."""
    with structlog.testing.capture_logs() as logged, pytest.raises(asyncio.CancelledError):
        await called(failing(asyncio.CancelledError()))

    assert logged == []


async def test_a_status_is_kept_when_the_handler_has_aborted_the_call() -> None:
    """The call is aborted once."""
    own = interceptors.errors.status_of(errors.JobNotFound("f" * 32))

    async def behave(_: object, context: contexts.Context) -> None:
        await context.abort_with_status(rpc_status.to_status(own))

    with structlog.testing.capture_logs() as logged:
        context = await called(behave)

    assert (context.status, context.ends, logged) == (own, 1, [])


async def test_the_response_passes_when_nothing_fails() -> None:
    """Unchanged."""
    answer = pb.GetJobResponse(job=pb.Job(job_id="x"))

    async def behave(_request: object, _context: object) -> pb.GetJobResponse:
        return answer

    context = await called(behave)

    assert (context.answer, context.ends) == (answer, 0)


async def test_errors_are_not_translated_when_they_belong_to_another_service() -> None:
    """Health and reflection have their own."""
    with pytest.raises(KeyError):
        await called(failing(KeyError("theirs")), method="/grpc.health.v1.Health/Check")


async def test_the_details_of_a_crash_have_the_request_id_of_the_message() -> None:
    """A program reads it there, and operators find the log line by it."""
    with structlog.testing.capture_logs() as logged:
        context = await called(failing(KeyError("secret")))

    info = context.detail(error_details_pb2.ErrorInfo)
    assert dict(info.metadata) == {"request_id": logged[0]["request_id"]}
