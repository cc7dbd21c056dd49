"""A server on loopback that answers, or fails to, exactly as it is told; and a limiter that only takes notes."""

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
    """What came over the wire."""

    path: str
    headers: dict[str, str]
    body: bytes = b""


def reply(status: int, body: object = None, *, cut: int = 0, **headers: str) -> bytes:
    """Return an answer; *cut* bytes of its end stay away although they were announced."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Reason", f"Content-Length: {len(raw)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    whole = "\r\n".join(lines).encode() + b"\r\n\r\n" + raw
    return whole[: len(whole) - cut]


class Server:
    """
    Gives each request the next of `script`, and an empty list when that is used up.

    An answer that was cut is followed by the end of the connection; other connections are kept alive.
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
    Stands for `limiter.Limiter`: gives a permit to everybody, and notes what becomes of it.

    Attributes:
        refusal: Raised instead of giving a permit.
        age: Seconds that a permit is old when it is given.
    """

    refusal: errors.IndexerError | None = None
    age: float = 0.0
    charges: list[limits.Charge] = dataclasses.field(default_factory=list)
    patience: list[float] = dataclasses.field(default_factory=list)
    settled: list[limiter.Answer] = dataclasses.field(default_factory=list)
    returned: int = 0

    async def take(self, charge: limits.Charge, *, patience: float) -> limiter.Permit:
        """Give a permit."""
        if self.refusal is not None:
            raise self.refusal
        self.charges.append(charge)
        self.patience.append(patience)
        now = asyncio.get_running_loop().time()
        return limiter.Permit(str(len(self.charges)), charge, now - self.age)

    async def settle(self, permit: limiter.Permit, answer: limiter.Answer) -> None:  # noqa: ARG002 -- as the limiter's
        """Note an answer."""
        self.settled.append(answer)

    async def give_back(self, permit: limiter.Permit) -> None:  # noqa: ARG002 -- as the limiter's
        """Note that a permit was not used."""
        self.returned += 1

    @property
    def balanced(self) -> bool:
        """Whether every permit was settled or given back, once."""
        return len(self.charges) == len(self.settled) + self.returned
