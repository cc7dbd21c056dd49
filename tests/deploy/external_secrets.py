"""
A model of ExternalSecret, with the fields that the chart uses; no package has the whole of it.

Fields and values: external-secrets.io/latest/api/externalsecret, read 2026-11-29.
"""

from typing import Literal

import pydantic


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


class _Metadata(_Strict):
    name: str
    namespace: str
    labels: dict[str, str]


class _Store(_Strict):
    kind: Literal["SecretStore", "ClusterSecretStore"]
    name: str


class _Target(_Strict):
    name: str
    creationPolicy: Literal["Owner", "Orphan", "Merge", "None"]  # noqa: N815 -- as the API writes it


class _Remote(_Strict):
    key: str
    property: str


class _Data(_Strict):
    secretKey: str  # noqa: N815 -- as the API writes it
    remoteRef: _Remote  # noqa: N815 -- as the API writes it


class _Spec(_Strict):
    refreshInterval: str  # noqa: N815 -- as the API writes it
    secretStoreRef: _Store  # noqa: N815 -- as the API writes it
    target: _Target
    data: list[_Data] = pydantic.Field(min_length=1)


class ExternalSecret(_Strict):
    """An ExternalSecret."""

    apiVersion: Literal["external-secrets.io/v1"]  # noqa: N815 -- as the API writes it
    kind: Literal["ExternalSecret"]
    metadata: _Metadata
    spec: _Spec
