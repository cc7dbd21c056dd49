"""`python -m deploy.release.sign`: signs the images of a release, attests their bill of materials, signs the sums."""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys

from deploy.release import images, texts

NONE = f"sha256:{'0' * 64}"
"""The digest in images.yaml of an image that was never released."""


def commands(registry: str, digests: dict[str, str], dist: pathlib.Path) -> list[list[str]]:
    """Return what cosign does; without a key it asks the identity of who runs it (OIDC)."""
    made: list[list[str]] = []
    for target in images.TARGETS:
        if digests.get(target, NONE) != NONE:
            image = f"{registry}/discord-channel-indexer-{target}@{digests[target]}"
            made.append(["cosign", "sign", "--yes", image])
            predicate = ["--type", "cyclonedx", "--predicate", str(dist / "sbom.json")]
            made.append(["cosign", "attest", "--yes", *predicate, image])
    sums = str(dist / "SHA256SUMS")
    made.append(["cosign", "sign-blob", "--yes", "--bundle", f"{sums}.sigstore.json", sums])
    return made


def main() -> int:
    """Return the exit code: 1 when something cannot be signed."""
    parser = argparse.ArgumentParser(prog="make sign")
    parser.add_argument("--registry", required=True)
    asked = parser.parse_args()
    dist = pathlib.Path("dist")
    digests = dict(
        re.findall(r"^ +(\w+): (sha256:[0-9a-f]{64})$", pathlib.Path(texts.IMAGES).read_text("utf-8"), re.MULTILINE)
    )
    if not (dist / "SHA256SUMS").exists():
        sys.stderr.write("nothing to sign: make release first\n")
        return 1
    if shutil.which("cosign") is None:
        sys.stderr.write("not signed: cosign is not installed\n")
        return 1
    for command in commands(asked.registry, digests, dist):
        done = subprocess.run(command, check=False)
        if done.returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
