"""What libraries log in every run, whatever a person does: it would hide the warnings that matter."""

from __future__ import annotations

import logging

# logger -> how its messages begin that are left out
SAID_ALWAYS = {
    "torchao": "Failed to load ",  # its kernels for other GPUs and other Pythons: no stage uses them
    "torchao.kernel.intmm": "Warning: Detected no triton",  # on a CPU
    "torch.utils._pytree": "%s is an Enum subclass",  # torchao's enums
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit",  # 4 bit is for GPUs
    "transformers.trainer": "`non_blocking` is enabled but",  # on a CPU nothing is pinned
}


class _Without(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(SAID_ALWAYS[record.name])


_FILTER = _Without()  # one object: a logger takes it once


def quiet() -> None:
    """Leave these messages out of this process's log. To be called before the libraries are imported."""
    for name in SAID_ALWAYS:
        logging.getLogger(name).addFilter(_FILTER)
