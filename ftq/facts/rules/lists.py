"""L: lists under a line that ends in a colon. Q: questions with their answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, pairwise

from ftq.facts.blocks import Block, Bullets, Item, Paragraph, is_data, is_log
from ftq.facts.checks import is_readable, points, words
from ftq.facts.fact import Fact
from ftq.facts.place import Place, answer
from ftq.facts.rules.terms import tasks
from ftq.facts.sentences.split import Sentence
from ftq.facts.text.signs import ENDS, asks

ITEMS, ITEM, LEAD = 9, 14, 25  # items of a list, words of an item and of the line above
QUESTION = re.compile(r"(?:Q|F|Question|Frage|Pregunta|Domanda|Pergunta|Vraag|Вопрос|问|質問)\s?\d{0,3}[:：.]\s+")
REPLY = re.compile(
    r"(?:A|R|Answer|Antwort|Réponse|Respuesta|Risposta|Resposta|Antwoord|Ответ|答|回答)\s?\d{0,3}[:：.]\s+"
)
REPLIES = 60  # words


def listing(place: Place) -> Iterator[Fact]:
    """What a list holds, where its line above says it; what each of its people is or does."""
    for title, item, person, value in tasks(place):
        if is_readable(value) and words(value) <= REPLIES:
            line = item.text.line if item.text else place.section.line
            fact = place.fact("L", "attribute", person, value, line, attribute=title)
            yield replace(fact, path=fact.path[:-1]) if title == place.section.heading else fact
    before: Block | None = None
    for block in place.section.blocks:
        if isinstance(block, Bullets) and isinstance(before, Paragraph):
            yield from _listed(place, before, block)
        before = block


def _listed(place: Place, before: Paragraph, bullets: Bullets) -> Iterator[Fact]:
    lead = before.sentences[-1] if before.sentences else None
    if lead is None or not lead.text.endswith((":", "：")) or not 3 <= words(lead.text) <= LEAD:
        return
    items = [_short(item) for item in bullets.items[: ITEMS + 1]]
    if 2 <= len(items) <= ITEMS and all(items) and (not points(lead.text) or "following" in lead.text):
        yield place.fact("L", "list", lead.text.rstrip(":： "), "; ".join(items), lead.line, sentence=lead.text)


def _short(item: Item) -> str:
    text = item.text.sentences[0].text.rstrip(".;,") if item.text and item.text.sentences else ""
    return text if 0 < words(text) <= ITEM and not text.endswith(":") else ""


def question(place: Place) -> Iterator[Fact]:
    """A heading, a bold line, a line of its own or a Q: that asks, with the text below."""
    asked: tuple[str, int] | None = None
    if asks(place.section.heading):
        asked = place.section.heading, place.section.line
    for block, is_alone in _flat(place.section.blocks):
        text = block.inline.flat if isinstance(block, Paragraph) else ""
        if isinstance(block, Paragraph) and (found := text if is_alone else _asks(block, text)):
            own = [] if is_alone else _after(block)
            if own:
                yield from _answered(place, found, block.line, own)
            asked = None if own else (found, block.line)
        elif asked is not None and isinstance(block, Paragraph):
            reply = REPLY.match(text)
            yield from _answered(place, *asked, _cut(block.sentences, reply.end() if reply else 0))
            asked = None
        elif asked is not None and isinstance(block, Bullets):
            yield from _answered_by_list(place, *asked, block)
            asked = None
        else:
            asked = None


def _flat(blocks: list[Block]) -> Iterator[tuple[Block, bool]]:
    """The blocks, and whether each is all of a question. Of a list that asks or replies the blocks of its items; of a
    paragraph its parts, each of which begins with a line that asks."""
    for block in blocks:
        if isinstance(block, Bullets) and any(_is_turn(item) or _is_alone(block, item) for item in block.items):
            for item in block.items:
                for number, part in enumerate(chain.from_iterable(map(_parts, item.blocks))):
                    yield part, number == 0 and _is_alone(block, item)
        else:
            yield from ((part, False) for part in _parts(block))


def _is_turn(item: Item) -> bool:
    text = item.text.inline.flat if item.text else ""
    return bool(item.text and (_asks(item.text, text) or REPLY.match(text)))


def _is_alone(bullets: Bullets, item: Item) -> bool:
    """Whether an item is a question whose answer stands in the item below it, or below the list of this one item."""
    text = item.text.inline.flat if item.text else ""
    return asks(text) and words(text) > 2 and (len(item.blocks) > 1 or len(bullets.items) == 1)


def _parts(block: Block) -> Iterator[Block]:
    """`Q: ...` and lines that ask, each with the lines below it."""
    if not isinstance(block, Paragraph) or not _may_ask_more(block):
        yield block
        return
    lines, start = block.raw.split("\n"), 0
    for number, (before, line) in enumerate(pairwise(lines), start=1):
        if asks(line) and before.rstrip().endswith(tuple(ENDS)) and (line[0].isupper() or QUESTION.match(line)):
            yield replace(block, line=block.line + start, raw="\n".join(lines[start:number]))
            start = number
    yield replace(block, line=block.line + start, raw="\n".join(lines[start:]))


def _may_ask_more(block: Paragraph) -> bool:
    return "\n" in block.raw and block.raw.count("?") > 1 and not is_data(block) and not is_log(block)


def _answered_by_list(place: Place, asked: str, line: int, bullets: Bullets) -> Iterator[Fact]:
    """A question with all items of the list below it, if they are few and short."""
    items = [item.text.inline.flat.rstrip(".;,") if item.text else "" for item in bullets.items]
    value = "; ".join(items)
    if 2 <= len(items) <= ITEMS and all(map(is_readable, items)) and words(value) <= REPLIES and words(asked) > 2:
        yield place.fact("Q", "answer", asked.strip(), value, line)


def _asks(block: Paragraph, text: str) -> str:
    """The question that the paragraph is, or begins with in bold or on a line of its own."""
    if (mark := QUESTION.match(text)) is not None:
        first = _cut(block.sentences, mark.end())
        return first[0].text if first and asks(first[0].text) else ""
    bold = next(iter(block.inline.bolds), "")
    if asks(bold) and text.startswith(bold) and words(bold) > 2:
        return bold
    line, _, rest = block.inline.text.partition("\n")
    is_whole = rest and asks(line) and line[:1].isupper() and words(line) > 2
    return line if is_whole and block.sentences[0].text == line else ""


def _after(block: Paragraph) -> list[Sentence]:
    """What follows the question in the same paragraph."""
    at = next((n for n, sentence in enumerate(block.sentences) if asks(sentence.text)), 0)
    rest = block.sentences[at + 1 :]
    reply = REPLY.match(rest[0].text) if rest else None
    return _cut(rest, reply.end() if reply else 0)


def _cut(sentences: list[Sentence], start: int) -> list[Sentence]:
    if not sentences or not start:
        return sentences
    first = Sentence(sentences[0].text[start:], sentences[0].line)
    return [first, *sentences[1:]] if first.text else sentences[1:]


def _answered(place: Place, asked: str, line: int, sentences: list[Sentence]) -> Iterator[Fact]:
    value = answer(sentences, most=3, longest=REPLIES)
    if not value and sentences and words(sentences[0].text) < 3 and is_readable(sentences[0].text):
        value = " ".join(sentence.text for sentence in sentences[:2])  # Yes. ...
    if value and 2 < words(asked) <= 25:
        yield place.fact("Q", "answer", asked.strip(), value, line, sentence=value)
