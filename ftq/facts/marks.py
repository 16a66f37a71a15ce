"""What stands in Markdown files and is no text: front matter, comments, HTML, MDX, admonitions' marks.

Lines are emptied, never removed: line numbers stay right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

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
PART = 20_000  # lines that are held as blocks at a time
OPEN = {"details", "summary", "tabs", "tab", "tabitem", "div", "section", "center", "br", "hr", "a"}  # text goes on
PROSE = {"a", "b", "i", "em", "strong", "code", "kbd", "span", "sub", "sup", "u", "s", "small", "img", "br"}


@dataclass(frozen=True)
class Source:
    lines: list[str]
    front: str  # front matter's text, without its rulers
    references: frozenset[str]  # the labels that are defined, case folded
    cuts: tuple[int, ...]  # lines before which a long text may be cut: no fence is open


def cleaned(source: str) -> Source:
    """The lines that are text, the front matter and the labels of links."""
    lines = re.split(r"\r\n|\r|\n", source.removeprefix("\ufeff").replace("\0", " "))
    front, start = _front_matter(lines)
    sweep, cuts = _Sweep(), [0]
    for number, line in enumerate(lines):
        lines[number] = "" if number < start else sweep.line(line)
        long = number - cuts[-1]
        if long >= PART and not sweep.fence and (not lines[number] or long >= 2 * PART):
            cuts.append(number)
    return Source(lines, front, frozenset(sweep.references), (*cuts, len(lines)))


def _front_matter(lines: list[str]) -> tuple[str, int]:
    ruler = lines[0].rstrip()
    if ruler not in ("---", "+++"):
        return "", 0
    for number, line in enumerate(lines[1:500], start=1):
        if line.rstrip() in (ruler, "..."):
            inner = lines[1:number]
            first = next((text for text in inner if text.strip() and not text.startswith("#")), "")
            is_keys = re.match(r"[\w.\"'-]{1,80}\s*[:=](\s|$)|\[", first) is not None
            return ("\n".join(inner), number + 1) if is_keys else ("", 0)
    return "", 0


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
        elif first in "!?=:{[%ie>":
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
