"""Whose token it is: a stored token is bound to its user, and withdrawn consent hides."""

from collections.abc import Callable

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from devstack import stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.system import conftest
from tests.system.test_index_a_user import DEADLINE, channels, index

SLOW = {"route": "GET /oauth2/@me", "kind": "status", "status": 503}
MISSING = {"route": "GET /oauth2/@me", "kind": "status", "status": 404}


def put(api: pb_grpc.IndexerServiceStub, user_id: str, token: str, refresh: str = "") -> bool:
    """Store a token; returns whether it is verified."""
    request = pb.PutCredentialRequest(user_id=user_id, access_token=token, refresh_token=refresh)
    return api.PutCredential(request, timeout=DEADLINE).verified


def reason_of(call: Callable[[], object]) -> str:
    """Return the reason with which a call is refused."""
    with pytest.raises(grpc.RpcError) as refusal:
        call()
    status = rpc_status.from_call(refusal.value)  # type: ignore[arg-type]  # also a grpc.Call
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    status.details[0].Unpack(info)
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    return str(info.reason)


def state(api: pb_grpc.IndexerServiceStub, user_id: str) -> str:
    """Return the state of a user's credential."""
    found = api.GetCredentialStatus(pb.GetCredentialStatusRequest(user_id=user_id), timeout=DEADLINE).state
    return pb.CredentialState.Name(found).removeprefix("CREDENTIAL_STATE_")


def test_nothing_is_stored_when_the_token_is_not_the_users(
    running: stack.Stack, api: pb_grpc.IndexerServiceStub
) -> None:
    """Another user's, another application's, and junk; the pair in use stays."""
    mine, other = running.users[0], running.users[1]

    reasons = [
        reason_of(lambda token=token: put(api, mine.id, token))  # type: ignore[misc]  # a default of a lambda
        for token in (other.token, f"sim-foreign-{mine.id}", "junk")
    ]

    assert reasons == ["CREDENTIAL_OF_ANOTHER_USER", "CREDENTIAL_OF_ANOTHER_APPLICATION", "CREDENTIAL_REFUSED"]
    assert (state(api, mine.id), state(api, "900000000000000002")) == ("ACTIVE", "MISSING")


def test_another_users_token_is_never_used_when_it_was_put_while_discord_failed(
    running: stack.Stack, api: pb_grpc.IndexerServiceStub, discord: conftest.Simulator
) -> None:
    """The job of a user without another pair fails; the work of one with a verified pair goes on."""
    victim, other, nobody = running.users[2], running.users[3], "900000000000000003"
    index(api, victim.id)
    before = len(channels(api, victim.id))
    discord.ask("faults", SLOW)
    verified = [put(api, user_id, other.token) for user_id in (victim.id, nobody)]
    discord.ask("faults", method="DELETE")

    jobs = [index(api, user_id) for user_id in (victim.id, nobody)]

    assert verified == [False, False]
    assert before > 0
    assert (jobs[0].state, len(channels(api, victim.id))) == (pb.JOB_STATE_SUCCEEDED, before)
    assert (jobs[1].state, jobs[1].error) == (pb.JOB_STATE_FAILED, "CREDENTIAL_OF_ANOTHER_USER")
    assert channels(api, nobody) == []
    assert (state(api, victim.id), state(api, nobody)) == ("ACTIVE", "REAUTH_REQUIRED")


def test_tokens_are_compared_by_user_alone_when_discord_does_not_know_the_route(
    running: stack.Stack, api: pb_grpc.IndexerServiceStub, discord: conftest.Simulator
) -> None:
    """As behind a proxy that knows some routes; when no route names the user, nothing is listed."""
    user, other, nobody = running.users[1], running.users[3], "900000000000000004"
    discord.ask("faults", MISSING)
    verified = put(api, user.id, user.token, "another-refresh-token")
    reason = reason_of(lambda: put(api, user.id, other.token))
    discord.ask("faults", MISSING | {"route": "GET /users/@me"})
    unknown = put(api, nobody, other.token)

    job = index(api, nobody)

    discord.ask("faults", method="DELETE")
    assert (verified, reason) == (True, "CREDENTIAL_OF_ANOTHER_USER")
    assert (unknown, job.state, job.error) == (False, pb.JOB_STATE_FAILED, "CREDENTIAL_UNVERIFIABLE")
    assert state(api, nobody) == "UNVERIFIED"
    assert channels(api, nobody) == []


def test_everything_is_hidden_when_the_credential_is_revoked_until_another_is_verified(
    running: stack.Stack, api: pb_grpc.IndexerServiceStub, discord: conftest.Simulator
) -> None:
    """Guilds, channels, the snapshot of a job and a repeated response; shown again without a new job."""
    user = running.users[4]
    started = pb.StartIndexingRequest(user_id=user.id, request_id="7b1f7f3e-3f4e-4c7c-9d54-111111111111")
    job = api.StartIndexing(started, timeout=DEADLINE).job
    list(api.WatchProgress(pb.WatchProgressRequest(job_id=job.job_id), timeout=DEADLINE))

    def shown() -> tuple[int, ...]:
        guilds = api.ListGuilds(pb.ListGuildsRequest(user_id=user.id), timeout=DEADLINE).guilds
        events = api.WatchProgress(pb.WatchProgressRequest(job_id=job.job_id), timeout=DEADLINE)
        names = {row.name for event in events for row in event.snapshot.guilds}
        again = api.StartIndexing(started, timeout=DEADLINE).guilds
        return len(guilds), len(channels(api, user.id)), len(names), len(again)

    before = shown()
    api.RevokeCredential(pb.RevokeCredentialRequest(user_id=user.id), timeout=DEADLINE)
    revoked = shown()
    (new,) = discord.ask("world", [{"op": "consent", "user": user.id}])
    verified = put(api, user.id, new["token"], new["refresh_token"])

    assert min(before) > 0
    assert revoked == (0, 0, 0, 0)
    assert verified
    assert shown() == before
