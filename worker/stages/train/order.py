"""The order of the examples in each epoch, drawn from seed and epoch alone, so that a resumed run finds its place."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator


class Order:
    """Indices in training order; `batch` of them make an optimiser step, `micro` a micro-batch.

    Every step is a plain random draw: steps of rows of like length would need less padding, but learn worse. Inside a
    step, padded rows share a micro-batch with rows of like length; without padding, long and short rows are mixed so
    that the micro-batches hold about the same number of tokens. The run starts with the step with most tokens and the
    step with the longest row: what doesn't fit the memory shows at once, not after hours. Which rows make a step
    doesn't depend on the micro-batch size, so a resumed run may use a smaller one.
    """

    def __init__(
        self, lengths: list[int], batch: int, micro: int, padded: bool, seed: int, epoch: Callable[[], int]
    ) -> None:
        self.lengths, self.batch, self.micro, self.padded = lengths, batch, micro, padded
        self.seed, self.epoch = seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        steps = self._steps(self.epoch())
        return iter([row for step in steps for row in step])

    def largest(self, epochs: int) -> int:
        """Tokens of the largest micro-batch in so many epochs, padding included."""
        return max(self._largest(step) for epoch in range(epochs) for step in self._steps(epoch))

    def _steps(self, epoch: int) -> list[list[int]]:
        order = list(range(len(self.lengths)))
        random.Random(f"{self.seed}.{epoch}").shuffle(order)
        arrange = self._by_length if self.padded else self._balanced
        steps = [arrange(step) for step in self._cut(order, self.batch)]
        return self._heaviest_first(steps) if epoch == 0 else steps

    def _heaviest_first(self, steps: list[list[int]]) -> list[list[int]]:
        first, last = steps[:-1], steps[-1:]  # the last one may be shorter
        for weigh in (max, sum) if first else ():
            first.insert(0, first.pop(max(range(len(first)), key=lambda n: weigh(self._lengths(first[n])))))
        return first + last

    def _lengths(self, rows: list[int]) -> list[int]:
        return [self.lengths[row] for row in rows]

    def _largest(self, step: list[int]) -> int:
        return max(held(self._lengths(rows), self.padded) for rows in self._cut(step, self.micro))

    def _balanced(self, step: list[int]) -> list[int]:
        """Deal the rows out by length, back and forth, to as many hands as the step has micro-batches."""
        hands: list[list[int]] = [[] for _ in range(-(-len(step) // self.micro))]
        for turn, dealt in enumerate(self._cut(self._by_length(step), len(hands))):
            for hand, row in zip(hands if turn % 2 == 0 else reversed(hands), dealt, strict=False):
                hand.append(row)
        return [row for hand in sorted(hands, key=len, reverse=True) for row in hand]

    def _by_length(self, rows: list[int]) -> list[int]:
        return sorted(rows, key=self.lengths.__getitem__)

    @staticmethod
    def _cut(rows: list[int], size: int) -> list[list[int]]:
        return [rows[start : start + size] for start in range(0, len(rows), size)]


def held(lengths: list[int], padded: bool) -> int:
    """Tokens of a batch of rows with these lengths."""
    return len(lengths) * max(lengths) if padded else sum(lengths)


def batch_within(lengths: list[int], most: int, tokens: int, padded: bool) -> int:
    """The largest number of rows for a batch, from 1 to `most`, with which no batch holds more than `tokens`.

    The rows have these lengths and are taken in this order.
    """
    fits = (
        batch
        for batch in range(most, 1, -1)
        if all(held(lengths[at : at + batch], padded) <= tokens for at in range(0, len(lengths), batch))
    )
    return next(fits, 1)
