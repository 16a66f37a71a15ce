"""Markdown into sections by its headings. CommonMark with tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
TAGS = re.compile(r" {0,3}(</?[A-Za-z][\w-]*(\s[^<>]*)?/?>\s*)+")  # a block of tags only; indented more it's code
KEYS = {  # the start of an unindented line of front matter, by the ruler above it: YAML's and TOML's
    "---": re.compile(r"[\w-]+:(\s|$)"),
    "+++": re.compile(r"[\w.\"'-]+\s*=|[\[\]\"']"),
}

STRETCH = 2**16  # characters, more or less, that are parsed at once


@dataclass(frozen=True)
class Section:
    """`path` holds the headings above the text, outermost first; empty before the first heading."""

    path: tuple[str, ...]
    blocks: tuple[str, ...]  # source text of the paragraphs, lists, code blocks and tables, with links' definitions
    line: int


@dataclass(frozen=True, slots=True)
class Block:
    """A block at the top level: lines from `start` up to `end`. A heading has a depth and its text with the markup."""

    start: int
    end: int
    is_text: bool
    depth: int
    heading: str


def sections(source: str) -> list[Section]:
    """A section for each heading and for the text before the first. Headings in quotes, lists and code are text."""
    lines = _without_front_matter(source)
    parser, defined = _parser(), dict[str, Any]()
    top = list(_top(lines, parser, defined))
    result: list[Section] = []
    path: dict[int, str] = {}
    starts = [*(block.start for block in top), len(lines)]
    texts, line = [_text(lines, 0, starts[0])], 1
    for block, after in zip(top, starts[1:], strict=True):
        if block.depth:
            result.append(Section(tuple(path.values()), _texts(texts), line))
            heading = _plain(_inline(block.heading, parser, defined))
            path = {level: name for level, name in path.items() if level < block.depth} | {block.depth: heading}
            texts, line = [], block.start + 1
        texts.append(_text(lines, block.start if block.is_text else block.end, after))
    result.append(Section(tuple(path.values()), _texts(texts), line))
    return [section for section in result if not all(map(TAGS.fullmatch, section.blocks))]


def _without_front_matter(source: str) -> list[str]:
    """The source's lines. Those of a leading YAML or TOML block are emptied, so that line numbers stay right."""
    lines = re.split(r"\r\n|\r|\n", source)
    ruler = lines[0].rstrip()
    ends = [number for number, line in enumerate(lines) if line.rstrip() in (ruler, "...") and number]
    if ruler in KEYS and ends and _is_front_matter(lines[1 : ends[0]], KEYS[ruler]):
        return [""] * (ends[0] + 1) + lines[ends[0] + 1 :]
    return lines


def _is_front_matter(lines: list[str], key: re.Pattern[str]) -> bool:
    """Whether the lines look like `key: value`, valid or not (`title: ftq: the queue` isn't). Others are text."""
    import yaml

    outer = [line for line in lines if line.strip() and line[0] not in " \t#"]
    if outer and key.match(outer[0]) and all(key.match(line) or line.startswith("- ") for line in outer):
        return True
    try:
        return isinstance(yaml.compose("\n".join(lines), yaml.SafeLoader), yaml.MappingNode)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        return False


@cache
def _parser() -> Any:
    """A parser of blocks that leaves their text alone. Made once: that takes longer than parsing a short page."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def _top(lines: list[str], parser: Any, defined: dict[str, Any]) -> Iterator[Block]:
    """The blocks at the top level. Comments are blanked out of `lines`, definitions of links go into `defined`.

    A long page is parsed in stretches, because tokens take a hundred times the memory of their text.
    """
    first = 0
    while first < len(lines):
        parsed, last = _parse(lines, first, parser, defined)
        _drop_comments(lines, first, parsed, parser)
        for token, inside in pairwise([*parsed, None]):
            if token.level == 0 and token.map and token.nesting >= 0:
                yield _block(token, inside, first)
        first = last


def _parse(lines: list[str], first: int, parser: Any, defined: dict[str, Any]) -> tuple[list[Any], int]:
    """(the tokens of a stretch of lines, where it ends). It ends in no block: a heading added there stays a heading."""
    size = STRETCH
    while (last := _stretch(lines, first, size)) < len(lines):
        parsed = parser.parse("\n".join([*lines[first:last], "", "# A heading"]), defined)
        if parsed[-1].type == "heading_close" and parsed[-1].level == 0:
            return parsed[:-3], last
        size *= 2
    return parser.parse("\n".join(lines[first:]), defined), len(lines)


def _stretch(lines: list[str], first: int, size: int) -> int:
    """Where about `size` characters end, if possible above a line that continues no list, quote or table."""
    length = 0
    for number in range(first, len(lines)):
        line = lines[number]
        if length >= 2 * size or (length >= size and (line[:1].isalpha() or line[:1] == "#") and not lines[number - 1]):
            return number
        length += len(line) + 1
    return len(lines)


def _block(token: Any, inside: Any, first: int) -> Block:
    is_heading = token.type == "heading_open"
    start, end = token.map[0] + first, token.map[1] + first
    is_text = not is_heading and token.type != "hr"
    return Block(start, end, is_text, int(token.tag[1]) if is_heading else 0, inside.content if is_heading else "")


def _drop_comments(lines: list[str], first: int, parsed: list[Any], parser: Any) -> None:
    """Blank the HTML comments out of `lines`; the parser tells comments from code."""
    for token in parsed:
        if not token.map or token.type not in ("html_block", "inline") or "<!--" not in token.content:
            continue
        start, end = token.map[0] + first, token.map[1] + first
        text = "\n".join(lines[start:end])
        if token.type == "html_block":
            text = COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), text)
        else:
            text = _without_comments(text, _inline(token.content, parser, {}))
        lines[start:end] = text.split("\n")


def _without_comments(text: str, inline: list[Any]) -> str:
    """The text without the comments that the parser has found; the same characters in a code span are code."""
    parts, at = [], 0
    for content, type in ((child.content, child.type) for child in inline):
        start = text.find(content, at) if type in ("code_inline", "html_inline") else -1
        if start >= 0:
            is_comment = type == "html_inline" and content.startswith("<!--")
            parts += [text[at:start], "\n" * content.count("\n") if is_comment else content]
            at = start + len(content)
    return "".join([*parts, text[at:]])


def _inline(content: str, parser: Any, defined: dict[str, Any]) -> list[Any]:
    tokens: list[Any] = []
    parser.inline.parse(content, parser, defined, tokens)
    return tokens


def _plain(inline: list[Any]) -> str:
    """A heading without its markup: `## The *ftq* [queue](x)` is "The ftq queue"."""
    kinds = {"text", "code_inline", "text_special", "image"}
    words = [child.content if child.type in kinds else " " if child.type.endswith("break") else "" for child in inline]
    return " ".join("".join(words).split())


def _text(lines: list[str], start: int, end: int) -> str:
    """The lines up to the next block, because a link's definition belongs to no block."""
    return "\n".join(lines[start:end]).strip("\n").rstrip()


def _texts(blocks: list[str]) -> tuple[str, ...]:
    return tuple(block for block in blocks if block.strip())
