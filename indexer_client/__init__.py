"""
Client of the Discord channel indexer: `Client`, and `AsyncClient` for asyncio.

Messages are those of `indexer_client.pb`. Errors are in `indexer_client.errors`.
Everything is imported when it is first used: the command line says how gRPC logs before gRPC is imported.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexer_client import errors as errors
    from indexer_client.asyncio_client import AsyncClient as AsyncClient
    from indexer_client.index_state import IndexState as IndexState
    from indexer_client.options import Options as Options
    from indexer_client.options import Tls as Tls
    from indexer_client.sync_client import Client as Client
    from indexer_service.v1 import indexer_pb2

    pb = indexer_pb2

_HOMES = {
    "AsyncClient": "indexer_client.asyncio_client",
    "Client": "indexer_client.sync_client",
    "IndexState": "indexer_client.index_state",
    "Options": "indexer_client.options",
    "Tls": "indexer_client.options",
}
_MODULES = {"errors": "indexer_client.errors", "pb": "indexer_service.v1.indexer_pb2"}
__all__ = [*_HOMES, *_MODULES]  # noqa: PLE0604 -- names, of which ruff sees only the expression


def __getattr__(name: str) -> object:
    """Import what is used for the first time."""
    if name in _MODULES:
        found: object = importlib.import_module(_MODULES[name])
    elif name in _HOMES:
        found = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found
