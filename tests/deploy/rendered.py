"""The charts rendered by Helm, and functions to query the objects. As a program it prints one installation."""

import copy
import functools
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import yaml

Object = dict[str, Any]
Objects = list[Object]
REPOSITORY = pathlib.Path(__file__).parents[2]
TOOLS = pathlib.Path(sys.executable).parent
KUBERNETES = "1.37.0"
"""Version of the cluster for which the charts are rendered."""
INSTALLATIONS: dict[str, tuple[str, list[str]]] = {
    "dev": ("indexer-dev", ["deploy/values/dev.yaml"]),
    "production": ("indexer", ["deploy/values/production.yaml", "deploy/values/images.yaml"]),
    "second-bot": (
        "indexer-second",
        ["deploy/values/production.yaml", "deploy/values/images.yaml", "deploy/values/second-bot.yaml"],
    ),
    "everything": ("everything", ["deploy/values/images.yaml", "tests/deploy/everything.yaml"]),
}
"""Namespace and files of values of each installation that is checked, as docs/deploy.md names them."""


class Refused(Exception):
    """Helm does not render these values; the text says why."""


def helm(chart: str, namespace: str, files: list[str], values: Mapping[str, Any] | None = None) -> Objects:
    """
    Render a chart, without a cluster or network.

    Raises:
        Refused: The schema or a template refuses the values.
    """
    command = [str(TOOLS / "helm"), "template", "indexer", str(REPOSITORY / chart)]
    command += ["--namespace", namespace, "--kube-version", KUBERNETES]
    command += [f"--values={REPOSITORY / name}" for name in files] + ["--values=-"]
    given = yaml.safe_dump(dict(values or {}))
    done = subprocess.run(command, input=given, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Refused(done.stderr)
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def bot(namespace: str, values: Mapping[str, Any] | None = None, base: str = "production") -> Objects:
    """Render one bot: the files of an installation, with more values on top."""
    return helm("deploy/chart", namespace, INSTALLATIONS[base][1], values)


def monitoring(values: Mapping[str, Any] | None = None) -> Objects:
    """Render what Prometheus and Grafana get."""
    return helm("deploy/observability", "monitoring", [], values)


@functools.cache
def _shared() -> Objects:
    cluster = (REPOSITORY / "deploy" / "cluster.yaml").read_text()
    return [*yaml.safe_load_all(cluster), *monitoring()]


@functools.cache
def _bot(name: str) -> Objects:
    return bot(INSTALLATIONS[name][0], base=name)


def installation(name: str) -> Objects:
    """Return copies of an installation's objects, followed by those that all need: the cluster's, monitoring."""
    return copy.deepcopy([*_bot(name), *_shared()])


def own(name: str) -> Objects:
    """Return the objects that an installation creates, and deletes when it is uninstalled."""
    return copy.deepcopy(_bot(name))


def shared_by_all() -> Objects:
    """Return the objects that are applied once."""
    return copy.deepcopy(_shared())


def identity(found: Object) -> tuple[str, str, str, str]:
    """Return what names an object in a cluster: group, kind, namespace, name."""
    group = found["apiVersion"].rpartition("/")[0]
    return group, found["kind"], found["metadata"].get("namespace", ""), found["metadata"]["name"]


def shared(installations: Mapping[str, Objects]) -> list[str]:
    """Return the objects that more than one installation creates: who uninstalls one takes them from the others."""
    owners: dict[tuple[str, str, str, str], list[str]] = {}
    for name, objects in installations.items():
        for found in objects:
            owners.setdefault(identity(found), []).append(name)
    return [f"{kind}/{name} is in {' and '.join(by)}" for (_, kind, _, name), by in owners.items() if len(by) > 1]


def of_kind(objects: Objects, kind: str) -> Objects:
    """Return the objects of a kind."""
    return [found for found in objects if found["kind"] == kind]


def one(objects: Objects, kind: str, name: str) -> Object:
    """Return the object with this name."""
    (found,) = [found for found in of_kind(objects, kind) if found["metadata"]["name"] == name]
    return found


def title(found: Object) -> str:
    """Return kind and name for messages."""
    return f"{found['kind']}/{found['metadata']['name']}"


def pod_of(workload: Object) -> Object:
    """Return the pod spec of a workload."""
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def pod_labels(workload: Object) -> dict[str, str]:
    """Return the pod's labels."""
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def scrapes(monitor: Object, workload: Object) -> bool:
    """Return whether a PodMonitor selects a workload's pods."""
    where = monitor["spec"].get("namespaceSelector", {})
    spaces = where.get("matchNames", [monitor["metadata"]["namespace"]])
    there = where.get("any") is True or workload["metadata"]["namespace"] in spaces
    return there and matches(monitor["spec"]["selector"], pod_labels(workload))


def matches(selector: Object, labels: dict[str, str]) -> bool:
    """Return whether a label selector (only matchLabels is used) matches the labels; an empty selector matches all."""
    unknown = set(selector) - {"matchLabels"}
    if unknown:
        raise AssertionError(f"the evaluator does not know {unknown}")
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())


def containers(objects: Objects) -> list[tuple[str, Object, Object]]:
    """Return (where, pod, container) for every container of every Deployment and Job."""
    return [
        (f"{title(workload)}.{container['name']}", pod_of(workload), container)
        for workload in [*of_kind(objects, "Deployment"), *of_kind(objects, "Job")]
        for container in [*pod_of(workload).get("initContainers", []), *pod_of(workload)["containers"]]
    ]


if __name__ == "__main__":
    yaml.safe_dump_all(shared_by_all() if sys.argv[1] == "monitoring" else own(sys.argv[1]), sys.stdout)
