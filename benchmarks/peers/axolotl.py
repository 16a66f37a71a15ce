"""Axolotl's own training entry, with the configuration a user would write in YAML.

    python -m benchmarks.peers.axolotl MODEL ROWS --bs 8 --ga 1 --packing --kernels --no-four --ckpt none

Its telemetry is switched off: it would wait for an answer on a host without network.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.peers import runner

KERNELS = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel")


def main() -> None:
    given = runner.options("axolotl", __doc__)
    runner.offline()
    os.environ["AXOLOTL_DO_NOT_TRACK"] = "1"
    from axolotl.cli.train import do_cli
    from axolotl.integrations.base import BasePlugin, PluginManager

    with runner.measured(given) as meter:

        class Watching(BasePlugin):
            def add_callbacks_pre_trainer(self, cfg: Any, model: Any) -> list[Any]:
                return [meter]

        PluginManager.get_instance().plugins["meter"] = Watching()
        path = Path(given.out, "config.yml")
        path.write_text(json.dumps(config(given)), encoding="utf-8")  # JSON is YAML
        do_cli(str(path))


def config(given: argparse.Namespace) -> dict[str, Any]:
    """Its configuration. Packed rows are kept apart, by PyTorch's variable-length attention where that is to be had.

    Its LoRA kernels, on by themselves, don't know Phi-3's fused layers, and are written in Triton: off for that model,
    and on a CPU, where this file is only tried.
    """
    import torch

    fused = json.loads((given.model / "config.json").read_text(encoding="utf-8"))["model_type"] == "phi3"
    without = fused or not torch.cuda.is_available()
    settings = runner.trainer_settings(given, str(Path(given.out, "saved")))
    passed = {"output_dir", "max_steps", "gradient_accumulation_steps", "learning_rate", "warmup_steps",
              "logging_steps", "bf16", "seed"}  # fmt: skip
    liger = {
        "plugins": ["axolotl.integrations.liger.LigerPlugin"], "liger_rope": True, "liger_rms_norm": True,
        "liger_glu_activation": True, "liger_fused_linear_cross_entropy": True,
    }  # fmt: skip
    return {
        "base_model": str(given.model), "adapter": "qlora" if given.four else "lora", "load_in_4bit": given.four,
        "lora_r": given.rank, "lora_alpha": given.alpha, "lora_dropout": 0.0, "lora_target_linear": True,
        "datasets": [{"path": str(given.rows.resolve()), "ds_type": "json", "type": "alpaca"}],
        "dataset_prepared_path": str(Path(given.out, "prepared")), "val_set_size": 0, "special_tokens": {},
        "sequence_len": given.max_length, "micro_batch_size": given.bs, "sample_packing": given.packing,
        "pad_to_sequence_len": given.packing, "attn_implementation": "sdpa",
        "gradient_checkpointing": given.ckpt != "none", "optimizer": settings["optim"], "lr_scheduler": "linear",
        "save_strategy": "no", **{name: settings[name] for name in sorted(passed)},
        **(liger if given.kernels else {}), **(dict.fromkeys(KERNELS, False) if without else {}),
    }  # fmt: skip


if __name__ == "__main__":
    main()
