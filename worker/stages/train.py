"""dataset/ + base model -> adapter/ and metrics.jsonl, with checkpoints on the way.

A training that was killed or told to stop goes on from its last whole checkpoint and ends, on a CPU, with the
same bits as one that never stopped: the order of the rows depends on seed and epoch alone, and a checkpoint
holds the state of every random number generator.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections import deque
from pathlib import Path
from typing import Any

from ftq import catalog
from ftq.artifacts import RunDir
from ftq.errors import FtqError, OutOfMemory, UserError
from ftq.spec import RunSpec
from worker.stages import base_model, checkpoints, train_setup
from worker.stages.checkpoints import Checkpoint
from worker.stages.runtime import Report, main

SAVE_SECONDS = 300.0  # save_steps=auto
SPEED_STEPS = 20  # tokens per second and time left are measured over the last so many steps
CALMER = "A smaller learning_rate, or dtype=bfloat16 or float32, keeps it stable."
MEMORY_HINT = "A smaller batch_size or max_seq_length, or load_in_4bit=true, needs less."


def train(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    """Write adapter/ and metrics.jsonl into `out`; told to stop, save a checkpoint and return."""
    summary = _read_summary(run)
    model_dir = base_model.resolve(spec.model)
    base_model.go_offline()
    report.progress(0)
    plan = train_setup.decide(spec, report)
    rows = train_setup.read_rows(run.dataset / "train.jsonl", model_dir, summary, spec)
    valid = train_setup.read_rows(run.dataset / "valid.jsonl", model_dir, summary, spec)
    mark = train_setup.fingerprint(run, spec, plan)
    found = checkpoints.newest_valid(run, mark)
    watcher = Watcher(run, _attempt(out), spec, report, mark, bool(valid), found)
    if not (found and checkpoints.is_finished(found)):
        model, tokenizer = train_setup.load_model(model_dir, spec, plan)
        trainer = _make_trainer(model, tokenizer, rows, valid, spec, plan, watcher)
        report.stop_on_sigterm()  # up to here there was nothing to save
        _run(trainer, found)
    if report.stop_requested:
        return
    assert watcher.last is not None  # the last step always leaves a checkpoint
    _take_adapter(watcher.last, out / "adapter", spec.model)
    (out / "metrics.jsonl").write_bytes(watcher.metrics.read_bytes())


class Watcher:
    """Looks on at the end of each step: reports, writes metrics, decides about checkpoints and stopping."""

    def __init__(
        self, run: RunDir, attempt: int, spec: RunSpec, report: Report, mark: str, evaluates: bool,
        found: Checkpoint | None,
    ) -> None:  # fmt: skip
        self.run, self.attempt, self.spec, self.report = run, attempt, spec, report
        self.mark, self.evaluates = mark, evaluates
        self.folder = run.checkpoints / str(attempt)
        self.metrics = self.folder / "metrics.jsonl"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.metrics.write_text(_lines_before(run, found), encoding="utf-8")
        self.last = found.path if found else None  # the newest checkpoint
        self.steps_per_epoch = 0
        self.tokens: Any = 0  # real tokens seen; a tensor on the device until it is looked at
        self.loss: float | None = None
        self.line: dict[str, Any] = {}
        self.saved_at = time.monotonic()
        self.times: deque[tuple[float, int]] = deque(maxlen=SPEED_STEPS + 1)
        if found:
            report.event("resumed", f"resumed from step {found.step}", step=found.step)

    def step_ends(self, state: Any, control: Any) -> None:
        """Decide what the trainer does next: evaluate at the end of an epoch, save when it is time, stop if told."""
        self.times.append((time.monotonic(), int(self.tokens)))
        at_end = state.global_step >= state.max_steps
        if self.evaluates and (at_end or state.global_step % self.steps_per_epoch == 0):
            control.should_evaluate = True
        if self.report.stop_requested:
            control.should_training_stop = True
        control.should_save = at_end or self.report.stop_requested or self._is_time(state.global_step)
        control.should_log = control.should_log or control.should_save or control.should_evaluate
        if not control.should_log:
            self._progress(state)

    def logs(self, state: Any, control: Any, values: dict[str, Any]) -> None:
        """A line of metrics for a training log; the evaluation that follows adds its loss to the same line."""
        if "loss" in values:
            self.loss = float(values["loss"])
            if not math.isfinite(self.loss):
                raise UserError(f"the training diverged: at step {state.global_step} the loss is {self.loss}", CALMER)
            norm = values.get("grad_norm")
            self.line = {
                "step": state.global_step, "epoch": round(state.epoch, 4), "train_loss": self.loss,
                "learning_rate": values["learning_rate"],
                "grad_norm": norm if norm is not None and math.isfinite(norm) else None,  # float16 may skip a step
                "tokens_per_second": self._speed()[0],
            }  # fmt: skip
            self._progress(state)
            if not control.should_evaluate:
                self._write_line()
        elif "eval_loss" in values:
            self.line["valid_loss"] = values["eval_loss"]
            self._write_line()

    def saved(self, state: Any) -> None:
        """A checkpoint's files are written: seal it, and only then tell about it."""
        step = state.global_step
        self.last = self.folder / f"checkpoint-{step}"
        checkpoints.seal(self.last, self.mark)
        self.saved_at = time.monotonic()
        self.report.event("checkpoint", f"checkpoint at step {step}", step=step)
        checkpoints.prune(self.run, self.attempt)

    def _is_time(self, step: int) -> bool:
        if self.spec.save_steps == "auto":
            return time.monotonic() - self.saved_at >= SAVE_SECONDS
        return step % self.spec.save_steps == 0

    def _progress(self, state: Any) -> None:
        tokens_per_second, seconds_per_step = self._speed()
        left = None if seconds_per_step is None else round((state.max_steps - state.global_step) * seconds_per_step)
        self.report.progress(
            100 * state.global_step / state.max_steps, step=state.global_step, total_steps=state.max_steps,
            loss=self.loss, tokens_per_second=tokens_per_second, eta_seconds=left,
        )  # fmt: skip

    def _speed(self) -> tuple[float | None, float | None]:
        """(tokens a second, seconds a step) over the last steps; None before the second one."""
        if len(self.times) < 2:
            return None, None
        (begin, before), (end, now) = self.times[0], self.times[-1]
        return round((now - before) / (end - begin), 1), (end - begin) / (len(self.times) - 1)

    def _write_line(self) -> None:
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.line) + "\n")


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


def _lines_before(run: RunDir, found: Checkpoint | None) -> str:
    """The metrics up to the step that is resumed from, as the attempt that saved it wrote them."""
    if found is None:
        return ""
    path = run.checkpoints / str(found.attempt) / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    whole = [line for line in lines if line.endswith("\n")]  # a killed process may leave half a line
    return "".join(line for line in whole if json.loads(line)["step"] <= found.step)


def _make_trainer(
    model: Any, tokenizer: Any, rows: list[Any], valid: list[Any], spec: RunSpec, plan: train_setup.Plan,
    watcher: Watcher,
) -> Any:  # fmt: skip
    """TRL's SFTTrainer (as Unsloth patched it, if it did) on rows that are tokens already."""
    import transformers
    from datasets import Dataset  # type: ignore[import-untyped]
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

    class Trainer(SFTTrainer):
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            packed: Any = self.train_dataset if dataset is None else dataset
            lengths = [len(ids) for ids in packed["input_ids"]]
            watcher.steps_per_epoch = train_setup.steps_per_epoch(len(lengths), spec)
            return train_setup.Order(
                lengths, plan.batch, spec.seed, lambda: self.state.global_step // watcher.steps_per_epoch
            )

        def compute_loss(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            if plan.engine == "trl" and not plan.gpu:  # TRL's own loss is written in Triton
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

    class Callback(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watcher.step_ends(state, control)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            watcher.logs(state, control, logs or {})

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watcher.saved(state)

    return Trainer(
        model=model, processing_class=tokenizer, args=SFTConfig(**train_setup.settings(watcher.folder, spec, plan)),
        train_dataset=Dataset.from_list(rows), eval_dataset=Dataset.from_list(valid) if valid else None,
        callbacks=[Callback()],
    )  # fmt: skip


def _run(trainer: Any, found: Checkpoint | None) -> None:
    try:
        trainer.train(resume_from_checkpoint=str(found.path) if found else None)
    except RuntimeError as error:  # torch's OutOfMemoryError is one, and the CPU allocator's has no type of its own
        text = str(error)
        if any(sign in text for sign in ("out of memory", "can't allocate memory", "not enough memory")):
            raise OutOfMemory(f"training ran out of memory: {text.splitlines()[0][:300]}", MEMORY_HINT) from error
        raise


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
