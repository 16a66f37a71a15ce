"""Documents -> dataset/{train,valid}.jsonl, their tokens and report.json.

Nothing is cut silently: every file and every record is used, or skipped with a reason. What a later stage
would fail on (no base model, no room for the export) is said here, before any time is spent.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftq.errors import UserError, utf8
from ftq.examples import json_records, markdown
from ftq.files.run_dir import RunDir, write_json, write_jsonl
from ftq.files.snapshot import SUFFIXES
from ftq.plan import sizes
from ftq.spec import models
from ftq.spec.options import RunSpec
from worker.stages.model import base_model, convertible, revisions, rows
from worker.stages.model.tokens import Tokens
from worker.stages.process.main import Report

SHOWN = 20  # skipped files and records that are told one by one; report.json has them all

Example = dict[str, str]  # instruction, input, output, source


@dataclass
class Found:
    """What the documents gave."""

    examples: list[Example] = field(default_factory=list)
    used: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    records_skipped: list[dict[str, str]] = field(default_factory=list)
    duplicates: int = 0
    split: int = 0

    def skip(self, path: str, reason: str) -> None:
        """Note a file that gives nothing. Names and keys of records may hold what no file and no database takes."""
        self.skipped.append({"path": utf8(path), "reason": utf8(reason)})

    def skip_record(self, where: str, reason: str) -> None:
        self.records_skipped.append({"where": utf8(where), "reason": utf8(reason)})


@dataclass(frozen=True)
class Limit:
    """Says whether an example fits into a row: `tokens` of prompt, answer and stop token together."""

    tokenizer: Tokens
    stop: str
    tokens: int

    def fits(self, example: Example) -> bool:
        return len(self.tokenizer.row(example, self.stop)[0]) <= self.tokens


def prepare(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    """Write dataset/ into `out`. UserError when the documents give no example at all."""
    model_dir = base_model.resolve(spec.model)
    limit = _limit(model_dir, spec, report)
    _check_export(run, model_dir, spec, limit.stop)
    report.progress(5)
    found = _read_documents(run.documents, limit, report)
    _tell_skipped(found, report)
    train, valid = _split(found.examples, spec)
    dataset = out / "dataset"
    dataset.mkdir()
    write_jsonl(dataset / "train.jsonl", train)
    write_jsonl(dataset / "valid.jsonl", valid)
    lengths = rows.write(dataset, model_dir, limit.stop)
    summary = _summary(found, train, valid, limit, lengths)
    write_json(dataset / "report.json", {**summary, "base_revision": revisions.of(model_dir)})
    report.progress(100)


def _limit(model_dir: Path, spec: RunSpec, report: Report) -> Limit:
    stop = base_model.stop_token(model_dir, spec.model)
    context = models.context_in(base_model.read_config(model_dir)) or spec.max_seq_length
    if context < spec.max_seq_length:
        report.event("note", f"{spec.model} reads at most {context} tokens: max_seq_length={context} is used")
    return Limit(Tokens(model_dir), stop, min(context, spec.max_seq_length))


def _check_export(run: RunDir, model_dir: Path, spec: RunSpec, stop: str) -> None:
    """The base model can become a GGUF, and the disk has room for all that the export writes."""
    convertible.check_convertible(model_dir, spec.model, stop)
    need = sizes.export(base_model.parameters(model_dir), spec.quantizations)
    have = shutil.disk_usage(run.path).free
    if have < need:
        raise UserError(
            f"the export needs {need / 1e9:.1f} GB of disk in {run.path}, but only {have / 1e9:.1f} GB are free",
            "Make room there, or ask for fewer --quant types.",
        )


def _read_documents(folder: Path, limit: Limit, report: Report) -> Found:
    found = Found()
    seen: set[tuple[str, ...]] = set()
    files = list(_files(folder, found))
    for number, path in enumerate(files, start=1):
        _read_one(path, folder, limit, found, seen)
        report.progress(5 + 90 * number / len(files))
    if not found.examples:
        raise UserError(*_nothing(folder, found))
    return found


def _files(folder: Path, found: Found) -> Iterator[Path]:
    """The documents in order of their paths; what is left out is noted in `found`."""
    root = folder.resolve()
    for place, folders, names in os.walk(folder):
        for name in [n for n in folders if n.startswith(".") or Path(place, n).is_symlink()]:
            folders.remove(name)
            found.skip(_name(Path(place, name), folder), "hidden or linked folder")
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            reason = _left_out(path, root)
            if reason:
                found.skip(_name(path, folder), reason)
            else:
                yield path


def _left_out(path: Path, root: Path) -> str:
    if path.name.startswith("."):
        return "hidden file"
    if path.suffix.lower() not in SUFFIXES:
        return "not .md, .json or .jsonl"
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        return "a link that leaves the documents folder"
    return "" if path.is_file() else "not a file"


def _read_one(path: Path, folder: Path, limit: Limit, found: Found, seen: set[tuple[str, ...]]) -> None:
    name, before, bad = _name(path, folder), len(found.examples), len(found.records_skipped)
    known = found.duplicates
    try:
        for where, candidate in _candidates(path, name, _text(path)):
            if isinstance(candidate, str):
                found.skip_record(where, candidate)
            else:
                _add(candidate, where, limit, found, seen)
    except (OSError, ValueError) as error:
        found.skip(name, _reason(error))
        return
    made = len(found.examples) - before
    if made or found.duplicates > known:
        found.used.append({"path": name, "examples": made})
    else:
        first = next((row["reason"] for row in found.records_skipped[bad:]), "no text in it but headings")
        found.skip(name, f"nothing usable: {first}")


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line}: not UTF-8 text (byte 0x{data[error.start]:02x})") from None
    if not text.strip():
        raise ValueError("empty")
    return text


def _reason(error: Exception) -> str:
    return f"can't be read ({error.strerror})" if isinstance(error, OSError) else str(error)


def _candidates(path: Path, name: str, text: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    if path.suffix.lower() in (".md", ".markdown"):
        for section in markdown.sections(text):
            heading = section.path[-1] if section.path else ""
            example = {"instruction": _question(section.path, utf8(path.stem)), "input": "", "blocks": section.blocks}
            yield f"{name}:{section.line}", {**example, "source": f"{name}#{heading}" if heading else name}
        return
    for where, row in json_records.examples(text, is_lines=path.suffix.lower() == ".jsonl"):
        if isinstance(row, str):
            yield f"{name}: {where}", row
        else:
            blocks = tuple(row["output"].split("\n\n"))
            yield f"{name}: {where}", {**row, "blocks": blocks, "source": f"{name}#{where}"}


def _question(path: tuple[str, ...], stem: str) -> str:
    """The instruction for a section: its heading if that is a question, else a request to explain it."""
    if not path:
        return f'Explain "{stem.replace("-", " ").replace("_", " ")}".'
    *above, heading = path
    if heading.endswith("?"):
        return heading
    return f'Explain "{heading}" ({", ".join(above)}).' if above else f'Explain "{heading}".'


def _add(candidate: dict[str, Any], where: str, limit: Limit, found: Found, seen: set[tuple[str, ...]]) -> None:
    """Add a candidate as one example, or as several where its text is too long for a row."""
    blocks = candidate.pop("blocks")
    whole = {"instruction": candidate["instruction"], "input": candidate["input"],
             "output": "\n\n".join(blocks).strip(), "source": candidate["source"]}  # fmt: skip
    key = (whole["instruction"], whole["input"], whole["output"])
    if key in seen:
        found.duplicates += 1
        return
    seen.add(key)
    if limit.fits(whole):
        found.examples.append(whole)
        return
    parts = _parts(whole, blocks, limit)
    if not parts:
        reason = f"its question alone fills a row of {limit.tokens} tokens (max_seq_length)"
        found.skip_record(where, reason)
        return
    found.examples += parts
    found.split += 1


def _parts(whole: Example, blocks: tuple[str, ...], limit: Limit, most: int = 888) -> list[Example]:
    """The text in as many parts as it takes; none if the question leaves no room for an answer.

    Their numbers take room too: that of `most`, and if there turn out to be more parts, they are cut once more.
    """
    named = {**whole, "instruction": _part(whole, most, most)}
    if not limit.fits({**named, "output": "word word word word word word"}):
        return []
    texts = markdown.split(blocks, lambda text: limit.fits({**named, "output": text}))
    texts = [text.strip() for text in texts if text.strip()]
    parts = [
        {**whole, "instruction": _part(whole, number, len(texts)), "output": text}
        for number, text in enumerate(texts, start=1)
    ]
    return parts if all(map(limit.fits, parts)) else _parts(whole, blocks, limit, 10 * most + 8)


def _part(example: Example, number: int, total: int) -> str:
    return f"{example['instruction']} (part {number} of {total})"


def _split(examples: list[Example], spec: RunSpec) -> tuple[list[Example], list[Example]]:
    """(train, valid): by a hash of seed and content, so that a new document moves no other example.

    None may be drawn of few examples. If there are enough for one, the nearest to it is held out.
    """
    valid = [example for example in examples if _share(example, spec.seed) < spec.valid_fraction]
    if len(valid) == len(examples):
        valid = valid[1:]
    if not valid and spec.valid_fraction * len(examples) >= 1:
        valid = [min(examples, key=lambda example: _share(example, spec.seed))]
    held = {id(example) for example in valid}
    return [example for example in examples if id(example) not in held], valid


def _share(example: Example, seed: int) -> float:
    """A number from 0 to 1 that stays the same for the same example and seed."""
    content = "\x1f".join([str(seed), example["instruction"], example["input"], example["output"]])
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") / 2**64


def _summary(
    found: Found, train: list[Example], valid: list[Example], limit: Limit, lengths: list[int]
) -> dict[str, Any]:
    return {
        "documents": {"used": found.used, "skipped": found.skipped},
        "records_skipped": found.records_skipped,
        "examples": len(found.examples),
        "duplicates": found.duplicates,
        "split_into_parts": found.split,
        "train": len(train),
        "valid": len(valid),
        "tokens": {"total": sum(lengths), "longest": max(lengths), "mean": round(sum(lengths) / len(lengths), 1)},
        "max_seq_length": limit.tokens,
        "stop": limit.stop,
    }


def _tell_skipped(found: Found, report: Report) -> None:
    lines = [f"skipped {file['path']}: {file['reason']}" for file in found.skipped]
    lines += [f"skipped {row['where']}: {row['reason']}" for row in found.records_skipped]
    for line in lines[:SHOWN]:
        report.event("warning", line)
    if len(lines) > SHOWN:
        report.event("warning", f"{len(lines) - SHOWN} more were skipped; dataset/report.json names each")


def _nothing(folder: Path, found: Found) -> tuple[str, str]:
    why = [f"  {file['path']}: {file['reason']}" for file in found.skipped] or ["  the folder is empty"]
    if len(why) > SHOWN:
        why = [*why[:SHOWN], f"  and {len(why) - SHOWN} more"]
    hint = f"Put .md files with text, or .json/.jsonl files with {json_records.KNOWN}, into the documents folder."
    return "no example in the documents:\n" + "\n".join(why), hint


def _name(path: Path, folder: Path) -> str:
    return utf8(path.relative_to(folder).as_posix())
