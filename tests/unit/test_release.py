"""A release names one version everywhere, and is refused when it cannot be told from another."""

import datetime
import pathlib
import re

import pytest

from deploy.release import __main__ as release
from deploy.release import images, sign, texts

ROOT = pathlib.Path(__file__).parents[2]
DAY = datetime.date(2026, 11, 29)
CHANGELOG = "# Changelog\n\n## Unreleased\n\n### Added\n\n- One thing.\n\n## 0.1.0 - 2026-01-02\n\n- Old.\n"


def test_what_is_unreleased_becomes_a_section_when_it_is_released() -> None:
    """The heading stays for the next changes; the notes are the section's text."""
    changed, notes = texts.with_section(CHANGELOG, "0.2.0", DAY)

    assert changed == (
        "# Changelog\n\n## Unreleased\n\n## 0.2.0 - 2026-11-29\n\n### Added\n\n- One thing.\n\n"
        "## 0.1.0 - 2026-01-02\n\n- Old.\n"
    )
    assert notes == "### Added\n\n- One thing.\n"


def test_the_first_release_has_no_section_after_its_own() -> None:
    """The file ends with one line break."""
    changed, _ = texts.with_section("## Unreleased\n\n- All.\n", "0.1.0", DAY)

    assert changed == "## Unreleased\n\n## 0.1.0 - 2026-11-29\n\n- All.\n"


@pytest.mark.parametrize(
    ("changelog", "version"),
    [("# Changelog\n", "0.2.0"), ("## Unreleased\n\n## 0.1.0\n\n- Old.\n", "0.2.0"), (CHANGELOG, "0.1.0")],
    ids=["no-heading", "nothing-new", "released-already"],
)
def test_a_changelog_is_refused_when_it_says_nothing_new(changelog: str, version: str) -> None:
    """A release without notes helps nobody."""
    with pytest.raises(texts.Refused):
        texts.with_section(changelog, version, DAY)


@pytest.mark.parametrize(
    ("version", "refused"),
    [
        ("0.2.0", False),
        ("0.1.0", False),
        ("0.10.0", False),
        ("0.0.9", True),
        ("0.3.0", True),
        ("v0.2.0", True),
        ("1", True),
    ],
)
def test_a_version_is_refused_when_it_is_older_tagged_or_none(version: str, *, refused: bool) -> None:
    """The current version is 0.1.0, and 0.3.0 is tagged."""
    try:
        texts.check_version(version, "0.1.0", {"v0.3.0"})
    except texts.Refused:
        assert refused
    else:
        assert not refused


@pytest.mark.parametrize("name", texts.VERSIONED)
def test_every_file_with_a_version_gets_the_new_one(name: str) -> None:
    """And keeps everything else, versions of dependencies included."""
    text = (ROOT / name).read_text("utf-8")

    changed = texts.with_version(text, "9.8.7")

    assert changed.count("9.8.7") == (2 if name.endswith("Chart.yaml") else 1)
    assert changed.replace("9.8.7", texts.current_version(ROOT)) == text


def test_digests_are_written_as_values_of_the_chart() -> None:
    """One of an image that was not pushed is empty, so that the release before is neither installed nor signed."""
    digest = f"sha256:{'a' * 64}"

    assert texts.with_digests({"worker": "", "service": digest}).endswith(
        f'image:\n  digests:\n    service: {digest}\n    worker: ""\n'
    )


def test_the_release_before_leaves_no_digest_when_there_is_no_engine(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release without images names none, and its chart takes them by the tag of its version."""
    values = tmp_path / texts.IMAGES
    values.parent.mkdir(parents=True)
    values.write_text(texts.with_digests({"service": f"sha256:{'a' * 64}", "worker": f"sha256:{'b' * 64}"}), "utf-8")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(release, "run", lambda *_: "")

    release.build_images(tmp_path, "registry.example.org", "0.2.0", dry=False)

    assert "sha256:" not in values.read_text("utf-8")


def test_an_image_is_built_for_both_architectures_and_named_by_its_version() -> None:
    """Its labels are filled by arguments that the recipe declares."""
    command = images.build_command("worker", "ghcr.io/example", "0.2.0", "abc", pathlib.Path("m.json"))
    recipe = (ROOT / "deploy/docker/Dockerfile").read_text("utf-8")
    declared = {line.split()[1].split("=")[0] for line in recipe.splitlines() if line.startswith("ARG ")}
    given = {command[at + 1].split("=")[0] for at, word in enumerate(command) if word == "--build-arg"}

    assert command[command.index("--platform") + 1] == "linux/amd64,linux/arm64"
    assert command[command.index("--tag") + 1] == "ghcr.io/example/discord-channel-indexer-worker:0.2.0"
    assert given == {"VERSION", "REVISION"}
    assert given <= declared


def test_only_images_that_were_pushed_are_signed() -> None:
    """Each by digest, never by tag; the sums of the files always."""
    made = sign.commands("r", {"service": f"sha256:{'a' * 64}", "worker": sign.NONE}, pathlib.Path("dist"))

    assert [(command[1], command[-1]) for command in made] == [
        ("sign", f"r/discord-channel-indexer-service@sha256:{'a' * 64}"),
        ("attest", f"r/discord-channel-indexer-service@sha256:{'a' * 64}"),
        ("sign-blob", "dist/SHA256SUMS"),
    ]


@pytest.mark.parametrize("name", ["checks", "release"])
def test_a_workflow_runs_targets_of_the_makefile_and_pinned_actions(name: str) -> None:
    """Whatever CI does, `make` does on a laptop too; a tag of an action could be moved."""
    text = (ROOT / f".github/workflows/{name}.yaml").read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    steps = re.findall(r"run: (.+)$", text, re.MULTILINE)
    targets = [re.fullmatch(r"make ([a-z-]+)( LOCK=[\w./]+)?", step) for step in steps]

    assert steps
    assert all(target is not None and f"\n{target[1]}:" in makefile for target in targets)
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in re.findall(r"uses: (\S+)", text))
