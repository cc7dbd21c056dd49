"""The demo ends when its stack fails."""

import dataclasses
import io
from typing import Any

import pytest
from rich import console

from devstack import demo, supervisor, users
from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_client import rows, service


@dataclasses.dataclass
class BrokenStack:
    """A fake stack that has failed."""

    address: str
    users: list[users.User]
    simulator_url: str = ""
    failure: supervisor.StackFailed = dataclasses.field(
        default_factory=lambda: supervisor.StackFailed("service-1 was killed by SIGKILL")
    )

    def put_credentials(self) -> None:
        """Do nothing."""


def test_the_demo_stops_when_the_stack_has_failed(recwarn: pytest.WarningsRecorder) -> None:
    """The demo does not wait for its jobs, and raises the failure of the stack."""
    with service.serving() as server:
        server.add_response("ListJobs", pb.ListJobsResponse(jobs=[rows.job()]))
        server.add_response("StartIndexing", rows.started(rows.guild(0)))
        server.add_response("WatchProgress", rows.changed(rows.guild(0)))
        broken: Any = BrokenStack(server.address, [users.User(rows.USER, "token")])

        with pytest.raises(supervisor.StackFailed, match="service-1 was killed by SIGKILL"):
            demo.run_demo(broken, console.Console(file=io.StringIO()), [])

    assert list(recwarn) == []
