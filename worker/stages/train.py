"""dataset/ + base model -> adapter/ and metrics.jsonl, with checkpoints on the way.

A training that was killed or told to stop goes on from its last whole checkpoint and ends, on a CPU, with the
same bits as one that never stopped: the order of the rows depends on seed and epoch alone, and a checkpoint
holds the state of every random number generator.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftq import catalog
from ftq.artifacts import RunDir
from ftq.errors import FtqError, OutOfMemory, UserError
from ftq.spec import RunSpec
from worker.stages import base_model, checkpoints, ranks, rows, train_plan, train_setup
from worker.stages.checkpoints import Checkpoint
from worker.stages.order import Order, batch_within
from worker.stages.runtime import Report, main
from worker.stages.tokens import IGNORED
from worker.stages.train_plan import Setup
from worker.stages.watcher import CALMER, Watcher

MEMORY_HINT = "A smaller batch_size or max_seq_length, or load_in_4bit=true, needs less."
MEMORY_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


def train(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    """Write adapter/ and metrics.jsonl into `out`; told to stop, save a checkpoint and return."""
    lap = _stopwatch()
    summary = _read_summary(run)
    model_dir = base_model.resolve(spec.model, summary.get("base_revision"))
    base_model.go_offline()
    base_model.read_ahead(model_dir)
    ranks.start(spec.gpus, report)
    report.progress(0)
    train_rows, valid_rows = rows.read(run.dataset, model_dir, summary, spec.train_on_prompt)
    lap("the rows are read")
    setup = train_plan.decide(run, spec, model_dir, [len(row["input_ids"]) for row in train_rows], report)
    lap("the plan is made")
    mark = train_setup.fingerprint(run, spec, setup)
    found = checkpoints.newest_valid(run, mark)
    watcher = Watcher(run, _attempt(out), spec, report, mark, train_setup.how(setup), bool(valid_rows), found)
    if not found or not (checkpoints.is_finished(found) or watcher.has_stopped_early):
        model, tokenizer = train_setup.load_model(model_dir, spec, setup)
        lap("the model is loaded")
        trainer = _make_trainer(model, tokenizer, train_rows, valid_rows, spec, setup, watcher)
        lap("the trainer is ready")
        report.stop_on_sigterm()  # up to here there was nothing to save
        _run(trainer, found, watcher)
    if report.stop_requested or not ranks.is_first():
        return
    _take_adapter(watcher.result, out / "adapter", spec.model)
    (out / "metrics.jsonl").write_bytes(watcher.metrics.read_bytes())


def _stopwatch() -> Callable[[str], None]:
    """For the log: where the time before the first step goes."""
    began = time.monotonic()
    return lambda what: print(f"{time.monotonic() - began:.1f} s: {what}", flush=True)


def _read_summary(run: RunDir) -> dict[str, Any]:
    path = run.dataset / "report.json"
    if not path.is_file():
        raise UserError(f"{run.dataset}: there is no dataset yet", "Run the prepare stage first.")
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return summary


def _attempt(out: Path) -> int:
    """The attempt's number from the name of its folder, train.<attempt>.partial."""
    number = out.name.split(".")[1]
    return int(number)


def _make_trainer(
    model: Any, tokenizer: Any, train_rows: list[rows.Row], valid_rows: list[rows.Row], spec: RunSpec, setup: Setup,
    watcher: Watcher,
) -> Any:  # fmt: skip
    """TRL's SFTTrainer (as Unsloth patched it, if it did) on rows that are tokens already."""
    import torch
    import transformers
    from datasets import Dataset  # type: ignore[import-untyped]
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

    lengths = [len(row["input_ids"]) for row in train_rows]
    # What checkpointing keeps in a forward pass has to be taken away by a backward pass.
    as_trained = not (setup.gradient_checkpointing or train_setup.has_dropout(model))
    watcher.steps_per_epoch = train_setup.steps_per_epoch(len(train_rows), setup)

    def order(epoch: Callable[[], int]) -> Order:
        return Order(lengths, setup.examples, setup.batch_size, not setup.padding_free, spec.seed, epoch)

    class Trainer(SFTTrainer):
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return order(lambda: int(self.state.global_step // watcher.steps_per_epoch))

        def compute_loss(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            if setup.engine == "trl" and not setup.gpu:  # TRL's own loss is written in Triton
                inputs["use_cache"] = False
                return transformers.Trainer.compute_loss(self, model, inputs, *rest, **named)
            return super().compute_loss(model, inputs, *rest, **named)

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """TRL would put a README.md beside the checkpoints; the export writes the model card."""

        def training_step(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            mask = inputs.get("attention_mask")
            counts = mask is not None and mask.shape == inputs["input_ids"].shape
            watcher.tokens = watcher.tokens + (mask.sum() if counts else inputs["input_ids"].numel())
            return super().training_step(model, inputs, *rest, **named)

        def evaluation_loop(self, *given: Any, **named: Any) -> Any:
            """The validation loss is a mean over tokens, however they lie in batches; theirs is one over batches."""
            self.validated = torch.zeros(2, dtype=torch.float64, device=self.args.device)
            output = super().evaluation_loop(*given, **named)
            loss, learned = self.accelerator.reduce(self.validated, "sum").tolist()
            return output._replace(metrics={**(output.metrics or {}), "eval_loss": loss / learned})

        def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> tuple[None, None, None]:
            """By the kernels of training where they give the same, for Unsloth compiles no others. Returns nothing that
            the loop would gather from all ranks and average."""
            inputs = self._prepare_inputs(inputs)
            learned = (inputs["labels"][..., 1:] != IGNORED).sum()
            for part in model.children():  # not the model itself, for TRL counts by it what was trained on
                if part.training != as_trained:
                    part.train(as_trained)
            with torch.set_grad_enabled(as_trained), self.compute_loss_context_manager():
                # As in training, where every rank counts the others' too; a batch that fills up may learn nothing.
                everywhere = learned.clamp(min=1) * self.args.world_size
                loss = self.compute_loss(model, inputs, num_items_in_batch=everywhere).detach()
            self.validated += torch.stack([loss.double() * learned, learned])
            return None, None, None

    class Callback(transformers.TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watcher.begins(state)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watcher.step_ends(state, control)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            watcher.logs(state, control, logs or {})

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watcher.goes_on()

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watcher.saved(state)
            watcher.goes_on()

    # What went through training fits, by the same kernels; by others, half of it is known to. A long row goes alone.
    held_out = [len(row["input_ids"]) for row in valid_rows]
    tokens = max(order(lambda: 0).largest(1) // (1 if as_trained else 2), *held_out, 0)
    evaluated = batch_within(held_out, setup.batch_size, tokens, not setup.padding_free)
    config = SFTConfig(
        **train_setup.settings(watcher.folder, spec, setup, watcher.steps_per_epoch, evaluated, watcher.report)
    )
    trainer = Trainer(
        model=model, processing_class=tokenizer, args=config, train_dataset=Dataset.from_list(train_rows[:1]),
        callbacks=[Callback()],
    )  # fmt: skip
    # It wants Arrow's type at its start only. From arrays a batch is made in a quarter of the time, between two steps.
    trainer.train_dataset = train_rows
    trainer.eval_dataset = (rows.even(valid_rows, evaluated * setup.gpus) if setup.gpus > 1 else valid_rows) or None
    if setup.padding_free:
        train_setup.lay_end_to_end(trainer, setup)
    return trainer


def _run(trainer: Any, found: Checkpoint | None, watcher: Watcher) -> None:
    """Train. A lack of memory in a step costs no other one: what was learned up to then is saved first."""
    try:
        trainer.train(resume_from_checkpoint=str(found.path) if found else None)
        watcher.ends(trainer.state)
        return
    except RuntimeError as error:  # torch's OutOfMemoryError is one, and the CPU allocator's has no type of its own
        text = str(error)
        if not any(sign in text for sign in MEMORY_SIGNS):
            raise
    _rescue(trainer, watcher)  # the error is gone by now, and with it the tensors that its frames held
    raise OutOfMemory(f"training ran out of memory: {text.splitlines()[0][:300]}", MEMORY_HINT)


def _rescue(trainer: Any, watcher: Watcher) -> None:
    """Save the state after the last whole step, if it isn't saved yet. With several GPUs the others can't follow; and
    where memory ran out in an evaluation, who goes on from here would never make up for it."""
    step = trainer.state.global_step
    if watcher.owes or ranks.current()[1] > 1 or step == 0 or watcher.last == watcher.folder / f"checkpoint-{step}":
        return
    trainer.model.zero_grad(set_to_none=True)
    gc.collect()
    torch = sys.modules["torch"]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        trainer._save_checkpoint(trainer.model, None)
        watcher.saved(trainer.state)
    except (RuntimeError, OSError) as error:  # then the checkpoint before it has to do
        print(f"step {step} couldn't be saved: {error}", file=sys.stderr)


def _take_adapter(checkpoint: Path, target: Path, name: str) -> None:
    """PEFT's two files, naming the base model as people know it and not by a folder of this machine."""
    target.mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(checkpoint / file, target / file)
    path = target / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    known = catalog.find(name)
    config["base_model_name_or_path"] = known.hub_id if known else name
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _check_adapter(target / "adapter_model.safetensors")


def _check_adapter(path: Path) -> None:
    import torch
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        broken = [name for name in names if not torch.isfinite(file.get_tensor(name)).all()]
    if not names:
        raise FtqError(f"{path}: the adapter has no weights", "This looks like a bug; the log has the details.")
    if broken:
        message = f"the training diverged: {len(broken)} of {len(names)} adapter weights are not numbers any more"
        raise UserError(message, CALMER)


if __name__ == "__main__":
    main("train", train)
