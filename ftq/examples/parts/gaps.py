"""Where a text is cut that has no end of a block near by: between lines, sentences, words, characters."""

from __future__ import annotations

import re

from ftq.facts.text.signs import CLOSERS, PAUSES, SURE

LINES = re.compile(r"(\n+)")
_CLOSED = rf"[{re.escape(CLOSERS)}]{{0,3}}"
SENTENCES = re.compile(rf"(?:[.!?\u037e…]{{1,5}}{_CLOSED}(?= )|[{SURE}]{{1,5}}{_CLOSED})([ \u3000]*)")
WORDS = re.compile(rf"(?<=[{PAUSES}])([ \u3000]*)|([ \u200b\u3000]+)")
AROUND = 256  # characters that are looked at for the borders of one
NEAR = 64  # characters that a cut is moved at most, so that it parts no word
# What begins no line: ends of brackets, and what belongs to the sign before; what ends none: brackets, vowels that are
# written ahead of their consonant (Thai, Lao), signs that join (Myanmar, Khmer, Tai Tham).
NO_START = frozenset(f"{CLOSERS}{PAUSES}{SURE}.,:;!?ーっゃゅょぁぃぅぇぉァィゥェォッャュョヮ々〻ๆຯໆ%‰°℃")
NO_END = frozenset("([{（「『【〈《〔［“‘«„¿¡เแโใไເແໂໃໄ\u1039\u17d2\u1a60#$€£¥")


def gap(text: str, start: int, best: int, most: int, border: re.Pattern[str] | None = None) -> tuple[int, int]:
    """(where a part ends that begins at `start`, where the next begins), near `best` and not after `most`.

    `border` is what to look for first.
    """
    half = (start + best) // 2
    for pattern in (border, LINES, SENTENCES, WORDS) if border else (LINES, SENTENCES, WORDS):
        low = start if pattern is border else half
        spans = [match.span(match.lastindex or 1) for match in pattern.finditer(text, low, most) if match.end() > low]
        if spans:
            return min(spans, key=lambda span: abs(span[0] - best))
    at = between_characters(text, start, best)
    if _parts_word(text, at) and (
        spaces := [match.span(match.lastindex or 1) for match in WORDS.finditer(text, start + 1, half)]
    ):
        return spaces[-1]
    return at, at


def before_lead(text: str, start: int, end: int) -> tuple[int, int] | None:
    """A cut before the last line of a part, where that only says what follows: it ends in a colon."""
    part = text[max(start, end - NEAR * 4) : end].rstrip()
    if not part.endswith((":", "：")):
        return None
    line = text.rfind("\n", start, end - 1)
    kept = text[start:line].rstrip() if line > start else ""
    return (start + len(kept), line + 1) if kept else None


def between_characters(text: str, start: int, best: int) -> int:
    """The border of a character next before `best`; if there is one near, that of a word."""
    from wcwidth import iter_graphemes

    first = max(start, best - AROUND)
    borders, at = list[int](), first
    for character in iter_graphemes(text[first : best + AROUND]):
        at += len(character)
        if at > best:
            break
        borders.append(at)
    if not borders or borders[-1] < best - AROUND // 2:  # of very many marks on one letter
        return max(best, start + 1)
    near = (border for border in reversed(borders) if border > best - NEAR and border - start > (best - start) // 2)
    return next((border for border in near if not _parts_word(text, border)), borders[-1])


def _parts_word(text: str, at: int) -> bool:
    """Whether a cut here would part a word of letters from A to Z, a number, or a sign from what it belongs to."""
    before, after = text[at - 1], text[at]
    if before in NO_END or after in NO_START:
        return True
    return before.isascii() and after.isascii() and before.isalnum() and after.isalnum()
