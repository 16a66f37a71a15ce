"""Two blocks of a transformer, with adapters on every linear layer, compiled: what differs from PyTorch's own.

    python -m tests.compiled_blocks usual|less apart|joined

In a process of its own: what Inductor is told holds for the rest of a process. `less` tells it what ftq does
(engine/inductor.py). Query, key, value, gate and up are apart, as Llama has them, or joined, as Phi-3 has them.
On a GPU where there is one. Prints JSON: the largest difference of the loss and of any gradient, relative to the
largest of its numbers, and the generated code.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import torch._inductor.config
from torch import nn
from torch._inductor.utils import run_and_get_code
from torch.nn import functional

from worker.stages.engine import inductor

WIDTH, INNER, RANK, HEADS, TOKENS, BLOCKS = 64, 160, 8, 4, 37, 2


class Adapted(nn.Module):
    """x W^T + s (x A^T) B^T, as Unsloth writes it."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__()
        self.base = nn.Parameter(torch.randn(rows, columns) / columns**0.5, requires_grad=False)
        self.a = nn.Parameter(torch.randn(RANK, columns) / columns**0.5)
        self.b = nn.Parameter(torch.randn(rows, RANK) / RANK**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        whole, low = functional.linear(x, self.base), x @ self.a.t()
        both = torch.addmm(whole.view(-1, whole.shape[-1]), low.view(-1, RANK), self.b.t(), alpha=0.25)
        return both.view(whole.shape)


class Block(nn.Module):
    """Norm, attention, norm, gated layers. `joined`: query, key and value are one matrix, and so are gate and up."""

    def __init__(self, joined: bool) -> None:
        super().__init__()
        self.first = nn.ModuleList([Adapted(WIDTH, 3 * WIDTH)] if joined else [Adapted(WIDTH, WIDTH) for _ in "qkv"])
        self.out = Adapted(WIDTH, WIDTH)
        self.second = nn.ModuleList([Adapted(WIDTH, 2 * INNER)] if joined else [Adapted(WIDTH, INNER) for _ in "gu"])
        self.down = Adapted(INNER, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (heads(part) for part in parts(self.first, norm(x), 3))
        seen = functional.scaled_dot_product_attention(turned(query), turned(key), value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(x.shape))
        gate, up = parts(self.second, norm(x), 2)
        return x + self.down(functional.silu(gate) * up)


def parts(layers: nn.ModuleList, x: torch.Tensor, many: int) -> list[torch.Tensor]:
    found = [layer(x) for layer in layers]
    return found if len(found) == many else list(found[0].chunk(many, dim=-1))


def norm(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)


def heads(x: torch.Tensor) -> torch.Tensor:
    return x.view(1, -1, HEADS, WIDTH // HEADS).transpose(1, 2)


def turned(x: torch.Tensor) -> torch.Tensor:
    one, other = x.chunk(2, dim=-1)
    return 0.8 * x + 0.6 * torch.cat([-other, one], dim=-1)


def step(blocks: nn.ModuleList, forward: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """The loss and all gradients."""
    blocks.zero_grad()
    for block in blocks:
        x = forward(block, x)
    loss = x.square().mean()
    loss.backward()
    return [loss.detach(), *(weight.grad for weight in blocks.parameters() if weight.grad is not None)]


def compare(joined: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    torch.set_default_device("cuda" if torch.cuda.is_available() else "cpu")
    blocks, x = nn.ModuleList(Block(joined) for _ in range(BLOCKS)), torch.randn(1, TOKENS, WIDTH, requires_grad=True)
    plain = step(blocks, Block.forward, x)
    compiled, codes = run_and_get_code(lambda: step(blocks, torch.compile(Block.forward, dynamic=True), x))
    assert len(plain) == len(compiled) == 1 + 2 * BLOCKS * (4 if joined else 7)
    off = [float((one - other).abs().max() / other.abs().max()) for one, other in zip(compiled, plain, strict=True)]
    return {"off": max(off), "code": "\n".join(codes)}


def main() -> None:
    if sys.argv[1] == "less":
        inductor.WIDE = WIDTH
        inductor.copy_less()
    torch._inductor.config.force_pointwise_cat = True  # type: ignore[attr-defined]  # as on a GPU
    print(json.dumps(compare(sys.argv[2] == "joined")))


if __name__ == "__main__":
    main()
