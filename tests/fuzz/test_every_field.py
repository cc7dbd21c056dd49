"""
Every field of every request has a bound, and the error names the field.

The fields are those of the API's descriptors, so that new ones are covered. For each type of field there are values
that no field of that type may accept.
"""

import copy
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import message_factory
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests import clockwork, edge, fake_backend, values
from tests.fuzz import requests

USER, GUILD, JOB = str(values.USER), str(values.GUILD), "a" * 32
CHANNEL = str(values.GUILD + 1)
VALID: dict[str, Any] = {
    "user_id": USER,
    "guild_id": GUILD,
    "job_id": JOB,
    "request_id": "",
    "access_token": "an-access-token",
    "user_ids": [USER],
    "channel_id": CHANNEL,
    "channel_ids": [CHANNEL],
    "query": "general",
    "scopes": ["identify"],
    "types": [0],
    "pinned_guild_ids": [GUILD],
    "muted_guild_ids": [GUILD],
}
"""Valid values by field; other fields are left unset."""
NO_MESSAGES = [b"\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x0b"]
"""Half a tag, a truncated text, one that is not UTF-8, and an unterminated group."""
INT32 = (1 << 31) - 1
FAR = 1 << 62
PART = re.compile(r"(\.paths)?\[\d+\]$")
"""End of the path of a list's element, or of a mask's."""


def invalid_values(field: Any) -> list[Any]:  # noqa: ANN401 -- descriptors are generic in the stubs only
    """Return values that a field must refuse."""
    if field.message_type is not None:
        kind = message_factory.GetMessageClass(field.message_type)
        if field.message_type.name == "FieldMask":
            return [kind(paths=["x"]), kind(paths=["*", "*"])]
        return [kind(seconds=FAR), kind(seconds=-FAR), kind(seconds=1, nanos=-(1 << 31))]
    if field.name == "page_size":
        return [-1, -INT32 - 1]
    by_type: dict[int, list[Any]] = {
        field.TYPE_STRING: ["x" * 20_000],
        field.TYPE_INT32: [INT32, -INT32 - 1],
        field.TYPE_ENUM: [99, -1],
        field.TYPE_BOOL: [],
    }
    return by_type[field.type]


def leaves(descriptor: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401 -- as above
    """Yield every scalar field of a request with its path."""
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


def valid_request(descriptor: Any) -> Any:  # noqa: ANN401 -- any message
    """Return a valid request; where it needs a job or a user, it has the user."""
    made: Any = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        both = field.name == "job_id" and "user_id" in descriptor.fields_by_name
        if field.name == "preferences":
            getattr(made, field.name).CopyFrom(valid_request(field.message_type))
        elif field.name in VALID and not both:
            value = VALID[field.name]
            getattr(made, field.name).extend(value) if field.is_repeated else setattr(made, field.name, value)
    return made


def invalid_requests(base: Any, path: tuple[str, ...], field: Any) -> Iterator[Any]:  # noqa: ANN401 -- any message
    """Yield requests in which only this field is invalid."""
    for value in invalid_values(field):
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
        getattr(holder, path[-1])[:] = VALID[path[-1]] * 1_001
        yield request


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    """A connection to a service with one user and their job."""
    backend = fake_backend.make(clockwork.ManualClock())
    await backend.add_user([values.user_guild()])
    await backend.start_job(JOB)
    await backend.run_all_turns()
    async with edge.serving(backend) as address, grpc.aio.insecure_channel(address) as opened:
        yield opened


async def call(channel: grpc.aio.Channel, method: Any, body: bytes) -> tuple[grpc.StatusCode, list[str]]:  # noqa: ANN401 -- a descriptor
    """Call; returns the code and the invalid fields."""
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
async def test_the_field_is_named_when_it_is_out_of_bounds(
    channel: grpc.aio.Channel,
    method: Any,  # noqa: ANN401 -- descriptors are generic in the stubs only
    path: tuple[str, ...],
    field: Any,  # noqa: ANN401 -- as above
) -> None:
    """For every type of field, also in nested messages."""
    base = valid_request(method.input_type)
    code, _ = await call(channel, method, base.SerializeToString())
    assert code not in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED}

    for request in invalid_requests(base, path, field):
        code, named = await call(channel, method, request.SerializeToString())

        assert code == grpc.StatusCode.INVALID_ARGUMENT, str(request)[:200]
        assert {PART.sub("", name) for name in named} == {".".join(path)}, str(request)[:200]


async def test_the_request_is_named_when_it_does_not_decode(channel: grpc.aio.Channel) -> None:
    """For every method, as any other invalid argument."""
    found = {
        (method.name, body): await call(channel, method, body) for method in requests.METHODS for body in NO_MESSAGES
    }

    assert found == dict.fromkeys(found, (grpc.StatusCode.INVALID_ARGUMENT, ["request"]))
