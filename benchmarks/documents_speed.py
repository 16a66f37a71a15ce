"""How fast documents become a dataset: beside the tokenizer alone, and beside a peer's splitter with the tokenizer.

    python -m benchmarks.documents_speed [FOLDER] [--rounds 3] [--json FILE]

Without a folder one is made (benchmarks/api_manual.py). Each part is a process of its own, in turns, so that all see
the same machine. Beside the wall time stands the processor's: on a machine that others use too that stays the same.
The peer is semantic-text-splitter, if it is installed; nothing else needs it. Peak memory is that of all processes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from benchmarks import api_manual

MODEL = "smollm2-135m"
ROW = 2048  # tokens
BATCH = 512
ONE_CORE = {"RAYON_NUM_THREADS": "1"}

TOKENIZER = "the tokenizer alone, the documents"
ROWS = "the tokenizer alone, the rows of prepare"
PEER = "semantic-text-splitter, then the tokenizer"
PLAIN = "prepare, questions=none"
PREPARE = "prepare"
CHECK = "ftq check"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.documents_speed")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write what was measured there")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps({"tokens": PARTS[given.part](given.folder, given.work)}))
        return
    with tempfile.TemporaryDirectory(prefix="ftq-bench-") as work:
        folder = given.folder or _made(Path(work) / "api")
        measured = measure(folder, Path(work), given.rounds)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if given.folder else None
    if given.json:
        given.json.write_text(json.dumps({"bytes": size, "parts": measured}, indent=2) + "\n")
    _show(measured)


def _made(folder: Path) -> Path:
    print(f"{api_manual.FILES:,} files, {api_manual.write(folder) / 1e6:.1f} MB", file=sys.stderr)
    return folder


def measure(folder: Path, work: Path, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Rounds of each part: wall and processor seconds, tokens made, peak in MB."""
    parts = [name for name in PARTS if name != PEER or find_spec("semantic_text_splitter")]
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name in parts:
            measured[name].append(_measured(name, folder, work))
    return measured


def _measured(name: str, folder: Path, work: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.documents_speed", str(folder), "--part", name, "--work", str(work)]
    start, before = time.perf_counter(), os.times()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, **(ONE_CORE if name in (TOKENIZER, ROWS, PEER) else {})},
    )  # fmt: skip
    with _peak(process.pid) as peak:
        out, _ = process.communicate()
    after = os.times()
    if process.returncode:
        raise SystemExit(f"{name}: exit code {process.returncode}")
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    tokens: dict[str, float] = json.loads(out.splitlines()[-1])
    return {"wall": time.perf_counter() - start, "cpu": seconds, "peak": peak[0] / 1e6, **tokens}


@contextmanager
def _peak(pid: int) -> Iterator[list[int]]:
    """The most memory that a process and its children had together."""
    peak, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            try:
                parent = psutil.Process(pid)
                sizes = [one.memory_info().rss for one in (parent, *parent.children(recursive=True))]
            except psutil.Error:
                continue
            peak[0] = max(peak[0], sum(sizes))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _show(measured: dict[str, list[dict[str, float]]]) -> None:
    print("| what | wall | processor | tokens | tokens/s of processor | peak |\n|---|---|---|---|---|---|")
    speeds = {}
    for name, rounds in measured.items():
        middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        speeds[name] = middle["tokens"] / middle["cpu"]
        print(
            f"| {name} | {middle['wall']:.1f} s | {middle['cpu']:.1f} s | {middle['tokens']:,.0f} | "
            f"{speeds[name]:,.0f} | {middle['peak']:,.0f} MB |"
        )
    for name, beside in ((PLAIN, TOKENIZER), (PLAIN, PEER), (PREPARE, ROWS)):
        if beside in speeds:
            print(f"\n{name} makes {speeds[name] / speeds[beside]:.0%} of the tokens a second of: {beside}")


# ---- the parts ----------------------------------------------------------------------------------------------


def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    from worker.stages.model import base_model

    tokenizer = Tokenizer.from_file(str(base_model.resolve(MODEL) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _count(tokenizer: Any, texts: list[str]) -> int:
    rows = (tokenizer.encode_batch_fast(texts[at : at + BATCH]) for at in range(0, len(texts), BATCH))
    return sum(len(row.ids) for batch in rows for row in batch)


def _texts(folder: Path) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*")) if path.is_file()]


def tokenizer_alone(folder: Path, work: Path) -> int:
    return _count(_tokenizer(), _texts(folder))


def rows_alone(folder: Path, work: Path) -> int:
    from ftq.examples.prompt import completion, prompt
    from ftq.files.run_dir import read_jsonl

    rows = read_jsonl(work / "prepared" / "dataset" / "train.jsonl")
    texts = [prompt(row["instruction"], row["input"]) + completion(row["output"], "") for row in rows]
    return _count(_tokenizer(), texts)


def peer(folder: Path, work: Path) -> int:
    from semantic_text_splitter import MarkdownSplitter

    tokenizer = _tokenizer()
    splitter = MarkdownSplitter.from_huggingface_tokenizer(tokenizer, ROW)
    return _count(tokenizer, [chunk for text in _texts(folder) for chunk in splitter.chunks(text)])


def prepared(folder: Path, work: Path, **options: Any) -> int:
    """Prepare the folder's dataset in work/prepared/dataset. Its tokens."""
    from benchmarks.run_folder import make_run
    from ftq.examples.report import DatasetReport
    from ftq.files.run_dir import remove
    from ftq.spec.options import parse
    from worker.stages.prepare.prepare import prepare
    from worker.stages.process.main import Report

    class Silent(Report):
        def _send(self, event: str, values: dict[str, Any]) -> None:
            pass

    spec = {"model": MODEL, "documents": str(folder), **options}
    run, out = make_run(work / "run", spec), work / "prepared"
    run.documents.unlink(missing_ok=True)
    run.documents.symlink_to(folder.resolve(), target_is_directory=True)
    remove(out)
    out.mkdir()
    prepare(run, out, parse(spec), Silent())
    return DatasetReport.read(out / "dataset").tokens.total


def checked(folder: Path, work: Path) -> int:
    from ftq.check.check import check
    from ftq.parallel import OFTEN
    from ftq.spec.options import parse

    gc.set_threshold(OFTEN)  # as the command does
    return check(folder, parse({"model": MODEL})).report.tokens.total


PARTS: dict[str, Callable[[Path, Path], int]] = {
    TOKENIZER: tokenizer_alone,
    PEER: peer,
    PLAIN: lambda folder, work: prepared(folder, work, questions="none"),
    PREPARE: prepared,
    ROWS: rows_alone,
    CHECK: checked,
}

if __name__ == "__main__":
    main()
