"""Random requests made from the API's descriptors: nearly valid, extreme, hostile, or not even messages."""

import random
import uuid
from typing import Any

from google.protobuf import message, message_factory

from indexer_service.v1 import indexer_pb2 as pb

METHODS = list(pb.DESCRIPTOR.services_by_name["IndexerService"].methods)
ERASED = "erased_user_id"
"""Name of the users that DeleteUserData gets, so that it does not erase all others soon."""
INT64 = (1 << 63) - 1
NUMBERS = [0, 1, -1, 2, 5, 20, 25, 26, 50, 100, 101, 200, 500, 501, (1 << 31) - 1, -(1 << 31)]
SECONDS = [0, 1, -1, 2, 5, 10, 11, 60, 61, 253402300799, 253402300800, -62135596800, -62135596801, INT64, -INT64 - 1]
NANOS = [0, 1, -1, 999_999_999, 1_000_000_000, (1 << 31) - 1, -(1 << 31), 500_000_000]
TEXTS = [
    *("", " ", "0", "-1", "1", "01", "1.0", "1e5", "١", "9" * 19, "9" * 5000, str(INT64), str(INT64 + 1)),  # noqa: RUF001 -- another script's digit
    *(
        "\0",
        "a\0b",
        "\x1b[2J",
        "\r\nAuthorization: x",
        "\u202egnp.exe",
        "\ufeff",
        "\U0001d4b3" * 50,
        "é" * 3000,
        "x" * 70_000,
    ),
    *("../../etc/passwd", "$where", "{$gt: ''}", "' OR 1=1 --", "%00", "nan", "inf", "null", "[]", "\U0010ffff"),
]


class RequestMaker:
    """
    Makes requests.

    Args:
        dice: The only source of randomness.
        known: Texts that the service knows, by field name: ids of users, guilds and jobs, and tokens.
    """

    def __init__(self, dice: random.Random, known: dict[str, list[str]]) -> None:
        self._dice = dice
        self._known = known
        self._wild = 0.0
        self._user_field = "user_id"

    def call(self) -> tuple[Any, bytes]:
        """Return a method and the bytes of a request for it."""
        method = self._dice.choice(METHODS)
        return method, self.request(method)

    def request(self, method: Any) -> bytes:  # noqa: ANN401 -- descriptors are generic in the stubs only
        """Return the bytes of a request: half of them well-formed, the others mutated or random."""
        kind = self._dice.random()
        self._wild = self._dice.choice([0.02, 0.3])
        self._user_field = ERASED if method.name == "DeleteUserData" else "user_id"
        if kind < 0.03:
            return self._dice.randbytes(self._dice.choice([0, 1, 2, 7, 100, 5000]))
        body = self.build(method.input_type).SerializeToString()
        if kind < 0.35:
            return self._mutated(body)
        if kind < 0.45:
            return body + self._unknown_field()
        return body

    def build(self, descriptor: Any) -> message.Message:  # noqa: ANN401 -- as above
        """Return a message of that type with some of its fields set."""
        made: Any = message_factory.GetMessageClass(descriptor)()
        ids = [name for name in ("job_id", "user_id") if name in descriptor.fields_by_name]
        skipped_seldom = {self._dice.choice(ids), "access_token"} if ids else set()
        for field in descriptor.fields:
            if self._dice.random() < (self._wild if field.name in skipped_seldom else 0.4):
                continue
            target = getattr(made, field.name)
            if field.is_repeated:
                length = self._either([0, 1, 1, 2], [3, 20, 51, 201, 1000])
                target.extend(self._value(field) for _ in range(length))
            elif field.message_type is not None:
                target.CopyFrom(self._time(field) if _is_time(field) else self.build(field.message_type))
            else:
                setattr(made, field.name, self._value(field))
        return made  # type: ignore[no-any-return]  # made by its descriptor

    def _time(self, field: Any) -> message.Message:  # noqa: ANN401 -- as above
        kind = message_factory.GetMessageClass(field.message_type)
        return kind(seconds=self._either([0, 1, 5], SECONDS), nanos=self._either([0, 500_000_000], NANOS))

    def _value(self, field: Any) -> Any:  # noqa: ANN401 -- any scalar
        if field.type == field.TYPE_STRING:
            return self._text(field.name)
        if field.type == field.TYPE_BOOL:
            return self._dice.random() < 0.3
        if field.type == field.TYPE_ENUM:
            return self._either([0, 1, 2], [3, 99, -1])
        if field.type in {field.TYPE_INT32, field.TYPE_INT64}:
            return self._either([0, 1, 2, 5], NUMBERS)
        raise NotImplementedError(f"no values for the type of {field.full_name}")

    def _either(self, right: list[int], wrong: list[int]) -> int:
        return self._dice.choice(wrong if self._dice.random() < self._wild else right)

    def _text(self, name: str) -> str:
        kind = self._dice.random()
        known = (
            self._known.get(name.removesuffix("s"), []) if name != "user_id" else self._known.get(self._user_field, [])
        )
        known = known or self._known.get("user_id", [""])
        if kind > self._wild:
            text = self._dice.choice(known)
        elif kind < 0.05 and name == "request_id":
            text = str(uuid.UUID(int=self._dice.getrandbits(3)))
        elif kind < 0.15:
            text = self._dice.choice(known)
            at = self._dice.randrange(len(text) + 1)
            text = text[:at] + self._dice.choice(["", "0", "é", ".", "\0"]) + text[at + 1 :]
        else:
            text = self._dice.choice(TEXTS)
        return text

    def _mutated(self, body: bytes) -> bytes:
        raw = bytearray(body)
        for _ in range(self._dice.choice([1, 1, 2, 5])):
            at = self._dice.randrange(len(raw) + 1)
            how = self._dice.random()
            if how < 0.4 and at < len(raw):
                raw[at] ^= 1 << self._dice.randrange(8)
            elif how < 0.6:
                del raw[at:]
            elif how < 0.8:
                raw[at:at] = self._dice.randbytes(self._dice.choice([1, 3, 10]))
            else:
                raw[at:at] = raw[: self._dice.randrange(20)]
        return bytes(raw)

    def _unknown_field(self) -> bytes:
        return self._dice.choice([b"\xf8\x07\x05", b"\xfa\x07\x03abc", b"\xf9\x07" + b"x" * 8, b"\xfd\x07" + b"x" * 4])


def _is_time(field: Any) -> bool:  # noqa: ANN401 -- a descriptor
    return {"seconds", "nanos"} == {part.name for part in field.message_type.fields}
