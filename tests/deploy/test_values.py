"""What differs between installations is one value each, and a mistake in the values is refused."""

import json
import re
from typing import Any

import pytest
import yaml

from tests.deploy import addresses, graces, network, policy, rendered, test_network

BOTS = {"indexer-red": {}, "indexer-green": {"name": "green"}, "indexer-blue": {"name": "blue-2"}}
"""Three bots: namespace, and what distinguishes the bot there."""
LOCAL_DNS = network.End(address="169.254.20.10")
OPENSHIFT_DNS = network.End(
    "openshift-dns",
    (("dns.operator.openshift.io/daemonset-dns", "default"),),
    (("kubernetes.io/metadata.name", "openshift-dns"),),
)


def settings_of(objects: rendered.Objects) -> dict[str, str]:
    """Return the variables that the ConfigMap sets."""
    found: dict[str, str] = rendered.one(objects, "ConfigMap", "indexer-settings")["data"]
    return found


def passes(objects: rendered.Objects, name: str, target: network.End, port: int, protocol: str = "TCP") -> bool:
    """Return whether a process may connect to the target."""
    return network.allowed(objects, network.pod(objects, name), target, port, protocol)


def test_three_bots_share_nothing_when_only_values_differ() -> None:
    """Each has its own namespace, database, certificate names and queries, and a third of the invalid requests."""
    bots = {space: rendered.bot(space, {"bot": {**own, "sharing": 3}}) for space, own in BOTS.items()}

    assert rendered.shared(bots) == []
    assert {found["metadata"]["namespace"] for space in bots for found in bots[space]} == set(BOTS)
    assert [settings_of(objects).get("MONGODB_DATABASE") for objects in bots.values()] == [
        None,
        "indexer_green",
        "indexer_blue_2",
    ]
    for space, objects in bots.items():
        text = repr(objects)
        assert set(re.findall(r'namespace="([^"]+)"', text)) == {space}
        assert set(re.findall(r"indexer-service\.([a-z-]+)\.svc", text)) == {space}
        # The default is 0.05 and 0.1 of Discord's limit, for one bot.
        assert float(settings_of(objects)["LIMITER_STOP_BULK"]) == pytest.approx(0.0167, abs=1e-4)
        assert float(settings_of(objects)["LIMITER_STOP_ALL"]) == pytest.approx(0.0333, abs=1e-4)


@pytest.mark.parametrize(
    ("values", "target", "port", "before"),
    [
        ({"redis": {"ports": [6380]}}, test_network.REDIS, 6380, False),
        ({"redis": {"ports": [6379, 26379]}}, test_network.REDIS, 26379, False),
        ({"mongodb": {"ports": [27018]}}, test_network.REDIS, 27018, False),
        ({"mongodb": {"addresses": ["203.0.113.0/24"]}}, network.End(address="203.0.113.7"), 27017, False),
        ({"mongodb": {"addresses": ["public"]}}, network.End(address="203.0.113.7"), 27017, False),
    ],
    ids=["redis-6380", "sentinel", "mongodb-27018", "mongodb-elsewhere", "mongodb-srv-outside"],
)
def test_a_backend_is_reached_when_one_value_names_it(
    values: dict[str, Any], target: network.End, port: int, *, before: bool
) -> None:
    """Every process reaches it, and none could without the value."""
    objects = rendered.bot("indexer", values)

    for name in test_network.WORKLOADS:
        assert passes(rendered.bot("indexer"), name, target, port) is before
        assert passes(objects, name, target, port)
        assert not passes(objects, name, network.End(address="169.254.169.254"), port)


@pytest.mark.parametrize(
    ("provider", "target", "port"),
    [("kube-dns", test_network.DNS, 53), ("node-local", LOCAL_DNS, 53), ("openshift", OPENSHIFT_DNS, 5353)],
)
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_names_are_resolved_when_the_cluster_has_another_dns(
    provider: str, target: network.End, port: int, protocol: str
) -> None:
    """Every process asks it, and nothing else on that port."""
    objects = rendered.bot("indexer", {"dns": provider})

    for name in test_network.WORKLOADS:
        assert passes(objects, name, target, port, protocol)
        assert not passes(objects, name, network.End(address="169.254.169.254"), port, protocol)


def test_another_prometheus_scrapes_and_is_asked_when_values_name_it() -> None:
    """The namespace sets who scrapes and where KEDA asks; an address outside replaces the latter."""
    inside = rendered.bot("indexer", {"monitoring": {"namespace": "metrics"}})
    outside = rendered.bot(
        "indexer", {"monitoring": {"prometheus": "https://prom.example.org", "addresses": ["192.0.2.0/24"]}}
    )
    other = network.End("metrics", (), (("kubernetes.io/metadata.name", "metrics"),))

    def scraped(objects: rendered.Objects, by: network.End) -> bool:
        return network.allowed(objects, by, network.pod(objects, "indexer-worker"), 9465)

    assert (scraped(inside, other), scraped(inside, test_network.PROMETHEUS)) == (True, False)
    assert scraped(outside, network.End(address="192.0.2.9"))
    assert set(re.findall(r"serverAddress': '([^']+)", repr(inside))) == {"http://prometheus-operated.metrics.svc:9090"}
    assert set(re.findall(r"serverAddress': '([^']+)", repr(outside))) == {"https://prom.example.org"}


def test_runbook_and_dashboards_have_their_address_when_two_values_name_them() -> None:
    """No link leads to the default page, and an alert that a panel watches names the panel's dashboard."""
    objects = rendered.monitoring({"docs": "https://wiki.example.org/i", "grafana": "https://g.example.org"})
    rules = {
        rule["alert"]: rule["annotations"]
        for group in rendered.one(objects, "PrometheusRule", "indexer")["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }

    assert "github.com" not in repr(objects)
    assert all(each["runbook_url"].startswith("https://wiki.example.org/i/runbook.md#") for each in rules.values())
    assert rules["IndexerHeadroomExhausted"]["dashboard_url"] == "https://g.example.org/d/indexer-headroom"


def test_boards_and_alerts_lead_to_logs_and_traces_when_addresses_are_given() -> None:
    """Each board above its panels and at each point of a graph, each alert in its annotations."""
    objects = rendered.monitoring(
        {
            "logs": "https://g.example.org/explore?q={namespace}&from={from}&to={to}",
            "traces": "https://t.example.org/{namespace}",
        }
    )
    texts = [text for found in rendered.of_kind(objects, "ConfigMap") for text in found["data"].values()]
    boards = [json.loads(text) for text in texts]
    graphs = [panel for board in boards for panel in board["panels"] if panel["type"] == "timeseries"]
    rules = rendered.one(objects, "PrometheusRule", "indexer")["spec"]["groups"]
    alerts = [rule["annotations"] for group in rules for rule in group["rules"] if "alert" in rule]

    links = {
        "Logs": "https://g.example.org/explore?q=${namespace:regex}&from=${__from}&to=${__to}",
        "Traces": "https://t.example.org/${namespace:regex}",
    }
    assert len(boards) == 4
    for board in boards:
        assert links.items() <= {link["title"]: link.get("url") for link in board["links"]}.items()
    for graph in graphs:
        assert {link["title"]: link["url"] for link in graph["fieldConfig"]["defaults"]["links"]} == links
    wanted = '{{ or $labels.namespace ".*" }}'
    assert {each["logs_url"] for each in alerts} == {f"https://g.example.org/explore?q={wanted}&from=now-1h&to=now"}
    assert {each["traces_url"] for each in alerts} == {f"https://t.example.org/{wanted}"}


@pytest.mark.parametrize("value", ["logs", "traces"])
def test_an_address_of_logs_or_traces_is_refused_when_it_is_none(value: str) -> None:
    """A link that leads nowhere is found before it is needed."""
    with pytest.raises(rendered.Refused, match=f"/{value}"):
        rendered.monitoring({value: "loki:3100"})


def test_rules_and_dashboards_are_the_generated_ones_when_nothing_is_set() -> None:
    """Helm passes them on unchanged: the templates of Prometheus in them are not Helm's."""
    made = yaml.safe_load((rendered.REPOSITORY / "deploy/observability/prometheusrule.yaml").read_text())

    assert rendered.one(rendered.monitoring(), "PrometheusRule", "indexer")["spec"] == made["spec"]


def test_secrets_are_files_and_come_from_a_store_when_values_say_so() -> None:
    """Every process gets paths instead of values, and each file's key is fetched from the store."""
    objects = rendered.installation("everything")

    assert list(policy.referenced_keys_exist(objects)) == []
    assert list(policy.referenced_objects_exist(objects)) == []
    for where, pod, container in rendered.containers(objects):
        names = {each["name"] for each in container["env"]}
        assert "MONGODB_URL_FILE" in names, where
        assert not any("valueFrom" in each for each in container["env"])
        assert {"secrets", "tmp"} <= {volume["name"] for volume in pod["volumes"]}
    assert len(rendered.of_kind(objects, "ExternalSecret")) == 4


def test_traces_leave_for_a_collector_outside_when_its_networks_are_named() -> None:
    """Without its networks the values are refused, since nothing could reach it."""
    collector = "https://otel.example.org"

    objects = rendered.bot("indexer", {"tracing": {"endpoint": collector, "addresses": ["public"]}})

    assert list(addresses.unreachable(objects)) == []
    with pytest.raises(rendered.Refused, match=r"tracing\.addresses"):
        rendered.bot("indexer", {"tracing": {"endpoint": collector}})


@pytest.mark.parametrize(
    "settings",
    [
        {"INDEXING_INSTALL_URL": "https://discord.com/oauth2/authorize?client_id=1"},
        {"AUDIT_LOG": "/tmp/audit.log"},  # noqa: S108 -- inside a pod
        {"GLOBAL_BUDGET": "25/0.5"},
        {"DISCORD_API_BASE": "https://discord.example.org/api/v10"},
        {"INDEXER_DRAIN": "100"},
        {"WORKERS_SHUTDOWN_TIMEOUT": "59.5"},
        {"EXPORTER_TIMEOUT": "8"},
    ],
    ids=str,
)
def test_a_setting_is_accepted_when_pods_can_have_it(settings: dict[str, Any]) -> None:
    """A link that people open needs no policy; grace periods and sizes follow from the settings."""
    objects = rendered.bot("indexer", {"settings": settings})

    assert settings.items() <= settings_of(objects).items()
    assert [*addresses.unreachable(objects), *graces.grace_periods_suffice(objects)] == []
    assert list(graces.scaling_follows_the_budget(objects)) == []


@pytest.mark.parametrize("gateway", [False, True])
def test_the_gateways_process_exists_only_when_it_is_enabled(*, gateway: bool) -> None:
    """All processes are told, and it reaches Discord over HTTPS alone."""
    objects = rendered.bot("indexer", {"gateway": {"enabled": gateway}})
    names = {found["metadata"]["name"] for found in rendered.of_kind(objects, "Deployment")}

    assert ("indexer-gateway" in names, settings_of(objects).get("GATEWAY_ENABLED")) == (
        (True, "1") if gateway else (False, None)
    )
    if gateway:
        assert passes(objects, "indexer-gateway", test_network.DISCORD, 443)
        assert not passes(objects, "indexer-gateway", test_network.DISCORD, 80)
        assert network.allowed(objects, test_network.PROMETHEUS, network.pod(objects, "indexer-gateway"), 9468)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"bot": {"nam": "x"}}, "'nam' not allowed"),
        ({"bot": {"name": "Über"}}, "/bot/name"),
        ({"bot": {"sharing": 0}}, "/bot/sharing"),
        ({"replicas": 3}, "'replicas' not allowed"),
        ({"service": {"replicas": "3"}}, "got string, want integer"),
        ({"worker": {"replicas": 0}}, "/worker/replicas"),
        ({"refresh": {"replicas": 2}}, "/refresh/replicas"),
        ({"dns": "coredns"}, "/dns"),
        ({"scaling": True}, "/scaling"),
        ({"redis": {"ports": 6380}}, "/redis/ports"),
        ({"redis": {"ports": [66380]}}, "/redis/ports/0"),
        ({"redis": {"addresses": ["redis.example.org"]}}, "/redis/addresses/0"),
        ({"redis": {"addresses": ["10.1.2.3"]}}, "/redis/addresses/0"),
        ({"mongodb": {"addresses": []}}, "/mongodb/addresses"),
        ({"monitoring": {"prometheus": "prometheus:9090"}}, "/monitoring/prometheus"),
        ({"tracing": {"endpoint": "otel:4317"}}, "/tracing/endpoint"),
        ({"image": {"tag": "latest"}}, "/image/tag"),
        ({"image": {"digests": {"service": "sha256:12"}}}, "/image/digests/service"),
        ({"settings": {"INDEXER_LISTN": "x"}}, "INDEXER_LISTN is not a setting"),
        ({"settings": {"REDIS_URL": "redis://:password@redis"}}, "REDIS_URL is not a setting"),
        ({"settings": {"GLOBAL_BUDGET": [50]}}, "/settings/GLOBAL_BUDGET"),
        ({"settings": {"GLOBAL_BUDGET": "50 per second"}}, "GLOBAL_BUDGET: 50 per second is not calls/seconds"),
        ({"settings": {"INDEXER_LISTEN": "[::]:50050"}}, "INDEXER_LISTEN is fixed"),
        ({"settings": {"WORKERS_METRICS_PORT": 9999}}, "WORKERS_METRICS_PORT is fixed"),
        ({"settings": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318"}}, "the value tracing.endpoint"),
        ({"settings": {"GATEWAY_ENABLED": "1"}}, "the value gateway.enabled"),
        ({"settings": {"AUDIT_LOG": "/var/log/audit.log"}}, "pods can write below /tmp/ alone"),
        ({"settings": {"DISCORD_API_BASE": "http://proxy.internal:8080"}}, "the policies open HTTPS"),
        ({"callers": {"tls": False}}, "without TLS and tokens"),
        ({"redis": {"addresses": ["300.1.1.1/8"]}}, "/redis/addresses/0"),
        ({"tracing": {"endpoint": "http://otel.observability.svc:99999"}}, "/tracing/endpoint"),
        ({"tracing": {"endpoint": "http://user:password@otel.observability.svc:4318"}}, "/tracing/endpoint"),
        ({"image": {"registry": "https://ghcr.io/you"}}, "/image/registry"),
        ({"worker": {"resources": {"limits": {"memory": "1GB"}}}}, "/worker/resources/limits/memory"),
        ({"worker": {"resources": {"requests": {"cpu": "half"}}}}, "/worker/resources/requests/cpu"),
        ({"service": {"replicas": 9}}, "service.maxReplicas is below service.replicas"),
    ],
    ids=lambda each: each if isinstance(each, str) else None,
)
def test_values_are_refused_when_they_contain_a_mistake(values: dict[str, Any], said: str) -> None:
    """By the schema, or for names of settings by the template."""
    with pytest.raises(rendered.Refused) as refused:
        rendered.bot("indexer", values)

    assert said in str(refused.value)
