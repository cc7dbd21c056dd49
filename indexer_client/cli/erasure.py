"""`indexer erase`: delete all data of a user, after confirmation."""

import sys

from indexer_client.cli import connection, errors, output
from indexer_service.v1 import indexer_pb2 as pb

MAX_ANSWER_CHARACTERS = 64
"""Characters read of the confirmation."""


def confirm_erasure(user: str, *, sure: bool) -> None:
    """
    Ask for the user's id to be typed again, unless *sure*.

    Raises:
        errors.CliError: Another id was typed, or standard input is not a terminal.
    """
    if sure:
        return
    if not sys.stdin.isatty():
        raise errors.CliError("standard input is not a terminal, so the confirmation needs --yes", errors.EXIT_USAGE)
    output.print_error(f"This deletes all data of user {user} permanently. Type the user id again to confirm:")
    if sys.stdin.readline(MAX_ANSWER_CHARACTERS).strip() != user:
        raise errors.CliError("the user id does not match; nothing was deleted")


async def erase_user(client: connection.Client, user: str, *, form: output.Form) -> int:
    """Delete the user's data, and print the number of deleted documents by kind."""
    request = pb.DeleteUserDataRequest(user_id=user)
    answer = await client.api.DeleteUserData(request)
    if form.structured:
        output.print_message(answer, form)
    else:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(answer.removed.items()))
        output.print_sentence(f"user {user} erased: {counts}" if counts else f"no data of user {user} was stored")
    return 0
