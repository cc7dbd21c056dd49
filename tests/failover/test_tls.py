"""TLS to servers and Sentinels, by the URL alone."""

import contextlib
import pathlib
import urllib.parse
from collections.abc import Iterator

import pytest
import redis

from indexing import errors, settings
from indexing.messaging import redis_client
from tests import authority, servers
from tests.failover import redis_servers


@pytest.fixture(params=["sentinel-with-tls", "sentinel-without"])
def urls(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """A URL of a primary with TLS behind a Sentinel, and the same with the certificate of another authority."""
    ours, other = authority.Authority(), authority.Authority("another")
    pair = ours.sign("localhost")
    files = {"ca": ours.pem, "other": other.pem, "certificate": pair.certificate, "key": pair.key}
    paths = {name: tmp_path / name for name in files}
    for name, content in files.items():
        paths[name].write_bytes(content)
    tls = (
        f"tls-cert-file {paths['certificate']}\ntls-key-file {paths['key']}\ntls-ca-cert-file {paths['ca']}\n"
        "tls-auth-clients no\ntls-replication yes\n"
    )
    server_port, sentinel_port = servers.free_port(), servers.free_port()
    with_tls = request.param == "sentinel-with-tls"
    sentinel_listens = f"port 0\ntls-port {sentinel_port}\n" if with_tls else f"port {sentinel_port}\n"
    server_file, sentinel_file = tmp_path / "server.conf", tmp_path / "sentinel.conf"
    server_file.write_text(f"port 0\ntls-port {server_port}\nbind 127.0.0.1\ndir {tmp_path}\nsave ''\n{tls}")
    sentinel_file.write_text(
        f"{sentinel_listens}bind 127.0.0.1\ndir {tmp_path}\n{tls}sentinel monitor main 127.0.0.1 {server_port} 1\n"
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(redis_servers.running("redis-server", [str(server_file)]))
        stack.enter_context(redis_servers.running("redis-sentinel", [str(sentinel_file)]))
        probe = redis.Redis(port=server_port, ssl=True, ssl_ca_certs=str(paths["ca"]))
        stack.enter_context(probe)
        redis_servers.wait_for(probe.ping)
        options = "" if with_tls else "&sentinel_tls=0"
        location = f"rediss+sentinel://127.0.0.1:{sentinel_port}/main/0"
        yield (
            f"{location}?ssl_ca_certs={urllib.parse.quote(str(paths['ca']))}{options}",
            f"{location}?ssl_ca_certs={urllib.parse.quote(str(paths['other']))}{options}",
        )


async def test_servers_and_sentinels_are_reached_over_tls_when_the_url_says_so(urls: tuple[str, str]) -> None:
    """For asyncio and for threads."""
    config = settings.RedisSettings(url=urls[0])

    async with redis_client.open_redis(config, start_timeout=10.0) as client:
        await client.set("a", 1)
    threads = redis_client.open_threaded_client(config)
    with contextlib.closing(threads.connection_pool):
        assert threads.get("a") == b"1"


async def test_the_line_names_the_certificate_when_it_is_not_accepted(urls: tuple[str, str]) -> None:
    """At once: waiting does not help. Whether it is the server's or the Sentinel's."""
    with pytest.raises(errors.QueueUnavailable, match=r"certificate not accepted: .*certificate"):
        async with redis_client.open_redis(settings.RedisSettings(url=urls[1]), start_timeout=30.0):
            pass
