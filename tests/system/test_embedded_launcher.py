"""The launcher as a process: its options and environment are used, and nothing is left when it ends."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pymongo
import pytest
import redis

from devstack import probes, programs
from tests.unit.devstack import stack_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
COMMAND = (sys.executable, "-m", "devstack")
TIMEOUT = 60.0
PRODUCT_VARIABLES = (
    "DISCORD_BOT_TOKEN",
    "DISCORD_USER_TOKEN",
    "DISCORD_API_BASE",
    "REDIS_URL",
    "MONGODB_URL",
    "MONGODB_DATABASE",
)
SMALL = ("--guilds-per-user", "4", "--latency", "5-20")


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the variables that make the launcher use other servers."""
    inherited = {name: value for name, value in os.environ.items() if name not in PRODUCT_VARIABLES}  # noqa: TID251 -- passed on
    return {**inherited, **more}


def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run the launcher to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], env=environment(more), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


@contextlib.contextmanager
def up(*arguments: str, **more: str) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """Run `up` until the block ends; yields its process and its printed addresses."""
    command = [*COMMAND, "up", "--json", *SMALL, *arguments]
    with subprocess.Popen(
        command, env=environment(more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, json.loads(line)
        finally:
            process.kill()


def directory_of(addresses: Mapping[str, Any]) -> str:
    """Return the stack's directory."""
    return str(pathlib.Path(addresses["logs"]).parent)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -9), (signal.SIGINT, 130)],
    ids=["killed", "Ctrl-C"],
)
def test_nothing_is_left_when_the_launcher_ends(number: signal.Signals, code: int) -> None:
    """All processes and the directory are gone, and no traceback is printed."""
    with up() as (process, addresses):
        directory = directory_of(addresses)
        assert len(stack_processes.command_lines(directory)) >= 7

        process.send_signal(number)
        _, stderr = process.communicate(timeout=TIMEOUT)

        assert process.returncode == code
        assert stack_processes.remains_of(directory) == []
        assert "Traceback" not in stderr


def test_nothing_is_left_when_the_launcher_is_killed_during_the_start() -> None:
    """A SIGKILL during the start leaves no process and no directory."""
    command = [*COMMAND, "up", *SMALL]
    with subprocess.Popen(command, env=environment({}), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        directory = _stack_directory(process.pid)

        process.kill()

        assert "ready at" in first
        assert stack_processes.remains_of(directory) == []


def _stack_directory(launcher: int) -> str:
    """Return the stack's directory from the command line of the launcher's reaper."""
    children = pathlib.Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    lines = [pathlib.Path(f"/proc/{child}/cmdline").read_text().split("\0") for child in children]
    (directory,) = (line[line.index("reap") + 1] for line in lines if "reap" in line)
    return directory


def test_the_log_of_the_failed_program_is_printed_when_the_start_fails() -> None:
    """The launcher prints which setting a program rejected, without a traceback."""
    ended = run("demo", *SMALL, GLOBAL_BUDGET="fast")

    first, *tail = ended.stderr.splitlines()
    assert re.fullmatch(r"(service|worker)-1 did not start: it ended with exit code 2", first)
    assert tail == ["  GLOBAL_BUDGET: must look like 50/1 (calls/seconds)"]
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)


@pytest.mark.parametrize("variable", ["REDIS_URL", "MONGODB_URL"])
def test_the_variable_is_named_when_an_external_server_is_unreachable(variable: str) -> None:
    """The line names variable and host, but not the URL's password."""
    scheme = variable.removesuffix("_URL").lower()

    ended = run("demo", *SMALL, **{variable: f"{scheme}://somebody:secret@127.0.0.1:1/0"})

    assert ended.stderr == f"{variable} is set, but 127.0.0.1:1 does not answer; unset it to start an own server\n"
    assert (ended.returncode, "secret" in ended.stdout) == (1, False)


def test_standard_output_is_one_json_object_when_json_is_asked_for() -> None:
    """`make demo ARGS=--json` prints the summary only."""
    ended = run("demo", "--json", "--users", "2", "--workers", "2", *SMALL)

    found = json.loads(ended.stdout.splitlines()[-1])
    assert (ended.returncode, ended.stdout.count("\n")) == (0, 1), ended.stderr
    assert (found["users"], found["memberships"], found["http_429"], found["duplicate_guild_fetches"]) == (2, 8, 0, 0)
    assert found["channels"] > 0
    assert found["discord_calls"] == sum(found["discord_calls_by_route"].values()) > 0
    assert 0 < found["seconds_to_list"] <= found["seconds_to_first_guild"] <= found["seconds_total"]
    assert found["seconds_to_first_five"] <= found["seconds_total"]
    assert set(found["headroom_low_water"]) >= {"global", "user"}


def test_the_demo_fails_when_a_job_fails() -> None:
    """The exit code is 1, and a line names the user and the reason."""
    rule = {"kind": "status", "status": 401, "route": "GET /users/@me/guilds", "token": "bearer"}

    ended = run("demo", *SMALL, "--fault", json.dumps(rule))

    assert ended.returncode == 1
    assert re.search(r"✗ user \d+: .*REAUTH_REQUIRED", ended.stdout)


def test_external_servers_are_used_when_the_environment_names_them(redis_url: str, mongodb_url: str) -> None:
    """With REDIS_URL and MONGODB_URL no own server is started, and the database is dropped at the end."""
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        client.flushdb()
    with up(REDIS_URL=redis_url, MONGODB_URL=mongodb_url) as (process, addresses):
        commands = stack_processes.command_lines(directory_of(addresses))
        client_ = pymongo.MongoClient[dict[str, Any]](mongodb_url)
        with client_:
            during = client_.list_database_names()
            process.send_signal(signal.SIGTERM)
            code = process.wait(TIMEOUT)
            after = client_.list_database_names()

    assert not [line for line in commands if "valkey-server" in line or "secantusd" in line]
    assert code == 143
    assert addresses["mongodb_database"] in during
    assert addresses["mongodb_database"] not in after


def test_the_real_discord_is_used_when_both_tokens_are_given() -> None:
    """With both tokens no simulator is started, and the user is the owner of the token."""
    with _discord("--bot-token", "real-bot-token", "--user-limit", "40/1") as about:
        user = about["users"][0]
        tokens = {"DISCORD_BOT_TOKEN": "real-bot-token", "DISCORD_USER_TOKEN": user["token"]}

        more = {"DISCORD_API_BASE": about["base_url"], "LIMITER_HOLD": "0", "USER_BUDGET": "40/1"}
        ended = run("demo", "--json", **tokens, **more)

        found = json.loads(ended.stdout.splitlines()[-1])
        assert ended.returncode == 0, ended.stderr
        assert "simulator is ready" not in ended.stderr
        assert f"user {user['id']}: succeeded" in ended.stderr
        assert (found["guilds"], found["http_429"], found["duplicate_guild_fetches"]) == (4, 0, None)
        assert found["discord_calls"] == json.loads(probes.read_page(f"{about['control_url']}/stats")[1])["calls"] - 1


def test_the_token_is_named_when_discord_refuses_it() -> None:
    """A rejected user token fails the start, and is not printed."""
    with _discord() as about:
        tokens = {"DISCORD_BOT_TOKEN": "b", "DISCORD_USER_TOKEN": "my-secret"}

        ended = run("demo", DISCORD_API_BASE=about["base_url"], **tokens)

    assert ended.returncode == 1
    assert ended.stderr.startswith("DISCORD_USER_TOKEN: Discord answered 401 to GET /users/@me; ")
    assert "my-secret" not in ended.stdout + ended.stderr


@contextlib.contextmanager
def _discord(*arguments: str) -> Iterator[dict[str, Any]]:
    """Run a simulator in place of the real Discord; yields its `about` document."""
    command = [sys.executable, "-m", "devstack.simulator", "--guilds-per-user", "4", "--with-parent", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=programs.CHECKOUT) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.kill()
