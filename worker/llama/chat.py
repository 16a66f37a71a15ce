"""A question in the chat template that a GGUF carries: llama.cpp renders it with placeholders for the texts."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, Protocol

from ftq.errors import FtqError
from worker.llama.answer import DAY, WITHOUT_THINKING


class Tokenise(Protocol):
    def __call__(self, text: str, *, start: bool = True, special: bool = False) -> list[int]: ...


@dataclass(frozen=True)
class _Frame:
    """The template's own tokens, and between them plain text that is tokenised once the texts are filled in.

    Text of the template next to a question is tokenised with it: some tokenizers make one token of the two.
    """

    parts: list[list[int] | str]
    places: list[str]

    def filled(self, part: str, texts: list[str]) -> str:
        values = dict(zip(self.places, texts, strict=True))
        return re.sub("|".join(self.places), lambda place: values[place.group()], part)


class ChatTemplate:
    """A server's template. Only the template's own control tokens count; those that a question spells are text."""

    def __init__(self, tokens: Tokenise, post: Callable[[str, dict[str, Any]], dict[str, Any]]) -> None:
        self._tokens, self._post = tokens, post
        self._frames: dict[int, _Frame] = {}
        self._making = threading.Lock()

    def ids(self, texts: list[str]) -> list[int]:
        """The tokens of [question] or [system message, question], up to where the model's answer begins."""
        with self._making:
            frame = self._frames.get(len(texts)) or self._frames.setdefault(len(texts), self._frame(len(texts)))
        ids = list[int]()
        for part in frame.parts:
            ids += self._tokens(frame.filled(part, texts), start=False) if isinstance(part, str) else part
        return ids

    @cached_property
    def takes_system(self) -> bool:
        """Whether a system message stays one: some templates refuse it, some write it into the question."""
        places = _places(2)
        try:
            text = self._rendered(places)
        except FtqError:
            return False
        between = re.fullmatch(f".*{places[0]}(.*){places[1]}.*", text, re.DOTALL)
        return between is not None and bool(between[1].strip())

    def _frame(self, texts: int) -> _Frame:
        places = _places(texts)
        text = self._rendered(places)
        asked = self._rendered(places, **WITHOUT_THINKING)
        text = asked if asked.startswith(text) else text
        start, controls = self._tokens(""), self._controls(text)
        parts, before = list[list[int] | str](), ""
        for piece in _stretches(text, controls, places):
            if any(place in piece for place in places):
                parts.append(self._without_eaten(piece, before))
            else:
                parts.append(self._tokens(piece, start=False, special=True))
            before = piece
        first = parts[0]
        if isinstance(first, str) or first[: len(start)] != start:
            parts.insert(0, start)
        return _Frame(parts, places)

    def _controls(self, text: str) -> list[str]:
        """The control tokens in a template's text, found by tokenising it with and without special tokens."""
        plain = set(self._tokens(text, start=False))
        body = {"content": text, "add_special": False, "parse_special": True, "with_pieces": True}
        pieces = {_text(one["piece"]) for one in self._post("/tokenize", body)["tokens"] if one["id"] not in plain}
        plainly = {piece: self._tokens(piece, start=False) for piece in pieces if piece}
        special = [piece for piece, ids in plainly.items() if self._tokens(piece, start=False, special=True) != ids]
        return sorted(special, key=len, reverse=True)

    def _without_eaten(self, piece: str, before: str) -> str:
        """The piece without leading white space, if the control token before it swallows that (as Phi-3's do)."""
        rest = piece.lstrip()
        space = piece.removesuffix(rest)
        if not (before and space):
            return piece
        alone, with_space = (self._tokens(text, start=False, special=True) for text in (before, before + space))
        return rest if alone == with_space else piece

    def _rendered(self, places: list[str], **options: Any) -> str:
        roles = ["system", "user"][-len(places) :]
        messages = [{"role": role, "content": place} for role, place in zip(roles, places, strict=True)]
        options = {"date_string": DAY, **options}
        text: str = self._post("/apply-template", {"messages": messages, "chat_template_kwargs": options})["prompt"]
        return text


def _text(piece: str | list[int]) -> str:
    """The piece as text; empty for part of a character, which comes as a list of bytes."""
    return piece if isinstance(piece, str) else ""


def _places(texts: int) -> list[str]:
    return [f"ftq{secrets.token_hex(8)}" for _ in range(texts)]


def _stretches(text: str, controls: list[str], places: list[str]) -> list[str]:
    """The text cut into stretches with a place and stretches without: a place's stretch holds no control token."""
    cut = re.split(f"({'|'.join(map(re.escape, controls))})", text) if controls else [text]
    groups = groupby(filter(None, cut), key=lambda piece: any(place in piece for place in places))
    return ["".join(pieces) for _, pieces in groups]
