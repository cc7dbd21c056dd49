"""`indexer erase`: everything that is known of a user goes, when somebody has said twice that he wants that."""

import sys
import uuid

from indexer_client.cli import connection, errors, output
from indexer_service.v1 import indexer_pb2 as pb

LONGEST = 64
"""Characters read of the answer."""


def confirm(user: str, *, sure: bool) -> None:
    """
    Ask whoever sits at the terminal to type the user's id again, unless he is *sure*.

    Raises:
        problems.Problem: He typed something else, or nobody can be asked.
    """
    if sure:
        return
    if not sys.stdin.isatty():
        raise errors.Problem("nobody can be asked here whether the user is to be erased: add --yes", errors.USAGE)
    output.warn(f"everything that is known of user {user} will be erased, for good; type the id again to do it:")
    if sys.stdin.readline(LONGEST).strip() != user:
        raise errors.Problem("that is another id; nothing was erased")


async def erase(stub: connection.Stub, user: str, *, as_json: bool) -> int:
    """Erase the user, and say what went."""
    wanted = pb.DeleteUserDataRequest(user_id=user, request_id=str(uuid.uuid4()))
    answer = await stub.DeleteUserData(wanted, timeout=connection.DEADLINE)
    if as_json:
        output.json(answer)
    else:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(answer.removed.items()))
        output.line(f"user {user} erased: {counts}" if counts else f"nothing was known of user {user}")
    return 0
