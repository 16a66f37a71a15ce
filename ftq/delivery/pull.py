"""`ftq pull`: a model's files into a folder, checked, with what to type to use them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ftq.delivery.card import with_card
from ftq.delivery.copy import PART, cannot, copy, sha256
from ftq.delivery.parts import Model, Part
from ftq.delivery.use import commands
from ftq.errors import Refused, Unavailable
from ftq.files.run_dir import sync
from ftq.words import listed

SUMS = "SHA256SUMS"
SHOWN = 5  # files that an error names
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
Moved = Callable[[int], None]


@dataclass(frozen=True)
class Pulled:
    """`files` are (name, bytes, SHA-256); `commands` are what to type to use the model."""

    model: Model
    folder: Path
    files: tuple[tuple[str, int, str], ...]
    commands: tuple[str, ...]


def folder_of(model: Model) -> Path:
    """Where a model goes if the user names no folder: ./handbook-v3, ./handbook-v3-adapter, ./handbook-v3-merged"""
    run, kind = model.run, model.kind.partition(":")[0]
    name = f"{run.family}-v{run.version}" if run.version else run.name
    return Path(name if kind == "gguf" else f"{name}-{kind}")


def pull(model: Model, folder: Path, moved: Moved = lambda number: None) -> Pulled:
    """Copy the model's files into the folder; the same call goes on where an earlier one was stopped.

    What is there already and the same stays. Refused if another file has one of the names, before anything is written.
    """
    model = with_card(model)
    if folder.exists() and not folder.is_dir():
        raise Refused(f"{folder} is no folder", "Give another: --to DIR")
    sums = _read_sums(folder)
    there = _already_there(model, folder, moved)
    _check_room(model, folder, set(there))
    for part in model.parts:
        if part.name not in there:
            there[part.name] = copy(part, folder, model.run.name, moved)
    _write_sums(folder, sums | there)
    files = tuple((part.name, part.size, there[part.name]) for part in model.parts)
    return Pulled(model, folder, files, tuple(commands(model, folder)))


def _already_there(model: Model, folder: Path, moved: Moved) -> dict[str, str]:
    """{name: SHA-256} of the files that an earlier pull has put in place. Refused for other files of these names."""
    same, others = dict[str, str](), list[str]()
    for part in model.parts:
        path = folder / part.name
        if not path.exists() and not path.is_symlink():
            continue
        try:
            digest = _digest_if_same(part, path)
        except OSError as error:
            raise cannot(path, error) from None
        if digest:
            same[part.name] = digest
            moved(part.size)
        else:
            others.append(part.name)
    if others:
        raise Refused(
            f"{folder} is in use: it has another {listed(others, SHOWN)}. Nothing was copied.",
            f"Give a folder of its own: --to DIR. Or delete what {folder} has of these names.",
        )
    return same


def _digest_if_same(part: Part, path: Path) -> str:
    if not path.is_file() or path.stat().st_size != part.size:
        return ""
    digest = sha256(replace(part, source=path))
    return digest if digest == (part.sha256 or sha256(part)) else ""


def _check_room(model: Model, folder: Path, there: set[str]) -> None:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    need = sum(part.size - _begun(folder, part) for part in model.parts if part.name not in there)
    have = shutil.disk_usage(place).free
    if need > have:
        raise Unavailable(
            f"pulling {model.name} needs {need / 1e9:.2f} GB in {folder}, but only {have / 1e9:.2f} GB are free",
            "Make room there, or give another folder: --to DIR",
        )


def _begun(folder: Path, part: Part) -> int:
    try:
        return min(part.size, (folder / (part.name + PART)).stat().st_size)
    except OSError:
        return 0


def _read_sums(folder: Path) -> dict[str, str]:
    """{name: SHA-256} that an earlier pull has written. Refused if the file is something else."""
    path = folder / SUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise cannot(path, error) from None
    except UnicodeDecodeError:
        lines = [""]
    read = [_LINE.fullmatch(line) for line in lines]
    if not all(read):
        raise Refused(
            f"{folder} is in use: it has another {SUMS}. Nothing was copied.",
            f"Give a folder of its own: --to DIR. Or delete {path}.",
        )
    return {line[2]: line[1] for line in read if line}


def _write_sums(folder: Path, sums: dict[str, str]) -> None:
    """For `sha256sum -c SHA256SUMS`."""
    path = folder / SUMS
    beside = path.with_name(SUMS + PART)
    try:
        beside.write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)), encoding="utf-8")
        sync(beside)
        beside.replace(path)
        sync(folder)
    except OSError as error:
        raise cannot(path, error) from None
