"""L: lists under a line that ends in a colon. Q: questions with their answers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftq.facts.blocks import Block, Bullets, Item, Paragraph
from ftq.facts.checks import is_readable, points, words
from ftq.facts.fact import Fact
from ftq.facts.place import Place, answer
from ftq.facts.sentences.split import Sentence
from ftq.facts.text.signs import asks

ITEMS, ITEM, LEAD = 9, 14, 25  # items of a list, words of an item and of the line above
QUESTION = re.compile(r"(?:Q|F|Question|Frage|Pregunta|Domanda|Pergunta|Vraag|Вопрос|问|質問)\s?\d{0,3}[:：.]\s+")
REPLY = re.compile(
    r"(?:A|R|Answer|Antwort|Réponse|Respuesta|Risposta|Resposta|Antwoord|Ответ|答|回答)\s?\d{0,3}[:：.]\s+"
)
REPLIES = 60  # words


def listing(place: Place) -> Iterator[Fact]:
    """What a list holds, where its line above says it."""
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
    """A heading, a bold line or a Q: that asks, with the text below."""
    asked: tuple[str, int] | None = None
    if asks(place.section.heading):
        asked = place.section.heading, place.section.line
    for block in _flat(place.section.blocks):
        text = block.inline.flat if isinstance(block, Paragraph) else ""
        if isinstance(block, Paragraph) and (found := _asks(block, text)):
            own = _after(block)
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


def _flat(blocks: list[Block]) -> Iterator[Block]:
    """The blocks; of a list that asks or replies the blocks of its items, and others whole."""
    for block in blocks:
        if isinstance(block, Bullets) and any(_is_turn(item) for item in block.items):
            for item in block.items:
                yield from item.blocks
        else:
            yield block


def _is_turn(item: Item) -> bool:
    text = item.text.inline.flat if item.text else ""
    return bool(item.text and (_asks(item.text, text) or REPLY.match(text)))


def _answered_by_list(place: Place, asked: str, line: int, bullets: Bullets) -> Iterator[Fact]:
    """A question with all items of the list below it, if they are few and short."""
    items = [item.text.inline.flat.rstrip(".;,") if item.text else "" for item in bullets.items]
    value = "; ".join(items)
    if 2 <= len(items) <= ITEMS and all(map(is_readable, items)) and words(value) <= REPLIES and words(asked) > 2:
        yield place.fact("Q", "answer", asked.strip(), value, line)


def _asks(block: Paragraph, text: str) -> str:
    """The question that the paragraph is, or begins with in bold."""
    if (mark := QUESTION.match(text)) is not None:
        first = _cut(block.sentences, mark.end())
        return first[0].text if first and asks(first[0].text) else ""
    bold = next(iter(block.inline.bolds), "")
    return bold if asks(bold) and text.startswith(bold) and words(bold) > 2 else ""


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
