#!/usr/bin/env bash
# Try the built images as they are: the client's size and entry point, then one small run through all its stages,
# submitted and asked from the client's image, done by the worker over its embedded broker. Without a GPU, and by
# buildah, that is the worker's CPU variant.
set -euo pipefail
cd "$(dirname "$0")/.."
TAG=${TAG:-latest}
MOST_MB=250
image=ftq-worker-cpu
RUN=(submit --model smollm2-135m --name tried --quant q8_0 --set max_steps=2 --set max_seq_length=256
  --set batch_size=2 --set gradient_accumulation_steps=1 --set gradient_checkpointing=false --set max_tokens=16
  --set eval_questions=4)

if docker info >/dev/null 2>&1; then
  size() { docker image inspect --format '{{.Size}}' "$1"; }
  user=$(id -u)
  if [ "$user" = 0 ]; then user=10001; fi
  gpus=()
  if nvidia-smi -L 2>/dev/null | grep -q GPU; then image=ftq-worker gpus=(--gpus all); fi
  start() {
    docker run --rm --user "$user" --volume "$home:/ftq/artifacts" --volume "$PWD/documents:/ftq/documents:ro" "$@"
  }
  client() { start "ftq-cli:$TAG" "$@"; }
  worker() { start "${gpus[@]}" --entrypoint bash "$image:$TAG" -c "$1"; }
else
  size() { buildah images --json "$1" | python3 -c '
import json, re, sys
number, unit = re.fullmatch(r"([\d.]+) (\w+)", json.load(sys.stdin)[0]["size"]).groups()
print(int(float(number) * {"KB": 1e3, "MB": 1e6, "GB": 1e9}[unit.upper()]))'
  }
  containers=()
  start() {
    buildah run --isolation chroot --volume "$home:/ftq/artifacts" --volume "$PWD/documents:/ftq/documents:ro" "$@"
  }
  client() { start "$cli" -- ftq "$@"; }
  worker() { start "$gpu" -- bash -c "$1"; }
  cli=$(buildah from "localhost/ftq-cli:$TAG")
  gpu=$(buildah from "localhost/$image:$TAG")
  containers=("$cli" "$gpu")
fi

home=$(mktemp -d)
clean() {
  touch "$home/stop"
  wait
  [ -z "${containers:-}" ] || buildah rm "${containers[@]}" >/dev/null
  rm -rf "$home"
}
trap clean EXIT
chmod 777 "$home"

megabytes=$(($(size "ftq-cli:$TAG") / 1000000))
echo "ftq-cli: $megabytes MB"
[ "$megabytes" -lt "$MOST_MB" ] || { echo "Error: that is not under $MOST_MB MB" >&2; exit 1; }
client --help | head -4

# shellcheck disable=SC2016  # for the shell in the container
worker 'ftq up --no-flower --log-to-stderr & up=$!
  trap "kill $up; wait $up" EXIT
  until python -m worker.host.health > /ftq/artifacts/health.txt; do
    sleep 2
    kill -0 $up || exit 1
  done
  touch /ftq/artifacts/healthy
  until [ -e /ftq/artifacts/stop ]; do sleep 1; done' > "$home/worker.log" 2>&1 &
for _ in $(seq 120); do
  [ -e "$home/healthy" ] && break
  sleep 1
done
[ -e "$home/healthy" ] || { cat "$home/worker.log" "$home/health.txt" >&2; echo "Error: the worker isn't healthy" >&2; exit 1; }
echo "$image: healthy"
client "${RUN[@]}" --wait
client status tried
client infer tried "What is ftq?"
