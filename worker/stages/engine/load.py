"""Loads the model that is trained or asked: the base model with its adapter, by Unsloth or by transformers and PEFT."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ftq.errors import UserError
from ftq.plan.plan import Plan
from ftq.spec.options import RunSpec
from ftq.spec.recipe import Recipe
from worker.stages.engine import inductor, processor
from worker.stages.engine.setup import for_inference, takes_groups
from worker.stages.model import base_model, merge
from worker.stages.process.main import Report


def load_model(model_dir: Path, spec: RunSpec, plan: Plan) -> tuple[Any, Any]:
    """(model with a fresh adapter, tokenizer)."""
    load = _load_unsloth if plan.engine == "unsloth" else _load_plain
    model, tokenizer = load(model_dir, spec, plan)
    if plan.load_in_fp8:
        from worker.stages.engine import fp8

        fp8.narrow(model, every=spec.load_in_fp8 is True)
    merge.check_fits(_adapted(model), model_dir, spec.model)  # or the export would fail, after all of the training
    if not plan.gpu:
        processor.convert_less(model)
        if plan.padding_free:
            processor.keep_apart(model)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _adapted(model: Any) -> dict[str, list[int]]:
    """The layers with an adapter: name of the adapted weight -> shape of what is added to it."""
    pairs = [(name, part) for name, part in model.get_base_model().named_modules() if hasattr(part, "lora_A")]
    return {f"{name}.weight": [part.out_features, part.in_features] for name, part in pairs}


def load_for_inference(model_dir: Path, adapter: Path, spec: RunSpec, report: Report) -> Any:
    """The base model with the trained adapter on it, by the engine that would train it here."""
    plan = for_inference(spec, model_dir, report)
    from peft import PeftModel

    if plan.engine == "unsloth":
        from unsloth import FastLanguageModel  # type: ignore[import-untyped]

        base, _ = _unsloth_base(model_dir, spec, plan)
        return FastLanguageModel.for_inference(PeftModel.from_pretrained(base, str(adapter)))
    return PeftModel.from_pretrained(_plain_base(model_dir, plan), str(adapter)).eval()


def _load_unsloth(model_dir: Path, spec: RunSpec, plan: Plan) -> tuple[Any, Any]:
    import torch
    from unsloth import FastLanguageModel

    recipe = Recipe.of(spec)
    inductor.copy_less()
    inductor.remember_sizes(base_model.read_config(model_dir), plan.compiled_as)
    model, tokenizer = _unsloth_base(model_dir, spec, plan)
    with torch.device(model.device):  # made where they are needed: moving some hundred matrices takes seconds
        model = FastLanguageModel.get_peft_model(
            model,
            r=recipe.r,
            lora_alpha=recipe.alpha,
            lora_dropout=spec.dropout,
            target_modules=_present(model, spec.target_modules),
            bias="none",
            random_state=spec.seed,
            use_gradient_checkpointing=plan.gradient_checkpointing,
        )
    return model, tokenizer


def _unsloth_base(model_dir: Path, spec: RunSpec, plan: Plan) -> Any:
    import torch
    from unsloth import FastLanguageModel, FastModel

    # Unsloth's own layers would start attention once for each example there; transformers' ones, compiled, don't. Nor
    # do its own products know these weights in FP8.
    compiled = plan.load_in_fp8 or (plan.gpu and plan.padding_free and not takes_groups())

    return (FastModel if compiled else FastLanguageModel).from_pretrained(
        model_name=str(model_dir),
        max_seq_length=spec.max_seq_length,
        dtype=getattr(torch, plan.dtype),
        load_in_4bit=plan.load_in_4bit,
        use_gradient_checkpointing=plan.gradient_checkpointing,
        trust_remote_code=False,
    )


def _load_plain(model_dir: Path, spec: RunSpec, plan: Plan) -> tuple[Any, Any]:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoTokenizer, set_seed

    recipe = Recipe.of(spec)
    model = _plain_base(model_dir, plan)
    model.config.use_cache = False
    if plan.load_in_4bit:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=bool(plan.gradient_checkpointing))
    set_seed(spec.seed)
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.r,
        lora_alpha=recipe.alpha,
        lora_dropout=spec.dropout,
        target_modules=_present(model, spec.target_modules),
    )
    return get_peft_model(model, lora), AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False)


def _plain_base(model_dir: Path, plan: Plan) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = getattr(torch, plan.dtype)
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return AutoModelForCausalLM.from_pretrained(
        model_dir,
        dtype=dtype,
        quantization_config=nf4 if plan.load_in_4bit else None,
        device_map={"": torch.cuda.current_device()} if plan.gpu else "cpu",
        attn_implementation="sdpa",
        trust_remote_code=False,
        use_safetensors=True,
    )


def _present(model: Any, wanted: list[str]) -> list[str] | str:
    """The wanted layers by this model's names: Phi-3 keeps q, k, v in one layer and gate, up in another.

    For a model that also sees or hears, a regular expression limits them to the part that reads: Unsloth would find a
    list's names in any part.
    """
    names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    fused = {
        "q_proj": "qkv_proj",
        "k_proj": "qkv_proj",
        "v_proj": "qkv_proj",
        "gate_proj": "gate_up_proj",
        "up_proj": "gate_up_proj",
    }
    layers = dict.fromkeys(name if name in names else fused.get(name, name) for name in wanted)
    missing = [name for name in layers if name not in names]
    if missing:
        raise UserError(f"target_modules: this model has no layer named {', '.join(missing)}", "Leave them out.")
    if model.config.get_text_config() is model.config:
        return list(layers)
    reader = model.get_decoder()
    [place] = [name for name, part in model.named_modules() if part is reader]
    return rf"{re.escape(place)}\..*\.({'|'.join(map(re.escape, layers))})"
