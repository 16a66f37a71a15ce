"""Compiled layers with adapters: the same numbers, but written where they belong; and what is compiled only once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="on a CPU Inductor needs g++")
Compiled = dict[str, Any]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inductor")


@pytest.fixture(scope="module")
def usual(cache: Path) -> Compiled:
    return run("usual", "joined", cache)


@pytest.fixture(scope="module")
def joined(cache: Path) -> Compiled:
    return run("less", "joined", cache)


@pytest.fixture(scope="module")
def apart(cache: Path) -> Compiled:
    return run("less", "apart", cache)


def run(how: str, layers: str, cache: Path) -> Compiled:
    found: Compiled = printed(["-m", "tests.compiled_blocks", how, layers], cache)
    return found


def printed(arguments: list[str], cache: Path) -> Any:
    """What a process of its own prints as JSON: what Inductor is told holds for the rest of a process."""
    root = str(Path(__file__).parent.parent)
    environment = {
        **os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), "PYTHONPATH": root,
        "CI": "1",  # there PyTorch refuses what it lets pass elsewhere
    }  # fmt: skip
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
def test_losses_and_gradients_are_the_same(usual: Compiled, joined: Compiled, apart: Compiled) -> None:
    assert max(found["off"] for found in (usual, joined, apart)) < 1e-4


@pytest.mark.long
def test_the_adapters_product_is_added_where_the_layers_lies(
    usual: Compiled, joined: Compiled, apart: Compiled
) -> None:
    copied, *in_place = (additions(found["code"]) for found in (usual, joined, apart))
    assert len(copied) >= 4 and not any(onto == out for onto, out in copied)
    for found, many in zip(in_place, (4, 7), strict=True):
        assert len(found) >= many and all(onto == out for onto, out in found)


@pytest.mark.long
def test_both_halves_of_a_gradient_are_written_to_their_place(usual: Compiled, joined: Compiled) -> None:
    by_default, in_place = (
        [name for name in kernels(found["code"]) if "silu_backward" in name] for found in (usual, joined)
    )
    assert any("_cat_" in name for name in by_default)
    assert in_place and not any("_cat_" in name for name in in_place)


SIZES = """
import json, sys
import torch
from torch._dynamo.utils import counters
from worker.stages.engine import inductor
from worker.stages.process import standby

if sys.argv[2] == "0":
    sys.argv.pop(2)
    standby.compile_something("cpu")
    counters.clear()
inductor.remember_sizes({"hidden_size": 1}, int(sys.argv[1]))
layer = torch.compile(lambda x, longest: (torch.sin(x) * longest).sum())
for size in map(int, sys.argv[2:]):
    layer(torch.ones(2, size, requires_grad=True), size // 2).backward()
print(json.dumps([counters["stats"]["unique_graphs"], counters["inductor"]["fxgraph_cache_miss"]]))
"""


def compile_sizes(name: int, sizes: list[int], cache: Path) -> tuple[int, int]:
    """(graphs that were needed, kernels that had to be compiled) for batches of these sizes."""
    graphs, missed = printed(["-c", SIZES, *map(str, [name, *sizes])], cache)
    return graphs, missed


@pytest.mark.long
def test_a_later_training_on_other_data_compiles_nothing(cache: Path) -> None:
    assert compile_sizes(1, [37, 51], cache)[0] == 2
    assert compile_sizes(1, [77, 81, 90], cache) == (1, 0)
    standby = [0, 71, 83, 95]  # which has compiled before it knew for what training
    assert compile_sizes(1, standby, cache) == compile_sizes(1, [72, 84], cache) == (1, 0)
    assert compile_sizes(2, [41, 43], cache)[0] == 2  # another kind of training has sizes of its own


def additions(code: str) -> list[tuple[str, str]]:
    """What each product is added onto, and where the sum goes."""
    calls = [line.strip() for line in code.splitlines() if "extern_kernels.addmm(" in line]
    return [(call.split("(", 1)[1].split(",")[0], call.rsplit("out=", 1)[1].rstrip(")")) for call in calls]


def kernels(code: str) -> list[str]:
    """The names of the kernels that were generated; each says what is fused in it."""
    return [word for word in code.split() if word.startswith(("cpp_fused", "triton_"))]
