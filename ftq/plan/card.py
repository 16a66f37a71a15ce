"""The card that trains: its memory, its speed, what earlier runs on it have shown; and the table of known cards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from ftq.errors import NotFound, did_you_mean

GIB = 2**30
TERA = 1e12
USABLE = 0.94  # of the free memory: the rest is the allocator's loss
NEWEST = 5  # earlier trainings whose starts are looked at: the one in the middle counts
MOST_GIB = 1000  # of a card's memory; a larger number is a card's name: 4090

# name -> (GiB, FLOP/s); the first whose words are all in the driver's name is taken. Memory is the maker's; the speed
# is what a large 16-bit matrix product reaches in practice, about three quarters of the maker's dense peak. The first
# run on a card measures the real speed, and from then on that counts.
KNOWN: dict[str, tuple[int, float]] = {
    "B200": (180, 1600 * TERA), "H200": (141, 700 * TERA), "GH200": (96, 700 * TERA),
    "H100 PCIe": (80, 550 * TERA), "H100": (80, 700 * TERA), "A100 40GB": (40, 250 * TERA), "A100": (80, 250 * TERA),
    "L40S": (48, 270 * TERA), "L40": (48, 135 * TERA), "L4": (24, 65 * TERA), "A40": (48, 110 * TERA),
    "A10": (24, 80 * TERA), "RTX 6000 Ada": (48, 270 * TERA), "RTX A6000": (48, 115 * TERA),
    "RTX 5090": (32, 180 * TERA), "RTX 5080": (16, 95 * TERA), "RTX 4090": (24, 150 * TERA),
    "RTX 4080": (16, 80 * TERA), "RTX 4070": (12, 50 * TERA), "RTX 4060": (8, 25 * TERA),
    "RTX 3090": (24, 65 * TERA), "RTX 3080": (10, 50 * TERA), "RTX 3070": (8, 35 * TERA), "RTX 3060": (12, 24 * TERA),
    "V100": (32, 90 * TERA), "T4": (16, 30 * TERA), "CPU": (16, 0.1 * TERA),
}  # fmt: skip


# Of these the ones with FP8: Ada, Hopper and Blackwell.
FP8 = {"B200", "H200", "GH200", "H100 PCIe", "H100", "L40S", "L40", "L4", "RTX 6000 Ada", "RTX 5090", "RTX 5080",
       "RTX 4090", "RTX 4080", "RTX 4070", "RTX 4060"}  # fmt: skip

# How a training begins on its worker, which decides for how long its first steps wait: the first of a model in this
# way, one on other rows, one on the same rows, one that goes on from a checkpoint.
FIRST, OTHER_ROWS, AGAIN, RESUMED = "first", "other rows", "again", "resumed"


class Way(NamedTuple):
    """What decides about a training's memory, speed and kernels, so that one run tells of another done the same way."""

    engine: str
    load_in_4bit: bool
    checkpointing: bool
    load_in_fp8: bool


@dataclass(frozen=True)
class Start:
    """What an earlier training took beside its steps and evaluations, in seconds; None for one that didn't measure it.

    `here`: by the worker that the next one goes to. `alike`: what both have in common, "model" or "rows" or "".
    """

    engine: str
    load_in_4bit: bool
    checkpointing: bool
    began: str
    seconds: float | None
    here: bool = False
    alike: str = ""
    load_in_fp8: bool = False

    @property
    def way(self) -> Way:
        return Way(self.engine, self.load_in_4bit, self.checkpointing, self.load_in_fp8)


@dataclass(frozen=True)
class Correction:
    """measured / predicted of an earlier run: of the peak memory and of a step's time."""

    engine: str
    load_in_4bit: bool
    checkpointing: bool
    peak: float = 1.0
    seconds: float = 1.0
    load_in_fp8: bool = False

    @property
    def way(self) -> Way:
        return Way(self.engine, self.load_in_4bit, self.checkpointing, self.load_in_fp8)


@dataclass(frozen=True)
class Card:
    """The device that trains: the bytes a run may use, and the FLOP/s that a large matrix product reaches.

    `flops` is 0 where it isn't known; `fp8`: it multiplies in FP8. `corrections` and
    `starts` are of earlier runs on this kind of card, the most alike first.
    """

    name: str
    memory: int
    flops: float
    corrections: tuple[Correction, ...] = ()
    starts: tuple[Start, ...] = ()
    fp8: bool = False

    @property
    def gpu(self) -> bool:
        return self.name != "CPU"

    def correction(self, way: Way) -> Correction:
        """The correction for this way to train.

        A run done another way corrects only the time: the card's speed carries over, the memory doesn't.
        """
        if same := next((known for known in self.corrections if known.way == way), None):
            return same
        seconds = next((known.seconds for known in self.corrections if known.engine == way.engine), 1.0)
        return Correction(way.engine, way.load_in_4bit, way.checkpointing, seconds=seconds, load_in_fp8=way.load_in_fp8)

    def begins(self, way: Way) -> str:
        """How a training done this way begins, if it doesn't go on from a checkpoint."""
        done = {start.alike for start in self.starts if start.here and start.way == way}
        return AGAIN if "rows" in done else OTHER_ROWS if "model" in done else FIRST

    def starting(self, engine: str, began: str | None) -> float | None:
        """What trainings that began so (None: in any way) took beside steps and looks: on this worker, else on others.

        None if none has measured it.
        """
        known = [start for start in self.starts if start.engine == engine and began in (None, start.began)]
        return _middle(start.seconds for start in known if start.here) or _middle(start.seconds for start in known)


def _middle(seconds: Iterable[float | None]) -> float | None:
    measured = [value for value in seconds if value is not None][:NEWEST]
    return median(measured) if measured else None


@dataclass(frozen=True)
class Machine:
    """What a plan has to know of the machine. The client guesses it, the train stage looks."""

    card: Card
    engine: str
    dtype: str
    total: int  # bytes of the whole device, whoever holds them
    spread_keys: bool = False  # attention gets a copy of key and value for each query head
    keeps_apart: bool = True  # on a CPU, attention can see examples that lie end to end each for itself


def known_card(name: str) -> str | None:
    """The table's name for what a driver calls the card, or None."""
    words = set(name.lower().replace("-", " ").split())
    return next((known for known in KNOWN if set(known.lower().split()) <= words), None)


def speed_of(name: str) -> float | None:
    """FLOP/s that this card reaches, by the table; None if it isn't in it."""
    known = known_card(name)
    return KNOWN[known][1] if known else None


def has_fp8(name: str) -> bool:
    """Whether this card has FP8, by the table."""
    return known_card(name) in FP8


def parse_card(text: str) -> Card:
    """The card of `--card`: a name from the table (`RTX 4090`), or gigabytes of memory (`24`). NotFound for others."""
    if text.replace(".", "", 1).isdecimal() and float(text) <= MOST_GIB:
        return Card(f"a card of {text} GiB", int(float(text) * GIB * USABLE), 0.0)
    squeezed = {name.lower().replace(" ", ""): name for name in KNOWN}
    known = squeezed.get(text.lower().replace(" ", "")) or known_card(text)
    if known is None:
        named = next((f" Did you mean {name}?" for name in KNOWN if text.lower() in name.lower().split()), "")
        near = named or did_you_mean(text, [name.lower() for name in KNOWN])
        raise NotFound(
            f"--card {text}: not in the table.{near}",
            f"Known: {', '.join(KNOWN)}; or give its memory in GiB, for example --card 24.",
        )
    memory, flops = KNOWN[known]
    return Card(known, int(memory * GIB * USABLE), flops, fp8=known in FP8)
