"""Compiled layers with adapters: the same numbers, but products and parts are written where they belong.

In a process of its own: what Inductor is told holds for the rest of a process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CODE = """
import json, sys
import torch
import torch._inductor.config
from torch._inductor.utils import run_and_get_code
from worker.stages import inductor
if sys.argv[1] == "less":
    inductor.WIDE = 64
    inductor.copy_less()
torch._inductor.config.force_pointwise_cat = True  # as on a GPU
torch.manual_seed(0)
x = torch.randn(1, 37, 64, requires_grad=True)
up, down = torch.randn(256, 64), torch.randn(64, 128)
a, b = (torch.nn.Parameter(torch.randn(*size)) for size in ((8, 64), (256, 8)))

def adapted(x):
    whole = torch.nn.functional.linear(x, up)
    low = x @ a.t()
    return torch.addmm(whole.view(-1, 256), low.view(-1, 8), b.t(), alpha=0.25).view(whole.shape)

def layer(x):
    gate, value = adapted(x).chunk(2, dim=-1)
    return ((torch.nn.functional.silu(gate) * value) @ down.t()).square().sum()

def step(layer):
    x.grad = a.grad = b.grad = None
    loss = layer(x)
    loss.backward()
    return [loss.detach(), x.grad, a.grad, b.grad]

plain = step(layer)
compiled, codes = run_and_get_code(step, torch.compile(layer, dynamic=True))
off = [float((one - other).abs().max() / other.abs().max()) for one, other in zip(compiled, plain)]
print(json.dumps({"off": off, "code": "\\n".join(codes)}))
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return {how: run(how, tmp_path_factory.mktemp(how)) for how in ("usual", "less")}


def run(how: str, cache: Path) -> dict[str, Any]:
    environment = {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": str(cache),
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "CI": "1",  # there PyTorch refuses what it lets pass elsewhere
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE, how], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_losses_and_gradients_are_the_same(compiled: dict[str, dict[str, Any]]) -> None:
    for found in compiled.values():
        assert max(found["off"]) < 1e-4


@pytest.mark.slow
def test_the_adapters_product_is_added_where_the_layers_lies(compiled: dict[str, dict[str, Any]]) -> None:
    assert "extern_kernels.addmm(" in compiled["usual"]["code"]
    assert "extern_kernels.addmm(" not in compiled["less"]["code"]
    assert "aten.addmm_" in compiled["less"]["code"]


@pytest.mark.slow
def test_both_halves_of_a_gradient_are_written_to_their_place(compiled: dict[str, dict[str, Any]]) -> None:
    assert "_cat_" in kernels(compiled["usual"]["code"])
    assert "_cat_" not in kernels(compiled["less"]["code"])


def kernels(code: str) -> str:
    """The names of the kernels that were generated; each says what is fused in it."""
    return " ".join(word for word in code.split() if word.startswith("cpp_fused"))
