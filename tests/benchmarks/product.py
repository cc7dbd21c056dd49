"""One service process with its servers, and the product's stores to write the data that it reads."""

import base64
import contextlib
import dataclasses
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping

import redis.asyncio

from devstack import stack
from indexing import settings
from indexing.messaging import events, redis_client
from indexing.store import database as store_database
from indexing.store import jobs

RETENTION = 86_400.0


@dataclasses.dataclass(frozen=True, slots=True)
class Product:
    """A running service without a worker, so that only the measurement changes data."""

    running: stack.Stack

    @property
    def address(self) -> str:
        """host:port of the service."""
        return self.running.address

    @property
    def pid(self) -> int:
        """The service's process id."""
        return self.running.process_id("service-1")


@dataclasses.dataclass(frozen=True, slots=True)
class Stores:
    """The product's stores of jobs and progress events."""

    jobs: jobs.Jobs
    events: events.RedisEvents
    redis: redis.asyncio.Redis


@contextlib.contextmanager
def serving(environment: Mapping[str, str] | None = None) -> Iterator[Product]:
    """Run the service with its servers until the block ends."""
    keys = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    options = stack.Options(
        workers=0,
        guilds_per_user=1,
        latency="none",
        environment={"INDEXER_CREDENTIAL_KEYS": keys, "LOG_LEVEL": "warning", **(environment or {})},
    )
    with stack.Stack(options) as running:
        yield Product(running)


@contextlib.asynccontextmanager
async def stores(product: Product) -> AsyncIterator[Stores]:
    """Open the stores that the service reads."""
    running = product.running
    config = settings.MongoSettings.model_validate({"url": running.mongodb_url, "database": running.database})
    bus = settings.RedisSettings.model_validate({"url": running.redis_url})
    async with redis_client.open_redis(bus) as client, store_database.open_database(config) as database:
        yield Stores(jobs.Jobs(database, retention=RETENTION), events.RedisEvents(client), client)
