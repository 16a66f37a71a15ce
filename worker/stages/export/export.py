"""adapter/ + base model -> merged/, model-<type>.gguf, Modelfile and README.md (the model card).

Everything happens on this machine: no network, no git, no compiler. Converting, quantising and loading each run in a
process of their own. A GGUF counts once it was loaded, has written a few tokens, and ends answers with the stop token
of the training run.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ftq.errors import FtqError, UserError
from ftq.examples.report import DatasetReport
from ftq.files.run_dir import RunDir, read_jsonl, remove
from ftq.plan import sizes
from ftq.spec import models
from ftq.spec.options import RunSpec
from worker.gguf.convert import CONVERTED, convert
from worker.gguf.quantize import quantize
from worker.llama.answer import Question
from worker.llama.pool import Pool
from worker.llama.server import Server
from worker.stages.export import card
from worker.stages.model import base_model
from worker.stages.model.merge import merge
from worker.stages.model.tokens import Tokens
from worker.stages.process.main import Report

CHECKED_PROMPTS = 8  # examples whose tokens are compared between training and GGUF
CONTEXT = 512  # tokens: the checks here need no more, and a model's whole context would take gigabytes
LOOK = "The log has more: `ftq logs RUN --stage export`. `ftq retry RUN` exports again, the adapter is kept."


def export(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    """Write the merged model (unless keep_merged=false), a GGUF for each type, Modelfile and README.md."""
    dataset = DatasetReport.read(run.dataset)
    model_dir = base_model.resolve(spec.model, dataset.base_revision)
    base_model.go_offline()
    _check_disk(out, model_dir, spec)
    report.progress(0)
    merged = out / "merged"
    merge(model_dir, run.adapter, merged, dataset.stop, spec.format)
    _finish_config(merged)
    report.progress(30)
    files = _write_ggufs(merged, out, spec, report)
    tokens = Tokens(model_dir, spec.format)
    _check(files, run, tokens, dataset.stop, report)
    (out / "Modelfile").write_text(card.modelfile(spec, dataset, tokens), encoding="utf-8")
    (out / "README.md").write_text(card.readme(run, spec, dataset, files), encoding="utf-8")
    if not spec.keep_merged:
        remove(merged)
    report.progress(100)


def _check_disk(out: Path, model_dir: Path, spec: RunSpec) -> None:
    need = sizes.export(base_model.parameters(model_dir), spec.quantizations)
    have = shutil.disk_usage(out).free
    if have < need:
        raise UserError(
            f"the export needs {need / 1e9:.1f} GB of disk in {out.parent}, but only {have / 1e9:.1f} GB are free",
            "Make room there, then `ftq retry RUN`; the trained adapter is kept.",
        )


def _finish_config(merged: Path) -> None:
    """The merged weights are 16 bit, whatever the base was stored in."""
    path = merged / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for name in ("dtype", "torch_dtype"):
        if config.get(name) == "float32":
            config[name] = "bfloat16"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _write_ggufs(merged: Path, out: Path, spec: RunSpec, report: Report) -> list[Path]:
    """Convert to f16 and quantise from that; a bf16 file comes straight from the converter too."""
    names: dict[str, Path] = {kind: RunDir(out).gguf(kind) for kind in spec.quantizations}
    quantized = [kind for kind in names if kind not in CONVERTED]
    source = RunDir(out).gguf("f16")
    converted = [kind for kind in CONVERTED if kind in names or (kind == "f16" and quantized)]
    for number, kind in enumerate([*converted, *quantized], start=1):
        if kind in converted:
            convert(merged, RunDir(out).gguf(kind), kind, "--model-name", models.name_of(spec.model))
        else:
            quantize(source, names[kind], kind)
        report.progress(30 + 60 * number / (len(converted) + len(quantized)))
    if "f16" not in names:
        remove(source)
    return list(names.values())


def _check(files: list[Path], run: RunDir, tokens: Tokens, stop: str, report: Report) -> None:
    """Load each file in llama.cpp and ask it. FtqError unless it writes and ends answers with the stop token."""
    pool = Pool(most=1, context=CONTEXT)
    try:
        for file in files:
            with pool.server(file) as server:
                if (end := server.end_of_sequence()) != stop:
                    raise FtqError(f"{file.name} ends answers with {end}, but training taught {stop}", LOOK)
                if file == files[0]:
                    _compare_tokens(run, tokens, server, report)
            question = Question("What is this about?", max_tokens=4, chat=tokens.template is not None)
            answer = pool.ask(file, question)
            if answer.tokens == 0 and not answer.stopped:
                raise FtqError(f"{file.name} loads, but writes nothing", LOOK)
    finally:
        pool.close()


def _compare_tokens(run: RunDir, tokens: Tokens, server: Server, report: Report) -> None:
    """Warn if llama.cpp makes other tokens of a prompt than training did: the model was trained on those only."""
    examples = [row for _, row in zip(range(CHECKED_PROMPTS), read_jsonl(run.dataset / "train.jsonl"), strict=False)]
    pairs, chat = [(row["instruction"], row["input"]) for row in examples], tokens.template is not None
    different = [pair for pair in pairs if server.prompt_ids(Question(*pair, chat=chat)) != tokens.prompt(*pair)]
    if different:
        report.event(
            "warning",
            f"llama.cpp splits {len(different)} of {len(examples)} prompts into other tokens than training did, "
            f"for example {different[0][0][:60]!r}: answers may be worse",
        )
