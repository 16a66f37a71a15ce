"""LoRA's rank, alpha, learning rate and word dropout by the size of the base model, where the spec leaves them open.

The smallest models were measured (benchmarks/README.md): SmolLM2-135M learns next to nothing of a manual at 2e-4 with
alpha 16, and most at 2e-3 with alpha 32; without 15 % of the questions' words it answers twice as many that are asked
in other words. The rates of the larger ones are those that the field trains with, and nothing is dropped for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftq.spec.options import RunSpec


@dataclass(frozen=True)
class Recipe:
    """What every optimiser step of a LoRA training run goes by. Each field has its option's name."""

    r: int
    alpha: int
    learning_rate: float
    word_dropout: float = 0.0

    @classmethod
    def of(cls, spec: RunSpec) -> Recipe:
        """The numbers of a spec that `decided` has given. ValueError where it still says `auto`."""
        return cls(int(spec.r), int(spec.alpha), float(spec.learning_rate), float(spec.word_dropout))

    def __str__(self) -> str:
        dropped = f", word dropout {self.word_dropout:g}" if self.word_dropout else ""
        return f"rank {self.r}, alpha {self.alpha}, learning rate {self.learning_rate:g}{dropped}"


# Parameters of the base model below which a recipe holds.
RECIPES = ((0.6e9, Recipe(32, 32, 2e-3, 0.15)), (1.6e9, Recipe(32, 32, 5e-4)), (5e9, Recipe(64, 32, 3e-4)))
LARGEST = Recipe(64, 32, 2e-4)


def recipe_of(spec: RunSpec, parameters: int) -> Recipe:
    """The spec's own numbers, and for each `auto` the one for a model of so many parameters."""
    usual = next((recipe for below, recipe in RECIPES if parameters < below), LARGEST)
    return Recipe(
        usual.r if spec.r == "auto" else spec.r,
        usual.alpha if spec.alpha == "auto" else spec.alpha,
        usual.learning_rate if spec.learning_rate == "auto" else spec.learning_rate,
        _word_dropout(spec, usual) if spec.word_dropout == "auto" else spec.word_dropout,
    )


def calmer(spec: RunSpec, parameters: int) -> str:
    """What to do about a training run that diverged with the spec's learning rate."""
    now = float(recipe_of(spec, parameters).learning_rate)
    usual = float(recipe_of(spec.model_copy(update={"learning_rate": "auto"}), parameters).learning_rate)
    if now > usual:
        return f"Lower learning_rate and submit it anew: it was {now:g}, `auto` takes {usual:g} for this model."
    return f"Submit it anew with a learning_rate below {now:g}, or with dtype=bfloat16 or float32."


def _word_dropout(spec: RunSpec, usual: Recipe) -> float:
    """None where there are no questions on facts, or where the model learns to write them: they are to be whole."""
    return 0.0 if spec.train_on_prompt or spec.questions == "none" else usual.word_dropout


def decided(spec: RunSpec, parameters: int) -> RunSpec:
    """The spec with the recipe's numbers in place of `auto`."""
    return spec.model_copy(update=vars(recipe_of(spec, parameters)))
