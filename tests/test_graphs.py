"""Steps as CUDA graphs: where a step lies while it is played, and what fills the place up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from tests.tiny import make_tiny_model
from worker.stages.engine.graphs import SIZES, SMALLEST, Place, size_for
from worker.stages.model.tokens import IGNORED


def batch(lengths: list[int], vocabulary: int) -> dict[str, Any]:
    """Examples end to end, as the collator makes them: an example's first token is nobody's label."""
    drawn = torch.Generator().manual_seed(sum(lengths))
    ids = [torch.randint(3, vocabulary, (length,), generator=drawn) for length in lengths]
    labels = [torch.cat([torch.tensor([IGNORED]), one[1:]]) for one in ids]
    return {
        "input_ids": torch.cat(ids)[None],
        "labels": torch.cat(labels)[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "packed_seq_lengths": torch.tensor(lengths, dtype=torch.int32),
    }


@given(st.integers(1, 100_000))
def test_a_place_has_room_for_one_token_more_and_little_beyond(tokens: int) -> None:
    size = size_for(tokens)
    assert tokens < size <= tokens + max(SMALLEST, tokens / SIZES)
    assert size_for(size - 1) == size


@settings(max_examples=40)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=64))
def test_a_place_says_where_every_example_ends(lengths: list[int]) -> None:
    size = size_for(sum(lengths))
    place = Place(size, len(lengths), max(lengths), "cpu")
    most = int(place.lengths.max())  # what the kernels' grids are made for, once
    assert (int(place.lengths.sum()), place.positions.shape) == (size, (1, size))
    place.fill(batch(lengths, 100), torch.tensor(7))
    rest = size - sum(lengths)
    assert place.lengths.tolist() == [*lengths, rest]
    assert place.ends.tolist() == [0, *torch.tensor([*lengths, rest]).cumsum(0).tolist()]
    assert most >= max(*lengths, rest)
    assert place.positions[0, -rest:].tolist() == list(range(rest))
    assert set(place.labels[0, -rest:].tolist()) == {IGNORED}
    assert int(place.count) == 7


def test_nothing_is_learned_from_what_fills_a_place_up(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    model: Any = AutoModelForCausalLM.from_pretrained(base, attn_implementation="sdpa", dtype=torch.float32)
    place = Place(256, 3, 60, "cpu")
    for lengths in ([31, 5, 60], [60, 1, 17], [2, 44, 44]):  # one place for all
        examples = batch(lengths, model.config.vocab_size)
        place.fill(examples, (examples["labels"] != IGNORED).sum())
        inputs = {name: value for name, value in place.inputs.items() if name != "packed_seq_lengths"}
        losses, gradients = [], []
        for one in (apart(examples, lengths), [inputs]):
            model.zero_grad()
            loss = sum(model(**part, num_items_in_batch=place.count).loss for part in one)
            loss.backward()
            losses.append(loss.detach())
            gradients.append({name: value.grad.clone() for name, value in model.named_parameters()})
        torch.testing.assert_close(losses[1], losses[0])
        torch.testing.assert_close(gradients[1], gradients[0])


def apart(examples: dict[str, Any], lengths: list[int]) -> list[dict[str, Any]]:
    """Each example by itself."""
    parts = zip(*(examples[name][0].split(lengths) for name in ("input_ids", "labels")), strict=True)
    return [{"input_ids": ids[None], "labels": labels[None]} for ids, labels in parts if (labels != IGNORED).any()]
