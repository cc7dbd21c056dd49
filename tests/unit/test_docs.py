"""Documents against the tree: what they name exists."""

import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
DECISIONS = sorted(path.name for path in ROOT.glob("docs/decisions/[0-9]*.md"))
SKIPPED = {".git", ".venv", "build", "dist", "__pycache__"}
FILE = re.compile(r"[\w./-]+\.(?:py|md|lua|yaml|toml|json|proto|sh|lock|env|svg|in)")
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


@functools.cache
def tree() -> frozenset[str]:
    """Return all files and folders of the repository, relative to its root."""
    found = (
        path.relative_to(ROOT) for top in ROOT.iterdir() if top.name not in SKIPPED for path in (top, *_below(top))
    )
    return frozenset(path.as_posix() for path in found if not SKIPPED & set(path.parts))


def _below(path: pathlib.Path) -> list[pathlib.Path]:
    return list(path.rglob("*")) if path.is_dir() else []


def named(path: str) -> bool:
    """Return whether a path of the repository, or the end of one, has this name."""
    path = path.rstrip("/")
    return path in tree() or any(each.endswith("/" + path) for each in tree())


def anchors(page: pathlib.Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def missing_links(page: pathlib.Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    return missing


def missing_paths(page: pathlib.Path) -> list[str]:
    """Return the backticked repository paths of a page that do not exist."""
    tops = {name for name in tree() if "/" not in name}
    missing = []
    for span in re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text(encoding="utf-8"))):
        in_tree = re.fullmatch(r"[\w.-]+(?:/[\w.-]+)*/?", span) and span.split("/")[0] in tops
        if (in_tree or FILE.fullmatch(span)) and not span.startswith("/") and not named(span):
            missing.append(span)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_and_path_exists_when_a_page_names_it(page: pathlib.Path) -> None:
    """A reader can open what a document points at."""
    assert missing_links(page) == []
    assert missing_paths(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_exists_when_a_page_names_it(page: pathlib.Path) -> None:
    """Each `make target` is one of the Makefile's."""
    targets = set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))

    assert commands <= targets


def test_every_decision_is_in_the_index_once() -> None:
    """The index lists each page under its number."""
    index = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (\d+) \| \[[^]]+\]\(([^)]+)\)", index, re.MULTILINE)

    assert [name for _, name in listed] == DECISIONS
    assert all(int(name[:4]) == int(number) for number, name in listed)


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_the_readme_names_the_two_commands_when_a_newcomer_reads_it(command: str) -> None:
    """Each is a block of its own, to be copied."""
    assert f"\n```\n{command}\n```\n" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_missing_path_is_found_when_a_page_names_one(tmp_path: pathlib.Path) -> None:
    """The checks can fail."""
    page = tmp_path / "page.md"
    page.write_text("[a](nowhere.md) [b](#no-heading) `indexing/nothing.py` `tests/nowhere` `indexing/errors.py`\n")

    assert missing_links(page) == ["nowhere.md", "#no-heading"]
    assert missing_paths(page) == ["indexing/nothing.py", "tests/nowhere"]
