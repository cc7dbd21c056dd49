"""
Every field of every request has a bound, and whoever passes it learns which field it was.

The fields are those of the API's descriptors, so that a new one is tried as well: for each type of field stand here the
values that no field of that type may accept.
"""

import copy
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import message_factory
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests import clockwork, edge, values, worlds
from tests.fuzz import requests

USER, GUILD, JOB = str(values.USER), str(values.GUILD), "a" * 32
RIGHT: dict[str, Any] = {
    "user_id": USER,
    "guild_id": GUILD,
    "job_id": JOB,
    "request_id": "",
    "access_token": "an-access-token",
    "user_ids": [USER],
    "scopes": ["identify"],
    "types": [0],
    "pinned_guild_ids": [GUILD],
    "muted_guild_ids": [GUILD],
}
"""Values that are accepted, by field; a field that is not here is left unset."""
NO_MESSAGES = [b"\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x0b"]
"""Half a tag, a text that is cut, one that is not UTF-8, a group that does not end."""
INT32 = (1 << 31) - 1
FAR = 1 << 62


def wrong(field: Any) -> list[Any]:  # noqa: ANN401 -- descriptors are generic in the stubs only
    """Return values of one field that must be refused."""
    if field.message_type is not None:
        kind = message_factory.GetMessageClass(field.message_type)
        return [kind(seconds=FAR), kind(seconds=-FAR), kind(seconds=1, nanos=-(1 << 31))]
    by_type: dict[int, list[Any]] = {
        field.TYPE_STRING: ["x" * 100_000],
        field.TYPE_INT32: [INT32, -INT32 - 1],
        field.TYPE_ENUM: [99, -1],
        field.TYPE_BOOL: [],
    }
    return by_type[field.type]


def leaves(descriptor: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401 -- as above
    """Yield every field of a request that holds a value, with its path."""
    for field in descriptor.fields:
        inner = field.message_type
        if inner is not None and not inner.full_name.startswith("google.protobuf."):
            assert not field.is_repeated, f"no values for {field.full_name}"
            yield from leaves(inner, (*path, field.name))
        else:
            yield (*path, field.name), field


CASES = [
    pytest.param(method, path, field, id=f"{method.name}-{'.'.join(path)}")
    for method in requests.METHODS
    for path, field in leaves(method.input_type)
]


def right(descriptor: Any) -> Any:  # noqa: ANN401 -- any message
    """Return a request that is accepted; of a job and a user, the user is named."""
    made: Any = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        both = field.name == "job_id" and "user_id" in descriptor.fields_by_name
        if field.name == "preferences":
            getattr(made, field.name).CopyFrom(right(field.message_type))
        elif field.name in RIGHT and not both:
            value = RIGHT[field.name]
            getattr(made, field.name).extend(value) if field.is_repeated else setattr(made, field.name, value)
    return made


def spoiled(base: Any, path: tuple[str, ...], field: Any) -> Iterator[Any]:  # noqa: ANN401 -- any message
    """Yield requests in which only this field is wrong."""
    for value in wrong(field):
        request = copy.deepcopy(base)
        holder = request
        for name in path[:-1]:
            holder = getattr(holder, name)
        if field.is_repeated:
            getattr(holder, path[-1])[:] = [value]
        elif field.message_type is not None:
            getattr(holder, path[-1]).CopyFrom(value)
        else:
            setattr(holder, path[-1], value)
        yield request
    if field.is_repeated:
        request = copy.deepcopy(base)
        holder = request
        for name in path[:-1]:
            holder = getattr(holder, name)
        getattr(holder, path[-1])[:] = RIGHT[path[-1]] * 1_000
        yield request


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    """A connection to a service with one user, who has a job."""
    world = worlds.world(clockwork.ManualClock())
    await world.add_user([values.user_guild()])
    await world.start(JOB)
    await world.work()
    async with edge.serving(world) as address, grpc.aio.insecure_channel(address) as opened:
        yield opened


async def refusal(channel: grpc.aio.Channel, method: Any, body: bytes) -> tuple[grpc.StatusCode, list[str]]:  # noqa: ANN401 -- a descriptor
    """Call; returns the code and the fields that were refused."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    read = message_factory.GetMessageClass(method.output_type).FromString
    try:
        if method.server_streaming:
            await channel.unary_stream(path, bytes, read)(body, timeout=1.0).read()
        else:
            await channel.unary_unary(path, bytes, read)(body, timeout=3.0)
    except grpc.aio.AioRpcError as error:
        call: Any = error  # the function takes calls of either kind, its stubs one
        status = rpc_status.from_call(call)
        bad = error_details_pb2.BadRequest()
        for packed in status.details if status else ():
            if packed.Unpack(bad):
                return error.code(), [one.field for one in bad.field_violations]
        return error.code(), []
    return grpc.StatusCode.OK, []


@pytest.mark.parametrize(("method", "path", "field"), CASES)
async def test_the_field_is_named_when_it_is_out_of_its_bounds(
    channel: grpc.aio.Channel,
    method: Any,  # noqa: ANN401 -- descriptors are generic in the stubs only
    path: tuple[str, ...],
    field: Any,  # noqa: ANN401 -- as above
) -> None:
    """Whatever its type, and wherever it stands."""
    base = right(method.input_type)
    code, _ = await refusal(channel, method, base.SerializeToString())
    assert code not in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED}

    for request in spoiled(base, path, field):
        found = await refusal(channel, method, request.SerializeToString())

        assert found == (grpc.StatusCode.INVALID_ARGUMENT, [".".join(path)]), str(request)[:200]


async def test_the_request_is_named_when_it_is_no_message(channel: grpc.aio.Channel) -> None:
    """Bytes that cannot be read are the caller's mistake like any other, whatever method they are sent to."""
    found = {
        (method.name, body): await refusal(channel, method, body) for method in requests.METHODS for body in NO_MESSAGES
    }

    assert found == dict.fromkeys(found, (grpc.StatusCode.INVALID_ARGUMENT, ["request"]))
