"""
`indexer credential`: put, status, revoke.

Tokens are read from standard input or a hidden prompt, never from the command line, and are never printed.
"""

import getpass
import sys
from collections.abc import Sequence

from indexer_client.cli import connection, errors, output, times
from indexer_service.v1 import indexer_pb2 as pb

MAX_LINE_CHARACTERS = 8192
"""Characters read per line, more than any token has."""


def read_tokens() -> tuple[str, str]:
    """
    Return the access token and the refresh token, which may be empty.

    Raises:
        errors.CliError: The access token is empty.
    """
    if sys.stdin.isatty():
        access = getpass.getpass("Access token: ").strip()
        refresh = getpass.getpass("Refresh token (empty for none): ").strip() if access else ""
    else:
        access, refresh = (sys.stdin.readline(MAX_LINE_CHARACTERS).strip() for _ in range(2))
    if not access:
        raise errors.CliError(
            "standard input has no access token; write it there, and the refresh token on a second line",
            errors.EXIT_USAGE,
        )
    return access, refresh


def put_request(
    user: str, tokens: tuple[str, str], *, scopes: Sequence[str], expires_in: float | None
) -> pb.PutCredentialRequest:
    """Return the request that stores a credential."""
    made = pb.PutCredentialRequest(
        user_id=user,
        access_token=tokens[0],
        refresh_token=tokens[1],
        scopes=scopes,
    )
    if expires_in is not None:
        made.expire_time.CopyFrom(times.timestamp_in(expires_in))
    return made


async def put_credential(client: connection.Client, request: pb.PutCredentialRequest, *, form: output.Form) -> int:
    """Store the credential; returns the exit code."""
    answer = await client.api.PutCredential(request)
    user = request.user_id
    if form.structured:
        output.print_message(answer, form)
    else:
        output.print_sentence(f"credential stored for user {user}; index with: indexer index {user}")
    return 0


async def show_status(client: connection.Client, user: str, *, form: output.Form) -> int:
    """Print the credential's state; the exit code is 0 only when the credential can be used."""
    answer = await client.api.GetCredentialStatus(pb.GetCredentialStatusRequest(user_id=user))
    if form.structured:
        output.print_message(answer, form)
    else:
        output.print_sentence(_status_line(answer, user))
    return 0 if answer.state in _USABLE else errors.EXIT_FAILURE


def _status_line(answer: pb.GetCredentialStatusResponse, user: str) -> str:
    state = _STATES.get(answer.state, "unknown")
    ends = f", expires {times.date_and_time(answer.expire_time)}" if answer.HasField("expire_time") else ""
    scopes = f", scopes {' '.join(answer.scopes)}" if answer.scopes else ""
    advice = "" if answer.state in _USABLE else f"; next: indexer credential put {user}"
    return f"{state}{ends}{scopes}{advice}"


async def revoke_credential(client: connection.Client, user: str, *, form: output.Form) -> int:
    """Delete the credential, and print whether Discord revoked it as well."""
    request = pb.RevokeCredentialRequest(user_id=user)
    answer = await client.api.RevokeCredential(request)
    if form.structured:
        output.print_message(answer, form)
    else:
        output.print_sentence(f"credential of user {user} deleted; {_AT_DISCORD[answer.revoked_at_discord]}")
    return 0


_STATES = {
    pb.CREDENTIAL_STATE_MISSING: "no credential",
    pb.CREDENTIAL_STATE_ACTIVE: "active",
    pb.CREDENTIAL_STATE_UNVERIFIED: "stored, to be verified when it is first used",
    pb.CREDENTIAL_STATE_REAUTH_REQUIRED: "refused by Discord",
}
_USABLE = frozenset({pb.CREDENTIAL_STATE_ACTIVE, pb.CREDENTIAL_STATE_UNVERIFIED})
_AT_DISCORD = {True: "Discord revoked it", False: "Discord did not revoke it, so it stays valid there until it expires"}
