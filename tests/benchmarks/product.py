"""One service process of the product with its servers, and the product's own stores to write into what it reads."""

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
    """A running service, nothing else: no worker touches what a measurement writes."""

    running: stack.Stack

    @property
    def address(self) -> str:
        """host:port of the service."""
        return self.running.address

    @property
    def pid(self) -> int:
        """The service's process."""
        return self.running.process_id("service-1")


@dataclasses.dataclass(frozen=True, slots=True)
class Stores:
    """The product's own way to write jobs and to publish progress."""

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
