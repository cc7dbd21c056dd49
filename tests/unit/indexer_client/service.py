"""A fake service with scripted responses, on a real port."""

import collections
import contextlib
from collections.abc import Iterator
from concurrent import futures
from typing import Any, TypeAlias

import grpc
from google.protobuf import any_pb2, message, message_factory
from google.rpc import status_pb2
from grpc_status import rpc_status

from indexer_service.v1 import indexer_pb2 as pb


class Refusal(Exception):
    """Ends a call with a status and its details."""

    def __init__(self, code: grpc.StatusCode, text: str, *details: message.Message) -> None:
        super().__init__(text)
        self.status = status_pb2.Status(code=code.value[0], message=text)
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            self.status.details.append(packed)


Step: TypeAlias = message.Message | Refusal


class FakeService:
    """Sends one script per call: messages, or a refusal. The last script of a method repeats forever."""

    def __init__(self) -> None:
        self.scripts: dict[str, list[tuple[Step, ...]]] = collections.defaultdict(list)
        self.requests: dict[str, list[Any]] = collections.defaultdict(list)
        self.deadlines: list[float | None] = []
        self.authorizations: list[str] = []
        """The authorization metadata of each call."""
        self.address = ""

    def add_response(self, method: str, *steps: Step) -> None:
        """Add a script for one call of *method*."""
        self.scripts[method].append(steps)

    def handlers(self) -> Any:  # noqa: ANN401 -- generic in the stubs only
        """Return a handler for every method of the API."""
        service = pb.DESCRIPTOR.services_by_name["IndexerService"]
        return grpc.method_handlers_generic_handler(
            service.full_name, {method.name: self._handler(method) for method in service.methods}
        )

    def _handler(self, method: Any) -> Any:  # noqa: ANN401 -- descriptors and handlers have no common types
        def respond(request: message.Message, context: grpc.ServicerContext) -> Iterator[Any]:
            self.requests[method.name].append(request)
            self.deadlines.append(context.time_remaining())
            metadata = dict(context.invocation_metadata())
            self.authorizations.append(str(metadata.get("authorization", "")))
            scripts = self.scripts[method.name]
            if not scripts:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method.name} is not offered by this version")
            for step in scripts.pop(0) if len(scripts) > 1 else scripts[0]:
                if isinstance(step, Refusal):
                    context.abort_with_status(rpc_status.to_status(step.status))
                yield step

        read = message_factory.GetMessageClass(method.input_type).FromString
        write = message_factory.GetMessageClass(method.output_type).SerializeToString
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(respond, read, write)
        return grpc.unary_unary_rpc_method_handler(lambda *call: next(respond(*call)), read, write)


@contextlib.contextmanager
def serving(credentials: grpc.ServerCredentials | None = None) -> Iterator[FakeService]:
    """Serve on a free port until the block ends; with TLS if *credentials* are given."""
    fake = FakeService()
    # Threads and not asyncio: the commands under test run their own event loop in the main thread.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((fake.handlers(),))
    here = "127.0.0.1:0"
    port = server.add_secure_port(here, credentials) if credentials else server.add_insecure_port(here)
    fake.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield fake
    finally:
        server.stop(None).wait()
