"""What processes say while they work: lines of the log, metrics, and whether they are ready."""

import collections
import json
import pathlib
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Self

import prometheus_client.parser

from devstack import probes

LOOK = 1.0
"""Seconds between two looks at each process."""
TURNS = "indexer_turn_seconds_count"
NOTHING = "indexer_turns_without_task_total"
SLOW = "indexer_server_slow"
LIMIT = "indexer_mongodb_operations_limit"
LEVELS = {"warning", "error", "critical"}


class Listener:
    """Looks at metrics and readiness once a second, and reads the log at the end."""

    def __init__(self, pages: Mapping[str, str], logs: pathlib.Path) -> None:
        self._pages = dict(pages)
        self._logs = logs
        self._stop = threading.Event()
        self._waits: set[str] = set()
        self._limits: set[int] = set()
        self._unready: collections.Counter[str] = collections.Counter()
        self._before = self._counters()
        self._lines = {path: path.stat().st_size for path in logs.glob("*.log")}
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def read(self) -> dict[str, Any]:
        """Return what was said since the beginning."""
        after = self._counters()
        return {
            "turns": int(after[TURNS] - self._before[TURNS]),
            "turns_without_task": int(after[NOTHING] - self._before[NOTHING]),
            "waits": sorted(self._waits),
            "most_operations": max(self._limits, default=None),
            "unready": dict(self._unready),
            "log": self._events(),
        }

    def _look(self) -> None:
        while not self._stop.wait(LOOK):
            for name, url in self._pages.items():
                self._waits |= {labels["server"] for _, labels, value in _samples(url, SLOW) if value}
                self._limits |= {int(value) for _, _, value in _samples(url, LIMIT)}
                if not _is_ready(url):
                    self._unready[name] += 1

    def _counters(self) -> "collections.Counter[str]":
        found: collections.Counter[str] = collections.Counter()
        for url in self._pages.values():
            for name in (TURNS, NOTHING):
                found[name] += sum(int(value) for _, _, value in _samples(url, name))
        return found

    def _events(self) -> dict[str, int]:
        """Count lines at level warning and above, by process kind and event."""
        found: collections.Counter[str] = collections.Counter()
        for path in self._logs.glob("*.log"):
            kind = path.stem.split("-")[0]
            if kind not in {"service", "worker"}:
                continue
            with path.open(errors="replace") as file:
                file.seek(self._lines.get(path, 0))
                for line in file:
                    row = _row(line)
                    if row.get("level") in LEVELS or row.get("event") in {"server_slow", "server_recovered"}:
                        found[f"{kind} {row.get('event', '')[:60]}"] += 1
        return dict(found.most_common(12))


def _row(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _samples(url: str, wanted: str) -> list[tuple[str, dict[str, str], float]]:
    _, body = probes.read_page(url)
    families = prometheus_client.parser.text_string_to_metric_families(body.decode())
    found = [(each.name, each.labels, each.value) for family in families for each in family.samples]
    return [each for each in found if each[0] == wanted]


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url.replace("/metrics", "/readyz"), timeout=5):  # noqa: S310 -- loopback
            return True
    except urllib.error.HTTPError as answer:
        return answer.code != 503  # a service has no such page
    except OSError:
        return False
