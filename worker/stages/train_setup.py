"""What a training is made of: the decisions behind every `auto`, the model, the rows, the trainer's settings."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftq.artifacts import RunDir, read_jsonl
from ftq.errors import UserError
from ftq.spec import RunSpec
from worker.stages.runtime import Report
from worker.stages.tokens import Tokens

MEMORY_A_PROCESS = 2 * 2**30  # bytes a tokenising process may take
# Options that change what is learned. batch_size x gradient_accumulation_steps counts as one number, so that a
# training which had to halve its batch goes on from its checkpoint.
LEARNING = ["epochs", "max_steps", "learning_rate", "lr_scheduler", "warmup_ratio", "weight_decay", "r", "alpha",
            "dropout", "target_modules", "seed", "train_on_prompt", "max_seq_length"]  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Every `auto` decided."""

    model: str
    engine: str
    gpu: bool
    dtype: str
    load_in_4bit: bool
    packing: bool
    optimizer: str
    batch: int  # rows in an optimiser step


def decide(spec: RunSpec, report: Report) -> Plan:
    """Look at the machine. Imports the engine: Unsloth has to be imported before everything it patches."""
    engine = _engine(spec, report)
    import torch

    gpu = torch.cuda.is_available()
    wants_packing = gpu and engine == "unsloth" if spec.packing == "auto" else spec.packing
    if wants_packing and not (gpu and engine == "unsloth"):
        report.event("warning", "packing needs Unsloth on a GPU to keep examples apart: it is off")
        wants_packing = False
    wants_4bit = gpu if spec.load_in_4bit == "auto" else spec.load_in_4bit
    optimizer = ("adamw_8bit" if gpu else "adamw_torch") if spec.optimizer == "auto" else spec.optimizer
    return Plan(spec.model, engine, gpu, _dtype(spec, gpu), wants_4bit, wants_packing,
                optimizer if gpu else "adamw_torch", spec.batch_size * spec.gradient_accumulation_steps)  # fmt: skip


def load_model(model_dir: Path, spec: RunSpec, plan: Plan) -> tuple[Any, Any]:
    """(model with a fresh adapter, tokenizer)."""
    load = _load_unsloth if plan.engine == "unsloth" else _load_plain
    model, tokenizer = load(model_dir, spec, plan)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def load_for_inference(model_dir: Path, adapter: Path, spec: RunSpec, report: Report) -> Any:
    """The base model with the trained adapter on it, by the engine and in the precision of the training."""
    plan = decide(spec, report)
    from peft import PeftModel

    if plan.engine == "unsloth":
        from unsloth import FastLanguageModel  # type: ignore[import-untyped]

        base, _ = _unsloth_base(model_dir, spec, plan)
        return FastLanguageModel.for_inference(PeftModel.from_pretrained(base, str(adapter)))
    return PeftModel.from_pretrained(_plain_base(model_dir, plan), str(adapter)).eval()


def read_rows(path: Path, model_dir: Path, summary: dict[str, Any], spec: RunSpec) -> list[dict[str, Any]]:
    """The examples as {"input_ids", "labels"}: none is cut, each ends with the stop token and learns it."""
    tokens, stop = Tokens(model_dir), summary["stop"]
    rows = []
    for number, example in enumerate(read_jsonl(path), start=1):
        ids, labels = tokens.row(example, stop, spec.train_on_prompt)
        check_row(ids, labels, tokens.id_of(stop), summary["max_seq_length"], f"{path.name}:{number}")
        rows.append({"input_ids": ids, "labels": labels})
    return rows


def check_row(ids: list[int], labels: list[int], stop: int | None, limit: int, where: str) -> None:
    """UserError for a row that the trainer would cut, or that would teach the model never to stop."""
    hint = "The dataset was made for another model or max_seq_length: `ftq retry RUN --from prepare` makes it again."
    if len(ids) > limit:
        raise UserError(f"{where}: {len(ids)} tokens, but a row holds {limit} (max_seq_length)", hint)
    if stop is None or ids[-1] != stop or labels[-1] != stop:
        raise UserError(f"{where}: the answer doesn't end with the stop token", hint)


def fingerprint(run: RunDir, spec: RunSpec, plan: Plan) -> str:
    """Says which training a checkpoint belongs to: same rows, same plan, same options that matter."""
    data = (run.dataset / "train.jsonl").read_bytes() + (run.dataset / "valid.jsonl").read_bytes()
    options = spec.model_dump(include=set(LEARNING))
    text = json.dumps([asdict(plan), options, hashlib.sha256(data).hexdigest()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def steps_per_epoch(rows: int, spec: RunSpec) -> int:
    """Optimiser steps in a pass over the rows, counted as transformers' Trainer counts them (one process)."""
    batches = -(-rows // spec.batch_size)
    return -(-batches // spec.gradient_accumulation_steps)


def settings(folder: Path, spec: RunSpec, plan: Plan) -> dict[str, Any]:
    """SFTConfig's arguments. Rows come tokenised, checkpoints are timed by ftq, nothing is sent anywhere."""
    return {
        "output_dir": str(folder), "report_to": [], "save_strategy": "no", "eval_strategy": "no",
        "disable_tqdm": True, "logging_steps": spec.logging_steps, "logging_nan_inf_filter": False,
        "num_train_epochs": spec.epochs, "max_steps": spec.max_steps or -1, "seed": spec.seed, "data_seed": spec.seed,
        "per_device_train_batch_size": spec.batch_size, "per_device_eval_batch_size": spec.batch_size,
        "gradient_accumulation_steps": spec.gradient_accumulation_steps, "prediction_loss_only": True,
        "learning_rate": spec.learning_rate, "lr_scheduler_type": spec.lr_scheduler,
        "warmup_steps": spec.warmup_ratio, "weight_decay": spec.weight_decay, "optim": plan.optimizer,
        "bf16": plan.dtype == "bfloat16", "fp16": plan.dtype == "float16", "use_cpu": not plan.gpu,
        "gradient_checkpointing": bool(spec.gradient_checkpointing), "max_length": spec.max_seq_length,
        "packing": plan.packing, "eval_packing": False, "loss_type": "nll",
        "dataset_num_proc": processes() if spec.dataset_num_proc == "auto" else spec.dataset_num_proc,
        "dataset_kwargs": {} if plan.packing else {"skip_prepare_dataset": True},
    }  # fmt: skip


class Order:
    """The order of the rows in each epoch: drawn from seed and epoch alone, so a resumed training finds its place.

    Rows of like length share a batch, which saves padding; the batches themselves are shuffled.
    """

    def __init__(self, lengths: list[int], batch: int, seed: int, epoch: Callable[[], int]) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        drawn = random.Random(f"{self.seed}.{self.epoch()}")
        order = list(range(len(self.lengths)))
        drawn.shuffle(order)
        order = [row for start in range(0, len(order), 16 * self.batch) for row in self._by_length(order, start)]
        batches = [order[start : start + self.batch] for start in range(0, len(order), self.batch)]
        last = batches.pop() if len(batches[-1]) < self.batch else []
        drawn.shuffle(batches)
        return iter([row for batch in [*batches, last] for row in batch])

    def _by_length(self, order: list[int], start: int) -> list[int]:
        return sorted(order[start : start + 16 * self.batch], key=self.lengths.__getitem__)


def processes() -> int:
    """Tokenising processes that the container's CPUs and memory allow, not the host's."""
    cpus = len(os.sched_getaffinity(0))
    quota, _, period = _cgroup("cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cpus = min(cpus, max(1, int(quota) // int(period)))
    memory = _cgroup("memory.max")
    free = int(memory) if memory.isdigit() else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(cpus, free // MEMORY_A_PROCESS))


def _cgroup(name: str) -> str:
    try:
        return Path("/sys/fs/cgroup", name).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _engine(spec: RunSpec, report: Report) -> str:
    if spec.engine == "trl":
        return "trl"
    try:
        import unsloth  # noqa: F401
    except Exception as error:  # it checks its surroundings at import and raises whatever fits
        if spec.engine == "unsloth":
            raise UserError(f"engine=unsloth: Unsloth can't be imported ({error})", "Use engine=auto.") from error
        report.event("warning", f"Unsloth can't be used here ({error}): training with plain TRL")
        return "trl"
    return "unsloth"


def _dtype(spec: RunSpec, gpu: bool) -> str:
    if gpu:
        import torch

        best = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    else:
        best = "bfloat16" if _cpu_has_bfloat16() else "float32"
    if spec.dtype == "auto" or (spec.dtype == "float16" and not gpu):
        return best
    return spec.dtype


def _cpu_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _load_unsloth(model_dir: Path, spec: RunSpec, plan: Plan) -> tuple[Any, Any]:
    from unsloth import FastLanguageModel

    model, tokenizer = _unsloth_base(model_dir, spec, plan)
    model = FastLanguageModel.get_peft_model(
        model, r=spec.r, lora_alpha=spec.alpha, lora_dropout=spec.dropout, target_modules=spec.target_modules,
        bias="none", random_state=spec.seed, use_gradient_checkpointing=spec.gradient_checkpointing,
    )  # fmt: skip
    return model, tokenizer


def _unsloth_base(model_dir: Path, spec: RunSpec, plan: Plan) -> Any:
    import torch
    from unsloth import FastLanguageModel

    return FastLanguageModel.from_pretrained(
        model_name=str(model_dir), max_seq_length=spec.max_seq_length, dtype=getattr(torch, plan.dtype),
        load_in_4bit=plan.load_in_4bit, use_gradient_checkpointing=spec.gradient_checkpointing,
        trust_remote_code=False,
    )  # fmt: skip


def _load_plain(model_dir: Path, spec: RunSpec, plan: Plan) -> tuple[Any, Any]:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoTokenizer, set_seed

    model = _plain_base(model_dir, plan)
    model.config.use_cache = False
    if plan.load_in_4bit:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=bool(spec.gradient_checkpointing))
    set_seed(spec.seed)
    lora = LoraConfig(task_type="CAUSAL_LM", r=spec.r, lora_alpha=spec.alpha, lora_dropout=spec.dropout,
                      target_modules=_present(model, spec.target_modules))  # fmt: skip
    return get_peft_model(model, lora), AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False)


def _plain_base(model_dir: Path, plan: Plan) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = getattr(torch, plan.dtype)
    four_bit = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                  bnb_4bit_compute_dtype=dtype)  # fmt: skip
    return AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=dtype, quantization_config=four_bit if plan.load_in_4bit else None,
        device_map={"": 0} if plan.gpu else "cpu", attn_implementation="sdpa",
        trust_remote_code=False, use_safetensors=True,
    )  # fmt: skip


def _present(model: Any, wanted: list[str]) -> list[str]:
    """The wanted layers as this model names them: Phi-3 keeps q, k, v in one layer and gate, up in another."""
    names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    fused = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj",
             "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}  # fmt: skip
    found = dict.fromkeys(name if name in names else fused.get(name, name) for name in wanted)
    missing = [name for name in found if name not in names]
    if missing:
        raise UserError(f"target_modules: this model has no layer named {', '.join(missing)}", "Leave them out.")
    return list(found)
