"""The signs that end questions, sentences and phrases, in every script that has its own; runs of other signs."""

from __future__ import annotations

import re

# Unicode's question marks: Latin, Greek, Arabic, Ethiopic, Limbu, double and mixed ones, Coptic, reversed, Vai, Bamum,
# vertical, small and full width, Chakma.
QUESTIONS = (
    "?\u037e\u061f\u1367\u1945\u2047\u2048\u2049\u203d\u2cfa\u2cfb\u2e2e\ua60f\ua6f7\ufe16\ufe56\uff1f\U00011143"
)
# What ends sentences of scripts with gaps between words, Unicode's Sentence_Terminal: Armenian, Arabic, Syriac, Danda,
# Myanmar, Ethiopic, Canadian, Mongolian, Tibetan, Khmer and so on.
STOPS = (
    "\u0589\u06d4\u0700\u0701\u0702\u0964\u0965\u0f0d\u0f0e\u104a\u104b\u1362\u1368\u166e\u1803\u1809\u17d4\u17d5\u1b5a\u1b5b"
    "\u1c3b\u1c3c\u1c7e\u1c7f\u1aa8\u1aa9\u2e3c\ua4ff\ua60e\ua6f3\ua8ce\ua8cf\ua92f\uaa5d\uabeb\u203c\U00011047\U00011141"
)
WIDE = "\u3002\uff01\uff0e\uff61\ufe12\ufe15\ufe52\ufe57"  # Chinese and Japanese: no gap follows
ENDS = f".!\u2026{STOPS}{WIDE}{QUESTIONS}"  # what a sentence may end with
# Commas, and marks between words.
PAUSES = "，、；：､︐︑︓︔﹐﹑﹔﹕\u060c\u061b\u1363\u1364\u1365\u1366\u1361\u0f0b\u1802\u1808"
CLOSERS = "\"'”’»」』）】〉》〕］)]"
UNSPACED = f"{WIDE}\uff1f"  # after which the next sentence begins at once
SURE = "".join(sign for sign in STOPS + WIDE + QUESTIONS if sign not in "?\u037e")  # that end nothing but sentences
_NAME = r"[a-z]{0,15}(?:[A-Z][a-z]|\.[a-z]{2})"  # that begins small: `mdBook`, `llama.cpp`
END_OF_SENTENCE = re.compile(
    rf"[.!?\u037e…]{{1,5}}[{re.escape(CLOSERS)}]{{0,3}}\s+(?:(?![a-zà-þа-я])|(?={_NAME}))|[{SURE}]{{1,5}}[{re.escape(CLOSERS)}]{{0,3}}\s*"
)
END_IN_ASCII = re.compile(rf"[.!?]{{1,5}}[\"')\]]{{0,3}}\s+(?:(?![a-z])|(?={_NAME}))")  # what is left of it there
_MARKS = tuple(QUESTIONS)
_GREEK = re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]\W*;$")
_ARMENIAN, _ADLAM = "\u055e", "\U0001e95f"  # above the word that is asked for; at the beginning
_QUOTES = {"“": "”", "„": "“", "«": "»", "‹": "›", "「": "」", "『": "』", '"': '"', "'": "'"}
_AFTER = re.compile(r"[\s!！*_~\ufe0f\u200d\u2600-\u27bf\U0001f000-\U0001faff]+$")  # `?!`, an emoji


def asks(text: str) -> bool:
    """Whether the text ends as a question does in its script, whatever stands around it: `*Why?*`, `「なぜ？」`."""
    if text.isascii() and "?" not in text:  # most texts
        return False
    plain = text[-200:].rstrip("*_~! \n") if text.isascii() else _AFTER.sub("", text[-200:])
    if len(plain) > 1 and _QUOTES.get(text.lstrip("*_ ")[:1]) == plain[-1]:
        plain = plain[:-1].rstrip()
    if plain.endswith(_MARKS):
        return True
    if text.isascii():
        return False
    if _GREEK.search(plain) or text.lstrip().startswith(_ADLAM):
        return True
    return _ARMENIAN in plain.rstrip("\u0589").rpartition("\u0589")[2]


class Runs:
    """`Runs(r"\\w")(text)` is `re.findall(r"\\w+", text.lower())`."""

    def __init__(self, sign: str) -> None:
        self._pattern, is_one = re.compile(f"(?:{sign})+"), re.compile(sign).fullmatch
        kept = (chr(byte).lower() if is_one(chr(byte)) else " " for byte in range(128))
        self._table = "".join(kept).encode() + bytes(128)

    def __call__(self, text: str) -> list[str]:
        if text.isascii():  # a table of bytes is many times as fast
            return text.encode().translate(self._table).decode().split()
        return self._pattern.findall(text.lower())


letters, words, names = Runs(r"[^\W\d_]"), Runs(r"\w"), Runs(r"[\w.-]")
