"""What PyTorch's compiler can do better for layers with adapters: the same numbers, with less copying and compiling.

A run's forward and backward pass would spend this memory traffic on every layer; benchmarks/README.md says what is
gained. It changes how Inductor lowers two operations, not what is computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Any

WIDE = 4096  # columns; narrower parts are joined inside the kernel that reads them, as Inductor would
MARK = "ftq 2"  # raise it when what is done here changes: kernels cached before were made without


def copy_less() -> None:
    """Change how this process compiles from now on."""
    import torch

    for improve in (_add_products_in_place, _write_parts_in_place):
        with contextlib.suppress(ImportError, AttributeError):  # PyTorch's private names: another one trains without
            improve()
    torch.compiler.config.cache_key_tag = MARK


def remember_sizes(*trainings: Any) -> None:
    """Let later runs know which sizes vary, so that they compile once and not again after the first batch.

    PyTorch keeps that beside the kernels, under a name. `trainings` is what all runs of one name have in common, as
    JSON values. It reads it when a process compiles for the first time: a standby does that before there is a name.
    """
    import torch

    text = json.dumps([torch.__version__, *trainings], sort_keys=True)
    torch.compiler.config.job_id = f"ftq-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    with contextlib.suppress(ImportError, AttributeError):
        from torch._dynamo import pgo

        pgo.reset_code_state()


def _add_products_in_place() -> None:
    """Add a product to another one in place.

    An adapter's layer is x W^T + s (x A^T) B^T. Inductor makes the sum a new matrix: it copies the first product
    there before the matrix library adds the second one. Inductor's pass for what may be overwritten doesn't know
    `addmm`.
    """
    import torch
    from torch._inductor import ir, lowering
    from torch._inductor.fx_passes import reinplace
    from torch._inductor.virtualized import V
    from torch.utils._ordered_set import OrderedSet

    aten = torch.ops.aten

    class AddProduct(ir.ExternKernel):
        """onto = beta onto + alpha left right, where `onto` lies.

        Inductor's general way to call an operation that it doesn't know gives the result a name of its own. The memory
        then looks free once `onto` isn't read any more, and is used again while the result is still needed.
        """

        def __init__(self, onto: Any, left: Any, right: Any, factors: dict[str, float]) -> None:
            realized = [self.realize_input(one) for one in (onto, left, right)]
            super().__init__(None, ir.NoneLayout(device=onto.get_device()), self.unwrap_storage(realized))
            self.factors = factors
            V.graph.mark_buffer_mutated(self.input_name(0))
            self.name = V.graph.register_buffer(self)
            V.graph.register_operation(self)

        def codegen(self, wrapper: Any) -> None:
            operands: Any = self.inputs
            onto, left, right = (one.codegen_reference() for one in operands)
            factors = "".join(f"{name}={value!r}, " for name, value in self.factors.items())
            wrapper.writeline(f"extern_kernels.addmm({onto}, {left}, {right}, {factors}out={onto})")

        def should_allocate(self) -> bool:
            return False

        def get_mutation_names(self) -> list[str]:
            return [self.input_name(0)]

        def get_unbacked_symbol_defs(self) -> Any:
            return OrderedSet()

    def add_product(onto: Any, left: Any, right: Any, **factors: float) -> Any:
        if not isinstance(onto.data, ir.StorageBox):  # a view of something else: only a copy of it would be written
            return lowering.lowerings[aten.addmm.default](onto, left, right, **factors)
        AddProduct(onto, left, right, factors)
        return onto

    def onto_a_product(node: Any) -> bool:
        return getattr(node.args[0], "target", None) is aten.mm.default

    lowering.register_lowering(aten.addmm_.default, type_promotion_kind=None)(add_product)
    reinplace.inplaceable_ops[aten.addmm.default] = reinplace.InplaceableOp(
        aten.addmm_.default, 0, extra_check=onto_a_product
    )


def _write_parts_in_place() -> None:
    """Write each of two wide parts to its half of the joined matrix.

    Phi-3 has gate and up as one matrix, whose gradient is joined from two. By default each element is computed both
    ways and then chosen, which reads everything twice.
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
