"""TRL's SFTTrainer on rows that are tokens already.

Import it after the engine: Unsloth has to be imported before everything that it patches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers
from datasets import Dataset  # type: ignore[import-untyped]
from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

from ftq.plan.plan import Plan
from ftq.spec.options import RunSpec
from worker.stages.engine import graphs
from worker.stages.model import rows
from worker.stages.model.tokens import IGNORED
from worker.stages.model.varied import Varied
from worker.stages.train import settings
from worker.stages.train.first_loss import FirstLoss
from worker.stages.train.order import Order, batch_within
from worker.stages.train.watcher import Watcher


def make_trainer(
    model: Any,
    tokenizer: Any,
    train_rows: list[rows.Row],
    valid_rows: list[rows.Row],
    spec: RunSpec,
    plan: Plan,
    watcher: Watcher,
) -> Trainer:
    """The trainer of these rows; `watcher` is told of each step and decides what follows."""
    # What checkpointing keeps in a forward pass has to be taken away by a backward pass.
    as_trained = not (plan.gradient_checkpointing or settings.has_dropout(model))
    lengths = [len(row["input_ids"]) for row in train_rows]
    evaluated = _batch_to_evaluate(lengths, valid_rows, spec, plan, as_trained)
    config = SFTConfig(
        **settings.settings(watcher.folder, spec, plan, watcher.steps_per_epoch, evaluated, watcher.report)
    )
    trainer = Trainer(
        plan,
        watcher,
        lengths,
        spec.seed,
        as_trained,
        model=model,
        processing_class=tokenizer,
        args=config,
        train_dataset=Dataset.from_list(train_rows[:1]),
        callbacks=[Callback(watcher)],
    )
    # It wants Arrow's type at its start only. From arrays a batch is made in a quarter of the time, between two steps.
    trainer.train_dataset = train_rows
    trainer.eval_dataset = (rows.even(valid_rows, evaluated * plan.gpus) if plan.gpus > 1 else valid_rows) or None
    if plan.padding_free:
        settings.batch_without_padding(trainer, plan)
    if plan.cuda_graphs and not settings.has_dropout(model):
        trainer.recorder = graphs.Recorder(trainer, plan.batch_size, max(lengths))
    return trainer


def _order(lengths: list[int], plan: Plan, seed: int, epoch: Callable[[], int]) -> Order:
    return Order(lengths, plan.examples_in_step, plan.batch_size, not plan.padding_free, seed, epoch)


def _batch_to_evaluate(
    lengths: list[int], valid_rows: list[rows.Row], spec: RunSpec, plan: Plan, as_trained: bool
) -> int:
    """The number of held-out examples in a batch. A long row goes alone.

    By the kernels of training, as many tokens fit as in training; by others, half of them are known to fit.
    """
    held_out = [len(row["input_ids"]) for row in valid_rows]
    largest = _order(lengths, plan, spec.seed, lambda: 0).largest(1)
    tokens = max(largest // (1 if as_trained else 2), *held_out, 0)
    return batch_within(held_out, plan.batch_size, tokens, not plan.padding_free)


class Trainer(SFTTrainer):
    """`as_trained`: whether the validation loss is computed by the kernels of training."""

    def __init__(
        self, plan: Plan, watcher: Watcher, lengths: list[int], seed: int, as_trained: bool, **named: Any
    ) -> None:
        self.plan, self.watcher, self.lengths, self.seed = plan, watcher, lengths, seed
        self.as_trained, self.first = as_trained, FirstLoss(watcher.report)
        self.recorder: graphs.Recorder | None = None
        super().__init__(**named)
        self.add_callback(self.first)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        def epoch() -> int:  # asked for once, when it begins
            number = int(self.state.global_step // self.watcher.steps_per_epoch)
            if isinstance(self.train_dataset, Varied):
                self.train_dataset.begin(number)
            return number

        return _order(self.lengths, self.plan, self.seed, epoch)

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        if self.plan.engine == "trl" and not self.plan.gpu:  # TRL's own loss is written in Triton
            inputs["use_cache"] = False
            return transformers.Trainer.compute_loss(self, model, inputs, *rest, **named)
        return super().compute_loss(model, inputs, *rest, **named)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: TRL would put a README.md beside the checkpoints, and the export writes the model card."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        mask = inputs.get("attention_mask")
        counts = mask is not None and mask.shape == inputs["input_ids"].shape
        self.watcher.tokens = self.watcher.tokens + (mask.sum() if counts else inputs["input_ids"].numel())
        usual = partial(super().training_step, model, inputs, num_items_in_batch)
        recorder = self.recorder
        loss = recorder.step(model, inputs, num_items_in_batch, usual) if recorder else usual()
        self.first.add(self.state.global_step, loss)
        return loss

    def evaluation_loop(self, *given: Any, **named: Any) -> Any:
        """Compute the validation loss as a mean over tokens; the Trainer's is a mean over batches."""
        self.validated = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        output = super().evaluation_loop(*given, **named)
        loss, learned = self.accelerator.reduce(self.validated, "sum").tolist()
        return output._replace(metrics={**(output.metrics or {}), "eval_loss": loss / learned})

    def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> tuple[None, None, None]:
        """Add a batch to the validation loss, by the kernels of training where they compute the same.

        Unsloth compiles no others. Returns nothing that the loop would gather from all ranks and average.
        """
        inputs = self._prepare_inputs(inputs)
        learned = (inputs["labels"][..., 1:] != IGNORED).sum()
        for part in model.children():  # not the model itself, for TRL counts by it what was trained on
            if part.training != self.as_trained:
                part.train(self.as_trained)
        with torch.set_grad_enabled(self.as_trained), self.compute_loss_context_manager():
            # As in training, where every rank counts the others' too; a batch that fills up may learn nothing.
            everywhere = learned.clamp(min=1) * self.args.world_size
            loss = self.compute_loss(model, inputs, num_items_in_batch=everywhere).detach()
        self.validated += torch.stack([loss.double() * learned, learned])
        return None, None, None


class Callback(transformers.TrainerCallback):
    """Tells the watcher of each step, log, evaluation and checkpoint."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.watcher.begins(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.watcher.step_ends(state, control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.watcher.logs(state, control, logs or {})

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.watcher.goes_on()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.watcher.has_saved(state)
