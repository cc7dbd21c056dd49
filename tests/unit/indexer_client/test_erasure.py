"""`indexer erase`: nobody is erased by accident, and it is said what went."""

import io
import sys
from collections.abc import Callable

import pytest

from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_client import conftest, rows, service

Indexer = Callable[..., conftest.Ran]


@pytest.fixture
def erasing(server: service.FakeService) -> service.FakeService:
    """A service that erases users."""
    server.add_response("DeleteUserData", pb.DeleteUserDataResponse(removed={"users": 1, "jobs": 3}))
    return server


class Terminal(io.StringIO):
    """A terminal at which somebody has typed."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_the_counts_are_one_line_when_a_user_is_erased(erasing: service.FakeService, indexer: Indexer) -> None:
    """The call may be repeated under its id."""
    ran = indexer("erase", rows.USER, "--yes")

    (asked,) = erasing.requests["DeleteUserData"]
    assert (asked.user_id, len(asked.request_id)) == (rows.USER, 36)
    assert (ran.out, ran.err, ran.code) == (f"user {rows.USER} erased: jobs 3, users 1\n", "", 0)


def test_it_is_said_when_nothing_was_known(server: service.FakeService, indexer: Indexer) -> None:
    """Which is no error: it may be the second call."""
    server.add_response("DeleteUserData", pb.DeleteUserDataResponse())

    assert indexer("erase", rows.USER, "--yes").out == f"nothing was known of user {rows.USER}\n"


def test_the_answer_is_json_when_it_is_wanted(erasing: service.FakeService, indexer: Indexer) -> None:
    """One object, for programs."""
    assert '"jobs": "3"' in indexer("erase", rows.USER, "--yes", "--json").out
    assert len(erasing.requests["DeleteUserData"]) == 1


def test_nobody_is_erased_when_nobody_can_be_asked(erasing: service.FakeService, indexer: Indexer) -> None:
    """A script has to say that it is sure."""
    ran = indexer("erase", rows.USER)

    assert (ran.code, ran.out) == (2, "")
    assert "--yes" in ran.err
    assert not erasing.requests["DeleteUserData"]


@pytest.mark.parametrize(("typed", "erased"), [(rows.USER, True), ("yes", False), ("", False)])
def test_the_id_is_typed_again_when_somebody_sits_there(
    erasing: service.FakeService,
    indexer: Indexer,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    erased: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Anything else erases nothing."""
    monkeypatch.setattr(sys, "stdin", Terminal(f"{typed}\n"))

    ran = indexer("erase", rows.USER)

    assert bool(erasing.requests["DeleteUserData"]) is erased
    assert (ran.code == 0) is erased
    assert rows.USER in ran.err
