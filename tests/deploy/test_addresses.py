"""What settings name, the network policies allow."""

import os
import pathlib

import pytest
import yaml

from tests.deploy import addresses, rendered

K8S = rendered.REPOSITORY / "deploy" / "k8s"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def with_component(folder: pathlib.Path, name: str) -> rendered.Objects:
    """Render production with one more component."""
    written = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "indexer",
        "resources": [os.path.relpath(K8S / "overlays" / "production", folder)],
        "components": [os.path.relpath(K8S / "components" / name, folder)],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(written))
    return rendered.kustomized(folder)


def test_every_address_in_a_setting_is_reachable_when_an_overlay_is_rendered(overlay: rendered.Objects) -> None:
    """A setting without its policy would be a process that waits for time-outs."""
    assert list(addresses.unreachable(overlay)) == []


def test_traces_leave_when_the_component_is_added(tmp_path: pathlib.Path) -> None:
    """Setting and policy belong together; every process but the exporter sends traces."""
    objects = with_component(tmp_path, "tracing")
    maps = [found["data"] for found in rendered.of_kind(objects, "ConfigMap") if ENDPOINT in found["data"]]

    assert [found[ENDPOINT] for found in maps] == ["http://otel-collector.observability.svc.cluster.local:4318"]
    assert list(addresses.unreachable(objects)) == []


@pytest.mark.parametrize("mistake", ["no-policy", "another-port", "another-namespace"])
def test_a_trace_endpoint_is_found_when_no_policy_allows_it(tmp_path: pathlib.Path, mistake: str) -> None:
    """Seeded mistakes: the policy is missing, or one of the two was changed alone."""
    objects = with_component(tmp_path, "tracing")
    if mistake == "no-policy":
        objects = [found for found in objects if found["metadata"]["name"] != "send-traces"]
    for found in rendered.of_kind(objects, "ConfigMap"):
        before = found["data"].get(ENDPOINT, "")
        if mistake == "another-port" and before:
            found["data"][ENDPOINT] = before.replace("4318", "4317")
        if mistake == "another-namespace" and before:
            found["data"][ENDPOINT] = before.replace("observability", "tempo")

    problems = list(addresses.unreachable(objects))

    assert [each.split(" cannot reach ")[0] for each in problems] == [
        "indexer-refresh",
        "indexer-service",
        "indexer-worker",
    ]
    assert all(ENDPOINT in each for each in problems)
