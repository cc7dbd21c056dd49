"""The table of methods and commands in docs/clients."""

import io
import pathlib
import re
from collections.abc import Callable

import grpc
import pytest

from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_client import conftest, rows, service

Indexer = Callable[..., conftest.Ran]
PAGE = pathlib.Path(__file__).parents[3] / "docs/clients/README.md"
TABLE = dict(re.findall(r"^\| (\w+) \| `indexer ([^`]+)` \|$", PAGE.read_text("utf-8"), re.MULTILINE))
VALUES = {
    "USER": "7",
    "JOB": rows.JOB,
    "GUILD": "9",
    "[GUILD]": "9",
    "CHANNEL": "5",
    "CHANNEL...": "5",
    "QUERY": "five",
}
"""What a test gives for the arguments that the table names."""
METHODS = pb.DESCRIPTOR.services_by_name["IndexerService"].methods_by_name


def test_every_method_of_the_api_is_in_the_table() -> None:
    """Once, and no other method is."""
    assert set(TABLE) == set(METHODS)


def test_every_method_of_the_api_has_a_line_for_other_tools() -> None:
    """A line that calls it by its full name."""
    called = set(
        re.findall(r"^grpcurl .* indexer_service\.v1\.IndexerService/(\w+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    )

    assert called == set(METHODS)


@pytest.mark.parametrize(("method", "command"), TABLE.items(), ids=TABLE)
def test_a_command_calls_its_method_when_it_runs(
    server: service.FakeService, indexer: Indexer, monkeypatch: pytest.MonkeyPatch, method: str, command: str
) -> None:
    """The command stands in the table as it is typed."""
    monkeypatch.setattr("sys.stdin", io.StringIO("a-token\n"))
    for name in METHODS:
        server.add_response(name, service.Refusal(grpc.StatusCode.NOT_FOUND, "no such thing"))

    indexer(*(VALUES.get(word, word) for word in command.split()), *(["--yes"] if method == "DeleteUserData" else []))

    assert len(server.requests[method]) == 1
