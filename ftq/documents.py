"""The snapshot of a documents folder: taken at submit, so that later edits don't change a run."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from ftq.errors import NotFound, UserError

SUFFIXES = (".md", ".json", ".jsonl")


@dataclass
class Snapshot:
    """`hash` covers names and contents; `skipped` says which files stayed behind and why."""

    files: int = 0
    bytes: int = 0
    hash: str = ""
    skipped: list[str] = field(default_factory=list)


def find(folder: Path, leave_out: Path | None = None) -> list[Path]:
    """The documents below a folder, in a fixed order, but none below `leave_out`. UserError if there is none."""
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else "there is no such folder"
        raise NotFound(f"documents {folder}: {kind}", "Name a folder with .md, .json or .jsonl files: --documents DIR")
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and _belongs(path, folder))
    found = sorted(path for path in paths if leave_out is None or not path.resolve().is_relative_to(leave_out))
    if not found:
        others = sum(1 for path in folder.rglob("*") if path.is_file())
        what = f"documents {folder}: no .md, .json or .jsonl file in it ({others} other files)"
        raise UserError(what, "Convert what you have to Markdown or JSON, or name another folder: --documents DIR")
    return found


def snapshot(folder: Path, target: Path | None, leave_out: Path | None = None) -> Snapshot:
    """Copy the documents into `target` (None: only look). Files that can't be read are named; the others go on.

    `leave_out` is the artifacts folder: `--documents .` shall not take in what earlier runs wrote.
    """
    result, digest = Snapshot(), hashlib.sha256()
    found = find(folder, leave_out)
    result.skipped += [f"{path}: a link that leads out of the folder" for path in _links_out(folder)]
    for path in found:
        relative = path.relative_to(folder)
        try:
            content = path.read_bytes()
        except OSError as error:
            result.skipped.append(f"{path}: can't be read ({error.strerror})")
            continue
        digest.update(os.fsencode(relative) + b"\0" + hashlib.sha256(content).digest())
        result.files, result.bytes = result.files + 1, result.bytes + len(content)
        if target:
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            (target / relative).write_bytes(content)
    if not result.files:
        raise UserError(f"documents {folder}: none of its files can be read", "\n".join(result.skipped))
    result.hash = digest.hexdigest()
    return result


def _links_out(folder: Path) -> list[Path]:
    """Links to documents, or to folders, elsewhere: a link in a shared folder could lead to anybody's files."""
    links = (path for path in folder.rglob("*") if path.is_symlink() and not _is_hidden(path, folder) and path.exists())
    out = (path for path in links if not path.resolve().is_relative_to(folder.resolve()))
    return sorted(path for path in out if path.is_dir() or path.suffix.lower() in SUFFIXES)


def _belongs(path: Path, folder: Path) -> bool:
    """A plain file that isn't hidden and, if a link, doesn't lead out of the folder."""
    if _is_hidden(path, folder) or not path.is_file():
        return False
    return path.resolve().is_relative_to(folder.resolve())


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
