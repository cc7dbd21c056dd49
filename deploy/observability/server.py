"""Runs a real Prometheus on loopback that scrapes a running stack, and queries it."""

import contextlib
import json
import math
import pathlib
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from devstack import ports

BOOT_TIMEOUT = 30.0
QUERY_TIMEOUT = 10.0
CONFIG = """
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files: {rules}
scrape_configs:
  - job_name: indexer
    static_configs:
{targets}
"""


class Failed(Exception):
    """Prometheus did not start, or rejected a query. The message is that of Prometheus."""


class Prometheus:
    """Client of a Prometheus server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, query: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series of an instant query, without NaN values."""
        found = self._get("query", {"query": query} | ({} if at is None else {"time": str(at)}))
        if found["resultType"] == "scalar":
            return [({}, float(found["result"][1]))]
        rows = [(row["metric"], float(row["value"][1])) for row in found["result"]]
        return [(labels, value) for labels, value in rows if not math.isnan(value)]

    def query_range(self, query: str, start: float, end: float, step: float) -> list[tuple[dict[str, str], list[Any]]]:
        """Return labels and (time, value) pairs of each series of a range query."""
        parameters = {"query": query, "start": str(start), "end": str(end), "step": str(step)}
        found = self._get("query_range", parameters)
        return [(row["metric"], [(float(at), float(value)) for at, value in row["values"]]) for row in found["result"]]

    def list_rules(self) -> list[dict[str, Any]]:
        """Return all loaded rules, with their health."""
        return [rule for group in self._get("rules", {})["groups"] for rule in group["rules"]]

    def has_scraped_all(self) -> bool:
        """Return whether every target was scraped successfully."""
        targets = self._get("targets", {})["activeTargets"]
        return bool(targets) and all(target["health"] == "up" for target in targets)

    def _get(self, endpoint: str, parameters: Mapping[str, str]) -> Any:  # noqa: ANN401 -- any JSON
        url = f"{self._url}/api/v1/{endpoint}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=QUERY_TIMEOUT) as response:  # noqa: S310 -- loopback
                return json.load(response)["data"]
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise Failed(refusal.read().decode(errors="replace")[:500]) from refusal


@contextlib.contextmanager
def scraping(pages: Mapping[str, str], rules: Sequence[pathlib.Path]) -> Iterator[Prometheus]:
    """
    Run Prometheus until the block ends. The block starts when every page was scraped.

    Raises:
        Failed: Prometheus does not start, or cannot scrape a page.
    """
    with tempfile.TemporaryDirectory(prefix="indexer-prometheus-") as folder:
        port = ports.free_port()
        config = pathlib.Path(folder, "prometheus.yml")
        targets = "".join(
            f"      - targets: ['{urllib.parse.urlsplit(url).netloc}']\n"
            f"        labels: {{namespace: demo, pod: {name}, instance: {name}}}\n"
            for name, url in pages.items()
        )
        config.write_text(CONFIG.format(rules=json.dumps([str(path) for path in rules]), targets=targets))
        log = pathlib.Path(folder, "log")
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"]
        with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:  # noqa: S603 -- a fixed command line
            try:
                prometheus = Prometheus(f"http://127.0.0.1:{port}")
                _wait_until_scraped(prometheus, process, log)
                yield prometheus
            finally:
                process.terminate()


def _wait_until_scraped(prometheus: Prometheus, process: "subprocess.Popen[bytes]", log: pathlib.Path) -> None:
    deadline = time.monotonic() + BOOT_TIMEOUT
    while True:
        with contextlib.suppress(OSError, Failed):
            if prometheus.has_scraped_all():
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed("Prometheus does not scrape everything: " + log.read_text(errors="replace")[-2000:])
        time.sleep(0.2)
