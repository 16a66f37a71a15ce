"""What PyTorch's compiler can do better for layers with adapters: the same numbers, with less copying.

Both are memory traffic that a training's forward and backward pass would spend on every layer; benchmarks/README.md
says what they bring. They change how Inductor lowers two operations, not what is computed.
"""

from __future__ import annotations

import contextlib
from typing import Any

WIDE = 4096  # columns; narrower parts are joined inside the kernel that reads them, as Inductor would
MARK = "ftq 1"  # raise it when what is done here changes: kernels cached before were made without


def copy_less() -> None:
    """For all that this process compiles from now on."""
    import torch

    for improve in (_add_products_in_place, _write_parts_in_place):
        with contextlib.suppress(ImportError, AttributeError):  # PyTorch's private names: another one trains without
            improve()
    torch.compiler.config.cache_key_tag = MARK


def _add_products_in_place() -> None:
    """Let a product that is added to another one be added where that one lies.

    An adapter's layer is x W^T + s (x A^T) B^T. Inductor makes the sum a new matrix: it copies the first product to
    it before the matrix library adds the second one. Its pass that finds what may be overwritten, because nothing
    reads it later, isn't told of `addmm`.
    """
    import torch
    from torch._inductor import lowering
    from torch._inductor.fx_passes import reinplace

    aten = torch.ops.aten
    # Left to itself, Inductor asks the matrix library for `addmm_` too, but refuses to where $CI is set.
    if aten.addmm_.default not in lowering.lowerings:
        lowering.make_fallback(aten.addmm_.default, warn=False)

    def onto_a_product(node: Any) -> bool:
        return getattr(node.args[0], "target", None) is aten.mm.default

    reinplace.inplaceable_ops[aten.addmm.default] = reinplace.InplaceableOp(
        aten.addmm_.default, 0, extra_check=onto_a_product
    )


def _write_parts_in_place() -> None:
    """Write two wide parts each to its half of the matrix.

    The gradient of gate and up, which Phi-3 has as one matrix, is joined from two. By default each of its elements is
    computed both ways and then chosen, which reads everything twice.
    """
    from torch._inductor import ir, lowering

    usual = lowering.pointwise_cat

    def join(inputs: list[Any], dim: int = 0) -> Any:
        width = inputs[0].get_size()[dim]
        known = getattr(width, "is_number", True)
        if len(inputs) == 2 and known and int(width) >= WIDE:
            return ir.TensorBox(ir.ConcatKernel.create(inputs, dim))
        return usual(inputs, dim)

    lowering.pointwise_cat = join
