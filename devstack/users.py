"""The users of a stack: simulated ones, or the owner of a real token."""

import dataclasses
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any

import grpc

from devstack import probes, supervisor
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

DISCORD = "https://discord.com/api/v10"
USER_AGENT = "DiscordBot (https://github.com/discord-channel-indexer/discord-channel-indexer, 0.1.0)"
"""Discord requires this form (developers/reference, read 2026-11-23)."""
TIMEOUT = 10.0
SIMULATED_SCOPES = ("identify", "guilds", "guilds.members.read")
REAL_SCOPES = ("identify", "guilds")
"""Scopes required of a real token; member roles are then read with the bot's token."""


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """A user and their tokens, which never appear in a repr."""

    id: str
    token: str = dataclasses.field(repr=False)
    refresh_token: str = dataclasses.field(default="", repr=False)
    scopes: Sequence[str] = SIMULATED_SCOPES


def simulated_users(simulator_url: str, number: int) -> list[User]:
    """Return the first *number* users of the simulator."""
    status, body = probes.read_page(f"{simulator_url}/_sim/users?limit={number}")
    if status != 200:  # noqa: PLR2004 -- OK
        raise supervisor.StackFailed(f"the simulator answered {status} when asked for its users")
    return [User(found["id"], found["token"], found["refresh_token"]) for found in json.loads(body)]


def real_user(base: str, token: str) -> User:
    """
    Return the user that owns *token*, read from Discord.

    Raises:
        supervisor.StackFailed: Discord rejects the token or does not answer.
    """
    url = urllib.parse.urlsplit(base)
    if url.scheme != "https" and url.hostname not in {"127.0.0.1", "::1", "localhost"}:
        raise supervisor.StackFailed("DISCORD_API_BASE must be https, or http on a loopback address")
    headers = {"Authorization": f"Bearer {token}", "User-Agent": USER_AGENT}
    request = urllib.request.Request(f"{base.rstrip('/')}/users/@me", headers=headers)  # noqa: S310 -- checked above
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 -- as above
            return User(str(json.load(answer)["id"]), token, scopes=REAL_SCOPES)
    except urllib.error.HTTPError as error:
        error.close()
        raise supervisor.StackFailed(
            f"DISCORD_USER_TOKEN: Discord answered {error.code} to GET /users/@me; "
            "it must be an OAuth2 access token with the scopes identify and guilds"
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise supervisor.StackFailed(f"cannot read the token's user from Discord at {url.netloc}: {error}") from error


def put_credentials(address: str, users: Sequence[User]) -> None:
    """
    Store every user's credential through the API.

    Raises:
        supervisor.StackFailed: The service rejects a credential.
    """
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = pb_grpc.IndexerServiceStub(channel)
        for user in users:
            request = pb.PutCredentialRequest(
                user_id=user.id, access_token=user.token, refresh_token=user.refresh_token, scopes=user.scopes
            )
            try:
                stub.PutCredential(request, timeout=TIMEOUT)
            except grpc.RpcError as error:
                call: Any = error  # also a grpc.Call, which the stubs do not say
                raise supervisor.StackFailed(
                    f"the credential of user {user.id} was rejected: {call.details()}"
                ) from error
