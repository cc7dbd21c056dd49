"""Overlays rendered by kubectl, and functions to query them."""

import copy
import functools
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import yaml

REPOSITORY = pathlib.Path(__file__).parents[2]
OVERLAYS = sorted(path.parent.name for path in REPOSITORY.glob("deploy/k8s/overlays/*/kustomization.yaml"))
Object = dict[str, Any]
Objects = list[Object]


def kustomized(folder: pathlib.Path) -> Objects:
    """Render a kustomization, without a cluster or network."""
    command = [str(pathlib.Path(sys.executable).with_name("kubectl")), "kustomize", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise AssertionError(done.stderr)
    return [found for found in yaml.safe_load_all(done.stdout) if found]


@functools.cache
def _kustomized(folder: str) -> Objects:
    return kustomized(REPOSITORY / "deploy" / folder)


def overlay(name: str) -> Objects:
    """Return copies of an overlay's objects, followed by those that all overlays need: the cluster's, monitoring."""
    return copy.deepcopy([*own(name), *_kustomized("k8s/cluster"), *_kustomized("observability")])


def own(name: str) -> Objects:
    """Return the objects that an overlay creates, and deletes when it is uninstalled."""
    return _kustomized(f"k8s/overlays/{name}")


def identity(found: Object) -> tuple[str, str, str, str]:
    """Return what names an object in a cluster: group, kind, namespace, name."""
    group = found["apiVersion"].rpartition("/")[0]
    return group, found["kind"], found["metadata"].get("namespace", ""), found["metadata"]["name"]


def shared(overlays: Mapping[str, Objects]) -> list[str]:
    """Return the objects that more than one overlay creates: who uninstalls one takes them from the others."""
    owners: dict[tuple[str, str, str, str], list[str]] = {}
    for name, objects in overlays.items():
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
    """Return (where, pod, container) for every container of every workload."""
    return [
        (f"{title(workload)}.{container['name']}", pod_of(workload), container)
        for workload in of_kind(objects, "Deployment")
        for container in [*pod_of(workload).get("initContainers", []), *pod_of(workload)["containers"]]
    ]
