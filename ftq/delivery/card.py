"""The model card of what goes out: its head says what kind of model it is, its text what is there and how to ask it.

It is the run's own README.md, which tells of all GGUF files, with what only holds for these changed.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ftq.delivery.parts import CARD, Model, Part
from ftq.delivery.use import HERE, commands
from ftq.errors import lines as lines_of

# kind -> (the library that loads it, how it came of its base model)
HEADS = {"gguf": ("gguf", "quantized"), "adapter": ("peft", "adapter"), "merged": ("transformers", "finetune")}
ASK = "## Ask it\n"
# kind -> where the prompt's form is; it stands where the run's card tells it of the GGUF files
STORED = {
    "adapter": "The base model's own chat template isn't that, unless the format is `chat`: write the prompt yourself.",
    "merged": "It is stored in the tokenizer as its chat template.",
}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HEAD = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_GGUF = re.compile(r"model-\w+\.gguf")


def with_card(model: Model, place: Path = HERE) -> Model:
    """The same with the card of its kind in place of the run's. `place` is where whoever reads it finds the model."""
    text = card(model, place)
    others = tuple(part for part in model.parts if part.name != CARD)
    return replace(model, parts=(*others, Part(CARD, len(text), text)))


def card(model: Model, place: Path = HERE) -> bytes:
    """A short one where the run has none."""
    part = next((part for part in model.parts if part.name == CARD), None)
    text = f"# {model.name}\n\nMade by ftq.\n"
    if part:
        with part.open() as file:
            text = file.read().decode("utf-8", "replace")
    head, body = _head(text), _HEAD.sub("", text)
    return f"---\n{yaml.safe_dump(_told(head, model), sort_keys=False)}---\n{_body(body, model, place)}".encode()


def _head(text: str) -> dict[str, Any]:
    try:
        head = yaml.safe_load(match[1]) if (match := _HEAD.match(text)) else {}
    except (yaml.YAMLError, ValueError, RecursionError):
        head = {}
    return head if isinstance(head, dict) else {}


def _told(head: dict[str, Any], model: Model) -> dict[str, Any]:
    """The head for this kind. A base model that is a folder of this machine is left out: the text names it."""
    kind = model.kind.partition(":")[0]
    library, relation = HEADS[kind]
    tags = [tag for tag in head.get("tags") or () if tag != "gguf" or kind == "gguf"]
    base = str(head.get("base_model"))
    of_base = {"base_model": base, "base_model_relation": relation} if _HUB_ID.fullmatch(base) else {}
    rest = {name: value for name, value in head.items() if not name.startswith("base_model")}
    named = {"library_name": library, "tags": tags, "pipeline_tag": "text-generation"}
    return {**of_base, **rest, **{name: value for name, value in named.items() if value}}


def _body(text: str, model: Model, place: Path) -> str:
    """Of the table the row of this file, or none; how to ask this kind."""
    intro, *sections = re.split(r"(?m)^(?=## )", text)
    lines = [line for line in lines_of(intro) if model.file or not line.startswith(("|", "- "))]
    lines = [line for line in lines if not (match := _GGUF.search(line)) or match[0] == model.file]
    sections = [_asking(one, model, place) if one.startswith(ASK) else one for one in sections]
    return re.sub(r"\n{3,}", "\n\n", "\n".join([*lines, ""])) + "".join(sections)


def _asking(section: str, model: Model, place: Path) -> str:
    if model.file:
        return _GGUF.sub(model.file, section)
    prompt = re.search(r"(?m)^The prompt is .*?(?= It is stored|$)", section)
    told = [prompt[0], STORED[model.kind]] if prompt else []
    return "\n".join([ASK, "```sh", *commands(model, place), "```", "", *([" ".join(told), ""] if told else []), ""])
