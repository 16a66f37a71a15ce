"""The texts that go out with a model: Ollama's Modelfile and the model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftq.examples.dataset import DatasetReport
from ftq.examples.prompt import OLLAMA_TEMPLATE, prompt
from ftq.files.run_dir import RunDir, read_jsonl
from ftq.spec import models
from ftq.spec.options import RunSpec

SHOWN = ["epochs", "max_steps", "learning_rate", "lr_scheduler", "batch_size", "gradient_accumulation_steps", "r",
         "alpha", "dropout", "target_modules", "max_seq_length", "train_on_prompt", "seed"]  # fmt: skip


def modelfile(spec: RunSpec, dataset: DatasetReport) -> str:
    """For `ollama create NAME -f Modelfile`: the trained prompt, the stop token, and no dice."""
    return "\n".join([
        f"FROM ./model-{spec.quantizations[0]}.gguf",
        f'TEMPLATE """{OLLAMA_TEMPLATE}"""',
        f'PARAMETER stop "{dataset.stop}"',
        "PARAMETER temperature 0",
        f"PARAMETER num_ctx {dataset.max_seq_length}",
        "",
    ])  # fmt: skip


def readme(run: RunDir, spec: RunSpec, dataset: DatasetReport, files: list[Path]) -> str:
    """The model card: what it is made of, how it was trained, how to ask it."""
    known = models.find(spec.model)
    name = Path(spec.model).name if Path(spec.model).is_dir() else spec.model
    base = known.hub_id if known else name
    first = files[0].name
    rows = "\n".join(f"| {name} | {_show(getattr(spec, name))} |" for name in SHOWN)
    sizes = "\n".join(f"| {file.name} | {file.stat().st_size / 1e6:,.0f} MB |" for file in files)
    head = ["base_model: " + base, "library_name: gguf", "tags: [ftq, lora, gguf]"]
    return "\n".join([
        "---", *head, *([f"license: {known.licence.lower().replace(' ', '')}"] if known else []), "---", "",
        f"# {base}, fine-tuned", "",
        f"Made by ftq. Licence of the base model: {known.licence if known else 'see its own card'}.", "",
        "| file | size |", "|---|---|", sizes, "",
        "## Ask it", "",
        "```sh", "ollama create mine -f Modelfile && ollama run mine",
        f"llama-cli -m {first} -no-cnv -p '{prompt('What is this about?')}'", "```", "",
        f"The prompt is `{prompt('QUESTION', 'CONTEXT')}` (the context may be empty); the answer ends with "
        f"`{dataset.stop}`. It is stored in the GGUF as its chat template, and in the Modelfile.", "",
        "## Data", "", _data(dataset), "",
        "## Training", "", "| option | value |", "|---|---|", rows, "", _losses(run), "",
    ])  # fmt: skip


def _data(dataset: DatasetReport) -> str:
    documents, tokens = dataset.documents, dataset.tokens
    return (
        f"{dataset.examples} examples from {len(documents.used)} documents "
        f"({len(documents.skipped)} skipped): {dataset.train} to train, {dataset.valid} to validate; "
        f"{tokens.total:,} tokens, the longest example {tokens.longest}."
    )


def _losses(run: RunDir) -> str:
    lines = list(read_jsonl(run.metrics))
    train = [line["train_loss"] for line in lines if "train_loss" in line]
    valid = [line["valid_loss"] for line in lines if "valid_loss" in line]
    if not train:
        return "No losses were recorded."
    text = f"{lines[-1]['step']} steps; training loss {train[0]:.3f} at first, {train[-1]:.3f} at last"
    return f"{text}; validation loss {valid[-1]:.3f}." if valid else f"{text}."


def _show(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else "-" if value is None else str(value)
