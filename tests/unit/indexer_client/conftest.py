"""Fixtures of the command line's tests."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from indexer_client.cli import connection, main
from tests.unit.indexer_client import service


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, Any]]:
        """Standard output, each line parsed as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def server() -> Iterator[service.FakeService]:
    """A fake service."""
    with service.serving() as fake:
        yield fake


@pytest.fixture
def indexer(server: service.FakeService, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """A function that runs a command against the fake service, or at another address."""

    def run(*arguments: str, address: str = server.address) -> Ran:
        patience = connection.Patience(calls=0.0, streams=0.5)
        code = main.run_command(["--address", address, *arguments], patience)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run
