"""The live display of a job: its content, and that it fits the terminal."""

import io

import pytest
from rich import console

from indexer_client.cli import job_state, limits, rendering
from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_client import rows


def draw(seen: job_state.TrackedJob, *, width: int = 80, height: int = 24) -> list[str]:
    """Return the display's lines, without colors."""
    to = console.Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    to.print(rendering.JobDisplay(seen, lambda: 75.0))
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue().splitlines()


def watched(*guilds: pb.JobGuild, of: pb.Job | None = None) -> job_state.TrackedJob:
    """Return a tracked job with these guild tasks."""
    seen = job_state.TrackedJob()
    seen.apply_start(rows.started(*guilds, of=of))
    return seen


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 10), (200, 70)], ids=str)
def test_the_display_fits_when_there_are_more_guilds_than_lines(width: int, height: int) -> None:
    """At every terminal size, no line is too wide and the display with the cursor's line is not too high."""
    guilds = [rows.guild(number, name=f"a guild with a rather long name 名前 {number}" * 3) for number in range(100)]

    lines = draw(watched(*guilds), width=width, height=height)

    assert len(lines) < height
    assert max(console.Console().measure(line).maximum for line in lines) <= width


def test_hidden_guilds_are_counted_when_they_do_not_fit() -> None:
    """The last line counts the hidden guilds by state."""
    guilds = [rows.guild(number, "SUCCEEDED" if number < 20 else "QUEUED") for number in range(60)]

    lines = draw(watched(*guilds))

    assert lines[-1] == "  … 44 more: 40 queued, 4 indexed"


def test_guilds_are_ordered_by_activity_when_they_are_in_all_states() -> None:
    """Running guilds are first, then those waiting for a retry, then the latest finished, then the queue."""
    seen = watched(*(rows.guild(number) for number in range(6)), rows.guild(6, "SKIPPED", error="BOT_NOT_INSTALLED"))
    seen.apply_event(rows.changed(rows.guild(0, "SUCCEEDED", channel_count=1503, revision=2)))
    seen.apply_event(rows.changed(rows.guild(2, "FAILED", error="DISCORD_TRANSIENT", revision=2)))
    seen.apply_event(rows.changed(rows.guild(4, attempts=1, retry_time=rows.NOON, revision=2)))
    seen.apply_event(rows.changed(rows.guild(5, "RUNNING", revision=2)))

    lines = draw(seen)

    names = [line[2:9] for line in lines if line[2:7] == "guild"]
    assert names == ["guild 5", "guild 4", "guild 2", "guild 0", "guild 1", "guild 3", "guild 6"]
    assert "fetching" in lines[4]
    assert ", 1 failure" in lines[5]
    assert "failed: discord transient" in lines[6]
    assert lines[7].endswith("1,503 ch")
    assert "bot not installed" in lines[-1]


def test_the_bar_counts_guilds_and_channels_when_some_are_done() -> None:
    """Beside the bar are finished guilds, all guilds, channels so far and elapsed time."""
    seen = watched(rows.guild(0, "SUCCEEDED", channel_count=1500), rows.guild(1, "SKIPPED"), rows.guild(2))

    assert draw(seen)[1].endswith("2 of 3 guilds, 1,500 channels  1:15")


def test_the_wait_is_shown_when_the_job_is_throttled() -> None:
    """The line under the bar names the budget and the time."""
    seen = watched(rows.guild(0), of=rows.job(throttled=pb.Throttled(budget="user", end_time=rows.LATER)))

    line = draw(seen)[2]

    assert line.startswith("waiting for the user rate limit until ")
    assert line.rstrip().endswith(":00")


def test_the_height_stays_when_the_wait_begins_and_ends() -> None:
    """The line of the wait is always present, so that nothing jumps."""
    calm, throttled = watched(rows.guild(0)), watched(rows.guild(0))
    throttled.job.throttled.CopyFrom(pb.Throttled(budget="user", end_time=rows.LATER))

    assert len(draw(calm)) == len(draw(throttled))


def test_names_are_shown_as_they_are_when_they_look_like_markup() -> None:
    """Markup and emoji codes are printed literally, control characters are escaped."""
    seen = watched(rows.guild(0, name="[red]x[/] :smile: \x1b[31m\u202e"))

    assert "[red]x[/] :smile: \\x1b[31m\\u202e" in draw(seen, width=120)[4]


def test_only_the_bar_stays_when_the_job_has_ended() -> None:
    """The guilds are removed; `indexer guilds` lists them."""
    seen = watched(rows.guild(0, "SUCCEEDED"), of=rows.job("SUCCEEDED"))

    assert len(draw(seen)) == 3


def budget(kind: str, key: str = "", free: int = 5, **more: object) -> pb.Budget:
    """Return a budget of five permits."""
    made = pb.Budget(kind=kind, key=key, capacity=5, free=free)
    made.MergeFrom(pb.Budget(**more))  # type: ignore[arg-type]  # fields of a budget, whatever their types
    return made


def test_calm_routes_are_one_line() -> None:
    """A route that is used or paused keeps its own, and so do few routes."""
    calm = [budget("route", f"GET /guilds/{number}/channels") for number in range(4)]
    busy = budget("route", "GET /guilds/9/channels", free=2)
    paused = budget("route", "GET /guilds/8/channels", pause_end_time=rows.LATER)

    found = limits.folded([budget("global"), *calm, busy, paused])

    keys = [(each.kind, each.key, each.free) for each in found]
    assert keys == [
        ("global", "", 5),
        ("route", "GET /guilds/9/channels", 2),
        ("route", "GET /guilds/8/channels", 5),
        ("", "4 routes, all free", 20),
    ]
    assert limits.folded(calm[:2]) == calm[:2]


@pytest.mark.parametrize("width", [40, 80])
def test_the_budgets_fit_the_terminal(width: int) -> None:
    """No line is broken, and the free permits are always shown."""
    display = limits.LimitsDisplay()
    display.budgets = [budget("global"), budget("route", "GET /guilds/41771983423143937/channels", free=2)]
    screen = console.Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)

    screen.print(display)

    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]  # as made above
    assert len(lines) == 3
    assert all(len(line) <= width for line in lines)
    assert "5/5" in lines[1]
    assert "2/5" in lines[2]
