"""Markdown into sections by its headings. CommonMark with tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
TAGS = re.compile(r" {0,3}(</?[A-Za-z][\w-]*(\s[^<>]*)?/?>\s*)+")  # and nothing else; indented more it's code
KEYS = {  # how front matter's lines begin that aren't indented, by the ruler above it: YAML's and TOML's
    "---": re.compile(r"[\w-]+:(\s|$)"),
    "+++": re.compile(r"[\w.\"'-]+\s*=|[\[\]\"']"),
}


@dataclass(frozen=True)
class Section:
    """`path` holds the headings above the text, outermost first; empty before the first heading."""

    path: tuple[str, ...]
    blocks: tuple[str, ...]  # source text of the paragraphs, lists, code blocks and tables, with links' definitions
    line: int


def sections(source: str) -> list[Section]:
    """Every stretch of text below a heading. Headings inside quotes, lists and code are text."""
    lines = _without_front_matter(source)
    parsed = _parse("\n".join(lines))
    top = [token for token in parsed if token.level == 0 and token.map and token.nesting >= 0]
    _drop_comments(lines, parsed)
    found: list[Section] = []
    path: dict[int, str] = {}
    starts = [*(token.map[0] for token in top if token.map), len(lines)]
    blocks, line = [_block(lines, 0, starts[0])], 1
    for (token, heading), after in zip(_with_headings(parsed, top), starts[1:], strict=True):
        if heading is not None:
            found.append(Section(tuple(path.values()), _texts(blocks), line))
            depth = int(token.tag[1])
            path = {level: name for level, name in path.items() if level < depth} | {depth: heading}
            blocks, line = [], token.map[0] + 1
        is_text = heading is None and token.type != "hr"
        blocks.append(_block(lines, token.map[0] if is_text else token.map[1], after))
    found.append(Section(tuple(path.values()), _texts(blocks), line))
    return [section for section in found if not all(map(TAGS.fullmatch, section.blocks))]


def _parse(text: str) -> list[Any]:
    """The blocks' tokens; of what stands inside them only that of headings and of what may hold a comment."""
    from markdown_it import MarkdownIt

    parser, defined = MarkdownIt("commonmark").enable("table"), dict[str, Any]()
    parser.core.ruler.enableOnly(["normalize", "block"])
    parsed = parser.parse(text, defined)
    for before, token in pairwise(parsed):
        if token.type == "inline" and (before.type == "heading_open" or "<!--" in token.content):
            token.children = []
            parser.inline.parse(token.content, parser, defined, token.children)
    return parsed


def _without_front_matter(source: str) -> list[str]:
    """The source's lines, those of a leading YAML or TOML block emptied so that line numbers stay right."""
    lines = re.split(r"\r\n|\r|\n", source)
    ruler = lines[0].rstrip()
    ends = [number for number, line in enumerate(lines) if line.rstrip() in (ruler, "...") and number]
    if ruler in KEYS and ends and _is_front_matter(lines[1 : ends[0]], KEYS[ruler]):
        return [""] * (ends[0] + 1) + lines[ends[0] + 1 :]
    return lines


def _is_front_matter(lines: list[str], key: re.Pattern[str]) -> bool:
    """It looks like `key: value`, be it valid (`title: ftq: the queue` isn't); anything else between rulers is text."""
    import yaml

    outer = [line for line in lines if line.strip() and line[0] not in " \t#"]
    if outer and key.match(outer[0]) and all(key.match(line) or line.startswith("- ") for line in outer):
        return True
    try:
        return isinstance(yaml.compose("\n".join(lines), yaml.SafeLoader), yaml.MappingNode)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        return False


def _drop_comments(lines: list[str], parsed: list[Any]) -> None:
    """Blank the HTML comments out of `lines`, where the parser says that they are comments and not code."""
    for token in parsed:
        inline = [child.content for child in token.children or [] if child.type == "html_inline"]
        if token.map and (token.type == "html_block" or any(text.startswith("<!--") for text in inline)):
            start, end = token.map
            text = "\n".join(lines[start:end])
            comments = COMMENT.findall(text) if token.type == "html_block" else inline
            for comment in comments:
                if comment.startswith("<!--"):
                    text = text.replace(comment, "\n" * comment.count("\n"))
            lines[start:end] = text.split("\n")


def _with_headings(parsed: list[Any], top: list[Any]) -> Iterator[tuple[Any, str | None]]:
    """Each top-level block, with its plain text if it is a heading."""
    inside = {id(before): after for before, after in pairwise(parsed)}
    for token in top:
        is_heading = token.type == "heading_open"
        yield token, _plain(inside[id(token)]) if is_heading else None


def _plain(inline: Any) -> str:
    """A heading without its markup: `## The *ftq* [queue](x)` is "The ftq queue"."""
    kinds = {"text", "code_inline", "text_special", "image"}
    words = [child.content if child.type in kinds else " " if child.type.endswith("break") else ""
             for child in inline.children or []]  # fmt: skip
    return " ".join("".join(words).split())


def _block(lines: list[str], start: int, end: int) -> str:
    """A block goes up to the next one, for a link's definition is in none."""
    return "\n".join(lines[start:end]).strip("\n").rstrip()


def _texts(blocks: list[str]) -> tuple[str, ...]:
    return tuple(block for block in blocks if block.strip())
