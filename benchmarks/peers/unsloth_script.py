"""The usual Unsloth script: what a user writes who knows the options and has tried them.

    python -m benchmarks.peers.unsloth_script MODEL ROWS --bs 8 --ga 1 --packing --no-four --ckpt none

The batch, packing, precision and checkpointing that are best for a card are the caller's to find: one run each.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.peers import alpaca, runner

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FUSED = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]  # Phi-3 keeps q, k, v in one layer and gate, up in another
CHECKPOINTING = {"unsloth": "unsloth", "true": True, "none": False}


def main() -> None:
    given = runner.options("unsloth_script", __doc__)
    runner.offline()
    import unsloth  # isort: skip  # it changes what the next ones bring
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from worker.stages.engine.setup import takes_groups

    with runner.measured(given) as meter:
        # Before PyTorch 2.12 its own layers took 6,100 tokens/s for Llama's shape.
        loader = unsloth.FastLanguageModel if takes_groups() else unsloth.FastModel
        model, tokenizer = loader.from_pretrained(
            str(given.model), max_seq_length=given.max_length, dtype=torch.bfloat16, load_in_4bit=given.four,
            use_gradient_checkpointing=CHECKPOINTING[given.ckpt],
        )  # fmt: skip
        model = loader.get_peft_model(
            model, r=given.rank, lora_alpha=given.alpha, lora_dropout=0, bias="none", random_state=3407,
            target_modules=_projections(given.model), use_gradient_checkpointing=CHECKPOINTING[given.ckpt],
        )  # fmt: skip
        trainer = SFTTrainer(
            model=model, processing_class=tokenizer, callbacks=[meter],
            train_dataset=Dataset.from_list(alpaca.texts(given.rows, tokenizer.eos_token)),
            args=SFTConfig(
                **runner.trainer_settings(given, given.out), report_to=[], max_length=given.max_length,
                packing=given.packing, dataset_num_proc=1, dataset_text_field="text",
                gradient_checkpointing=given.ckpt != "none",
            ),
        )  # fmt: skip
        trainer.train()


def _projections(model: Path) -> list[str]:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return FUSED if config["model_type"] == "phi3" else PROJECTIONS


if __name__ == "__main__":
    main()
