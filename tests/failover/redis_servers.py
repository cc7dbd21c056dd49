"""A primary and a replica, an address in front of them that moves, and Sentinels that watch them."""

import contextlib
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import redis

from tests import servers

BOOT = 30.0
DOWN_AFTER_MS = 2000
PASSWORD = "p@w:/x"
"""Of servers and Sentinels; in a URL it is percent-encoded."""
IN_URL = "p%40w%3A%2Fx"


@contextlib.contextmanager
def running(program: str, arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends."""
    found = shutil.which(program)
    assert found is not None
    with subprocess.Popen([found, *arguments], stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Any, seconds: float = BOOT) -> float:  # noqa: ANN401 -- a function of anything true
    """Wait until a condition holds; returns the seconds."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(redis.exceptions.RedisError):
            if condition():
                return time.monotonic() - began
        assert time.monotonic() < began + seconds, "the condition does not become true"
        time.sleep(0.01)


class Address:
    """
    A TCP proxy on one port, as a Service or a DNS name is for its clients.

    Attributes:
        port: The port.
        url: The URL of database 0 of the server behind it.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://:{IN_URL}@127.0.0.1:{self.port}/0"
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def move(self, target: int, *, cut: bool) -> None:
        """Lead new connections to another port; *cut* ends those there are, else they stay where they lead."""
        self._target = target
        if cut:
            for one in list(self._open):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()
        self.move(self._target, cut=True)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open |= {client, server}
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)
        source.close()


class Pair:
    """
    A primary and its replica, with a password.

    Attributes:
        primary, replica: Clients of the two, by their roles at the start.
        ports: Their ports.
        promoted_at: Monotonic time at which the replica was seen as primary; 0 before.
    """

    def __init__(self, stack: contextlib.ExitStack, *more: str) -> None:
        self._folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        self._stack = stack
        self.ports = (servers.free_port(), servers.free_port())
        self._processes = [self._start(port, *more) for port in self.ports]
        self.primary, self.replica = (
            stack.enter_context(redis.Redis(port=port, password=PASSWORD, socket_timeout=5)) for port in self.ports
        )
        for client in (self.primary, self.replica):
            wait_for(client.ping)
        self.promoted_at = 0.0
        self.sentinel_ports: list[int] = []
        self.replica.replicaof("127.0.0.1", str(self.ports[0]))
        wait_for(lambda: self.replica.info("replication").get("master_link_status") == "up")

    def _start(self, port: int, *more: str) -> subprocess.Popen[bytes]:
        folder = self._folder / str(port)
        folder.mkdir()
        options = {
            "--port": str(port),
            "--bind": "127.0.0.1",
            "--dir": str(folder),
            "--save": "",
            "--appendonly": "yes",
            "--maxmemory-policy": "noeviction",
            "--requirepass": PASSWORD,
            "--masterauth": PASSWORD,
            "--repl-diskless-sync-delay": "0",
        }
        arguments = [part for option in options.items() for part in option]
        return self._stack.enter_context(running("redis-server", [*arguments, *more]))

    def promote(self, address: Address, *, cut: bool) -> None:
        """Promote the replica, move the address, and demote the old primary, as an operator does."""
        self.replica.replicaof("NO", "ONE")
        address.move(self.ports[1], cut=cut)
        self.primary.replicaof("127.0.0.1", str(self.ports[1]))

    def kill_primary(self) -> None:
        """Kill it."""
        self._processes[0].kill()
        self._processes[0].wait()

    def watch_promotion(self) -> None:
        """Note when the replica becomes a primary."""

        def watch() -> None:
            with redis.Redis(port=self.ports[1], password=PASSWORD) as client:
                wait_for(lambda: client.info("replication")["role"] == "master", 60.0)
            self.promoted_at = time.monotonic()

        threading.Thread(target=watch, daemon=True).start()

    def fail_over(self) -> None:
        """Have a Sentinel fail over, while the primary runs."""
        with redis.Redis(port=self.sentinel_ports[0], password=PASSWORD) as client:
            client.execute_command("SENTINEL", "FAILOVER", "main")

    def sentinels(self, number: int = 3) -> str:
        """Start Sentinels that watch the pair; returns their URL."""
        ports = self.sentinel_ports = [servers.free_port() for _ in range(number)]
        for port in ports:
            file = self._folder / f"sentinel-{port}.conf"
            file.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {self._folder}\nrequirepass {PASSWORD}\n"
                f"sentinel sentinel-pass {PASSWORD}\n"
                f"sentinel monitor main 127.0.0.1 {self.ports[0]} {number // 2 + 1}\n"
                f"sentinel auth-pass main {PASSWORD}\n"
                f"sentinel down-after-milliseconds main {DOWN_AFTER_MS}\nsentinel failover-timeout main 10000\n"
            )
            self._stack.enter_context(running("redis-sentinel", [str(file)]))
        for port in ports:
            client = self._stack.enter_context(redis.Redis(port=port, password=PASSWORD))
            wait_for(lambda client=client: self._knows_all(client, number))
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"redis+sentinel://:{IN_URL}@{hosts}/main/0?sentinel_password={IN_URL}"

    @staticmethod
    def _knows_all(client: redis.Redis, number: int) -> bool:
        state: Any = client.sentinel_master("main")
        return bool(state["num-other-sentinels"] == number - 1 and state["num-slaves"] == 1)
