#!/usr/bin/env bash
# Build ftq-cli and ftq-worker: by Docker where its engine answers, otherwise by buildah (root; no daemon, no registry).
#
#   images/build.sh               both; where there is no GPU to try the worker on, its CPU variant too
#   images/build.sh cli|worker|worker-cpu
#
# By buildah the worker is only ever its CPU variant, over a Debian made by images/base.sh.
# MOUNTS: further folders or files that buildah's builds may read at the same place, such as a local package index.
set -euo pipefail
cd "$(dirname "$0")/.."
TAG=${TAG:-latest}
CPU_TORCH=${CPU_TORCH-https://download.pytorch.org/whl/cpu}

by_docker() {
  case $1 in
    cli) docker build --file Dockerfile.cli --tag "ftq-cli:$TAG" . ;;
    worker) docker build --file Dockerfile.gpu --tag "ftq-worker:$TAG" . ;;
    worker-cpu)
      docker build --file Dockerfile.gpu --tag "ftq-worker-cpu:$TAG" --build-arg "PIP_EXTRA_INDEX_URL=$CPU_TORCH" . ;;
  esac
}

by_buildah() {
  local base=localhost/ftq-base
  buildah inspect --type image "$base" >/dev/null 2>&1 || images/base.sh
  case $1 in
    cli) bud Dockerfile.cli "ftq-cli:$TAG" --build-arg "BASE=$base" ;;
    worker | worker-cpu)
      bud Dockerfile.gpu "ftq-worker-cpu:$TAG" --build-arg "BASE=$base" --build-arg "PIP_EXTRA_INDEX_URL=$CPU_TORCH" ;;
  esac
}

bud() {  # the host's certificates and pip configuration are lent to the build, they don't stay in the image
  local file=$1 image=$2 lent=() path
  shift 2
  for path in /etc/ssl/certs /etc/pip.conf ${MOUNTS:-}; do
    [ ! -e "$path" ] || lent+=(--volume "$path:$path:ro")
  done
  [ ! -e ~/.config/pip/pip.conf ] || lent+=(--volume "$HOME/.config/pip/pip.conf:/root/.config/pip/pip.conf:ro")
  buildah bud --isolation chroot --format docker --layers "${lent[@]}" "$@" --file "$file" --tag "$image" .
}

engine=by_buildah
all=(cli worker)
if docker info >/dev/null 2>&1; then
  engine=by_docker
  nvidia-smi -L 2>/dev/null | grep -q GPU || all+=(worker-cpu)
fi
[ $# -gt 0 ] || set -- "${all[@]}"
for image; do "$engine" "$image"; done
