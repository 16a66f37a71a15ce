"""Words of a text by the signs that they are made of: many times as fast in ASCII as a pattern finds them."""

from __future__ import annotations

import re


class Runs:
    """`Runs(r"\\w")(text)` is `re.findall(r"\\w+", text.lower())`."""

    def __init__(self, sign: str) -> None:
        self._pattern, is_one = re.compile(f"(?:{sign})+"), re.compile(sign).fullmatch
        kept = (chr(byte).lower() if is_one(chr(byte)) else " " for byte in range(128))
        self._table = "".join(kept).encode() + bytes(128)

    def __call__(self, text: str) -> list[str]:
        if text.isascii():
            return text.encode().translate(self._table).decode().split()
        return self._pattern.findall(text.lower())


letters, words, names = Runs(r"[^\W\d_]"), Runs(r"\w"), Runs(r"[\w.-]")
