"""
`python -m deploy.release VERSION`: versions, changelog, wheels, charts, bill of materials, images, commit and tag.

With --dry-run everything happens in a copy of the last commit, no image is built, and the copy's differences are shown.
"""

import argparse
import datetime
import hashlib
import pathlib
import shutil
import subprocess
import sys

from deploy.release import images, texts

TREE = pathlib.Path("build/release")
"""The copy of a dry run."""


def run(root: pathlib.Path, *command: str) -> str:
    """Run a command in the tree; return its output."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=root)
    if done.returncode:
        raise texts.Refused(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def say(text: str) -> None:
    """Tell the operator."""
    print(text, flush=True)


def write_versions(root: pathlib.Path, version: str) -> None:
    """Write version and changelog; leave the release's notes in dist."""
    for name in texts.VERSIONED:
        path = root / name
        path.write_text(texts.with_version(path.read_text("utf-8"), version), "utf-8")
    path = root / "CHANGELOG.md"
    day = datetime.datetime.now(datetime.UTC).date()
    changed, notes = texts.with_section(path.read_text("utf-8"), version, day)
    path.write_text(changed, "utf-8")
    (root / "dist" / "notes.md").write_text(notes, "utf-8")


def build_artifacts(root: pathlib.Path, tools: pathlib.Path) -> None:
    """Build both wheels, the bill of materials and the charts into dist; the API becomes the next baseline."""
    dist = root / "dist"
    run(root, sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist))
    run(root / "indexer_client", sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist))
    sbom = run(root, sys.executable, "deploy/make_sbom.py", "deploy/docker/requirements.lock")
    (dist / "sbom.json").write_text(sbom, "utf-8")
    helm = str(tools / "helm")
    run(root, helm, "package", "deploy/chart", "deploy/observability", "--destination", str(dist))
    buf = str(pathlib.Path(sys.executable).with_name("buf"))
    run(root, buf, "build", "--exclude-source-info", "-o", "proto/baseline.binpb")


def write_sums(dist: pathlib.Path) -> None:
    """Write the checksums of all files."""
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(dist.iterdir())]
    (dist / "SHA256SUMS").write_text("".join(sums), "utf-8")


def build_images(root: pathlib.Path, registry: str, version: str, *, dry: bool) -> None:
    """
    Build and push the images and write their digests, or say why not.

    Without an engine the digests become empty: those of the release before would be installed and signed as this one.
    """
    revision = run(root, "git", "rev-parse", "HEAD").strip()
    digests = dict.fromkeys(images.TARGETS, "")
    for target in images.TARGETS:
        metadata = root / "dist" / f"{target}.image.json"
        command = images.build_command(target, registry, version, revision, metadata)
        if dry or not images.engine():
            say(f"not built, {'a dry run' if dry else images.NO_ENGINE}: {' '.join(command)}")
            continue
        run(root, *command)
        digests[target] = images.digest_of(metadata)
    if dry:
        say(f"a dry run: {texts.IMAGES} would get the digests")
        return
    (root / texts.IMAGES).write_text(texts.with_digests(digests), "utf-8")
    if not all(digests.values()):
        say(f"incomplete: {texts.IMAGES} lacks digests, and the charts name the images by tag {version}")


def release(root: pathlib.Path, asked: argparse.Namespace, tools: pathlib.Path) -> None:
    """Make the release in *root*, up to the commit and the tag."""
    tags = set(run(root, "git", "tag", "--list", "v*").split())
    texts.check_version(asked.version, texts.current_version(root), tags)
    (root / "dist").mkdir(exist_ok=True)
    write_versions(root, asked.version)
    build_artifacts(root, tools)
    build_images(root, asked.registry, asked.version, dry=asked.dry_run)
    shutil.copy(root / texts.IMAGES, root / "dist")
    write_sums(root / "dist")
    run(root, "git", "add", *texts.VERSIONED, texts.IMAGES, "CHANGELOG.md", "proto/baseline.binpb")
    run(root, "git", "commit", "--quiet", "--no-verify", "-m", f"release {asked.version}")
    if not asked.dry_run:
        run(root, "git", "tag", "--annotate", f"v{asked.version}", "-m", f"release {asked.version}")
    for path in sorted((root / "dist").iterdir()):
        say(f"{path.stat().st_size:>9} {path.name}")


def main() -> int:
    """Return the exit code: 1 when the release is refused."""
    parser = argparse.ArgumentParser(prog="make release")
    parser.add_argument("version")
    parser.add_argument("--registry", default="registry.example.org")
    parser.add_argument("--tools", type=pathlib.Path, default=pathlib.Path("build/tools/bin"))
    parser.add_argument("--dry-run", action="store_true")
    asked = parser.parse_args()
    root, tools = pathlib.Path.cwd(), asked.tools.absolute()
    try:
        if asked.dry_run:
            run(root, "git", "worktree", "add", "--detach", "--force", str(TREE), "HEAD")
            try:
                release(root / TREE, asked, tools)
                say(run(root / TREE, "git", "show", "--stat", "--format=%s", "HEAD"))
            finally:
                run(root, "git", "worktree", "remove", "--force", str(TREE))
            say("a dry run: nothing here has changed")
            return 0
        texts.check_clean(run(root, "git", "status", "--porcelain", "--untracked-files=no"))
        shutil.rmtree(root / "dist", ignore_errors=True)
        release(root, asked, tools)
        say(f"tagged v{asked.version}; `make sign` and `make publish` come next")
    except texts.Refused as problem:
        sys.stderr.write(f"not released: {problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
