"""An example that is too long for a row becomes several, each with as much of the answer as fits.

An answer is cut between its blocks; a block that is too long by itself between lines, else sentences, words, letters.
Each part can be read by itself.
The time is linear: whatever is counted is about as long as a row.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from ftq.examples.parts.frames import Frames
from ftq.examples.parts.gaps import before_lead, gap

# instruction, input, output, source, document; rule where it is on a fact, turns where a chat went before
Example = dict[str, str]

EMPTY: Example = {"instruction": "", "input": "", "output": ""}
LETTERS = 6  # a token's, more than in most texts


@dataclass(frozen=True)
class Row:
    """What has to hold an example: `limit` tokens. `length` counts an example's, prompt and stop token included."""

    limit: int
    length: Callable[[Example], int]

    def fits(self, example: Example) -> bool:
        """Whether it fits. Of a very long example the start alone says that it doesn't."""
        texts = (example["instruction"], example["input"], example["output"])
        room = self.limit - self._beside
        for text in texts:
            room -= len(text) if text.isascii() else _most_tokens(text)
        if room >= 0:
            return True
        size, longest = LETTERS * self.limit, max(map(len, texts))
        while size < longest:
            if (
                self.length({name: text[:size] if name != "turns" else text for name, text in example.items()})
                > self.limit
            ):
                return False
            size *= 2
        return self.length(example) <= self.limit

    @cached_property
    def _beside(self) -> int:
        """Tokens of a row without texts, and some for what a tokenizer puts between and before them."""
        return self.length(EMPTY) + 8


def _most_tokens(text: str) -> int:
    """No tokenizer makes more of it: a token is a byte at least, and normal forms take up to three times the bytes."""
    return len(text) if text.isascii() else 3 * len(text.encode(errors="replace"))


def split(whole: Example, blocks: tuple[str, ...], row: Row, digits: int = 0) -> list[Example]:
    """The example in as many parts as it takes; none if the question leaves no room for an answer.

    The parts' numbers take room too: that of so many digits. Where they turn out to take more, it is cut once more.
    """
    digits = digits or max(3, len(str(len(whole["output"]) // (LETTERS * row.limit))))
    named = {**whole, "instruction": _part(whole, "8" * digits, "8" * digits)}
    if not row.fits({**named, "output": "word word word word word word"}):
        return []
    empty = row.length({**named, "output": ""})
    texts = cut(blocks, lambda text: row.length({**named, "output": text}) - empty, row.limit - empty)
    parts = [
        {**whole, "instruction": _part(whole, str(number), str(len(texts))), "output": text}
        for number, text in enumerate(texts, start=1)
    ]
    if any(row.length({**part, "output": ""}) > empty for part in parts):
        return split(whole, blocks, row, digits + 1)
    return parts


def _part(example: Example, number: str, total: str) -> str:
    return f"{example['instruction']} (part {number} of {total})"


def cut(blocks: tuple[str, ...], length: Callable[[str], int], room: int) -> list[str]:
    """The blocks, joined by empty lines, as few texts of at most `room` tokens. `length` counts a text's.

    Each can be read by itself: what a table, code or a list needs is repeated.
    """
    text = "\n\n".join(blocks)
    frames = Frames(text, length, room)
    ends = [end + 2 * number for number, end in enumerate(accumulate(map(len, blocks)))]
    ends = [end for end in ends if not frames.is_code(end)]
    parts, start, size = list[str](), 0, LETTERS * room
    whole, too_long = set(ends), False
    while start < len(text):
        end, following = _end(text, start, size, ends, frames)
        before, after = frames.around(start, end)
        part = text[start:end].strip("\n").rstrip() if before or after else text[start:end].strip()
        part = f"{before}{part}{after}" if part.strip() else ""
        beside, tokens = frames.tokens(before + after), length(part) if part else 0
        if tokens > room and end - start > 1:
            size = min(end - start - 1, (end - start) * (room - beside) // max(1, tokens - beside))
            too_long = True
            continue
        if 2 * tokens < room and end not in whole and following < len(text) and not too_long:
            size = 2 * max(1, size)  # it was guessed by the part before, which was a short block
            continue
        too_long = False
        if part:
            parts.append(part)
            size = min(2 * (end - start), (end - start) * (room - beside) // max(1, tokens - beside))
        start = following
    return parts


def _end(text: str, start: int, size: int, ends: list[int], frames: Frames) -> tuple[int, int]:
    """(where a part ends that begins at `start`, where the next begins). `size` characters are about what fits."""
    most = start + max(1, size)
    if most >= len(text):
        return len(text), len(text)
    block = bisect_right(ends, most)  # the first that ends later
    end = ends[block - 1] if block else 0
    if end > start and (end - start > size // 2 or ends[block] - end <= size):
        return before_lead(text, start, end) or (end, end + 2)
    rest = ends[block] - start
    best = start + (rest // 2 if rest < 2 * size else size)  # two even parts rather than a long and a short one
    if start < (floor := frames.floor(start, best)) < most:
        best = max(best, (floor + most) // 2)
    else:
        floor = start
    end, following = gap(text, floor, best, most, frames.border(best))
    if (better := frames.ends(following, start)) != following:
        end = following = better
    return before_lead(text, start, end) or (end, following)
