"""The real train stage on a device that has too little memory for micro-batches of two from step 5 on.

The allocator's error is a real one: it is asked for more than any machine has.
"""

from typing import Any

from worker.stages import train

STEP = 5
_make_trainer = train._make_trainer


def _make_tight_trainer(*arguments: Any) -> Any:
    import torch

    trainer = _make_trainer(*arguments)
    whole = trainer.training_step

    def training_step(model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        if trainer.state.global_step >= STEP and len(inputs["input_ids"]) > 1:
            torch.empty(2**60)
        return whole(model, inputs, *rest, **named)

    trainer.training_step = training_step
    return trainer


train._make_trainer = _make_tight_trainer
