"""Mutated responses of Discord, made from the simulator's: what is decoded from them can be stored and returned."""

import collections
import copy
import dataclasses
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import bson

from devstack.simulator import payloads as played
from devstack.simulator import world
from indexer_service.api import convert
from indexing.discord import payloads
from indexing.domain import id_sets, model
from indexing.store import guild_codec, guilds, users

GUILD = 77
DEEP = "@deep@"
"""Is replaced by deeply nested arrays."""
HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 1.5, -0.0, 1e308, 1 << 31, 1 << 53, 1 << 63, 1 << 64, -(1 << 63) - 1, 10**400),
    *("", "0", "1", "-1", "+1", " 1", "1_0", "٣", "0x1", "1e3", str((1 << 63) - 1), str(1 << 63), "9" * 5000),
    *("\ud800", "a\udc00\ud800b", "\0", "a\0b", "\u202e", "\x1b[2J", "\U0010ffff", "x" * 20_000, "$set", "a.b"),
    *([], {}, [[]], [None], {"id": "1"}, {"id": "1", "type": 0}, [{"id": "1", "type": 0}] * 3, DEEP),
]
Reader = Callable[[bytes], Any]


def read_channels(body: bytes) -> list[model.Channel]:
    """Decode a list of channels."""
    return payloads.decode_channels(body, GUILD)


@dataclasses.dataclass(slots=True)
class Outcome:
    """The results: how many responses were refused or decoded, and which caused faults."""

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    faults: list[tuple[bytes, str]] = dataclasses.field(default_factory=list)


class Mutator:
    """Makes mutated responses; *dice* is the only source of randomness."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._whole: list[tuple[Reader, Any]] = list(_whole())

    def make_response(self) -> tuple[Reader, bytes]:
        """Return a decoder and the mutated bytes of a response for it."""
        read, whole = self._dice.choice(self._whole)
        document = copy.deepcopy(whole)
        for _ in range(self._dice.choice([0, 1, 1, 2, 3])):
            document = self._changed(document)
        text = json.dumps(document, ensure_ascii=self._dice.random() < 0.7)
        nested = self._dice.choice([10, 2_000, 50_000])
        body = text.encode("utf-8", "surrogatepass").replace(f'"{DEEP}"'.encode(), b"[" * nested + b"]" * nested)
        return read, self._flipped(body) if self._dice.random() < 0.3 else body

    def _changed(self, document: Any) -> Any:  # noqa: ANN401 -- any JSON
        places = list(_places(document))
        if not places or self._dice.random() < 0.02:
            return self._dice.choice(HOSTILE)
        holder, key = self._dice.choice(places)
        how = self._dice.random()
        if how < 0.6:
            holder[key] = copy.deepcopy(self._dice.choice(HOSTILE))
        elif how < 0.75:
            del holder[key]
        elif how < 0.9:
            other, its = self._dice.choice(places)
            holder[key] = copy.deepcopy(other[its])
        elif isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        else:
            holder["unheard_of"] = copy.deepcopy(self._dice.choice(HOSTILE))
        return document

    def _flipped(self, body: bytes) -> bytes:
        raw = bytearray(body)
        for _ in range(self._dice.choice([1, 1, 2, 8])):
            at = self._dice.randrange(len(raw) + 1)
            if self._dice.random() < 0.6 and at < len(raw):
                raw[at] ^= 1 << self._dice.randrange(8)
            elif self._dice.random() < 0.5:
                del raw[at : at + self._dice.choice([1, 5, 1000])]
            else:
                raw[at:at] = self._dice.choice(
                    [b"\\ud800", b"\\u0000", b"\xff", b"\0", b'"', b"[", b"}", b"1e999", b","]
                )
        return bytes(raw)


def _whole() -> Iterator[tuple[Reader, Any]]:
    """Yield valid responses with their decoders: a guild list, a member, an error, and channels of some guilds."""
    here = world.World(world.WorldSpec(seed=5, guilds_per_user=12, channels_per_guild=6.0))
    user = here.user_ids[0]
    guilds = [guild for guild in map(here.guild, here.guilds_of(user)) if guild is not None]
    viewers = [(guild, here.viewer(user, guild)) for guild in guilds]
    rows = [played.partial_guild(guild, viewer, counts=True) for guild, viewer in viewers if viewer is not None]
    yield payloads.decode_guilds, rows[:4]
    member = here.member(user, guilds[0])
    assert member is not None
    yield payloads.decode_member, played.member(member, played.user(user, "someone"), now_ms=here.spec.now_ms)
    yield payloads.decode_error, {"message": "You are being rate limited.", "retry_after": 64.57, "global": False}
    for guild in guilds[:4]:
        yield read_channels, [played.channel(channel, guild.id) for channel in here.channels_of(guild)[:5]]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 -- any JSON
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key
        yield from _places(inner)


def read_responses(count: int, seed: int, keep: Callable[[list[model.Channel]], None] | None = None) -> Outcome:
    """Decode *count* mutated responses; *keep* gets the channels of those that can be decoded."""
    mutator, outcome = Mutator(random.Random(seed)), Outcome()
    for _ in range(count):
        read, body = mutator.make_response()
        try:
            found = read(body)
        except (ValueError, RecursionError) as refusal:  # what indexing/discord/client.py treats as a temporary failure
            outcome.counts[f"refused: {type(refusal).__name__}"] += 1
            continue
        except Exception as problem:  # noqa: BLE001 -- any other exception is a fault
            outcome.faults.append((body, f"not read: {problem!r}"))
            continue
        outcome.counts[f"read: {getattr(read, '__name__', '')}"] += 1
        try:
            _store_and_show(found)
        except Exception as problem:  # noqa: BLE001 -- as above
            outcome.faults.append((body, f"cannot be stored or shown: {problem!r}"))
            continue
        if keep is not None and read is read_channels:
            keep(found)
    return outcome


def _store_and_show(found: Any) -> None:  # noqa: ANN401 -- what any reader returns
    """Encode decoded values for MongoDB, and for callers what MongoDB would return."""
    if isinstance(found, tuple):
        user_id, role_ids = found
        bson.encode({"user_id": user_id})
        assert set(id_sets.unpack_ids(id_sets.pack_ids(role_ids))) == set(role_ids)
    rows = found if isinstance(found, list) else []
    if rows and isinstance(rows[0], model.Channel):
        channels, activity = guild_codec.encode(rows)
        bson.encode({"channels": channels, "activity": activity})
        for channel in guild_codec.decode(GUILD, channels, activity)[0]:
            convert.channel(channel).SerializeToString()
    elif rows:
        nobody = model.User(1, 0, None, {}, model.Preferences())
        bson.encode(users._list_changes(nobody, rows, 0.0)[0])
        for row in rows:
            bson.encode(guilds._listed(row, None, has_bot=True))
