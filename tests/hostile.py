"""Documents that no person writes: each construct repeated, nested, unclosed, in one line, of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

# What opens it, what is inside and what closes it; `#` stands for a number that is another one each time.
MARKDOWN = {
    "heading": ("# ", "Part #", "\n\n"),
    "question": ("## ", "What is part #?", "\n\nIt is the part #.\n\n"),
    "setext": ("", "Part #", "\n===\n\n"),
    "sentence": ("", "The pump # keeps 7 of 9 valves open. ", ""),
    "paragraph": ("", "The pump # keeps 7 valves open.", "\n\n"),
    "word": ("", "word ", ""),
    "letter": ("", "a", ""),
    "han": ("", "泵", ""),
    "marks": ("", "a\u0301\u0301\u0301\u0301", ""),
    "joined": ("", "\U0001f3f3\u200d", ""),
    "digits": ("", "7", ""),
    "asks": ("", "?!", ""),
    "blanks": ("", " ", ""),
    "lines": ("", "\n", ""),
    "returns": ("", "\r", ""),
    "short lines": ("", "a\n", ""),
    "spaced lines": ("", "a\n\n", ""),
    "bullet": ("- ", "a", "\n"),
    "term": ("- ", "`--part#`: the part # of it.", "\n"),
    "ordered": ("1. ", "a", "\n"),
    "lead": ("", "These parts #:\n\n- one\n- two", "\n\n"),
    "quote": ("> ", "a", "\n"),
    "note": ("> [!NOTE]\n> ", "a", "\n\n"),
    "strong": ("**", "a", "** "),
    "under": ("_", "a", "_ "),
    "mixed emphasis": ("*_", "a", "**"),
    "code": ("`", "a", "` "),
    "code runs": ("", "`a``b```c````", ""),
    "ticks": ("`", "", ""),
    "fence": ("```sh\n", "$ run #", "\n```\n\n"),
    "indented code": ("    ", "run", "\n"),
    "help": ("```\n", "--part#    what the part is for", "\n```\n"),
    "keys": ("```toml\n", "part# = 7  # what the part is for", "\n```\n"),
    "link": ("[", "a", "](b) "),
    "link text": ("[a](", "b#", ") "),
    "image": ("![", "a", "](b) "),
    "label": ("[", "a", "][b] "),
    "definition of a link": ("[", "a#", "]: /b\n"),
    "wiki link": ("[[", "a", "]] "),
    "footnote": ("[^", "a#", "]: b\n\n"),
    "brackets": ("[", "", "]"),
    "parentheses": ("(", "a", ")"),
    "braces": ("{", "", "}"),
    "attributes": ("{#", "a", "} "),
    "quotes": ('"', "a", '" '),
    "address": ("<", "https://a.b/#", "> "),
    "table": ("| a | b |\n|---|---|\n", "| `p#` | 7 |", "\n\n"),
    "row": ("", "| a | b |", "\n"),
    "pipes": ("|", "", ""),
    "wide table": ("", "| a ", ""),
    "dashes": ("-", "", ""),
    "rules": ("", "---", "\n"),
    "definition list": ("Term #\n: ", "what it is for", "\n\n"),
    "definitions": (": ", "a", "\n"),
    "admonition": ("!!! note\n    ", "a", "\n"),
    "tabs of a page": ('=== "', "a", '"\n    '),
    "colons": (":::", " note", "\n"),
    "MyST": ("```{note}\n", "a", "\n```\n"),
    "macro": ("{{< ", "a", " >}}\n"),
    "import": ("", 'import a# from "b"', "\n"),
    "comment": ("<!--", "a", "-->"),
    "comment in code": ("`<!--", "a", "-->` "),
    "tag": ("<div>", "a", "</div>\n"),
    "inline tag": ("<b>", "a", "</b>"),
    "tag's start": ("<a ", "", ""),
    "script": ("<script>", "a", "</script>\n"),
    "entity": ("&", "amp", ";"),
    "backslashes": ("\\", "", ""),
    "defaults": ("", "`p#` defaults to `7`. ", ""),
    "conditions": ("", "If you want to run #, use 7. ", ""),
    "purposes": ("", "To run the part #, press the button. ", ""),
    "dates": ("", "1.2.", ""),
    "initials": ("", "A. B. e.g. ", ""),
    "abbreviations": ("", "z. B. 5 max. Tel. Am 1. Tag. ", ""),
    "what goes wrong": ("**It is #.** ", "The bulb is loose. ", "\n\n"),
    "summary": ("<details><summary>", "Is it #?", "</summary>No, it is not.</details>\n"),
    "lines that ask": ("", "Is it part #?\nNo, it is not.\n", ""),
    "questions of a list": ("- ", "Is it part #?", "\n\n  No, it is not.\n"),
    "key of a secret": ("", "password=", ""),
    "token": ("", "sk-", ""),
    "address of a secret": ("", "http://a:", ""),
    "named secret": ("", "API_KEY=a1b2c3d4e#\n", ""),
    "picture": ("![a](data:image/png;base64,", "iVBORw0KGgo", ")\n"),
    "nulls": ("", "a\0", ""),
    "liquid": ("{% ", "a", " %}"),
    "comment of a template": ("{# ", "a", "#}"),
    "comment of MDX": ("{/*", "a", "*/}"),
    "style": ("<style>", "a", "</style>\n"),
    "export": ("", "export const a# = {\n", ""),
    "base64": ("", "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ#\n", ""),
    "hex": ("", "00 01 02 03 04 05 06 07\n", ""),
    "colours": ("\x1b[31m", "a", "\x1b[0m"),
    "directive": (".. note:: ", "a", "\n\n   b\n\n"),
    "reference of a note": ("[^", "a#", "] "),
    "key": ("-----BEGIN A-----\n", "a", "\n-----END A-----\n"),
    "drawing": ("data:image/svg+xml,<svg", ">", "</svg>"),
    "anchor": ('# a <a id="', "b", '"></a>\n'),
    "attributes of a heading": ("# a {#", "b", "}\n"),
    "front matter": ("---\n", "a#: b", "\n---\n"),
}  # fmt: skip
TEXT = {
    "title": ("", "TITLE #", "\n\n"),
    "underlined": ("", "Title\n=====", "\n\n"),
    "numbered": ("", "1.2 Title", "\n\n"),
    "numbers": ("", "1 Title", "\n\n"),
    "numbers apart": ("", "1 Title", "\n\n\n\n\n\n\n\n\n\n"),
    "ruled": ("", "=====\nTitle\n=====", "\n\n"),
    "tabs": ("", "\t", ""),
    "Q": ("Q: ", "What is part #?", "\nA: It is the part #.\n\n"),
    "latin": ("", "é", ""),
    "twice encoded": ("", "Ã¼", ""),
}
HTML = {
    "summary": ("<details><summary>", "Is it #?", "</summary>No, it is not.</details>"),
    "div": ("<div>", "a", "</div>"),
    "p": ("<p>", "a", "</p>"),
    "h1": ("<h1>", "Part #", "</h1>"),
    "li": ("<li>", "a", "</li>"),
    "ul": ("<ul><li>", "a", "</li></ul>"),
    "dl": ("<dl><dt>a<dd>", "a", "</dd></dl>"),
    "quote": ("<blockquote>", "a", "</blockquote>"),
    "table": ("<table><tr><td>", "a", "</td></tr></table>"),
    "cell": ("<td>", "a", "</td>"),
    "pre": ("<pre>", "a", "</pre>"),
    "link": ('<a href="b">', "a", "</a>"),
    "header": ("<header><h1>", "a", "</h1></header>"),
    "nav": ("<nav>", "a", "</nav>"),
    "script": ("<script>", "a", "</script>"),
    "comment": ("<!--", "a", "-->"),
    "declaration": ("<!a ", "a", ">"),
    "instruction": ("<?", "a", ">"),
    "tag's start": ("<a ", "", ""),
    "attributes": ("<a b='", "c", "'>"),
    "angle": ("<", "", ""),
    "closing": ("</", "a", ">"),
    "entity": ("&", "amp", ";"),
    "number": ("&#", "64", ";"),
    "breaks": ("", "<br>", ""),
    "text": ("", "The pump # keeps 7 of 9 valves open. ", ""),
    "blanks": ("", " ", ""),
    "stars": ("", "* ", ""),
    "lines": ("", "\n", ""),
}
JSON = {
    "lists": ("[", "1", "]"),
    "objects": ('{"a":', "1", "}"),
    "text": ('{"a": "', "a", '"}'),
    "escapes": ('["', "\\u0041", '"]'),
    "halves": ('["', "\\ud800", '"]'),
    "digits": ("", "7", ""),
    "fractions": ("", "0.7", ""),
    "blanks": ("", " ", ""),
    "lines": ("", "\n", ""),
}
YAML = {
    "keys": ("", "a#: b\n", ""),
    "flow": ("a: ", "[", ""),
    "maps": ("", "{a: ", ""),
    "asks": ("", "? ", ""),
    "anchors": ("a#: &a# ", "[]", "\n"),
    "aliases": ("", "a: &a [*a, *a]\n", ""),
    "quotes": ('a: "', "b", '"\n'),
    "block": ("a: |\n", " b\n", ""),
    "folded": ("a: >\n", " b\n\n", ""),
    "tags": ("a: ", "!!str ", "b\n"),
    "colons": ("", "a: ", ""),
    "comments": ("", "# a\n", ""),
}
Maker = Callable[[int], bytes]


def families() -> dict[str, Maker]:
    """Each by its name: the construct and what was made of it. It ends with the file's suffix."""
    made: dict[str, Maker] = {}
    for suffix, constructs, before in (
        (".md", MARKDOWN, ""),
        (".txt", TEXT, ""),
        (".html", HTML, "<!doctype html><html><body>"),
        (".json", JSON, ""),
    ):
        for name, (opens, inside, closes) in constructs.items():
            for how, make in _ways(opens, inside, closes):
                made[f"{name}, {how}{suffix}"] = _starting(before, make)
    for name, (opens, inside, closes) in YAML.items():
        made[f"front matter of {name}.md"] = _front(opens, inside, closes)
    return {**made, **records()}


def _ways(opens: str, inside: str, closes: str) -> Iterator[tuple[str, Maker]]:
    yield "repeated", lambda size: _filled(f"{opens}{inside}{closes}", size)
    if "\n" in closes or "\n" in inside:
        line = f"{opens}{inside}{closes}".replace("\n", " ")
        yield "one line", lambda size: _filled(line, size)
    else:
        yield "by lines", lambda size: _filled(f"{opens}{inside}{closes}\n", size)
    if opens and (inside or closes):
        yield "unclosed", lambda size: _filled(f"{opens}{inside}", size)
    if opens and closes:
        yield "opened", lambda size: _filled(opens, size)
        yield "nested", lambda size: _nested(opens, inside, closes, size)
        yield "one, large", lambda size: opens.encode() + _filled(inside or "a", size) + closes.encode()
        yield "indented", _indented(f"{opens}{inside}{closes}")


def _filled(unit: str, size: int) -> bytes:
    """The unit again and again."""
    if "#" not in unit.removeprefix("#").removeprefix("#"):
        return unit.encode() * (size // len(unit.encode()))
    parts, length = list[bytes](), 0
    for number in count(1):
        parts.append(unit.replace("#", str(number)).encode() if not unit.startswith("#") else _numbered(unit, number))
        length += len(parts[-1])
        if length >= size:
            return b"".join(parts)
    return b""


def _numbered(unit: str, number: int) -> bytes:
    """Of a heading the marks stay."""
    text = unit.lstrip("#")
    return f"{unit[: len(unit) - len(text)]}{text.replace('#', str(number))}".encode()


def _nested(opens: str, inside: str, closes: str, size: int) -> bytes:
    depth = size // (len(opens.encode()) + len(closes.encode()))
    return opens.encode() * depth + inside.encode() + closes.encode() * depth


def _indented(unit: str) -> Maker:
    """Each one is deeper than the one before, up to a thousand columns."""

    def make(size: int) -> bytes:
        parts, length = list[str](), 0
        for number in count():
            parts.append(" " * (number * 2 % 1000) + unit.replace("\n", "\n" + " " * (number * 2 % 1000)) + "\n")
            length += len(parts[-1])
            if length >= size:
                return "".join(parts).encode()
        return b""

    return make


def _starting(before: str, make: Maker) -> Maker:
    return lambda size: before.encode() + make(size)


def _front(opens: str, inside: str, closes: str) -> Maker:
    return lambda size: b"---\n" + _filled(opens + inside + closes, size) + b"\n---\n\n# A\n\nThe text of it.\n"


def records() -> dict[str, Maker]:
    """JSON and JSON Lines whose shape is right and whose size isn't."""

    def wrapped(before: str, unit: str, after: str) -> Maker:
        return lambda size: before.encode() + _filled(unit, size)[:-1] + after.encode()

    pair = '{"question": "What is #?", "answer": "It is part #."}'
    said = '{"role": "user", "content": "What is #?"},{"role": "assistant", "content": "It is #."},'
    shapes = {
        "many records": ("[", f"{pair},", "]"),
        "one chat": ('{"messages": [', said, "]}"),
        "one user": ('{"messages": [', '{"role": "user", "content": "a"},', "]}"),
        "one history": ('{"question": "a", "answer": "b", "history": [', '["a#", "b"],', "]}"),
        "one answer": ('{"question": "a", "answer": "', "The pump # keeps 7 valves open. ", '"}'),
        "one word": ('{"question": "a", "answer": "', "a", '"}'),
        "one question": ('{"answer": "a", "question": "', "The pump # keeps 7 valves open. ", '"}'),
        "one input": ('{"answer": "a", "question": "b", "input": "', "a ", '"}'),
        "one key": ('{"', "a", '": 1}'),
        "many keys": ("{", '"key#": "value #",', "}"),
        "same keys": ("{", '"a": 1,', "}"),
        "numbers": ("[", "1,", "]"),
        "a number": ('{"name": "a", "b": ', "7", "}"),
        "a text": ('{"name": "a", "b": "', "c ", '"}'),
        "objects": ("[", '{"name": "a#", "b": 1},', "]"),
        "empty objects": ("[", "{},", "]"),
        "blanks": ("[", " ", "1]"),
        "lists": ('{"a": [', "[],", "]}"),
    }  # fmt: skip
    made = {f"{name}{suffix}": wrapped(*parts) for name, parts in shapes.items() for suffix in (".json", ".jsonl")}
    lines = {"records": f"{pair}\n", "braces": "{}\n", "nothing": "\n", "digits": "7\n", "malformed": "{\n", "a": "a\n"}
    made |= {f"lines of {name}.jsonl": _lines(unit) for name, unit in lines.items()}
    made |= {f"lines of {name}.json": _lines(unit) for name, unit in lines.items()}
    return made | {
        "rows.csv": _lines("a,b,#\n"), "one line.csv": _lines("a,"), "a quote.csv": _lines('"a#\n'),
        "quotes.csv": _lines('"'), "groups.rtf": _grouped, "words.rtf": lambda size: b"{\\rtf1 " + b"a " * (size // 2),
    }  # fmt: skip


def _lines(unit: str) -> Maker:
    return lambda size: _filled(unit, size)


def _grouped(size: int) -> bytes:
    return b"{\\rtf1 " + b"{" * (size // 2) + b"a" + b"}" * (size // 2)
