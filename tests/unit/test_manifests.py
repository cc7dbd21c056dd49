"""Charts and compose file against the settings and the locks; they are read as text, without Helm or Docker."""

import pathlib
import re
import tomllib
from collections.abc import Mapping

import pydantic
import pytest

from indexer_service.server import app
from indexing import settings

DEPLOY = pathlib.Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "chart"
PROCESSES = ("service", "worker", "refresh", "exporter", "gateway")
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


def compose_variables() -> dict[str, str]:
    """Return the variables of the compose file's service, which has those of all other processes."""
    text = (DEPLOY / "compose.yaml").read_text()
    values = dict(re.findall(r"^ +((?!GF_)[A-Z][A-Z0-9_]+): (.+)$", text, re.MULTILINE))
    return {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value).strip('"') for name, value in values.items()}


def load(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> settings.Settings:
    """Read the settings as a deployed process does."""
    for name in KNOWN:
        monkeypatch.delenv(name, raising=False)
    for name, value in (dict(variables) | SECRETS).items():
        monkeypatch.setenv(name, value)
    return settings.load()


def test_settings_load_when_docker_compose_starts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process of the compose file is refused at boot; `make check-deploy` tries the charts."""
    loaded = load(monkeypatch, compose_variables())

    assert loaded.service.listen.endswith(":50051")
    assert settings.load_exporter().discord == loaded.discord


def test_grace_periods_outlast_the_drain_when_docker_ends_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker kills a process that drains for longer. Dramatiq uses its timeout up to twice."""
    loaded = load(monkeypatch, compose_variables())
    (compose,) = seconds_in(DEPLOY / "compose.yaml", r"stop_grace_period: (\d+)s$")

    drained = loaded.service.drain + app.FIRST_TURNS_TIMEOUT + CLOSING
    stopped = 2 * loaded.workers.shutdown_timeout + CLOSING
    assert compose >= max(drained, stopped)


@pytest.mark.parametrize("path", ["observability/templates/monitors.yaml", "compose/prometheus.yaml"])
def test_a_source_times_out_before_the_scrape_when_it_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Otherwise the scrape fails, and the sources that answer are lost as well."""
    set_there = seconds_in(DEPLOY / path, r"scrape_?[tT]imeout: (\d+)s")

    load(monkeypatch, compose_variables())
    assert settings.load_exporter().exporter.timeout < min(set_there, default=SCRAPE_TIMEOUT)


def test_every_variable_is_a_setting_when_a_manifest_sets_it() -> None:
    """A misspelt variable would be ignored silently."""
    derived = matches_in(CHART / "templates/_settings.tpl", r'"([A-Z]+_[A-Z_]+)"')
    found = variables_set_in(DEPLOY / "compose.yaml") | derived

    assert found <= set(KNOWN)
    assert {"DISCORD_BOT_TOKEN", "INDEXER_TLS_CERT"} <= found


def test_every_setting_is_in_the_chart_when_it_is_new() -> None:
    """In settings.env, by `make docs`; a secret in the list of secrets."""
    assert matches_in(CHART / "settings.env", r"^#?([A-Z][A-Z0-9_]+)=") == set(KNOWN) - SECRET
    assert matches_in(CHART / "templates/_secrets.tpl", r"variable: ([A-Z0-9_]+)") == SECRET


def test_the_exporter_gets_no_key_to_credentials() -> None:
    """It reads none; every other process gets all secrets."""
    listed = {name: matches_in(CHART / f"templates/{name}.yaml", r'"secrets" \(list ([^)]+)\)') for name in PROCESSES}
    got = {name: set(re.findall(r"[A-Z0-9_]+", " ".join(found))) for name, found in listed.items()}

    assert got.pop("exporter") == SECRET - {"INDEXER_CREDENTIAL_KEYS", "DISCORD_CLIENT_SECRET"}
    assert all(names == SECRET for names in got.values())


@pytest.mark.parametrize("chart", ["chart", "observability"])
def test_a_chart_has_the_products_version(chart: str) -> None:
    """`make release` changes all of them together."""
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]

    assert matches_in(DEPLOY / chart / "Chart.yaml", r"^(?:version|appVersion): (.+)$") == {project["version"]}


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
