"""The texts that go out with a model: Ollama's Modelfile and the model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ftq.examples.prompt import OLLAMA_TEMPLATE, prompt
from ftq.examples.report import DatasetReport
from ftq.files.export_report import ExportReport, GgufReport
from ftq.files.run_dir import RunDir, read_jsonl
from ftq.spec import models
from ftq.spec.options import Format, RunSpec
from worker.stages.model.template import Template
from worker.stages.model.tokens import Tokens

SHOWN = [
    *("epochs", "max_steps", "learning_rate", "lr_scheduler", "batch_size", "gradient_accumulation_steps"),
    *("r", "alpha", "dropout", "target_modules", "max_seq_length", "format", "train_on_prompt", "seed"),
]


TEMPERATURE = 0.2  # facts are asked; a model maker's own 0.7 to 1.5 makes a small model invent


def modelfile(spec: RunSpec, dataset: DatasetReport, tokens: Tokens, ends: list[str], system: str = "") -> str:
    """The Modelfile for `ollama create NAME -f Modelfile`: the trained prompt and every token that ends an answer."""
    template = _ollama_template(tokens.template, tokens.start) if tokens.template else OLLAMA_TEMPLATE
    system = system.replace('"""', "'''")  # three end the Modelfile's text
    return "\n".join([
        f"FROM ./model-{spec.quantizations[0]}.gguf",
        f'TEMPLATE """{template}"""',
        *([f'SYSTEM """{system}"""'] if system else []),
        *(f'PARAMETER stop "{end}"' for end in ends),
        f"PARAMETER temperature {TEMPERATURE}",
        f"PARAMETER num_ctx {dataset.max_seq_length}",
        "",
    ])  # fmt: skip


def system(run: RunDir) -> str:
    """What every example is told: a model that always heard the same should hear it again."""
    told = {_told(row) for row in read_jsonl(run.dataset / "train.jsonl")}
    return told.pop() if len(told) == 1 else ""


def readme(run: RunDir, spec: RunSpec, dataset: DatasetReport, checked: ExportReport) -> str:
    """The model card: what the model was made from, how it was trained, how to ask it."""
    from huggingface_hub import ModelCardData

    entry = models.find(spec.model)
    name = Path(spec.model).name if Path(spec.model).is_dir() else spec.model
    base = entry.hub_id if entry else name
    first = checked.ggufs[0].file
    rows = "\n".join(f"| {name} | {_show(getattr(spec, name))} |" for name in SHOWN)
    sizes = "\n".join(map(_row, checked.ggufs))
    licence = entry.licence.lower().replace(" ", "") if entry else None
    head = ModelCardData(base_model=base, library_name="gguf", tags=["ftq", "lora", "gguf"], license=licence)
    return "\n".join([
        "---", head.to_yaml(), "---", "",
        f"# {base}, fine-tuned", "",
        f"Made by ftq. Licence of the base model: {entry.licence if entry else 'see its own card'}. "
        f"Its revision: `{dataset.base_revision or 'not recorded'}`.", "",
        "| file | size | weights in | perplexity | KL against f16 | same next token | answers ended |",
        "|---|---|---|---|---|---|---|",
        sizes, "",
        *(f"- {note}" for file in checked.ggufs for note in file.notes), "",
        "## Ask it", "",
        "```sh", "ollama create mine -f Modelfile && ollama run mine",
        _command(first, spec.format), "```", "",
        f"{_prompt(spec.format)}; the answer ends with `{dataset.stop}`. "
        "It is stored in the GGUF as its chat template, and in the Modelfile.", "",
        "## Data", "", _data(dataset), "",
        "## Training", "", "| option | value |", "|---|---|", rows, "", _losses(run), "",
    ])  # fmt: skip


def _told(row: dict[str, str]) -> str:
    """The system message, with which a chat's turns begin; else the input."""
    turns = json.loads(row.get("turns") or "[]")
    if turns:
        role, text = turns[0]
        return str(text).strip() if role in ("system", "developer") else ""
    return row["input"].strip()


def _row(file: GgufReport) -> str:
    far = file.against_f16
    kl, top1 = (f"{far.kl:.3f}", f"{far.top1:.0%}") if far else ("-", "-")
    perplexity = f"{file.perplexity:.2f}" if file.perplexity else "-"
    stops = f"{file.stops.stopped} of {file.stops.questions}"
    size, held = f"{file.bytes / 1e6:,.0f} MB", file.held or "-"
    return f"| {file.file} | {size} | {held} | {perplexity} | {kl} | {top1} | {stops} |"


def _command(file: str, format: Format) -> str:
    question = "What is this about?"
    if format == "chat":
        return f"llama-cli -m {file} --jinja -st -p '{question}'"
    return f"llama-cli -m {file} -no-cnv -p '{prompt(question)}'"


def _prompt(format: Format) -> str:
    if format == "chat":
        return "The prompt is the base model's own chat template, with the context (if any) as its system message"
    return f"The prompt is `{prompt('QUESTION', 'CONTEXT')}` (the context may be empty)"


def _ollama_template(template: Template, start: str) -> str:
    """The chat template in Go's template language, for system, user and assistant messages.

    The start token is left out, because Ollama itself puts it before the prompt.
    """
    frame = template.plain(("user",))
    alone, ask = frame.before[0].removeprefix(start), frame.after + frame.asked
    first = _go(alone) + "{{ if .System }}{{ .System }}" + _go("\n\n") + "{{ end }}"
    if template.takes_system:
        before, between = template.plain(("system", "user")).before
        first = "{{ if .System }}" + _go(before.removeprefix(start)) + "{{ .System }}" + _go(between)
        first += "{{ else }}" + _go(alone) + "{{ end }}"
    turns = template.pieces(["user", "assistant", "user"], add_generation_prompt=True)
    _, answered, again, _ = turns or ["", ask, frame.gap + frame.stop + alone, ""]
    asked = _go(ask)
    if answered != ask:  # some templates write an answer of earlier otherwise than they ask for the next one
        asked = f"{{{{ if slice $.Messages $i | len | lt 1 }}}}{_go(answered)}{{{{ else }}}}{asked}{{{{ end }}}}"
    return (
        f"{first}{{{{ $answered := false }}}}{{{{ range $i, $_ := .Messages }}}}"
        f'{{{{ if eq .Role "user" }}}}{{{{ if $answered }}}}{_go(again)}{{{{ end }}}}{{{{ .Content }}}}{asked}'
        f'{{{{ else if eq .Role "assistant" }}}}{{{{ .Content }}}}{{{{ $answered = true }}}}{{{{ end }}}}{{{{ end }}}}'
    )


def _go(text: str) -> str:
    """The text as an action of Go's templates. Quotation marks are escaped: they could end the Modelfile's string."""
    return '{{ "' + json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', "\\u0022") + '" }}' if text else ""


def _data(dataset: DatasetReport) -> str:
    documents, tokens = dataset.documents, dataset.tokens
    return (
        f"{dataset.examples} examples from {documents.counted}: {dataset.train} to train, {dataset.valid} to validate; "
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
