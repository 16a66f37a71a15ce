"""What can be told of rows while they pass: counts of each document, lengths, some of them whole, what looks wrong."""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path

from ftq.check.near import Near
from ftq.check.secrets.find import secrets
from ftq.check.secrets.values import Secret, masked
from ftq.examples.read import OWN_VALID, VALIDATION
from ftq.examples.split import Example

DRAWN, EACH = 30, 3  # rows that are shown; of a document, before others come from wherever
BATCH = 512  # rows whose tokens are counted at once
WAITING = 2  # batches that are being counted
PLACES = 50  # of one kind that are named
# What becomes of a secret; a header is a private key's, whose rest is left out.
TAUGHT, HELD_OUT, HEADER = "taught", "held out", "header"
DATA = "J"  # the rule of JSON that no section or record shows


@dataclass
class Tally:
    """What the rows of one document come to. `short` are those on its facts."""

    rows: int = 0
    short: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Shown:
    """A row exactly as the model sees it: the answer, which is learned, ends with the stop token."""

    prompt: str
    answer: str
    rule: str
    source: str
    tokens: int


@dataclass
class Places:
    """The first places of a kind, and how many there are."""

    count: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, place: str) -> None:
        self.count += 1
        if place and len(self.named) < PLACES and place not in self.named:
            self.named.append(place)


Drawn = tuple[bytes, int, Shown]  # its lot, its number


class Survey:
    """`add` rows with their lengths in tokens; the rest is there to be read. `folder` holds the documents, `validation`
    those that are only measured on.

    `texts` gives a row's prompt and answer as the model sees them."""

    def __init__(
        self,
        folder: Path,
        texts: Callable[[Example], tuple[str, str]],
        seed: int = 0,
        validation: Path | None = None,
    ) -> None:
        self.files: dict[str, Tally] = {}
        self.lengths, self.rules = Counter[int](), Counter[str]()
        self.near, self.secrets = Places(), defaultdict[str, Places](Places)  # by what becomes of them
        self.leaked = Places()  # sections of validation that train nearly has
        self._folder, self._validation, self._texts, self._number = folder, validation, texts, 0
        self._start = blake2b(f"{seed}\x1f".encode(), digest_size=8)  # of each lot
        self._drawn: list[Drawn] = []  # from wherever
        self._of_file: dict[str, list[Drawn]] = {}  # of each document that is among the first
        self._least = b""  # lot of the best rows of these documents
        self._near, self._told = Near(), set[tuple[str, str]]()

    def add(self, examples: Sequence[Example], lengths: Sequence[int]) -> None:
        self.lengths.update(lengths)
        self.rules.update([example.get("rule", "") for example in examples])
        for example, tokens in zip(examples, lengths, strict=True):
            self._number += 1
            rule, file = example.get("rule", ""), example["document"]
            tally = self.files.get(file) or self.files.setdefault(file, Tally())
            tally.rows += 1
            tally.tokens += tokens
            if rule:
                tally.short += 1
            self._draw(example, rule, tokens)
            if not rule or rule == DATA:
                self._look(example)

    @property
    def deviation(self) -> float:
        """The standard deviation of the lengths."""
        rows = max(1, self.lengths.total())
        mean = sum(tokens * count for tokens, count in self.lengths.items()) / rows
        return math.sqrt(sum(count * (tokens - mean) ** 2 for tokens, count in self.lengths.items()) / rows)

    @property
    def not_compared(self) -> int:
        """Sections that no later one was compared with."""
        return self._near.left_out

    @property
    def shown(self) -> list[Shown]:
        """Rows drawn by their content, so that the same documents show the same ones; some of each document."""
        files = [sorted(rows, reverse=True) for rows in self._of_file.values()]
        turns = [sorted((rows[turn] for rows in files if len(rows) > turn), reverse=True) for turn in range(EACH)]
        drawn = {row[:2]: row for row in chain(*turns, sorted(self._drawn, reverse=True))}
        return [row for *_, row in sorted(islice(drawn.values(), DRAWN), key=lambda drawn: drawn[0])]

    def _draw(self, example: Example, rule: str, tokens: int) -> None:
        lot = self._lot(example)
        file = example["document"]
        if rows := self._of_file.get(file):
            is_of_file = len(rows) < EACH or lot > rows[0][0]
        else:
            is_of_file = lot > self._least or len(self._of_file) < DRAWN
        is_drawn = len(self._drawn) < DRAWN or lot > self._drawn[0][0]
        if is_of_file or is_drawn:
            asked, answer = self._texts(example)
            drawn = (lot, self._number, Shown(asked, answer, rule, example["source"], tokens))
            if is_drawn:
                (heapq.heappush if len(self._drawn) < DRAWN else heapq.heappushpop)(self._drawn, drawn)
            if is_of_file:
                self._add_to(file, drawn)

    def _lot(self, example: Example) -> bytes:
        lot = self._start.copy()
        lot.update(f"{example['instruction']}\x1f{example['output']}".encode(errors="replace"))
        return lot.digest()

    def _add_to(self, file: str, drawn: Drawn) -> None:
        """Keep the row for its document; of more than DRAWN documents the one with the least lot goes."""
        rows = self._of_file.setdefault(file, [])
        (heapq.heappush if len(rows) < EACH else heapq.heappushpop)(rows, drawn)
        if len(self._of_file) > DRAWN:
            del self._of_file[min(self._of_file, key=lambda name: max(self._of_file[name])[0])]
        self._least = min(max(rows)[0] for rows in self._of_file.values())

    def _look(self, example: Example) -> None:
        source, text = example["source"], "\n".join((example["instruction"], example["input"], example["output"]))
        if "rule" not in example and (earlier := self._near.earlier(text, source)):
            held_out = {self.is_held_out(document) for document in (example["document"], earlier.partition("#")[0])}
            if held_out != {True}:  # what is only measured on may repeat itself
                (self.leaked if True in held_out else self.near).add(f"{source} is like {earlier}")
        for secret in secrets("\n".join(filter(None, (example["input"], example["output"]))), example["instruction"]):
            if (example["document"], secret.value) not in self._told:
                self._told.add((example["document"], secret.value))
                places = self.secrets[
                    HEADER if secret.is_header else HELD_OUT if self.is_held_out(example["document"]) else TAUGHT
                ]
                told = f"{secret.what} {masked(secret.value)}"
                places.add(f"{self._place(example, secret)}: {told}" if places.count < PLACES else "")

    def _place(self, example: Example, secret: Secret) -> str:
        """The line of the document that has the text; else the section, where the file holds it in another form."""
        file, first = example["document"], 0  # the line with the value, where what is around it is written otherwise
        told, value = secret.told.encode(errors="replace"), secret.value.encode(errors="replace")
        try:
            with self._path(file).open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    if told in line:
                        return f"{file}:{number}"
                    first = first or (number if value in line else 0)
        except OSError:
            pass
        return f"{file}:{first}" if first else example["source"]

    def is_held_out(self, document: str) -> bool:
        """Whether the document is only measured on."""
        return document in OWN_VALID or self._path(document) != self._folder / document

    def _path(self, document: str) -> Path:
        path = self._folder / document
        if self._validation is None or not document.startswith(VALIDATION) or path.exists():
            return path
        return self._validation / document.removeprefix(VALIDATION)


def counted(
    examples: Iterable[Example], count: Callable[[Sequence[Example]], list[int]], beside: bool
) -> Iterator[tuple[list[Example], list[int]]]:
    """Batches with what `count` says of each example.

    `beside`: a tokenizer that doesn't hold Python up does it, so the next ones come meanwhile. Two threads of Python
    would wait for each other instead, on two cores by turns.
    """
    if not beside:
        yield from ((batch, count(batch)) for batch in batches(examples))
        return
    given = deque[tuple[list[Example], Future[list[int]]]]()
    with ThreadPoolExecutor(1) as thread:
        for batch in batches(examples):
            given.append((batch, thread.submit(count, batch)))
            if len(given) > WAITING:
                first, counts = given.popleft()
                yield first, counts.result()
        for first, counts in given:
            yield first, counts.result()


def batches(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Batches of examples that are worth counting together."""
    rest = iter(examples)
    while batch := list(islice(rest, BATCH)):
        yield batch
