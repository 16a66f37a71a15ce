"""What of a document is text: questions and sentences of every script, headings, comments, pictures, limits."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftq.examples.split import cut
from ftq.facts.blocks import Block, Bullets, Code, Paragraph
from ftq.facts.inline import inline
from ftq.facts.sentences.split import sentences
from ftq.facts.structure import Document
from ftq.facts.text.signs import asks
from tests.looked import looked, told

BASE64 = base64.b64encode(random.Random(1).randbytes(150_000)).decode()
LINES = "\n".join(BASE64[at : at + 64] for at in range(0, 640, 64))
HEX = "\n".join(
    f"{at:08x}  {' '.join(f'{byte:02x}' for byte in range(at, at + 16))}  |................|"
    for at in range(0, 160, 16)
)


def texts(source: str) -> list[str]:
    """What sections show."""
    return [text for section in Document(source).sections() for text in section.texts]


def parsed(source: str) -> list[str]:
    """What facts are found in: paragraphs and code."""
    return [text for section in Document(source).sections() for text in of_blocks(section.blocks)]


def of_blocks(blocks: list[Block]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Paragraph):
            yield block.inline.flat
        elif isinstance(block, Code):
            yield "\n".join(block.lines)
        elif isinstance(block, Bullets):
            yield from (text for item in block.items for text in of_blocks(item.blocks))


def headings(source: str) -> list[tuple[str, ...]]:
    return [section.headings for section in Document(source).sections() if section.headings]


# ---- question marks and ends of sentences -----------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "How?",
        "*How?*",
        "How?!",
        "怎么除水垢？",
        "「なぜ？」",
        "كيف أنظفه؟",
        "Πώς το καθαρίζω;",
        "Πώς\u037e",
        "Ինչպե՞ս մաքրել",
        "Ինչպե՞ս մաքրել։",
        "እንዴት ነው፧",
        "Why⸮",
        "Why⁇",
        "Why⁉️",
        "How? 🫖",
        "“How?”",
        "¿Cómo?",
        "Comment ?",
        "Why﹖",
        "𞥟Adlam",
    ],
)
def test_every_scripts_question_mark_makes_a_question(text: str) -> None:
    assert asks(text)
    (section,) = [section for section in Document(f"# {text}\n\nText.\n").sections() if section.headings]
    assert asks(section.headings[0])


@pytest.mark.parametrize(
    "text", ["How", "a; b", "for (;;);", "Why? Because.", "怎么。", "Ինչպե՞ս։ Այսպես։", "Parts (what?)"]
)
def test_what_is_no_question(text: str) -> None:
    assert not asks(text)


def test_a_chinese_heading_that_asks_is_its_sections_question(tmp_path: Path) -> None:
    taken, _ = looked(
        tmp_path, {"kettle.md": "# 电水壶\n\n## 怎么除水垢？\n\n倒入白醋加热。\n\n## 保修多久？\n\n两年。\n"}
    )
    assert taken == [("怎么除水垢？", "倒入白醋加热。"), ("保修多久？", "两年。")]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("यह पहला है। यह दूसरा है॥ तीसरा?", ["यह पहला है।", "यह दूसरा है॥", "तीसरा?"]),
        ("ይህ አንድ ነው። ይህ ሁለት ነው።", ["ይህ አንድ ነው።", "ይህ ሁለት ነው።"]),
        ("Սա մեկ է։ Սա երկու է։", ["Սա մեկ է։", "Սա երկու է։"]),
        ("ဒါက တစ်။ဒါက နှစ်။", ["ဒါက တစ်။", "ဒါက နှစ်။"]),
        ("ភាសា។ខ្មែរ។", ["ភាសា។", "ខ្មែរ។"]),
        ("これは一。これは二！「三？」四", ["これは一。", "これは二！", "「三？」", "四"]),
        ("هذا واحد. هذا اثنان؟ نعم۔", ["هذا واحد.", "هذا اثنان؟", "نعم۔"]),
    ],
    ids=["Devanagari", "Ethiopic", "Armenian", "Myanmar", "Khmer", "Japanese", "Arabic"],
)
def test_every_script_ends_its_sentences(text: str, parts: list[str]) -> None:
    assert [sentence.text for sentence in sentences(text, 1)] == parts
    assert cut((text * 5,), len, len(text) + 2)[0].endswith(tuple(part[-1] for part in parts))


# ---- headings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "heading",
    [
        "Parts {#parts .wide}",
        "Parts {.wide}",
        "Parts {#a .x key=v}",
        "Parts { #a }",
        "Parts {: .x }",
        "Parts {-}",
        'Parts {data-id="a b"}',
        "Parts ##",
        '<a id="x"></a>Parts',
        "Parts <a name='x'/>",
        '<a href="#x">#</a> Parts',
        "Parts [¶](#parts)",
        "Parts[#](#parts)",
        "[](#x)Parts",
        "[Parts](#parts)",
        ":rocket: Parts",
        "Parts :tada: :+1:",
        "[![b](x.svg)](y) Parts",
        "Parts ![b](x.svg)",
        'Parts <Badge type="tip" text="new" />',
        "Parts {/* #p */}",
        "Parts \\{#p}",
        "Parts <!-- omit in toc -->",
        "Parts¶",
        "Parts {#日本}",
        "**Parts** {#a}",
    ],
)
def test_what_decorates_a_heading_is_not_its_text(heading: str) -> None:
    assert headings(f"## {heading}\n\nA lid.\n") == [("Parts",)]


@pytest.mark.parametrize(
    "heading",
    [
        "Using C#",
        "Set {a=1}",
        "The {name} field",
        "At 10:30:45",
        "$E = m*c*2$",
        "What is $$a*b*c$$?",
        "2*3*4",
        "E = m*c*2",
        "$5*3 and $6*4",
        "A $x_1$ b $y_1$ c",
        "\\\\(a_1*b*c\\\\) x",
    ],
)
def test_what_looks_like_decoration_stays(heading: str) -> None:
    assert headings(f"## {heading}\n\nText.\n") == [(heading,)]


def test_emphasis_is_no_multiplication() -> None:
    assert inline("*a* **b** c*d*e the *1*st").text == "a b cde the 1st"


def test_a_question_with_an_id_is_a_question(tmp_path: Path) -> None:
    source = "# Kettle\n\n## How do I descale it? {#descale}\n\nFill it.\n\n## Parts {#parts .wide}\n\nA lid.\n"
    taken, _ = looked(tmp_path, {"kettle.md": source})
    assert taken == [("How do I descale it?", "Fill it."), ('Explain "Parts" (Kettle).', "A lid.")]


# ---- comments, and what a generator reads -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ("Write `<!-- cut -->` here. <!-- cut -->", ["Write `<!-- cut -->` here."]),
        ("``<!-- a ` -->`` b <!-- ` -->c `d`", ["``<!-- a ` -->`` b c `d`"]),
        ("a <!-- x\ny -->b", ["a \nb"]),
        ("c <!-- no end\n\nd", ["c <!-- no end", "d"]),
        ("<!-- x\n\n# no heading\n\n```\n-->\n\nb", ["b"]),
        ("    code <!-- c -->\n\na\n    <!-- c -->", ["    code <!-- c -->", "a"]),
        ("```html\n<!-- c -->\n```\n<!-- gone -->x", ["```html\n<!-- c -->\n```", "x"]),
        ("\\<!-- a -->", ["\\<!-- a -->"]),
        ("- a\n  - b\n\n      <!-- c -->d\n\n          <!-- e -->", ["- a\n  - b\n\n      d\n\n          <!-- e -->"]),
        ("> <!-- c -->q `<!-- d -->`", ["> q `<!-- d -->`"]),
        ("- a ` b\n- <!-- c -->d ` e", ["- a ` b\n- d ` e"]),
        ("{/* a */}\n\nText {/* b */}here.\n\n{/*\n\nlong\n\n*/}", ["Text here."]),
        ("{% comment %}\na\n\nb\n{% endcomment %}\n\nShown.", ["Shown."]),
        ("{# jinja #}\n\n%% obsidian %%\n\n[//]: # (hidden)\n\nText.", ["Text."]),
    ],
    ids=[
        "code span",
        "longer ticks",
        "lines",
        "unclosed inside",
        "over a fence",
        "indented code",
        "fence",
        "escaped",
        "nested items",
        "quote",
        "items",
        "MDX",
        "Liquid",
        "other comments",
    ],
)
def test_comments_go_and_code_stays_by_its_place(source: str, left: list[str]) -> None:
    assert texts(source) == left
    assert "".join(parsed(source)).count("<!--") == "".join(left).count("<!--")


def test_a_comment_that_nothing_closes_is_told(tmp_path: Path) -> None:
    documents = {"a.md": "Text.\n\n<!-- open\n\n# More\n", "b.md": "<!-- open\n\nText.\n"}
    taken, checked = looked(tmp_path, documents)
    assert taken == [('Explain "a".', "Text.")]
    assert told(checked)["2 lines in a comment that nothing closes left out"] == ("a.md:3: 2",)
    reason = "nothing usable: no text in it but a comment that nothing closes, on line 1: end it with -->"
    assert [file.reason for file in checked.report.documents.skipped] == [reason]


@pytest.mark.parametrize(
    ("source", "left"),
    [
        (
            "import Tabs from '@theme/Tabs';\nimport {\n  A,\n  B\n} from 'x';\nexport const y = 2026;\n\nText.",
            ["Text."],
        ),
        (
            "export const meta = {\n  a: [1,\n\n  2],\n};\nexport default function X() {\n  return <a/>;\n}\n\nText.",
            ["Text."],
        ),
        (
            "Goods that we\nimport from China.\n\nimport tariffs rose.",
            ["Goods that we\nimport from China.", "import tariffs rose."],
        ),
        ("<Tabs>\n<TabItem value='m' label=\"macOS\">\n\nBrew it.\n\n</TabItem>\n</Tabs>\n", ["macOS\n\nBrew it."]),
        ("<Note>Be careful.</Note>\n\n<Icon\n  name='x'\n/>\n\nText.", ["Be careful.", "Text."]),
        ("{% if x %}This{% endif %} [a]({% link b.md %}).", ["This [a]({% link b.md %})."]),
        ("{{ page.toc }}\n\nThe {{ product }} is good.\n\n[[toc]]\n\n{:toc}", ["The {{ product }} is good."]),
        ('{{< figure src="a.png" alt="A pump" >}}\n\n{{% note %}}Careful.{{% /note %}}', ["A pump", "Careful."]),
        ("![a](b.png){#fig-a width=50%} [c](d){.button} `e`{.sh} {x}.", ["![a](b.png) [c](d) `e` {x}."]),
        ("Write `{{< ref >}}` and `{% if %}`.", ["Write `{{< ref >}}` and `{% if %}`."]),
        (":::note Mind the gap\n\nText.\n\n:::\n\n::: tip\nMore.\n:::", ["Mind the gap\n\nText.", "More."]),
        ('!!! note "Careful"\n    Text.\n\n=== "macOS"\n    Brew.', ["Careful\nText.", "macOS\nBrew."]),
        (
            "```{note} Title\n:class: x\nText.\n```\n\n```{toctree}\nintro\n```\n\n```{r}\n#| echo: false\nx <- 1\n```",
            ["Title\n\nText.", "```{r}\n\nx <- 1\n```"],
        ),
        (
            "(label)=\n\n.. toctree::\n   :maxdepth: 2\n\n   intro\n\n.. note:: Be careful.\n\n.. _l:\n\nText.",
            ["Be careful.", "Text."],
        ),
        ("> [!NOTE]\n> Text.", ["> Text."]),
        (
            "<script>\nvar x;\n\nvar y;\n</script>\nText <svg><path/></svg>end.\n\n<style scoped>\na{}\n</style>",
            ["Text end."],
        ),
    ],
    ids=[
        "imports",
        "exports",
        "prose",
        "tabs",
        "components",
        "Liquid",
        "variables",
        "Hugo",
        "attributes",
        "in code",
        "containers",
        "admonitions",
        "MyST",
        "Sphinx",
        "GitHub",
        "scripts",
    ],
)
def test_what_a_generator_reads_is_no_text(source: str, left: list[str]) -> None:
    assert texts(source) == left


def test_a_page_of_docusaurus_is_its_text(tmp_path: Path) -> None:
    source = "import Tabs from '@theme/Tabs';\nexport const year = 2026;\n\n# Intro\n\nTurn the key.\n\n{/* us */}\n"
    taken, _ = looked(tmp_path, {"intro.md": f"---\ntitle: Intro\n---\n{source}"})
    assert taken == [('Explain "Intro".', "Turn the key.")]


def test_footnotes_stand_where_they_are_referred_to() -> None:
    source = "A[^1].\n\n## B\n\nC[^x].\n\n## D\n\nE.\n\n[^1]: One.\n[^x]: Two\n    more.\n\n    And on.\n[^z]: unused\n"
    assert [section.texts for section in Document(source).sections()] == [
        ["A[^1].", "[^1]: One."],
        ["C[^x].", "[^x]: Two\n    more.\n\n    And on."],
        ["E.", "[^z]: unused"],
    ]


# ---- what is written in letters and no text ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "left"),
    [
        (f"![chart](data:image/png;base64,{BASE64})", ["chart"]),
        (f'<img src="data:image/png;base64,{BASE64}" alt="A chart">', ["A chart"]),
        ("![c](data:image/svg+xml;utf8,<svg xmlns='x'><path/></svg>)", ["c"]),
        (f"See ![a][p].\n\n[p]: data:image/png;base64,{BASE64}", ["See ![a][p]."]),
        (
            f"```css\na {{ b: url(data:font/woff2;base64,{BASE64}) }}\n```",
            ["```css\na { b: url(data:font/woff2;base64,...) }\n```"],
        ),
        (f"Text {BASE64[:300]} end.", ["Text  end."]),
        (
            f"```\n-----BEGIN CERTIFICATE-----\n{LINES}\n-----END CERTIFICATE-----\n```",
            ["```\n-----BEGIN CERTIFICATE-----\n...\n\n\n\n\n\n\n\n\n\n-----END CERTIFICATE-----\n```"],
        ),
        (f"```\n{LINES}\n```", [f"```\n...{chr(10) * 10}```"]),
        (f"```\n{HEX}\n```", [f"```\n...{chr(10) * 10}```"]),
        ("```js\n" + "function(a){b=c(a);return d(e)};" * 60 + "\n```", ["```js\n...\n```"]),
        ("\x1b[31mred\x1b[0m", ["red"]),
    ],
    ids=["image", "tag", "svg", "reference", "in code", "in prose", "key", "base64", "hex dump", "minified", "colours"],
)
def test_what_is_not_text_is_not_taught(source: str, left: list[str]) -> None:
    assert [text for text in texts(source) if text.strip()] == left


@pytest.mark.parametrize(
    "source",
    [
        f"sha512 {'0123456789abcdef' * 8}",
        "a" * 3000,
        "ACGT" * 100,
        "snake_case_" * 40,
        "camelCaseName" * 20,
        "`data:text/plain,hello`",
        "| hash |\n|---|\n| e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 |",
        "```json\n" + json.dumps({f"k{n}": [n, "v"] for n in range(200)}) + "\n```",
        "00 01 02 03 04 05 06 07",
    ],
)
def test_what_can_be_learned_stays(source: str) -> None:
    assert texts(source) == [source]


def test_an_inline_picture_is_told_and_its_words_stay(tmp_path: Path) -> None:
    page = f"# Report\n\n## What does it show?\n\nSales rise.\n\n![chart](data:image/png;base64,{BASE64})\n"
    record = json.dumps({"question": "Q", "answer": f"A ![b](data:image/png;base64,{BASE64})"})
    alone = json.dumps({"question": "Q", "answer": BASE64[:1000]})
    taken, checked = looked(tmp_path, {"report.md": page, "rows.jsonl": f"{record}\n{alone}\n"}, questions="none")
    assert taken == [("What does it show?", "Sales rise.\n\nchart"), ("Q", "A b")]
    what = "401,000 characters of pictures, keys and dumps left out"
    assert told(checked)[what] == ("report.md:7: 200,000", "rows.jsonl:1: 200,000", "rows.jsonl:2: 1,000")
    reason = "answer is empty: it was a picture, a key or a dump"
    assert [record.reason for record in checked.report.records_skipped] == [reason]


# ---- limits -----------------------------------------------------------------------------------------------


def test_wide_tables_and_long_front_matter_are_told(tmp_path: Path) -> None:
    wide = (
        "# T\n\n"
        + "|".join(f"c{n}" for n in range(70))
        + "\n"
        + "|".join(["---"] * 70)
        + "\n"
        + "|".join("1" * 70)
        + "\n"
    )
    features = "".join(f"  - title: Feature {n}\n    details: It does the thing number {n}.\n" for n in range(23))
    documents = {
        "wide.md": wide,
        "home.md": f"---\nfeatures:\n{features}---\n\nText.\n",
        "long.md": f"---\ntitle: T\nx: {'long ' * 5000}\n---\n\nText.\n",
    }
    _, checked = looked(tmp_path, documents)
    assert told(checked)["1 row of a table that is too wide beyond a limit left out"] == ("wide.md:3",)
    assert told(checked)["3 features of front matter beyond a limit left out"] == ("home.md:43: 3",)
    assert told(checked)["25,012 characters of front matter beyond a limit left out"] == ("long.md:1: 25,012",)
