"""What a training needs: peak memory and time, from the model's shape, the dataset's lengths and the card.

Pure arithmetic, so that `ftq submit --dry-run` on the client and the train stage on the worker agree. Sources: the
counting of weights, adapter and optimiser states is exact; the bytes that a layer keeps for the backward pass were
counted in Unsloth's autograd functions and corrected by measurement (benchmarks/README.md); a token costs 4 FLOPs a
weight with frozen weights (forward and gradient of the input), 6 where a layer is computed again.
Sizes are bytes, times seconds, lengths tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

GIB = 2**30
# Optimiser steps that a training should have before its steps are made larger, and the tokens of a step beyond which
# a GPU gets no faster. The examples of a step depend on the dataset alone, never on the card.
STEPS_WANTED, TOKENS_WANTED = 200, 16384
FEWEST, MOST = 8, 64  # examples in a step
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]  # a layer's linear modules

# In a config: the layers that a Shape counts, and parts of the names of what others have.
ATTENTION = ("full_attention", "sliding_attention", "chunked_attention")
NOT_ATTENTION = ("mamba", "ssm", "linear_num", "linear_attn")

Checkpointing = bool | str
USABLE = 0.94  # of the free memory: the rest is the allocator's loss
MOMENTS = 0.05  # of a card's memory may be spent on AdamW's moments in 32 instead of 8 bit
EXACT = 1.05  # a 16-bit base may take so much longer than a 4-bit one, for nothing of it is rounded
TOLERANCE = 1.15  # a plan that is so much too large isn't tried at all: the formula is no better than that


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes, as Llama, Mistral, Qwen, Phi-3 and Gemma have them."""

    layers: int
    hidden: int
    intermediate: int
    query: int  # heads x their width
    key: int  # key-value heads x their width
    vocabulary: int
    tied: bool  # the output layer is the embedding
    fused: bool = False  # query, key and value are one module, gate and up another (Phi-3)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Shape | None:
        """From a checkpoint's config.json; None for a model that is built otherwise (experts, state spaces, linear
        attention)."""
        config = reading_part(config)
        names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
        if any(not isinstance(config.get(name), int) for name in names) or _is_mixed(config):
            return None
        layers, hidden, intermediate, heads, vocabulary = (config[name] for name in names)
        width = config.get("head_dim") or hidden // heads
        keys = (config.get("num_key_value_heads") or heads) * width
        return cls(layers, hidden, intermediate, heads * width, keys, vocabulary,
                   bool(config.get("tie_word_embeddings", False)), config.get("model_type") == "phi3")  # fmt: skip

    @property
    def modules(self) -> dict[str, tuple[int, int]]:
        """A layer's linear modules: name -> (columns in, rows out)."""
        hidden, middle = self.hidden, self.intermediate
        return {
            "q_proj": (hidden, self.query), "k_proj": (hidden, self.key), "v_proj": (hidden, self.key),
            "o_proj": (self.query, hidden), "gate_proj": (hidden, middle), "up_proj": (hidden, middle),
            "down_proj": (middle, hidden),
        }  # fmt: skip

    @property
    def linear(self) -> int:
        """Weights in the layers' linear modules: what 4 bit shrinks and every token is multiplied with."""
        return self.layers * sum(columns * rows for columns, rows in self.modules.values())

    @property
    def embeddings(self) -> int:
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        return self.linear + self.embeddings

    def adapter(self, r: int, targets: list[str]) -> int:
        """Weights of a LoRA of rank r on these modules: r x (columns + rows) each, fused ones share their columns."""
        sizes = [sum(self.modules[name]) for name in targets if name in self.modules]
        if self.fused:
            groups = [{"q_proj", "k_proj", "v_proj"} & set(targets), {"gate_proj", "up_proj"} & set(targets)]
            sizes += [-self.hidden * (len(group) - 1) for group in groups if group]
        return self.layers * r * sum(sizes)


def reading_part(config: dict[str, Any]) -> dict[str, Any]:
    """A config.json, or what is in it of the language model, for one that also sees or hears."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _is_mixed(config: dict[str, Any]) -> bool:
    """Whether some layers aren't attention and one MLP. Each family has its own names for what it has instead."""
    experts = any("experts" in name and isinstance(value, int) and value > 1 for name, value in config.items())
    others = any(value and any(word in name for word in NOT_ATTENTION) for name, value in config.items())
    kinds = config.get("layer_types")
    return experts or others or (isinstance(kinds, list) and any(kind not in ATTENTION for kind in kinds))


@dataclass(frozen=True)
class Correction:
    """measured / predicted of an earlier training: of the peak memory and of a step's time."""

    engine: str
    load_in_4bit: bool
    checkpointing: bool
    peak: float = 1.0
    seconds: float = 1.0


@dataclass(frozen=True)
class Card:
    """The device that trains: the memory a training may use, and the FLOP/s that a large matrix product reaches.

    `corrections` is what earlier trainings on this kind of card have shown, the most alike first.
    """

    name: str
    memory: int
    flops: float
    corrections: tuple[Correction, ...] = ()

    @property
    def gpu(self) -> bool:
        return self.name != "CPU"

    def correction(self, engine: str, load_in_4bit: bool, checkpointing: Checkpointing) -> Correction:
        """That of the first training done this way. Another way's, with this engine, says something of the time only:
        how quick the card is shows in all of them, what each one keeps in memory doesn't."""
        if same := self._same_way(engine, load_in_4bit, checkpointing):
            return same[0]
        seconds = next((known.seconds for known in self.corrections if known.engine == engine), 1.0)
        return Correction(engine, load_in_4bit, bool(checkpointing), seconds=seconds)

    def compiles(self, engine: str, load_in_4bit: bool, checkpointing: Checkpointing) -> bool:
        """Whether a training's kernels have to be compiled first: none was done this way on this kind of card."""
        return self.gpu and engine == "unsloth" and not self._same_way(engine, load_in_4bit, checkpointing)

    def _same_way(self, engine: str, load_in_4bit: bool, checkpointing: Checkpointing) -> list[Correction]:
        way = (engine, load_in_4bit, bool(checkpointing))
        return [known for known in self.corrections if (known.engine, known.load_in_4bit, known.checkpointing) == way]


@dataclass(frozen=True)
class Rows:
    """A dataset's examples, by their lengths."""

    examples: int
    tokens: int
    longest: int
    deviation: float = 0.0  # standard deviation of the lengths

    @classmethod
    def of(cls, lengths: list[int]) -> Rows:
        mean = sum(lengths) / max(1, len(lengths))
        spread = sum((length - mean) ** 2 for length in lengths) / max(1, len(lengths))
        return cls(len(lengths), sum(lengths), max(lengths, default=0), math.sqrt(spread))

    @property
    def mean(self) -> float:
        return self.tokens / max(1, self.examples)

    def largest(self, batch: int) -> int:
        """Tokens of the largest of many batches: four deviations over the mean, but never over the longest row's."""
        expected = batch * self.mean + 4 * self.deviation * math.sqrt(batch)
        return int(min(batch * self.longest, max(expected, self.longest)))

    def filled(self, batch: int, step: int) -> float:
        """Mean length of the rows of a step that is `step` of them, each filled up to the longest of its micro-batch.

        A micro-batch is `batch` rows next to each other by length; its longest is guessed as for a normal distribution
        (Blom 1958, Statistical Estimates and Transformed Beta-Variables: the expected values of order statistics).
        """
        ranks = range(batch, step + 1, batch)
        over = sum(NormalDist().inv_cdf((rank - 0.375) / (step + 0.25)) for rank in ranks) / max(1, len(ranks))
        return min(self.longest, self.mean + self.deviation * over)


@dataclass(frozen=True)
class Wanted:
    """What the spec fixes; None is what the plan may choose."""

    r: int
    targets: list[str]
    epochs: float
    max_steps: int | None = None
    batch_size: int | None = None
    accumulation: int | None = None
    load_in_4bit: bool | None = None
    checkpointing: Checkpointing | None = None
    adam_8bit: bool = True
    gpus: int = 1
    engine: str = "unsloth"
    padded: bool = False  # rows of a batch are filled up to the longest
    bytes_a_number: int = 2  # of the compute type
    spread_keys: bool = False  # attention gets a copy of key and value for each query head

    @classmethod
    def of(cls, spec: Mapping[str, Any], *, engine: str, gpu: bool, padded: bool, adam_8bit: bool,
           bytes_a_number: int, spread_keys: bool = False) -> Wanted:  # fmt: skip
        """From a spec's options, `auto` left open, and what its machine has decided."""
        open_ = {
            name: None if spec[name] == "auto" else spec[name]
            for name in ("batch_size", "gradient_accumulation_steps", "load_in_4bit", "gradient_checkpointing")
        }
        return cls(
            r=spec["r"], targets=spec["target_modules"], epochs=spec["epochs"], max_steps=spec["max_steps"],
            batch_size=open_["batch_size"], accumulation=open_["gradient_accumulation_steps"],
            load_in_4bit=open_["load_in_4bit"] if gpu else False, checkpointing=open_["gradient_checkpointing"],
            adam_8bit=adam_8bit, gpus=spec["gpus"], engine=engine, padded=padded, bytes_a_number=bytes_a_number,
            spread_keys=spread_keys,
        )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """One way to train, and what it costs. `tokens` is the largest micro-batch of one device."""

    load_in_4bit: bool
    checkpointing: Checkpointing
    batch_size: int
    accumulation: int
    gpus: int
    tokens: int
    steps: int
    peak: int
    step_seconds: float

    @property
    def examples_in_step(self) -> int:
        return self.batch_size * self.accumulation

    @property
    def seconds(self) -> float:
        """Of the steps alone; see `training_seconds`."""
        return self.steps * self.step_seconds


def examples_in_step(wanted: Wanted, rows: Rows) -> int:
    """The effective batch. From the spec, or from the dataset alone: small for few examples, for they have to make
    steps enough to learn, larger for many, until a step fills a GPU. Several GPUs share it evenly."""
    if wanted.batch_size and wanted.accumulation:
        return wanted.batch_size * wanted.accumulation
    seen = rows.examples * wanted.epochs
    sizes = [FEWEST * 2**n for n in range(8) if FEWEST * 2**n <= MOST]
    fitting = [size for size in sizes if seen / size >= STEPS_WANTED and size * rows.mean <= TOKENS_WANTED]
    chosen = max(fitting, default=FEWEST)
    unit = wanted.accumulation or (wanted.batch_size or 1) * wanted.gpus
    return max(1, round(chosen / unit)) * unit


def steps_of(wanted: Wanted, rows: Rows) -> int:
    """Optimiser steps: those of an epoch, the last smaller one counted, times the epochs; or max_steps."""
    if wanted.max_steps:
        return wanted.max_steps
    return math.ceil(math.ceil(rows.examples / examples_in_step(wanted, rows)) * wanted.epochs)


def takes_adam_8bit(spec: Mapping[str, Any], card: Card, shape: Shape | None) -> bool:
    """Whether AdamW keeps its moments in 8 bit: asked for, or where 32 bit would take a large part of the card. They
    save 6 bytes a weight, but are a launch for each matrix, where AdamW in 32 bit is a few for all."""
    if not card.gpu or spec["optimizer"] != "auto":
        return card.gpu and spec["optimizer"] == "adamw_8bit"
    saved = ADAM_BYTES - ADAM_8BIT_BYTES
    return shape is None or shape.adapter(spec["r"], spec["target_modules"]) * saved > card.memory * MOMENTS


Largest = Callable[[int], int]  # examples of a micro-batch -> tokens that the largest one holds


def plans(shape: Shape, rows: Rows, card: Card, wanted: Wanted, largest: Largest | None = None) -> Iterator[Plan]:
    """Every way to train that keeps what the spec fixes, whether it fits or not.

    `largest` is for who knows the order of the rows; from their lengths alone it is estimated.
    """
    effective = examples_in_step(wanted, rows)
    share = max(1, effective // wanted.gpus)
    bits = [wanted.load_in_4bit] if wanted.load_in_4bit is not None else [False, True]
    saving: Checkpointing = "unsloth" if wanted.engine == "unsloth" else True
    keeping = [wanted.checkpointing] if wanted.checkpointing is not None else [False, saving]
    for four_bit in bits:
        for checkpointing in keeping:
            for batch in _batches(wanted, effective, share):
                if effective // batch % wanted.gpus:  # as an earlier version of ftq planned it
                    continue
                tokens = batch * rows.longest if wanted.padded else (largest or rows.largest)(batch)
                yield _plan(shape, rows, card, wanted, four_bit, checkpointing, batch, effective // batch, tokens)


def choose(shape: Shape, rows: Rows, card: Card, wanted: Wanted, largest: Largest | None = None) -> Plan | None:
    """The quickest of the plans that fit the card, of two as quick the one that needs less; None if none fits."""
    fitting = [plan for plan in plans(shape, rows, card, wanted, largest) if plan.peak <= card.memory]

    def slowness(plan: Plan) -> int:
        return round(100 * math.log(plan.step_seconds * (EXACT if plan.load_in_4bit else 1.0)))

    return min(fitting, key=lambda plan: (slowness(plan), plan.peak), default=None)


def smallest(shape: Shape, rows: Rows, card: Card, wanted: Wanted, largest: Largest | None = None) -> Plan:
    """The plan that needs least: what to say when none fits."""
    return min(plans(shape, rows, card, wanted, largest), key=lambda plan: plan.peak)


def worth_trying(shape: Shape, rows: Rows, card: Card, wanted: Wanted, largest: Largest | None = None) -> Plan | None:
    """What `choose` says; where nothing fits, the smallest if it is so near that the formula may be wrong."""
    least = smallest(shape, rows, card, wanted, largest)
    fits = choose(shape, rows, card, wanted, largest)
    return fits or (least if least.peak <= card.memory * TOLERANCE else None)


def _batches(wanted: Wanted, effective: int, share: int) -> list[int]:
    if wanted.batch_size:
        return [wanted.batch_size]
    if wanted.accumulation:
        return [max(1, effective // wanted.accumulation)]
    return [size for size in range(share, 0, -1) if share % size == 0]


def _plan(shape: Shape, rows: Rows, card: Card, wanted: Wanted, four_bit: bool, checkpointing: Checkpointing,
          batch: int, accumulation: int, tokens: int) -> Plan:  # fmt: skip
    needed = peak(shape, wanted, four_bit, checkpointing, tokens)
    mean = batch * (rows.filled(batch, batch * accumulation) if wanted.padded else rows.mean)
    reached = card.flops * (EFFICIENCY[wanted.engine] if card.gpu else CPU_EFFICIENCY)
    micro = micro_batch_seconds(shape, wanted, four_bit, checkpointing, mean, rows.mean, reached)
    step = accumulation / wanted.gpus * micro + optimiser_seconds(shape, wanted)
    shown = card.correction(wanted.engine, four_bit, checkpointing)
    needed, step = int(needed * shown.peak), step * shown.seconds
    return Plan(four_bit, checkpointing, batch, accumulation, wanted.gpus, tokens, steps_of(wanted, rows), needed, step)


# ---- memory -----------------------------------------------------------------------------------------------

BYTES_4BIT = 0.5 + 0.5 / 32  # NF4, and its scales quantised themselves: a byte for 64 weights
ADAPTER_BYTES, ADAM_BYTES, ADAM_8BIT_BYTES = 4 + 4, 8, 2  # weight and gradient in 32 bit; two moments
# Numbers that a layer keeps for each token until the backward pass, as multiples of its widths: inputs and outputs of
# both norms; query, key and value, the rotated query and key, what attention returns; gate and up. Unsloth's own
# layers make the product of gate and up again; those of a fused model, which it compiles, keep it.
KEPT = {"hidden": 4, "query": 3, "key": 3, "intermediate": 2}
HEAD = 3  # hidden states around the loss, as multiples of `hidden`; the logits are made in chunks
PLAIN_LOGITS_BYTES = 10  # plain TRL keeps a token's logits in 16 bit, their softmax and gradient in 32
WORKSPACE = 0.75 * GIB  # a chunk of logits, the matrix libraries', the allocator's rounding


def peak(shape: Shape, wanted: Wanted, four_bit: bool, checkpointing: Checkpointing, tokens: int) -> int:
    """Most bytes that are allocated at once while a micro-batch of so many tokens goes through the model."""
    weights = shape.linear * (BYTES_4BIT if four_bit else wanted.bytes_a_number)
    weights += shape.embeddings * wanted.bytes_a_number
    adapter = shape.adapter(wanted.r, wanted.targets)
    adapter *= ADAPTER_BYTES + (ADAM_8BIT_BYTES if wanted.adam_8bit else ADAM_BYTES)
    return int(weights + adapter + tokens * token_bytes(shape, wanted, checkpointing) + WORKSPACE)


def token_bytes(shape: Shape, wanted: Wanted, checkpointing: Checkpointing) -> float:
    """Bytes that each token of a micro-batch adds to the peak."""
    layer = wanted.bytes_a_number * (
        KEPT["hidden"] * shape.hidden + KEPT["query"] * shape.query + KEPT["key"] * shape.key
        + (KEPT["intermediate"] + shape.fused) * shape.intermediate
    )  # fmt: skip
    if wanted.spread_keys and shape.key < shape.query:
        layer += wanted.bytes_a_number * 2 * shape.query
    head = wanted.bytes_a_number * HEAD * shape.hidden
    if wanted.engine == "trl":
        head += PLAIN_LOGITS_BYTES * shape.vocabulary
    if checkpointing is False:
        return shape.layers * layer + head
    inputs = 2 if checkpointing == "unsloth" else shape.layers  # Unsloth moves the layers' inputs to the host
    return layer + inputs * wanted.bytes_a_number * shape.hidden + head


# ---- time -------------------------------------------------------------------------------------------------

EFFICIENCY = {"unsloth": 0.7, "trl": 0.4}  # of a large matrix product's FLOP/s, on a GPU
CPU_EFFICIENCY = 0.35
LAYER_SECONDS = 3e-3  # least time of a layer, forward and backward: the host has to launch its kernels
DEQUANTISE_SECONDS = 1e-12  # a weight, from 4 to 16 bit, each time it is used
ADAM_SECONDS = 4.5e-11  # a weight of the adapter
STEP_SECONDS, MICRO_BATCH_SECONDS = 0.01, 0.02  # of the host, while the device waits


def micro_batch_seconds(
    shape: Shape, wanted: Wanted, four_bit: bool, checkpointing: Checkpointing, tokens: float, length: float,
    flops: float,
) -> float:  # fmt: skip
    """Forward and backward of a micro-batch, at so many FLOP/s. `length` is the mean row's: attention grows with it."""
    passes = 3 if checkpointing else 2
    weights = shape.linear + shape.vocabulary * shape.hidden + 1.5 * shape.adapter(wanted.r, wanted.targets)
    attention = shape.layers * shape.query * length  # multiply-adds of a token's half square of scores, twice
    compute = tokens * 2 * passes * (weights + attention) / flops
    launches = shape.layers * LAYER_SECONDS * passes / 2
    both = math.sqrt(math.hypot(compute**2, launches**2))  # side by side: the longer one, more where they are alike
    return MICRO_BATCH_SECONDS + both + (passes * shape.linear * DEQUANTISE_SECONDS if four_bit else 0.0)


def optimiser_seconds(shape: Shape, wanted: Wanted) -> float:
    return shape.adapter(wanted.r, wanted.targets) * ADAM_SECONDS + STEP_SECONDS


# The first two steps wait for kernels: to be found in the cache and loaded, or first to be compiled.
STARTING_SECONDS, COMPILING_SECONDS = {"unsloth": 10.0, "trl": 1.0}, 18.0


def training_seconds(plan: Plan, wanted: Wanted, card: Card, held_out: int, evaluations: int) -> float:
    """The training loop, which is what a training measures of itself: its steps, so many evaluations of the examples
    held out (forward passes), and what the first steps wait. Importing and loading the model are not in it.
    """
    example = plan.step_seconds / plan.examples_in_step / (3 if plan.checkpointing else 2)
    starting = STARTING_SECONDS[wanted.engine]
    if card.compiles(wanted.engine, plan.load_in_4bit, plan.checkpointing):
        starting += COMPILING_SECONDS
    return starting + plan.seconds + evaluations * held_out * example


def evaluations(plan: Plan, examples: int, every: int | None) -> int:
    """How often the validation loss is looked at: each so many steps (None: each epoch), and at the end."""
    return math.ceil(plan.steps / (every or math.ceil(examples / plan.examples_in_step)))
