#!/usr/bin/env bash
# Builds the image without a registry and runs it as a pod would: uid 10001, read-only root, no capabilities.
#
# Needs root, buildah, debootstrap and runc (Debian: apt-get install buildah debootstrap runc). The base is a stand-in,
# a Debian with Python 3.11 under the real base's name: it proves steps, paths and users, not the real base image.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$PWD/build/image
base=docker.io/library/python:3.11-slim-bookworm
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
store=(--root "$work/store" --runroot "$work/run")
mkdir -p "$work"

if [ ! -e "$work/base.tar" ]; then
    rm -rf "$work/debian"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/debian" >"$work/debootstrap.log"
    # As in the real base: python and pip live below /usr/local.
    chroot "$work/debian" python3 -m venv /usr/local
    rm -rf "$work/debian"/var/{cache/apt,lib/apt/lists}/* "$work/debian"/usr/share/{doc,man,locale}
    tar -C "$work/debian" -cf "$work/base.tar" .
    rm -rf "$work/debian"
fi
if ! buildah "${store[@]}" inspect --type image "$base" >/dev/null 2>&1; then
    container=$(buildah "${store[@]}" from scratch)
    buildah "${store[@]}" add -q "$container" "$work/base.tar" / >/dev/null
    buildah "${store[@]}" config --env PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin "$container"
    buildah "${store[@]}" commit -q --rm "$container" "$base" >/dev/null
fi

certificates=(-v /etc/ssl/certs:/etc/ssl/certs:ro)
if [ -e /etc/pip.conf ]; then certificates+=(-v /etc/pip.conf:/etc/pip.conf:ro); fi
for target in service worker simulator; do
    buildah "${store[@]}" bud -q --pull-never --layers "${certificates[@]}" \
        --build-arg PYTHON_IMAGE="$base" -f deploy/docker/Dockerfile --target "$target" -t "indexer-$target:check" . >/dev/null
    container=$(buildah "${store[@]}" from "indexer-$target:check")
    mount=$(buildah "${store[@]}" mount "$container")
    rm -rf "$work/$target" && mkdir -p "$work/$target"
    cp -a "$mount" "$work/$target/rootfs"
    buildah "${store[@]}" inspect --type image "indexer-$target:check" >"$work/$target/config.json"
    buildah "${store[@]}" umount "$container" >/dev/null
    buildah "${store[@]}" rm "$container" >/dev/null
    echo "built $target: $(du -sm "$work/$target/rootfs" | cut -f1) MiB with the stand-in base"
done
exec .venv/bin/python -m tests.deploy.run_image "$work"
