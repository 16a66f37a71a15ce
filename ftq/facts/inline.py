"""Markdown inside a block: plain text with code in backticks. One pass, whatever comes in."""

from __future__ import annotations

import html
import re
from collections.abc import Container
from dataclasses import dataclass

from ftq.facts.text.ticks import Ticks
from ftq.formats.html import raised

TOKEN = re.compile(
    r"\$|\\[!-/:-@\[-`{-~]|`+|!?\[|\]|\*+|_+|~~+|(?<!=)==(?!=)|<|&#?\w{1,30};|\{|"
    r"(?<!\S):[a-z][a-z0-9_+-]{1,60}:(?![^\s{])|(?<=\s)\^[\w-]{1,60}$|"
    r"(?<=[\w)])(?:~[\w+-]{1,10}~(?!~)|\^[\w+-]{1,10}\^)|\+\+[a-z][\w-]{0,20}(?:\+[\w-]{1,20}){0,5}\+\+"
)
MARKS = b"$\\`[]*_~<&{=^+:"  # with one of which each token begins, or which it is
CODE = re.compile(r"(?<!`)`[^`\s]+(?: [^`\s]+)*`(?!`)")  # that stays as it is
TAG = re.compile(r"<(?:/?[A-Za-z]|!--)[^<>]{0,1000}>")
AUTOLINK = re.compile(r"<((?:https?|ftp|mailto):[^<>\s]{1,1000}|[\w.+-]{1,80}@[\w.-]{1,80})>")
NAMED = re.compile(r"([^<>]{1,300}?)\s*<[^<>\s]{1,1000}>")  # a link of reStructuredText: `text <address>`_
ROLE = re.compile(r"(?<!\S):[a-z][a-z:+-]{1,30}:$")  # of reStructuredText: ``:ref:`text <target>` ``
TARGET = re.compile(
    r"\(\s{0,20}(?:<[^<>\n]{0,1000}>|\{(?:\{[^{}\n]{0,300}\}|%[^{}\n]{0,300}%)\}[^\s()<]{0,300}|"
    r"[^\s()<]{0,1000}(?:\([^\s()]{0,300}\)[^\s()]{0,300}){0,2})?"
    r"(?:\s{1,20}(?:\"[^\"]{0,300}\"|'[^']{0,300}'|\([^()]{0,300}\)))?\s{0,20}\)"
)
LABEL = re.compile(r"\[([^\[\]]{0,200})\]")
BRACES = re.compile(  # ids, classes and attributes; a role
    r"\{\s?(?:#[\w:.-]{1,80}(?:\s[^{}\n]{0,80})?|[:.][^{}\n]{1,80}|/\*[^{}]{0,500}\*/)\}|\{[a-z][a-z:+-]{0,40}\}(?=`)"
)
MATH = re.compile(  # `$a*b$`, `$$a*b$$`, `\(a*b\)`: no price, and no bracket that is escaped
    r"\$\$(?!\$)[^$]{1,2000}\$\$|\$(?![\s$\d.,]+\s)(?!\s)[^$\n]{1,300}(?<![\s\\])\$(?![\w$])|"
    r"\\{1,2}\([^()\n]{0,300}[=^_\\][^\n]{0,300}?\\{1,2}\)|\\{1,2}\[[^\[\]]{0,600}[=^_\\][^\[\]]{0,600}?\\{1,2}\]"
)
ENDED = {"<del": "</del>", "<s": "</s>", "<strike": "</strike>", "<sup": "</sup>"}  # tags that change what is said
TIMES = re.compile(r"(?:.?\d|(?:^|[^A-Za-z])[A-Za-z])\*\d.?|.?\d\*[A-Za-z](?:[^A-Za-z]|$)", re.DOTALL)  # `2*3`, `c*2`
VERSION = re.compile(r"\d+\.\d+\.\d+")  # `<sup>1.33.0</sup>`, since which something is there
POWER = 8  # more pieces are no power of a number
BOLD_PARTS = 40  # more pieces are no term


@dataclass(frozen=True, slots=True)
class Inline:
    """`text` keeps its line breaks; `bolds` are its bold spans."""

    text: str
    bolds: tuple[str, ...] = ()

    @property
    def flat(self) -> str:
        return " ".join(self.text.split())


def inline(source: str, references: Container[str] = ()) -> Inline:
    """The text without its markup. Links become their text, images vanish."""
    if source.isascii():
        rest = CODE.sub("", source) if "`" in source else source
        if len(rest) == len(rest.encode().translate(None, MARKS)):
            return Inline(source)  # most texts; a look at each mark takes longer
    if TOKEN.search(source) is None:
        return Inline(source)
    return _Reader(source, references).read()


def _wiki_name(target: str) -> str:
    """What a wiki shows of a link: its text, else the page and its heading."""
    page, sign, text = target.rpartition("|")
    if sign:
        return text
    page, _, heading = text.partition("#")
    return " > ".join(filter(None, (page.strip(), heading.strip() if heading[:1] != "^" else "")))


class _Reader:
    """Pieces of the output; a mark is a piece until its partner comes and both are emptied."""

    def __init__(self, source: str, references: Container[str]) -> None:
        self.source, self.references = source, references
        self.pieces: list[str] = []
        self.bolds: list[str] = []
        self.brackets: list[tuple[int, int]] = []  # (piece, where its text begins in the source)
        self.openers: dict[str, list[int]] = {}
        self.ticks = Ticks(source)

    def read(self) -> Inline:
        position, source = 0, self.source
        while (match := TOKEN.search(source, position)) is not None:
            if match.start() > position:
                self.pieces.append(source[position : match.start()])
            position = self._token(match.group(), match.start(), match.end())
        self.pieces.append(source[position:])
        return Inline("".join(self.pieces), tuple(bold for bold in self.bolds if bold))

    def _token(self, token: str, start: int, end: int) -> int:
        """Take one mark; where to go on."""
        match token[0]:
            case "$":
                math = MATH.match(self.source, start)
                self.pieces.append(math.group() if math else token)
                return math.end() if math else end
            case "\\":
                if token[1] in "\\([" and (math := MATH.match(self.source, start)):
                    self.pieces.append(math.group())
                    return math.end()
                self.pieces.append(token[1])
            case "`":
                return self._code(token, end)
            case "[" | "!":
                self.brackets.append((len(self.pieces), end))
                self.pieces.append(token)
            case "]":
                return self._link(end)
            case ":":
                pass  # an icon
            case "^" if not token.endswith("^"):
                pass  # Obsidian's name of a block
            case "~" | "^" if token.strip("~^"):
                self.pieces.append(raised(token[1:-1]) if token[0] == "^" else token[1:-1])
            case "+":
                self.pieces.append("+".join(map(str.capitalize, token.strip("+").split("+"))))
            case "*" | "_" | "~" | "=":
                self._emphasis(token, start, end)
            case "<":
                return self._tag(start)
            case "&":
                self.pieces.append(html.unescape(token))
            case _:
                braces = BRACES.match(self.source, start)
                self.pieces.append("" if braces else token)
                return braces.end() if braces else end
        return end

    def _code(self, ticks: str, end: int) -> int:
        closing = self.ticks.closing(len(ticks), end)
        if closing < 0:
            self.pieces.append(ticks if len(ticks) > 1 else "'")
            return end
        code = " ".join(self.source[end:closing].replace("`", "'").split())
        after = closing + len(ticks)
        link = NAMED.fullmatch(code) if code[-1:] == ">" else None
        role = ROLE.search(self.pieces[-1]) if self.pieces and self.pieces[-1][-1:] == ":" else None
        if role:
            self.pieces[-1] = self.pieces[-1][: role.start()]
        if link and (role or self.source.startswith("_", after)):
            self.pieces.append(link[1])
            return after + (0 if role else 1 + self.source.startswith("__", after))
        self.pieces.append(f"`{code}`" if code else "")
        return after

    def _link(self, end: int) -> int:
        """A closing bracket: of a link, an image, a footnote, or of text."""
        if not self.brackets:
            self.pieces.append("]")
            return end
        piece, start = self.brackets.pop()
        follows = TARGET.match(self.source, end) or LABEL.match(self.source, end)
        is_short = end - start < 200
        if self.source.startswith("^", start) or (follows and self.pieces[piece] == "!["):
            del self.pieces[piece:]
        elif (
            follows
            or (is_short and self.source[start : end - 1].casefold() in self.references)
            or (is_short and self.source.startswith("[", start))
        ):
            self.pieces[piece] = ""
        elif is_short and self.source.startswith("]", end) and piece and self.pieces[piece - 1] in ("[", "!["):
            is_shown = self.pieces[piece - 1] == "!["  # a picture, or a part of another note
            self.pieces[piece:] = ["" if is_shown else _wiki_name(self.source[start : end - 1])]
            self.pieces[piece - 1] = "" if is_shown else "["
        else:
            self.pieces.append("]")
        return follows.end() if follows else end

    def _emphasis(self, mark: str, start: int, end: int) -> None:
        before = self.source[start - 1] if start else " "
        after = self.source[end] if end < len(self.source) else " "
        closes, opens = not before.isspace(), not after.isspace()
        if mark[0] in "_=" and before.isalnum() and after.isalnum():
            closes = opens = False
        if mark == "*" and TIMES.fullmatch(self.source[max(0, start - 2) : end + 2]):
            closes = opens = False
        places = self.openers.setdefault(mark, [])
        while places and (places[-1] >= len(self.pieces) or self.pieces[places[-1]] != mark):
            places.pop()  # gone with an image
        if closes and places and (mark[0] != "_" or not after.isalnum()):
            place = places.pop()
            if mark[0] == "~":
                self._strike(place)
            if mark in ("**", "__") and len(self.pieces) - place < BOLD_PARTS:
                self.bolds.append(" ".join("".join(self.pieces[place + 1 :]).split()))
            self.pieces[place] = ""
            self.pieces.append("")
            return
        if opens and (mark[0] != "_" or not before.isalnum()):
            places.append(len(self.pieces))
        self.pieces.append(mark)

    def _tag(self, start: int) -> int:
        if (link := AUTOLINK.match(self.source, start)) is not None:
            self.pieces.append(link.group(1))
            return link.end()
        if (tag := TAG.match(self.source, start)) is not None:
            name = tag.group().lower()
            self._ended(name)
            self.pieces.append(" " if name.startswith("<br") else "")
            return tag.end()
        self.pieces.append("<")
        return start + 1

    def _ended(self, tag: str) -> None:
        """What is struck out isn't said; a power isn't more digits of its number."""
        opened = tag.rstrip(">").partition(" ")[0]
        if opened in ENDED:
            self.openers.setdefault(ENDED[opened], []).append(len(self.pieces))
        elif (places := self.openers.get(tag)) and (place := places.pop()) < len(self.pieces):
            if tag != "</sup>":
                self._strike(place)
            elif len(self.pieces) - place < POWER and len(text := "".join(self.pieces[place:])) < POWER * POWER:
                self.pieces[place:] = ["" if VERSION.fullmatch(text) else raised(text)]

    def _strike(self, place: int) -> None:
        """Take back all from there on, and what is open in it."""
        self.pieces[place:] = [""]
        while self.brackets and self.brackets[-1][0] > place:
            self.brackets.pop()
        for places in map(self.openers.get, ENDED.values()):
            while places and places[-1] > place:
                places.pop()
