"""What a GGUF expects next, token by token: perplexity, and how far that is from another model's.

`python -m worker.llama.logits` reads an order as JSON from standard input and writes the result to standard output.
It computes with cyllama, the other of the two packages that hold llama.cpp: xllamacpp answers.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftq.errors import FtqError
from ftq.files.export_report import Distance
from worker.machine.crash import ended
from worker.machine.hardware import computing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Logits = NDArray[np.float32]

MOST_NUMBERS = 2**24  # logits that are kept for a comparison: 64 MiB
HINT = "The log has all of it: `ftq logs RUN --stage export`."


class Unreadable(FtqError):
    """This llama.cpp can't load the file, or has died on it."""


class NoNumbers(FtqError):
    """What the file computes is NaN or infinite."""


@dataclass(frozen=True)
class Row:
    """Token ids, and where among them the answer begins: its tokens are the ones that are scored."""

    ids: list[int]
    first: int

    @property
    def positions(self) -> int:
        return len(self.ids) - self.first


@dataclass(frozen=True)
class Scored:
    """`expected` is the share of tokens that the model itself would have written next.

    `distance` is that from the reference, if there was one.
    """

    positions: int
    perplexity: float
    expected: float
    distance: Distance | None = None


def most_positions(vocabulary: int) -> int:
    """How many positions may be compared with logits of so many tokens."""
    return max(1, MOST_NUMBERS // vocabulary)


def score(file: Path, rows: list[Row], *, reference: Path | None = None, keep: Path | None = None) -> Scored:
    """Score the rows' answers, in a process of its own.

    `reference` is a file of logits to compare with, `keep` where this model's are written: float32, of the shape
    (positions, vocabulary). Unreadable with llama.cpp's last line; NoNumbers if the logits aren't numbers.
    """
    order = {
        "model": str(file),
        "rows": [asdict(row) for row in rows],
        "reference": str(reference or ""),
        "keep": str(keep or ""),
    }
    process = subprocess.run(
        [sys.executable, "-m", "worker.llama.logits"],
        input=json.dumps(order),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env={"OMP_WAIT_POLICY": "PASSIVE"} | os.environ | computing(),
    )
    if process.returncode:
        sys.stderr.write(process.stderr)
        last = (process.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        how = ended(process.returncode)
        raise Unreadable(f"llama.cpp can't compute with {file.name} ({how}): {last[:300]}", HINT)
    value = json.loads(process.stdout)
    if not math.isfinite(value["perplexity"]):
        raise NoNumbers(f"{file.name} computes no numbers: its weights are damaged or overflow in this type", HINT)
    return Scored(**{**value, "distance": Distance(**value["distance"]) if value["distance"] else None})


def compare(reference: Logits, logits: Logits) -> tuple[float, bool, float]:
    """(KL in nats, whether the most likely token is the same, the largest difference) of two rows of logits.

    The shorter one counts: some programs pad the vocabulary. A constant added to all logits changes nothing.
    """
    import numpy as np

    width = min(len(reference), len(logits))
    theirs, ours = (_log_softmax(one[:width].astype(np.float64)) for one in (reference, logits))
    kl = float(np.sum(np.exp(theirs) * (theirs - ours)))
    shift = np.median(reference[:width] - logits[:width])
    largest = float(np.max(np.abs(reference[:width] - logits[:width] - shift)))
    return 0.0 if kl < 0 else kl, bool(theirs.argmax() == ours.argmax()), largest


def summary(compared: list[tuple[float, bool, float]]) -> Distance:
    """The positions' comparisons as one."""
    count = len(compared)
    kl, same = sum(one[0] for one in compared) / count, sum(one[1] for one in compared) / count
    return Distance(count, round(kl, 6), round(same, 4), round(max(one[2] for one in compared), 4))


def _log_softmax(logits: Any) -> Any:
    import numpy as np

    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


# ---- in the process that computes ------------------------------------------------------------------------------


def main() -> None:
    import numpy as np

    order = json.load(sys.stdin)
    rows = [Row(**row) for row in order["rows"]]
    reference = np.load(order["reference"], mmap_mode="r") if order["reference"] else None
    kept: Any = None
    losses, compared, expected = list[float](), list[tuple[float, bool, float]](), 0
    for number, (target, logits) in enumerate(_positions(Path(order["model"]), rows)):
        losses.append(-float(_log_softmax(logits.astype(np.float64))[target]))
        expected += int(logits.argmax()) == target
        if reference is not None:
            compared.append(compare(reference[number], logits))
        if order["keep"]:
            if kept is None:
                shape = (sum(row.positions for row in rows), len(logits))
                kept = np.lib.format.open_memmap(order["keep"], "w+", np.float32, shape)
            kept[number] = logits
    mean = sum(losses) / len(losses)
    value = {
        "positions": len(losses),
        "perplexity": round(math.exp(mean), 4) if mean < 700 else math.inf,
        "expected": round(expected / len(losses), 4),
        "distance": asdict(summary(compared)) if compared else None,
    }
    print(json.dumps(value), flush=True)
    if kept is not None:
        kept.flush()
    os._exit(0)  # llama.cpp's own end has nothing more to do


def _positions(file: Path, rows: list[Row]) -> Iterator[tuple[int, Logits]]:
    """(the token that follows, the logits before it) of each scored position."""
    import numpy as np
    from cyllama.llama import llama_cpp

    class Model(llama_cpp.LlamaModel):  # type: ignore[misc]
        """cyllama asks its own model for this when it hands out logits, and the class has no such name."""

        @property
        def n_vocab(self) -> int:
            size: int = self.get_vocab().n_vocab
            return size

    llama_cpp.disable_logging()
    params = llama_cpp.LlamaModelParams()
    params.n_gpu_layers = 0
    model = Model(str(file), params)
    longest = max(len(row.ids) for row in rows)
    context = _context(llama_cpp, model, longest)
    batch = llama_cpp.LlamaBatch(n_tokens=longest, embd=0, n_seq_max=1)
    for row in rows:
        context.kv_cache_clear()
        batch.reset()
        for place, token in enumerate(row.ids[:-1]):
            batch.add(token, place, [0], place >= row.first - 1)
        context.decode(batch)
        for place in range(row.first - 1, len(row.ids) - 1):
            yield row.ids[place + 1], np.asarray(context.get_logits_ith(place), dtype=np.float32)


def _context(llama_cpp: Any, model: Any, longest: int) -> Any:
    params = llama_cpp.LlamaContextParams()
    params.n_ctx, params.n_batch, params.n_ubatch = longest, longest, longest
    params.n_threads = params.n_threads_batch = len(os.sched_getaffinity(0))
    return llama_cpp.LlamaContext(model, params)


if __name__ == "__main__":
    main()
