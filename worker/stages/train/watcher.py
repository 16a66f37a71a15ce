"""Watches each step of a training run: reports, writes metrics, decides when to save and when to stop."""

from __future__ import annotations

import gc
import json
import math
import time
from pathlib import Path
from typing import Any

from ftq import words
from ftq.errors import OPTIONS, UserError
from ftq.files import losses
from ftq.files.run_dir import RunDir, read_jsonl
from ftq.spec.options import RunSpec
from worker.stages.engine.speed import Moment, Speed, Step
from worker.stages.process import ranks
from worker.stages.process.main import Report
from worker.stages.train import checkpoints
from worker.stages.train.checkpoints import Checkpoint

FIRST_SAVE_SECONDS = 60.0  # save_steps=auto: of steps before an attempt's first checkpoint, so that a loss costs little
SAVE_SECONDS = 300.0  # and between its others
SOONEST_SAVE = 10.0  # seconds of steps that an attempt is given even if many before it were lost
LOG_SECONDS = 1.0  # logging_steps=auto
REPORT_SECONDS = 0.2


class Watcher:
    """One for each GPU. The first one decides for all of them, and alone reports and writes."""

    def __init__(
        self,
        run: RunDir,
        attempt: int,
        spec: RunSpec,
        report: Report,
        mark: str,
        how: dict[str, Any],
        evaluates: bool,
        checkpoint: Checkpoint | None,
        steps_per_epoch: int = 0,
        calmer: str = "",
    ) -> None:
        self.run, self.attempt, self.spec, self.report = run, attempt, spec, report
        self.mark, self.how, self.evaluates, self.steps_per_epoch = mark, how, evaluates, steps_per_epoch
        self.calmer = calmer  # what to do if the training diverges
        self.folder = run.checkpoints / str(attempt)
        self.metrics = self.folder / "metrics.jsonl"
        self.folder.mkdir(parents=True, exist_ok=True)
        before = lines_before(run, checkpoint)
        if ranks.is_first():
            self.metrics.write_text("".join(before), encoding="utf-8")
        lines = [line for line in map(json.loads, before) if "valid_seconds" in line]
        self.losses = [(line.get("valid_loss", math.inf), line["step"]) for line in lines]
        self.last = checkpoint.path if checkpoint else None  # the newest checkpoint
        self.best_path = self._find_best()
        self.awaits_evaluation = False  # of the last step
        self.tokens: Any = 0  # real tokens seen by this device; a tensor until it is looked at
        self.loss: float | None = None
        self.line: dict[str, Any] = {}
        self.saved_at, self.save_after = time.monotonic(), SAVE_SECONDS
        self.logged_at = self.reported_at = 0.0
        self.began_at, self.began_step = time.monotonic(), 0
        self.speed = Speed(spec.gpus)
        self.here: tuple[Moment, Any]  # when the step that runs began, and the tokens seen before it
        if not evaluates and (spec.early_stopping or spec.keep_best):
            report.event(
                "warning",
                "no example is held out, so early_stopping and keep_best have nothing to judge by: "
                "a larger valid_fraction or more examples give them some",
            )
        if checkpoint:
            report.event("resumed", f"resumed from step {checkpoint.step}", step=checkpoint.step)
        elif why := checkpoints.reason_to_start_anew(run, mark, how):
            report.event("note", why)

    def begins(self, state: Any) -> None:
        """Start the clocks: the trainer has loaded what it resumes from."""
        self.began_at, self.began_step = time.monotonic(), state.global_step
        self.saved_at, self.save_after = self.began_at, max(SOONEST_SAVE, FIRST_SAVE_SECONDS / max(1, self.attempt))
        self.goes_on()

    def goes_on(self) -> None:
        """Begin the next step now, so that an evaluation or a checkpoint before it isn't in its time."""
        self.here = Moment(), self.tokens

    def ends(self, state: Any, played: int = 0) -> None:
        """Report what was measured, beside the plan. `played` steps were recorded ones."""
        if steps := state.global_step - self.began_step:
            self.report.plan(
                "",
                measured={
                    "seconds": round(time.monotonic() - self.began_at, 1),
                    "steps": steps,
                    "peak": _peak(),
                    "played": played,
                    **self.speed.measured(),
                },
            )

    # ---- decisions --------------------------------------------------------------------------------------

    def step_ends(self, state: Any, control: Any) -> None:
        """Tell the trainer what to do next: log, evaluate, save, stop."""
        at_end = state.global_step >= state.max_steps
        began, ended = self.here, (Moment(), self.tokens)
        if self.speed.add(Step(*began, *ended)):
            gc.collect()
            gc.freeze()  # what was compiled stays: no later search for garbage goes through it
        self.here = ended
        evaluate = self.evaluates and (at_end or self._is_due(state.global_step, self.spec.eval_steps))
        due = [self._is_time_to_save(state.global_step), self._is_time_to_log(state.global_step)]
        stop, save, log = ranks.agree([self.report.stop_requested, *due])
        control.should_evaluate = self.awaits_evaluation = evaluate
        control.should_training_stop = control.should_training_stop or stop
        epoch_ends = self.spec.epoch_adapters > 0 and self._is_due(state.global_step, "auto")
        control.should_save = at_end or stop or save or epoch_ends
        control.should_log = log or control.should_save or evaluate
        if not control.should_log and time.monotonic() - self.reported_at > REPORT_SECONDS:
            self._progress(state)

    def logs(self, state: Any, control: Any, values: dict[str, Any]) -> None:
        """Write a line of metrics; an evaluation that follows adds its loss to the same line."""
        if "loss" in values:
            self.logged_at = time.monotonic()
            self.loss = float(values["loss"])
            if not math.isfinite(self.loss):
                raise self._diverged(state.global_step)
            norm = values.get("grad_norm")
            self.line = {
                "step": state.global_step,
                "epoch": round(state.epoch, 4),
                "train_loss": self.loss,
                "learning_rate": values["learning_rate"],
                "grad_norm": norm if norm is not None and math.isfinite(norm) else None,  # float16 may skip a step
                "tokens_per_second": self.speed.now()[0],
            }
            self._progress(state)
            if not control.should_evaluate:
                self._write_line()
        elif "eval_loss" in values:
            loss, self.awaits_evaluation = float(values["eval_loss"]), False
            self.line |= {"valid_loss": loss} if math.isfinite(loss) else {}  # JSON has no word for the others
            self.line |= {"valid_seconds": round(values["eval_runtime"], 2)}
            self._write_line()
            self._judge(state, control, loss)

    def _diverged(self, step: int) -> UserError:
        lines = list(read_jsonl(self.metrics)) if self.metrics.is_file() else []
        first = f", it was {words.loss(lines[0]['train_loss'])} at step {lines[0]['step']}" if lines else ""
        message = f"the training diverged: at step {step} the loss is {self.loss}{first}"
        return UserError(message, self.calmer, OPTIONS)

    def ended(self, vocabulary: int) -> None:
        """UserError if what the steps have made is worse than guessing; a warning if it is worse than the base model.

        Where the best checkpoint is taken, it isn't what the last steps have made.
        """
        if self.best_path or not (rise := losses.rise(self.metrics)):
            return
        if rise.is_certain(vocabulary):
            said = f"the training diverged: {rise}, and guessing gives {math.log(vocabulary):.1f}"
            raise UserError(said, self.calmer, OPTIONS)
        self.report.event("warning", f"{rise}: the model may have unlearned more than it learned. {self.calmer}")

    def _judge(self, state: Any, control: Any, loss: float) -> None:
        """Decide by the validation losses up to now: stop early, save the best."""
        if not math.isfinite(loss):
            message = f"the validation loss at step {state.global_step} is {loss}: worse than any number"
            self.report.event("warning", f"{message}. {self.calmer}", step=state.global_step)
            loss = math.inf
        better = all(loss < earlier for earlier, _ in self.losses)
        self.losses.append((loss, state.global_step))
        if better and self.spec.keep_best:
            control.should_save = True
        if self.has_stopped_early and state.global_step < state.max_steps and not control.should_training_stop:
            control.should_training_stop = control.should_save = True
            best = min(self.losses)
            self.report.event(
                "note",
                f"stopped early at step {state.global_step}: the validation loss was best at "
                f"step {best[1]} ({best[0]:.4f})",
                step=state.global_step,
            )

    @property
    def has_stopped_early(self) -> bool:
        """Whether the last `early_stopping` evaluations brought nothing better."""
        patience = self.spec.early_stopping
        if patience is None or len(self.losses) <= patience:
            return False
        before, after = self.losses[:-patience], self.losses[-patience:]
        return bool(min(before)[0] <= min(after)[0])

    def _is_due(self, step: int, every: int | str) -> bool:
        return step % (self.steps_per_epoch if every == "auto" else int(every)) == 0

    def _is_time_to_save(self, step: int) -> bool:
        if self.spec.save_steps == "auto":
            return time.monotonic() - self.saved_at >= self.save_after
        return step % int(self.spec.save_steps) == 0

    def _is_time_to_log(self, step: int) -> bool:
        if self.spec.logging_steps == "auto":
            return time.monotonic() - self.logged_at >= LOG_SECONDS
        return step % int(self.spec.logging_steps) == 0

    # ---- checkpoints ------------------------------------------------------------------------------------

    def saved(self, state: Any) -> None:
        """Seal the checkpoint whose files are written now, and only then report it."""
        step = state.global_step
        self.last = self.folder / f"checkpoint-{step}"
        self.saved_at, self.save_after = time.monotonic(), SAVE_SECONDS
        ranks.barrier()
        if not ranks.is_first():
            return
        checkpoints.seal(self.last, self.mark, self.how)
        self.report.event("checkpoint", f"checkpoint at step {step}", step=step)
        self.best_path = self._find_best()
        ends = checkpoints.epoch_ends(self.run, self.mark, self.steps_per_epoch, self.spec.epoch_adapters)
        checkpoints.prune(self.run, self.attempt, self.mark, {self.best_path, *(one.path for one in ends)})

    def has_saved(self, state: Any) -> None:
        """Seal the checkpoint, and go on."""
        self.saved(state)
        self.speed.saved(time.monotonic() - self.here[0].time)
        self.goes_on()

    @property
    def result(self) -> Path:
        """The checkpoint that the adapter is taken from."""
        chosen = self.best_path or self.last
        assert chosen is not None  # the last step always leaves a checkpoint
        return chosen

    def _find_best(self) -> Path | None:
        """The checkpoint of the best validation loss, with keep_best."""
        best, step = min(self.losses, default=(math.inf, 0))
        if not self.spec.keep_best or best == math.inf:
            return None
        there = [one for one in checkpoints.find_all(self.run, self.mark) if one.step == step]
        return max(there, key=lambda one: one.attempt).path if there else None

    # ---- reports ----------------------------------------------------------------------------------------

    def _progress(self, state: Any) -> None:
        self.reported_at = time.monotonic()
        tokens_per_second, seconds_per_step = self.speed.now()
        left = None if seconds_per_step is None else round((state.max_steps - state.global_step) * seconds_per_step)
        self.report.progress(
            100 * state.global_step / state.max_steps,
            step=state.global_step,
            total_steps=state.max_steps,
            loss=self.loss,
            tokens_per_second=tokens_per_second,
            eta_seconds=left,
        )

    def _write_line(self) -> None:
        if ranks.is_first():
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.line) + "\n")


def lines_before(run: RunDir, checkpoint: Checkpoint | None) -> list[str]:
    """The metrics up to the resumed step, as the attempt that saved it wrote them."""
    if checkpoint is None:
        return []
    path = run.checkpoints / str(checkpoint.attempt) / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    whole = [line for line in lines if line.endswith("\n")]  # a killed process may leave half a line
    return [line for line in whole if json.loads(line)["step"] <= checkpoint.step]


def _peak() -> int | None:
    """Most bytes of the GPU that were allocated at once; None without one."""
    import torch

    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None
