"""An HTTP server on loopback with scripted responses, and a limiter that records calls."""

import asyncio
import collections
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator

from indexing import errors
from indexing.ratelimit import limiter, limits

HANG = b"hang"
DROP = b"drop"


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A request as it was received."""

    path: str
    headers: dict[str, str]
    body: bytes = b""


def reply(status: int, body: object = None, *, cut: int = 0, **headers: str) -> bytes:
    """Return a response as bytes; the last *cut* bytes are announced but missing."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Reason", f"Content-Length: {len(raw)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    whole = "\r\n".join(lines).encode() + b"\r\n\r\n" + raw
    return whole[: len(whole) - cut]


class Server:
    """
    Answers each request with the next response of `script`, or with an empty list when the script is used up.

    After a cut response the server closes the connection; otherwise it keeps the connection alive.
    """

    def __init__(self) -> None:
        self.script: collections.deque[bytes] = collections.deque()
        self.requests: list[Request] = []
        self.asked = asyncio.Event()
        self.connections = 0
        self.base = ""

    def answer(self, *answers: bytes) -> None:
        """Add to the script."""
        self.script.extend(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.requests.append(Request(first.split(" ")[1], headers, body))
                self.asked.set()
                answer = self.script.popleft() if self.script else reply(200, [])
                if answer == HANG:
                    await reader.read()
                    break
                if answer == DROP:
                    break
                writer.write(answer)
                await writer.drain()
                head, _, body = answer.partition(b"\r\n\r\n")
                if f"Content-Length: {len(body)}".encode() not in head:
                    break
        writer.close()


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """Serve on a free port."""
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    server.base = f"http://{host}:{port}"
    async with listener:
        yield server
        listener.close()


@dataclasses.dataclass
class RecordingLimiter:
    """
    A `limiter.Limiter` that grants every permit and records what happens to it.

    Attributes:
        refusal: Raised instead of granting a permit.
        age: Age of a permit when it is granted, in seconds.
        max_waits: The waits that `take` was called with.
    """

    refusal: errors.IndexerError | None = None
    age: float = 0.0
    charges: list[limits.Charge] = dataclasses.field(default_factory=list)
    max_waits: list[float] = dataclasses.field(default_factory=list)
    settled: list[limiter.Answer] = dataclasses.field(default_factory=list)
    returned: int = 0

    async def take(self, charge: limits.Charge, *, max_wait: float) -> limiter.Permit:
        """Grant a permit."""
        if self.refusal is not None:
            raise self.refusal
        self.charges.append(charge)
        self.max_waits.append(max_wait)
        now = asyncio.get_running_loop().time()
        return limiter.Permit(str(len(self.charges)), charge, now - self.age)

    async def settle(self, permit: limiter.Permit, answer: limiter.Answer) -> None:  # noqa: ARG002 -- as the limiter's
        """Record an answer."""
        self.settled.append(answer)

    async def give_back(self, permit: limiter.Permit) -> None:  # noqa: ARG002 -- as the limiter's
        """Record that a permit was not used."""
        self.returned += 1

    @property
    def balanced(self) -> bool:
        """Whether every permit was settled or given back exactly once."""
        return len(self.charges) == len(self.settled) + self.returned
