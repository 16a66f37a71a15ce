"""K: what an option is by default, and of what: `x` defaults to 5; How long to wait. (default `30s`)"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ftq.facts.blocks import Paragraph
from ftq.facts.checks import NO_SUBJECT, points, words
from ftq.facts.fact import Fact
from ftq.facts.place import Place
from ftq.facts.rules.terms import named, option_name
from ftq.facts.sentences.split import Sentence

STATED = re.compile(
    r"(?i:\bdefaults?(?:\svalue)?(?:\sto|\sis|\s?[:=])|\bby default,?(?:\sis|\sit is)|"
    r"standard(?:wert)?\s?[:=]|standardwert (?:ist|beträgt)|par défaut\s?:|valeur par défaut est(?: de)?|"
    r"valor (?:predeterminado|por defecto|padrão)(?:\s?:| es(?: de)?| é(?: de)?)|predefinito(?:\s?:| è(?: di)?)|"
    r"standaard\s?:|standaardwaarde is|domyślnie\s?:|wartość domyślna (?:to|wynosi)|по умолчанию\s?(?:[:—]|равно)|"
    r"默认(?:值)?(?:为|是|[:：])|デフォルト(?:値)?(?:は|[:：]))\s{0,3}"
    r"(`[^`]{1,60}`|\"[^\"\n]{1,60}\"|-?\d[\w.,%]{0,20}(?:\s(?:seconds?|minutes?|hours?|days?|bytes|[KMG]i?B|ms|s|MB|GB|Sekunden|Minuten|Stunden|Tage|secondes|"
    r"heures|jours|segundos|minutos|horas|días|dias|secondi|minuti|ore|giorni|seconden|minuten|dagen|секунд|минут|дней)\b)?"
    r"|(?i:true|false|none|null|yes|off|empty)\b|(?i:no|on)\b(?!\s\w))"  # `no prefix` is another one
)
ELSE = re.compile(r"\s(?:for|if|in|on|when|under|with)\b[^.;]*(?:`|\d)")  # the default is one of two
# Behind what it is the default of: `(default: info)`, `[default: cliff.toml]`, `(string, default "x")`.
BRACKETED = re.compile(
    r"[(\[](?:[^()\[\]`]{0,40}[,;]\s?)?(?i:defaults?)(?:"
    r"(?i:\s(?:value|is|to))?\s?[:=]?\s?(`[^`]{1,60}`|\"[^\"\n]{1,60}\"|-?\d[^\s()\[\],;]{0,40}|"
    r"(?i:true|false|none|null|yes|no|on|off|empty)\b)|"
    r"(?i:\s(?:is|to)\s|\s?[:=]\s?)([^\s()\[\],;`]{1,60}))\s?[)\],;]"
)
NEED, REQUIRED = re.compile(r"[(\[](required|optional|mandatory)[)\]]", re.IGNORECASE), "required"
SAYS = ("default", "standard", "valor", "predefinito", "standaard")
CODE, TERM = re.compile(r"`[^`]{1,60}`"), re.compile(r"(`[^`]{1,60}`)(?:\s?[:：]|\s[-–—]{1,2}(?=\s))?\s*")
NEAR = re.compile(r"(`[^`]{1,60}`)(?:\s[a-z]+)?\s?,?\s?$")
SHORTEST, LONGEST = 2, 20  # words of what it is the default of
OPEN = re.compile(
    r"\b(?:if|when|unless|otherwise|above|below|this|that is|it|these|values? (?:is|are|must|can))\b|[:;—]",
    re.IGNORECASE,
)
ARTICLE = re.compile(r"^(?:[Tt]he|[Aa]n?) (?=\S)")


class Default(NamedTuple):
    value: str
    start: int  # where in its text
    is_bracketed: bool


def default_in(text: str) -> Default | None:
    """The default that a text states."""
    if not _may_state(text):
        return None
    if (match := BRACKETED.search(text)) is not None:
        return Default((match[1] or match[2]).rstrip(".,"), match.start(), is_bracketed=True)
    match = STATED.search(text)
    if match is None or ELSE.match(text, match.end()):
        return None
    return Default(match[1].rstrip(".,"), match.start(), is_bracketed=False)


def _may_state(text: str) -> bool:
    """Quickly: what a default needs in a text of ASCII."""
    lowered = text.lower()
    return not text.isascii() or any(map(lowered.__contains__, SAYS))


def described(text: str) -> str:
    """What it is the default of, in words that a question can hold: `Seconds to wait.` is `Seconds to wait`."""
    text = ARTICLE.sub("", text.strip().rstrip(".:, "))
    if not SHORTEST <= words(text) <= LONGEST or points(text) or OPEN.search(text) or ". " in text:
        return ""
    first = text.partition(" ")[0].lower()
    is_closed = text.count("(") == text.count(")") and not (text.count("`") % 2 or text.count('"') % 2)
    return text if is_closed and first not in NO_SUBJECT and text[0].isalpha() else ""


def defaults(place: Place) -> Iterator[Fact]:
    """`x` defaults to `y`: of the code before it, of the list's term, of the heading."""
    own = named(place.section.heading)
    for paragraph in place.section.paragraphs:
        if not ("`" in paragraph.raw or own):
            continue
        if need := need_in(paragraph.inline.text):
            yield from _need(place, paragraph, need, own)
        if _may_state(paragraph.inline.text):
            for before, sentence in zip([None, *paragraph.sentences], paragraph.sentences, strict=False):
                yield from _default(place, paragraph, before, sentence, own)


def need_in(text: str) -> str:
    """`required` or `optional`, where the text says so in brackets."""
    match = NEED.search(text) if "(" in text or "[" in text else None
    return match[1] if match else ""


def _need(place: Place, paragraph: Paragraph, need: str, own: str) -> Iterator[Fact]:
    """Whether what the paragraph begins with, or stands below, has to be given."""
    subject = _subject("", paragraph, own, is_bracketed=True)
    if subject:
        yield place.fact("K", "attribute", option_name(subject)[0], need, paragraph.line, attribute=REQUIRED)


def _default(
    place: Place, paragraph: Paragraph, before: Sentence | None, sentence: Sentence, own: str
) -> Iterator[Fact]:
    default = default_in(sentence.text)
    if default is None:
        return
    said = sentence.text[: default.start]
    subject = _subject(said, paragraph, own, default.is_bracketed)
    if not subject or subject == default.value:
        return
    subject = option_name(subject)[0]
    whole, about = sentence.text, ""
    term = TERM.match(said)
    if not said.strip() and before is not None:
        whole, first = f"{before.text} {sentence.text}", TERM.match(before.text)
        about = before.text[first.end() :] if first else before.text
    elif default.is_bracketed:
        about = said[term.end() :] if term else said
    yield place.fact("K", "default", subject, default.value, sentence.line, whole, described(about))


def _subject(said: str, paragraph: Paragraph, own: str, is_bracketed: bool) -> str:
    codes, term, near = CODE.findall(said), TERM.match(paragraph.inline.text), NEAR.search(said)
    if is_bracketed:
        one = codes[0] if len(codes) == 1 else ""
        return term[1] if term else own or (near[1] if near else one)
    if own and codes and near is None and not said.startswith(("`", "The `")):
        return own
    return codes[-1] if len(codes) == 1 else term[1] if term else own if not codes else ""
