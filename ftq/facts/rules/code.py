"""C: code with its purpose."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftq.facts.blocks import Block, Bullets, Code, Paragraph, Section
from ftq.facts.checks import is_closed, is_readable, known_words, points, points_inside, words
from ftq.facts.fact import Fact
from ftq.facts.place import Place
from ftq.facts.rules.defaults import default_in, described
from ftq.facts.rules.english import DANGLING, as_purpose
from ftq.facts.rules.terms import option_name

SHELLS = frozenset(
    {"sh", "bash", "shell", "zsh", "console", "terminal", "shell-session", "powershell", "ps1", "fish", "cmd"}
)
OUTPUTS = frozenset({"text", "txt", "output", "log", "diff", "mermaid", "svg", "html", "plain", "plaintext", "math"})
NO_CODE, COLUMNED = OUTPUTS - {"text", "txt"}, SHELLS | {"", "text", "txt"}
AFTER_LANGUAGE = re.compile(r"[\s,{:]")
COLUMN = re.compile(r"-|[A-Za-z][\w-]*(?: [\w<\[-]|$)|[A-Z_]{3,}$")  # not a tree of files
LABEL = 10  # words of a line that is no purpose
LINES, LENGTH = 10, 500  # of code that an answer can hold
TO = re.compile(
    r"(?:(?:for example|as an example|e\.g\.|so|now|then),? )?"
    r"(?:if you (?:want|need|wish|would like) |in order )?to ([^,:]{3,90})[,:]",
    re.IGNORECASE,
)
INTRODUCES = re.compile(
    r"\b(?:following|below|as follows|like this|example|run|type|enter|execute|command|snippet|folgende\w*|unten|"
    r"suivante?s?|siguientes?|seguenti?|seguintes?|volgende|następując\w+)\b|следующ|以下|如下|次の",
    re.IGNORECASE,
)
NAME = re.compile(r"[^\W\d_]{4,}")
EXAMPLE = re.compile(r"(?:for|as an) (?:example|instance),? |e\.g\.,? ", re.IGNORECASE)
BY = re.compile(r",? (?:with|by|using|via|e\.g\.?|for example|by running|as follows|like so|like this)$", re.IGNORECASE)
NO_LABEL = known_words("no_label")
DO = re.compile(
    r"(?:you can |simply |just |then |now )?(?:use|run|type|enter|execute|call|add|try|do)\b"
    r"[^:]{0,80}? to ([^,:]{4,90})[:.]$",
    re.IGNORECASE,
)
FOR = re.compile(r"(?:you can )?use the following .{0,60}?for ([a-z]+ing [^,:]{4,90})[:.]$", re.IGNORECASE)
EMPTY_LEADS = re.compile(
    r"(?:(?:for )?(?:example|instance|e\.g|run|usage|then|output|install|like this|as follows)\b.{0,12}$)"
    r"|(?:a few|some|here|an? (?:\w+ )?example|another|more|in this)\b",
    re.IGNORECASE,
)
NOTE = re.compile(r"\s*\[(env|env var|default|possible values|aliases): ([^\[\]]{1,200})\]", re.IGNORECASE)
NOTES = {
    "env": "environment variable", "env var": "environment variable", "default": "default",
    "possible values": "possible values", "aliases": "aliases",
}  # fmt: skip
NOTED = 30  # words of such a value
ASIDES = ("(", "same as", "or ", "output", "=>", "prints", "returns")  # with which no purpose begins


def command(place: Place) -> Iterator[Fact]:
    """Code below the line that says what it is for, commands below comments, two columns."""
    for code, before in codes(place.section.blocks):
        if code.info.split(" ")[0].lower() not in NO_CODE:
            commented = list(_commented(place, code)) or list(_columns(place, code))
            yield from commented or _introduced(place, code, before)


def codes(blocks: list[Block]) -> Iterator[tuple[Code, Block | None]]:
    """The code, that in lists too, each with the block before it."""
    before: Block | None = None
    for block in blocks:
        if isinstance(block, Bullets):
            for item in block.items:
                yield from codes(item.blocks)
        elif isinstance(block, Code):
            yield block, before
        before = block


def _introduced(place: Place, code: Code, before: Block | None) -> Iterator[Fact]:
    text = _text(code)
    purpose = purpose_of(place.section, code, before)
    if text and purpose and language_of(code) not in ("text", "txt"):
        yield place.fact("C", "command", purpose, text, code.line)


def purpose_of(section: Section, code: Code, before: Block | None) -> str:
    """What the line above the code says, or the heading if that is what one does."""
    lead = before.sentences[-1].text if isinstance(before, Paragraph) and before.sentences else ""
    stated = TO.match(lead) or DO.match(lead)
    stated = stated or FOR.match(lead)
    if stated and _belongs(lead, code) and (purpose := as_purpose(stated.group(1), is_verb=True)):
        return "" if "the following" in purpose else purpose
    lead = EXAMPLE.sub("", lead)
    if lead.endswith((":", "：")) and words(lead) <= 20 and not EMPTY_LEADS.match(lead):
        lead = BY.sub("", lead.rstrip(":： "))
        purpose = as_purpose(lead)
        if purpose or not (_is_open(lead) or words(lead) < 3 or words(lead) > LABEL or set(lead) & set(",;.")):
            return purpose or lead
    is_first = code is section.code and (code is section.blocks[0] or _belongs(f"{section.heading} {lead}", code))
    return as_purpose(section.heading) if is_first else ""


def _is_open(label: str) -> bool:
    """Whether the text is none by itself: `given these rules`, `with npm`."""
    if DANGLING.search(label):
        return True
    return points(label) or points_inside(label) or label.partition(" ")[0].lower() in NO_LABEL or not is_closed(label)


def _belongs(lead: str, code: Code) -> bool:
    """Whether the text speaks of the code below it: it introduces it, or shares a name with it."""
    if introduces(lead):
        return True
    named = {word.lower() for word in NAME.findall(lead)}
    return any(word.lower() in named for line in code.lines[:LINES] for word in NAME.findall(line))


def introduces(lead: str) -> bool:
    """Whether the text says that something follows."""
    return lead.rstrip("`*_ ").endswith((":", "：")) or INTRODUCES.search(lead) is not None


def _text(code: Code) -> str:
    """The code without prompts; empty if it is too long for an answer."""
    lines = [line for line in code.lines if line.strip()]
    if not lines or "{{#" in code.lines[0] or len(lines) > LINES or sum(map(len, lines)) > LENGTH:
        return ""
    if any(line.startswith(("$ ", "> ")) for line in lines):
        return "\n".join(line[2:] for line in lines if line.startswith(("$ ", "> ")))
    return "\n".join(lines)


def language_of(code: Code) -> str:
    return AFTER_LANGUAGE.split(code.info, 1)[0].lower()


def _commented(place: Place, code: Code) -> Iterator[Fact]:
    """`# List all runs` and the commands below it; `ftq runs  # list all runs`."""
    if language_of(code) not in SHELLS and not (not code.info and any(line.startswith("$ ") for line in code.lines)):
        return
    comment, commands, start = "", list[str](), code.line
    has_prompts = any(line.startswith("$ ") for line in code.lines)
    for number, line in enumerate([*code.lines, "# "], start=code.line):
        text = line.strip().removeprefix("$ ")
        if text.startswith("#") or not text:
            if comment and 0 < len(commands) <= 4 and not commands[-1].endswith("\\"):
                yield place.fact("C", "command", comment, "\n".join(commands), start)
            comment, commands, start = _comment(text) if text else "", [], number
        elif " # " in text and (trailing := _comment(text.partition(" # ")[2])):
            yield place.fact("C", "command", trailing, text.partition(" # ")[0].rstrip(), number)
        elif line.startswith("$ ") or not has_prompts:
            commands.append(text)


def _comment(text: str) -> str:
    text = text.strip("# -=").rstrip(".:")
    if EMPTY_LEADS.match(text) or text.lower().startswith(ASIDES):
        return ""
    return (
        (as_purpose(text, is_verb=True) or text)
        if 2 <= words(text) <= 14 and is_readable(text) and not _is_open(text)
        else ""
    )


def _columns(place: Place, code: Code) -> Iterator[Fact]:
    """`--flag    what it does`, as help texts print it."""
    if language_of(code) not in COLUMNED:
        return
    lines = [line for line in code.lines if line.strip()]
    rows, noted = list[tuple[int, str, str]](), dict[int, dict[str, str]]()
    for number, line in enumerate(code.lines, start=code.line):
        first, _, second = (line.strip().replace("\t", "  ") + " ").partition("  ")
        first, (second, notes) = first.rstrip(","), _noted(second.strip())
        if first.endswith("/") or not COLUMN.match(first) or "  " in second or "|" in line:
            continue
        if (
            0 < len(first) < 50
            and len(first.split()) <= 4
            and words(second) >= 2
            and second[:1].isalpha()
            and is_readable(second)
        ):
            rows.append((number, first, second))
            noted[number] = notes
    if len(rows) >= 2 and len(rows) * 10 >= len(lines) * 6:
        for number, first, second in rows:
            yield from _of_row(place, number, first, second, noted[number])


def _of_row(place: Place, line: int, first: str, second: str, notes: dict[str, str]) -> Iterator[Fact]:
    kind = "option" if first.startswith("-") else ""
    subject, short = option_name(f"`{first}`")
    yield place.fact("C", "meaning", subject, second, line, kind=kind)
    if (default := default_in(second)) is not None:
        about = described(second[: default.start])
        yield place.fact("C", "default", subject, default.value, line, attribute=about)
    for name, value in {**({"short form": short} if short else {}), **notes}.items():
        relation, attribute = ("default", described(second)) if name == "default" else ("attribute", name)
        yield place.fact("C", relation, subject, value, line, attribute=attribute, kind=kind)


def _noted(text: str) -> tuple[str, dict[str, str]]:
    """(what an option does, what its help says in brackets behind that): `the port [default: 80] [env: PORT=]`."""
    notes = {
        NOTES[match[1].lower()]: value
        for match in NOTE.finditer(text)
        if (value := match[2].partition("=")[0].strip("\"' ")) and words(value) <= NOTED
    }
    return (NOTE.sub("", text).strip(), notes) if notes else (text, notes)
