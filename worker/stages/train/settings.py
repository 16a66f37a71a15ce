"""The trainer's settings, and the fingerprint that tells one training run from another."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import netrc
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ftq.files.run_dir import RunDir
from ftq.plan.plan import Plan
from ftq.spec.options import RunSpec
from worker.stages.engine.setup import processes
from worker.stages.process.main import Report

# Options that change what is learned. How a step is computed isn't among them (micro-batch, checkpointing, 4 bit): a
# run that had to change these for lack of memory resumes from its checkpoint.
LEARNING = {
    *("epochs", "max_steps", "learning_rate", "lr_scheduler", "warmup_ratio", "weight_decay", "r", "alpha", "dropout"),
    *("target_modules", "seed", "train_on_prompt", "format", "max_seq_length", "model"),
}


def how(plan: Plan) -> dict[str, Any]:
    """The part of the plan that changes what is learned."""
    way = {name: getattr(plan, name) for name in ("engine", "dtype", "optimizer", "padding_free")}
    return {**way, "examples": plan.examples_in_step}


def fingerprint(run: RunDir, spec: RunSpec, plan: Plan) -> str:
    """The hash that a checkpoint must have to be resumed: same rows, same order, same options that matter."""
    data = (run.dataset / "train.jsonl").read_bytes() + (run.dataset / "valid.jsonl").read_bytes()
    options = spec.model_dump(include=LEARNING | ({"word_dropout"} if spec.word_dropout else set()))
    text = json.dumps([[*how(plan).values()], options, hashlib.sha256(data).hexdigest()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def steps_per_epoch(rows: int, plan: Plan) -> int:
    """Optimiser steps in a pass over the rows, counted as transformers' Trainer counts them."""
    batches = -(-rows // (plan.batch_size * plan.gpus))  # that each of the GPUs gets
    return -(-batches // (plan.gradient_accumulation_steps // plan.gpus))


def settings(folder: Path, spec: RunSpec, plan: Plan, epoch: int, evaluated: int, report: Report) -> dict[str, Any]:
    """SFTConfig's arguments. Rows come tokenised, and the watcher decides when to log, evaluate and save.

    `epoch` is the number of steps in one, `evaluated` the number of held-out examples in a batch. Unsloth's own
    `eval_accumulation_steps` would give the GPU's memory back after every second batch.
    """
    steps = spec.max_steps or math.ceil(spec.epochs * epoch)
    warm_up = spec.warmup_ratio if steps > 1 else 0  # its first step learns nothing
    return {
        "output_dir": str(folder),
        "report_to": _trackers(spec, report),
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,
        "run_name": folder.parts[-3],
        "num_train_epochs": spec.epochs,
        "max_steps": spec.max_steps or -1,
        "seed": spec.seed,
        "data_seed": spec.seed,
        "per_device_train_batch_size": plan.batch_size,
        "per_device_eval_batch_size": evaluated,
        "gradient_accumulation_steps": plan.gradient_accumulation_steps // plan.gpus,
        "prediction_loss_only": True,
        "learning_rate": spec.learning_rate,
        "lr_scheduler_type": spec.lr_scheduler,
        "warmup_steps": warm_up,
        "weight_decay": spec.weight_decay,
        "optim": plan.optimizer,
        "bf16": plan.dtype == "bfloat16",
        "fp16": plan.dtype == "float16",
        "use_cpu": not plan.gpu,
        "gradient_checkpointing": bool(plan.gradient_checkpointing),
        "packing": False,
        "eval_packing": False,
        "max_length": spec.max_seq_length,
        "padding_free": False,
        "eval_accumulation_steps": None,
        "loss_type": "nll",
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "ddp_find_unused_parameters": False,
        "ddp_broadcast_buffers": False,  # they never change, and weights in FP8 are among them
        "accelerator_config": {"non_blocking": True},  # the next batch goes to the GPU while that works
        "dataset_num_proc": processes() if spec.dataset_num_proc == "auto" else spec.dataset_num_proc,
    }


def has_dropout(model: Any) -> bool:
    """Whether a training step drops anything at random. Without dropout, training and evaluation compute the same."""
    import torch

    layers = any(isinstance(part, torch.nn.Dropout) and part.p > 0 for part in model.modules())
    config = model.config.get_text_config().to_dict()
    rates = [value for name, value in config.items() if "drop" in name or "jitter" in name]
    return layers or any(isinstance(rate, (int, float)) and rate > 0 for rate in rates)


def batch_without_padding(trainer: Any, plan: Plan) -> None:
    """Make micro-batches without padding: one row of examples, which attention keeps apart by their positions.

    Unsloth does so by itself only for rows that it may cut at max_length; these are tokens already, none too long.
    """
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    trainer.data_collator = DataCollatorForLanguageModeling(trainer.processing_class.pad_token_id, padding_free=True)
    if plan.gpu and plan.engine == "unsloth":
        from unsloth.utils.packing import enable_padding_free_metadata  # type: ignore[import-untyped]

        enable_padding_free_metadata(trainer.model, trainer)


def _trackers(spec: RunSpec, report: Report) -> list[str]:
    """The trackers asked for that can be used here; one that can't is a warning."""
    missing = [name for name in spec.report_to if find_spec(name) is None]
    if missing:
        report.event("warning", f"report_to: {', '.join(missing)} isn't installed on this worker: left out")
    usable: list[str] = [name for name in spec.report_to if name not in missing]
    if "wandb" in usable and not _has_wandb_key():  # it would ask for one, or fail
        report.event("warning", "report_to: this worker has no WANDB_API_KEY: wandb is left out")
        usable.remove("wandb")
    return usable


def _has_wandb_key() -> bool:
    """Whether wandb can log in here, or needn't."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return True
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    return False
