"""A folder as an API's reference manual is: many small pages and a few records in JSON. The same seed, the same files.

    python -m benchmarks.api_manual FOLDER [--files 7424]

With 7,424 files it has about 4.3 MB. Each page has a name, sentences, a table of parameters and an example of its own,
so that questions on it differ as those on real pages do.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

MANUAL = Path(__file__).parent.parent / "documents"
FILES = 7_424
RECORDS = 8  # of so many files one is JSON
VERBS = ("get", "set", "list", "create", "delete", "update", "find", "open", "close", "read", "write", "start", "merge")
KINDS = ("string", "integer", "boolean", "array", "number", "duration")


def write(folder: Path, files: int = FILES, seed: int = 0) -> int:
    """Make the files; return their bytes."""
    drawn, words, size = random.Random(seed), _words(), 0
    for number in range(files):
        module = folder / f"module{number // 100:03d}"
        module.mkdir(parents=True, exist_ok=True)
        is_json = number % RECORDS == RECORDS - 1
        name = _name(drawn, words)
        text = _record(drawn, words, name) if is_json else _page(drawn, words, name)
        size += (module / f"{name}{number}.{'json' if is_json else 'md'}").write_text(text, encoding="utf-8")
    return size


def _words() -> list[str]:
    text = "".join(page.read_text(encoding="utf-8") for page in sorted(MANUAL.glob("*.md")))
    return sorted({word for word in re.findall(r"\b[a-z]{4,12}\b", text)})


def _page(drawn: random.Random, words: list[str], name: str) -> str:
    rows = "".join(
        f"| `{_name(drawn, words)}` | {drawn.choice(KINDS)} | {_some(drawn, words, 6)} |\n"
        for _ in range(drawn.choice((0, 1, 1, 2)))
    )
    table = f"| Name | Type | Description |\n|---|---|---|\n{rows}" if rows else f"None. {_text(drawn, words, 1)}\n"
    code = f"```python\n{name}({drawn.choice(words)}={drawn.randrange(99)})\n```\n"
    return (
        f"# `{name}`\n\n{_text(drawn, words, 3)}\n\n## Parameters\n\n{table}\n"
        f"## Remarks\n\n{_text(drawn, words, 2)} "
        f"Up to {drawn.randrange(2, 5000)} {drawn.choice(words)} are kept.\n\n{code}"
    )


def _text(drawn: random.Random, words: list[str], count: int) -> str:
    return " ".join(_sentence(drawn, words) for _ in range(count))


def _record(drawn: random.Random, words: list[str], name: str) -> str:
    if drawn.random() < 0.5:
        return json.dumps([{"question": f"What does {name} do?", "answer": _sentence(drawn, words)} for _ in range(2)])
    fields = {_name(drawn, words): {"type": drawn.choice(KINDS), "description": _some(drawn, words, 6)} for _ in "abc"}
    return json.dumps({"name": name, "since": f"{drawn.randrange(9)}.{drawn.randrange(9)}", "fields": fields}, indent=2)


def _name(drawn: random.Random, words: list[str]) -> str:
    return f"{drawn.choice(VERBS)}_{drawn.choice(words)}"


def _sentence(drawn: random.Random, words: list[str]) -> str:
    return f"{_some(drawn, words, drawn.randrange(6, 14)).capitalize()}."


def _some(drawn: random.Random, words: list[str], count: int) -> str:
    return " ".join(drawn.choices(words, k=count))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api_manual")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=FILES)
    given = parser.parse_args()
    print(f"{given.files:,} files, {write(given.folder, given.files) / 1e6:.1f} MB in {given.folder}")
