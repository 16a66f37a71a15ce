"""adapter/ + base model -> merged/, model-<type>.gguf, export.json, Modelfile and README.md (the model card).

Everything happens on this machine: no network, no git, no compiler. Converting, quantising and loading each run in a
process of their own. A file counts once it was compared with what it was made of, was loaded and asked.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ftq.errors import UserError
from ftq.examples.report import DatasetReport
from ftq.files.export_report import EXPORT
from ftq.files.run_dir import RunDir, remove, write_json
from ftq.plan import sizes
from ftq.spec import models
from ftq.spec.options import RunSpec
from worker.gguf.convert import CONVERTED, convert
from worker.gguf.quantize import quantize
from worker.stages.export import card, checks
from worker.stages.export.measure import Measure
from worker.stages.export.sample import sample
from worker.stages.model import base_model
from worker.stages.model.merge import merge
from worker.stages.model.tokens import Tokens
from worker.stages.process.main import Report


def export(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    """Write the merged model (unless keep_merged=false), a GGUF for each type, and what was measured on them."""
    dataset = DatasetReport.read(run.dataset)
    model_dir = base_model.resolve(spec.model, dataset.base_revision)
    base_model.go_offline()
    _check_disk(out, model_dir, spec)
    report.progress(0)
    merged = out / "merged"
    if merge(model_dir, run.adapter, merged, dataset.stop, spec.format) == 0:
        report.event("warning", "the adapter holds nothing but zeros: the model will answer as its base does")
    _finish_config(merged)
    report.progress(15)
    tokens = Tokens(model_dir, spec.format)
    ends = checks.ends(merged, tokens, dataset.stop)
    with tempfile.TemporaryDirectory(prefix="ftq-export-") as scratch:
        chosen = sample(run, tokens, dataset.stop, spec.format == "chat", model_dir)
        measure = Measure(chosen, tokens, dataset.stop, report, Path(scratch))
        files = _write_ggufs(run, merged, out, spec, report, measure, model_dir)
        report.progress(70)
        checked = measure.files(run, merged, files)
    write_json(out / EXPORT, checked.to_json())
    (out / "Modelfile").write_text(card.modelfile(run, spec, dataset, tokens, ends), encoding="utf-8")
    (out / "README.md").write_text(card.readme(run, spec, dataset, checked), encoding="utf-8")
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


def _write_ggufs(
    run: RunDir, merged: Path, out: Path, spec: RunSpec, report: Report, measure: Measure, model_dir: Path
) -> dict[str, Path]:
    """{type: file}. Convert to f16 and quantise from that; a bf16 file comes straight from the converter too.

    Meanwhile the merged model is compared with base + adapter: the converter keeps one core busy.
    """
    names: dict[str, Path] = {kind: RunDir(out).gguf(kind) for kind in spec.quantizations}
    quantized = [kind for kind in names if kind not in CONVERTED]
    source = RunDir(out).gguf("f16")
    converted = [kind for kind in CONVERTED if kind in names or (kind == "f16" and quantized)]
    with ThreadPoolExecutor(1) as apart:
        made = [
            apart.submit(convert, merged, RunDir(out).gguf(kind), kind, "--model-name", models.name_of(spec.model))
            for kind in converted
        ]
        measure.merged(model_dir, run.adapter, merged)
        for one in made:
            one.result()
    measure.converted(RunDir(out).gguf(converted[0]), converted[0])
    report.progress(45)
    for number, kind in enumerate(quantized, start=1):
        quantize(source, names[kind], kind)
        report.progress(45 + 25 * number / len(quantized))
    if "f16" not in names:
        remove(source)
    return names
