"""The card that trains: its memory, its speed, what earlier runs on it have shown; and the table of known cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from ftq.errors import NotFound, did_you_mean

GIB = 2**30
TERA = 1e12
USABLE = 0.94  # of the free memory: the rest is the allocator's loss
NEWEST = 5  # earlier trainings that are looked at: the one in the middle counts
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


# What most of a step's time goes into: the card's arithmetic; the host, which starts the kernels one by one, or as
# recorded graphs. A step that two of them take is bound by neither.
CARD, HOST, PLAYED, BOTH = "card", "host", "played", ""


class Way(NamedTuple):
    """What decides about a training's memory, speed and kernels, so that one run tells of another done the same way."""

    engine: str
    load_in_4bit: bool = False
    checkpointing: bool = False
    load_in_fp8: bool = False
    dtype: str = ""
    padding_free: bool = False
    gpus: int = 1

    def tells_of(self, other: Way) -> bool:
        """Whether the time of its steps says something of the other's.

        A 16-bit run shows what the card reaches. One in 4 bit or FP8 has a time of its own for making the numbers.
        """
        precision = (self.load_in_4bit, self.load_in_fp8)
        alike = (self.engine, self.dtype, self.gpus) == (other.engine, other.dtype, other.gpus)
        return alike and precision in ((False, False), (other.load_in_4bit, other.load_in_fp8))


@dataclass(frozen=True)
class Start:
    """What an earlier training took beside its steps and evaluations, in seconds; None for one that didn't measure it.

    `here`: by the worker that the next one goes to. `alike`: what both have in common, "model" or "rows" or "".
    """

    way: Way
    began: str
    seconds: float | None
    here: bool = False
    alike: str = ""


@dataclass(frozen=True)
class Correction:
    """measured / derived of an earlier run: of the peak memory and of a step's time; None for what wasn't measured.

    `bound`: by what its steps were bound. `fills`: most of its peak was what the rows' tokens take; None: not known.
    `here`, `alike`: on the worker, of the model that the next one has.
    """

    way: Way
    peak: float | None = None
    seconds: float | None = None
    bound: str = BOTH
    fills: bool | None = None
    here: bool = False
    alike: bool = False


class Factors(NamedTuple):
    """What a prediction is multiplied by: its memory, the card's part of a step, the host's part."""

    peak: float = 1.0
    card: float = 1.0
    host: float = 1.0


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

    def factors(self, way: Way, played: bool, fills: bool) -> Factors:
        """What earlier runs have shown of a training done this way, whose steps are `played` as graphs.

        Of memory only the same model's runs tell. Each part of a step's time is learned from the runs in which it was
        most of it, of this model or another. A run in which no part was tells only of its own model.
        """
        telling = [known for known in self.corrections if known.way.tells_of(way)]
        same = [known for known in self.corrections if known.alike and known.way == way]
        whole = _nearest([(known, known.seconds) for known in same if known.bound == BOTH], way)

        def part(bound: str) -> float:
            return _nearest([(known, known.seconds) for known in telling if known.bound == bound], way) or whole or 1.0

        peak = _nearest([(known, known.peak) for known in same if known.fills in (None, fills)], way)
        return Factors(peak or 1.0, part(CARD), part(PLAYED if played else HOST))

    def begins(self, way: Way) -> str:
        """How a training done this way begins, if it doesn't go on from a checkpoint."""
        done = {start.alike for start in self.starts if start.here and start.way == way}
        return AGAIN if "rows" in done else OTHER_ROWS if "model" in done else FIRST

    def starting(self, way: Way, began: str, guesses: dict[str, float]) -> float:
        """What a training that begins so takes beside steps and looks: as this one did before on this worker.

        Before that, what such a start took there, or on others, a guess among it; and where this training began
        otherwise before, as many times as much as it then took more than others.
        """
        timed = [start for start in self.starts if start.seconds is not None and start.began in guesses]
        known = [start for start in timed if start.way.engine == way.engine]
        own = [start for start in known if start.here and start.alike and start.way == way]

        def usual(began: str) -> float:
            such = [start for start in known if start.began == began]
            return _middle([start for start in such if start.here] or such, guesses[began]) or guesses[began]

        if same := _middle([start for start in own if start.began == began]):
            return same
        sizes = [start.seconds / usual(start.began) for start in own if start.seconds is not None][:NEWEST]
        return usual(began) * (min(2.0, max(0.5, median(sizes))) if sizes else 1.0)


def _middle(starts: Sequence[Start], *guess: float) -> float | None:
    measured = [start.seconds for start in starts if start.seconds is not None][:NEWEST]
    return median([*guess, *measured]) if measured else None


def _nearest(known: Sequence[tuple[Correction, float | None]], way: Way) -> float | None:
    """The middle value of the newest that are nearest: on this worker, done this way, of this model, in this order."""

    def near(one: Correction) -> tuple[bool, bool, bool]:
        return one.here, one.way == way, one.alike

    measured = [(near(one), value) for one, value in known if value is not None]
    nearest = max((rank for rank, _ in measured), default=None)
    values = [value for rank, value in measured if rank == nearest][:NEWEST]
    return median(values) if values else None


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
