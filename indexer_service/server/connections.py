"""gRPC's options of each port: what a connection may hold, and for how long."""

from indexer_service.api import streams
from indexing import settings

UNREAD = 4096
"""
Bytes that a stream takes in before its request is read; by default 4 MiB. A call that waits for its refusal is never
read. While a request is read, its stream takes in all of it.
"""
FIXED = [
    ("grpc.max_send_message_length", 4 << 20),
    # The soft limit equals the hard one: between them, Core refuses calls at random.
    ("grpc.max_metadata_size", 8192),
    ("grpc.absolute_max_metadata_size", 8192),
    # By default Core rejects new streams beyond 1,000 pending ones as CANCELLED; watchers reconnect in bursts.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 50_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
    ("grpc.http2.lookahead_bytes", UNREAD),
    # The probe would raise that number on fast networks.
    ("grpc.http2.bdp_probe", 0),
]
GRACE_BEYOND_STREAMS = 60.0
"""Seconds beyond the longest age of a stream after which a connection that is too old is closed in any case."""


def options(config: settings.ServiceSettings) -> list[tuple[str, int]]:
    """Return the options of a server; they bound what strangers cost, see docs/security.md."""
    grace = config.max_stream_age * streams.MAX_AGE_FACTOR + GRACE_BEYOND_STREAMS
    return [
        *FIXED,
        ("grpc.max_receive_message_length", config.max_request_bytes),
        ("grpc.max_concurrent_streams", config.max_streams_per_connection),
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        ("grpc.server_handshake_timeout_ms", int(config.handshake_timeout * 1000)),
        ("grpc.max_connection_idle_ms", int(config.connection_idle * 1000)),
        ("grpc.max_connection_age_ms", int(config.connection_age * 1000)),
        ("grpc.max_connection_age_grace_ms", int(grace * 1000)),
    ]
