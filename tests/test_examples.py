"""Documents into examples, without a model: what is read, how a long one is cut, how train and valid part."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from ftq.examples import dataset, json_records, recall
from ftq.examples.dataset import Examples
from ftq.examples.read import read
from ftq.examples.recall import Part
from ftq.examples.records.given import Candidate, LeftOut
from ftq.examples.report import DatasetReport, Documents, Skipped, SkippedRecord, TokenCounts, Used
from ftq.examples.split import Example, Row, cut, split
from ftq.facts import Cut, structure
from ftq.facts.structure import Document, has_text
from ftq.formats import convert
from ftq.questions import Contradiction, Report, Stated
from ftq.questions.conflicts import asked
from ftq.spec.options import parse
from tests import office_files

MANUAL = Path(__file__).parent.parent / "documents"


def letters(example: Example) -> int:
    """A tokenizer that makes a token of each character."""
    return sum(len(example[name]) for name in ("instruction", "input", "output"))


def words(text: str) -> int:
    return len(text.split())


# ---- read -------------------------------------------------------------------------------------------------


def test_what_a_folder_gives_comes_in_order_with_where_it_stands(tmp_path: Path) -> None:
    for name, text in {
        "b.md": "Text.\n\n# Why?\n\nA.\n\nB.\n", "a/z.jsonl": '{"question": "q", "answer": "a\\n\\nb"}\n[]\n',
        "a/.git/c.md": "x", "c.md": " ", "d.log": "x", "e.md": "# Only\n\n## Headings\n",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    shares: list[float] = []
    assert list(read(tmp_path, progress=shares.append)) == [
        Candidate("b.md", "b.md:1", 'Explain "b".', "", ("Text.",), "b.md"),
        Candidate("b.md", "b.md:3", "Why?", "", ("A.", "B."), "b.md#Why?", ("Why?",)),
        LeftOut("c.md", "", "no text in it"),
        LeftOut("d.log", "", "not a kind of document that ftq reads"),
        LeftOut("e.md", "", "nothing usable: no text in it but headings"),
        LeftOut("a/.git", "", "hidden"),
        Candidate("a/z.jsonl", "a/z.jsonl: line 1", "q", "", ("a", "b"), "a/z.jsonl#line 1", is_record=True),
        LeftOut("a/z.jsonl", "a/z.jsonl: line 2", "a record must be an object, not a list"),
    ]
    assert shares == [number / 6 for number in range(1, 7)]


def test_a_number_of_any_length_ends_no_file(tmp_path: Path) -> None:
    long = "9" * 5000
    (tmp_path / "a.jsonl").write_text(
        f'{{"question": "q", "answer": "a", "n": {long}}}\n{long}\n{{"question": "p", "answer": "b"}}'
    )
    assert [row.where for row in read(tmp_path) if isinstance(row, Candidate)] == ["a.jsonl: line 1", "a.jsonl: line 3"]


def sections(source: str) -> list[tuple[tuple[str, ...], tuple[str, ...], int]]:
    """Those with text: their headings, texts and lines."""
    found = [(section.headings, tuple(section.texts), section.line) for section in Document(source).sections()]
    return [section for section in found if has_text(section[1])]


def test_only_what_is_a_comment_is_left_out_of_a_paragraph() -> None:
    source = "# H <!-- h --> [a][b]\n\nText `<!-- it -->` <!-- it --> <b>x</b>.\n\n[b]: https://c\n"
    (section,) = sections(source)
    assert section[:2] == (("H a",), ("Text `<!-- it -->`  <b>x</b>.\n\n[b]: https://c",))


@pytest.mark.parametrize(
    "front",
    ["---\ndate: 2024-02-30\n---", "---\ntitle: ftq: the queue\ntags:\n- a: b: c\n\n# more\nx:\n  y: z: 1\n...",
     '---\n"the title": "x"\n---', "---\n{title: x}\n---", '+++\ntitle = "x"\ntags = [\n"a",\n]\n[extra]\n+++'],
    ids=["no date", "no YAML", "quoted", "flow", "TOML"],
)  # fmt: skip
def test_front_matter_is_left_out_be_it_valid_or_not(front: str) -> None:
    assert sections(f"{front}\n# A\n\nText.\n") == [(("A",), ("Text.",), front.count("\n") + 2)]


def test_a_ruler_at_the_start_is_not_front_matter() -> None:
    found = sections("---\nJust prose.\n\n---\nMore.\n")
    assert [texts for _, texts, _ in found] == [("Just prose.", "More.")]
    for odd in ("The end: {", "The end: " + "[" * 900, 'The end: "\\UFFFFFFFF"'):
        assert sections(f"---\n{odd}\n\n---\n")[0][1] == (odd,)


@pytest.mark.parametrize(
    "rest", ["", " \n", "\n---\n", "\n<a id='one'></a>\n", "\n<br/>\n\n<div\n class='x'>\n</div>\n"]
)
def test_a_heading_above_rules_and_tags_alone_is_no_example(rest: str) -> None:
    found = sections(f"# Guide\n{rest}\n## One\n\nText.\n\n---\n\n## Two\n\n    <br>\n\n## Three\n<https://a.b>\n")
    assert [(path[-1], texts) for path, texts, _ in found] == [
        ("One", ("Text.",)), ("Two", ("    <br>",)), ("Three", ("<https://a.b>",)),
    ]  # fmt: skip


def test_a_link_definition_stays_with_the_text_before_it() -> None:
    found = sections(
        "---\ntitle: t\n---\n[0]: https://x\n\n# A\n\n[timeout]: 30s\n\n## B\n\n"
        "See [1].\n\n[1]: https://y\n[^1]: RFC2119\n\n---\n[2]: z\n\nMore.\n<!-- gone -->\n[3]: q\n"
    )
    assert [texts for _, texts, _ in found] == [
        ("[0]: https://x",), ("[timeout]: 30s",),
        ("See [1].\n\n[1]: https://y", "[^1]: RFC2119", "[2]: z", "More.\n\n[3]: q"),
    ]  # fmt: skip


def test_a_chat_gives_an_example_for_each_answer() -> None:
    turns = [("system", "Be brief."), ("user", "Q1"), ("assistant", "A1"), ("user", "Q2"), ("assistant", "A2")]
    assert json_records.read({"messages": [{"role": role, "content": text} for role, text in turns]}) == [
        {"instruction": "Q1", "input": "Be brief.", "output": "A1"},
        {
            "instruction": "Q2", "input": "Be brief.\nUser: Q1\nAssistant: A1", "output": "A2",
            "turns": '[["system", "Be brief."], ["user", "Q1"], ["assistant", "A1"]]',
        },
    ]  # fmt: skip


def test_a_system_prompt_and_a_history_are_part_of_the_input() -> None:
    example = {"instruction": "Q2", "input": "Of today.", "output": "A2"}
    expected = [
        {"instruction": "Q1", "input": "Be brief.", "output": "A1"},
        {
            "instruction": "Q2", "input": "Be brief.\nUser: Q1\nAssistant: A1\nOf today.", "output": "A2",
            "turns": '[["system", "Be brief."], ["user", "Q1"], ["assistant", "A1"], ["system", "Of today."]]',
        },
    ]  # fmt: skip
    for name in ("system", "system_prompt"):
        assert json_records.read({**example, name: "Be brief.", "history": [["Q1", "A1"]]}) == expected
    turns = [{"from": "human", "value": "Q1"}, {"from": "gpt", "value": "A1"}]
    assert json_records.read({"system": "Be brief.", "conversations": turns}) == expected[:1]
    assert json_records.read({"system": "Be brief.", "prompt": "Q1", "completion": "A1"}) == expected[:1]
    assert json_records.read({**example, "system": "", "history": None}) == [example]
    assert json_records.read({**example, "system": {"os": "linux"}, "history": "Founded in 1990"}) == [example]
    chat = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    assert json_records.read({"system": "Be brief.", "conversations": chat}) == json_records.read(
        {"conversations": chat}
    )
    with pytest.raises(ValueError, match=r"history must be a list of \[question, answer\] pairs"):
        json_records.read({**example, "history": ["Q1", "A1"]})


def test_a_long_page_gives_what_its_parts_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is parsed in stretches: none begins inside of a block."""
    fence, remark = "```py\n# no heading\n\nx = 1\n\n" * 3 + "```", "<!--\n\n# no heading\n\nor text\n-->"
    blocks = ["# A [b][c]", "Text.", "- one\n\n- two\n\n  more", fence, "## B", remark, "> quoted\n\n> on",
              "    code\n\n    # more", "Title\n-----", "a | b\n--|--\n1 | 2", "End.", "[c]: https://d"]  # fmt: skip
    page = "\n\n".join(blocks * 5)
    whole = sections(page)
    assert [path[-1] for path, _, _ in whole] == ["A b", "B", "Title"] * 5
    for size in range(120, 500, 10):
        monkeypatch.setattr(structure, "STRETCH", size)
        assert sections(page) == whole


@pytest.mark.parametrize("repeated", ["ab\n\n", "- a\n", "# a\n\nb\n", "```\n", "<!-- a\n", "|a|b|\n", "> - 1. "])
def test_the_parser_never_gets_much_at_once(repeated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    parse = MarkdownIt.parse
    monkeypatch.setattr(MarkdownIt, "parse", lambda *given: seen.append(len(given[1])) or parse(*given))
    monkeypatch.setattr(structure, "STRETCH", 1000)
    sections(repeated * (30_000 // len(repeated)))
    assert sum(seen) < 70_000
    assert max(seen) < (
        35_000 if repeated in ("```\n", "<!-- a\n", "> - 1. ") else 2100
    )  # these are one block, or line


# ---- facts ------------------------------------------------------------------------------------------------

FOLDER: dict[str, str | bytes] = {
    "a.md": "# Pump\n\n| Part | Weight |\n|---|---|\n| seal | 12 g |\n| valve | 3 kg |\n",
    "b.txt": "CARE OF THE VALVE\n\nOil it every week.\n",
    "c.html": "<html><title>Motor</title><body><h1>Motor</h1><p>The motor turns the pump.</p></body></html>",
    "d.docx": office_files.docx(
        office_files.word("Hoses", "Heading1") + office_files.word("They last a year in the sun.")
    ),
    "e.jsonl": '{"question": "Who sells it?", "answer": "The shop."}\n',
    "f.json": '{"belts": [{"name": "short belt", "length": "2 m"}, {"name": "long belt", "length": "5 m"}]}',
    "g.md": "---\ntitle: The crane\ndescription: How to lift the pump with a crane.\n---\n",
}


def taken(folder: Path, documents: dict[str, str | bytes], **options: Any) -> tuple[list[tuple[Example, Part]], Any]:
    """(examples with their parts, the Examples after all have been taken)."""
    for name, content in documents.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    asked = dataset.questions_of(parse({"model": "m", **options}))
    examples = Examples(folder, Row(100_000, letters), questions=asked)
    return list(examples), examples


def test_each_kind_of_document_gives_its_sections_and_its_facts(tmp_path: Path) -> None:
    rows, examples = taken(tmp_path, FOLDER, skip_rules="N")
    assert [(row["instruction"], row["output"], part) for row, part in rows if "rule" not in row] == [
        ('Explain "Pump".', "| Part | Weight |\n|---|---|\n| seal | 12 g |\n| valve | 3 kg |", Part.TRAIN),
        ('Explain "CARE OF THE VALVE".', "Oil it every week.", Part.TRAIN),
        ('Explain "Motor".', "The motor turns the pump.", Part.TRAIN),
        ('Explain "Hoses".', "They last a year in the sun.", Part.TRAIN),
        ("Who sells it?", "The shop.", Part.DRAWN),
    ]
    of_rule = {(row["source"], row["rule"]) for row, _ in rows if "rule" in row}
    assert of_rule == {
        ("a.md#Pump", "T"), ("b.txt#CARE OF THE VALVE", "H"), ("c.html#Motor", "H"), ("c.html#Motor", "P"),
        ("d.docx#Hoses", "H"), ("f.json#belts", "J"), ("g.md", "F"),
    }  # fmt: skip
    counts = {"a.md": 1, "b.txt": 1, "c.html": 1, "d.docx": 1, "e.jsonl": 1, "f.json": 0, "g.md": 0}
    assert examples.documents == Documents(
        [Used(file.path, counts[file.path], file.facts) for file in examples.documents.used]
    )
    assert list(counts) == [file.path for file in examples.documents.used]
    assert "The weight of valve is 3 kg." in {row["output"] for row, _ in rows}
    of_train = [row for row, part in rows if part is not Part.VALID]
    assert examples.count == len(rows) and len(of_train) == 5 + sum(examples.questions.rows.values())


def test_without_questions_there_are_the_sections_and_records_alone(tmp_path: Path) -> None:
    rows, examples = taken(tmp_path, FOLDER, questions="none")
    assert [row["instruction"] for row, _ in rows] == [
        'Explain "Pump".', 'Explain "CARE OF THE VALVE".', 'Explain "Motor".', 'Explain "Hoses".', "Who sells it?",
    ]  # fmt: skip
    assert {(part, *row) for row, part in rows} == {
        (Part.DRAWN, "instruction", "input", "output", "source", "document")
    }
    assert examples.questions is None
    assert [(skipped.path, skipped.reason.partition(";")[0]) for skipped in examples.documents.skipped] == [
        ("f.json", f"nothing usable: a record needs {json_records.KNOWN}"),
        ("g.md", "nothing usable: no text in it but headings"),
    ]


def test_rules_that_are_skipped_find_nothing(tmp_path: Path) -> None:
    rows, examples = taken(tmp_path, FOLDER, skip_rules="T,J,N,F,P")
    assert {row["rule"] for row, _ in rows if "rule" in row} == {"H"}
    assert examples.questions.rows.keys() == {"H"}
    assert [skipped.path for skipped in examples.documents.skipped] == ["f.json", "g.md"]


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_valid_asks_in_other_words_for_what_train_teaches(share: float) -> None:
    rows, examples = taken(MANUAL, {}, valid_fraction=share, skip_rules="N")
    train = [row for row, part in rows if part is not Part.VALID]
    valid = [row for row, part in rows if part is Part.VALID]
    assert 5 < len(valid) < examples.questions.facts * share * 1.1
    assert not {asked(row["instruction"]) for row in train} & {asked(row["instruction"]) for row in valid}
    assert {(row["source"], row["rule"]) for row in valid} <= {(row["source"], row.get("rule")) for row in train}
    none, _ = taken(MANUAL, {}, valid_fraction=0)
    assert Part.VALID not in {part for _, part in none}


@pytest.mark.parametrize("name", ["valid.json", "valid.jsonl"])
@pytest.mark.parametrize("questions", ["structure", "none"])
def test_the_user_s_own_valid_file_is_all_of_valid(tmp_path: Path, name: str, questions: str) -> None:
    own = '{"question": "How heavy is the valve?", "answer": "3 kg"}'
    rows, _ = taken(tmp_path, {**FOLDER, name: own}, questions=questions, valid_fraction=0.5)
    assert [row["source"] for row, part in rows if part is Part.VALID] == [f"{name}#{{}}".format(
        "line 1" if name.endswith("l") else "record 1")]  # fmt: skip
    assert {part for _, part in rows} == {Part.TRAIN, Part.VALID}
    (tmp_path / ".ftqignore").write_text("valid.*\n")
    rows, _ = taken(tmp_path, {}, questions=questions, valid_fraction=0.5)
    assert Part.DRAWN in {part for _, part in rows}


def test_a_document_without_its_converter_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "find_spec", lambda name: None)
    _, examples = taken(tmp_path, FOLDER)
    assert examples.documents.skipped == [
        Skipped("c.html", "HTML needs a converter: pip install -r requirements/formats.txt"),
        Skipped("d.docx", "DOCX needs a converter: pip install -r requirements/formats.txt"),
    ]


# ---- cut --------------------------------------------------------------------------------------------------


def test_blocks_are_kept_whole_where_they_fit() -> None:
    blocks = ("aaa bbb ccc", "ddd eee", "fff ggg hhh iii", "jjj")
    assert cut(blocks, words, 5) == ["aaa bbb ccc\n\nddd eee", "fff ggg hhh iii\n\njjj"]


@pytest.mark.parametrize(
    ("text", "room", "parts"),
    [
        ("a a a\nb b b b\nc c c c\nd d d", 8, ["a a a\nb b b b", "c c c c\nd d d"]),
        ("One two three. Four five. Six seven. Eight.", 6, ["One two three. Four five.", "Six seven. Eight."]),
        ("一二三四五。六七八九十！一二三四。五六七八。", 12, ["一二三四五。六七八九十！", "一二三四。五六七八。"]),
        ("xxxxxxxxxxxx", 5, ["xxxxx", "xxx", "xxxx"]),
        ("e\u0301" * 6, 5, ["e\u0301" * 2] * 3),
        ("\u0301" * 80, 40, ["\u0301" * 40] * 2),
    ],
    ids=["lines", "sentences", "sentences without spaces", "letters", "letters with marks", "marks alone"],
)  # fmt: skip
def test_a_block_is_cut_where_it_does_least_harm(text: str, room: int, parts: list[str]) -> None:
    assert cut((text,), words if " " in text else len, room) == parts


def test_nothing_is_lost_and_every_part_fits() -> None:
    dense = "".join(chr(0x4E00 + number % 5000) for number in range(3000))
    text = "\n\n".join(["word " * 900, " " * 5000 + "x" * 3000, dense, "| a | b |\n" * 300, "A sentence. " * 200])
    parts = cut(tuple(text.split("\n\n")), lambda part: len(part.encode()), 256)
    assert all(0 < len(part.encode()) <= 256 for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


def test_more_than_a_thousand_parts_fit_their_rows_too() -> None:
    text = "Each of these just fills its row"
    row = Row(len("Why (part 888 of 888)" + text), letters)
    whole = {"instruction": "Why", "input": "", "output": "\n\n".join([text] * 1001), "source": "s"}
    parts = split(whole, (text,) * 1001, row)
    assert len(parts) > 1001
    assert all(letters(part) <= row.limit for part in parts)
    assert parts[-1]["instruction"] == f"Why (part {len(parts)} of {len(parts)})"
    assert "".join(part["output"] for part in parts).replace(" ", "") == text.replace(" ", "") * 1001


def test_a_question_that_fills_a_row_leaves_no_part() -> None:
    whole = {"instruction": "why " * 20, "input": "", "output": "a " * 50, "source": "s"}
    assert split(whole, (whole["output"],), Row(100, letters)) == []


@pytest.mark.parametrize("kind", ["words", "letters", "lines", "paragraphs", "sentences", "spaces", "chat"])
def test_what_is_counted_grows_with_the_text_and_no_more(kind: str, tmp_path: Path) -> None:
    """In characters that a tokenizer gets to see, and never more at once than some rows."""
    seen: list[int] = []

    def length(example: Example) -> int:
        seen.append(letters(example))
        return int(seen[-1] / 4) + 20

    size = 1_000_000
    repeated = {"words": "some words ", "letters": "x", "lines": "a line\n", "paragraphs": "some text\n\n",
                "sentences": "A sentence. ", "spaces": "a" + " " * 99, "chat": ""}[kind]  # fmt: skip
    record: dict[str, Any] = {"question": "q", "answer": repeated * (size // max(1, len(repeated)))}
    if kind == "chat":
        record = {
            "messages": [
                {"role": role, "content": "x" * 80} for _ in range(size // 200) for role in ("user", "assistant")
            ]
        }
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    examples = Examples(tmp_path, Row(512, length))
    made = sum(1 for _ in examples)
    assert made > (5 if kind == "chat" else size / (8 * 512))
    assert sum(seen) < 4 * size
    assert max(seen) < 20 * 512
    if kind == "chat":
        assert made + sum(record.count for record in examples.records_skipped) == size // 200


# ---- the dataset ------------------------------------------------------------------------------------------


def test_one_example_is_held_out_where_there_are_enough_for_one() -> None:
    def shares(questions: int, seed: int) -> list[float]:
        rows = [{"instruction": f"Q{n}", "input": "", "output": f"A{n}"} for n in range(questions)]
        return [recall.share(row, seed) for row in rows]

    few = [recall.held_out(shares(20, seed), 0.05) for seed in range(20)]
    assert all(few)
    assert not all(recall.held_out(shares(19, seed), 0.05) for seed in range(20))
    for seed, valid in enumerate(few):
        assert len(valid) > 1 or recall.held_out(shares(21, seed), 0.05) <= {*valid, 20}
    assert recall.held_out([0.1], 0.5) == set()
    assert recall.held_out([0.1, 0.2], 0.5) == {1}


def test_train_and_valid_are_written_line_by_line_in_order(tmp_path: Path) -> None:
    rows = [{"instruction": f"Q{n}", "input": "", "output": "ä\u2028\x85"} for n in range(50)]
    assert dataset.write(((row, Part.DRAWN) for row in rows), tmp_path, 7, 0.2) == (39, 11, 11)
    valid = recall.held_out(array("d", (recall.share(row, 7) for row in rows)), 0.2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.jsonl", "valid.jsonl"]
    for name, held in (("train", False), ("valid", True)):
        lines = (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
        assert [json.loads(line) for line in lines if line] == [
            row for number, row in enumerate(rows) if (number in valid) == held
        ]


def test_a_report_is_read_back_as_it_was_written() -> None:
    report = DatasetReport(
        documents=Documents(
            [Used("a.md", 3, 2, 1, 1, "b.md")], [Skipped("b.md", "empty")], ["a.md: read as Windows-1252"]),
        records_skipped=[SkippedRecord("c.jsonl: line 1", "malformed")],
        examples=3, duplicates=1, split_into_parts=1, train=2, valid=1, tested=1, tokens=TokenCounts.of([3, 4, 4]),
        max_seq_length=64, stop="</s>", base_revision="c0ffee",
        questions=Report("en", 2, {"T": 4}, (Contradiction("pump", "weight", (Stated("1 kg", "a.md", 3),)),), ("k",),
                         {"cloze": 2}, {"cloze": {"a.md#A": 2}}),
        contradictions=(Contradiction("Who?", "answer", (Stated("I", "c.jsonl: line 1", 0),)),),
        cuts=(Cut("a.md", 7, "rows of a table", 3),),
    )  # fmt: skip
    assert report.to_json() == {
        "documents": {"used": [{"path": "a.md", "examples": 3, "facts": 2, "split": 1, "duplicates": 1,
                                "same_as": "b.md"}],
                      "skipped": [{"path": "b.md", "reason": "empty"}],
                      "notes": ["a.md: read as Windows-1252"]},
        "records_skipped": [{"where": "c.jsonl: line 1", "reason": "malformed", "count": 1}],
        "examples": 3, "duplicates": 1, "split_into_parts": 1, "train": 2, "valid": 1, "tested": 1,
        "tokens": {"total": 11, "longest": 4, "mean": 3.7},
        "max_seq_length": 64, "stop": "</s>", "base_revision": "c0ffee",
        "questions": {
            "language": "en", "facts": 2, "rows": {"T": 4}, "few": ("k",), "left_out": {"cloze": 2},
            "left_out_of": {"cloze": {"a.md#A": 2}},
            "contradictions": ({"subject": "pump", "attribute": "weight",
                                "stated": ({"value": "1 kg", "file": "a.md", "line": 3},)},),
        },
        "contradictions": ({"subject": "Who?", "attribute": "answer",
                            "stated": ({"value": "I", "file": "c.jsonl: line 1", "line": 0},)},),
        "cuts": ({"file": "a.md", "line": 7, "what": "rows of a table", "count": 3},),
    }  # fmt: skip
    written = json.loads(json.dumps({**report.to_json(), "of a later version": 1}))
    assert DatasetReport.from_json(written) == report
    with pytest.raises(TypeError):
        DatasetReport.from_json({})


@pytest.mark.parametrize("room", range(8, 36))
def test_a_cut_parts_no_word_whatever_came_before(room: int) -> None:
    """A short block before a table made its first part too short for a row, and then one end of a word too."""
    rows = "\n".join(["| a | b |", "|---|---|", "| w10 | `w10` |", *["| w0 | `w0` |"] * 4])
    blocks = ("1. w0\n\n   w0", rows, "w0")
    parts = cut(blocks, lambda text: len(text.split()), room)
    assert {word for part in parts for word in part.split()} == {word for block in blocks for word in block.split()}
    if room > 15:  # for a row with its header, and some more
        assert all(part.count("|") % 3 == 0 for part in parts)
