"""What stops garbage: is this a sentence, is this a subject, is this part worth reading?"""

from __future__ import annotations

import re
import tomllib
from functools import lru_cache
from importlib.resources import files
from unicodedata import category

from ftq.facts.text import signs
from ftq.facts.text.signs import ENDS, PAUSES, asks

WORDS = 45  # of a sentence at most
DIGITS = 15  # of a figure at most
RECENT = 1024  # texts whose checks are remembered: each rule asks of the same sentences
LETTERS = re.compile(r"[^\W\d_]")
NO_LETTERS = bytes(byte for byte in range(128) if not chr(byte).isalpha())
CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
UNSPACED = re.compile(r"[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff]")  # Thai, Lao, Tibetan, Myanmar, Khmer
CODE = re.compile(r"`[^`]{0,500}`")
OPEN_ENDS = ",;，；、"  # behind which something else must follow
MARKS = "*{<>]_"  # with one of which markup is written
# `**`, `*x*`, `[x](y)`, `{* include *}`, `</b>`, `<https://...>`, reStructuredText's `>`__`.
MARKUP = re.compile(
    r"\*\*|(?<![\w*])\*\w[^*]*\w\*(?![\w*])|\]\(|\{[*%]|[*%]\}|</[a-z]{1,10}>|"
    r"<(?:b|br|code|em|i|p|strong)>|<https?:|>`?_"
)
NO_NAME = f"{ENDS}{PAUSES}:;,："  # what no name ends with


def _known() -> dict[str, str]:
    text: dict[str, str] = tomllib.loads(files("ftq.facts").joinpath("words.toml").read_text(encoding="utf-8"))
    return text


KNOWN = _known()


def known_words(name: str) -> frozenset[str]:
    """A list of words.toml."""
    return frozenset(KNOWN[name].split())


def known_phrases(name: str) -> frozenset[str]:
    """A list of words.toml whose entries have several words."""
    return frozenset(phrase.strip() for phrase in KNOWN[name].replace("\n", "|").split("|") if phrase.strip())


ABOUT = known_words("about")
POINTING, NO_SUBJECT = known_words("pointing"), known_words("no_subject")
EMPTY, NAVIGATION = known_phrases("empty"), known_phrases("navigation")
APOSTROPHE = re.compile("['’]")
POINTS = re.compile(
    r"(?:in|for|at|after|with|by|of|from|on|before|as|because of|due to)\s(?:this|these|that|those|such|addition|both|"
    r"either|other words|doing so|above|the (?:example|following|above|previous|last))\b",
    re.IGNORECASE,
)
ELSEWHERE = re.compile(
    r"\b(?:above|below|[Tt]he following|as follows|"
    r"(?:this|previous|next) (?:section|example|page|chapter|document|guide))\b"
)
LEADS_ELSEWHERE = (
    "above",
    "below",
    "he following",
    "as follows",
    "this ",
    "previous ",
    "next ",
)  # one of which that has
ELSEWHERE_UNSPACED = ("上面", "上例", "下面", "如下", "以下", "前面", "上述", "下の", "上の", "上記", "下記")
# `in this case`, `by this`: what was named in a sentence before.
POINTS_INSIDE = re.compile(
    r"\s(?:this|these|those)\b(?! (?:way|time|year|month|week)\b)|"
    r"(?:[,;]|\b(?:for|of|in|with|by|from|to|on|at|if|when|about)) that "
    r"(?=[a-z]+ (?:is|are|was|will|can|must|should|has)\b)|"
    r"\b(?:helps?|lets?|from|with|of|for|to|by|between|use) them\b|\AThe (?:same|latter|former|other|others) ",
    re.IGNORECASE,
)
MAY_POINT = (" this", " these", " those", " that ", " them", "The ", " This", " These", " Those", " That ")
MAY_LEAD = ("You ", "To ", "Please ", "We rec", "More ", "Further ", "Additional ", "Let", "This ", "The ", "Read")
# What only tells where more is said.
LEADS_ON = re.compile(
    r"(?:You (?:can|could|may|will|should)|To|Please|We recommend) (?:also )?(?:read|find|learn|see|check)(?:ing)?"
    r"(?: out)? (?:more|further|additional|details|information)\b|"
    r"Please (?:see|read|view|refer to|consult|check out)\b|Let['’]s \w|"
    r"(?:More|Further|Additional) (?:information|details?|examples?)\b.{0,60}\b(?:available|found|described|here)\b|"
    r"(?:This|The following|The next) (?:guide|page|section|chapter|document|article|tutorial|post|part) \w|"
    r"Read(?:: | (?:more|the|our)\b)"
)
GENERATED = re.compile(r"@generated|(?:auto|automatically)[ -]?generated|do not edit", re.IGNORECASE)
_FRACTIONS = "¼½¾⅓⅔⅛"
_FIGURE = re.compile(
    rf"[^\w\s`\"'<>]{{0,3}}[\d{_FRACTIONS}][\d{_FRACTIONS}.,:/×x'’()–-]{{0,24}}[^\W\d_]{{0,7}}[%°²³+*)/,;.]{{0,2}}[^\W\d_]{{0,8}}"
)
_UNIT = re.compile(r"[^\W\d_]{1,16}[.,]?|[^\W\d_]{0,8}[/·°%²³€$£¥µ×+&–—-][^\W\d_]{0,8}[²³]?\)?|\([^\W\d_]{1,16}\)")
VERSION = re.compile(r"\[?v?\d{1,4}[.\d-]*[\w.+-]{0,20}\]?(?:\s*[-–(].{0,40})?")


@lru_cache(RECENT)
def words(text: str) -> int:
    """How many words; in Chinese and Japanese two characters count as one, in Thai and its neighbours five."""
    if text.isascii():
        return len(text.split())
    return len(text.split()) + len(CJK.findall(text)) // 2 + len(UNSPACED.findall(text)) // 5


@lru_cache(RECENT)
def is_sentence(text: str) -> bool:
    """A whole sentence that can be understood alone."""
    is_whole = is_readable(text) and not points(text) and not leads_elsewhere(text)
    return is_whole and 4 <= words(text) <= WORDS and text[0] not in "|#>-*"


def leads_elsewhere(text: str) -> bool:
    if not text.isascii() and any(map(text.__contains__, ELSEWHERE_UNSPACED)):
        return True
    return any(map(text.__contains__, LEADS_ELSEWHERE)) and ELSEWHERE.search(text) is not None


@lru_cache(RECENT)
def is_readable(text: str) -> bool:
    """More letters than signs, and no colon at its end that something else must follow."""
    if not text or text.rstrip("`*_ ").endswith((":", "：", "…", "...")) or asks(text):
        return False
    prose = _without_code(text)
    if letters_in(prose) * 2 < len(prose.replace(" ", "")) or text[-1] in OPEN_ENDS or not is_closed(text):
        return False
    return "http://" not in prose and "https://" not in prose and text.count("(") == text.count(")")


@lru_cache(RECENT)
def is_closed(text: str) -> bool:
    """Brackets, quotes and code that are opened are closed, and no mark of a markup language is left."""
    if text.count("`") % 2:
        return False
    prose = _without_code(text)
    if prose.count('"') % 2 or prose.count("(") != prose.count(")") or prose.count("[") != prose.count("]"):
        return False
    return not any(map(prose.__contains__, MARKS)) or MARKUP.search(prose) is None


def _without_code(text: str) -> str:
    return CODE.sub("", text) if "`" in text else text


def letters_in(text: str) -> int:
    """How many letters; the vowels of many scripts are marks."""
    if text.isascii():
        return len(text.encode().translate(None, NO_LETTERS))
    return sum(map(str.isalpha, text)) + sum(category(sign)[0] == "M" for sign in text)


@lru_cache(RECENT)
def points(text: str) -> bool:
    """Whether the sentence begins with a word that points at something said before."""
    first = text.split(None, 1)[0] if text.strip() else ""
    return APOSTROPHE.split(first.strip(",.:;'’\"()").lower(), 1)[0] in POINTING or POINTS.match(text) is not None


def points_inside(text: str) -> bool:
    """Whether something in the sentence was named before it: `Use this for ...`, `... in these cases`."""
    return any(map(text.__contains__, MAY_POINT)) and POINTS_INSIDE.search(text) is not None


def leads_on(text: str) -> bool:
    """Whether the sentence says no more than where something is said."""
    return text.startswith(MAY_LEAD) and LEADS_ON.match(text) is not None


def is_subject(text: str, longest: int = 6) -> bool:
    """A name or a noun phrase that a question can ask about."""
    plain = text.strip("`*_ \"'()")
    parts = plain.split()
    if not plain or len(text) > 70 or len(parts) > longest or plain.lower() in EMPTY:
        return False
    if LETTERS.search(plain) is None or ". " in plain or VERSION.fullmatch(plain):
        return False
    if plain[-1] in NO_NAME or asks(plain):
        return False
    if text.startswith("`") and text.endswith("`") and text.count("`") == 2:
        return "://" not in text
    if parts[0].lower() in NO_SUBJECT or parts[0].lower() in POINTING or any(sign in plain for sign in "\\{}<>|=;\n"):
        return False
    return not (len(parts) == 1 and plain.islower() and plain.endswith("s") and plain.isascii())


def is_figure(text: str) -> bool:
    """A number with its unit, a price, a time, a telephone's number: `about 87 kg`; no id and no row of numbers."""
    parts = text.split()
    if not 0 < len(parts) <= 6 or len(text) > 40:
        return False
    figures = [number for number, part in enumerate(parts) if _FIGURE.fullmatch(part)]
    if not figures or figures[0] > 1 or (figures[0] == 1 and not _goes_before(parts[0])):
        return False
    if any(sum(map(str.isdigit, part)) > DIGITS for part in parts):
        return False
    is_phone = text[0] in "+(0" and len(figures) == len(parts)
    units = [part for number, part in enumerate(parts) if number not in figures and number > 0]
    is_unit = len(units) < 2 or (len(units) < 4 and any(len(unit) < 4 for unit in units[:-1]))  # `per kg`
    return is_unit and all(map(_UNIT.fullmatch, units)) and (len(figures) <= 2 or is_phone)


def _goes_before(word: str) -> bool:
    """Whether a figure may follow: `about`, `EUR`, `€`, `Mo-Fr`."""
    return word.strip(".").lower() in ABOUT or (word.isupper() and len(word) < 5) or len(word) < 3 or not word.isalpha()


def is_navigation(path: tuple[str, ...]) -> bool:
    """A section that leads elsewhere, names people or lists versions."""
    return any(map(_leads, path))


@lru_cache(RECENT)
def _leads(name: str) -> bool:
    known = name.strip(" :.?!…").lower().replace("’", "'")
    return known in NAVIGATION or VERSION.fullmatch(name.strip("# ")) is not None


def is_generated(source: str) -> bool:
    """A file that says in its first lines that a program wrote it for programs."""
    return "#" not in source[:2] and GENERATED.search(source[:400]) is not None


@lru_cache(RECENT)
def alike(text: str) -> frozenset[str]:
    """Equal for sentences that differ in signs, case and order only."""
    return frozenset(signs.words(text))
