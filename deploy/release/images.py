"""The images of a release: built for two architectures and pushed, where an engine is."""

import json
import pathlib
import subprocess

TARGETS = ("service", "worker")
PLATFORMS = "linux/amd64,linux/arm64"
NO_ENGINE = "no engine answers `docker buildx inspect`"


def engine() -> bool:
    """Return whether images can be built here."""
    try:
        done = subprocess.run(["docker", "buildx", "inspect"], check=False, capture_output=True, timeout=30)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def build_command(target: str, registry: str, version: str, revision: str, metadata: pathlib.Path) -> list[str]:
    """Return the command that builds and pushes an image, and writes its digest into *metadata*."""
    return [
        *("docker", "buildx", "build", "--platform", PLATFORMS, "--file", "deploy/docker/Dockerfile"),
        *("--target", target, "--build-arg", f"VERSION={version}", "--build-arg", f"REVISION={revision}"),
        # The bill of materials and how the image came about are stored beside it in the registry.
        *("--sbom=true", "--provenance=mode=max", "--metadata-file", str(metadata), "--push"),
        *("--tag", f"{registry}/discord-channel-indexer-{target}:{version}", "."),
    ]


def digest_of(metadata: pathlib.Path) -> str:
    """Return the digest of the image for all platforms."""
    return str(json.loads(metadata.read_text("utf-8"))["containerimage.digest"])
