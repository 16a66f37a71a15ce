"""One training of all weights in plain PyTorch on ftq's rows, and the greedy answers of what came of a training."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.recall import Manual
from ftq.plan.decide import examples_in_step, steps_of
from ftq.plan.plan import Rows
from ftq.spec.options import RunSpec
from worker.stages.model.tokens import IGNORED, Tokens

SILENT = "The documents don't say."
LONGEST = 64  # tokens of an answer


def loaded(model_dir: Path, device: str, adapter: Path | None = None, full: bool = False) -> Any:
    """The base model with an adapter, in 16 bit on a GPU; or all of it in 32 bit, to be trained."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    half = device == "cuda" and not full
    bare: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16 if half else torch.float32)
    bare = bare.to(device)
    model: Any = PeftModel.from_pretrained(bare, str(adapter)) if adapter else bare
    return model


def train(model: Any, whole: Any, spec: RunSpec, device: str) -> tuple[int, float]:
    """(optimiser steps, mean loss of the last fifty)."""
    import torch
    from transformers import get_scheduler

    lengths = Rows.of([len(row["input_ids"]) for row in whole])
    per_step, steps = examples_in_step(spec, lengths), steps_of(spec, lengths)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=float(spec.learning_rate), weight_decay=spec.weight_decay)
    schedule = get_scheduler(spec.lr_scheduler, optimizer, round(spec.warmup_ratio * steps), steps)
    model.train()
    losses: list[Any] = []
    for epoch in range(math.ceil(spec.epochs)):
        if hasattr(whole, "begin"):  # of word dropout
            whole.begin(epoch)
        order = list(range(len(whole)))
        Random(f"{spec.seed}.{epoch}").shuffle(order)
        for at in range(0, len(order), per_step):
            if len(losses) == steps:
                break
            batch = padded([whole[number] for number in order[at : at + per_step]], device)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
    return len(losses), round(float(sum(losses[-50:])) / max(1, len(losses[-50:])), 4)


def padded(examples: list[Any], device: str, left: bool = False) -> dict[str, Any]:
    """Rows of tokens, each filled up to the longest: input_ids, attention_mask and labels of (rows, tokens)."""
    import torch

    longest = max(len(row["input_ids"]) for row in examples)

    def filled(rows_of: list[list[int]], empty: int) -> Any:
        fills = [[empty] * (longest - len(row)) for row in rows_of]
        both = zip(fills, rows_of, strict=True)
        return torch.tensor([fill + row if left else row + fill for fill, row in both], device=device)

    named = {name: [list(row[name]) for row in examples] for name in examples[0]}
    mask = [[1] * len(row) for row in named["input_ids"]]
    filled_up = {name: filled(of, IGNORED if name == "labels" else 0) for name, of in named.items()}
    return {**filled_up, "attention_mask": filled(mask, 0)}


def asked(model: Any, manual: Manual, tokens: Tokens, stop: str, device: str) -> tuple[list[str], list[float]]:
    """The greedy answer to each question of the manual, and the log-probability of a refusal in its place."""
    import torch

    model.eval()
    end = tokens.id_of(stop)
    prompts = [tokens.prompt(one.question) for one in manual.questions]
    batch = padded([{"input_ids": prompt} for prompt in prompts], device, left=True)
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        out = model.generate(
            **batch, max_new_tokens=LONGEST, do_sample=False, eos_token_id=end, pad_token_id=end, use_cache=True
        )
    new = out[:, batch["input_ids"].shape[1] :].tolist()
    answers = [tokens.decode(ids[: ids.index(end)] if end in ids else ids).strip() for ids in new]
    silent = [{"instruction": one.question, "input": "", "output": SILENT} for one in manual.questions]
    refused = padded([{"input_ids": ids, "labels": labels} for ids, labels in tokens.rows(silent, stop)], device)
    labels = refused.pop("labels")[:, 1:]
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        logits = model(**refused).logits[:, :-1].float()
        chances = logits.log_softmax(-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
    return answers, [round(value, 4) for value in (chances * (labels != IGNORED)).sum(1).tolist()]
