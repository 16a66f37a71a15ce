"""H: headings with their first sentences. S: what sentences state. P: whole sentences. B: terms to blank."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import takewhile

from ftq.facts.blocks import Paragraph, Section
from ftq.facts.checks import (
    CJK,
    EMPTY,
    POINTING,
    RECENT,
    is_closed,
    is_readable,
    is_sentence,
    is_subject,
    known_words,
    leads_elsewhere,
    leads_on,
    points_inside,
    words,
)
from ftq.facts.fact import Fact
from ftq.facts.place import Place, answer
from ftq.facts.rules.english import AUXILIARIES, BREAKS, HAVE, SAYS, THIRD_PERSON, VERBS, as_purpose
from ftq.facts.rules.terms import figures, named, trouble_of
from ftq.facts.sentences.split import Sentence
from ftq.facts.text.signs import ENDS, QUESTIONS, asks

PURPOSE = re.compile(r"(?:(?:If you (?:want|need|wish|would like)|In order) to|To) ([^,:;]{6,90}), (?=\w|`)")
USE = re.compile(
    r"(?:Use|Run|Call|Set|Pass|Add|Press|Choose|Select|Specify|Type|Enter|Give) .{2,120}? to ([^,:;.]{6,80})[.,;]"
)
CONDITION = re.compile(
    r"(If|When|Once|Whenever) ((?:the|a|an|your|any|no|you|there|one|two|all|it|[A-Z`])[^,:;]{6,90}), (?=\w|`)"
)
NO_CONDITION = re.compile(
    r"\byou (?:want|need|wish|would|prefer|like)\b|you['’]re|\bthen\b|[—–(]|"
    r"^\w+ (?:at|not|so|there (?:is|are) any|possible|any)\b"
)
EXAMPLE = re.compile(r"(?:For (?:example|instance)|E\.g\.|Here(?:['’]s| is| are)|Example)\b", re.IGNORECASE)
CODE_DOES = re.compile(
    r"(?:The )?(`[^`]{1,60}`)"
    r"(?: (?:option|flag|command|setting|field|key|function|method|variable|parameter|property|argument))?"
    r" ([a-z]{2,20}) (.{6,})"
)
IS = re.compile(r"((?:(?:A|An|The) )?[A-Z]?[\w`' -]{1,50}?) (?:is|are) (?:a|an|the|one of|any)\b")
NAME = re.compile(r"(?<=[a-z,] )(?:[A-Z][A-Za-z0-9+#]{2,20})(?:[ -][A-Z][A-Za-z0-9+#]{1,20}){0,2}(?![\w'’.-]*\w)")
NUMBER = re.compile(
    r"(?<![\w.`:/-])(?:[£$€¥]\s?)?\d(?:[\d.,]{0,12}\d)?(?:\s?(?:%|percent|[KMGT]i?B\b|ms\b|seconds?|minutes?|hours?|days?|weeks?|months?|years?|bytes?|bits?|times|MHz|GHz|cores?|lines?|characters?|tokens?|steps?|Sekunden|Minuten|Stunden|Tage|secondes|jours|heures|segundos|minutos|horas|días|giorni|ore|dias|секунд|минут|дней|秒|分|时间|天|日|個|个))?(?![\w⁺⁻]|[:/]\d)"
)
PHONE = re.compile(r"(?<![\w.+-])(?!\d\d-\d\d-\d{2,4}\b)(?:\+\d|\(?0)[\d ()\u00a0-]{5,24}\d(?!\w)")
DIGIT = re.compile(r"\d")
NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|sixty|ninety"
COUNTS = frozenset(NUMBERS.split("|"))
IN_WORDS = rf"(?i:{NUMBERS})(?: (?:business|working|calendar|full))?"
WORDED = re.compile(rf"\b{IN_WORDS} (?:seconds?|minutes?|hours?|days?|weeks?|months?|years?)\b(?!,)")
OPENING = re.compile(
    r"(?:The|An?|Your|Each|Every) ((?:[a-z][\w-]{1,20} ){0,2}?[a-z][\w-]{1,20}) "
    rf"(?:is|are|has|have|can|cannot|must|may|will|should|does|was|were|needs|{'|'.join(sorted(THIRD_PERSON))}) "
)
CODE = re.compile(r"`[^`]{1,50}`")
DEFINES = re.compile(r"[^:]{1,60}: |`[^`]{1,60}` [-–—]{1,3} ")  # rule D's
NO_THING = known_words("no_thing")
NO_ONES = (
    POINTING | VERBS | BREAKS | {"ihnen", "ihre", "ihrem", "ihren", "ihrer"}
)  # words with a capital that name nothing
LITERALS = frozenset({"true", "false", "null", "none", "undefined", "nil", "yes", "no", "0", "1"})
EMOJI = re.compile(r":[a-z]{2,20}(?:_[a-z]{1,20}){0,3}:\s")
TIES = re.compile(
    r"(?:Additionally|Also|Furthermore|Moreover|In addition|Of course), (?=\w|`)|"
    r"(?:(?:Please )?(?:[Nn]ote|[Kk]eep in mind|[Bb]e aware|[Rr]emember),? that|Please) (?=[a-z`])"
)
PART = re.compile(r"(?:[Ww]hich|[Ww]ho|Whose|Where|they|it|that|and|or|but) ")  # of a sentence
HEADING, LONGEST = 8, 40  # words of a heading, and of a sentence that needs one
SENTENCES = 60  # of a section that are read for S and B


def lead(place: Place) -> Iterator[Fact]:
    """A heading with the first two sentences below it; what a paragraph begins with in bold, with those behind that."""
    yield from _heading(place)
    for paragraph in place.section.paragraphs:
        if (lead_in := paragraph.lead_in) and (value := answer(paragraph.sentences[1:])):
            if trouble := trouble_of(place.section, paragraph):
                yield place.fact("H", "condition", trouble, value, paragraph.line, sentence=f"{lead_in} {value}")
            elif not is_subject(lead_in.rstrip(".!"), longest=5):  # rule D's
                yield place.fact("H", "lead", lead_in, f"{lead_in} {value}", paragraph.line, sentence=value)


def _heading(place: Place) -> Iterator[Fact]:
    section = place.section
    first, name = section.first, section.heading
    above = takewhile(lambda block: block is not first, section.blocks)
    if first is None or not all(isinstance(block, Paragraph) for block in above):
        return
    if not name or asks(name) or words(name) > 12:
        return
    if named(name) or figures(place, first):
        return  # rule O's, rule D's
    if name.strip(" :").lower() not in EMPTY and (value := answer(first.sentences)) and words(value) >= 4:
        yield place.fact("H", "lead", name, value, first.sentences[0].line, sentence=value)


def statement(place: Place) -> Iterator[Fact]:
    """`To X, Y`; `Use Y to X`; `When X, Y`; `X is a Y`; `--x does y`. English, but for the last."""
    for sentence in _sentences(place):
        if is_sentence(sentence.text) or (
            CONDITION.match(sentence.text) and is_readable(sentence.text) and words(sentence.text) <= 45
        ):
            yield from _stated(place, sentence)


def _sentences(place: Place) -> Iterator[Sentence]:
    for paragraph in _paragraphs(place, "S"):
        yield from () if _is_on_trouble(place, paragraph) else paragraph.sentences


def _paragraphs(place: Place, rule: str) -> Iterator[Paragraph]:
    """Those of the section with its first sentences."""
    count, cut, line = 0, 0, 0
    for paragraph in place.section.paragraphs:
        if count > SENTENCES:
            line, cut = line or paragraph.line, cut + len(paragraph.sentences)
            continue
        yield paragraph
        count += len(paragraph.sentences)
    place.cut(line, f"sentence for rule {rule}", cut)


@lru_cache(RECENT)
def _is_told(text: str) -> bool:
    """A sentence that says something by itself, and has a subject."""
    first, second, *_ = *text.split(" ", 2), ""
    if (first.lower() in SAYS or first == "Defaults") and second not in AUXILIARIES and second not in HAVE:
        return False  # `Defaults to 30 days.`
    return (
        text[-1] in ENDS
        and text[-1] not in QUESTIONS
        and words(text) >= 5
        and is_sentence(text)
        and not EXAMPLE.match(text)
        and not DEFINES.match(text)
    )


def _stated(place: Place, sentence: Sentence) -> Iterator[Fact]:
    text, line = sentence.text, sentence.line
    if (match := PURPOSE.match(text) or USE.match(text)) and (
        purpose := as_purpose(_clean(match.group(1)), is_verb=True)
    ):
        yield place.fact("S", "purpose", purpose, text, line, sentence=text)
    elif (match := CONDITION.match(text)) and len(match.group(2).split()) >= 3:
        condition = f"{match.group(1).lower()} {match.group(2)}"
        if NO_CONDITION.search(condition) is None and is_closed(condition):
            yield place.fact("S", "condition", condition, text, line, sentence=text)
    elif (match := CODE_DOES.match(text)) and match.group(2) not in {
        "and",
        "or",
        "in",
        "of",
        "to",
        "with",
        "for",
        "as",
        "at",
    }:
        yield from _does(place, sentence, match)
    elif (
        (" is " in text or " are " in text)  # of most sentences that says enough
        and (match := IS.match(text))
        and is_subject(match.group(1), longest=4)
        and not _is_no_thing(match.group(1))
    ):
        yield place.fact("S", "meaning", _without_article(match.group(1)), text, line, sentence=text)


def _clean(purpose: str) -> str:
    return purpose.strip() if purpose.count("`") % 2 == 0 and purpose.count("(") == purpose.count(")") else ""


def _does(place: Place, sentence: Sentence, match: re.Match[str]) -> Iterator[Fact]:
    name, verb = match.group(1), match.group(2)
    if name.strip("`").lower() in LITERALS or not any(map(str.isalpha, name)):
        return
    kind = "option" if name.startswith("`-") else ""
    attribute = ""
    if verb.endswith("s") and (verb[:-1] in VERBS or verb[:-2] in VERBS) and not set(match.group(3)) & set(";:—"):
        attribute = f"{verb} {match.group(3)}".rstrip(".")
    yield place.fact("S", "meaning", name, sentence.text, sentence.line, sentence.text, attribute, kind)


def _is_no_thing(name: str) -> bool:
    """`The`, `The only argument`."""
    plain = _without_article(name)
    return plain == "The" or plain.split()[0].lower() in NO_THING


def _without_article(name: str) -> str:
    return name.removeprefix("The ").removeprefix("A ").removeprefix("An ")


def plain(place: Place) -> Iterator[Fact]:
    """Each sentence with the part that can be asked after. `It ...`, items of lists, and `Remove all images.` below the
    name of a command, which is no advice, stand behind their heading."""
    section = place.section
    for paragraph in _paragraphs(place, "P"):
        if _is_on_trouble(place, paragraph):
            headings = (*section.headings, paragraph.lead_in.rstrip(".!"))
            below = replace(place, section=Section(headings, section.line))
            yield from _said(below, paragraph, paragraph.sentences[1:], is_bound=True)
        else:
            yield from _said(place, paragraph, paragraph.sentences)


def _is_on_trouble(place: Place, paragraph: Paragraph) -> bool:
    """Whether its sentences are true only if what it begins with in bold is: `**It flickers.** The bulb is loose.`"""
    return bool(paragraph.lead_in) and place.section.is_on_troubles


def _said(place: Place, paragraph: Paragraph, sentences: list[Sentence], is_bound: bool = False) -> Iterator[Fact]:
    """`is_bound`: none of the sentences is true without the heading."""
    heading = place.section.heading
    is_code = bool(named(heading))
    names = bool(heading) and heading.strip(" :").lower() not in EMPTY and words(heading) <= HEADING
    for sentence in sentences:
        text, line = _by_itself(EMOJI.sub("", sentence.text)), sentence.line
        if leads_on(sentence.text):
            continue
        is_alone = not is_bound and _is_told(text) and not points_inside(text)
        if is_alone and not (is_code and text.partition(" ")[0].lower() in VERBS):
            asked = _blank(text, paragraph.inline.bolds)
            yield place.fact("P", "said", text, text, line, sentence=text, attribute=asked)
        elif names and _is_bound(text):
            yield place.fact("P", "said", text, text, line, sentence=text, kind=heading.rstrip("?:.! "))


def _by_itself(text: str) -> str:
    """Without what only ties it to the sentence before: `Also, the mill rests` is `The mill rests`."""
    match = TIES.match(text)
    return text[match.end()].upper() + text[match.end() + 1 :] if match else text


def _is_bound(text: str) -> bool:
    """A sentence that says something under its heading only."""
    is_long = 5 <= words(text) <= LONGEST and text[0].isalnum() and not PART.match(text)
    return is_long and is_readable(text) and not (EXAMPLE.match(text) or DEFINES.match(text) or leads_elsewhere(text))


def term(place: Place) -> Iterator[Fact]:
    """The code, number, bold word or name in a sentence that can be blanked."""
    for paragraph in place.section.paragraphs:
        if _is_on_trouble(place, paragraph):
            continue
        place.cut(paragraph.line, "sentence for rule B", len(paragraph.sentences) - SENTENCES)
        for sentence in paragraph.sentences[:SENTENCES]:
            if words(sentence.text) >= 6 and _is_told(sentence.text) and not leads_on(sentence.text):
                blank = _blank(sentence.text, paragraph.inline.bolds)
                if blank and sentence.text.count(blank) == 1:
                    yield place.fact("B", "term", blank, blank, sentence.line, sentence=sentence.text)


@lru_cache(RECENT)
def _blank(text: str, bolds: tuple[str, ...]) -> str:
    """A number tells most, then code after the sentence's beginning, bold words and names."""
    if phone := PHONE.search(text) if DIGIT.search(text) else None:
        return phone[0]
    numbers = [match.group().strip() for match in NUMBER.finditer(text)] if DIGIT.search(text) else []
    if not numbers and not COUNTS.isdisjoint(text.lower().split()):
        numbers = WORDED.findall(text)
    number = next((number for number in numbers if not number[-1].isdigit()), "")  # with its unit
    if number := number or next((number.rstrip(".,") for number in numbers if len(number) > 1), ""):
        return number
    for code in CODE.finditer(text):
        if code.start() and len(code.group()) > 3 and len(code.group().split()) <= 4:
            return code.group()
    bold = next((bold for bold in bolds if is_subject(bold, 3) and _is_whole(bold, text)), "")
    has_names = not bold and text[1:] != text[1:].lower()
    name = next((name for name in NAME.finditer(text) if name[0].lower() not in NO_ONES), None) if has_names else None
    thing = OPENING.match(text)
    is_thing = thing is not None and not any(word in BREAKS for word in thing.group(1).split())
    return bold or (name.group() if name else thing.group(1) if thing and is_thing else "")


def _is_whole(name: str, text: str) -> bool:
    """Whether it stands there as words of its own, not inside one; Chinese and Japanese have no gaps."""
    at = text.find(name)
    around = text[at - 1 : at] + text[at + len(name) : at + len(name) + 1]
    return at >= 0 and (CJK.search(around) is not None or not any(sign.isalnum() or sign in "-_" for sign in around))
