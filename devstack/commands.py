"""The commands `python -m devstack demo` and `up`."""

import contextlib
import json
import signal
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Annotated

import typer

from devstack import connection_info, stack, startup_view, supervisor
from devstack import demo as demonstration
from indexer_client.cli import errors, output
from indexer_client.cli import main as cli

Users = Annotated[int, typer.Option(min=1, max=500, help="Simulated users.")]
Workers = Annotated[int, typer.Option(min=1, max=32, help="Worker processes.")]
Services = Annotated[int, typer.Option(min=1, max=8, help="gRPC services.")]
GuildsPerUser = Annotated[int, typer.Option(min=1, max=200, help="Guilds of each simulated user.")]
Seed = Annotated[int, typer.Option(help="Seed of the simulated guilds; equal seeds give equal data.")]
Live = Annotated[bool, typer.Option("--live", help="Feed the index from the simulated Gateway, before users start.")]
Latency = Annotated[
    str, typer.Option(help="Simulated round trip: none, lan, typical, bad, or a range in ms, such as 20-60.")
]

app = typer.Typer(
    name="python -m devstack",
    help="Run the whole product on loopback, against a simulated Discord.",
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


@app.command()
def demo(  # noqa: PLR0913 -- one parameter an option
    *,
    users: Users = 1,
    workers: Workers = 1,
    services: Services = 1,
    guilds_per_user: GuildsPerUser = 60,
    seed: Seed = 1,
    latency: Latency = "typical",
    live: Live = False,
    faults: Annotated[
        list[str] | None, typer.Option("--fault", help="Fault rule for the simulator, as JSON. May be repeated.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as one JSON object on standard output.")
    ] = False,
) -> int:
    """Index all users at once and print a summary; the exit code is 0 if no problem was found."""
    options = stack.Options(users, services, workers, guilds_per_user, seed, latency, gateway=live)
    if faults and options.real_discord:
        raise typer.BadParameter("fault rules need the simulator, not the real Discord", param_hint="--fault")
    screen = startup_view.progress_console(as_json=as_json)
    with _running_stack(options, startup_view.StartupView(screen)) as running:
        if live:
            demonstration.wait_until_fed(running, screen)
        found = demonstration.run_demo(running, screen, faults or [])
        found.print_to(screen)
    if as_json:
        output.print_line(json.dumps(found.document()))
    return errors.EXIT_FAILURE if found.problems else 0


@app.command()
def up(  # noqa: PLR0913 -- one parameter an option
    *,
    users: Users = 1,
    workers: Workers = 1,
    services: Services = 1,
    guilds_per_user: GuildsPerUser = 60,
    seed: Seed = 1,
    latency: Latency = "typical",
    live: Live = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all addresses as one JSON object.")] = False,
) -> int:
    """Run everything until Ctrl-C, and print the addresses."""
    options = stack.Options(
        users, services, workers, guilds_per_user, seed, latency, exporter=True, gateway=live, fixed_ports=True
    )
    screen = startup_view.progress_console(as_json=as_json)
    with _running_stack(options, startup_view.StartupView(screen)) as running:
        running.put_credentials()
        if as_json:
            output.print_line(json.dumps(connection_info.document(running)))
        else:
            connection_info.print_connection_info(running, screen)
        failure = running.wait()
        if failure is not None:
            raise failure
    return 0


def run_command(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    try:
        return cli.run_app(app, "python -m devstack", arguments, None)
    except supervisor.StackFailed as problem:
        startup_view.print_failure(problem)
        return errors.EXIT_FAILURE


@contextlib.contextmanager
def _running_stack(options: stack.Options, view: startup_view.StartupView) -> Iterator[stack.Stack]:
    """Yield a started stack, and stop it when the block ends, also by a signal."""
    with _exit_on_signals():
        running = stack.Stack(options, view)
        with view.display_start(running.names):
            running.start()
        try:
            yield running
        finally:
            running.stop()


@contextlib.contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that cleanup runs as after Ctrl-C."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
