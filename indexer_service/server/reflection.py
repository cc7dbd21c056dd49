"""
Server reflection under both of its names: tools ask for v1 first, and older ones only for v1alpha.

grpcio-reflection has v1alpha alone (1.85, read 2026-11-29). v1 has the same messages with the same numbers in another
package (grpc/grpc-proto, grpc/reflection/v1/reflection.proto), so one servicer answers both.
"""

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

OLD, NEW = "grpc.reflection.v1alpha", "grpc.reflection.v1"
NAMES = (reflection.SERVICE_NAME, f"{NEW}.ServerReflection")
DETAILS = error_details_pb2.DESCRIPTOR.name
"""File of the details of errors. Its import makes the types known to reflection, so that tools can decode details."""


def add_to(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Add reflection of these services, and of itself, to a server."""
    _describe_new_name()
    api: Any = reflection  # untyped
    servicer = api.aio.ReflectionServicer([*services, *NAMES])
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler}) for name in NAMES]
    )


def _describe_new_name() -> None:
    """Add the description of v1 to the pool from which reflection answers."""
    described = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(described)
    described.name = f"{NEW.replace('.', '/')}/reflection.proto"
    described.package = NEW
    for message in described.message_type:
        for field in filter(lambda one: one.HasField("type_name"), message.field):
            field.type_name = field.type_name.replace(f".{OLD}.", f".{NEW}.")
    for service in described.service:
        for method in service.method:
            method.input_type = method.input_type.replace(f".{OLD}.", f".{NEW}.")
            method.output_type = method.output_type.replace(f".{OLD}.", f".{NEW}.")
    descriptor_pool.Default().AddSerializedFile(described.SerializeToString())
