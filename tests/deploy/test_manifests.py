"""Every installation is checked against schemas and rules."""

import json

import pytest
import yaml

from tests.deploy import policy, rendered, rules, schemas

DEPLOY = rendered.REPOSITORY / "deploy"
BOARDS = DEPLOY / "observability" / "dashboards"
MOST_APPLIED = 262_144
"""Maximum size of an object's annotations; `kubectl apply` stores the whole object in one of them."""


def test_every_object_fits_its_schema_when_an_installation_is_rendered(installation: rendered.Objects) -> None:
    """The check covers three versions of Kubernetes; custom resources lose no field in their models."""
    assert list(schemas.schema_errors(installation)) == []


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_nothing_breaks_a_rule_when_an_installation_is_rendered(
    installation: rendered.Objects, rule: policy.Rule
) -> None:
    """The rules cover what schemas cannot express."""
    assert list(rule(installation)) == []


def test_no_object_belongs_to_two_installations() -> None:
    """Uninstalling one bot takes nothing from another."""
    assert rendered.shared({name: rendered.own(name) for name in rendered.INSTALLATIONS}) == []


def test_no_installation_has_what_is_applied_on_its_own() -> None:
    """Objects of the cluster and of the monitoring outlive each bot."""
    apart = rendered.shared_by_all()
    for name in rendered.INSTALLATIONS:
        assert rendered.shared({"apart": apart, name: rendered.own(name)}) == []


def test_two_installations_with_one_object_are_found() -> None:
    """A mistake seeded: priority classes in two installations, as they once were."""
    classes = rendered.of_kind(rendered.installation("production"), "PriorityClass")

    found = rendered.shared({"production": classes, "second-bot": classes})

    assert found == [
        "PriorityClass/indexer-interactive is in production and second-bot",
        "PriorityClass/indexer-background is in production and second-bot",
    ]


def test_grafana_finds_every_dashboard_when_the_observability_is_applied() -> None:
    """Each dashboard is in its own ConfigMap with the sidecar's label, small enough for `kubectl apply`."""
    maps = rendered.of_kind(rendered.monitoring(), "ConfigMap")
    made = {path.name: json.loads(path.read_text()) for path in BOARDS.glob("*.json")}

    assert {name: json.loads(text) for found in maps for name, text in found["data"].items()} == made
    assert all(found["metadata"]["labels"]["grafana_dashboard"] == "1" for found in maps)
    assert all(len(json.dumps(found)) < MOST_APPLIED for found in maps)


def test_every_file_is_there_when_the_compose_file_mounts_it() -> None:
    """The configurations of Prometheus and Grafana are mounted where they are read."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    prometheus, grafana = (
        dict(volume.split(":")[1::-1] for volume in services[name]["volumes"]) for name in ("prometheus", "grafana")
    )
    rules = yaml.safe_load((DEPLOY / "compose" / "prometheus.yaml").read_text())["rule_files"]
    (provider,) = yaml.safe_load((DEPLOY / "compose/grafana/dashboards/indexer.yaml").read_text())["providers"]

    assert all((DEPLOY / path).exists() for path in [*prometheus.values(), *grafana.values()])
    for pattern in rules:
        inside, _, name = pattern.rpartition("/")
        assert list((DEPLOY / prometheus[inside]).glob(name)), pattern
    assert (DEPLOY / grafana[provider["options"]["path"]]).resolve() == BOARDS
