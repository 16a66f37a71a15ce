"""Markdown into sections by its headings, and long texts into parts. CommonMark with tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
TAGS = re.compile(r" {0,3}(</?[A-Za-z][\w-]*(\s[^<>]*)?/?>\s*)+")  # and nothing else; indented more it's code
KEYS = {  # how front matter's lines begin that aren't indented, by the ruler above it: YAML's and TOML's
    "---": re.compile(r"[\w-]+:(\s|$)"),
    "+++": re.compile(r"[\w.\"'-]+\s*=|[\[\]\"']"),
}
GAPS = [re.compile(r"\n+"), re.compile(r"(?<=[.!?]) +"), re.compile(r" +")]  # between lines, sentences, words


@dataclass(frozen=True)
class Section:
    """`path` holds the headings above the text, outermost first; empty before the first heading."""

    path: tuple[str, ...]
    blocks: tuple[str, ...]  # source text of the paragraphs, lists, code blocks and tables, with links' definitions
    line: int


def sections(source: str) -> list[Section]:
    """Every stretch of text below a heading. Headings inside quotes, lists and code are text."""
    from markdown_it import MarkdownIt

    lines = _without_front_matter(source)
    parsed = MarkdownIt("commonmark").enable("table").parse("\n".join(lines))
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


def split(blocks: tuple[str, ...], fits: Callable[[str], bool]) -> list[str]:
    """Join the blocks into as few texts as fit; a block that doesn't is cut."""
    parts: list[str] = []
    for joint, text in _pieces(blocks, fits):
        joined = f"{parts[-1]}{joint}{text}" if parts else text
        if parts and fits(joined):
            parts[-1] = joined
        else:
            parts.append(text)
    return parts


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


def _pieces(blocks: tuple[str, ...], fits: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """(what joins it to the text before, text): every text fits."""
    for block in blocks:
        if fits(block):
            yield "\n\n", block
        else:
            yield from _cut(block, fits, joint="\n\n")


def _cut(text: str, fits: Callable[[str], bool], joint: str) -> Iterator[tuple[str, str]]:
    """Halve the text until its pieces fit; the caller joins small neighbours again."""
    if fits(text) or len(text) < 2:
        yield joint, text
        return
    start, end = _middle(text)
    yield from _cut(text[:start], fits, joint)
    yield from _cut(text[end:], fits, text[start:end])


def _middle(text: str) -> tuple[int, int]:
    """The gap nearest to the text's middle: between lines, else sentences, else words, else letters."""
    half = len(text) // 2
    for gap in GAPS:
        found = [match.span() for match in gap.finditer(text) if match.start() and match.end() < len(text)]
        if found:
            return min(found, key=lambda span: abs(span[0] - half))
    return half, half
