"""Manifests and compose file against the settings and the locks; they are read as text, without kustomize or Docker."""

import pathlib
import re
import tomllib
from collections.abc import Mapping

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
"""Prefix of Grafana's variables; every other variable in the files must be a setting."""
SECRETS = {
    "DISCORD_BOT_TOKEN": "t",
    "INDEXER_CREDENTIAL_KEYS": "a" * 43,
    "MONGODB_URL": "mongodb://m/?tls=true",
    "REDIS_URL": "rediss://r",
}
CLOSING = 5.0
"""Seconds to close connections and exit, as in tests/deploy/graces.py."""
SCRAPE_TIMEOUT = 10.0
"""Prometheus' default, in seconds."""


def matches_in(path: pathlib.Path, pattern: str) -> set[str]:
    """Return all matches of the pattern's group in a file."""
    return set(re.findall(pattern, path.read_text(), re.MULTILINE))


def seconds_in(path: pathlib.Path, pattern: str) -> set[float]:
    """Return all matches of the pattern's group in a file, as seconds."""
    return {float(each) for each in matches_in(path, pattern)}


def variables_set_in(path: pathlib.Path) -> set[str]:
    """Return the variables that a manifest or the compose file sets."""
    named = matches_in(path, r"- name: ([A-Z][A-Z0-9_]+)$")
    literal = matches_in(path, r"- ([A-Z][A-Z0-9_]+)=")
    mapped = matches_in(path, r"^ +([A-Z][A-Z0-9_]+): ")
    return {name for name in named | literal | mapped if not name.startswith(GRAFANA)}


def overlay_variables(folder: pathlib.Path) -> dict[str, str]:
    """Return the variables that an overlay's pods get, those of its bases and components included."""
    text = (folder / "kustomization.yaml").read_text()
    found: dict[str, str] = {}
    for name in re.findall(r"envs: \[(.+)\]", text):
        found |= re.findall(r"^([A-Z][A-Z0-9_]+)=(.*)$", (folder / name).read_text(), re.MULTILINE)
    for name in re.findall(r"^  - (\.\./\S+)$", text, re.MULTILINE):
        found |= overlay_variables(folder / name)
    return found | dict(re.findall(r"^      - ([A-Z][A-Z0-9_]+)=(.*)$", text, re.MULTILINE))


def compose_variables() -> dict[str, str]:
    """Return the variables of the compose file's service, which has those of all other processes."""
    text = (DEPLOY / "compose.yaml").read_text()
    values = dict(re.findall(r"^ +((?!GF_)[A-Z][A-Z0-9_]+): (.+)$", text, re.MULTILINE))
    return {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value).strip('"') for name, value in values.items()}


DEPLOYED = {
    **{path.name: overlay_variables(path) for path in (DEPLOY / "k8s/overlays").iterdir()},
    "compose": compose_variables(),
}


def load(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> settings.Settings:
    """Read the settings as a deployed process does."""
    for name in KNOWN:
        monkeypatch.delenv(name, raising=False)
    for name, value in (dict(variables) | SECRETS).items():
        monkeypatch.setenv(name, value)
    return settings.load()


@pytest.mark.parametrize("variables", DEPLOYED.values(), ids=DEPLOYED)
def test_settings_load_when_they_are_deployed(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """No process of an overlay or of the compose file is refused at boot."""
    loaded = load(monkeypatch, variables)

    assert loaded.service.listen.endswith(":50051")
    assert settings.load_exporter().discord == loaded.discord


@pytest.mark.parametrize("variables", DEPLOYED.values(), ids=DEPLOYED)
def test_grace_periods_outlast_the_drain_when_a_process_ends(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """Kubernetes and Docker kill a process that drains for longer. Dramatiq uses its timeout up to twice."""
    loaded = load(monkeypatch, variables)
    base = DEPLOY / "k8s/base"
    grace, pause = r"terminationGracePeriodSeconds: (\d+)$", r"sleep: \{seconds: (\d+)\}"
    (service,) = seconds_in(base / "service/deployment.yaml", grace)
    (asleep,) = seconds_in(base / "service/deployment.yaml", pause)
    (worker,) = seconds_in(base / "worker/deployment.yaml", grace)
    (compose,) = seconds_in(DEPLOY / "compose.yaml", r"stop_grace_period: (\d+)s$")

    drained = loaded.service.drain + app.FIRST_TURNS_TIMEOUT + CLOSING
    stopped = 2 * loaded.workers.shutdown_timeout + CLOSING
    assert service >= asleep + drained
    assert worker >= stopped
    assert compose >= max(drained, stopped)


@pytest.mark.parametrize("path", ["observability/monitors.yaml", "compose/prometheus.yaml"])
def test_a_source_times_out_before_the_scrape_when_it_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Otherwise the scrape fails, and the sources that answer are lost as well."""
    set_there = seconds_in(DEPLOY / path, r"scrape_?[tT]imeout: (\d+)s")

    for variables in DEPLOYED.values():
        load(monkeypatch, variables)
        assert settings.load_exporter().exporter.timeout < min(set_there, default=SCRAPE_TIMEOUT)


def test_every_variable_is_a_setting_when_a_manifest_sets_it() -> None:
    """A misspelt variable would be ignored silently."""
    files = [*DEPLOY.glob("k8s/**/*.yaml"), DEPLOY / "compose.yaml"]
    found = {name for path in files for name in variables_set_in(path)}

    assert found <= set(KNOWN)
    assert "DISCORD_BOT_TOKEN" in found


def test_every_setting_is_in_the_manifests_when_it_is_new() -> None:
    """In base/indexer.env, by `make docs`; a secret in each Deployment, by reference."""
    env = matches_in(DEPLOY / "k8s/base/indexer.env", r"^#?([A-Z][A-Z0-9_]+)=")

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
def test_every_secret_is_a_reference_when_a_process_needs_it(process: str, unneeded: set[str]) -> None:
    """Never as a value; the exporter reads no credentials, so it gets no key to them."""
    text = (DEPLOY / "k8s" / "base" / process / "deployment.yaml").read_text()
    referenced = set(re.findall(r"- name: ([A-Z0-9_]+)\n +valueFrom: \{secretKeyRef:", text))

    assert referenced == SECRET - unneeded


def test_grace_periods_use_the_services_constant_when_it_changes() -> None:
    """`make check-deploy` runs without the product and repeats LAST_TURNS."""
    written = matches_in(DEPLOY.parent / "tests/deploy/graces.py", r"^LAST_TURNS = ([\d.]+)$")

    assert {float(number) for number in written} == {app.FIRST_TURNS_TIMEOUT}


@pytest.mark.parametrize("lock", ["deploy/docker/requirements.lock", "deploy/docker/build.lock", "devstack/demo.lock"])
def test_image_and_demo_install_what_is_tested(lock: str) -> None:
    """Their locks are subsets of the main lock."""
    pinned = r"^([a-z0-9-]+==\S+)"
    image = matches_in(DEPLOY.parent / lock, pinned)

    assert image <= matches_in(DEPLOY.parent / "requirements.lock", pinned)
    assert image


@pytest.mark.parametrize("lock", ["deploy/docker/requirements.lock", "devstack/demo.lock"])
def test_image_and_demo_have_every_dependency_when_one_is_new(lock: str) -> None:
    """`make lock` writes all locks."""
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    direct = {re.split(r"[\[><=;]", each)[0].lower() for each in project["dependencies"]}

    assert direct <= matches_in(DEPLOY.parent / lock, r"^([a-z0-9-]+)==")
