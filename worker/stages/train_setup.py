"""What a training is made of: the model with its adapter, the trainer's settings."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ftq.artifacts import RunDir
from ftq.errors import UserError
from ftq.spec import RunSpec
from worker.stages import base_model, inductor, merge, train_plan
from worker.stages.runtime import Report
from worker.stages.train_plan import Setup

# Options that change what is learned. How a step is computed isn't among them: micro-batch, checkpointing, 4 bit. A
# training that had to change these for lack of memory goes on from its checkpoint.
LEARNING = ["epochs", "max_steps", "learning_rate", "lr_scheduler", "warmup_ratio", "weight_decay", "r", "alpha",
            "dropout", "target_modules", "seed", "train_on_prompt", "max_seq_length", "model"]  # fmt: skip


def load_model(model_dir: Path, spec: RunSpec, setup: Setup) -> tuple[Any, Any]:
    """(model with a fresh adapter, tokenizer)."""
    load = _load_unsloth if setup.engine == "unsloth" else _load_plain
    model, tokenizer = load(model_dir, spec, setup)
    merge.check_fits(_adapted(model), model_dir, spec.model)  # or the export would fail, after all of the training
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _adapted(model: Any) -> dict[str, list[int]]:
    """The layers with an adapter: the name of the weight that it is for, and the shape of what it adds."""
    pairs = [(name, part) for name, part in model.get_base_model().named_modules() if hasattr(part, "lora_A")]
    return {f"{name}.weight": [part.out_features, part.in_features] for name, part in pairs}


def load_for_inference(model_dir: Path, adapter: Path, spec: RunSpec, report: Report) -> Any:
    """The base model with the trained adapter on it, by the engine of the training."""
    setup = train_plan.for_inference(spec, model_dir, report)
    from peft import PeftModel

    if setup.engine == "unsloth":
        from unsloth import FastLanguageModel  # type: ignore[import-untyped]

        base, _ = _unsloth_base(model_dir, spec, setup)
        return FastLanguageModel.for_inference(PeftModel.from_pretrained(base, str(adapter)))
    return PeftModel.from_pretrained(_plain_base(model_dir, setup), str(adapter)).eval()


def how(setup: Setup) -> dict[str, Any]:
    """What the machine has decided that changes what is learned."""
    return {name: getattr(setup, name) for name in ("engine", "dtype", "optimizer", "padding_free", "examples")}


def fingerprint(run: RunDir, spec: RunSpec, setup: Setup) -> str:
    """Says which training a checkpoint belongs to: same rows, same order, same options that matter."""
    data = (run.dataset / "train.jsonl").read_bytes() + (run.dataset / "valid.jsonl").read_bytes()
    options = spec.model_dump(include=set(LEARNING))
    text = json.dumps([[*how(setup).values()], options, hashlib.sha256(data).hexdigest()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def steps_per_epoch(rows: int, setup: Setup) -> int:
    """Optimiser steps in a pass over the rows, counted as transformers' Trainer counts them."""
    batches = -(-rows // (setup.batch_size * setup.gpus))  # that each of the GPUs gets
    return -(-batches // (setup.gradient_accumulation_steps // setup.gpus))


def settings(folder: Path, spec: RunSpec, setup: Setup, epoch: int, evaluated: int, report: Report) -> dict[str, Any]:
    """SFTConfig's arguments. Rows come tokenised, and ftq says when to log, evaluate and save.

    An epoch has `epoch` steps, and `evaluated` held-out examples are looked at together. Unsloth's own number of
    `eval_accumulation_steps` would give the GPU's memory back after every second batch of them.
    """
    steps = spec.max_steps or math.ceil(spec.epochs * epoch)
    warm_up = spec.warmup_ratio if steps > 1 else 0  # its first step learns nothing
    return {
        "output_dir": str(folder), "report_to": _trackers(spec, report), "save_strategy": "no", "eval_strategy": "no",
        "logging_strategy": "no", "disable_tqdm": True, "logging_nan_inf_filter": False, "run_name": folder.parts[-3],
        "num_train_epochs": spec.epochs, "max_steps": spec.max_steps or -1, "seed": spec.seed, "data_seed": spec.seed,
        "per_device_train_batch_size": setup.batch_size, "per_device_eval_batch_size": evaluated,
        "gradient_accumulation_steps": setup.gradient_accumulation_steps // setup.gpus, "prediction_loss_only": True,
        "learning_rate": spec.learning_rate, "lr_scheduler_type": spec.lr_scheduler,
        "warmup_steps": warm_up, "weight_decay": spec.weight_decay, "optim": setup.optimizer,
        "bf16": setup.dtype == "bfloat16", "fp16": setup.dtype == "float16", "use_cpu": not setup.gpu,
        "gradient_checkpointing": bool(setup.gradient_checkpointing), "packing": False, "eval_packing": False,
        "max_length": spec.max_seq_length, "padding_free": False, "eval_accumulation_steps": None,
        "loss_type": "nll", "dataset_kwargs": {"skip_prepare_dataset": True}, "ddp_find_unused_parameters": False,
        "accelerator_config": {"non_blocking": True},  # the next batch goes to the GPU while that works
        "dataset_num_proc": train_plan.processes() if spec.dataset_num_proc == "auto" else spec.dataset_num_proc,
    }  # fmt: skip


def has_dropout(model: Any) -> bool:
    """Whether a step of training drops anything at random; without it, training and evaluation compute the same."""
    import torch

    layers = any(isinstance(part, torch.nn.Dropout) and part.p > 0 for part in model.modules())
    config = model.config.get_text_config().to_dict()
    rates = [value for name, value in config.items() if "drop" in name or "jitter" in name]
    return layers or any(isinstance(rate, (int, float)) and rate > 0 for rate in rates)


def lay_end_to_end(trainer: Any, setup: Setup) -> None:
    """Micro-batches without padding: one row of examples, which attention keeps apart by their positions.

    Unsloth sets this up itself only for rows that it may cut at max_length; these are tokens already, none too long.
    """
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    trainer.data_collator = DataCollatorForLanguageModeling(trainer.processing_class.pad_token_id, padding_free=True)
    if setup.engine == "unsloth":
        from unsloth.utils.packing import enable_padding_free_metadata  # type: ignore[import-untyped]

        enable_padding_free_metadata(trainer.model, trainer)


def _trackers(spec: RunSpec, report: Report) -> list[str]:
    """The wanted trackers that are installed here; a missing one costs a warning, not the run."""
    missing = [name for name in spec.report_to if find_spec(name) is None]
    if missing:
        report.event("warning", f"report_to: {', '.join(missing)} isn't installed on this worker: left out")
    return [name for name in spec.report_to if name not in missing]


def _load_unsloth(model_dir: Path, spec: RunSpec, setup: Setup) -> tuple[Any, Any]:
    import torch
    from unsloth import FastLanguageModel

    inductor.copy_less()
    inductor.remember_sizes(base_model.read_config(model_dir), asdict(setup))
    model, tokenizer = _unsloth_base(model_dir, spec, setup)
    with torch.device(model.device):  # made where they are needed: moving some hundred matrices takes seconds
        model = FastLanguageModel.get_peft_model(
            model, r=spec.r, lora_alpha=spec.alpha, lora_dropout=spec.dropout,
            target_modules=_present(model, spec.target_modules), bias="none", random_state=spec.seed,
            use_gradient_checkpointing=setup.gradient_checkpointing,
        )  # fmt: skip
    return model, tokenizer


def _unsloth_base(model_dir: Path, spec: RunSpec, setup: Setup) -> Any:
    import torch
    from unsloth import FastLanguageModel, FastModel

    # Unsloth's own layers would start attention once for each example there; transformers' ones, compiled, don't.
    old = setup.padding_free and not train_plan.takes_groups()

    return (FastModel if old else FastLanguageModel).from_pretrained(
        model_name=str(model_dir), max_seq_length=spec.max_seq_length, dtype=getattr(torch, setup.dtype),
        load_in_4bit=setup.load_in_4bit, use_gradient_checkpointing=setup.gradient_checkpointing,
        trust_remote_code=False,
    )  # fmt: skip


def _load_plain(model_dir: Path, spec: RunSpec, setup: Setup) -> tuple[Any, Any]:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoTokenizer, set_seed

    model = _plain_base(model_dir, setup)
    model.config.use_cache = False
    if setup.load_in_4bit:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=bool(setup.gradient_checkpointing))
    set_seed(spec.seed)
    lora = LoraConfig(task_type="CAUSAL_LM", r=spec.r, lora_alpha=spec.alpha, lora_dropout=spec.dropout,
                      target_modules=_present(model, spec.target_modules))  # fmt: skip
    return get_peft_model(model, lora), AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False)


def _plain_base(model_dir: Path, setup: Setup) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = getattr(torch, setup.dtype)
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                             bnb_4bit_compute_dtype=dtype)  # fmt: skip
    return AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=dtype, quantization_config=nf4 if setup.load_in_4bit else None,
        device_map={"": torch.cuda.current_device()} if setup.gpu else "cpu", attn_implementation="sdpa",
        trust_remote_code=False, use_safetensors=True,
    )  # fmt: skip


def _present(model: Any, wanted: list[str]) -> list[str] | str:
    """The wanted layers as this model names them: Phi-3 keeps q, k, v in one layer and gate, up in another. Of a model
    that also sees or hears, those that read, by a regular expression: Unsloth takes a list's names in any part."""
    names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    fused = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj",
             "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}  # fmt: skip
    found = dict.fromkeys(name if name in names else fused.get(name, name) for name in wanted)
    missing = [name for name in found if name not in names]
    if missing:
        raise UserError(f"target_modules: this model has no layer named {', '.join(missing)}", "Leave them out.")
    if model.config.get_text_config() is model.config:
        return list(found)
    reader = model.get_decoder()
    [place] = [name for name, part in model.named_modules() if part is reader]
    return rf"{re.escape(place)}\..*\.({'|'.join(map(re.escape, found))})"
