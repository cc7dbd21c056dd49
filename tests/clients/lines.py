"""
`make check-client-lines`: runs each command line of docs/clients/README.md that reaches the service with other tools.

Builds grpcurl and ghz, and takes buf from the environment. Needs Go and its module proxy. Exit code 1: a line failed,
no line calls one of the methods, or an error's details were not decoded.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from devstack import stack
from indexer_service.v1 import indexer_pb2 as pb
from tests.clients import __main__ as programs

TOOLS = ("github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3", "github.com/bojand/ghz/cmd/ghz@v0.120.0")
LINE_LIMIT = 60.0
EXPECTED = {"WatchIndex": "DeadlineExceeded", "RetryJob": "NOTHING_FAILED"}
"""What a line may end with: its own time limit, and a job in which nothing failed."""
WRONG = 'grpcurl -plaintext -d \'{"job_id":"x"}\' $A indexer_service.v1.IndexerService/GetJob'
FOUND: dict[str, tuple[str, Callable[[Any], str]]] = {
    "StartIndexing": ("J", lambda answer: answer["job"]["job_id"]),
    "ListGuilds": ("G", lambda answer: answer["guilds"][0]["guild_id"]),
    "ListChannels": ("C", lambda answer: answer["channels"][0]["channel_id"]),
}
"""What later lines need of an earlier one's answer. Reflection serves no JSON names, so fields have their own."""


def documented() -> list[str]:
    """Return the lines of the document."""
    text = (programs.CHECKOUT / "docs/clients/README.md").read_text().partition("## From a command line")[2]
    block = re.search(r"```\n(.*?)```", text, re.DOTALL)
    return block[1].splitlines() if block else []


def call(line: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a line in a shell."""
    return subprocess.run(
        ["bash", "-c", line], env=environment, capture_output=True, text=True, check=False, timeout=LINE_LIMIT
    )


def main() -> int:
    """Build the tools and run all lines; returns the exit code."""
    tools = programs.BUILD / "bin"
    programs.BUILD.mkdir(parents=True, exist_ok=True)
    for tool in TOOLS:
        programs.run(["go", "install", tool], programs.BUILD, GOBIN=str(tools))
    lines = documented()
    methods = {method.name for method in pb.DESCRIPTOR.services_by_name["IndexerService"].methods}
    failed = [f"no line calls {name}" for name in sorted(methods) if f"IndexerService/{name}" not in " ".join(lines)]
    with stack.Stack(stack.Options(guilds_per_user=12, latency="none")) as running:
        running.put_credentials()
        user = running.users[0]
        path = os.pathsep.join([str(tools), str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])  # noqa: TID251 -- no setting
        environment = {**os.environ, "PATH": path, "A": running.address, "U": user.id}  # noqa: TID251 -- as above
        for line in lines:
            ran = call(line.replace("…", user.token), environment)
            method = re.sub(r".*/", "", line) if "grpcurl" in line and "IndexerService/" in line else ""
            fine = ran.returncode == 0 or (method in EXPECTED and EXPECTED[method] in ran.stderr)
            if fine and method in FOUND:
                name, value = FOUND[method]
                environment[name] = value(json.loads(ran.stdout))
            failed += [] if fine else [f"{line}\n{ran.stdout[-500:]}{ran.stderr[-500:]}"]
            print(f"{'ok' if fine else 'FAILED'}  {line[:110]}", flush=True)
        wrong = call(
            'grpcurl -plaintext -d \'{"job_id":"x"}\' $A indexer_service.v1.IndexerService/GetJob', environment
        )
        failed += [] if "google.rpc.BadRequest" in wrong.stderr else [f"no details: {wrong.stderr}"]
    print("\n".join(failed) or f"{len(lines)} lines passed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
