"""Graphics cards by name: for a forecast on a card that has trained nothing yet.

Memory is the maker's, in GiB; the speed is what a large 16-bit matrix product reaches in practice, about three quarters
of the maker's dense peak. The first training on a card measures the real one, and from then on that counts.
"""

from __future__ import annotations

from ftq.errors import NotFound, did_you_mean
from ftq.plan.estimate import GIB, USABLE, Card

TERA = 1e12
MOST_GIB = 1000  # of a card's memory; a larger number is a card's name: 4090
# name -> (GiB, FLOP/s); the first whose words are all in the driver's name is taken.
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


def find(name: str) -> str | None:
    """The table's name for what a driver calls the card, or None."""
    words = set(name.lower().replace("-", " ").split())
    return next((known for known in KNOWN if set(known.lower().split()) <= words), None)


def speed(name: str) -> float | None:
    """FLOP/s that this card reaches, by the table; None if it isn't in it."""
    known = find(name)
    return KNOWN[known][1] if known else None


def parse(text: str) -> Card:
    """The card of `--card`: a name from the table (`RTX 4090`), or gigabytes of memory (`24`). NotFound for others."""
    if text.replace(".", "", 1).isdecimal() and float(text) <= MOST_GIB:
        return Card(f"a card of {text} GiB", int(float(text) * GIB * USABLE), 0.0)
    squeezed = {name.lower().replace(" ", ""): name for name in KNOWN}
    known = squeezed.get(text.lower().replace(" ", "")) or find(text)
    if known is None:
        named = next((f" Did you mean {name}?" for name in KNOWN if text.lower() in name.lower().split()), "")
        near = named or did_you_mean(text, [name.lower() for name in KNOWN])
        raise NotFound(f"--card {text}: not in the table.{near}",
                       f"Known: {', '.join(KNOWN)}; or give its memory in GiB, for example --card 24.")  # fmt: skip
    memory, flops = KNOWN[known]
    return Card(known, int(memory * GIB * USABLE), flops)
