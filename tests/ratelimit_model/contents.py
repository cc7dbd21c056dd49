"""The state of the budgets as plain dictionaries: read from Redis, and from the model, in the same form."""

import collections
import math
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import redis

from tests.ratelimit_model import settle
from tests.ratelimit_model.state import State, ms

Contents: TypeAlias = Mapping[str, Mapping[str, float | str]]
"""By kind of entry: numbers by name, moments in milliseconds or virtual ones; entries that are over are left out."""
NUMBERS = (
    *("hold", "pause", "ramp", "fewer", "fewer_at", "pace", "served", "tag1", "tag2", "tag3", "turn1", "turn2"),
    *("turn3", "named", "tie", "rtt", "rtt_new", "rtt_old", "rtt_n", "rtt_at"),
)
GRACE = 500
CALLERS_DUE_BEFORE = 4
RAMP, MINUTE, PERIOD = 5000, 60_000, 30_000
MOMENTS = 1_000_000_000_000
"""Numbers beyond this one are moments."""
LANES = (1, 2, 3)


def of_model(state: State, tag: str) -> Contents:
    """Return what the model holds; *tag* begins the names of its keys."""
    found: dict[str, dict[str, float | str]] = collections.defaultdict(dict)
    found["numbers"] = {name: max(0, state.numbers[name]) for name in NUMBERS}
    for key, ledger in state.ledgers.items():
        name = "p:g" if key == settle.GLOBAL else key.removeprefix(tag)
        found[name] = _after(state.now, ledger)
    for key, queue in state.queues.items():
        found[key.removeprefix(tag)] = _after(state.now - GRACE, queue)
    for (lane, caller), line in state.lines.items():
        found[f"w:{lane}" + (f":{caller}" if caller else "")] = dict(line)
    for ((lane, caller), waiter), moment in state.deadlines.items():
        found["w:caller_deadlines" if caller else "w:deadlines"][_deadline(lane, caller, waiter)] = moment
    found["tags"] = _after(state.now, state.tags)
    found["active"] = _after(state.now, state.active)
    found["egress"] = dict(state.egress)
    repeats = {name: moment + n / 1024 for name, (moment, n) in state.repeats.items()}
    found["repeats"] = _after(state.now - ms(state.parameters.repeat_memory), repeats)
    found["learned"] = dict(state.learned)
    found["learned"] |= {f"{key} seen": " ".join(map(str, entry)) for key, entry in state.seen.items()}
    found["learned"] |= {f"{key} first": " ".join(map(str, entry)) for key, entry in state.first.items()}
    found["learned"] |= {f"{key} strict": str(moment) for key, moment in state.strict.items()}
    found["learned"] |= {f"{key} lost": str(moment) for key, moment in state.lost.items()}
    dues = {f"{lane}:{caller}": due for (lane, caller), due in state.dues.items()}
    found["callers"] = _dues(dues, found["numbers"], state.now)
    return {name: entries for name, entries in found.items() if entries}


def _deadline(lane: int, caller: str, waiter: str) -> str:
    return f"{lane}:{caller} {waiter}" if caller else f"{lane} {waiter}"


def of_redis(client: redis.Redis, now: int, repeat_memory: int) -> Contents:
    """Return what Redis holds at a moment."""
    names: list[Any] = sorted(client.keys())
    pipe = client.pipeline(transaction=False)
    for name in names:
        is_hash = re.search(rb":(m|learned|egress:\w+)$", name)
        pipe.hgetall(name) if is_hash else pipe.zrange(name, 0, -1, withscores=True)
    found: dict[str, dict[str, Any]] = {}
    for name, stored in zip(names, pipe.execute(), strict=True):
        entries = {key.decode(): value for key, value in (stored.items() if isinstance(stored, dict) else stored)}
        found[name.decode().split("}:", 1)[1]] = entries
    meta = found.pop("m", {})
    found["numbers"] = {name: float(meta.get(name, 0)) for name in NUMBERS}
    egress = next((name for name in found if name.startswith("egress:")), "egress:")
    found["egress"] = {name: float(value) for name, value in found.pop(egress, {}).items()}
    found["learned"] = {name: value.decode() for name, value in found.get("learned", {}).items()}
    for name, entries in found.items():
        if name.startswith("p:") or name in {"tags", "active"}:
            found[name] = _after(now, entries)
        elif name.startswith("l:"):
            found[name] = _after(now - GRACE, entries)
    repeats = {"edge" if ":egress:" in name else name: score for name, score in found.get("repeats", {}).items()}
    found["repeats"] = _after(now - repeat_memory, repeats)
    found["callers"] = _dues(found.get("callers", {}), found["numbers"], now)
    return {name: entries for name, entries in found.items() if entries}


def moments(of: Contents) -> list[int]:
    """Return the whole milliseconds of all moments that are noted, at which something begins or ends."""
    found = {math.ceil(score) for entries in of.values() for score in entries.values() if not isinstance(score, str)}
    found |= {math.floor(score) for score in of.get("repeats", {}).values() if not isinstance(score, str)}
    found |= {int(word) for text in of.get("learned", {}).values() for word in str(text).split() if word.isdecimal()}
    numbers = of["numbers"]
    found |= {int(numbers["ramp"]) + by for by in (-RAMP, RAMP)} | {
        int(numbers["fewer_at"]) + MINUTE,
        int(numbers["rtt_at"]) + PERIOD,
    }
    return sorted(moment for moment in found if moment > MOMENTS)


def end_early(client: redis.Redis, now: int) -> list[str]:
    """Return the keys of permits, waiters and waits that Redis would drop before their last entry is over."""
    names: list[Any] = [name for name in client.scan_iter() if re.search(rb"\}:(p:|l:|w:deadlines$|repeats$)", name)]
    last: dict[Any, Any] = {name: client.zrange(name, -1, -1, withscores=True)[0] for name in names}
    return [name.decode() for name in names if client.pttl(name) < last[name][1] - now]


def _after(moment: float, entries: Mapping[str, float]) -> dict[str, float | str]:
    return {name: score for name, score in entries.items() if score > moment}


def _dues(noted: Mapping[str, float], numbers: Mapping[str, Any], now: int) -> dict[str, float | str]:
    """Return when the next calls of callers are due, of those that do not precede the others by the most."""
    if now >= numbers["named"]:
        return {}
    least = {str(lane): numbers[f"turn{lane}"] - CALLERS_DUE_BEFORE for lane in LANES}
    return {name: due for name, due in noted.items() if due > least[name[0]]}


def differences(left: Contents, right: Contents) -> list[str]:
    """Return the entries that are not equal, or differ by more than a hundredth as numbers; counts of 429s by one."""
    found = []
    for kind in sorted(left.keys() | right.keys()):
        one, other = left.get(kind, {}), right.get(kind, {})
        names = sorted(
            name for name in one.keys() | other.keys() if not _is_equal(kind, one.get(name), other.get(name))
        )
        found += [f"{kind} {name}: {one.get(name)} {other.get(name)}" for name in names]
    return found


def _is_equal(kind: str, one: float | str | None, other: float | str | None) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        # The fraction of a repeat's moment is a count.
        return abs(one - other) < (0.0005 if kind == "repeats" else 0.01)
    return one == other
