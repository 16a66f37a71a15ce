"""The examples as tokens: prepare leaves them beside the dataset, train reads them back.

dataset/tokens.safetensors holds, for train and for valid, the tokens of all examples end to end, how many each has, and
how many of those are its answer with the stop token. It also names what it was made of: where the dataset, the
tokenizer, the prompt or the stop token are others by now, the examples are tokenised again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ftq.errors import UserError
from ftq.examples.prompt import completion, prompt
from ftq.examples.report import DatasetReport
from ftq.files.run_dir import read_jsonl
from ftq.spec.options import Format
from worker.llama.answer import DAY
from worker.stages.model import template
from worker.stages.model.tokens import IGNORED, Tokens

PARTS = ("train", "valid")
FILE = "tokens.safetensors"
BATCH = 256  # examples that are tokenised at once: as lists, their tokens take much more memory

Row = dict[str, Any]  # "input_ids" and "labels": arrays (tokens,) of int64


def write(dataset: Path, model_dir: Path, stop: str, format: Format = "alpaca") -> list[int]:
    """Tokenise the folder's train.jsonl and valid.jsonl into tokens.safetensors; the examples' lengths in tokens."""
    from safetensors.numpy import save_file

    made = _tokenise(dataset, model_dir, stop, format)
    save_file(made, dataset / FILE, {"made_of": _made_of(dataset, model_dir, stop, format)})
    return [int(length) for part in PARTS for length in made[f"{part}_lengths"]]


def read(
    dataset: Path, model_dir: Path, report: DatasetReport, train_on_prompt: bool, format: Format = "alpaca"
) -> tuple[list[Row], list[Row]]:
    """(train, valid): no example is cut, each ends with the stop token and learns it; UserError for one that doesn't.

    The report says the stop token and the longest row.
    """
    stop, limit = report.stop, report.max_seq_length
    made_of = _made_of(dataset, model_dir, stop, format)
    made = _kept(dataset, made_of) or _tokenise(dataset, model_dir, stop, format)
    train, valid = (_rows(made, part, train_on_prompt) for part in PARTS)
    end = Tokens(model_dir).id_of(stop)
    for part, rows in zip(PARTS, (train, valid), strict=True):
        for number, row in enumerate(rows, start=1):
            check(row["input_ids"], row["labels"], end, limit, f"{part}.jsonl:{number}")
    return train, valid


def even(rows: list[Row], batch: int) -> list[Row]:
    """The rows, and up to a multiple of `batch` such as nothing is learned from: ranks that share rows that don't come
    out even would count some twice."""
    import numpy

    nothing = {"input_ids": rows[0]["input_ids"][:1], "labels": numpy.array([IGNORED])} if rows else {}
    return rows + [nothing] * (-len(rows) % batch)


def check(ids: Any, labels: Any, stop: int | None, limit: int, where: str) -> None:
    """UserError for a row that the trainer would cut, or that would teach the model never to stop."""
    hint = "The dataset was made for another model or max_seq_length: `ftq retry RUN --from prepare` makes it again."
    if len(ids) > limit:
        raise UserError(f"{where}: {len(ids)} tokens, but a row holds {limit} (max_seq_length)", hint)
    if stop is None or ids[-1] != stop or labels[-1] != stop:
        raise UserError(f"{where}: the answer doesn't end with the stop token", hint)


def _tokenise(dataset: Path, model_dir: Path, stop: str, format: Format) -> dict[str, Any]:
    import numpy

    tokens, made = Tokens(model_dir, format), {}
    for part in PARTS:
        batches = [_arrays(tokens.rows(batch, stop)) for batch in _batches(read_jsonl(dataset / f"{part}.jsonl"))]
        for position, name in enumerate(("ids", "lengths", "answers")):
            made[f"{part}_{name}"] = numpy.concatenate([arrays[position] for arrays in batches or [_arrays([])]])
    return made


def _batches(examples: Iterator[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    while batch := list(islice(examples, BATCH)):
        yield batch


def _arrays(rows: list[tuple[list[int], list[int]]]) -> tuple[Any, Any, Any]:
    """(the tokens end to end, how many each row has, how many of those are its answer)."""
    import numpy

    ids = numpy.fromiter(chain.from_iterable(ids for ids, _ in rows), numpy.int32)
    lengths = numpy.array([len(ids) for ids, _ in rows], numpy.int64)
    answers = numpy.array([len(ids) - labels.count(IGNORED) for ids, labels in rows], numpy.int64)
    return ids, lengths, answers


def _rows(made: dict[str, Any], part: str, train_on_prompt: bool) -> list[Row]:
    import numpy

    ids, lengths, answers = (made[f"{part}_{name}"] for name in ("ids", "lengths", "answers"))
    if not len(lengths):
        return []
    ids = ids.astype(numpy.int64)
    labels = ids.copy()
    if not train_on_prompt:
        turns = numpy.column_stack([lengths - answers, answers]).ravel()  # prompt, answer, prompt, answer, ...
        labels[numpy.repeat(numpy.arange(len(turns)) % 2 == 0, turns)] = IGNORED
    ends = numpy.cumsum(lengths)[:-1]
    pairs = zip(numpy.split(ids, ends), numpy.split(labels, ends), strict=True)
    return [{"input_ids": one, "labels": wanted} for one, wanted in pairs]


def _kept(dataset: Path, made_of: str) -> dict[str, Any] | None:
    """What prepare left, if it is whole and was made of the same."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(dataset / FILE, framework="numpy") as file:
            if (file.metadata() or {}).get("made_of") != made_of:
                return None
            return {name: file.get_tensor(name) for name in list(file.keys())}
    except (OSError, SafetensorError):
        return None


def _made_of(dataset: Path, model_dir: Path, stop: str, format: Format) -> str:
    """A hash of all that the tokens depend on."""
    text = prompt("a", "b") if format == "alpaca" else template.source(model_dir) + DAY
    found = hashlib.sha256((format + text + completion("c", stop)).encode())
    for path in [*(dataset / f"{part}.jsonl" for part in PARTS), *sorted(model_dir.glob("tokenizer*"))]:
        with path.open("rb") as file:
            found.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()
