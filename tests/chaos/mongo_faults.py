"""
Answers of a MongoDB server in a failover or on a full disk, which the embedded server does not give.

A link that serves its connections through `MongoFaults` reads the wire protocol message by message (OP_MSG,
https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/, read 2026-11-29) and answers some commands itself.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable, Mapping
from typing import Any

import bson

OP_MSG = 2013
HEADER = struct.Struct("<iiii")
WRITES = frozenset({"insert", "update", "delete", "findAndModify", "bulkWrite"})
"""Names of the commands that write."""
NOT_PRIMARY = {"ok": 0.0, "errmsg": "not primary", "code": 10107, "codeName": "NotWritablePrimary"}
DISK_FULL = {"ok": 0.0, "errmsg": "No space left on device", "code": 14031, "codeName": "OutOfDiskSpace"}
STEPPING_DOWN = {"ok": 0.0, "errmsg": "stepped down", "code": 11602, "codeName": "InterruptedDueToReplStateChange"}

Play = Callable[[str], Mapping[str, Any] | None]
"""Returns the reply to a command of this name, or None to pass the command on."""


class MongoFaults:
    """
    Serves the connections of a link.

    Attributes:
        play: Decides for each command; None passes all on.
        after: Whether a command that is answered here takes effect first, and only its reply is replaced.
        answered: Number of commands answered here.
    """

    def __init__(self) -> None:
        self.play: Play | None = None
        self.after = False
        self.answered = 0

    async def serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        """Serve one connection until either end closes."""
        replaced: dict[int, bytes] = {}
        up = asyncio.create_task(self._up(reader, writer, server_writer, replaced))
        down = asyncio.create_task(self._down(server_reader, writer, replaced))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _up(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server: asyncio.StreamWriter,
        replaced: dict[int, bytes],
    ) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                number, _, code, whole = await _message(reader)
                answer = self.play(_command(whole)) if code == OP_MSG and self.play is not None else None
                if answer is not None:
                    self.answered += 1
                    if not self.after:
                        writer.write(_reply(answer, number))
                        continue
                    replaced[number] = _reply(answer, number)
                server.write(whole)
                await server.drain()

    @staticmethod
    async def _down(server: asyncio.StreamReader, writer: asyncio.StreamWriter, replaced: dict[int, bytes]) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                _, to, _, whole = await _message(server)
                writer.write(replaced.pop(to, whole))
                await writer.drain()


async def _message(reader: asyncio.StreamReader) -> tuple[int, int, int, bytes]:
    """Return request id, id of the request that is answered, opcode, and the whole message."""
    head = await reader.readexactly(HEADER.size)
    length, number, to, code = HEADER.unpack(head)
    return number, to, code, head + await reader.readexactly(length - HEADER.size)


def _command(whole: bytes) -> str:
    """Return the command's name: the first key of the section of kind 0, which drivers send first."""
    at = HEADER.size + 4
    if whole[at] != 0:
        return ""
    (size,) = struct.unpack_from("<i", whole, at + 1)
    return next(iter(bson.decode(whole[at + 1 : at + 1 + size])), "")


def _reply(document: Mapping[str, Any], to: int) -> bytes:
    body = struct.pack("<IB", 0, 0) + bson.encode(document)
    return HEADER.pack(HEADER.size + len(body), 0, to, OP_MSG) + body
