"""dataset/ + base model -> adapter/ and metrics.jsonl, with checkpoints on the way.

A run that was killed or asked to stop resumes from its last whole checkpoint. On a CPU it ends with the same bits as a
run that never stopped: the order of the rows depends on seed and epoch alone, and a checkpoint holds the state of every
random number generator.
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

from ftq.errors import OPTIONS, FtqError, OutOfMemory, UserError
from ftq.examples.report import DatasetReport
from ftq.files.run_dir import RunDir
from ftq.spec import models, recipe, weights
from ftq.spec.options import RunSpec
from ftq.spec.shape import reading_part
from worker.stages.engine.load import load_model
from worker.stages.model import base_model, rows
from worker.stages.model.varied import Varied, varied
from worker.stages.process import ranks
from worker.stages.process.main import Report
from worker.stages.train import checkpoints, settings
from worker.stages.train.checkpoints import Checkpoint
from worker.stages.train.plan import decide
from worker.stages.train.watcher import Watcher

MEMORY_HINT = "A smaller batch_size or max_seq_length, or load_in_4bit=true, needs less."
MEMORY_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


def train(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    """Write adapter/ and metrics.jsonl into `out`; asked to stop, save a checkpoint and return."""
    lap = _stopwatch()
    dataset = _read_report(run)
    model_dir = base_model.resolve(spec.model, dataset.base_revision)
    base_model.go_offline()
    base_model.read_ahead(model_dir)
    parameters = weights.parameters(model_dir)
    spec, calmer = recipe.decided(spec, parameters), recipe.calmer(spec, parameters)
    ranks.start(spec.gpus, report)
    report.progress(0)
    train_rows, valid_rows = rows.read(run.dataset, model_dir, dataset, spec.train_on_prompt, spec.format)
    train_rows = varied(train_rows, run.dataset, model_dir, spec, dataset)
    lap("the rows are read")
    plan = decide(run, spec, model_dir, [len(row["input_ids"]) for row in train_rows], report)
    lap("the plan is made")
    mark = settings.fingerprint(run, spec, plan)
    checkpoint = checkpoints.newest_valid(run, mark)
    epoch = settings.steps_per_epoch(len(train_rows), plan)
    how, evaluates = settings.how(plan), bool(valid_rows)
    watcher = Watcher(run, _attempt(out), spec, report, mark, how, evaluates, checkpoint, epoch, calmer)
    if not checkpoint or not (checkpoints.is_finished(checkpoint) or watcher.has_stopped_early):
        model, tokenizer = load_model(model_dir, spec, plan)
        lap("the model is loaded")
        from worker.stages.train.trainer import make_trainer  # imports TRL, which the engine may have patched by now

        trainer = make_trainer(model, tokenizer, train_rows, valid_rows, spec, plan, watcher)
        lap("the trainer is ready")
        report.stop_on_sigterm()  # up to here there was nothing to save
        _run(trainer, checkpoint, watcher)
    if report.stop_requested or not ranks.is_first():
        return
    watcher.ended(_vocabulary(model_dir))
    _take_adapter(watcher.result, out / "adapter", spec.model, calmer)
    for end in checkpoints.epoch_ends(run, mark, epoch, spec.epoch_adapters):
        _take_adapter(end.path, out / "epochs" / str(end.step), spec.model, calmer)
    (out / "metrics.jsonl").write_bytes(watcher.metrics.read_bytes())
    report.plan("", trained_tokens=_trained_tokens(watcher.metrics, train_rows))


def _stopwatch() -> Callable[[str], None]:
    """Print to the log where the time before the first step goes."""
    began = time.monotonic()
    return lambda what: print(f"{time.monotonic() - began:.1f} s: {what}", flush=True)


def _read_report(run: RunDir) -> DatasetReport:
    try:
        return DatasetReport.read(run.dataset)
    except FileNotFoundError:
        raise UserError(f"{run.dataset}: there is no dataset yet", "`ftq retry RUN --from prepare` makes it.") from None


def _attempt(out: Path) -> int:
    """The attempt's number from the name of its folder, train.<attempt>.partial."""
    number = out.name.split(".")[1]
    return int(number)


def _run(trainer: Any, checkpoint: Checkpoint | None, watcher: Watcher) -> None:
    """Train. If memory runs out in a step, save what was learned before it."""
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
        watcher.ends(trainer.state, trainer.recorder.played if trainer.recorder else 0)
        return
    except RuntimeError as error:  # torch's OutOfMemoryError is one, and the CPU allocator's has no type of its own
        text = str(error)
        if not any(sign in text for sign in MEMORY_SIGNS):
            raise
    _rescue(trainer, watcher)  # the error is gone by now, and with it the tensors that its frames held
    raise OutOfMemory(f"training ran out of memory: {text.splitlines()[0][:300]}", MEMORY_HINT)


def _rescue(trainer: Any, watcher: Watcher) -> None:
    """Save the state after the last whole step, if it isn't saved yet.

    Not with several GPUs, for the others can't follow; and not if memory ran out in an evaluation, which a run resumed
    from here would never do again.
    """
    step = trainer.state.global_step
    if (
        watcher.awaits_evaluation
        or ranks.current()[1] > 1
        or step == 0
        or watcher.last == watcher.folder / f"checkpoint-{step}"
    ):
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


def _vocabulary(model_dir: Path) -> int:
    """How many tokens the model chooses among."""
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    return int(reading_part(config)["vocab_size"])


def _take_adapter(checkpoint: Path, target: Path, name: str, calmer: str) -> None:
    """Copy PEFT's two files, with the base model's public name instead of this machine's folder."""
    target.mkdir(parents=True)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(checkpoint / file, target / file)
    path = target / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    known = models.find(name)
    config["base_model_name_or_path"] = known.hub_id if known else name
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _check_adapter(target / "adapter_model.safetensors", calmer)


def _trained_tokens(metrics: Path, train_rows: list[rows.Row]) -> int:
    """Tokens seen in all epochs, the attempts before this one counted."""
    last = json.loads(metrics.read_bytes().splitlines()[-1])
    epochs = float(last["epoch"])
    if isinstance(train_rows, Varied):
        return train_rows.tokens(epochs)
    return round(sum(len(row["input_ids"]) for row in train_rows) * epochs)


def _check_adapter(path: Path, calmer: str) -> None:
    import torch
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        broken = [name for name in names if not torch.isfinite(file.get_tensor(name)).all()]
    if not names:
        raise FtqError(
            f"{path}: the adapter has no weights",
            "`ftq logs RUN --stage train` has the full log; `ftq retry RUN --from train` trains again.",
        )
    if broken:
        message = f"the training diverged: {len(broken)} of {len(names)} adapter weights are not numbers any more"
        raise UserError(message, calmer, OPTIONS)
