"""Ports of a stack's programs: fixed ones, so that addresses can be typed, or any free ones."""

import socket
from collections.abc import Mapping

HOST = "127.0.0.1"
FIXED = {
    "service-1": 50051,
    "service-1 metrics": 9464,
    "worker-1": 9465,
    "exporter": 9466,
    "refresh": 9467,
    "gateway": 9468,
    "simulator": 8080,
}
"""The defaults of the product's settings; the command line `indexer` calls the first."""


class Ports:
    """
    Chooses ports on loopback.

    Args:
        preferred: Fixed ports by name, such as `FIXED`; any free ones without.

    Attributes:
        taken: The fixed ports on which something else listens, by name.
    """

    def __init__(self, preferred: Mapping[str, int] | None = None) -> None:
        self.taken: dict[str, int] = {}
        self._fixed = preferred or {}

    def choose(self, name: str) -> int:
        """Return the fixed port of a program if nothing listens there, else any free one."""
        port = self._fixed.get(name)
        if port is not None and is_free(port):
            return port
        if port is not None:
            self.taken[name] = port
        return free_port()


def is_free(port: int) -> bool:
    """Return whether a loopback port can be bound."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection that was just closed is no matter
        try:
            listener.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a loopback port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])
