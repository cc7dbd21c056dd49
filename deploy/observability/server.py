"""A real Prometheus on loopback that scrapes a running stack, and what it answers."""

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
from collections.abc import Iterator, Mapping
from typing import Any

from devstack import probes

BOOT = 30.0
PATIENCE = 10.0
CONFIG = """
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files: [{rules}]
scrape_configs:
  - job_name: indexer
    static_configs:
{targets}
"""


class Failed(Exception):
    """Prometheus did not start, or refuses a question; the message says what it said."""


class Prometheus:
    """Asks a server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def series(self, query: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series of an instant query; values that are no number are left out."""
        found = self._ask("query", {"query": query} | ({} if at is None else {"time": str(at)}))
        if found["resultType"] == "scalar":
            return [({}, float(found["result"][1]))]
        rows = [(row["metric"], float(row["value"][1])) for row in found["result"]]
        return [(labels, value) for labels, value in rows if not math.isnan(value)]

    def ranges(self, query: str, start: float, end: float, step: float) -> list[tuple[dict[str, str], list[Any]]]:
        """Return labels and (time, value) pairs of each series of a range query."""
        asked = {"query": query, "start": str(start), "end": str(end), "step": str(step)}
        found = self._ask("query_range", asked)
        return [(row["metric"], [(float(at), float(value)) for at, value in row["values"]]) for row in found["result"]]

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules that are loaded, with their health."""
        return [rule for group in self._ask("rules", {})["groups"] for rule in group["rules"]]

    def scraped(self) -> bool:
        """Return whether every target was scraped with success."""
        targets = self._ask("targets", {})["activeTargets"]
        return bool(targets) and all(target["health"] == "up" for target in targets)

    def _ask(self, what: str, parameters: Mapping[str, str]) -> Any:  # noqa: ANN401 -- any JSON
        url = f"{self._url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 -- loopback
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise Failed(refusal.read().decode(errors="replace")[:500]) from refusal


@contextlib.contextmanager
def scraping(pages: Mapping[str, str], rules: pathlib.Path) -> Iterator[Prometheus]:
    """
    Run Prometheus until the block ends; yields when every page was scraped.

    Raises:
        Failed: It does not start, or a page cannot be scraped.
    """
    with tempfile.TemporaryDirectory(prefix="indexer-prometheus-") as folder:
        port = probes.free_port()
        config = pathlib.Path(folder, "prometheus.yml")
        targets = "".join(
            f"      - targets: ['{urllib.parse.urlsplit(url).netloc}']\n"
            f"        labels: {{namespace: demo, instance: {name}}}\n"
            for name, url in pages.items()
        )
        config.write_text(CONFIG.format(rules=json.dumps(str(rules)), targets=targets))
        log = pathlib.Path(folder, "log")
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"]
        with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:  # noqa: S603 -- our own command line
            try:
                asked = Prometheus(f"http://127.0.0.1:{port}")
                _await(asked, process, log)
                yield asked
            finally:
                process.terminate()


def _await(asked: Prometheus, process: "subprocess.Popen[bytes]", log: pathlib.Path) -> None:
    deadline = time.monotonic() + BOOT
    while True:
        with contextlib.suppress(OSError, Failed):
            if asked.scraped():
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed("Prometheus does not scrape everything: " + log.read_text(errors="replace")[-2000:])
        time.sleep(0.2)
