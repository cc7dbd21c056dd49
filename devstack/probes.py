"""Readiness probes, each in the protocol of the program's callers; False means not ready yet."""

import contextlib
import http.client
import socket
import urllib.parse

import grpc
import pymongo
import pymongo.errors
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc

PROBE_TIMEOUT = 1.0
"""Timeout of one probe, in seconds."""
HOST = "127.0.0.1"


def redis_answers(url: str) -> bool:
    """Return whether Redis answers PING."""
    with (
        contextlib.suppress(redis.RedisError, OSError),
        contextlib.closing(
            redis.Redis.from_url(url, socket_timeout=PROBE_TIMEOUT, socket_connect_timeout=PROBE_TIMEOUT)
        ) as client,
    ):
        return bool(client.ping())
    return False


def mongodb_answers(url: str) -> bool:
    """Return whether MongoDB answers `ping` through a driver, which requires a writable server."""
    milliseconds = int(PROBE_TIMEOUT * 1000)
    with contextlib.suppress(pymongo.errors.PyMongoError, OSError):
        client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(
            url, serverSelectionTimeoutMS=milliseconds, connectTimeoutMS=milliseconds, socketTimeoutMS=milliseconds
        )
        with client:
            client.admin.command("ping")
            return True
    return False


def service_is_serving(address: str) -> bool:
    """
    Return whether grpc.health.v1 reports SERVING.

    The port is tested first, because gRPC waits a second after each refused connection.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), PROBE_TIMEOUT).close()
    except OSError:
        return False
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as channel, contextlib.suppress(grpc.RpcError):
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PROBE_TIMEOUT)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    return False


def page_is_ok(url: str) -> bool:
    """Return whether a page is answered with status 200."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return read_page(url)[0] == http.client.OK
    return False


def read_page(url: str) -> tuple[int, bytes]:
    """Return status and body of a loopback page, ignoring proxies of the environment. Raises OSError."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or HOST, parts.port, timeout=PROBE_TIMEOUT)
    with contextlib.closing(connection):
        connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""))
        answer = connection.getresponse()
        return answer.status, answer.read()
