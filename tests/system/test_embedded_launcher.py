"""The launcher as a person starts it: what it is told is used, and nothing is left when it ends, however it ends."""

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
PATIENCE = 60.0
OURS = ("DISCORD_BOT_TOKEN", "DISCORD_USER_TOKEN", "DISCORD_API_BASE", "REDIS_URL", "MONGODB_URL", "MONGODB_DATABASE")
SMALL = ("--guilds-per-user", "4", "--latency", "5-20")


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return our environment, less what would make the launcher use other servers."""
    inherited = {name: value for name, value in os.environ.items() if name not in OURS}  # noqa: TID251 -- handed on
    return {**inherited, **more}


def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run the launcher to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], env=environment(more), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@contextlib.contextmanager
def up(*arguments: str, **more: str) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """Run `up` until the block ends; yields its process and the addresses that it printed."""
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
    """However the launcher ends, all processes it started and the directory are gone, and no traceback is printed."""
    with up() as (process, addresses):
        directory = directory_of(addresses)
        assert len(stack_processes.command_lines(directory)) >= 7

        process.send_signal(number)
        _, told = process.communicate(timeout=PATIENCE)

        assert process.returncode == code
        assert stack_processes.remains_of(directory) == []
        assert "Traceback" not in told


def test_nothing_is_left_when_the_launcher_is_killed_during_the_start() -> None:
    """A SIGKILL half way through the start leaves as little as one after it."""
    command = [*COMMAND, "up", *SMALL]
    with subprocess.Popen(command, env=environment({}), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        directory = _guarded_directory(process.pid)

        process.kill()

        assert "ready at" in first
        assert stack_processes.remains_of(directory) == []


def _guarded_directory(launcher: int) -> str:
    """Return the directory that the guard of this launcher looks after."""
    children = pathlib.Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    lines = [pathlib.Path(f"/proc/{child}/cmdline").read_text().split("\0") for child in children]
    (directory,) = (line[line.index("reap") + 1] for line in lines if "reap" in line)
    return directory


def test_the_last_words_of_the_culprit_are_told_when_the_start_fails() -> None:
    """A setting that is refused shows in the launcher's own output, in words, and nothing is left."""
    ended = run("demo", *SMALL, GLOBAL_BUDGET="fast")

    first, *tail = ended.stderr.splitlines()
    assert re.fullmatch(r"(service|worker)-1 did not start: it ended with exit code 2", first)
    assert tail == ["  GLOBAL_BUDGET: must look like 50/1 (calls/seconds)"]
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)


@pytest.mark.parametrize("variable", ["REDIS_URL", "MONGODB_URL"])
def test_the_variable_is_named_when_a_server_of_the_environment_is_away(variable: str) -> None:
    """The line names variable and host, and never the password in the URL."""
    scheme = variable.removesuffix("_URL").lower()

    ended = run("demo", *SMALL, **{variable: f"{scheme}://somebody:secret@127.0.0.1:1/0"})

    assert ended.stderr == f"{variable} is set, but 127.0.0.1:1 does not answer; unset it to use our own server\n"
    assert (ended.returncode, "secret" in ended.stdout) == (1, False)


def test_the_summary_is_the_last_line_when_json_is_asked_for() -> None:
    """`make demo ARGS=--json` can be read by a program: one object with the figures, on standard output."""
    ended = run("demo", "--json", "--users", "2", "--workers", "2", *SMALL)

    found = json.loads(ended.stdout.splitlines()[-1])
    assert (ended.returncode, ended.stdout.count("\n")) == (0, 1), ended.stderr
    assert (found["users"], found["memberships"], found["http_429"], found["duplicate_guild_fetches"]) == (2, 8, 0, 0)
    assert found["channels"] > 0
    assert found["discord_calls"] == sum(found["discord_calls_by_route"].values()) > 0
    assert 0 < found["seconds_to_list"] <= found["seconds_to_first_guild"] <= found["seconds_total"]
    assert found["seconds_to_first_five"] <= found["seconds_total"]
    assert set(found["headroom_low_water"]) >= {"global", "user"}


def test_the_demonstration_fails_when_a_job_does() -> None:
    """The exit code says that something went wrong, and the line says for whom."""
    rule = {"kind": "status", "status": 401, "route": "GET /users/@me/guilds", "token": "bearer"}

    ended = run("demo", *SMALL, "--fault", json.dumps(rule))

    assert ended.returncode == 1
    assert re.search(r"✗ user \d+: .*REAUTH_REQUIRED", ended.stdout)


def test_the_environments_servers_are_used_when_they_are_named(redis_url: str, mongodb_url: str) -> None:
    """With REDIS_URL and MONGODB_URL no server of ours is started, and our database is gone from theirs afterwards."""
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        client.flushdb()
    with up(REDIS_URL=redis_url, MONGODB_URL=mongodb_url) as (process, addresses):
        commands = stack_processes.command_lines(directory_of(addresses))
        client_ = pymongo.MongoClient[dict[str, Any]](mongodb_url)
        with client_:
            during = client_.list_database_names()
            process.send_signal(signal.SIGTERM)
            code = process.wait(PATIENCE)
            after = client_.list_database_names()

    assert not [line for line in commands if "valkey-server" in line or "secantusd" in line]
    assert code == 143
    assert addresses["mongodb_database"] in during
    assert addresses["mongodb_database"] not in after


def test_the_real_discord_is_used_when_both_tokens_are_given() -> None:
    """With a bot's and a user's token no simulator is started, and the user is whoever the token belongs to."""
    with _discord("--bot-token", "real-bot-token", "--user-limit", "40/1") as played:
        user = played["users"][0]
        tokens = {"DISCORD_BOT_TOKEN": "real-bot-token", "DISCORD_USER_TOKEN": user["token"]}

        more = {"DISCORD_API_BASE": played["base_url"], "LIMITER_HOLD": "0", "USER_BUDGET": "40/1"}
        ended = run("demo", "--json", **tokens, **more)

        found = json.loads(ended.stdout.splitlines()[-1])
        assert ended.returncode == 0, ended.stderr
        assert "simulator is ready" not in ended.stderr
        assert f"user {user['id']}: succeeded" in ended.stderr
        assert (found["guilds"], found["http_429"], found["duplicate_guild_fetches"]) == (4, 0, None)
        assert found["discord_calls"] == json.loads(probes.read_page(f"{played['control_url']}/stats")[1])["calls"] - 1


def test_the_token_is_named_when_discord_refuses_it() -> None:
    """A user token that is not accepted is told before anything is indexed, without showing it."""
    with _discord() as played:
        tokens = {"DISCORD_BOT_TOKEN": "b", "DISCORD_USER_TOKEN": "my-secret"}

        ended = run("demo", DISCORD_API_BASE=played["base_url"], **tokens)

    assert ended.returncode == 1
    assert ended.stderr.startswith("DISCORD_USER_TOKEN: Discord answered 401 to GET /users/@me; ")
    assert "my-secret" not in ended.stdout + ended.stderr


@contextlib.contextmanager
def _discord(*arguments: str) -> Iterator[dict[str, Any]]:
    """Run a simulator that stands for the real Discord; yields what it printed."""
    command = [sys.executable, "-m", "devstack.simulator", "--guilds-per-user", "4", "--with-parent", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=programs.CHECKOUT) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.kill()
