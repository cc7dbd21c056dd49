"""Requests that do not decode, and responses that are already encoded."""

from typing import Any

import grpc
import pytest

from indexer_service import interceptors
from indexer_service.interceptors import base, decoding
from indexer_service.v1 import indexer_pb2 as pb
from indexing import errors
from tests.unit.indexer_service import contexts


def handler() -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
    """Return a wrapped handler that answers with the request's job."""

    async def behave(request: pb.CancelJobRequest, _: object) -> pb.CancelJobResponse:
        return pb.CancelJobResponse(job=pb.Job(job_id=request.job_id))

    inner = grpc.unary_unary_rpc_method_handler(
        behave,
        request_deserializer=pb.CancelJobRequest.FromString,
        response_serializer=pb.CancelJobResponse.SerializeToString,
    )
    return interceptors.DecodingInterceptor().wrap_handler(f"{base.PREFIX}CancelJob", inner)


async def test_a_request_is_refused_when_it_does_not_decode() -> None:
    """As an invalid argument, before the handler runs; gRPC itself would answer UNKNOWN."""
    wrapped = handler()
    request = wrapped.request_deserializer(b"\xff")

    with pytest.raises(errors.InvalidArgument) as refused:
        await wrapped.unary_unary(request, contexts.Context())

    assert request is decoding.UNDECODABLE
    assert refused.value.field == "request"


async def test_a_request_passes_when_it_decodes() -> None:
    """Unchanged."""
    wrapped = handler()
    request = wrapped.request_deserializer(pb.CancelJobRequest(job_id="a").SerializeToString())

    assert await wrapped.unary_unary(request, contexts.Context()) == pb.CancelJobResponse(job=pb.Job(job_id="a"))


def test_bytes_pass_when_a_handler_has_encoded_its_response() -> None:
    """Messages and bytes are the same to the caller."""
    serialize = handler().response_serializer
    response = pb.CancelJobResponse(job=pb.Job(job_id="a"))

    assert serialize(response) == serialize(response.SerializeToString()) == response.SerializeToString()
