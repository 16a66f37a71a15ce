#!/usr/bin/env bash
# Make the image localhost/ftq-base, a Debian with Python, where no image registry can be reached (needs root).
# It stands in for python:slim and for ubuntu: `images/build.sh` builds over it.
set -euo pipefail
SUITE=${SUITE:-bookworm} MIRROR=${MIRROR:-http://deb.debian.org/debian}

for tool in debootstrap buildah; do
  command -v "$tool" >/dev/null || { echo "Error: $tool is missing. apt-get install buildah debootstrap" >&2; exit 1; }
done
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv "$SUITE" "$root" "$MIRROR" >&2
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* \
  "$root"/usr/share/{doc,info,lintian,locale,man}/*  # as the slim images do

container=$(buildah from scratch)
buildah add --quiet "$container" "$root" / >/dev/null
buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --cmd bash "$container"
buildah commit --quiet --rm "$container" localhost/ftq-base
