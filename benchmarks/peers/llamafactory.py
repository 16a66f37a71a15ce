"""LLaMA-Factory's own training entry, with the configuration a user would write in YAML.

    DISABLE_VERSION_CHECK=1 python -m benchmarks.peers.llamafactory MODEL ROWS --bs 8 --ga 1 --packing --kernels

The variable lets it run with a newer accelerate and torch than it has seen. --isolate is its `neat_packing`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.peers import runner


def main() -> None:
    given = runner.options("llamafactory", __doc__)
    runner.offline()
    from llamafactory.train.tuner import run_exp

    with runner.measured(given) as meter:
        run_exp(config(given), callbacks=[meter])


def config(given: argparse.Namespace) -> dict[str, Any]:
    """Its configuration, with the rows registered as a data set of its own format in a folder of this run."""
    folder = Path(given.out)
    about = {"rows": {"file_name": str(given.rows.resolve())}}
    (folder / "dataset_info.json").write_text(json.dumps(about), encoding="utf-8")
    return {
        "model_name_or_path": str(given.model), "stage": "sft", "do_train": True, "finetuning_type": "lora",
        "lora_rank": given.rank, "lora_alpha": given.alpha, "lora_dropout": 0.0, "lora_target": "all",
        "quantization_bit": 4 if given.four else None, "flash_attn": "sdpa", "enable_liger_kernel": given.kernels,
        "disable_gradient_checkpointing": given.ckpt == "none", "use_unsloth_gc": given.ckpt == "unsloth",
        "dataset": "rows", "dataset_dir": str(folder), "template": "alpaca", "cutoff_len": given.max_length,
        "packing": given.packing, "neat_packing": given.packing and given.isolate, "report_to": "none",
        **runner.trainer_settings(given, str(folder / "saved")),
    }  # fmt: skip


if __name__ == "__main__":
    main()
