"""How long the examples of a folder will be, guessed without a tokenizer: for a dry run on the client.

The prepare stage reads the documents properly and counts; this follows it roughly. A Markdown section is an example,
a JSON record another, a chat has one for each answer; what is longer than a row makes several.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ftq.examples.prompt import completion, prompt

BYTES_PER_TOKEN = 4.2  # of English text in UTF-8, by the tokenizers of the catalogue's models
_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)\s*")
_PARAGRAPH = re.compile(r" {0,3}(?!```|~~~)[^\s>|*+-]")  # roughly: no list, quote, table, rule or fence
_FRONT = re.compile(r"\A(---|\+\+\+)\s*\n(?:#[^\n]*\n)*[\w\"'.-]+\s*[:=].*?\n\1\s*\n", re.DOTALL)


def of(paths: list[Path], bytes_per_token: float, longest: int) -> list[int]:
    """Tokens of each example, none longer than `longest`. What can't be read or parsed gives none."""
    sizes = (len(text.encode(errors="replace")) for path in paths for text in _texts(path))
    return [part for size in sizes for part in _parts(size / bytes_per_token, longest)]


def _parts(tokens: float, longest: int) -> list[int]:
    """A text's rows of about the same length, the token that ends each counted."""
    rows = int(tokens) // longest + 1
    return [min(longest, int(tokens / rows) + 1)] * rows


def _texts(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        is_json = path.suffix.lower() in (".json", ".jsonl")
        return iter(list(_json(text, path.suffix) if is_json else _markdown(text, path.stem)))
    except (OSError, ValueError, RecursionError):
        return iter(())


def _markdown(text: str, stem: str) -> Iterator[str]:
    above: list[tuple[int, str]] = []
    lines, fence = list[str](), ""
    for line in [*_FRONT.sub("", text, count=1).split("\n"), "# "]:
        mark = _FENCE.fullmatch(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and not mark[2].strip():
            fence = ""
        found = None if fence or mark else _heading(line, lines)
        if found is None:
            lines.append(line)
            continue
        if any(line.strip() for line in lines):
            yield row(_question([name for _, name in above] or [stem]), "", "\n".join(lines))
        depth, name = found
        lines = []
        above = [(level, name) for level, name in above if level < depth] + [(depth, name)]


def _heading(line: str, lines: list[str]) -> tuple[int, str] | None:
    """(depth, name): of a line with #, or of the one before, then taken from `lines`, that this one underlines."""
    if found := _HEADING.fullmatch(line):
        return len(found[1]), found[2]
    if _UNDERLINE.fullmatch(line) and lines and _PARAGRAPH.match(lines[-1]):
        return 1 if "=" in line else 2, lines.pop().strip()
    return None


def _question(path: list[str]) -> str:
    *above, heading = path
    if heading.endswith("?"):
        return heading
    return f'Explain "{heading}" ({", ".join(above)}).' if above else f'Explain "{heading}".'


def _json(text: str, suffix: str) -> Iterator[str]:
    for record in _records(text, suffix):
        if not isinstance(record, dict):
            continue
        turns = record.get("messages") or record.get("conversations")
        asked, given, answer = _fields(record)
        if isinstance(turns, list):
            yield from _chat(turns)
        elif asked and answer:
            yield row(asked, given, answer)


def _records(text: str, suffix: str) -> list[Any]:
    if suffix.lower() == ".jsonl":
        return list(_lines(text))
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise
        return [json.loads(line) for line in text.split("\n") if line.strip()]  # JSON Lines in a file named .json
    if isinstance(value, list):
        return value
    lists = [inner for inner in value.values() if isinstance(inner, list)] if isinstance(value, dict) else []
    return lists[0] if len(lists) == 1 and "messages" not in value and "conversations" not in value else [value]


def _lines(text: str) -> Iterator[Any]:
    """The records of the lines; prepare skips a malformed one alone, and ends a line nowhere but at a newline."""
    for line in text.split("\n"):
        with suppress(ValueError, RecursionError):
            yield json.loads(line)


def _chat(turns: list[Any]) -> Iterator[str]:
    """An example for each answer, with all that was said before."""
    said: list[str] = []
    for turn in (turn for turn in turns if isinstance(turn, dict)):
        text = str(turn.get("content") or turn.get("value") or "")
        if (turn.get("role") or turn.get("from")) in ("assistant", "gpt", "bot", "model"):
            yield row("", "\n".join(said), text)
        said.append(text)


def _fields(record: dict[str, Any]) -> tuple[str, str, str]:
    """(instruction, input, output) by the names that prepare knows."""

    def first(*names: str) -> str:
        return next((str(record[name]) for name in names if record.get(name)), "")

    return (first("instruction", "prompt", "question"), first("input", "context"),
            first("output", "completion", "response", "answer"))  # fmt: skip


def row(instruction: str, given: str, output: str) -> str:
    return prompt(instruction, given) + completion(output, "")
