"""The real train stage on a device that has too little memory for micro-batches of two from step 5 on.

The allocator's error is a real one: it is asked for more than any machine has.
"""

from typing import Any

from worker.stages.train import train

STEP = 5
_load_model = train.load_model


def _load_and_tighten(*arguments: Any) -> Any:
    """The trainer's module is imported after the engine, so it is changed here."""
    loaded = _load_model(*arguments)
    from worker.stages.train import trainer

    make = trainer.make_trainer
    trainer.make_trainer = lambda *given: _tighten(make(*given))
    return loaded


def _tighten(trainer: Any) -> Any:
    import torch

    whole = trainer.training_step

    def training_step(model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        examples = (inputs["position_ids"] == 0).sum()  # they lie end to end
        if trainer.state.global_step >= STEP and examples > 1:
            torch.empty(2**60)
        return whole(model, inputs, *rest, **named)

    trainer.training_step = training_step
    return trainer


train.load_model = _load_and_tighten
