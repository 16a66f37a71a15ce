"""Compiled layers with adapters: the same numbers, but products and parts are written where they belong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
    root = Path(__file__).parent.parent
    environment = {
        **os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache),
        "CI": "1",  # there PyTorch refuses what it lets pass elsewhere
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.compiled_blocks", how, layers]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=root)
    assert done.returncode == 0, done.stderr[-2000:]
    found: Compiled = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_losses_and_gradients_are_the_same(usual: Compiled, joined: Compiled, apart: Compiled) -> None:
    assert max(found["off"] for found in (usual, joined, apart)) < 1e-4


@pytest.mark.slow
def test_the_adapters_product_is_added_where_the_layers_lies(
    usual: Compiled, joined: Compiled, apart: Compiled
) -> None:
    copied, *in_place = (additions(found["code"]) for found in (usual, joined, apart))
    assert len(copied) >= 4 and not any(onto == out for onto, out in copied)
    for found, many in zip(in_place, (4, 7), strict=True):
        assert len(found) >= many and all(onto == out for onto, out in found)


@pytest.mark.slow
def test_both_halves_of_a_gradient_are_written_to_their_place(usual: Compiled, joined: Compiled) -> None:
    by_default, in_place = (
        [name for name in kernels(found["code"]) if "silu_backward" in name] for found in (usual, joined)
    )
    assert any("_cat_" in name for name in by_default)
    assert in_place and not any("_cat_" in name for name in in_place)


def additions(code: str) -> list[tuple[str, str]]:
    """What each product is added onto, and where the sum goes."""
    calls = [line.strip() for line in code.splitlines() if "extern_kernels.addmm(" in line]
    return [(call.split("(", 1)[1].split(",")[0], call.rsplit("out=", 1)[1].rstrip(")")) for call in calls]


def kernels(code: str) -> list[str]:
    """The names of the kernels that were generated; each says what is fused in it."""
    return [word for word in code.split() if word.startswith(("cpp_fused", "triton_"))]
