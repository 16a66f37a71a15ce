"""4-bit weights that are kept: the same bits as those quantised now, and never a reason for a run to fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import make_tiny_model
from worker.stages import base_model, four_bit

ROOT = Path(__file__).parent.parent
CODE = """
import hashlib, json, shutil, sys
from collections import namedtuple
from pathlib import Path
from ftq.spec import parse
from worker.stages import base_model, four_bit, train_setup
from worker.stages.train_plan import Setup

engine, tiny = sys.argv[1], Path(sys.argv[2])
base_model.go_offline()
if engine == "unsloth":
    import unsloth
import torch

setup = Setup(engine, False, "bfloat16", "adamw_torch", False, True, False, 1, 1, 1)
read, facts = [], {}
real = four_bit.load
train_setup.four_bit.load = lambda read_one, *rest: real(lambda path: (read.append(path), read_one(path))[1], *rest)

def load():
    read.clear()
    model, _ = train_setup.load_model(tiny, parse({"model": str(tiny)}), setup)
    if engine == "unsloth":  # on a GPU it says it so
        base = model.get_base_model()
        said = base.config.quantization_config.to_dict()
        base.config.update({"quantization_config": {**said, "bnb_4bit_compute_dtype": torch.bfloat16}})
    state = sorted(model.state_dict().items())
    bits = hashlib.sha256()
    for name, one in state:
        bits.update(f"{name} {one.dtype} {tuple(one.shape)}".encode())
        bits.update(one.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return model, {"bits": bits.hexdigest(), "read": [str(path) for path in read]}

usage = shutil.disk_usage
model, facts["quantised now"] = load()
shutil.disk_usage = lambda path: namedtuple("Usage", "free")(1000)
four_bit.keep(model, tiny, "bfloat16")
facts["with a full disk"] = str(four_bit.weights(tiny))
shutil.disk_usage = usage
four_bit.keep(model, tiny, "bfloat16")
kept = four_bit.weights(tiny)
facts["kept"] = str(kept)
_, facts["read back"] = load()
next(kept.glob("*.safetensors")).write_bytes(b"broken")
_, facts["broken"] = load()
facts["left of the broken"] = kept.exists()
four_bit.keep(model, tiny, "bfloat16")
(tiny / "config.json").write_text(json.dumps({**json.loads((tiny / "config.json").read_text()), "note": 1}))
facts["of another model"] = str(four_bit.weights(tiny))
four_bit.keep(model, tiny, "bfloat16")
facts["folders"] = len(list(kept.parent.iterdir()))
print(json.dumps(facts))
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["trl", "unsloth"])
def test_kept_weights_are_the_bits_that_are_made_now(engine: str, tmp_path: Path) -> None:
    tiny = make_tiny_model(tmp_path / "tiny")
    environment = {**os.environ, "FTQ_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", CODE, engine, str(tiny)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    bits = found["quantised now"]["bits"]
    assert found["quantised now"]["read"] == [found["with a full disk"]] == [str(tiny)]
    assert found["read back"] == {"bits": bits, "read": [found["kept"]]}
    assert found["broken"] == {"bits": bits, "read": [found["kept"], str(tiny)]}
    assert not found["left of the broken"]
    assert "can't be loaded, it is made again: " in done.stderr
    assert found["of another model"] == str(tiny)
    assert found["folders"] == 1  # those of the model before are gone


def test_without_kept_weights_the_base_models_own_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTQ_CACHE", str(tmp_path / "cache"))
    tiny = make_tiny_model(tmp_path / "tiny")
    assert four_bit.weights(tiny) == tiny
    kept = base_model.cache_dir() / "four_bit" / f"{four_bit._key(tiny)}-bfloat16"
    kept.mkdir(parents=True)
    assert four_bit.weights(tiny) == kept
    os.utime(tiny / "model.safetensors", (1, 1))
    assert four_bit.weights(tiny) == tiny
