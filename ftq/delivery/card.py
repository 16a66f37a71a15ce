"""The model card as the hub wants it: its head says what kind of model it is, and of what."""

from __future__ import annotations

import re

from ftq.delivery.parts import CARD, Model

# kind -> (the library that loads it, how it came of its base model)
HEADS = {"gguf": ("gguf", "quantized"), "adapter": ("peft", "adapter"), "merged": ("transformers", "finetune")}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def card(model: Model) -> bytes:
    """The run's own README.md with the head of this kind; a short one where the run has none."""
    from huggingface_hub import ModelCard

    part = next((part for part in model.parts if part.name == CARD), None)
    text = f"# {model.name}\n\nMade by ftq.\n"
    if part:
        with part.open() as file:
            text = file.read().decode("utf-8", "replace")
    made = ModelCard(text, ignore_metadata_errors=True)
    made.data["library_name"], relation = HEADS[model.kind.partition(":")[0]]
    base = made.data.get("base_model")
    if isinstance(base, str) and _HUB_ID.fullmatch(base):
        made.data["base_model_relation"] = relation
    else:
        made.data.pop("base_model")  # a folder of this machine; the text of the card names it
    made.data["pipeline_tag"] = "text-generation"
    return str(made).encode()
