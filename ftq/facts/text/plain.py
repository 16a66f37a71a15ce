"""The lines of Markdown that are text, as a parser reads them: comments and tags of templates go, all code stays."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ftq.facts.text.blobs import is_text, without_blobs, without_colours, without_dumps
from ftq.facts.text.fences import closes, opened
from ftq.facts.text.ticks import Ticks

TITLED = "\1"  # before the title of what follows
NOT_TEXT = "character of pictures, keys and dumps"
UNCLOSED = "line in a comment that nothing closes"
# What a generator reads and no reader sees -> what ends it. `{# ` is Jinja's, `{{#` mdBook's, `{{!` Handlebars's.
PAIRS = {
    "<!--": re.compile("-->"), "{/*": re.compile(r"\*/\}"), "{# ": re.compile("#}"), "{{<": re.compile(">}}"),
    "{{%": re.compile("%}}"), "{{#": re.compile("}}"), "{{!": re.compile("}}"), "{{/": re.compile("}}"),
    "{%": re.compile("%}"), "<script": re.compile("</script[^<>]{0,20}>", re.I),
    "<style": re.compile("</style[^<>]{0,20}>", re.I), "<svg": re.compile("</svg[^<>]{0,20}>", re.I),
    "<template": re.compile("</template[^<>]{0,20}>", re.I),
}  # fmt: skip
HIDDEN = re.compile(r"\{[{%][<%-]?\s*comment\s*-?[>%][%}]\}?")  # Liquid's and Hugo's: text up to its end is none
HIDDEN_END = re.compile(r"\{[{%][<%-]?\s*(?:/|end)\s*comment\s*-?[>%][%}]\}?")
_HIDES = (
    r"(?<=[)\]`])\{(?:[#.:][^{}\n]{1,200}|[\w-]{1,40}=[^{}\n]{1,200})\}|"
    r"<!--|\{/\*|\{# |\{\{[<%#!/]|\{%|<(?:script|style|svg|template)(?=[\s/>])"
)
HIDES = re.compile(_HIDES, re.IGNORECASE)
MARK = re.compile(rf"{_HIDES}|\\[!-/:-@\[-`{{-~]|`+", re.IGNORECASE)  # or keeps what is behind it from hiding
STARTS = re.compile(r"[ \t>]*(?:[-*+][ \t]+|\d{1,9}[.)][ \t]+)?")  # of a block, in quotes and lists
FARTHEST = 500  # characters of a line before a block's first
MODULE = re.compile(
    r"import\s+(?:type\s+)?(?:['\"]|\{|\*\s+as\s|[\w$]+\s*(?:,\s*[{*][^'\"]*)?\sfrom\s+['\"])|"
    r"export\s+(?:(?:const|let|var)\s+[\w$\[{]|(?:async\s+)?function\b|class\s|default\s+(?:async|function|class|[({\[]|"
    r"[\w$.]+(?:\(|;?\s*$|\s*=>))|\{|\*\s+from\s)"
)
STRINGS = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|`(?:[^`\\]|\\.)*`|//[^\n]*")
MODULE_LINES = 500
TELLING = re.compile(
    r"\b(?:title|caption|alt|label|summary|header|heading)\s{0,9}=\s{0,9}(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE
)
COMMENTS = ("<!--", "{/*", "{# ", "{{!", "comment", "<script", "<style", "<svg", "<template")


@dataclass
class Plain:
    """`lines`, as many as there were; `lost` is what is told: (line, what, how many)."""

    lines: list[str] = field(default_factory=list)
    lost: list[tuple[int, str, int]] = field(default_factory=list)


def plain(lines: list[str]) -> Plain:
    """Empty what is no text, by place. Line numbers stay right."""
    return _Reader(list(map(without_colours, lines))).read()


class _Reader:
    """Block after block: code as it is, paragraphs without what isn't text in them."""

    def __init__(self, lines: list[str]) -> None:
        self.lines, self.plain = lines, Plain()
        self.missing = set[str]()  # marks that nothing ends from here on
        self.indents = list[int]()  # where the text of the items begins that are open
        self.none_here = set[re.Pattern[str]]()  # what ends no mark from here on in the paragraph

    def read(self) -> Plain:
        at, after_blank = 0, True
        while at < len(self.lines):
            line = self.lines[at]
            if not line.strip():
                self.plain.lines.append(line)
                at, after_blank = at + 1, True
                continue
            indent = len(line) - len(line.lstrip())
            while after_blank and self.indents and indent < self.indents[-1]:
                self.indents.pop()
            code = (self.indents[-1] if self.indents else 0) + 4
            if opening := opened(line):
                at = self._code(at, self._fenced(at, opening[1]))
            elif after_blank and (line[:1] == "\t" or indent >= code):
                at = self._code(at, self._indented(at, code))
            elif after_blank and MODULE.match(line) and (end := self._module(at)):
                self.plain.lines += [""] * (end - at)
                at = end
                continue  # more of them may follow at once
            else:
                at = self._paragraph(at)
            after_blank = False
        return self.plain

    def _fenced(self, at: int, fence: str) -> int:
        for number in range(at + 1, len(self.lines)):
            if closes(self.lines[number], fence):
                return number + 1
        return len(self.lines)

    def _indented(self, at: int, indent: int) -> int:
        end = at
        for number in range(at, len(self.lines)):
            line = self.lines[number]
            if line.strip():
                if len(line) - len(line.lstrip()) < indent and line[:1] != "\t":
                    break
                end = number + 1
        return end

    def _code(self, at: int, end: int) -> int:
        self._add(self.lines[at:end], at, is_code=True)
        return end

    def _module(self, at: int) -> int:
        """Where a statement of JavaScript ends: at the line where its brackets are closed; 0 if they never are."""
        depth = 0
        for number in range(at, min(len(self.lines), at + MODULE_LINES)):
            code = STRINGS.sub("", self.lines[number])
            depth += sum(map(code.count, "([{")) - sum(map(code.count, ")]}"))
            if depth <= 0 and not code.rstrip().endswith(("=", "=>", ",", "from", "&&", "||", "?")):
                return number + 1
        return 0

    def _paragraph(self, at: int) -> int:
        """Lines up to an empty one or a fence; where the next block begins."""
        end = at + 1
        while end < len(self.lines) and self.lines[end].strip() and not opened(self.lines[end]):
            end += 1
        text = "\n".join(self.lines[at:end])
        self._note_items(self.lines[at:end])
        if not ("{" in text or "<" in text) or HIDES.search(text) is None:
            self._add(self.lines[at:end], at, is_code=False)
            return end
        kept, until = self._without_marks(text, end)
        self._add([line if line.strip() else "" for line in kept.split("\n")], at, is_code=False)
        return self._hidden(at, end, until) if until else end

    def _hidden(self, at: int, end: int, until: re.Pattern[str]) -> int:
        """Leave out what a block hides that an empty line doesn't end."""
        for number in range(end, len(self.lines)):
            if closing := until.search(self.lines[number]):
                self.plain.lines += [""] * (number - end)
                self.lines[number] = self.lines[number][closing.end() :]
                return number
        self.plain.lost.append((at + 1, UNCLOSED, sum(map(bool, map(str.strip, self.lines[at:])))))
        self.plain.lines += [""] * (len(self.lines) - end)
        return len(self.lines)

    def _without_marks(self, text: str, after: int) -> tuple[str, re.Pattern[str] | None]:
        """(the text, with as many lines; what ends the mark that is open at its end, on a line from `after` on)."""
        pieces, at, line, seen, ticks = list[str](), 0, 0, 0, Ticks(text)
        self.none_here.clear()
        while mark := MARK.search(text, at):
            pieces.append(text[at : mark.start()])
            line, seen = text.rfind("\n", seen, mark.start()) + 1 or line, mark.start()
            at = mark.end()
            if mark[0][0] == "\\":
                pieces.append(mark[0])
            elif mark[0][-1] == "}":
                continue  # attributes of a link, a picture, code
            elif mark[0][0] == "`":
                closing = ticks.closing(len(mark[0]), mark.end())
                at = closing + len(mark[0]) if closing >= 0 else mark.end()
                pieces.append(text[mark.start() : at])
            else:
                hidden = HIDDEN.match(text, mark.start())
                name, until = ("comment", HIDDEN_END) if hidden else (mark[0].lower(), PAIRS[mark[0].lower()])
                # A line with many marks is looked at once, not for each.
                before = text[line : mark.start()] if mark.start() - line < FARTHEST else None
                if _is_written(text, mark):
                    end = None
                elif (
                    (end := self._closing(until, text, (hidden or mark).end())) is None
                    and before is not None
                    and self._is_block(name, until, before, after)
                ):
                    return "".join(pieces) + "\n" * text.count("\n", mark.start()), until
                at = end.end() if end else mark.end()
                is_line = before is not None and text[at : at + 1] == "\n" and not before.strip()
                pieces.append(_words(text[mark.start() : at], name, is_line) if end else mark[0])
        return "".join([*pieces, text[at:]]), None

    def _closing(self, until: re.Pattern[str], text: str, start: int) -> re.Match[str] | None:
        """What ends a mark in its paragraph. What none follows is looked for once."""
        end = until.search(text, start) if until not in self.none_here else None
        if end is None:
            self.none_here.add(until)
        return end

    def _is_block(self, name: str, until: re.Pattern[str], before: str, after: int) -> bool:
        """Whether the mark begins a block, which goes on to its end: a comment always, others if they have one."""
        if STARTS.fullmatch(before) is None or name in self.missing:
            return False
        if name == "<!--" or any(until.search(self.lines[number]) for number in range(after, len(self.lines))):
            return True
        self.missing.add(name)
        return False

    def _note_items(self, lines: list[str]) -> None:
        for line in lines:
            if (item := STARTS.match(line)) and (marker := item[0].strip(" \t>")):
                while self.indents and line.index(marker) < self.indents[-1]:
                    self.indents.pop()
                self.indents.append(item.end())

    def _add(self, lines: list[str], at: int, is_code: bool) -> None:
        if len(lines) == 1 and is_text(lines[0]):
            self.plain.lines += lines
            return
        kept, lost = without_dumps(lines, is_code)
        text, more = without_blobs("\n".join(kept), is_code)
        self.plain.lines += text.split("\n")
        if lost + more:
            self.plain.lost.append((at + 1, NOT_TEXT, lost + more))


def _is_written(text: str, mark: re.Match[str]) -> bool:
    """Whether a tag is written out: in an address, in an attribute, with Hugo's sign for that."""
    if mark[0].lower() == "<svg":
        before = text[max(0, mark.start() - 60) : mark.start()]
        return before.endswith(",") and "data:image/svg" in before
    if mark[0][:2] not in ("{%", "{{"):
        return False
    return text[mark.start() - 1 : mark.start()] in ("(", '"', "'", "=") or text.startswith("/*", mark.end())


def _words(hidden: str, name: str, is_line: bool) -> str:
    """What a reader sees of it: a title, a caption; and its ends of lines. `is_line`: it is a line above others."""
    told = "" if name in COMMENTS else telling(hidden)
    return (TITLED if told and is_line else "") + told + "\n" * hidden.count("\n")


def telling(tag: str) -> str:
    """The words in a tag's attributes that its page shows."""
    return " ".join(" ".join((match[1] or match[2] or "").split()) for match in TELLING.finditer(tag))
