"""Malformed documents of all formats, through the whole check: no exception, no hang, no growth beyond the limits.

The long tier takes 10,000 of them. A folder that fails is written again by its seed. Then each construct of a document
again and again (tests/hostile.py): four times the size takes about four times the processor's time.
"""

from __future__ import annotations

import gc
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hostile import families
from office_files import SAMPLES, mutated, write

from ftq.check.check import check
from ftq.check.page import page
from ftq.formats import documents, html
from ftq.formats.kind import SUFFIXES, Unusable
from ftq.spec.options import parse

MEMORY = 500_000_000  # bytes of a process
MANUAL = Path(__file__).parent.parent / "documents"
IN_A_FOLDER = 40  # documents
TRIES = 3  # before a document is called steep: other work takes the processor's caches
PARTS = 6  # of the families, in which their growth is measured: each has the time that a test may take
SECONDS, GROWTH = 120, 300_000_000  # that a folder may take, wherever; bytes, of this process
JSON = b'[{"question": "Who?", "answer": "Ann, and 3 others."}, {"messages": [{"role": "user", "content": "Q"}, '
JSON += b'{"role": "assistant", "content": "A"}]}, {"name": "pump", "weight": {"value": "12 kg"}}]'
TEXTS = {
    **{name: data for name, data in SAMPLES.items() if name not in ("a.md", "a.txt")},
    **{page.name: page.read_bytes() for page in sorted(MANUAL.glob("*.md"))[:6]},
    "a.json": JSON,
    "b.json": b'{"a": {"b": [1, 2.5e9, null, true, "x"]}, "name": "n", "description": "what it is and does"}',
    "a.jsonl": b'{"instruction": "I", "input": "", "output": "O"}\n{"prompt": "P", "completion": "C"}\n\n[]\n3\n',
    "a.txt": b"CARE OF THE PUMP\n\n1.2 Oil\n=======\n\nOil it every 3 weeks. To open it, use `valve --open`.\n",
}
# what structure is made of, and what nests or repeats it
MARKS = (
    b"```\n", b"~~~", b"| a | b |\n|---|---|\n", b"|" * 90, b"- " * 60, b"> " * 60, b"\n    ", b"[a]: <", b"[" * 300,
    b"]" * 300, b"<!--", b"-->", b"<div>" * 60, b"</p>", b"***", b"**" * 80, b"`" * 77, b"---\ntitle: [\n---\n", b"$$",
    b"\n# ", b"#" * 9, b"\n:::: {.note}\n", b"\n: ", b"![](", b"&amp;" * 60, b"\\" * 80, b"{" * 500, b'{"a":' * 300,
    b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"\r", b"\x85", b"\xe2\x80\xa8", b"\xf0\x9f\x8f\xb3\xe2\x80\x8d" * 40, b"Q: ",
    b'"\\ud800"', b"1e999", b"-" * 90, b"<a " * 300, b"\n" * 300, b"a" * 3000, b"?" * 90, b"\nA: ", b"\t" * 90,
)  # fmt: skip


@pytest.mark.parametrize("folders", [3, pytest.param(10_000 // IN_A_FOLDER, marks=pytest.mark.long)])
def test_malformed_documents_end_in_a_check(folders: int, tmp_path: Path) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # what tests before had at their peak doesn't count
    before = peak()
    for seed in range(folders):
        look_at(tmp_path / str(seed), seed)
    assert peak() - before < GROWTH


def look_at(folder: Path, seed: int) -> None:
    """Every file is used, or left out with a reason; the page is written of it."""
    rng = random.Random(seed)
    folder.mkdir()
    for number in range(IN_A_FOLDER):
        name = rng.choice(list(TEXTS))
        write(folder / f"{number}-{name}", malformed(TEXTS[name], rng))
    spec = parse({"model": "any", "max_seq_length": rng.choice((64, 2048)), "seed": seed,
                  "questions": rng.choice(("structure", "structure", "none"))})  # fmt: skip
    start = time.monotonic()
    with at_most(SECONDS, f"folder {seed}"):
        checked = check(folder, spec)
        written = page(checked)
    assert time.monotonic() - start < SECONDS
    assert sorted(file.path for file in checked.files) == sorted(file.name for file in folder.iterdir())
    assert all(file.why for file in checked.files if file.outcome != "used")
    assert sum(file.rows for file in checked.files) == checked.report.examples
    assert "</html>" in written


def malformed(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed anywhere, or marks of structure put in; of texts at the start of lines as well."""
    if data.startswith((b"PK", b"%PDF")) or rng.random() < 0.3:
        return mutated(data, rng)
    for _ in range(rng.choice((1, 2, 5, 20, 100))):
        at = rng.randrange(len(data) + 1)
        at = data.rfind(b"\n", 0, at) + 1 if rng.random() < 0.5 else at
        data = data[:at] + rng.choice(MARKS) * rng.choice((1, 1, 1, 3)) + data[at + rng.choice((0, 0, 1, 30)) :]
    return data


def some() -> list[str]:
    """One family of each construct, another way of making it for the next one."""
    constructs: dict[str, list[str]] = {}
    for name in families():
        constructs.setdefault(name.partition(",")[0] + name[name.rindex(".") :], []).append(name)
    return [names[number % len(names)] for number, names in enumerate(constructs.values())]


@pytest.mark.parametrize(
    ("size", "names"),
    [
        (6_000, some()),
        *(pytest.param(200_000, [*families()][part::PARTS], marks=pytest.mark.long) for part in range(PARTS)),
        pytest.param(
            2_500_000,
            ["sentence, repeated.md", "letter, repeated.md", "p, unclosed.html", "one answer.jsonl", "one chat.jsonl"],
            marks=pytest.mark.long,
        ),
    ],
)
def test_time_grows_with_the_document(size: int, names: list[str], tmp_path: Path) -> None:
    spent("a.md", b"# A\n\nThe pump keeps 7 of 9 valves open.\n", tmp_path)  # imports, compiled patterns
    gc.collect()
    gc.freeze()  # what earlier tests left isn't looked through, the oftener the longer a document takes
    try:
        assert [name for name in names if all(is_steep(name, size, tmp_path) for _ in range(TRIES))] == []
    finally:
        gc.unfreeze()


def is_steep(name: str, size: int, folder: Path) -> bool:
    """Whether four times the document takes over nine times the processor's time: sixteen times if it is squared."""
    make = families()[name]
    with at_most(SECONDS, name):
        large = spent(name, make(4 * size), folder)
        return large > 0.2 and large > 9 * spent(name, make(size), folder)


def spent(name: str, data: bytes, folder: Path) -> float:
    """Seconds of processor. What a process of its own converts is converted here."""
    path = folder / f"a{name[name.rindex('.') :]}"
    path.write_bytes(data)
    start = time.process_time()
    try:
        if path.suffix == ".html":
            html.convert(data)
        elif path.suffix in (".csv", ".rtf"):
            documents.office(data, SUFFIXES[path.suffix])
        else:
            check(folder, parse({"model": "any"}))
    except (Unusable, RecursionError):
        pass  # named, and left out
    path.unlink()
    return time.process_time() - start


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    ["sentence, repeated.md", "term, repeated.md", "bullet, repeated.md", "word, by lines.md", "lines, repeated.md",
     "one chat.jsonl", "objects.json", "empty objects.json", "numbers.jsonl", "many records.jsonl"],
)  # fmt: skip
def test_ten_megabytes_take_less_than_500_of_memory(name: str, tmp_path: Path) -> None:
    (tmp_path / f"a{name[name.rindex('.') :]}").write_bytes(families()[name](10_000_000))
    code = (
        "import sys; from pathlib import Path; from ftq.check.check import check; "
        "from ftq.spec.options import parse; check(Path(sys.argv[1]), parse({'model': 'any'})); "
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, check=True)
    assert int(done.stdout) * 1024 < MEMORY


@contextmanager
def at_most(seconds: int, what: str) -> Iterator[None]:
    """Raises in whatever hangs."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"{what} took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def peak() -> int:
    """Bytes of this process since that was last set back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
