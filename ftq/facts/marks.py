"""What stands in Markdown files and is no text: front matter, HTML, what a page's generator reads, admonitions' marks.

Lines are emptied, never removed: line numbers stay right. Each line has two forms: what a section shows of it, and what
the parser gets: that has no HTML, no definitions of links and no titles of notes.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass

from ftq.facts.blocks import Table
from ftq.facts.html_tables import end_of, table_of
from ftq.facts.text.directives import DROPPED, is_note, named
from ftq.facts.text.fences import closes, opened
from ftq.facts.text.footnotes import FOOTNOTE, Note, moved
from ftq.facts.text.plain import TITLED, plain, telling
from ftq.facts.text.signs import ENDS, asks

KEYS = {  # the start of an unindented line of front matter, by the ruler above it: YAML's and TOML's
    "---": re.compile(r"[\w-]+:(\s|$)"),
    "+++": re.compile(r"[\w.\"'-]+\s*=|[\[\]\"']"),
}
END_OF_LINE = re.compile(r"\r\n|\r|\n")
TABLE = "\0"  # no text has it
FRONT = 20_000  # characters of front matter that are read as YAML or TOML
REFERENCE = re.compile(r" {0,3}\[([^\[\]^]{1,200})\]:\s*\S")
REMARK = re.compile(r" {0,3}\[(?://|comment|_|#|\^_\^)[^\[\]]{0,20}\]:\s*(?:#|<>)", re.IGNORECASE)  # of Markdown's own
DEFINES = (": ", ":\t")  # what a heading names, with all that is indented below it
FIELD_OF_NOTE = re.compile(r"(\s*)(?:[-*+]\s+)?([^\W\d_][\w -]{0,40})::\s+(?=\S)")  # Dataview's `Key:: value`
COLONS = re.compile(r"\s*:{3,}(?:\s|\{|\[|\w|$)")
ADMONITION = re.compile(r"(\s*)(?:!!!|\?\?\?\+?)(?:\s+[\w-]+|[\w-]+(?=\s*(?:[\"']|$)))|(\s*)===\+?\s+[\"']")
GITHUB = re.compile(r"\s*>\s*\[!\w{2,20}\][+-]?\s*")
# Lines that are nothing else: variables, tables of contents, attributes, MyST's labels.
MACRO = re.compile(
    r"\s*(?:\[\[?_?TOC_?\]?\]|\{\{\s*\w+[^{}]{0,200}\}\}\s*$|%%%|%%.*%%\s*$|\{\*\s[^{}]{1,200}\*\}\s*$|\{:?\s*[.#:][^{}]{0,200}\}\s*$|"
    r"\([\w.-]{1,100}\)=\s*$|\{[#/:@](?:if|else|each|await|then|catch|key|html|render|snippet)\b[^{}]{0,200}\}\s*$)",
    re.IGNORECASE,
)
DIRECTIVE = re.compile(r"(\s*)\.\.\s+(?:_[^:`]{1,200}:|(?:\|[^|]{1,100}\|\s+)?([\w:-]{1,60})::)\s*(.*)")  # Sphinx's
FIELD = re.compile(r"\s+:[\w-]{1,60}:(?:\s.*)?$")  # of a directive
TITLE = re.compile(
    r"\s*:{3,}\s*(?:\{[^{}]{0,200}\}|[\w-]{1,60})?(?:\[([^\[\]]{0,200})\])?\s*(.{0,300}?)(?:\s*\{[^{}]{0,200}\})?\s*:*\s*$"
)
QUOTED = re.compile(r"[\"']([^\"']{1,200})[\"']\s*$")
COMPONENT = re.compile(r"</?[A-Z][\w.]{0,60}(?:\s(?:[^<>]|=>)*)?/?>")
WHOLE = {"pre", "textarea"}  # up to their closing tag
HTML = re.compile(r"\s{0,3}<(/?)([A-Za-z][\w.:-]{0,60})(?=[\s/>]|$)")
SUMMARY = re.compile(r"\s*(?:<details[^<>]*>\s*)?<summary[^<>]*>(.*?)</summary>(.*)", re.IGNORECASE)
TAG = re.compile(r"</?[A-Za-z][^<>]*>")
OPEN = {"details", "summary", "tabs", "tab", "tabitem", "div", "section", "center", "br", "hr", "a"}  # text goes on
PROSE = {"a", "b", "i", "em", "strong", "code", "kbd", "span", "sub", "sup", "u", "s", "small", "img", "br"}


@dataclass(frozen=True)
class Source:
    lines: list[str]  # as sections show them, without front matter
    cleaned: list[str]  # those lines that are text
    front: str  # front matter's text, without its rulers
    references: frozenset[str]  # the labels that are defined, case folded
    titles: frozenset[int]  # the lines that title what follows
    asides: Set[int]  # the lines in notes
    tables: dict[int, Table]  # that are HTML, by their first lines, which hold TABLE
    notes: dict[str, Note]  # footnotes, by their labels
    lost: list[tuple[int, str, int]]  # what is told: (line, what, how many)


def cleaned(source: str) -> Source:
    """The lines that are text, the front matter, the labels of links and the footnotes."""
    text = source.removeprefix("\ufeff").replace("\0", " ").replace(TITLED, " ")
    lines = END_OF_LINE.split(text) if "\r" in text else text.split("\n")
    front, start = _front_matter(lines)
    lines[:start] = [""] * start
    read, sweep = plain(lines), _Sweep()
    pairs = list(map(sweep.line, read.lines))
    shown, kept = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    notes = moved(sweep.footnotes, shown, kept)
    tables = _marked_tables(sweep.tables, shown, kept) if sweep.tables else {}
    references, titles = frozenset(sweep.references), frozenset(sweep.titles)
    return Source(shown, kept, front, references, titles, sweep.asides, tables, notes, read.lost)


def _marked_tables(starts: list[int], shown: list[str], kept: list[str]) -> dict[int, Table]:
    """The tables below an empty line; TABLE stands for each of their lines, so that they are blocks."""
    tables: dict[int, Table] = {}
    for start in starts:
        end = end_of(shown, start) if not start or not kept[start - 1] else -1
        table = table_of(shown[start : end + 1], start + 1) if end >= 0 else None
        if table is not None:
            tables[start + 1] = table
            kept[start : end + 1] = [TABLE] * (end + 1 - start)
    return tables


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
    if sum(map(len, lines)) > FRONT:
        return False
    try:
        return isinstance(yaml.compose("\n".join(lines), yaml.SafeLoader), yaml.MappingNode)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        return False


class _Sweep:
    """Line by line; knows in what it is: a fence, HTML, an admonition. Gives what is shown of a line, and its text."""

    def __init__(self) -> None:
        self.references: set[str] = set()
        self.footnotes: list[tuple[str, int]] = []  # (label, line)
        self.titles: set[int] = set()  # lines that title what follows
        self.asides: set[int] = set()  # lines in notes
        self.tables: list[int] = []  # lines on which one in HTML begins
        self.is_quoted, self.colons = False, 0  # in one of GitHub's; how many of colons are open
        self.fence, self.is_dropped = "", False
        self.notes: list[str] = []  # the fences of MyST's notes around
        self.until, self.is_component = "", False  # what ends an element or its tag
        self.in_html = False  # up to an empty line
        self.indents: list[int] = []  # of the admonitions around
        self.is_headed = False  # a heading is right above
        self.directive = -1  # the indent of one whose content is none
        self.after_directive = False
        self.number = -1

    def line(self, line: str) -> tuple[str, str]:
        self.number += 1
        if self.indents:
            line = self._dedented(line)
        if self.is_quoted:
            self.is_quoted = line.lstrip().startswith(">")
        if self.indents or self.notes or self.is_quoted or self.colons:
            self.asides.add(self.number)
        if TITLED in line:
            return self._titled(line.replace(TITLED, ""))
        if self.fence or "``" in line or "~~~" in line:
            if (pair := self._fenced(line)) is not None:
                return pair
        elif line.startswith(("    ", "\t")) and not self.until and not self.in_html and self.directive < 0:
            if self.after_directive and FIELD.match(line):
                return "", ""
            return ("", "") if COLONS.match(line) else (line, line)
        return self._text(line)

    def _dedented(self, line: str) -> str:
        indent = len(line) - len(line.lstrip(" "))
        while self.indents and line.strip() and indent < self.indents[-1]:
            self.indents.pop()
        return line[self.indents[-1] :] if self.indents else line

    def _fenced(self, line: str) -> tuple[str, str] | None:
        """A line of code; of MyST's notes the text. None for other lines."""
        if self.fence:
            if closes(line, self.fence):
                self.fence, dropped, self.is_dropped = "", self.is_dropped, False
                return ("", "") if dropped else (line, line)
            return ("", "") if self.is_dropped or line.lstrip().startswith("#|") else (line, line)
        if self.until or self.in_html or not (opening := opened(line)):
            return None
        if self.notes and line.strip(" \t>").startswith(self.notes[-1]) and not opening[2].strip():
            self.notes.pop()
            return "", ""
        if is_note(opening[2]):
            self.notes.append(opening[1])
            self.after_directive = True
            return self._titled(named(opening[2])[1])
        self.fence, self.is_dropped = opening[1], named(opening[2])[0] in DROPPED
        return ("", "") if self.is_dropped else (line, line)

    def _titled(self, title: str) -> tuple[str, str]:
        """A note's title is shown, and no paragraph of the text."""
        self.titles |= {self.number} if title.strip() else set()
        return title.strip(), ""

    def _text(self, line: str) -> tuple[str, str]:
        if self.until:
            return self._in_element(line)
        if not line.strip():
            self.in_html = self.after_directive = False
            return "", ""
        if self.directive >= 0:
            if len(line) - len(line.lstrip()) > self.directive:
                return "", ""
            self.directive = -1
        if self.in_html:
            return line, ""
        if self.after_directive and FIELD.match(f" {line}"):
            return "", ""
        self.after_directive = False
        first = line.lstrip()[0]
        is_headed, self.is_headed = self.is_headed, first == "#"
        if first == "<":
            return self._html(line)
        if is_headed and line.startswith(DEFINES):
            self.indents.append(4)
            self.is_headed = True  # it may have another one
            return line[1:].lstrip(), line[1:].lstrip()
        return self._marked(line) if first in "!?=:{[%>•(." or ":: " in line else (line, line)

    def _in_element(self, line: str) -> tuple[str, str]:
        before, mark, rest = line.partition(self.until)
        shown = self._titled(telling(before))[0] if self.is_component else before + mark
        if not mark:
            return shown, ""
        self.until, self.is_component = "", False
        after, text = self._text(rest)
        return shown + after, text

    def _html(self, line: str) -> tuple[str, str]:
        """A tag at the line's start begins a block up to an empty line; `<b>` and the like are text."""
        match = HTML.match(line)
        if match is None or match.group(2).lower() in PROSE:
            return (line, "") if line.lstrip()[:2] in ("<!", "<?") else (line, line)
        name = match.group(2).lower()
        if match.group(2)[0].isupper():
            return self._component(line)
        if name in ("details", "summary") and (opening := SUMMARY.match(line)):
            question = TAG.sub("", opening[1]).strip("*_ ")
            return line, f"**{question}** {TAG.sub('', opening[2])}".strip() if asks(question) else ""
        if name in WHOLE and not match.group(1) and f"</{name}" not in line.lower():
            self.until = f"</{name}>"
        elif name not in OPEN:
            self.in_html = True
            self.tables += [self.number] if name == "table" and not match.group(1) else []
        elif not line.rstrip().endswith(">"):
            self.until = ">"
        return line, ""

    def _component(self, line: str) -> tuple[str, str]:
        """A generator's own tag: the words of its attributes are shown, and the text that it holds on its line."""
        text = COMPONENT.sub("", line).strip()
        if not COMPONENT.match(line.lstrip()):
            self.until, self.is_component = ">", True
            text = ""
        told = telling(line)
        if not text:
            return self._titled(told)
        return " ".join(filter(None, (told, text))), text

    def _marked(self, line: str) -> tuple[str, str]:
        if line.lstrip().startswith("• "):
            line = line.replace("•", "-", 1)
        elif field := FIELD_OF_NOTE.match(line):
            return line, f"{field[1]}- {field[2]}: {line[field.end() :]}"
        elif COLONS.match(line):
            self.colons = max(0, self.colons + (1 if line.strip(": \t") else -1))
            title = TITLE.match(line)
            words = (title[1] or title[2] or "") if title else ""
            return self._titled("" if re.fullmatch(r"\S*[./]\S*", words) else words)
        elif MACRO.match(line):
            return "", ""
        elif directive := DIRECTIVE.match(line):
            self.after_directive = True
            name = directive[2] or ""
            self.directive = len(directive[1]) if name in DROPPED else -1
            return (directive[3], directive[3]) if is_note(f"{{{name}}}") else ("", "")
        elif (admonition := ADMONITION.match(line)) is not None:
            self.indents.append(len(admonition.group(1) or admonition.group(2) or "") + 4)
            title = QUOTED.search(line)
            return self._titled(title[1] if title else "")
        elif (github := GITHUB.match(line)) is not None:
            rest, self.is_quoted = line[github.end() :], True
            self.asides.add(self.number)
            if not rest.strip() or rest.rstrip().endswith(tuple(ENDS)):
                return (f"> {rest}" if rest.strip() else "", f"> {rest}")
            return f"> {self._titled(rest)[0]}", ">"  # Obsidian's
        elif REMARK.match(line):
            return "", ""
        elif (reference := REFERENCE.match(line)) is not None:
            self.references.add(reference.group(1).casefold())
            return line, ""
        elif (footnote := FOOTNOTE.match(line)) is not None:
            self.footnotes.append((footnote[1], self.number))
            return line, line[footnote.end() :]
        return line, line
