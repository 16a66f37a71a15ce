#!/usr/bin/env bash
# Packs LLaMA-Factory and Axolotl for a GPU host without network (Linux x86-64, Python 3.12, CUDA 13) that has PyTorch
# 2.11, transformers 5.17, peft 0.21 and accelerate 1.15.
# Usage: pack.sh OUT_DIR  ->  OUT_DIR/lf.tgz and OUT_DIR/axolotl.tgz, each a layer over the host's own packages.
# bitsandbytes and torchao aren't in them: both come from the pack of the training stack (site/). On the host:
#   for pack in site lf axolotl; do mkdir -p $pack && tar xzf $pack.tgz -C $pack; done
#   PYTHONPATH=lf:bnb with bnb/ holding site/bitsandbytes*, and PYTHONPATH=axolotl:site
set -euo pipefail
out=$(mkdir -p "${1:?usage: pack.sh OUT_DIR}" && cd "$1" && pwd)
python=${PYTHON:-python3}
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
platforms=(); for p in 2_28 2_27 2_24 2_17; do platforms+=(--platform "manylinux_${p}_x86_64"); done

wheels() {  # wheels NAME REQUIREMENT...: what the index has as wheels
  "$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    "${platforms[@]}" --platform manylinux2014_x86_64 --platform manylinux1_x86_64 -d "$tmp/$1.wheels" "${@:2}"
}

built() {  # built NAME REQUIREMENT...: pure Python that the index has as source only
  "$python" -m pip wheel -q --no-deps -w "$tmp/$1.wheels" "${@:2}"
}

pack() {  # pack NAME: unpack the wheels into one folder, take out what training doesn't read, compress
  mkdir "$tmp/$1"
  for wheel in "$tmp/$1.wheels"/*.whl; do unzip -qo "$wheel" -d "$tmp/$1"; done
  (cd "$tmp/$1" && rm -rf ./*.data tests wandb/bin  # wandb is imported, never used: its programs are 53 MB
   tar c . | gzip -9 > "$out/$1.tgz")
}

# transformers 5.6 wants tokenizers below 0.23.1, datasets 4.0 dill below 0.3.9: hence both are here.
wheels lf llamafactory==0.9.5 transformers==5.6.0 tokenizers==0.22.2 trl==0.24.0 peft==0.18.1 datasets==4.0.0 \
  dill==0.3.8 multiprocess==0.70.16 omegaconf==2.3.0 liger-kernel==0.8.5
built lf antlr4-python3-runtime==4.9.3
pack lf

# 0.20.0 is the release for transformers 5.17.0, peft 0.21.0 and accelerate 1.15.0. It declares torch 2.13.
wheels axolotl axolotl==0.20.0 trl==1.13.0 datasets==4.8.4 dill==0.4.1 multiprocess==0.70.19 liger-kernel==0.8.5 \
  pydantic==2.13.5 pydantic-core==2.46.5 annotated-types==0.8.0 typing-inspection==0.4.5 python-dotenv==1.2.4 \
  addict==2.4.0 termcolor==3.3.0 posthog==6.7.11 backoff==2.2.1 distro==1.9.0 fastcore==2.2.39 schedulefree==1.4.1 evaluate==0.4.1 \
  wandb==0.26.0 gitpython==3.2.1 gitdb==4.0.12 smmap==5.0.3 platformdirs==4.14.7 sentry-sdk==2.75.0
built axolotl axolotl-contribs-lgpl==0.0.7 axolotl-contribs-mit==0.0.6 fire==0.7.1
pack axolotl
ls -l "$out"
