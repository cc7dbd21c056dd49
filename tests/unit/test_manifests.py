"""The variables in manifests and compose file against the settings, read as text: no tool is needed for it."""

import pathlib
import re
import tomllib

import pydantic
import pytest

from indexer_service.server import app
from indexing import settings

DEPLOY = pathlib.Path(__file__).parents[2] / "deploy"
KNOWN = {
    settings.variable(group, name): field
    for group in settings.GROUPS.values()
    for name, field in group.model_fields.items()
}
SECRET = {name for name, field in KNOWN.items() if field.annotation is pydantic.SecretStr}
GRAFANA = "GF_"
"""How Grafana's own variables begin; all others that are set have to be ours."""


def variables(path: pathlib.Path, pattern: str) -> set[str]:
    """Return what the pattern's group finds in a file."""
    return set(re.findall(pattern, path.read_text(), re.MULTILINE))


def in_manifests(path: pathlib.Path) -> set[str]:
    """Return the variables that a manifest or the compose file sets."""
    named = variables(path, r"- name: ([A-Z][A-Z0-9_]+)$")
    literal = variables(path, r"- ([A-Z][A-Z0-9_]+)=")
    mapped = variables(path, r"^ +([A-Z][A-Z0-9_]+): ")
    return {name for name in named | literal | mapped if not name.startswith(GRAFANA)}


def test_every_variable_is_a_setting_when_a_manifest_sets_it() -> None:
    """A misspelt one would be ignored without a word."""
    files = [*DEPLOY.glob("k8s/**/*.yaml"), DEPLOY / "compose.yaml"]
    found = {name for path in files for name in in_manifests(path)}

    assert found <= set(KNOWN)
    assert "DISCORD_BOT_TOKEN" in found


def test_every_setting_is_in_the_manifests_when_it_is_new() -> None:
    """In base/indexer.env, by `make docs`; a secret in each Deployment, by reference."""
    env = variables(DEPLOY / "k8s/base/indexer.env", r"^#?([A-Z][A-Z0-9_]+)=")

    assert env == set(KNOWN) - SECRET


@pytest.mark.parametrize(
    ("process", "unneeded"),
    [
        ("service", set()),
        ("worker", set()),
        ("refresh", set()),
        ("exporter", {"INDEXER_CREDENTIAL_KEYS", "DISCORD_CLIENT_SECRET"}),
    ],
)
def test_every_secret_comes_by_reference_when_a_process_needs_it(process: str, unneeded: set[str]) -> None:
    """Never as a value; the exporter reads no credential and has no key to any."""
    text = (DEPLOY / "k8s" / "base" / process / "deployment.yaml").read_text()
    referenced = set(re.findall(r"- name: ([A-Z0-9_]+)\n +valueFrom: \{secretKeyRef:", text))

    assert referenced == SECRET - unneeded


def test_the_grace_period_counts_what_the_service_takes_when_it_ends() -> None:
    """`make check-deploy` runs without the product, so its number stands there once more."""
    written = variables(DEPLOY.parent / "tests/deploy/graces.py", r"^LAST_TURNS = ([\d.]+)$")

    assert {float(number) for number in written} == {app.LAST_TURNS}


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_the_image_installs_what_is_tested_when_it_is_built(name: str) -> None:
    """Its locks are parts of the main one."""
    pinned = r"^([a-z0-9-]+==\S+)"
    image = variables(DEPLOY / "docker" / name, pinned)

    assert image <= variables(DEPLOY.parent / "requirements.lock", pinned)
    assert image


def test_the_image_has_every_dependency_when_one_is_new() -> None:
    """`make lock` writes all locks."""
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    direct = {re.split(r"[\[><=;]", each)[0].lower() for each in project["dependencies"]}

    assert direct <= variables(DEPLOY / "docker" / "requirements.lock", r"^([a-z0-9-]+)==")
