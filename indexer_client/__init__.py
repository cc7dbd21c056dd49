"""
Client of the Discord channel indexer: `Client`, and `AsyncClient` for asyncio.

Messages are those of `indexer_client.pb`. Errors are in `indexer_client.errors`.
"""

from indexer_client import errors as errors
from indexer_client.asyncio_client import AsyncClient as AsyncClient
from indexer_client.index_state import IndexState as IndexState
from indexer_client.options import Options as Options
from indexer_client.options import Tls as Tls
from indexer_client.sync_client import Client as Client
from indexer_service.v1 import indexer_pb2

pb = indexer_pb2
