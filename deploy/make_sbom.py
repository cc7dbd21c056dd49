"""Writes the software bill of materials of a lock file as CycloneDX 1.5 JSON (cyclonedx.org, read 2026-11-29)."""

import json
import pathlib
import re
import sys
import uuid
from typing import Any

PACKAGE = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(?:\s*;\s*(?P<marker>[^\\]+?))?\s*\\?$")
HASH = re.compile(r"^\s+--hash=sha256:(?P<digest>[0-9a-f]{64})\s*\\?$")


class InvalidLock(Exception):
    """A line of the lock file is neither a pinned package nor a hash of one."""


def make_sbom(lock: str) -> dict[str, Any]:
    """Return the bill of materials of a lock file's text. The same text gives the same document."""
    components: list[dict[str, Any]] = []
    for line in lock.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        package, digest = PACKAGE.match(line), HASH.match(line)
        if package is not None:
            components.append(_component(**package.groupdict()))
        elif digest is not None and components:
            hashes = components[-1]["externalReferences"][0]["hashes"]
            hashes.append({"alg": "SHA-256", "content": digest["digest"]})
        else:
            raise InvalidLock(line)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, lock)}",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "discord-channel-indexer", "bom-ref": "product"}},
        "components": components,
    }


def _component(name: str, version: str, marker: str | None) -> dict[str, Any]:
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    made: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "externalReferences": [
            {"type": "distribution", "url": f"https://pypi.org/project/{name}/{version}/", "hashes": []}
        ],
    }
    return made | ({"properties": [{"name": "python:marker", "value": marker}]} if marker else {})


if __name__ == "__main__":
    json.dump(make_sbom(pathlib.Path(sys.argv[1]).read_text("utf-8")), sys.stdout, indent=1)
    sys.stdout.write("\n")
