"""Every path and file name under artifacts/<run>/, and how files are put there.

A file that exists is complete, also after a power cut: a stage writes into a folder of its own attempt, and the files
are checked, synced to the disk and only then renamed into place.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ftq.errors import FtqError
from ftq.files.artifact import Artifact, gguf_name, quantization_of
from ftq.files.disk import COPIED_AT_ONCE, replacing, size_of

STAGES = ("prepare", "train", "export", "infer", "evaluate")
REPORT = "report.json"  # in dataset/: what prepare tells, see ftq/examples/report.py
SYNC_SECONDS = 0.5
SYNCED_AT_ONCE = 16  # files
LINKED_FROM = 2**20  # bytes; smaller files are copied, so that a person may edit one run's model card
NOT_SYNCED = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)  # a network's file system may be unable to sync folders

# What each stage publishes; `*` stands for the quantisation.
OUTPUTS = {
    "prepare": ("dataset",),
    "train": ("adapter", "epochs", "metrics.jsonl"),
    "export": ("merged", "model-*.gguf", "adapter.gguf", "checkpoint-*.gguf", "export.json", "Modelfile", "README.md"),
    "infer": ("answers.jsonl",),
    "evaluate": ("eval.json", "report.html", "loss.png"),
}


class RunDir:
    """One run's folder. Paths are computed on access; reading one creates nothing."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.abspath(path))  # gives `.` a name and doesn't follow links

    # written at submit
    @property
    def run_json(self) -> Path:
        return self.path / "run.json"

    @property
    def submitting(self) -> Path:
        """A mark that the run may not be recorded: it is being submitted, or deleted.

        Where that was killed, `gc` clears the folder of a run that the database doesn't know, else the mark.
        """
        return self.path / ".submitting"

    @property
    def documents(self) -> Path:
        return self.path / "documents"

    @property
    def validation(self) -> Path:
        """The documents that are only measured on; there is none unless the run has the option."""
        return self.path / "validation"

    @property
    def left_out(self) -> Path:
        """What lay beside the documents and wasn't taken: [[name, reason], ...]; none if nothing did."""
        return self.path / "left_out.json"

    # written by the stages
    @property
    def dataset(self) -> Path:
        return self.path / "dataset"

    @property
    def questions(self) -> Path:
        """What a language model has written so far: the next attempt of prepare goes on there."""
        return self.path / "questions.partial.jsonl"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def epochs(self) -> Path:
        """epochs/<step>: the adapters of the last epochs, with the option epoch_adapters."""
        return self.path / "epochs"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def merged(self) -> Path:
        return self.path / "merged"

    @property
    def answers(self) -> Path:
        return self.path / "answers.jsonl"

    @property
    def evaluation(self) -> Path:
        return self.path / "eval.json"

    @property
    def export(self) -> Path:
        """What the export has measured, see ftq/files/export_report.py."""
        return self.path / "export.json"

    @property
    def own_questions(self) -> Path:
        """The user's questions with accepted answers, as they were at submit."""
        return self.path / "questions.json"

    @property
    def checkpoints(self) -> Path:
        """checkpoints/<attempt>/checkpoint-<step>: with a folder per attempt, a frozen one can't damage another's."""
        return self.path / "checkpoints"

    @property
    def train_json(self) -> Path:
        """checkpoints/train.json: what an attempt of train is told, see Handover in ftq/plan/plan.py."""
        return self.checkpoints / "train.json"

    def gguf(self, quantization: str) -> Path:
        return self.path / gguf_name(quantization)

    def checkpoint(self, step: int) -> Path:
        """The adapter at the end of an epoch, to be laid over the base model's GGUF."""
        return self.path / f"checkpoint-{step}.gguf"

    def ggufs(self) -> list[Path]:
        return sorted(self.path.glob(gguf_name("*")))

    def quantizations(self) -> list[str]:
        """Of the models that are there, in the order of their files."""
        return [quantization_of(path.name) for path in self.ggufs()]

    def log(self, stage: str) -> Path:
        return self.path / "logs" / f"{stage}.log"

    def partial(self, stage: str, attempt: int) -> Path:
        """Where an attempt writes before it is published."""
        return self.path / f"{stage}.{attempt}.partial"

    def read_run(self) -> dict[str, Any]:
        """run.json: {"id", "name", "spec", "documents_hash"}."""
        value: dict[str, Any] = json.loads(self.run_json.read_text(encoding="utf-8"))
        return value

    def outputs(self, stage: str) -> list[Path]:
        """What the stage has published here."""
        return sorted(path for pattern in OUTPUTS[stage] for path in self.path.glob(pattern))

    def publish(self, stage: str, partial: Path) -> None:
        """Sync everything in `partial` and put it in place, instead of what an earlier attempt published."""
        sync_tree(partial)
        self.put_in_place(stage, partial)
        sync(self.path)
        remove(partial)

    def put_in_place(self, stage: str, partial: Path) -> None:
        """Rename everything in `partial`, which is synced, into place; the replaced files go to `partial`/.replaced."""
        new, replaced = sorted(partial.iterdir()), partial / ".replaced"
        replaced.mkdir()
        for path in self.outputs(stage):
            os.replace(path, replaced / path.name)
        for path in new:
            os.replace(path, self.path / path.name)

    def clear_partials(self, stage: str, attempt: int) -> None:
        """Remove the partial folders of attempts up to this one. A later attempt may be at work in its own."""
        for old in self.path.glob(f"{stage}.*.partial"):
            if int(old.name.split(".")[1]) <= attempt:
                remove(old)

    def forget_checkpoints(self, before: int) -> None:
        """Remove the checkpoints of attempts before this one; without later ones the plan (train.json) too."""
        attempts = [path for path in self.checkpoints.glob("*") if path.name.isdigit()]
        old = [path for path in attempts if int(path.name) < before]
        for path in old if len(old) < len(attempts) else [self.checkpoints]:
            remove(path)

    def artifacts(self, stage: str) -> list[Artifact]:
        return [Artifact(_kind(path), path.name, size_of(path)) for path in self.outputs(stage)]


def run_dir(home: Path, run_id: str) -> RunDir:
    """The run's folder. FtqError for an id that could name a folder elsewhere: others may write to the database."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", run_id):
        raise FtqError(f"{run_id!r} is no run's id", "The database was written by something else than ftq.")
    return RunDir(home / run_id)


def _kind(path: Path) -> str:
    return "gguf" if path.suffix == ".gguf" else path.stem.lower() if path.name != "README.md" else "model_card"


def write_json(path: Path, value: Any) -> None:
    """Lone surrogates are written as `backslashreplace` does, which is JSON's own escape."""
    put_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", errors="backslashreplace")


def put_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write beside, sync, then rename, so that no reader sees half a file."""
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8", errors=errors)
        sync(new)
    sync(path.parent)


def read_jsonl(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def write_jsonl(path: Path, rows: list[Any]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def sync(path: Path) -> None:
    """Write a file's bytes, or a folder's list of names, to the disk: a power cut loses what is only in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_SYNCED or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Sync every file and folder below, then the folder, so that it is whole when it is renamed.

    Gigabytes may take minutes: `meanwhile` is called again and again.
    """
    from concurrent.futures import ThreadPoolExecutor, wait

    with ThreadPoolExecutor(1) as pool:
        syncing = pool.submit(_sync_below, folder)
        while wait([syncing], timeout=SYNC_SECONDS).not_done:
            meanwhile()
        syncing.result()


def _sync_below(folder: Path) -> None:
    """Many at once: a file system writes its journal once for all who wait, not once for each file."""
    from concurrent.futures import ThreadPoolExecutor

    found = list(os.walk(folder, topdown=False))
    files = [Path(place, name) for place, _, names in found for name in names]
    with ThreadPoolExecutor(SYNCED_AT_ONCE) as pool:
        list(pool.map(sync, [path for path in files if stat.S_ISREG(path.lstat().st_mode)]))
    for place, *_ in found:
        sync(Path(place))


def link_tree(source: Path, target: Path, while_copying: Callable[[], None] = lambda: None) -> None:
    """Copy a file or folder. Large files become hard links, or are copied if the file system has none.

    Copying may take minutes: `while_copying` is called again and again meanwhile.
    """

    def link(a: str, b: str) -> None:
        if os.path.getsize(a) >= LINKED_FROM:
            with contextlib.suppress(OSError):
                os.link(a, b)
                return
        _copy(a, b, while_copying)

    if not source.is_dir():
        link(str(source), str(target))
    for place, _, names in os.walk(source):
        beside = target / os.path.relpath(place, source)
        beside.mkdir()
        for name in names:
            link(os.path.join(place, name), str(beside / name))


def _copy(source: str, target: str, while_copying: Callable[[], None]) -> None:
    with open(source, "rb") as bytes_in, open(target, "wb") as bytes_out:
        while chunk := bytes_in.read(COPIED_AT_ONCE):
            bytes_out.write(chunk)
            while_copying()
    with contextlib.suppress(OSError):  # not every disk keeps modes
        shutil.copystat(source, target)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
