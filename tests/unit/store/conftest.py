"""Unit tests of the store run over a mock of MongoDB."""

import mongomock_motor
import mongomock_ng
import pytest

from indexing.store import database as store_database
from indexing.store import migrations


@pytest.fixture
async def database() -> store_database.Database:
    """An empty database of the mock, with all indexes."""
    client = mongomock_motor.AsyncMongoMockClient(mock_mongo_client=mongomock_ng.MongoClient())
    await migrations.make_indexes(client["indexer"])
    return client["indexer"]
