"""`indexer erase`: everything that is known of a user goes, when somebody has said twice that he wants that."""

import sys
import uuid

from indexer_client.cli import connection, errors, output
from indexer_service.v1 import indexer_pb2 as pb

MAX_ANSWER_CHARACTERS = 64
"""Characters read of the answer."""


def confirm_erasure(user: str, *, sure: bool) -> None:
    """
    Ask whoever sits at the terminal to type the user's id again, unless he is *sure*.

    Raises:
        errors.CliError: He typed something else, or nobody can be asked.
    """
    if sure:
        return
    if not sys.stdin.isatty():
        raise errors.CliError("nobody can be asked here whether the user is to be erased: add --yes", errors.EXIT_USAGE)
    output.print_error(f"everything that is known of user {user} will be erased, for good; type the id again to do it:")
    if sys.stdin.readline(MAX_ANSWER_CHARACTERS).strip() != user:
        raise errors.CliError("that is another id; nothing was erased")


async def erase_user(stub: connection.Stub, user: str, *, as_json: bool) -> int:
    """Erase the user, and say what went."""
    request = pb.DeleteUserDataRequest(user_id=user, request_id=str(uuid.uuid4()))
    answer = await stub.DeleteUserData(request, timeout=connection.DEADLINE)
    if as_json:
        output.print_json(answer)
    else:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(answer.removed.items()))
        output.print_line(f"user {user} erased: {counts}" if counts else f"nothing was known of user {user}")
    return 0
