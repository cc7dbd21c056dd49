"""`indexer erase` asks for confirmation and prints the number of deleted documents."""

import io
import sys
from collections.abc import Callable

import pytest

from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_client import conftest, rows, service

Indexer = Callable[..., conftest.Ran]


@pytest.fixture
def erasing(server: service.FakeService) -> service.FakeService:
    """A service that answers DeleteUserData."""
    server.add_response("DeleteUserData", pb.DeleteUserDataResponse(removed={"users": 1, "jobs": 3}))
    return server


class Terminal(io.StringIO):
    """Standard input of a terminal with typed text."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def test_the_counts_are_one_line_when_a_user_is_erased(erasing: service.FakeService, indexer: Indexer) -> None:
    """The call carries a request id."""
    ran = indexer("erase", rows.USER, "--yes")

    (asked,) = erasing.requests["DeleteUserData"]
    assert (asked.user_id, len(asked.request_id)) == (rows.USER, 36)
    assert (ran.out, ran.err, ran.code) == (f"user {rows.USER} erased: jobs 3, users 1\n", "", 0)


def test_the_output_says_so_when_no_data_was_stored(server: service.FakeService, indexer: Indexer) -> None:
    """The exit code is 0: it may be the second call."""
    server.add_response("DeleteUserData", pb.DeleteUserDataResponse())

    assert indexer("erase", rows.USER, "--yes").out == f"no data of user {rows.USER} was stored\n"


def test_the_output_is_json_when_json_is_asked_for(erasing: service.FakeService, indexer: Indexer) -> None:
    """The output is one object."""
    assert '"jobs": "3"' in indexer("erase", rows.USER, "--yes", "--json").out
    assert len(erasing.requests["DeleteUserData"]) == 1


def test_nothing_is_deleted_when_the_input_is_no_terminal(erasing: service.FakeService, indexer: Indexer) -> None:
    """A script must pass --yes."""
    ran = indexer("erase", rows.USER)

    assert (ran.code, ran.out) == (2, "")
    assert "--yes" in ran.err
    assert not erasing.requests["DeleteUserData"]


@pytest.mark.parametrize(("typed", "erased"), [(rows.USER, True), ("yes", False), ("", False)])
def test_data_is_deleted_only_when_the_id_is_typed_again(
    erasing: service.FakeService,
    indexer: Indexer,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    erased: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Any other input deletes nothing."""
    monkeypatch.setattr(sys, "stdin", Terminal(f"{typed}\n"))

    ran = indexer("erase", rows.USER)

    assert bool(erasing.requests["DeleteUserData"]) is erased
    assert (ran.code == 0) is erased
    assert rows.USER in ran.err
