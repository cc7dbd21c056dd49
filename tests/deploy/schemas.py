"""Validation of objects by the schemas of Kubernetes and by models of the custom resources."""

from collections.abc import Iterator
from typing import Any

import kubernetes_validate
from cloudcoil.models.cert_manager import v1 as cert_manager
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus_operator

from tests.deploy import external_secrets, rendered

VERSIONS = ("1.30", "1.34", "1.37")
"""The oldest supported version, one in between, and the newest with published schemas."""
CUSTOM: dict[tuple[str, str], Any] = {
    ("cert-manager.io/v1", "Certificate"): cert_manager.Certificate,
    ("cert-manager.io/v1", "Issuer"): cert_manager.Issuer,
    ("external-secrets.io/v1", "ExternalSecret"): external_secrets.ExternalSecret,
    ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
    ("monitoring.coreos.com/v1", "PodMonitor"): prometheus_operator.PodMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): prometheus_operator.PrometheusRule,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): prometheus_operator.ServiceMonitor,
}


def schema_errors(objects: rendered.Objects) -> Iterator[str]:
    """Return all schema errors; a kind that is neither in Kubernetes nor in CUSTOM is an error."""
    for found in objects:
        model = CUSTOM.get((found["apiVersion"], found["kind"]))
        yield from _custom(found, model) if model is not None else _core(found)


def _core(found: rendered.Object) -> Iterator[str]:
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(found, version, strict=True)
        except kubernetes_validate.ValidationError as problem:
            yield f"{rendered.title(found)} in {version}: {problem.message}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"{rendered.title(found)} in {version}: unknown kind"


def _custom(found: rendered.Object, model: Any) -> Iterator[str]:  # noqa: ANN401 -- the models' base class differs
    try:
        read = model.model_validate(found)
    except ValueError as problem:
        yield f"{rendered.title(found)}: {problem}"
        return
    # The models drop unknown fields, such as misspelled ones, so the dumped object must equal the input.
    yield from _lost(found, read.model_dump(mode="json", by_alias=True, exclude_unset=True), rendered.title(found))


def _lost(before: object, after: object, where: str) -> Iterator[str]:
    if isinstance(before, dict):
        for name, value in before.items():
            if not isinstance(after, dict) or name not in after:
                yield f"{where}.{name} is an unknown field"
            else:
                yield from _lost(value, after[name], f"{where}.{name}")
    elif isinstance(before, list):
        if not isinstance(after, list) or len(after) != len(before):
            yield f"{where} changes its length"
            return
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _lost(old, new, f"{where}[{number}]")
    elif before != after and str(before) != str(after):
        yield f"{where} becomes {after!r}"
