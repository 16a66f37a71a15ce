"""What an export is checked with: answers of the dataset that are scored, and questions that have to end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftq.files.run_dir import RunDir, read_jsonl
from ftq.spec import weights
from worker.llama.answer import Question
from worker.llama.logits import Row, most_positions
from worker.stages.model.tokens import IGNORED, Tokens

ROW_TOKENS = 192  # of a longer example, the first ones are scored
SAMPLE_TOKENS, FEWEST = 256, 96  # of all scored examples together: a small model takes a second on two cores
LARGE = 10**9  # parameters: with more, a token takes so long that fewer are scored, and answers end sooner
QUESTIONS = 20
SHORT = 128  # tokens of an answer that a model is asked to end
CANDIDATES = 2000  # examples that are looked at


@dataclass(frozen=True)
class Sample:
    """`held_out` of the questions, the first ones, are of valid.jsonl."""

    rows: list[Row]
    questions: list[Question]
    held_out: int


def tokens_of(parameters: int) -> int:
    """How many tokens are scored of a model of this size."""
    return max(FEWEST, SAMPLE_TOKENS * LARGE // max(parameters, LARGE))


def sample(run: RunDir, tokens: Tokens, stop: str, chat: bool, model_dir: Path) -> Sample:
    """The same examples for every file of a run, valid.jsonl's before those of train.jsonl."""
    vocabulary = max(one.shape[0] for one in weights.read(model_dir).values() if len(one.shape) == 2)
    parts = [_examples(run.dataset / name, tokens, stop) for name in ("valid.jsonl", "train.jsonl")]
    # a chat's turns are more than a question can hold
    held_out, learned = ([one for one in part if one.answer <= SHORT and not one.turns] for part in parts)
    parameters = weights.parameters(model_dir)
    asked = {one.question(chat, parameters): None for one in sorted(held_out, key=lambda one: one.answer)}
    first = list(asked)[:QUESTIONS]
    asked |= {one.question(chat, parameters): None for one in sorted(learned, key=lambda one: one.answer)}
    rows = list(_scored(parts[0] or parts[1], tokens_of(parameters), most_positions(vocabulary)))
    return Sample(rows, list(asked)[:QUESTIONS], len(first))


@dataclass(frozen=True)
class _Example:
    instruction: str
    input: str
    ids: list[int]
    first: int
    turns: str

    @property
    def answer(self) -> int:
        """How many tokens the answer has."""
        return len(self.ids) - self.first

    def question(self, chat: bool, parameters: int) -> Question:
        """An answer may become half as long again, and a little: then the model hasn't stopped.

        Of a large model a quarter: f16 writes 2 to 4 tokens a second on a CPU.
        """
        most = self.answer * 5 // 4 + 8 if parameters > LARGE else self.answer * 3 // 2 + 16
        return Question(self.instruction, self.input, max_tokens=most, chat=chat)


def _examples(path: Path, tokens: Tokens, stop: str) -> list[_Example]:
    """At most CANDIDATES of the file's examples, evenly spaced."""
    rows: list[dict[str, Any]] = list(read_jsonl(path)) if path.is_file() else []
    rows = rows[:: -(-len(rows) // CANDIDATES) or 1]
    encoded = tokens.rows(rows, stop)
    return [
        _Example(row["instruction"], row["input"], ids, labels.count(IGNORED), row.get("turns", ""))
        for row, (ids, labels) in zip(rows, encoded, strict=True)
    ]


def _scored(examples: list[_Example], budget: int, positions: int) -> Iterator[Row]:
    """Evenly spaced examples, cut to the first tokens of their answers, until there are enough."""
    row_tokens = min(ROW_TOKENS, budget)
    step = max(1, len(examples) * row_tokens // (3 * budget))
    for one in examples[::step]:
        end = min(max(row_tokens, one.first + 16), one.first + positions)
        row = Row(one.ids[:end], one.first)
        if row.first == 0 or budget <= 0 or positions <= 0:  # nothing stands before it that could be asked
            continue
        budget, positions = budget - len(row.ids), positions - row.positions
        yield row
