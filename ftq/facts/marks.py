"""What stands in Markdown files and is no text: front matter, comments, HTML, MDX, admonitions' marks.

Lines are emptied, never removed: line numbers stay right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

KEYS = {  # the start of an unindented line of front matter, by the ruler above it: YAML's and TOML's
    "---": re.compile(r"[\w-]+:(\s|$)"),
    "+++": re.compile(r"[\w.\"'-]+\s*=|[\[\]\"']"),
}
FENCE = re.compile(r"[ \t>]*(?:[-*+][ \t]+|\d{1,9}[.)][ \t]+)?(`{3,}|~{3,})([^`]{0,200})")
REFERENCE = re.compile(r" {0,3}\[([^\[\]^]{1,200})\]:\s*\S")
FOOTNOTE = re.compile(r" {0,3}\[\^[^\[\]]{1,100}\]:\s?")
COLONS = re.compile(r"\s*:{3,}(?:\s|\{|\[|\w|$)")
ADMONITION = re.compile(r"(\s*)(?:!!!|\?\?\?\+?)\s+[\w-]+|(\s*)===\+?\s+[\"']")
GITHUB = re.compile(r"\s*>\s*\[!\w{2,20}\][+-]?\s*")
MDX = re.compile(r"(?:import\s+(?:[\w*{]|['\"])|export\s+(?:const|default|function|let|var)\b)")
MACRO = re.compile(r"\s*(?:\{\{[<%#]|\{%|\[\[?_?TOC_?\]?\]|\{/\*|\{\{\s*\w+[^{}]{0,200}\}\}\s*$|%%%)", re.IGNORECASE)
WHOLE = {"script", "style", "pre", "svg", "textarea", "template"}  # up to their closing tag
HTML = re.compile(r"\s{0,3}<(/?)([A-Za-z][\w.:-]{0,60})(?=[\s/>]|$)")
OPEN = {"details", "summary", "tabs", "tab", "tabitem", "div", "section", "center", "br", "hr", "a"}  # text goes on
PROSE = {"a", "b", "i", "em", "strong", "code", "kbd", "span", "sub", "sup", "u", "s", "small", "img", "br"}


@dataclass(frozen=True)
class Source:
    lines: list[str]  # without front matter
    cleaned: list[str]  # those lines that are text
    front: str  # front matter's text, without its rulers
    references: frozenset[str]  # the labels that are defined, case folded


def cleaned(source: str) -> Source:
    """The lines that are text, the front matter and the labels of links."""
    lines = re.split(r"\r\n|\r|\n", source.removeprefix("\ufeff").replace("\0", " "))
    front, start = _front_matter(lines)
    lines[:start] = [""] * start
    sweep = _Sweep()
    return Source(lines, list(map(sweep.line, lines)), front, frozenset(sweep.references))


def _front_matter(lines: list[str]) -> tuple[str, int]:
    """(the text of a leading YAML or TOML block, where it ends)."""
    ruler = lines[0].rstrip()
    if ruler in KEYS:
        ends = (number for number, line in enumerate(lines) if number and line.rstrip() in (ruler, "..."))
        if (end := next(ends, 0)) and _is_front_matter(lines[1:end], KEYS[ruler]):
            return "\n".join(lines[1:end]), end + 1
    return "", 0


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


class _Sweep:
    """Line by line; knows in what it is: a fence, a comment, HTML, an admonition."""

    def __init__(self) -> None:
        self.references: set[str] = set()
        self.fence = ""
        self.until = ""  # what ends a comment or a whole element
        self.in_html = False  # up to an empty line
        self.indents: list[int] = []  # of the admonitions around

    def line(self, line: str) -> str:
        if self.indents:
            line = self._dedented(line)
        if self.fence or "``" in line or "~~~" in line:
            if self._fenced(line):
                return line
        elif line.startswith(("    ", "\t")) and not self.until and not self.in_html:
            return "" if COLONS.match(line) else line
        return self._text(line)

    def _dedented(self, line: str) -> str:
        indent = len(line) - len(line.lstrip(" "))
        while self.indents and line.strip() and indent < self.indents[-1]:
            self.indents.pop()
        return line[self.indents[-1] :] if self.indents else line

    def _fenced(self, line: str) -> bool:
        if self.fence:
            stripped = line.strip(" \t>")
            if stripped.startswith(self.fence) and not stripped.strip(self.fence[0]):
                self.fence = ""
            return True
        if not self.until and not self.in_html and (opening := FENCE.match(line)) and opening.end() == len(line):
            self.fence = opening.group(1)
            return True
        return False

    def _text(self, line: str) -> str:
        if self.until:
            _, mark, line = line.partition(self.until)
            if not mark:
                return ""
            self.until = ""
        if not line.strip():
            self.in_html = False
            return ""
        if self.in_html:
            return ""
        first = line.lstrip()[0]
        if first == "<" or "<!--" in line:
            line = self._html(self._uncommented(line))
        elif first in "!?=:{[%ie>•":
            line = self._marked(line)
        return line

    def _uncommented(self, line: str) -> str:
        if "<!--" not in line:
            return line
        kept = []
        for number, part in enumerate(line.split("<!--")):
            _, mark, after = part.partition("-->")
            kept.append(part if not number else after if mark else "")
            self.until = "-->" if number and not mark else ""
        return "".join(kept)

    def _html(self, line: str) -> str:
        """A tag at the line's start begins a block up to an empty line; `<b>` and the like are text."""
        match = HTML.match(line)
        if match is None or match.group(2).lower() in PROSE:
            return "" if line.lstrip()[:2] in ("<!", "<?") else line
        name = match.group(2).lower()
        if name in WHOLE and not match.group(1) and f"</{name}" not in line.lower():
            self.until = f"</{name}>"
        elif name not in OPEN and not match.group(2)[0].isupper():
            self.in_html = True
        elif not line.rstrip().endswith(">"):
            self.until = ">"
        return ""

    def _marked(self, line: str) -> str:
        if line.lstrip().startswith("• "):
            return line.replace("•", "-", 1)
        if COLONS.match(line) or MDX.match(line) or MACRO.match(line):
            return ""
        if (admonition := ADMONITION.match(line)) is not None:
            self.indents.append(len(admonition.group(1) or admonition.group(2) or "") + 4)
            return ""
        if (github := GITHUB.match(line)) is not None:
            return "> " + line[github.end() :]
        if (reference := REFERENCE.match(line)) is not None:
            self.references.add(reference.group(1).casefold())
            return ""
        if (footnote := FOOTNOTE.match(line)) is not None:
            return line[footnote.end() :]
        return line
