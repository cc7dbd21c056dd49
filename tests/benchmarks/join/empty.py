"""An empty unary handler on grpc.aio with the service's options: the speed of the transport alone."""

import asyncio
import sys

import grpc
import grpc.aio

from indexer_service.server import connections
from indexing import settings

METHOD = "/empty/Call"


async def _answer(_request: bytes, _context: object) -> bytes:
    return b""


async def main() -> None:
    """Serve on a free port and print it, until the process is killed."""
    serving = grpc.aio.server(options=connections.options(settings.ServiceSettings()))
    handler = grpc.unary_unary_rpc_method_handler(_answer)
    serving.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("empty", {"Call": handler}),))
    port = serving.add_insecure_port("127.0.0.1:0")
    await serving.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await serving.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
