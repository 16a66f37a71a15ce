"""O: headings that are code. D: terms with their definition."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator

from ftq.facts.blocks import SENTENCE, SUFFERED, Block, Bullets, Definitions, Item, Paragraph, Section
from ftq.facts.checks import (
    EMPTY,
    LETTERS,
    NO_SUBJECT,
    is_closed,
    is_figure,
    is_readable,
    is_subject,
    known_phrases,
    known_words,
    leads_on,
    letters_in,
    words,
)
from ftq.facts.fact import Fact
from ftq.facts.place import MORE, Place, answer
from ftq.facts.rules.english import clause_of
from ftq.facts.sentences.split import Sentence, sentences
from ftq.facts.text.signs import PAUSES, asks

CODE = re.compile(r"`[^`]{1,200}`")
SEPARATOR = re.compile(r"\s?[:：](?=\s)|[:：]$|\s[-–—]{1,2}(?=\s)|：")
SEPARATORS = ":：-–—"  # one of which each separator has
IDENTIFIER = re.compile(
    r"`?(--?[A-Za-z][\w-]{0,60}|[A-Za-z_$][\w$]{0,60}(?:[._-][\w$]{1,60}){0,6}(?:\(.{0,200}\))?)`?(?:[=\s]\S{0,60})?"
)
OPTION = re.compile(  # with its short form before or behind it, and its argument
    r"`?(-\w`?, ?`?)?(--[A-Za-z][\w-]{0,60})(?:(?:[ =]|\[=?)[<\[A-Z][^`,]{0,40})?`?(?:, ?`?(-\w)(?: [^`,]{0,40})?)?`?"
)
NO_END = f"{PAUSES}:：,;…"  # what no value ends with
TERM, LONGEST, LINE = 80, 45, 25  # characters of a term, words of a definition, of one that is a line
ORNAMENT = re.compile(r"^[^\w`\"'(\[<$@./-]{1,5}\s*")
MARK = re.compile(r"^(?::[a-z_+-]{2,30}:\s*)+")  # :tada:
LABELS = re.compile(
    r"(?:step|phase|part|day|version|added|deprecated|since|type|default|returns?|example)\b", re.IGNORECASE
)

TOO_MANY = "figure in one section"
FIGURES, LINES = 100, 400  # of a section, more are data; characters of a paragraph of such lines
TASKS = known_phrases("tasks")
AND = re.compile(r"\s*(?:[/&,]|\b(?:and|und|et|y|e|en|i|и)\b)\s*")
_NAME = r"[^\W\d_a-zß-öø-ÿ][\w'’.-]{0,30}"
PERSON = re.compile(  # as lists of people name one, or some
    rf"@?{_NAME}(?:(?:,| [/&+]| and| und)? (?:(?:de|van|von|der|den|la) ){{0,2}}{_NAME}){{0,3}}"
)
DEFAULTS, SAYS = known_phrases("defaults"), known_words("says")
DIGIT = re.compile(r"[\d¼½¾⅓⅔⅛]")
NO_NAMES = EMPTY | DEFAULTS | NO_SUBJECT
NUMBERED = re.compile(  # terms whose value is a number that is no figure
    r"(?:.* )?(?:n[or]\.?|n°|number|\w*nummer|numéro|número|numero|iban|bic|vat|ust-id(?:nr\.?)?|siret|siren)",
    re.IGNORECASE,
)
NUMBER = re.compile(r"(?=.*\d)[A-Z0-9][A-Z0-9 ./-]{3,34}")
ID = re.compile(r"(?=\S*\d)(?=\S*[^\W\d_])\S{8,}|[0-9a-f]{6,}")


def option(place: Place) -> Iterator[Fact]:
    """The sentence below a heading that is an option's or a function's name."""
    name = named(place.section.heading)
    text = place.section.first
    if name and text is not None and (value := answer(text.sentences)):
        kind = "option" if name.startswith("`-") else "function" if "(" in name else ""
        yield place.fact("O", "meaning", name, value, text.sentences[0].line, sentence=value, kind=kind)


def named(heading: str) -> str:
    """The code in a heading that is little else; plain text if it looks like code."""
    codes = CODE.findall(heading) if "`" in heading else []
    if codes and len(CODE.sub("", heading).split()) <= 2:
        return _called(codes[0])
    is_code = "_" in heading or heading.startswith("--") or "()" in heading
    return _called(f"`{heading}`") if is_code and " " not in heading and IDENTIFIER.fullmatch(heading) else ""


def _called(code: str) -> str:
    """A function without its parameters: `fs.access(path[, mode])` is `fs.access()`; `PORT=<number>` is `PORT`."""
    name, bracket, _ = code.strip("`").partition("(")
    if "=<" in code and IDENTIFIER.fullmatch(code):
        return f"`{name.partition('=')[0]}`"
    return f"`{name}()`" if bracket and name else code


def option_name(code: str) -> tuple[str, str]:
    """(an option as one asks for it, its short form): `-l, --log <level>` is `--log`, -l. Other code stays as it is."""
    match = OPTION.fullmatch(code)
    return (f"`{match[2]}`", (match[1] or match[3] or "").strip("`, ")) if match else (code, "")


def definition(place: Place) -> Iterator[Fact]:
    """Terms with what they mean, and what has a figure: `Weight: 87 kg`."""
    found: list[Fact] = []
    people = {id(item) for _, item, _, _ in tasks(place)}
    for block in place.section.blocks:
        for fact in _defined(place, block, in_list=False, people=people):
            if fact.relation == "attribute":
                found.append(fact)
            else:
                yield fact
    if len(found) <= FIGURES:
        yield from found
    else:
        place.cut(found[0].line, TOO_MANY, len(found))


def tasks(place: Place) -> Iterator[tuple[str, Item, str, str]]:
    """(what a list is on, its item, a person, what they are or do): `Joe: order new bulbs` below `Actions`."""
    heading, before = place.section.heading, ""
    for block in place.section.blocks:
        title = next((one for one in (before, heading) if _is_on_people(one)), "") if isinstance(block, Bullets) else ""
        for item in block.items if title and isinstance(block, Bullets) else ():
            text = item.text.inline.flat if item.text else ""
            if len(item.blocks) == 1 and (cut := _cut(text)) and PERSON.fullmatch(text[: cut.start()].strip()):
                yield title, item, text[: cut.start()].strip(), text[cut.end() :].strip()
        before = block.inline.flat.strip(" :") if isinstance(block, Paragraph) and len(block.raw) < TERM else ""


def _is_on_people(title: str) -> bool:
    return any(part.lower() in TASKS for part in AND.split(title.strip(" :")))


def _defined(place: Place, block: Block, in_list: bool, people: Container[int] = ()) -> Iterator[Fact]:
    if isinstance(block, Definitions):
        for term, text in block.terms:
            name, value = term.inline.flat.strip(": "), text.inline.flat
            if _is_figure(name, value):
                yield place.fact("D", "attribute", place.owner, value, text.line, attribute=name)
            else:
                yield from _pair(place, term.inline.flat, _told(text.inline.text, text.line), term.line)
    elif isinstance(block, Bullets):
        for item in block.items:
            if id(item) not in people:
                yield from _item(place, item)
    elif isinstance(block, Paragraph):
        yield from _inline(place, block, in_list)


def _item(place: Place, item: Item) -> Iterator[Fact]:
    text = item.text
    if text is None:
        return
    if len(item.blocks) == 1 and len(text.raw) < SENTENCE:
        yield from figures(place, text, in_list=True)
        return
    after = item.blocks[1] if len(item.blocks) > 1 else None
    if isinstance(after, Paragraph) and _is_term(text, text.inline.flat.rstrip(":")):
        yield from _pair(place, text.inline.flat.rstrip(":"), _told(after.inline.text, after.line), text.line)
    else:
        yield from _inline(place, text, in_list=True)
    for block in item.blocks[1:]:
        if isinstance(block, Bullets | Definitions):
            yield from _defined(place, block, in_list=True)


def _inline(place: Place, paragraph: Paragraph, in_list: bool) -> Iterator[Fact]:
    """`term: text` or `term - text`; in running text only under a bold or code term."""
    if trouble_of(place.section, paragraph):
        return
    if lines := figures(place, paragraph, in_list):
        yield from lines
        return
    text = paragraph.inline.text
    bold = next(iter(paragraph.inline.bolds), "")
    if bold and text.startswith(bold) and bold[-1] in ":：.":
        term, rest = bold.rstrip(":：."), text[len(bold) :]
    else:
        cut = _cut(text)
        if cut is None:
            return
        term, rest = text[: cut.start()].strip(), text[cut.end() :]
    if "\n" in term or not (in_list or _is_term(paragraph, term)):
        return
    if not in_list and bold != term and term.count("`") != 2:
        return
    yield from _pair(place, term, _told(rest.strip(), paragraph.line), paragraph.line)


def trouble_of(section: Section, paragraph: Paragraph) -> str:
    """When what the paragraph says is true, where it begins with what may go wrong: `if it flickers`. Else empty."""
    text = paragraph.lead_in.rstrip(".!")
    first, _, rest = text.partition(" ")
    if not text or not section.is_on_troubles or (SUFFERED.match(text) is None and clause_of(text) is None):
        return ""
    return f"if {first if first == 'I' else first.lower()} {rest}"


def _told(text: str, line: int) -> str:
    """What stands behind a term: of one line all of it, if it is short; else its first sentences."""
    found = sentences(text, line)
    value = answer(found, longest=LONGEST)
    if value != text and "\n" not in text and _is_line(text, found):
        return text
    if not value and found and words(found[0].text) <= 4 and is_readable(found[0].text):
        return found[0].text  # `port`: the number
    return value


def _is_line(text: str, found: list[Sentence]) -> bool:
    """Whether all can be read as one value: `Mo. 9–12 Uhr. Tel. 0341 555. Im August zu.`"""
    if not 2 < words(text) <= LINE or letters_in(text) < 3 or "://" in text or text[-1] in NO_END:
        return False
    return is_closed(text) and not any(MORE.match(one.text) or leads_on(one.text) or asks(one.text) for one in found)


def figures(place: Place, paragraph: Paragraph, in_list: bool = False) -> list[Fact]:
    """What each line gives a figure for, where all lines are such pairs or like them."""
    facts: list[Fact] = []
    raw = paragraph.raw
    if len(raw) > LINES or DIGIT.search(raw) is None or not any(map(raw.__contains__, SEPARATORS)):  # most texts
        return facts
    for number, line in enumerate(paragraph.inline.text.split("\n"), start=paragraph.line):
        cut = _cut(line)
        if cut is None or not (in_list or cut[0].strip() in (":", "：")):
            return []
        term, value = ORNAMENT.sub("", line[: cut.start()].strip()), line[cut.end() :].strip()
        if _is_figure(term, value):
            facts.append(place.fact("D", "attribute", place.owner, value, number, attribute=term))
    return facts


def _is_figure(term: str, value: str) -> bool:
    """`Weight`, `87 kg`; `VAT number`, `GB123456789`."""
    is_number = NUMBER.fullmatch(value) is not None and NUMBERED.fullmatch(term) is not None
    return (is_figure(value) or is_number) and _has_figure(term)


def _has_figure(term: str) -> bool:
    """A name of what is measured; no id, and nothing in code, of which others tell the default."""
    parts = term.split()
    if not 0 < len(parts) <= 5 or LETTERS.search(term) is None or term.lower() in NO_NAMES:
        return False
    return not any(ID.fullmatch(part) or part.lower() in SAYS or "`" in part or "://" in part for part in parts)


def _cut(text: str) -> re.Match[str] | None:
    """The first separator outside code and brackets."""
    if not any(map(text[:TERM].__contains__, SEPARATORS)):  # most texts
        return None
    for match in SEPARATOR.finditer(text, 0, TERM):
        before = text[: match.start()]
        if before.count("`") % 2 == 0 and before.count("(") == before.count(")"):
            return match
    return None


def _is_term(paragraph: Paragraph, term: str) -> bool:
    return bool(term) and (term.startswith("`") or term in paragraph.inline.bolds)


def _pair(place: Place, term: str, text: str, line: int) -> Iterator[Fact]:
    term = ORNAMENT.sub("", term.strip())
    is_code = term.startswith("`") and term.count("`") % 2 == 0 and len(term) < 70 and any(map(str.isalpha, term))
    text = MARK.sub("", text)
    if (
        not text
        or text[0] in ",;"
        or term.lower() in EMPTY
        or LABELS.match(term)
        or not (is_code or is_subject(term, longest=5))
    ):
        return
    if is_code and term.count("`") == 2 and not term.endswith("`"):
        term = term[: term.rindex("`") + 1]  # `size` <number>
    term, short = option_name(term)
    yield place.fact("D", "meaning", term, text, line, sentence=text)
    if short:
        yield place.fact("D", "attribute", term, short, line, attribute="short form", kind="option")
