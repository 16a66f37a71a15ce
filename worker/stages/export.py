"""adapter/ + base model -> merged/, model-<type>.gguf, Modelfile and README.md (the model card).

Everything happens on this machine: no network, no git, no compiler. A GGUF counts once it was loaded, wrote
a few tokens and turned out to end with the stop token that the training taught.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ftq import sizes
from ftq.artifacts import RunDir, read_jsonl, remove
from ftq.errors import FtqError, UserError
from ftq.spec import RunSpec
from worker.stages import base_model, gguf, model_card
from worker.stages.answerers import GgufAnswerer
from worker.stages.merge import merge
from worker.stages.runtime import Report, main
from worker.stages.tokens import Tokens

CHECKED_PROMPTS = 8  # examples whose tokens are compared between training and GGUF
CONTEXT = 256  # tokens: a model's whole context would take gigabytes that no check here needs


def export(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    """Write the merged model (unless keep_merged=false), a GGUF for each type, Modelfile and README.md."""
    summary = json.loads((run.dataset / "report.json").read_text(encoding="utf-8"))
    model_dir = base_model.resolve(spec.model)
    base_model.go_offline()
    _check_disk(out, model_dir, spec)
    report.progress(0)
    merged = out / "merged"
    merge(model_dir, run.adapter, merged, summary["stop"])
    _finish_config(merged)
    report.progress(30)
    files = _write_ggufs(merged, out, spec, report)
    stop_id = Tokens(model_dir).id_of(summary["stop"])
    for file in files:
        _check(file, stop_id)
    _compare_tokens(run, model_dir, files[0], report)
    (out / "Modelfile").write_text(model_card.modelfile(spec, summary), encoding="utf-8")
    (out / "README.md").write_text(model_card.readme(run, spec, summary, files), encoding="utf-8")
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
    """Convert once to f16, quantise from it; a bf16 file comes straight from the converter too."""
    names: dict[str, Path] = {kind: RunDir(out).gguf(kind) for kind in spec.quantizations}
    quantized = [kind for kind in names if kind not in gguf.CONVERTED]
    source = RunDir(out).gguf("f16")
    converted = [kind for kind in gguf.CONVERTED if kind in names or (kind == "f16" and quantized)]
    for number, kind in enumerate([*converted, *quantized], start=1):
        if kind in converted:
            gguf.convert(merged, RunDir(out).gguf(kind), kind)
        else:
            gguf.quantize(source, names[kind], kind)
        report.progress(30 + 60 * number / (len(converted) + len(quantized)))
    if "f16" not in names:
        remove(source)
    return list(names.values())


def _check(file: Path, stop_id: int | None) -> None:
    """Load the file and let it write; its end-of-sequence token must be the stop token."""
    ends_with = gguf.metadata(file).get("tokenizer.ggml.eos_token_id")
    if ends_with != stop_id:
        raise FtqError(f"{file.name} ends with token {ends_with}, but the training taught {stop_id}", "This is a bug.")
    answerer = GgufAnswerer(file, CONTEXT)
    written = answerer.answer("What is this about?", max_tokens=4, temperature=0)
    answerer.close()
    if written["tokens"] == 0 and not written["stopped"]:
        raise FtqError(f"{file.name} loads, but writes nothing", "This is a bug; the log has the details.")


def _compare_tokens(run: RunDir, model_dir: Path, file: Path, report: Report) -> None:
    """The same prompt must be the same tokens in the GGUF as in training, or the model is asked in another tongue."""
    tokens, answerer = Tokens(model_dir), GgufAnswerer(file, CONTEXT)
    examples = [row for _, row in zip(range(CHECKED_PROMPTS), read_jsonl(run.dataset / "train.jsonl"), strict=False)]
    different = [row for row in examples if answerer.tokens(row["instruction"], row["input"])
                 != tokens.prompt(row["instruction"], row["input"])]  # fmt: skip
    answerer.close()
    if different:
        shown = different[0]["instruction"][:60]
        report.event("warning", f"llama.cpp splits {len(different)} of {len(examples)} prompts into other tokens "
                                f"than the training did, for example {shown!r}: answers may suffer")  # fmt: skip


if __name__ == "__main__":
    main("export", export)
