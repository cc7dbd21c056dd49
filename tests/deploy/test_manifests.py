"""Every overlay, against schemas and rules."""

import pytest

from tests.deploy import graces, policy, rendered, schemas


def test_every_object_fits_its_schema_when_an_overlay_is_rendered(overlay: rendered.Objects) -> None:
    """In three versions of Kubernetes; custom kinds lose no field in their models."""
    assert list(schemas.fits(overlay)) == []


@pytest.mark.parametrize("rule", [*policy.RULES, *graces.RULES], ids=lambda rule: rule.__name__)
def test_nothing_breaks_a_rule_when_an_overlay_is_rendered(overlay: rendered.Objects, rule: policy.Rule) -> None:
    """What schemas cannot say."""
    assert list(rule(overlay)) == []


def test_the_observability_fits_its_schemas_when_it_is_rendered() -> None:
    """It is applied by itself, where Prometheus Operator is."""
    folder = rendered.REPOSITORY / "deploy" / "observability"
    if not (folder / "kustomization.yaml").exists():
        pytest.skip("there is no deploy/observability/kustomization.yaml")

    assert list(schemas.fits(rendered.kustomized(folder))) == []
