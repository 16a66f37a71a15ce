"""Markdown into sections: each with its text as the file has it, and with its blocks and their lines.

The one reader of Markdown: examples are made of the text, facts are found in the blocks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import chain, pairwise, takewhile
from typing import TYPE_CHECKING, NamedTuple

from ftq.facts.blocks import TEXT, Block, Bullets, Code, Definitions, Item, Paragraph, Section, Table
from ftq.facts.inline import inline
from ftq.facts.marks import TABLE, Source, cleaned
from ftq.facts.text.directives import is_note
from ftq.facts.text.fences import FENCE
from ftq.facts.text.footnotes import notes_in
from ftq.facts.text.heading import undecorated
from ftq.facts.text.plain import NOT_TEXT, UNCLOSED

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

OPENS = re.compile(r"\s*(?:!!!|\?\?\?|===|:{3,}[ \t]*[\w{\[]|<[A-Za-z])")
TAGS = re.compile(r" {0,3}(?:</?[A-Za-z][\w-]*+(?:\s[^<>]*+)?/?>\s*+)++")  # indented more it's code
TASK = re.compile(r"\[[ xX]\]\s+")
DEFINES = (": ", ":\t", "~ ", "~\t")
NOTES = 6  # inside each other
COLUMNS, WIDE = 64, "row of a table that is too wide"  # such a table is data
STRETCH = 2**16  # characters, more or less, that are parsed at once
PART, TO_A_BLOCK = 5000, 5  # blocks of a section that are held at a time; tokens of a list for which it is one more
TOKENS, DENSE = 100_000, 0.15  # of the parser, which take 7 microseconds each: at first, and then for each character


class Document:
    """A Markdown text, read once. `title` is the first heading of level 1, as soon as its section has come."""

    def __init__(
        self, source: str, has_blocks: bool = True, is_asked: Callable[[Section], bool] = lambda section: True
    ) -> None:
        self.has_blocks, self._is_asked = has_blocks, is_asked  # where it is False, sections have their texts only
        self.source, self._source = source, cleaned(source)
        self.front = self._source.front
        self.title = ""
        self.lost = self._source.lost  # what isn't text and is told: (line, what, how many)

    @property
    def instead(self) -> str:
        """What a document without text has instead."""
        what = {what: line for line, what, _ in self.lost}
        if UNCLOSED in what:
            return f"a comment that nothing closes, on line {what[UNCLOSED]}: end it with -->"
        return "pictures, keys or dumps" if NOT_TEXT in what else "headings"

    def sections(self) -> Iterator[Section]:
        """A section for each heading and for the text before the first. Headings in quotes and lists are text.

        A section of very many blocks comes in parts, which have the same line.
        """
        section, path, size, held = Section((), 1), dict[int, str](), len(self._source.lines), 0
        tops = chain([_Top(0, 0)], _tops(self._source), [_Top(size, size)])
        for top, after in pairwise(tops):
            if top.kind == "heading_open":
                yield self._noted(section)
                level, name = int(top.tokens[0].tag[1]), self._name(top.tokens[1].content)
                path = {upper: text for upper, text in path.items() if upper < level} | {level: name}
                section = Section(tuple(filter(None, path.values())), top.start + 1, level)
                self.title = self.title or (section.heading if level == 1 else "")
                held = 0
            elif held > PART:
                yield self._noted(section)
                section, held = Section(section.headings, section.line, section.level), 0
            held += max(1, len(top.tokens) // TO_A_BLOCK)
            if top.kind == "dense":
                section.cuts.append((top.start + 1, "line too dense to be read for questions", top.end - top.start))
            if self.has_blocks and self._is_asked(section):
                blocks = _Blocks(top.tokens, top.first, self._source)
                section.blocks += blocks.read()
                section.cuts += blocks.cuts
            section.texts += filter(str.strip, [self._text(top, after.start)])
        yield self._noted(section)

    def _noted(self, section: Section) -> Section:
        """The section with the footnotes that it refers to."""
        for note in notes_in(section.texts, self._source.notes) if self._source.notes else ():
            section.texts.append(note.shown)
            if self.has_blocks:
                section.blocks.append(Paragraph(note.line, note.text, self._source.references))
        return section

    def _name(self, heading: str) -> str:
        """A heading's text; that of one that is nothing but decoration is all of it."""
        text = heading[:TEXT]
        return inline(undecorated(text) or text, self._source.references).flat

    def _text(self, top: _Top, after: int) -> str:
        """A block's lines, and those after it that are no block: links' definitions, tags."""
        start = top.end if top.kind in ("heading_open", "hr") else top.start
        return "\n".join(self._source.lines[start:after]).strip("\n").rstrip()


def has_text(texts: Iterable[str]) -> bool:
    """Whether one of a section's texts is more than tags."""
    return not all(map(TAGS.fullmatch, texts))


class _Top(NamedTuple):
    """A block that is in no other. Its tokens count their lines from `first`."""

    start: int
    end: int
    kind: str = ""
    tokens: Sequence[Token] = ()
    first: int = 0


def _tops(source: Source) -> Iterator[_Top]:
    """A long page is parsed in stretches, because tokens take a hundred times the memory of their text.

    A stretch comes as it is where those before it had too many tokens: a million items of one letter are no list.
    """
    first, spent, room = 0, 0, float(TOKENS)
    while first < len(source.cleaned):
        if spent > room:
            last = _past_code(source.cleaned, first, _stretch(source.cleaned, first, STRETCH))
            room += DENSE * _size(source.cleaned, first, last)
            yield _Top(first, last, "dense", (), first)
            first = last
            continue
        tokens, last = _parse(source.cleaned, first)
        spent, room = spent + len(tokens), room + DENSE * _size(source.cleaned, first, last)
        at = 0
        for number, token in enumerate(tokens, start=1):
            if token.level == 0 and token.nesting <= 0:
                (start, end), kind = tokens[at].map or (0, 0), tokens[at].type
                opens = first + start if kind == "heading_open" else _opens(source, first + start)
                yield _Top(opens, first + end, kind, tokens[at:number], first)
                at = number
        first = last


def _opens(source: Source, start: int) -> int:
    """Where the notes and tags begin that are opened right above a block."""
    above = takewhile(lambda number: not source.cleaned[number], range(start - 1, -1, -1))
    opens = (number for number in above if number in source.titles or OPENS.match(source.lines[number]))
    return min(opens, default=start)


def _tokens(source: str) -> list[Token]:
    return _parser("|" in source).parse(source)


@cache
def _parser(has_tables: bool) -> MarkdownIt:
    """A parser of blocks that leaves their text alone. Made once: that takes longer than parsing a short page."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").disable(["html_block", "reference"])
    parser.core.ruler.enableOnly(["block"])  # lines are cut and emptied of NUL already
    return parser.enable("table") if has_tables else parser


def _parse(lines: list[str], first: int) -> tuple[list[Token], int]:
    """(the tokens of a stretch of lines, where it ends). It ends in no block: a heading added there stays a heading."""
    size = STRETCH
    while (last := _stretch(lines, first, size)) < len(lines):
        tokens = _tokens("\n".join([*lines[first:last], "", "# A heading"]))
        if tokens[-1].type == "heading_close" and tokens[-1].level == 0:
            return tokens[:-3], last
        size *= 2
    return _tokens("\n".join(lines[first:])), len(lines)


def _stretch(lines: list[str], first: int, size: int) -> int:
    """Where about `size` characters end, if possible above a line that continues no list, quote or table."""
    length = 0
    for number in range(first, len(lines)):
        line = lines[number]
        if length >= 2 * size or (length >= size and (line[:1].isalpha() or line[:1] == "#") and not lines[number - 1]):
            return number
        length += len(line) + 1
    return len(lines)


def _past_code(lines: list[str], first: int, last: int) -> int:
    """`last`, or where the code ends that it would cut."""
    fence, number = "", first
    while number < len(lines) and (number < last or fence):
        line = lines[number].strip()
        if not fence and line.startswith(("```", "~~~")) and (opening := FENCE.match(line)):
            fence = opening.group(1)
        elif fence and line.startswith(fence) and not line.strip(fence[0]):
            fence = ""
        number += 1
    return number


def _size(lines: list[str], first: int, last: int) -> int:
    return sum(len(lines[number]) + 1 for number in range(first, last))


class _Blocks:
    """Tokens into blocks. They count their lines from `first`; quotes are their text."""

    def __init__(self, tokens: Sequence[Token], first: int, source: Source, depth: int = 0) -> None:
        self.tokens, self.first, self.source, self.depth = iter(tokens), first, source, depth
        self.cuts: list[tuple[int, str, int]] = []  # what a limit leaves out: (line, what, how many)

    def read(self, until: str = "") -> list[Block]:
        """The blocks up to a container's end."""
        result: list[Block] = []
        for token in self.tokens:
            match token.type:
                case kind if kind == until:
                    break
                case "paragraph_open":
                    self._text(next(self.tokens), result)
                case "fence" | "code_block":
                    result += self._code(token)
                case "bullet_list_open" | "ordered_list_open":
                    items = list(self._items(token.type.replace("open", "close")))
                    result.append(Bullets(self._line(token), items))
                case "table_open":
                    result += self._table()
        return result

    def _line(self, token: Token) -> int:
        return self.first + (token.map or [0])[0] + 1

    def _paragraph(self, line: int, text: str) -> Paragraph:
        return Paragraph(line, text, self.source.references, self.depth > 0 or line - 1 in self.source.asides)

    def _text(self, token: Token, result: list[Block]) -> None:
        """A paragraph, or terms with their definitions, which may go on."""
        line, texts = self._line(token), list(map(str.strip, token.content.split("\n")))
        if texts[0] == TABLE:
            result += [table for number in range(line, line + len(texts)) if (table := self.source.tables.get(number))]
            return
        if len(texts) == 1 or texts[0].startswith(DEFINES) or not texts[1].startswith(DEFINES):
            result.append(self._paragraph(line, "\n".join(texts)))
            return
        terms = self._terms(line, texts)
        if result and isinstance(result[-1], Definitions):
            result[-1].terms += terms
        else:
            result.append(Definitions(line, terms))

    def _terms(self, line: int, texts: list[str]) -> list[tuple[Paragraph, Paragraph]]:
        """`: text` under a term of one line, once or more often, with more terms after it."""
        terms: list[tuple[Paragraph, int, list[str]]] = []
        for number, (text, after) in enumerate(pairwise([*texts, ""]), start=line):
            if not text.startswith(DEFINES) and after.startswith(DEFINES):
                terms.append((self._paragraph(number, text), number + 1, []))
            else:
                terms[-1][2].append(text[1:].strip() if text.startswith(DEFINES) else text)
        return [(term, self._paragraph(start, "\n".join(lines))) for term, start, lines in terms]

    def _code(self, token: Token) -> list[Block]:
        line, info = self._line(token), token.info.strip()
        if is_note(info) and self.depth < NOTES:
            inner = _Blocks(_tokens(token.content), line, self.source, self.depth + 1)
            inner.cuts = self.cuts
            return inner.read()
        lines = [text.rstrip() for text in token.content.split("\n")][:-1]
        return [Code(line + (token.type == "fence"), info, lines)]

    def _items(self, until: str) -> Iterator[Item]:
        for token in self.tokens:
            if token.type == until:
                return
            item = Item(self._line(token), self.read("list_item_close"))
            if item.text is not None:
                item.text.raw = TASK.sub("", item.text.raw, count=1) if item.text.raw[:1] == "[" else item.text.raw
            yield item

    def _table(self) -> list[Block]:
        rows: list[list[Paragraph]] = []
        for token in self.tokens:
            match token.type:
                case "tr_open":
                    rows.append([])
                case "inline":
                    rows[-1].append(self._paragraph(self._line(token), token.content))
                case "table_close":
                    break
        table = Table(rows[0][0].line, rows[0], rows[1:])
        if len(table.header) > COLUMNS:
            self.cuts.append((table.line, WIDE, len(table.rows)))
            return []
        return [table]
