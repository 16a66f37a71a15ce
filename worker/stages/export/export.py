"""adapter/ + base model -> merged/, model-<type>.gguf, export.json, Modelfile and README.md (the model card).

Everything happens on this machine: no network, no git, no compiler. Converting, quantising and loading each run in a
process of their own. A file counts once it was compared with what it was made of, was loaded and asked.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ftq.errors import OPTIONS, FtqError, UserError
from ftq.examples.report import DatasetReport
from ftq.files import losses
from ftq.files import run_dir as files
from ftq.files.export_report import ExportReport
from ftq.files.run_dir import RunDir
from ftq.plan import sizes
from ftq.spec import models, recipe, weights
from ftq.spec.options import RunSpec
from worker.gguf.convert import CONVERTED, convert
from worker.gguf.importance import UNCHANGED, requantize
from worker.gguf.lora import convert_lora
from worker.gguf.quantize import quantize
from worker.llama.logits import NoNumbers
from worker.stages.export import card, importance
from worker.stages.export.measure import checks
from worker.stages.export.measure.measure import Measure
from worker.stages.export.measure.sample import sample
from worker.stages.export.measure.steps import Steps
from worker.stages.model import base_model
from worker.stages.model.merge import merge
from worker.stages.model.tokens import Tokens
from worker.stages.process.main import Report

LORA = "adapter.gguf"
AGAIN = "Make room there, then `ftq retry RUN`; the trained adapter is kept."


@dataclass(frozen=True)
class _Work:
    """What every step of one export needs. `out` gets the files, `scratch` what isn't kept."""

    run: RunDir
    out: Path
    spec: RunSpec
    report: Report
    model_dir: Path
    tokens: Tokens
    stop: str
    scratch: Path
    steps: Steps

    @property
    def merged(self) -> Path:
        return self.out / "merged"

    def gguf(self, kind: str) -> Path:
        return RunDir(self.out).gguf(kind)


def export(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    """Write the merged model (unless keep_merged=false), a GGUF for each type, and what was measured on them."""
    dataset = DatasetReport.read(run.dataset)
    model_dir = base_model.resolve(spec.model, dataset.base_revision)
    base_model.go_offline()
    parameters = weights.parameters(model_dir)
    sizes.check_room(run.path, parameters, spec.quantizations, AGAIN)
    steps = Steps(report)
    steps.reached(0)
    with tempfile.TemporaryDirectory(prefix="ftq-export-") as scratch:
        tokens = Tokens(model_dir, spec.format)
        work = _Work(run, out, spec, report, model_dir, tokens, dataset.stop, Path(scratch), steps)
        ends = _merge(work)
        with _explained(run, recipe.calmer(spec, parameters)):
            checked = _make_and_measure(work)
    files.write_json(RunDir(out).export, checked.to_json())
    modelfile = card.modelfile(spec, dataset, tokens, ends, card.system(run))
    (out / "Modelfile").write_text(modelfile, encoding="utf-8")
    trained = recipe.decided(spec, parameters)
    (out / "README.md").write_text(card.readme(run, trained, dataset, checked), encoding="utf-8")
    if not spec.keep_merged:
        files.remove(out / "merged")
    report.progress(100)


@contextmanager
def _explained(run: RunDir, calmer: str) -> Generator[None]:
    """Say of weights that compute no numbers that the training diverged, where its losses say so."""
    try:
        yield
    except NoNumbers as error:
        if not (rise := losses.rise(run.metrics)):
            raise
        raise UserError(f"{error.message}. The training diverged: {rise}", calmer, OPTIONS) from None


def _merge(work: _Work) -> list[str]:
    """Write merged/ and return every token that ends an answer."""
    with work.steps.step("merging"):
        changed = merge(work.model_dir, work.run.adapter, work.merged, work.stop, work.spec.format)
    if changed == 0:
        message = "the adapter holds nothing but zeros: the model answers as its base does"
        work.report.event("warning", f"{message}. Did it train at all? `ftq logs RUN --stage train` has the losses.")
    _finish_config(work.merged)
    work.steps.reached(15)
    return checks.ends(work.merged, work.tokens, work.stop)


def _make_and_measure(work: _Work) -> ExportReport:
    """Convert to f16 and quantise from that; a bf16 file comes straight from the converter too."""
    kinds: list[str] = [*work.spec.quantizations]
    quantized = [kind for kind in kinds if kind not in CONVERTED]
    converted = [kind for kind in CONVERTED if kind in kinds or (kind == "f16" and quantized)]
    chosen = sample(work.run, work.tokens, work.stop, work.spec.format == "chat", work.model_dir)
    measure = Measure(chosen, work.tokens, work.stop, work.report, work.scratch, work.steps)
    with ThreadPoolExecutor(1) as apart:  # the converter keeps one core busy
        converting = apart.submit(_convert, work, converted)
        measure.merged(work.model_dir, work.run.adapter, work.merged)
        converting.result()
    measure.converted(work.gguf(converted[0]), converted[0])
    work.steps.reached(45)
    weighed = _quantize(work, quantized)
    work.steps.reached(70)
    checked = measure.files(work.run, work.merged, {kind: work.gguf(kind) for kind in kinds}, weighed)
    for kind in set(converted) - set(kinds):
        files.remove(work.gguf(kind))
    return checked


def _convert(work: _Work, kinds: list[str]) -> None:
    for kind in kinds:
        name = models.name_of(work.spec.model)
        with work.steps.step(f"converting to {kind}"):
            convert(work.merged, work.gguf(kind), kind, "--model-name", name, controls=work.tokens.controls)
    if work.spec.lora_gguf:
        base_model.link(work.model_dir, work.scratch / "base")
        with work.steps.step("converting the adapter"):
            convert_lora(work.run.adapter, work.scratch / "base", work.out / LORA)
    if work.run.epochs.is_dir():
        with work.steps.step("converting the epochs' adapters"):
            _convert_epochs(work)


def _convert_epochs(work: _Work) -> None:
    """Write each epoch's adapter, to be laid over the base model. One that can't be converted is told, no failure."""
    base_model.link(work.model_dir, work.scratch / "base-of-epochs")
    for adapter in sorted(work.run.epochs.iterdir(), key=lambda path: int(path.name)):
        target = RunDir(work.out).checkpoint(int(adapter.name))
        try:
            convert_lora(adapter, work.scratch / "base-of-epochs", target)
        except FtqError as error:
            files.remove(target)
            work.report.event("warning", f"the adapter of step {adapter.name} can't be asked: {error.message}")


def _quantize(work: _Work, kinds: list[str]) -> list[str]:
    """Write the types, and return those that were quantised by importance."""
    weighed = [kind for kind in kinds if work.spec.imatrix and kind not in UNCHANGED]
    source, squares = work.gguf("f16"), work.scratch / "importance.npz"
    if weighed:
        with work.steps.step("collecting what matters"):
            importance.collect(work.run, work.merged, work.tokens, work.stop, source, squares)
    for number, kind in enumerate(kinds, start=1):
        with work.steps.step(f"quantising to {kind}"):
            quantize(source, work.gguf(kind), kind)
            if kind in weighed:
                requantize(source, work.gguf(kind), squares)
        work.steps.reached(45 + 25 * number / len(kinds))
    return weighed


def _finish_config(merged: Path) -> None:
    """The merged weights are 16 bit, whatever the base was stored in."""
    path = merged / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for name in ("dtype", "torch_dtype"):
        if config.get(name) == "float32":
            config[name] = "bfloat16"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
