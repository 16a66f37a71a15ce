"""LoRA's numbers where the spec leaves them to the size of the model."""

from __future__ import annotations

import pytest

from ftq.errors import UserError
from ftq.spec.options import parse
from ftq.spec.recipe import calmer, decided, recipe_of


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (135e6, "rank 32, alpha 32, learning rate 0.002, word dropout 0.15"),
        (1.2e9, "rank 32, alpha 32, learning rate 0.0005"),
        (3.8e9, "rank 64, alpha 32, learning rate 0.0003"),
        (8e9, "rank 64, alpha 32, learning rate 0.0002"),
    ],
)
def test_the_smaller_the_model_the_higher_the_rate(parameters: float, said: str) -> None:
    assert str(recipe_of(parse({"model": "smollm2-135m"}), int(parameters))) == said


def test_what_the_user_sets_stays() -> None:
    spec = decided(parse({"model": "smollm2-135m", "r": 8, "learning_rate": "1e-4"}), 135_000_000)
    assert (spec.r, spec.alpha, spec.learning_rate) == (8, 32, 1e-4)


def test_what_to_do_about_a_training_that_diverged_names_the_rate_that_auto_takes() -> None:
    def said(**options: object) -> str:
        return calmer(decided(parse({"model": "smollm2-135m", **options}), 135_000_000), 135_000_000)

    assert said(learning_rate=1) == (
        "Lower learning_rate and submit it anew: it was 1, `auto` takes 0.002 for this model."
    )
    other = "Submit it anew with a learning_rate below 0.002, or with dtype=bfloat16 or float32."
    assert said() == said(learning_rate=0.002) == other


def test_limits_are_said_once() -> None:
    with pytest.raises(UserError) as error:
        parse({"model": "smollm2-135m", "r": 0, "alpha": "much", "learning_rate": 3})
    assert error.value.message.splitlines() == [
        "learning_rate=3: expected number over 0 to 1 or auto",
        "r=0: expected integer 1 to 1024 or auto",
        "alpha=much: expected integer 1 to 4096 or auto",
    ]
