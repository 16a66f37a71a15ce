"""TRL, PEFT and bitsandbytes with nothing else, as their own manuals write it.

    python -m benchmarks.peers.plain MODEL ROWS --bs 2 --ga 4

The defaults are theirs too: SDPA, gradient checkpointing, padded batches.
"""

from __future__ import annotations

from benchmarks.peers import alpaca, runner


def main() -> None:
    given = runner.options("plain", __doc__)
    runner.offline()
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, Trainer
    from trl import SFTConfig, SFTTrainer

    if not torch.cuda.is_available():  # to try this file on a CPU: TRL's own loss is written in Triton
        SFTTrainer.compute_loss = Trainer.compute_loss
    with runner.measured(given) as meter:
        four_bit = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_pretrained(
            given.model, dtype=torch.bfloat16, quantization_config=four_bit if given.four else None,
            device_map="auto", attn_implementation="sdpa",
        )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(given.model)
        lora = LoraConfig(task_type="CAUSAL_LM", r=given.rank, lora_alpha=given.alpha, target_modules="all-linear")
        trainer = SFTTrainer(
            model=model, processing_class=tokenizer, peft_config=lora, callbacks=[meter],
            train_dataset=Dataset.from_list(alpaca.texts(given.rows, tokenizer.eos_token)),
            args=SFTConfig(
                **runner.trainer_settings(given, given.out), report_to=[], max_length=given.max_length,
                packing=given.packing, gradient_checkpointing=given.ckpt != "none", use_liger_kernel=given.kernels,
            ),
        )  # fmt: skip
        trainer.train()


if __name__ == "__main__":
    main()
