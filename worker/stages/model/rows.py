"""The examples as tokens: prepare leaves them beside the dataset, train reads them back.

dataset/tokens.safetensors holds, for train and for valid, the tokens of all examples end to end, how many each has, and
how many of those are its answer with the stop token. It also has a hash of what it was made from: if the dataset, the
tokenizer, the prompt or the stop token have changed since, the examples are tokenised again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ftq.errors import UserError
from ftq.examples.prompt import completion, prompt
from ftq.examples.report import DatasetReport
from ftq.examples.split import Example
from ftq.spec.options import Format
from ftq.spec.weights import header_bytes
from worker.llama.answer import DAY
from worker.stages.model import template
from worker.stages.model.tokens import IGNORED, Tokens

PARTS = ("train", "valid")
FILE = "tokens.safetensors"
BATCH = 256  # examples that are tokenised at once: lists of tokens take much more memory than arrays
LOOKED_AT = 2**22  # tokens that are read back at once

Row = dict[str, Any]  # "input_ids" and "labels": arrays (tokens,) of int64


def write(
    dataset: Path,
    model_dir: Path,
    stop: str,
    format: Format = "alpaca",
    tokens: Tokens | None = None,
    look: Callable[[list[Example], list[int]], None] = lambda examples, lengths: None,
) -> list[int]:
    """Tokenise train.jsonl and valid.jsonl into tokens.safetensors. Return the examples' lengths in tokens.

    `tokens` are the model's, if the caller has them. Batch after batch is shown to `look`, with the lengths.
    """
    tokens = tokens or Tokens(model_dir, format)
    numbers: dict[str, array[int]] = {}
    spilled = {f"{part}_ids": dataset / f"{part}.tokens" for part in PARTS}
    for part in PARTS:
        lengths, answers = numbers[f"{part}_lengths"], numbers[f"{part}_answers"] = array("q"), array("q")
        with spilled[f"{part}_ids"].open("wb") as file:
            for examples in _batches(dataset, part):
                for asked, answer in tokens.pairs(examples, stop):
                    file.write(asked + answer)
                    lengths.append(len(asked) + len(answer))
                    answers.append(len(answer))
                look(examples, lengths[-len(examples) :].tolist())
    _save(dataset / FILE, numbers, spilled, _made_of(dataset, model_dir, stop, format))
    return [length for part in PARTS for length in numbers[f"{part}_lengths"]]


def _save(path: Path, numbers: dict[str, array[int]], spilled: dict[str, Path], made_of: str) -> None:
    """Write what safetensors.numpy.save_file would, which wants twice the memory of all tokens."""
    at, header = 0, dict[str, Any]({"__metadata__": {"made_of": made_of}})
    bytes_of = {name: 8 * len(values) for name, values in numbers.items()}
    for name, size in [*bytes_of.items(), *((name, file.stat().st_size) for name, file in spilled.items())]:
        dtype, width = ("I64", 8) if name in numbers else ("I32", 4)
        header[name] = {"dtype": dtype, "shape": [size // width], "data_offsets": [at, at + size]}
        at += size
    with path.open("wb") as out:
        out.write(header_bytes(header))
        for values in numbers.values():
            values.tofile(out)
        for file in spilled.values():
            with file.open("rb") as ids:
                shutil.copyfileobj(ids, out)
            file.unlink()


def check_vocabulary(dataset: Path, tokens: Tokens, size: int) -> None:
    """UserError for a token of the examples that is none of the model's `size`: one that was added to its tokenizer."""
    from safetensors import safe_open

    with safe_open(dataset / FILE, framework="numpy") as file:
        slices = [file.get_slice(f"{part}_ids") for part in PARTS]
        sizes = [ids.get_shape()[0] for ids in slices]
        some = (
            ids[start : min(size, start + LOOKED_AT)]
            for ids, size in zip(slices, sizes, strict=True)
            for start in range(0, size, LOOKED_AT)
        )
        largest = max((int(ids.max()) for ids in some), default=0)
    if largest >= size:
        raise UserError(
            f"the examples have the token {tokens.text_of(largest)}, number {largest}: the model has {size} tokens",
            "Take the tokenizer that belongs to these weights: most likely tokens were added to this one afterwards.",
        )


def read(
    dataset: Path, model_dir: Path, report: DatasetReport, train_on_prompt: bool, format: Format = "alpaca"
) -> tuple[list[Row], list[Row]]:
    """(train, valid). UserError for an example that would be cut or doesn't end with the stop token.

    The report has the stop token and the limit of a row's length.
    """
    stop, limit = report.stop, report.max_seq_length
    made_of = _made_of(dataset, model_dir, stop, format)
    arrays = _load(dataset, made_of) or _tokenise(dataset, model_dir, stop, format)
    train, valid = (_rows(arrays, part, train_on_prompt) for part in PARTS)
    end = Tokens(model_dir).id_of(stop)
    for part, rows in zip(PARTS, (train, valid), strict=True):
        for number, row in enumerate(rows, start=1):
            check(row["input_ids"], row["labels"], end, limit, f"{part}.jsonl:{number}")
    return train, valid


def encoded(tokens: Tokens, examples: list[Example], stop: str, train_on_prompt: bool) -> list[Row]:
    """The examples as rows, without reading or writing a file."""
    import numpy

    return [
        {"input_ids": numpy.array(ids), "labels": numpy.array(ids if train_on_prompt else labels)}
        for ids, labels in tokens.rows(examples, stop)
    ]


def even(rows: list[Row], batch: int) -> list[Row]:
    """Pad the list to a multiple of `batch` with rows that have no labels, so that no rank sees a row twice."""
    import numpy

    empty = {"input_ids": rows[0]["input_ids"][:1], "labels": numpy.array([IGNORED])} if rows else {}
    return rows + [empty] * (-len(rows) % batch)


def check(ids: Any, labels: Any, stop: int | None, limit: int, where: str) -> None:
    """UserError for a row that the trainer would cut, or that would teach the model never to stop."""
    hint = "The dataset was made for another model or max_seq_length: `ftq retry RUN --from prepare` makes it again."
    if len(ids) > limit:
        raise UserError(f"{where}: {len(ids)} tokens, but a row holds {limit} (max_seq_length)", hint)
    if stop is None or ids[-1] != stop or labels[-1] != stop:
        raise UserError(f"{where}: the answer doesn't end with the stop token", hint)


def _tokenise(dataset: Path, model_dir: Path, stop: str, format: Format) -> dict[str, Any]:
    import numpy

    tokens = Tokens(model_dir, format)
    parts: dict[str, array[int]] = {}
    for part in PARTS:
        ids, lengths, answers = array("i"), array("q"), array("q")
        for asked, answer in chain.from_iterable(tokens.pairs(some, stop) for some in _batches(dataset, part)):
            ids.extend(asked)
            ids.extend(answer)
            lengths.append(len(asked) + len(answer))
            answers.append(len(answer))
        parts |= {f"{part}_ids": ids, f"{part}_lengths": lengths, f"{part}_answers": answers}
    return {name: numpy.asarray(numbers) for name, numbers in parts.items()}


def _batches(dataset: Path, part: str) -> Iterator[list[Example]]:
    with (dataset / f"{part}.jsonl").open(encoding="utf-8") as lines:
        while batch := list(islice(lines, BATCH)):
            yield json.loads(f"[{','.join(batch)}]")  # in half the time that line by line takes


def _rows(arrays: dict[str, Any], part: str, train_on_prompt: bool) -> list[Row]:
    import numpy

    ids, lengths, answers = (arrays[f"{part}_{name}"] for name in ("ids", "lengths", "answers"))
    if not len(lengths):
        return []
    ids = ids.astype(numpy.int64)
    labels = ids.copy()
    if not train_on_prompt:
        turns = numpy.column_stack([lengths - answers, answers]).ravel()  # prompt, answer, prompt, answer, ...
        labels[numpy.repeat(numpy.arange(len(turns)) % 2 == 0, turns)] = IGNORED
    ends = numpy.cumsum(lengths)[:-1]
    pairs = zip(numpy.split(ids, ends), numpy.split(labels, ends), strict=True)
    return [{"input_ids": row_ids, "labels": row_labels} for row_ids, row_labels in pairs]


def _load(dataset: Path, made_of: str) -> dict[str, Any] | None:
    """The arrays that prepare wrote; None if the file is damaged or was made from something else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(dataset / FILE, framework="numpy") as file:
            if (file.metadata() or {}).get("made_of") != made_of:
                return None
            return {name: file.get_tensor(name) for name in list(file.keys())}
    except (OSError, SafetensorError):
        return None


def _made_of(dataset: Path, model_dir: Path, stop: str, format: Format) -> str:
    """A hash of everything that the tokens depend on."""
    text = prompt("a", "b") if format == "alpaca" else template.source(model_dir) + DAY
    digest = hashlib.sha256((format + text + completion("c", stop)).encode())
    for path in [*(dataset / f"{part}.jsonl" for part in PARTS), *sorted(model_dir.glob("tokenizer*"))]:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
