"""What settings name, the network policies allow."""

import pytest

from tests.deploy import addresses, rendered

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def with_traces() -> rendered.Objects:
    """Render production with a collector."""
    return rendered.bot("indexer", {"tracing": {"endpoint": "http://otel-collector.observability.svc:4318"}})


def test_every_address_in_a_setting_is_reachable_when_an_installation_is_rendered(
    installation: rendered.Objects,
) -> None:
    """A setting without its policy would be a process that waits for time-outs."""
    assert list(addresses.unreachable(installation)) == []


def test_traces_leave_when_an_endpoint_is_named() -> None:
    """Setting and policy follow from one value; every process but the exporter sends traces."""
    objects = with_traces()
    maps = [found["data"] for found in rendered.of_kind(objects, "ConfigMap") if ENDPOINT in found["data"]]

    assert [found[ENDPOINT] for found in maps] == ["http://otel-collector.observability.svc:4318"]
    assert list(addresses.unreachable(objects)) == []


@pytest.mark.parametrize("mistake", ["no-policy", "another-port", "another-namespace"])
def test_a_trace_endpoint_is_found_when_no_policy_allows_it(mistake: str) -> None:
    """Seeded mistakes: the policy is missing, or one of the two was changed alone."""
    objects = with_traces()
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
