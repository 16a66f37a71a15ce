"""The order of the examples: drawn from seed and epoch alone, whatever the card."""

from __future__ import annotations

import random

import pytest

from worker.stages.train.order import Order, batch_within

LENGTHS = [(n * 7) % 50 + 1 for n in range(101)]


def order(seed: int = 1, epoch: int = 0, *, micro: int = 8, padded: bool = True) -> list[int]:
    return list(Order(LENGTHS, 8, micro, padded, seed, lambda: epoch))


def cut(rows: list[int], size: int = 8) -> list[list[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@pytest.mark.parametrize("padded", [True, False])
def test_the_order_is_a_permutation_drawn_from_seed_and_epoch_alone(padded: bool) -> None:
    assert sorted(order(padded=padded)) == list(range(101))
    assert order(padded=padded) == order(padded=padded)
    assert len({tuple(order(seed, epoch, padded=padded)) for seed in (1, 2) for epoch in (0, 1)}) == 4


def test_with_padding_like_lengths_share_a_micro_batch() -> None:
    apart = [abs(LENGTHS[one] - LENGTHS[other]) for one, other in cut(order(micro=2), 2)[:-1]]
    assert sum(apart) / len(apart) < 8  # of 49; by chance 17


@pytest.mark.parametrize("padded", [True, False])
def test_a_step_has_the_same_examples_however_it_is_computed(padded: bool) -> None:
    steps = [[set(step) for step in cut(order(micro=micro, padded=padded))] for micro in (8, 4, 2, 1)]
    assert steps[1:] == steps[:1] * 3
    assert steps[0] == [set(step) for step in cut(order(padded=not padded))]


def test_without_padding_the_micro_batches_of_a_step_hold_about_as_many_tokens() -> None:
    by_chance = random.Random(1).sample(range(101), 101)
    assert sum(spreads(order(micro=2, padded=False))) < sum(spreads(by_chance)) / 2


def test_the_heaviest_steps_come_first_in_the_first_epoch_alone() -> None:
    lengths = [10] * 40 + [90] + [30] * 8 + [10] * 15
    first = list(Order(lengths, 8, 2, False, 1, lambda: 0))
    weights = [sum(lengths[row] for row in step) for step in cut(first)[:-1]]
    assert weights[0] == max(weights)
    assert any(lengths[row] == 90 for step in cut(first)[:2] for row in step)
    second = [cut(order(epoch=1, micro=2, padded=False))[n] for n in range(12)]
    assert sum(LENGTHS[row] for row in second[0]) < max(sum(LENGTHS[row] for row in step) for step in second)


@pytest.mark.parametrize(("padded", "largest"), [(True, 4 * 90), (False, 90 + 3 * 10)])
def test_the_largest_micro_batch_counts_its_padding(padded: bool, largest: int) -> None:
    lengths = [90, 90] + [10] * 6
    assert Order(lengths, 8, 4, padded, 1, lambda: 0).largest(2) == largest


@pytest.mark.parametrize(
    ("padded", "tokens", "batch"),
    [(False, 150, 8), (False, 149, 7), (False, 89, 1), (True, 640, 8), (True, 639, 7), (True, 5, 1)],
)
def test_held_out_rows_are_looked_at_together_as_far_as_they_fit(padded: bool, tokens: int, batch: int) -> None:
    lengths = [10] * 8 + [80] + [10] * 8
    assert batch_within(lengths, 8, tokens, padded) == batch


def test_no_held_out_row_is_too_many() -> None:
    assert batch_within([], 8, 0, True) == 8


def spreads(rows: list[int]) -> list[int]:
    """For each whole step, how much its largest and its smallest micro-batch of two differ in tokens."""
    steps = [[sum(LENGTHS[row] for row in micro) for micro in cut(step, 2)] for step in cut(rows)[:-1]]
    return [max(tokens) - min(tokens) for tokens in steps]
