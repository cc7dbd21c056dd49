"""`indexer credential`: tokens go from standard input to the service and appear nowhere else."""

import io
import time
from collections.abc import Callable

import pytest

from indexer_client.cli import times
from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_client import conftest, rows, service

Indexer = Callable[..., conftest.Ran]


def test_both_tokens_are_stored_when_the_input_has_two_lines(
    server: service.FakeService, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first line is the access token, the second the refresh token; neither is printed."""
    server.add_response("PutCredential", pb.PutCredentialResponse())
    monkeypatch.setattr("sys.stdin", io.StringIO("access-secret\nrefresh-secret\n"))

    ran = indexer(
        *("credential", "put", rows.USER, "--scope", "identify", "--scope", "guilds", "--expires-in", "600"),
    )

    (stored,) = server.requests["PutCredential"]
    assert (stored.user_id, stored.access_token, stored.refresh_token) == (rows.USER, "access-secret", "refresh-secret")
    assert list(stored.scopes) == ["identify", "guilds"]
    assert 590 < stored.expire_time.seconds - time.clock_gettime(time.CLOCK_REALTIME) <= 601
    assert ran.out == f"credential stored for user {rows.USER}; index with: indexer index {rows.USER}\n"
    assert (ran.code, ran.err) == (0, "")


def test_the_refresh_token_stays_empty_when_the_input_has_one_line(
    server: service.FakeService, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An access token is enough, with or without a newline at the end; the lifetime is optional."""
    server.add_response("PutCredential", pb.PutCredentialResponse())
    monkeypatch.setattr("sys.stdin", io.StringIO("access-secret"))

    indexer("credential", "put", rows.USER)

    (stored,) = server.requests["PutCredential"]
    assert (stored.access_token, stored.refresh_token, stored.HasField("expire_time")) == ("access-secret", "", False)


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "1e12"])
def test_no_call_is_made_when_the_lifetime_is_invalid(
    server: service.FakeService, indexer: Indexer, monkeypatch: pytest.MonkeyPatch, seconds: str
) -> None:
    """One line names the option."""
    monkeypatch.setattr("sys.stdin", io.StringIO("access-secret"))

    ran = indexer("credential", "put", rows.USER, "--expires-in", seconds)

    assert "--expires-in" in ran.err
    assert (ran.code, len(ran.err.splitlines()), server.requests["PutCredential"]) == (2, 1, [])


def test_no_call_is_made_when_the_input_is_empty(
    server: service.FakeService, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says how to pass the tokens."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))

    ran = indexer("credential", "put", rows.USER)

    assert ran.err.startswith("indexer: standard input has no access token; write it there")
    assert (ran.code, len(ran.err.splitlines()), server.requests["PutCredential"]) == (2, 1, [])


@pytest.mark.parametrize(
    ("state", "line", "code"),
    [
        ("ACTIVE", "active, expires {day}, scopes identify guilds\n", 0),
        (
            "REAUTH_REQUIRED",
            "refused by Discord, expires {day}, scopes identify guilds; next: indexer credential put",
            1,
        ),
        ("UNVERIFIED", "stored, to be verified when it is first used, expires {day}, scopes identify guilds\n", 0),
        ("MISSING", "no credential, expires {day}, scopes identify guilds; next: indexer", 1),
    ],
)
def test_the_state_is_one_line_when_it_is_asked_for(
    server: service.FakeService, indexer: Indexer, state: str, line: str, code: int
) -> None:
    """The line names the next command; the exit code says whether the user can be indexed."""
    answer = pb.GetCredentialStatusResponse(
        state=f"CREDENTIAL_STATE_{state}", scopes=["identify", "guilds"], expire_time=rows.NOON
    )
    server.add_response("GetCredentialStatus", answer)

    ran = indexer("credential", "status", rows.USER)

    assert ran.out.startswith(line.format(day=times.date_and_time(rows.NOON)))
    assert (ran.code, ran.err, len(ran.out.splitlines())) == (code, "", 1)


@pytest.mark.parametrize(
    ("revoked", "expected"),
    [
        (True, "Discord revoked it"),
        (False, "Discord did not revoke it, so it stays valid there until it expires"),
    ],
)
def test_the_output_says_whether_discord_revoked_it_when_a_credential_is_revoked(
    server: service.FakeService,
    indexer: Indexer,
    revoked: bool,  # noqa: FBT001 -- a parameter
    expected: str,
) -> None:
    """The credential is deleted in either case, and the call carries a request id."""
    server.add_response("RevokeCredential", pb.RevokeCredentialResponse(revoked_at_discord=revoked))

    ran = indexer("credential", "revoke", rows.USER)

    (asked,) = server.requests["RevokeCredential"]
    assert (asked.user_id, len(asked.request_id)) == (rows.USER, 36)
    assert (ran.out, ran.code) == (f"credential of user {rows.USER} deleted; {expected}\n", 0)
