"""The files that name a version, as text."""

import datetime
import pathlib
import re

UNRELEASED = "## Unreleased\n"
VERSION = re.compile(r"\d+\.\d+\.\d+")
VERSIONED = (
    "pyproject.toml",
    "indexer_client/pyproject.toml",
    "deploy/chart/Chart.yaml",
    "deploy/observability/Chart.yaml",
)
"""Files with a line `version = "…"`, or `version:` and `appVersion:`."""
IMAGES = "deploy/values/images.yaml"
EMPTY = '""'
"""YAML of a digest that is not known."""


class Refused(Exception):
    """The release cannot be made; the text says why."""


def with_version(text: str, version: str) -> str:
    """
    Return the text of one of `VERSIONED` with another version.

    Raises:
        Refused: The text names none.
    """
    changed, count = re.subn(
        r'^((?:version|appVersion)(?: = "|: ))\d+\.\d+\.\d+', rf"\g<1>{version}", text, flags=re.MULTILINE
    )
    if not count:
        raise Refused("a file names no version")
    return changed


def current_version(root: pathlib.Path) -> str:
    """Return the product's version."""
    found = re.search(r'^version = "(.+)"$', (root / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise Refused("pyproject.toml names no version")
    return found[1]


def with_section(changelog: str, version: str, day: datetime.date) -> tuple[str, str]:
    """
    Return the changelog with what is unreleased under the version, and that section's text.

    Raises:
        Refused: Nothing is unreleased, or the version has a section.
    """
    before, heading, after = changelog.partition(UNRELEASED)
    following = re.search(r"^## ", after, re.MULTILINE)
    end = following.start() if following else len(after)
    section, rest = after[:end], after[end:]
    if not heading or not section.strip():
        raise Refused("CHANGELOG.md has nothing under Unreleased")
    if re.search(rf"^## {re.escape(version)}\b", changelog, re.MULTILINE):
        raise Refused(f"CHANGELOG.md has a section {version} already")
    made = f"{before}{UNRELEASED}\n## {version} - {day.isoformat()}\n{section.rstrip()}\n"
    return made + (f"\n{rest}" if rest else ""), section.strip() + "\n"


def with_digests(digests: dict[str, str]) -> str:
    """Return images.yaml with the digests of a release; with an empty one the chart names the image by its version."""
    head = "# Images of a release by digest, written by `make release`.\n"
    lines = "".join(f"    {name}: {digest or EMPTY}\n" for name, digest in sorted(digests.items()))
    return f"{head}image:\n  digests:\n{lines}"


def check_version(version: str, current: str, tags: set[str]) -> None:
    """
    Check that a version can be released.

    Raises:
        Refused: It is no version, older than the current one, or released.
    """
    if not VERSION.fullmatch(version):
        raise Refused(f"{version!r} is not a version such as 0.2.0")
    if _number(version) < _number(current):
        raise Refused(f"{version} is older than {current}")
    if f"v{version}" in tags:
        raise Refused(f"the tag v{version} exists")


def check_clean(status: str) -> None:
    """
    Check git's list of changes.

    Raises:
        Refused: There are some.
    """
    if status.strip():
        raise Refused("the checkout has changes that are not committed")


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
