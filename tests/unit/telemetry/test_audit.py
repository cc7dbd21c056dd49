"""Where audit lines go, and what happens when they cannot."""

import errno
import json
import pathlib
import stat
from collections.abc import Iterator

import pytest
import structlog.testing

from indexing.telemetry import audit


@pytest.fixture(autouse=True)
def _restore_audit() -> Iterator[None]:
    """Write nothing in the tests after these."""
    yield
    audit.configure(audit.OFF, 10_000, 2)


def test_a_line_is_json_when_it_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Fields without a value are left out."""
    audit.configure(audit.STDOUT, 10_000, 2)

    audit.record(caller="shop", method="ListGuilds", user="7", job="", outcome="OK", seconds=0.25)

    line = json.loads(capsys.readouterr().out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "call",
        "logger": "audit",
        "caller": "shop",
        "method": "ListGuilds",
        "user": "7",
        "outcome": "OK",
        "seconds": 0.25,
    }


def test_a_line_has_a_bound_when_a_value_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    """A value cannot begin a line of its own either."""
    audit.configure(audit.STDOUT, 10_000, 2)

    audit.record(user="u" * 100_000, method="\n{}")

    out = capsys.readouterr().out
    assert len(out) < 2000
    assert out.count("\n") == 1


def test_nothing_is_written_when_the_audit_log_is_off(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither to standard output nor to the log."""
    audit.configure(audit.OFF, 10_000, 2)

    audit.record(caller="shop")

    assert capsys.readouterr() == ("", "")


def test_files_are_rotated_when_they_are_full(tmp_path: pathlib.Path) -> None:
    """So that the disk has a bound; only their owner reads them."""
    file = tmp_path / "audit"
    audit.configure(str(file), 1000, 3)

    for number in range(100):
        audit.record(request_id=str(number))

    found = sorted(tmp_path.iterdir())
    assert [each.name for each in found] == ["audit", "audit.1", "audit.2"]
    assert all(each.stat().st_size < 1200 for each in found)
    assert {stat.S_IMODE(each.stat().st_mode) for each in found} == {0o600}
    assert json.loads(file.read_text().splitlines()[-1])["request_id"] == "99"


def test_the_file_is_named_when_it_cannot_be_opened(tmp_path: pathlib.Path) -> None:
    """At boot, so that no call goes unrecorded unnoticed."""
    with pytest.raises(audit.CannotWrite, match=r"^AUDIT_LOG: .*missing/audit cannot be written: No such file"):
        audit.configure(str(tmp_path / "missing" / "audit"), 1000, 2)


def test_the_log_says_so_once_when_lines_are_lost(tmp_path: pathlib.Path) -> None:
    """A full disk must neither stop the product nor fill the log."""
    audit.configure(str(tmp_path / "audit"), 1000, 2)
    (handler,) = audit._HANDLERS

    def write(_line: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    handler.stream.write = write  # type: ignore[attr-defined]  # of a handler with a stream
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            audit.record(caller="shop")

    assert [(each["event"], each["problem"]) for each in logged] == [
        ("audit_line_lost", "[Errno 28] No space left on device")
    ]
