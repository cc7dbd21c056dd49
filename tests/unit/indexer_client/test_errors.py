"""Every error is one line that names the field or the next command."""

from collections.abc import Callable

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2

from tests.unit.indexer_client import conftest, rows, service

Indexer = Callable[..., conftest.Ran]
NOWHERE = "127.0.0.1:1"


def info(reason: str) -> error_details_pb2.ErrorInfo:
    """Return an ErrorInfo detail with *reason*."""
    return error_details_pb2.ErrorInfo(reason=reason, domain="discord-channel-indexer.internal")


def bad(**fields: str) -> error_details_pb2.BadRequest:
    """Return a BadRequest detail with *fields*."""
    made = error_details_pb2.BadRequest()
    for field, description in fields.items():
        made.field_violations.add(field=field, description=description)
    return made


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("index", rows.USER), id="index"),
        pytest.param(("guilds", rows.USER), id="guilds"),
        pytest.param(("channels", rows.USER), id="channels"),
        pytest.param(("job", rows.JOB), id="job"),
        pytest.param(("limits",), id="limits"),
    ],
)
def test_the_address_is_named_when_no_server_answers(indexer: Indexer, arguments: tuple[str, ...]) -> None:
    """One line says how to check the service and how to set the address."""
    ran = indexer(*arguments, address=NOWHERE)

    assert ran.err == (
        f"indexer: cannot reach the service at {NOWHERE}; check that it runs without TLS, "
        "or set another address with --address, INDEXER_ADDRESS or: indexer context set\n"
    )
    assert (ran.code, ran.out) == (1, "")


def test_the_field_is_named_when_an_argument_is_refused(server: service.FakeService, indexer: Indexer) -> None:
    """The exit code is 2, and the line names each field and its reason."""
    refusal = bad(user_id="must be a Discord id", wait="must be between 0 and 10")
    server.add_response("StartIndexing", service.Refusal(grpc.StatusCode.INVALID_ARGUMENT, "bad", refusal))

    ran = indexer("index", "me")

    assert (ran.code, ran.err) == (2, "indexer: USER: must be a Discord id; --wait: must be between 0 and 10\n")


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        pytest.param(
            service.Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                "user_id: no credential is stored for user 7; call PutCredential first",
                info("CREDENTIAL_MISSING"),
            ),
            "no credential is stored for user 7; store one with: indexer credential put 7",
            id="no credential",
        ),
        pytest.param(
            service.Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                "user_id: Discord refuses the credential of user 7; ask for consent again",
                info("REAUTH_REQUIRED"),
            ),
            "Discord refuses the credential of user 7; "
            "the user must authorize the application again, then run: indexer credential put 7",
            id="consent withdrawn",
        ),
        pytest.param(
            service.Refusal(grpc.StatusCode.NOT_FOUND, "user_id: nothing is known of user 7", info("USER_NOT_FOUND")),
            "nothing is known of user 7; index the user first with: indexer index 7",
            id="unknown user",
        ),
        pytest.param(
            service.Refusal(grpc.StatusCode.INTERNAL, "something broke here", info("BROKEN")),
            "something broke here (BROKEN)",
            id="a bug",
        ),
    ],
)
def test_the_next_step_is_named_when_the_reason_is_known(
    server: service.FakeService, indexer: Indexer, refusal: service.Refusal, expected: str
) -> None:
    """The line ends with the command to run."""
    server.add_response("ListGuilds", refusal)

    ran = indexer("guilds", "7")

    assert (ran.code, ran.err) == (1, f"indexer: {expected}\n")


def test_the_next_step_is_named_when_the_job_is_unknown(server: service.FakeService, indexer: Indexer) -> None:
    """The line ends with the command that starts a job."""
    text = f"no job {rows.JOB}"
    refusal = service.Refusal(grpc.StatusCode.NOT_FOUND, f"job_id: {text}", info("JOB_NOT_FOUND"))
    server.add_response("GetJob", refusal)

    ran = indexer("job", rows.JOB)

    assert (ran.code, ran.err) == (1, f"indexer: {text}; start one with: indexer index USER\n")


def test_the_delay_is_named_when_the_server_asks_for_one(server: service.FakeService, indexer: Indexer) -> None:
    """An UNAVAILABLE of the service itself keeps its message and adds the delay."""
    again = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1, nanos=500_000_000))
    refusal = service.Refusal(grpc.StatusCode.UNAVAILABLE, "MongoDB does not answer", info("STORE_UNAVAILABLE"), again)
    server.add_response("StartIndexing", refusal)

    ran = indexer("index", rows.USER)

    assert ran.err == "indexer: MongoDB does not answer (STORE_UNAVAILABLE); try again in 1.5 s\n"
    assert ran.code == 1


def test_it_says_what_the_server_lacks_when_a_call_is_not_implemented(indexer: Indexer) -> None:
    """The line says that the service does not support the call."""
    ran = indexer("limits")

    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    assert "does not support this call: GetRateLimits is not offered by this version" in ran.err


def test_the_servers_message_is_escaped_when_it_contains_control_characters(
    server: service.FakeService, indexer: Indexer
) -> None:
    """An error message cannot move the cursor or add a line."""
    server.add_response("GetJob", service.Refusal(grpc.StatusCode.NOT_FOUND, "a\x1b[2Jb\nc\u202ed"))

    ran = indexer("job", rows.JOB)

    assert ran.err == "indexer: a\\x1b[2Jb\\x0ac\\u202ed\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param((), "Missing command. See: indexer --help", id="nothing"),
        pytest.param(("index",), "Missing argument 'USER'. See: indexer index --help", id="no user"),
        pytest.param(("fly",), "No such command 'fly'. See: indexer --help", id="unknown command"),
        pytest.param(("index", "7", "--wait", "11"), "Invalid value for '--wait': ", id="out of bounds"),
        pytest.param(
            ("channels", "7", "--type", "red"),
            "Invalid value for --type: 'red' is not a number and none of ",
            id="bad type",
        ),
        pytest.param(("credential", "put", "7", "secret"), "Got unexpected extra argument", id="token as argument"),
    ],
)
def test_the_exit_code_is_2_when_the_command_line_is_wrong(
    indexer: Indexer, arguments: tuple[str, ...], expected: str
) -> None:
    """A wrong command line prints one line to standard error, and makes no call."""
    ran = indexer(*arguments, address=NOWHERE)

    assert ran.err.startswith(f"indexer: {expected}")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)


def test_help_is_shown_when_it_is_asked_for(indexer: Indexer) -> None:
    """The help names every command and the variable of the address."""
    ran = indexer("--help")

    assert [word in ran.out for word in ("index", "guilds", "channels", "job", "credential", "limits")] == [True] * 6
    assert ("INDEXER_ADDRESS" in ran.out, ran.code, ran.err) == (True, 0, "")
