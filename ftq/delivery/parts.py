"""What goes out of a run, for each kind: its files, what they are called there, and their recorded checksums."""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ftq.errors import UNREADABLE, FtqError, Refused, UserError, did_you_mean, first_line
from ftq.files.export_report import ExportReport
from ftq.files.run_dir import RunDir
from ftq.store.records import Run

KINDS = ("gguf", "adapter", "merged")
KIND_OF = {"gguf": "export", "merged": "export", "adapter": "train"}  # the stage that makes it
CARD = "README.md"
LORA = "adapter.gguf"  # the adapter for llama.cpp, where the run was told to make it


class Elsewhere(ABC):
    """A file of another machine; its checksum is known."""

    @abstractmethod
    def open(self) -> BinaryIO: ...

    @abstractmethod
    def download(self, out: BinaryIO, moved: Callable[[int], None]) -> str:
        """Make `out` the same, going on where it ends, and return its SHA-256."""


@dataclass(frozen=True)
class Part:
    """A file: `name` is its path in the target, with `/`; `source` is where it lies, or what it holds.

    `sha256` is what the export has recorded; empty where it has recorded nothing.
    """

    name: str
    size: int
    source: Path | bytes | Elsewhere
    sha256: str = ""

    def open(self) -> BinaryIO:
        if isinstance(self.source, Path):
            return self.source.open("rb")
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open()


@dataclass(frozen=True)
class Model:
    """What goes out. `file` is the GGUF file among the parts, or empty."""

    run: Run
    kind: str
    parts: tuple[Part, ...]
    file: str = ""

    @property
    def name(self) -> str:
        """handbook:3, or the run's name where it has no number."""
        return self.run.version_name or self.run.name

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(part.size for part in self.parts)


def collect(run: Run, folder: RunDir, kind: str) -> Model:
    """The files of `gguf`, `gguf:q8_0`, `adapter` or `merged`. Refused if the run hasn't got them."""
    kind, _, type_ = kind.partition(":")
    if kind not in KINDS or (type_ and kind != "gguf"):
        near = did_you_mean(kind, list(KINDS))
        raise UserError(
            f"no kind of model {kind}{':' * bool(type_)}{type_}.{near}", "Known: gguf, gguf:TYPE, adapter, merged"
        )
    stage = run.stage(KIND_OF[kind])
    if stage.status != "succeeded":
        why, then = run.standing
        raise Refused(f"run {run.name} has no {kind}{' yet' * run.goes_on}: {why}", then)
    if kind == "gguf":
        return _gguf(run, folder, type_)
    place = folder.adapter if kind == "adapter" else folder.merged
    if not place.is_dir():
        why = "was told not to keep it (keep_merged=false)" if kind == "merged" else "has lost it"
        raise Refused(
            f"run {run.name} has no {kind}/: it {why}",
            f"`ftq pull {run.name} --as gguf` takes the GGUF file.",
        )
    parts = [_part(path, path.relative_to(place).as_posix()) for path in sorted(place.rglob("*")) if path.is_file()]
    others = [part for part in parts if part.name != CARD]
    lora = _files(folder, LORA) if kind == "adapter" and run.stage("export").status == "succeeded" else ()
    return Model(run, kind, (*others, *lora, *_files(folder, CARD)))


def made_anew(run: Run, folder: RunDir) -> str:
    """What makes a model again whose files were deleted: the export alone does where the adapter is still there."""
    stage = "export" if folder.adapter.is_dir() else "train"
    return f"`ftq retry {run.name} --from {stage}` makes it anew."


def _gguf(run: Run, folder: RunDir, type_: str) -> Model:
    """One GGUF file: the wanted one, or the first that the run was asked for; its Modelfile names that file."""
    there = folder.quantizations()
    asked = [name for name in run.spec.get("quantizations", []) if name in there]
    if not there:
        raise Refused(f"run {run.name} has no GGUF file", made_anew(run, folder))
    chosen = type_ or (asked or there)[0]
    if chosen not in there:
        from ftq.spec.options import QUANTIZATIONS  # pydantic takes 0.1 s to import

        if chosen not in QUANTIZATIONS:
            near = did_you_mean(chosen, there)
            raise UserError(f"unknown quantisation {chosen}.{near}", f"{run.name} has {', '.join(there)}")
        wanted = ",".join([*there, chosen])
        raise Refused(
            f"run {run.name} has no {chosen}, it has {', '.join(there)}",
            f"Take one of these, or submit it again with --set quantizations={wanted}: only the export is made anew.",
        )
    path = folder.gguf(chosen)
    file = _part(path, path.name, _recorded(run, folder).get(path.name, ""))
    return Model(run, f"gguf:{chosen}", (file, *_modelfile(folder, path.name), *_files(folder, CARD)), path.name)


def _modelfile(folder: RunDir, file: str) -> tuple[Part, ...]:
    """Ollama's Modelfile, from the file that goes out: the run's own names its first GGUF file."""
    path = folder.path / "Modelfile"
    if not path.is_file():
        return ()
    text = re.sub(r"(?m)^FROM .*$", f"FROM ./{file}", path.read_bytes().decode(), count=1)
    data = text.encode()
    return (Part("Modelfile", len(data), data),)


def _files(folder: RunDir, *names: str) -> tuple[Part, ...]:
    paths = (folder.path / name for name in names)
    return tuple(_part(path, path.name) for path in paths if path.is_file())


def _part(path: Path, name: str, sha256: str = "") -> Part:
    return Part(name, path.stat().st_size, path, sha256)


def _recorded(run: Run, folder: RunDir) -> dict[str, str]:
    """{file: sha256} of the GGUF files, as the export measured them; empty for a run of an earlier ftq."""
    if not folder.export.exists():
        return {}
    try:
        return {one.file: one.sha256 for one in ExportReport.read(folder.path).ggufs}
    except UNREADABLE as error:
        raise FtqError(
            f"{folder.export} can't be read: {first_line(error)}",
            f"It has the checksums. `ftq retry {run.name} --from export` makes it anew.",
        ) from None
