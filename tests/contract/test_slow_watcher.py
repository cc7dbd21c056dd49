"""A watcher that stops reading, over a real connection."""

import asyncio
import dataclasses
from typing import Any

import grpc.aio
import pytest

from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing.domain import job_updates, model
from tests import clockwork, edge, fake_backend, values

GUILDS = 200
SLOW_LIMIT = 0.3
"""Seconds that the service waits for its reader in this test."""
NARROW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 2**16)]
"""A connection that buffers 64 KiB; by default gRPC grows the buffer to megabytes."""


async def test_a_stream_ends_as_a_slow_consumer_when_its_client_does_not_read() -> None:
    """Once the connection's buffer is full; the client can resume with its token."""
    backend = fake_backend.make(clockwork.ManualClock())
    await backend.add_user([values.user_guild(guild_id) for guild_id in range(1, GUILDS + 1)])
    job = await backend.start_job()
    rows = tuple(values.task(number, name="n" * 100, position=number) for number in range(1, GUILDS + 1))

    async with (
        edge.serving(backend, slow_watcher=SLOW_LIMIT) as address,
        grpc.aio.insecure_channel(address, options=NARROW) as channel,
    ):
        call = pb_grpc.IndexerServiceStub(channel).WatchProgress(pb.WatchProgressRequest(job_id=job.job_id))
        first: Any = await call.read()
        await publish_for(backend, job, rows, seconds=5 * SLOW_LIMIT)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await asyncio.wait_for(read_on(call), 20)

    assert first.resume_token
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "SLOW_CONSUMER" in str(ended.value.trailing_metadata())


async def read_on(call: Any) -> None:  # noqa: ANN401 -- the stubs know no end of a stream
    """Read until the stream ends."""
    while await call.read():
        pass


async def publish_for(
    backend: fake_backend.FakeBackend, job: model.Job, rows: tuple[model.GuildTask, ...], *, seconds: float
) -> None:
    """Publish changes of all rows for some seconds."""
    loop = asyncio.get_running_loop()
    until, revision = loop.time() + seconds, 0
    while loop.time() < until:
        revision += 1
        newer = tuple(dataclasses.replace(row, revision=revision) for row in rows)
        await backend.events.publish(job_updates.JobUpdate(job, job_updates.tally_of(newer), newer))
        # The service runs in this loop.
        await asyncio.sleep(0.001)
