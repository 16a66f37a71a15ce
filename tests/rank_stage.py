"""A stage that trains on several ranks with nothing but transformers and peft: what process/ranks.py carries.

By hand, on GPUs as well: `python -m tests.rank_stage RUN_DIR --set gpus=2` (see make_run in tests/tiny.py).
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ftq.files.run_dir import RunDir
from ftq.spec.options import RunSpec
from worker.stages.process import ranks
from worker.stages.process.main import Report, main

ROWS, LENGTH = 48, 24


def train(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    """Write adapter/ with the losses; each rank notes its process and how far it came in ranks/<rank>.json."""
    ranks.start(spec.gpus, report)
    rank, _ = ranks.current()
    _note(run, pid=os.getpid(), step=0)
    report.stop_on_sigterm()
    trainer = _make_trainer(run, out, spec, report)
    trainer.train()
    if rank == 0 and not report.stop_requested:
        trainer.save_model(str(out / "adapter"))
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
        (out / "adapter/losses.json").write_text(json.dumps(losses))


def _note(run: RunDir, **values: Any) -> None:
    path = run.path / "ranks" / f"{ranks.current()[0]}.json"
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".new")
    partial.write_text(json.dumps({"environment": {name: os.environ.get(name) for name in ranks._NAMES}, **values}))
    partial.rename(path)


def _make_trainer(run: RunDir, out: Path, spec: RunSpec, report: Report) -> Any:
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    class Callback(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if (run.path / "slow").exists():
                time.sleep(0.05)
            stop, control.should_log = ranks.agree([report.stop_requested, True])
            if stop:
                control.should_training_stop = report.stop_requested = True
            _note(run, pid=os.getpid(), step=state.global_step)
            report.progress(100 * state.global_step / state.max_steps, step=state.global_step)
            if (run.path / f"fail-{ranks.current()[0]}").exists():
                raise MemoryError("out of memory on one of the cards")

    class Trainer(transformers.Trainer):
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return torch.utils.data.SequentialSampler(dataset or self.train_dataset)

    torch.manual_seed(0)
    gpu = torch.cuda.is_available()
    model = transformers.AutoModelForCausalLM.from_pretrained(spec.model, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    arguments = transformers.TrainingArguments(
        output_dir=str(out), report_to=[], disable_tqdm=True, save_strategy="no", seed=spec.seed, use_cpu=not gpu,
        per_device_train_batch_size=spec.batch_size, max_steps=spec.max_steps,
        learning_rate=2e-4 if spec.learning_rate == "auto" else spec.learning_rate,
        gradient_accumulation_steps=spec.gradient_accumulation_steps // spec.gpus, logging_strategy="no",
        ddp_find_unused_parameters=False,
    )  # fmt: skip
    return Trainer(model=model, args=arguments, train_dataset=_rows(), callbacks=[Callback()])


def _rows() -> list[dict[str, list[int]]]:
    """Rows that count a different number of tokens each, so that an average over ranks would show."""
    rows = []
    for number in range(ROWS):
        ids = [(7 * number + 3 * place) % 500 + 3 for place in range(LENGTH)]
        learned = 2 + 5 * number % (LENGTH - 2)
        rows.append({"input_ids": ids, "labels": [-100] * (LENGTH - learned) + ids[-learned:]})
    return rows


if __name__ == "__main__":
    main("train", train)
