"""The frozen layers of a base model in FP8: their products take three quarters of the time of 16 bit.

y = x W^T and, backwards, dx = dy W are computed from 8-bit numbers (E4M3) with a scale for each row of both factors:
x / s_x is rounded where s_x = max |x| / 448 over the row, and the product is s_x s_W times that of the rounded numbers
(PyTorch's row-wise scaled product). Both directions need a copy of W of their own, scaled along what is summed over;
together they take as much memory as W in 16 bit, which is dropped. W gets no gradient: it is frozen. The adapter
beside it stays in 16 bit, and the export merges into the base model's own weights on the disk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ftq.spec.shape import LEAST_IN_FP8

LARGEST = torch.finfo(torch.float8_e4m3fn).max  # 448
MULTIPLE = 16  # what both sides of W have to be multiples of
SIDE, NEAR = 256, 0.1  # of the product that is tried: rows and columns, relative error of one that is right


def narrow(model: nn.Module, every: bool = False) -> int:
    """Put the frozen layers below the adapters into FP8, those that gain or every one. The number of layers."""
    adapted: list[Any] = [part for part in model.modules() if type(getattr(part, "base_layer", None)) is nn.Linear]
    fitting = [part for part in adapted if _fits(part.base_layer.weight, 0 if every else LEAST_IN_FP8)]
    for part in fitting:
        part.base_layer = Fp8Linear(part.base_layer)
    return len(fitting)


def _fits(weight: torch.Tensor, least: int) -> bool:
    frozen = not weight.requires_grad
    return frozen and weight.numel() >= least and all(side % MULTIPLE == 0 for side in weight.shape)


class Fp8Linear(nn.Module):
    """A frozen nn.Linear in FP8: x (..., in) -> (..., out)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach()
        for name, rows in (("weight", weight), ("turned", weight.t())):
            narrow, scale = quantize(rows)
            self.register_buffer(name, narrow.contiguous(), persistent=False)
            self.register_buffer(f"{name}_scale", scale.contiguous(), persistent=False)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = Product.apply(x, self.weight, self.weight_scale, self.turned, self.turned_scale)
        return y if self.bias is None else y + self.bias


class Product(torch.autograd.Function):
    """x W^T, whose backward pass multiplies by the other copy of W."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        weight, scale, turned, turned_scale = weights
        ctx.save_for_backward(turned, turned_scale)
        return multiply(x.reshape(-1, x.shape[-1]), weight, scale).view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        [gradient] = gradients
        turned, scale = ctx.saved_tensors
        x = multiply(gradient.reshape(-1, gradient.shape[-1]), turned, scale)
        return x.view(*gradient.shape[:-1], turned.shape[0]), None, None, None, None


def multiply(rows: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """rows (n, k) times the transpose of an E4M3 weight (m, k) with factors (m, 1): (n, m) in the rows' own type."""
    narrow, row_scale = quantize(rows)
    if not rows.is_cuda:  # the same numbers, slowly
        return ((narrow.float() @ weight.float().t()) * row_scale * scale.t()).to(rows.dtype)
    return torch._scaled_mm(
        narrow, weight.t(), scale_a=row_scale, scale_b=scale.t(), out_dtype=rows.dtype, use_fast_accum=True
    )


def quantize(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(the rows (n, k) in E4M3, the factor of each row (n, 1) in float32)."""
    scale = rows.abs().amax(dim=-1, keepdim=True).float().clamp(min=1e-12) / LARGEST
    return (rows / scale).to(torch.float8_e4m3fn), scale


def lacking(dtype: str) -> str:
    """What this GPU lacks for products in FP8; empty for one whose products are right, as from Ada and Hopper on."""
    if dtype != "bfloat16":
        return f"it computes in {dtype}"
    try:
        left, right = (torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        exact = left @ right.t()
        error = float((multiply(left, *quantize(right)) - exact).norm() / exact.norm())
    except (RuntimeError, AttributeError, NotImplementedError) as problem:  # older cards and other makers' have none
        return (str(problem).strip() or type(problem).__name__).splitlines()[0][:200]
    return "" if error < NEAR else f"a product is wrong by {error:.0%}"
