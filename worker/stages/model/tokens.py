"""Text to tokens, for training and for counting: one tokenisation, so that both agree.

`tokenizer.json` is read by the tokenizers library itself: no torch, loaded in a fraction of a second.
"""

from __future__ import annotations

import json
import re
import secrets
from array import array
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from ftq.errors import UserError
from ftq.examples.lengths import Words, cuts_at_spaces
from ftq.examples.prompt import START, after_start, completion, prompt
from ftq.spec.options import Format
from ftq.spec.weights import DAMAGED
from worker.llama.answer import WITHOUT_THINKING
from worker.stages.model import template
from worker.stages.model.template import Roles, Template, any_of

HTML = re.compile(
    "</?(a|b|blockquote|br|caption|code|div|em|h[1-6]|i|img|li|ol|p|pre|span|strong|sub|sup|t(able|body|d|foot|h|head|r)"
    "|u|ul)>"
)
IGNORED = -100  # the label of a token that the loss leaves out


class Tokens:
    """A checkpoint's tokenizer, and the format of the training text.

    No text of an example becomes a control token: each has another name here, which is drawn anew in each process.
    """

    def __init__(self, model_dir: Path, format: Format = "alpaca") -> None:
        self._inner, self._codes = _load(model_dir)
        self._names = {code: name for name, code in self._codes.items()}
        self._coded, self._uncoded = any_of(list(self._codes)), any_of(list(self._names))
        self._start = _start_of_text(self._inner)
        self.template = Template(model_dir, list(self._codes)) if format == "chat" else None
        cuts = format == "alpaca" and cuts_at_spaces(self._inner)
        self._words = Words(self._bytes_of, b"".join) if cuts else None

    @property
    def start(self) -> str:
        """What the tokenizer puts before every text, as text."""
        return "".join(self.text_of(one) or "" for one in self._start)

    @property
    def controls(self) -> list[str]:
        """The tokens that no text of a document, a record or a question becomes."""
        return list(self._codes)

    @property
    def adds_space(self) -> bool | None:
        """Whether a prompt's text begins with a space that nobody wrote; None where spaces aren't SentencePiece's.

        In a chat it stands after a control token, and some tokenizers add the space only to what stands first.
        """
        if self._inner.token_to_id("▁") is None:
            return None
        before = self._codes[self.template.stop] if self.template else ""
        written = self._inner.encode(f"{before}a", add_special_tokens=False).tokens
        return any(token.startswith("▁") for token in written)

    def id_of(self, token: str) -> int | None:
        """The id of a single token, or None."""
        token_id: int | None = self._inner.token_to_id(self._codes.get(token, token))
        return token_id

    def text_of(self, token_id: int) -> str | None:
        text: str | None = self._inner.id_to_token(token_id)
        return self._names.get(text, text) if text else text

    def spells_control(self, text: str) -> bool:
        """Whether the text holds the name of a control token."""
        return self._coded.search(text) is not None

    def decode(self, ids: list[int]) -> str:
        text: str = self._inner.decode(ids)
        return self._uncoded.sub(lambda code: self._names[code.group()], text)

    def prompt(self, instruction: str, input: str = "") -> list[int]:
        """What the model gets to see before it answers, with the start token if it has one."""
        asked, written = self._asked({"instruction": instruction, "input": input})
        return self.started(self._encode(asked + written))

    def conversation(self, messages: list[dict[str, str]]) -> tuple[str, list[int]] | None:
        """(text, tokens) of a chat up to where the model answers; None where the template can't hold such a chat."""
        assert self.template
        roles, texts = [one["role"] for one in messages], [one["content"] for one in messages]
        pieces = self.template.pieces(roles, add_generation_prompt=True, **WITHOUT_THINKING)
        if pieces is None:
            return None
        coded = "".join(self._code(piece) + text for piece, text in zip(pieces, [*texts, ""], strict=True))
        text = "".join(piece + text for piece, text in zip(pieces, [*texts, ""], strict=True))
        return text, self.started(self._encode(coded))

    def row(self, example: dict[str, str], stop: str) -> tuple[list[int], list[int]]:
        """(input_ids, labels) of an example; the last of both is always the stop token."""
        return self.rows([example], stop)[0]

    def rows(self, examples: list[dict[str, str]], stop: str) -> list[tuple[list[int], list[int]]]:
        """`row` of each example; the tokenizer takes them all at once and uses every core."""
        return [
            ([*asked, *answer], [IGNORED] * len(asked) + list(answer)) for asked, answer in self.pairs(examples, stop)
        ]

    def pairs(self, examples: list[dict[str, str]], stop: str) -> Iterator[tuple[array[int], array[int]]]:
        """(prompt, answer with its stop token) of each example."""
        start, end = array("i", self._start), array("i", [self._id(stop)])
        if self._words is not None:  # the prompt of ftq's own begins with no control token
            start += array("i", self._encode(START))
            texts = [after_start(example["instruction"], example["input"]) for example in examples]
            texts += [completion(example["output"], "") for example in examples]
            ids = [array("i", words) for words in self._words.of(texts)]
            for question, answer in zip(ids[: len(examples)], ids[len(examples) :], strict=True):
                yield start + question, answer + end
            return
        asked = [self._asked(example)[0] for example in examples]
        answers = [self._answer(example) for example in examples]
        whole = self._encode_all([a + b for a, b in zip(asked, answers, strict=True)])
        for before, both, text in zip(self._encode_all(asked), whole, answers, strict=True):
            # the answer's tokens as they are after the prompt: some tokenizers add a space to a text's start
            same = both[: len(before)] == before
            written = both[len(before) :] if same else self._encode(text)
            yield array("i", self.started(before)), array("i", written) + end

    def texts(self, example: dict[str, str], stop: str) -> tuple[str, str]:
        """(prompt, answer) of a row as text, for people to read."""
        asked, answer = self._asked(example)[0], self._answer(example)
        asked, answer = (self._uncoded.sub(lambda code: self._names[code.group()], text) for text in (asked, answer))
        return asked, answer + stop

    def started(self, ids: list[int]) -> list[int]:
        """With the start token once: some templates write it themselves."""
        return ids if self._start and ids[: len(self._start)] == self._start else self._start + ids

    # ---- the two formats: only their own text holds control tokens ---------------------------------------------

    def _asked(self, example: dict[str, str]) -> tuple[str, str]:
        """The prompt, and what a question of ftq's own adds to it."""
        if self.template is None:
            return prompt(example["instruction"], example["input"]), ""
        roles, texts = self._messages(example)
        frame = self.template.frame(roles, self._code)
        return frame.prompt(texts), frame.asked

    def _answer(self, example: dict[str, str]) -> str:
        if self.template is None:
            return completion(example["output"], "")
        roles, _ = self._messages(example)
        return self.template.frame(roles, self._code).answer(example["output"].strip())

    def _messages(self, example: dict[str, str]) -> tuple[Roles, list[str]]:
        assert self.template is not None
        return self.template.messages(example["instruction"], example["input"], example.get("turns", ""))

    def _code(self, text: str) -> str:
        """Text of a template with its control tokens as this tokenizer knows them."""
        return self._coded.sub(lambda name: self._codes[name.group()], text)

    # ---- inside ------------------------------------------------------------------------------------------------

    def _id(self, token: str) -> int:
        token_id = self.id_of(token)
        if token_id is None:
            raise UserError(
                f"stop token {token} is not a token of this model",
                "Copy tokenizer.json and tokenizer_config.json from the model that this one was made of.",
            )
        return token_id

    def _encode_all(self, texts: list[str]) -> list[list[int]]:
        return [found.ids for found in self._inner.encode_batch_fast(texts, add_special_tokens=False)]

    def _bytes_of(self, texts: list[str]) -> list[bytes]:
        return [array("i", ids).tobytes() for ids in self._encode_all(texts)]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids


@lru_cache(maxsize=2)
def _load(model_dir: Path) -> tuple[Any, dict[str, str]]:
    """The tokenizer with its control tokens renamed, and their new names."""
    from tokenizers import Tokenizer

    written = _written(model_dir)
    codes = _rename_controls(written, template.source(model_dir))
    try:
        tokenizer = Tokenizer.from_str(json.dumps(written))
    except Exception as error:  # tokenizers raises plain Exception
        raise UserError(f"{model_dir}/tokenizer.json: can't be read ({error})", DAMAGED) from None
    tokenizer.no_truncation()  # as whoever saved the tokenizer last may have left them on
    tokenizer.no_padding()
    return tokenizer, codes


def _written(model_dir: Path) -> dict[str, Any]:
    """What tokenizer.json holds, or would hold."""
    if (path := model_dir / "tokenizer.json").is_file():
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return value
        except ValueError as error:
            raise UserError(f"{path}: can't be read ({error})", DAMAGED) from None
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
        value = json.loads(tokenizer.backend_tokenizer.to_str())
        return value
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"model {model_dir}: no usable tokenizer in it ({error})",
            "Copy tokenizer.json there from the model that this one was made of.",
        ) from None


def _rename_controls(tokenizer: dict[str, Any], chat_template: str) -> dict[str, str]:
    """Give each control token a name that no text can hold, wherever the tokenizer has it: {name: new name}.

    Control tokens are the special ones, and other added ones that look like it, as `<think>`. Some tokenizers have the
    usual tags of HTML as added tokens: these stay, unless the chat template writes them.
    """
    added = tokenizer.get("added_tokens") or []
    names = [one["content"] for one in added if one.get("special") or _is_mark(one["content"], chat_template)]
    secret = secrets.token_hex(16)
    codes = {name: f"<{secret}.{number}>" for number, name in enumerate(names)}
    for one in added:
        one["content"] = codes.get(one["content"], one["content"])
    model = tokenizer["model"]
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        model["vocab"] = {codes.get(piece, piece): number for piece, number in vocabulary.items()}
    elif vocabulary:
        model["vocab"] = [[codes.get(piece, piece), score] for piece, score in vocabulary]
    if model.get("unk_token") in codes:
        model["unk_token"] = codes[model["unk_token"]]
    if model.get("merges"):
        model["merges"] = [merge for merge in model["merges"] if not _makes(merge, codes)]
    return codes


def _is_mark(token: str, chat_template: str) -> bool:
    return token.startswith(("<", "[", "｜")) and (token in chat_template or not HTML.fullmatch(token))


def _makes(merge: str | list[str], codes: dict[str, str]) -> bool:
    """Whether a merge makes a control token of plain text, or goes on from one."""
    first, second = merge.split(" ", 1) if isinstance(merge, str) else merge
    return first + second in codes or first in codes or second in codes


def _start_of_text(inner: Any) -> list[int]:
    """The tokens that the tokenizer puts before every text (a BOS, or nothing)."""
    bare = inner.encode("a", add_special_tokens=False).ids
    whole: list[int] = inner.encode("a").ids
    return whole[: whole.index(bare[0])]
