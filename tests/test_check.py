"""`ftq check`: what is told of each document, what it finds, its page; and that nothing is lost on the way in."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from cli_tools import Store, ok, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pages import Tags

from ftq.check.check import QUICK, Check, File, check, check_of, quick
from ftq.check.finding import Finding
from ftq.check.near import Near
from ftq.check.page import page
from ftq.check.survey import Survey
from ftq.client.submit import look_over
from ftq.errors import UserError
from ftq.examples import recall
from ftq.examples.dataset import Examples, questions_of
from ftq.examples.read import read
from ftq.examples.records.given import Candidate, LeftOut
from ftq.examples.report import DatasetReport
from ftq.examples.split import Example, Row
from ftq.files.run_dir import RunDir, write_json
from ftq.files.snapshot import snapshot
from ftq.report.inputs import dataset as dataset_of
from ftq.spec.options import parse

TOKEN = "ghp_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dF3hJ5"
FEW = (
    "Add documents, or name a file of your own questions: --set questions_file=FILE (docs/evaluation.md has its form)."
)
BAD = "line 2: malformed JSON (Expecting ',' delimiter, column 15)"
PORTS = "# Ports\n\n| Service | Port |\n|---|---|\n| web | {web} |\n| api | 9000 |\n"
LONG = " ".join(f"word{number}" for number in range(60))
FOLDER = {
    "a.md": PORTS.format(web=80),
    "b.md": PORTS.format(web=81),
    "copy.md": PORTS.format(web=80),
    "bad.json": '[\n{"question": 1',
    "empty.md": "",
    "picture.png": "x",
    "records.json": json.dumps([{"question": "The key?", "answer": TOKEN}, {"question": "Which?"}]),
    "x.md": f"{LONG} once",
    "y.md": f"{LONG} again",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def look(folder: Path) -> Check:
    return check(folder, parse({"model": "any"}))


# ---- what it tells ----------------------------------------------------------------------------------------


def test_each_document_has_a_line(tmp_path: Path) -> None:
    checked = look(write(tmp_path / "docs", FOLDER))
    lines = [(file.path, file.outcome, file.why, file.facts) for file in checked.files]
    assert lines == [
        ("a.md", "used", "", 2),
        ("b.md", "used", "", 2),
        ("bad.json", "unusable", BAD, 0),
        ("copy.md", "duplicate", "of a.md", 2),
        ("empty.md", "empty", "empty", 0),
        ("picture.png", "left out", "not a kind of document that ftq reads", 0),
        ("records.json", "used", "", 0),
        ("x.md", "used", "", 0),
        ("y.md", "used", "", 0),
    ]
    report = checked.report
    assert sum(file.rows for file in checked.files) == report.examples == report.train + report.valid
    assert sum(file.tokens for file in checked.files) == report.tokens.total
    assert sum(checked.rules.values()) == sum(one.rows for one in checked.lengths) == report.examples


def test_documents_are_counted_alike_wherever_they_are_counted(home: Path, tmp_path: Path) -> None:
    """A document is what submit takes: nothing ignored, hidden, of another kind, or that a link leads to outside."""
    folder = write(tmp_path / "docs", {**FOLDER, ".ftqignore": "draft.md", "draft.md": "# D", ".hidden.md": "# H"})
    (folder / "link.md").symlink_to(tmp_path)
    (folder / "away.md").symlink_to("/etc/hostname")
    options = ("--model", "smollm2-135m", "--documents", str(folder))
    checked = look(folder)
    pages = [" ".join(re.sub("<[^>]+>", " ", html).split()) for html in (page(checked), dataset_of(checked.report))]
    places = [
        ok("submit", *options).stderr,
        ok("submit", *options, "--dry-run").stdout,
        ok("check", str(folder)).stdout,
    ]
    counted = [re.findall(r"(\d+) documents(?: from|,| \()", text)[0] for text in (*places, *pages)]
    assert counted == ["8"] * 5
    assert all("8 documents, 6 of them used" in text for text in (places[2], *pages))


def test_each_finding_says_where_and_what_to_do(tmp_path: Path) -> None:
    checked = look(write(tmp_path / "docs", FOLDER))
    assert all(finding.fix for finding in checked.findings)
    told = [(one.level, one.message, one.places) for one in checked.findings if one.places]
    assert told[:7] == [
        ("warning", "1 document can't be used", (f"bad.json: {BAD}",)),
        ("warning", "1 record or section is left out", (
            "records.json: record 2: a record needs instruction/output, prompt/completion, question/answer or "
            "messages; this one has question",)),
        ("warning", "1 contradiction between documents", ("web, Port: 80 (a.md:5), 81 (b.md:5)",)),
        ("warning", "1 text looks like a secret", ("records.json:1: GitHub token ghp_aB...",)),
        ("note", "1 document without text", ("empty.md: empty",)),
        ("note", "1 file left out: of another kind", ("picture.png",)),
        ("note", "1 document with nothing but what others have", ("copy.md is in a.md",)),
    ]  # fmt: skip
    assert ("note", "1 section is nearly the same as others", ("y.md is like x.md",)) in told
    assert ("note", "2 documents without one short question", ("x.md", "y.md")) in told


def test_a_long_document_that_nothing_is_asked_of_is_a_warning(tmp_path: Path) -> None:
    lines = "".join(f"Part {number} left shelf {number % 90}.\n" for number in range(20_000))
    checked = look(write(tmp_path / "docs", {"a.md": PORTS.format(web=80), "log.txt": lines, "short.txt": "a\nb\n"}))
    (told,) = [one for one in checked.findings if "without one short question" in one.message]
    assert told.level == "warning"
    assert re.fullmatch(r"2 documents without one short question, 99 % of what is trained on", told.message)
    assert [place.partition(":")[0] for place in told.places] == ["log.txt", "short.txt"]
    assert "name in .ftqignore" in told.fix


def test_rows_are_shown_as_the_model_sees_them_and_the_same_ones_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "docs", {"a.json": '[{"question": "Why?", "answer": "So."}]'})
    (row,) = check(folder, parse({"model": "phi-3.5-mini"})).rows
    assert (row.prompt, row.answer) == ("Instruction: Why?, Input: , Response:", " So.<|end|>")
    many = write(tmp_path / "many", {"a.json": json.dumps([{"question": f"{n}?", "answer": "x"} for n in range(99)])})
    rows = look(many).rows
    assert len({row.prompt for row in rows}) == 30
    assert rows == look(many).rows


def test_the_tokens_are_those_of_prepare_where_the_tokenizer_is_here(tmp_path: Path) -> None:
    from tests.tiny import make_tiny_model
    from worker.stages.model import base_model
    from worker.stages.model.tokens import Tokens

    model = make_tiny_model(tmp_path / "tiny")
    folder = write(tmp_path / "docs", FOLDER)
    spec = parse({"model": str(model)})
    checked = check(folder, spec)
    tokens = Tokens(model)
    stop = base_model.stop_token(model, str(model))
    row = Row(spec.max_seq_length, lambda example: len(tokens.row(example, stop)[0]))
    examples = [example for example, _ in Examples(folder, row, questions=questions_of(spec))]
    assert checked.exact
    assert checked.report.tokens.total == sum(map(row.length, examples))


# ---- what it looks for ------------------------------------------------------------------------------------


def test_texts_that_share_most_groups_of_words_are_near() -> None:
    near = Near()
    assert near.earlier(LONG, "a") == ""
    assert near.earlier(LONG.upper().replace(" ", "\n"), "b") == "a"
    assert near.earlier(" ".join(reversed(LONG.split())), "c") == ""
    assert [near.earlier("a few words", name) for name in "de"] == ["", ""]


def test_records_that_answer_one_question_differently_are_told_with_both(tmp_path: Path) -> None:
    asked = {"Which port?": ("80", "81"), "How long?": ("It is kept for 3 days.", "About 5 days, then it's removed.")}
    same = {"Who?": ("Ann", "ann."), "When?": ("on 3 May", "3 May 2020"), "Why?": ("So. " * 9, "As it is. " * 9)}
    files = {f"{name}.jsonl": "\n".join(json.dumps({"question": question, "answer": answers[turn]})
             for question, answers in (asked | same).items()) for turn, name in enumerate("ab")}  # fmt: skip
    checked = look(write(tmp_path / "docs", files))
    assert [(one.message, one.places) for one in checked.of("warning")] == [
        ("2 questions that records answer differently", (
            "Which port?, answer: 80 (a.jsonl: line 1), 81 (b.jsonl: line 1)",
            "How long?, answer: It is kept for 3 days. (a.jsonl: line 2), About 5 days, then it's removed. "
            "(b.jsonl: line 2)")),
    ]  # fmt: skip
    assert DatasetReport.from_json(json.loads(json.dumps(checked.report.to_json()))) == checked.report


def test_what_a_limit_leaves_out_is_told_with_file_and_number(tmp_path: Path) -> None:
    rows = "".join(f"| part {n} | {n} kg |\n" for n in range(503))
    prose = " ".join(f"The valve number {n} opens at noon every day." for n in range(70))
    data = json.dumps({"parts": [{"name": f"part {n}", "weight": f"{n} g"} for n in range(20_005)]})
    write(tmp_path / "docs", {
        "data.json": data, "lines.jsonl": "\n".join(f'{{"name": "bolt {n}", "weight": {n}}}' for n in range(20_003)),
        "long.md": "# Long\n\n" + "word " * 5_000, "prose.md": f"# Prose\n\n{prose}\n\n{prose}\n",
        "table.md": f"# Parts\n\n| Part | Weight |\n|---|---|\n{rows}",
    })  # fmt: skip
    told = {one.message: one.places for one in look(tmp_path / "docs").findings if "beyond a limit" in one.message}
    assert told == {
        "8 values of JSON beyond a limit left out": ("data.json:1: 5", "lines.jsonl:20001: 3"),
        "1 paragraph too long to be prose beyond a limit left out": ("long.md:1",),
        "20 sentences for rule B beyond a limit left out": ("prose.md:3: 10", "prose.md:5: 10"),
        "70 sentences for rule S beyond a limit left out": ("prose.md:5: 70",),
        "70 sentences for rule P beyond a limit left out": ("prose.md:5: 70",),
        "3 rows of a table beyond a limit left out": ("table.md:505: 3",),
    }


@pytest.mark.parametrize(("by", "rows"), [("base", 2), ("endpoint", 12), ("structure", 0)])
def test_what_a_model_will_be_asked_is_said_in_check_and_in_the_dry_run(tmp_path: Path, by: str, rows: int) -> None:
    page = "# A\n\nThe pump moves the water out. The valve is opened by hand. It is not here?\n\n## B\n\nIt is red.\n"
    once = "# C\n\nThe motor turns the pump and nothing else in it.\n"
    folder = write(tmp_path / "docs", {"a.md": page, "b.md": once, "c.json": '[{"question": "Q", "answer": "A"}]'})
    said = f"asked about 2 sections; about {rows} more questions come of it, an estimate"
    checked = check(folder, parse({"model": "any", "questions": by}))
    assert [one.level for one in checked.findings if said in one.message] == ["note"] * bool(rows)
    told = run("submit", "--model", "qwen3-4b", "--documents", str(folder), "--set", f"questions={by}", "--dry-run")
    assert (f"{said}: they aren't in these numbers" in told.stderr) == bool(rows)


@pytest.mark.parametrize(("by", "told"), [("base", True), ("endpoint", False)])
def test_a_base_model_that_is_too_small_to_write_is_promised_nothing_of(tmp_path: Path, by: str, told: bool) -> None:
    folder = write(tmp_path / "docs", {"a.md": "# A\n\nThe pump moves the water out of the cellar at night.\n"})
    said = (
        "the base model will be asked about 1 section, and writes few or none that are worth keeping: it has under "
        "half a billion parameters"
    )
    options = ("--model", "smollm2-135m", "--set", f"questions={by}")
    checked = json.loads(run("check", str(folder), *options, "--json").stdout)
    assert (said in [one["message"] for one in checked["findings"]]) == told
    dry = run("submit", "--documents", str(folder), *options, "--dry-run").stderr
    assert ((said in dry), "more questions come of it" in dry) == (told, not told)


def test_what_a_limit_leaves_out_of_most_is_a_warning_with_its_share(tmp_path: Path) -> None:
    rows = "\n".join(f'{{"name": "bolt {n}", "weight": {n}}}' for n in range(25_000))
    write(tmp_path / "docs", {"lines.jsonl": rows, "b.md": "# B\n\nText.\n"})
    [finding] = [one for one in look(tmp_path / "docs").findings if "beyond a limit" in one.message]
    assert (finding.level, finding.message) == (
        "warning",
        "5,000 values of JSON beyond a limit left out, 20 % of them",
    )
    assert finding.places == ("lines.jsonl:20001: 5,000",)


def test_each_document_has_some_of_the_rows_that_are_shown(tmp_path: Path) -> None:
    many = json.dumps([{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(2_000)])
    few = {f"few{n}.json": json.dumps({"question": f"Few {n}?", "answer": "One."}) for n in range(12)}
    write(tmp_path / "docs", {"many.json": many, **few})
    shown = look(tmp_path / "docs").rows
    assert {row.source.partition("#")[0] for row in shown} == {"many.json", *few} and len(shown) == 30
    more = {f"more{n}.json": json.dumps({"question": f"More {n}?", "answer": "One."}) for n in range(40)}
    write(tmp_path / "docs", more)
    assert len({row.source for row in look(tmp_path / "docs").rows}) == 30


@pytest.mark.parametrize(
    ("documents", "fix"),
    [
        (["a.jsonl"], "nothing else is in their documents"),
        (["b.jsonl"], "the rest of their documents is used"),
        (["a.jsonl", "b.jsonl"], "the rest of their documents is used, where there is any"),
    ],
)
def test_a_fix_fits_what_is_left_of_the_documents(documents: list[str], fix: str, tmp_path: Path) -> None:
    texts = {"a.jsonl": "{bad\n", "b.jsonl": '{"question": "q", "answer": "a"}\n{bad\n'}
    write(tmp_path / "docs", {"c.md": "# C\n\nText.\n", **{name: texts[name] for name in documents}})
    checked = look(tmp_path / "docs")
    [finding] = [one for one in checked.findings if "left out" in one.message]
    assert finding.fix == f"Correct them: {fix}."
    bad = "line 1: malformed JSON (Expecting property name enclosed in double quotes, column 2)"
    assert [file.reason for file in checked.report.documents.skipped] == (
        [f"nothing usable: {bad}"] if "a.jsonl" in documents else []
    )


@pytest.mark.parametrize(("name", "text", "why"), [
    ("valid.jsonl", '{"foo": "bar"}\n', "line 1: a record needs instruction/output, prompt/completion, question/answer "
                                        "or messages; this one has foo"),
    ("valid.json", '{"pump": {"weight": "12 kg"}}', "a record needs instruction/output, prompt/completion, "
                                                    "question/answer or messages; this one has pump"),
    ("valid.jsonl", '{"foo": \n', "line 1: malformed JSON (Expecting value, column 9)"),
])  # fmt: skip
def test_a_validation_set_of_another_shape_is_told_and_never_trained_on(
    name: str, text: str, why: str, tmp_path: Path
) -> None:
    """What is held out is what would be without the file."""
    page = "".join(f"## Part {n}\n\nThe part {n} weighs {n} kg.\n\n" for n in range(30))
    without = look(write(tmp_path / "docs", {"a.md": page}))
    checked = look(write(tmp_path / "docs", {name: text}))
    assert {row.source.partition("#")[0] for row in checked.rows} == {"a.md"}
    assert (checked.report.train, checked.report.valid) == (without.report.train, without.report.valid)
    assert checked.report.valid
    [finding] = [one for one in checked.of("warning") if "for validation" in one.message]
    assert finding.message == "1 document for validation without a record of a known shape"
    assert finding.places == (f"{name}: nothing usable: {why}",)
    assert '{"question": "...", "answer": "..."}' in finding.fix


def test_what_texts_of_a_validation_set_state_is_not_trained_on(tmp_path: Path) -> None:
    text = json.dumps({"text": "# Pump\n\nThe pump X200 weighs 87 kg. It moves water.", "title": "Pump"})
    checked = look(write(tmp_path / "docs", {"a.md": PORTS.format(web=80), "valid.jsonl": text}))
    assert not [row for row in checked.rows if row.source.startswith("valid.jsonl") and row.rule]


def test_of_a_validation_folder_is_said_what_holds_of_it_by_paths_that_tell_it(tmp_path: Path) -> None:
    """Nothing in it is learned. What both folders have is told with both paths."""
    secret, both = "# Door\n\nThe alarm code: 4711\n", f"# Both\n\n{LONG} once\n"
    folder = write(tmp_path / "docs", {"a.md": PORTS.format(web=80), "both.md": both})
    held = write(tmp_path / "held", {"both.md": both, "z.md": secret, "again.md": both.replace("once", "twice"),
                                     "bad.jsonl": '{"foo": 1}\n'})  # fmt: skip
    checked = check(folder, parse({"model": "any", "validation": str(held), "questions": "base"}))
    told = {one.message: (one.level, one.places) for one in checked.findings if one.places}
    assert told == {
        "1 document can't be used": ("warning", (
            "validation/bad.jsonl: nothing usable: line 1: a record needs instruction/output, prompt/completion, "
            "question/answer or messages; this one has foo",)),
        "1 record or section is left out": ("warning", (
            "validation/bad.jsonl: line 1: a record needs instruction/output, prompt/completion, question/answer or "
            "messages; this one has foo",)),
        "1 text looks like a secret in validation": ("warning", ("validation/z.md:3: PIN or code 4...",)),
        "2 sections nearly the same in training and in validation": ("note", (
            "validation/again.md#Both is like both.md#Both", "validation/both.md#Both is like both.md#Both")),
        "1 document without one short question": ("note", ("both.md",)),
    }  # fmt: skip
    [finding] = [one for one in checked.findings if "secret" in one.message]
    assert "doesn't learn them" in finding.fix
    assert "asked about 2 sections;" in checked.expected


def test_rows_too_long_are_told_by_line_and_with_the_option_to_raise(tmp_path: Path) -> None:
    section = (
        "# Leave\n\nEverybody who works full time has 27 days of paid leave in a year, and whoever has worked here for "
        "more than ten years has three more days, which are written into the contract by the office of personnel at "
        "the start of the year after that.\n"
    )
    asked = json.dumps([{"question": f"{LONG}?", "answer": "a"}, {"question": "Q", "answer": "a"}])
    folder = write(tmp_path / "docs", {"leave.md": section, "q.json": asked})
    checked = check(folder, parse({"model": "any", "max_seq_length": 64}))
    [finding] = [one for one in checked.of("warning") if "too long" in one.message]
    assert finding.message.endswith(" rows too long for max_seq_length left out")
    assert finding.places == (
        "q.json: record 1: its question alone fills a row of 64 tokens (max_seq_length)",
        "leave.md:3: a question with its answer is longer than a row of 64 tokens (max_seq_length)",
    )
    assert finding.fix == "Raise max_seq_length, which is 64, as far as the model's context and memory go."
    assert not [one for one in checked.findings if one.fix.startswith("Correct them: ")]


def test_of_a_long_table_each_row_that_becomes_no_fact_is_counted(tmp_path: Path) -> None:
    """Also those that are parsed when its header is long gone."""
    rows = "".join(f"A{number},Bolt number {number},{number % 977} g\n" for number in range(9_000))
    checked = look(write(tmp_path / "docs", {"a.csv": f"sku,name,weight\n{rows}"}))
    messages = [one.message for one in checked.findings]
    assert "8,500 rows of a table beyond a limit left out" in messages
    assert not [message for message in messages if "prose" in message]


def test_rows_that_a_model_wrote_are_shown_with_the_others(tmp_path: Path) -> None:
    survey = Survey(tmp_path, lambda example: (example["instruction"], example["output"]))
    row = {"instruction": "Q?", "input": "", "output": "A.", "source": "a.md#A", "document": "a.md"}
    survey.add([row, {**row, "rule": "W"}], [3, 4])
    checked = check_of("docs", "any", DatasetReport(max_seq_length=9, stop="</s>", examples=2, train=2), survey)
    assert checked.rules == {"whole sections and records": 1, "questions that a language model wrote": 1}
    assert "<b>W</b> questions that a language model wrote" in page(checked)


# ---- the command ------------------------------------------------------------------------------------------


def test_the_exit_code_is_that_of_the_findings(tmp_path: Path) -> None:
    good = str(write(tmp_path / "good", {"a.md": "# A\n\nThe text of it."}))
    odd = str(write(tmp_path / "odd", {"a.md": "# A\n\nThe text of it.", "bad.json": "{"}))
    none = str(write(tmp_path / "none", {"a.md": "# A"}))
    unasked = ("--set", "eval_questions=0")
    asked = [[good], [good, "--strict"], [odd], [odd, "--strict"], [none], [f"{none}/no"], [good, "--set", "epochs=0"]]
    codes = [run("check", *arguments, *unasked).exit_code for arguments in asked]
    assert codes == [0, 0, 0, 1, 1, 2, 2]
    assert run("check", none, *unasked).stdout.startswith(
        "\nFindings\n✗ error  no example in it\n  -> ftq takes texts, and JSON records with instruction/output, "
        "prompt/completion, question/answer or messages.\n"
        "· note  1 document without text\n    a.md: nothing usable: no text in it but headings\n"
        "  -> Write text below the headings, or name them in .ftqignore.\n")  # fmt: skip
    said = "1 warning found. With --strict, warnings count as errors.\n"
    assert run("check", odd, *unasked, "--strict", "--json").stderr == said
    assert run("check", f"{none}/no").stderr == (
        f"Error: documents {none}/no: there is no such folder\nName a folder of documents: ftq check DIR\n"
    )


def test_what_is_not_shown_is_said_with_what_shows_it(tmp_path: Path) -> None:
    """Of places and of documents."""
    files = {f"broken{number:02}.json": "{" for number in range(7)} | {f"{number:02}.md": "" for number in range(30)}
    folder, html = str(write(tmp_path / "docs", files)), tmp_path / "page.html"
    lines = run("check", folder, "--html", str(html)).stdout.splitlines()
    more = [line.strip() for line in lines if line.strip().startswith("and ")]
    assert sorted(more) == [f"and {number} more: --html FILE and --json have all" for number in (2, 25, 7)]
    told = json.loads(run("check", folder, "--json").stdout)
    assert {place.partition(":")[0] for finding in told["findings"] for place in finding["places"]} == {*files}
    assert len(told["files"]) == 37 and all(name in html.read_text() for name in files)


def test_what_is_printed_for_a_small_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "docs", {"a\nb.json": '[{"question": "Why?", "answer": "So\\u001b[2J."}]'})
    monkeypatch.chdir(tmp_path)
    assert ok("check", "docs", "--set", "eval_questions=0").stderr == "Nothing stands in the way.\n"
    result = ok("check", "docs")
    assert result.stderr == "1 warning found.\n"
    assert (
        result.stdout
        == f"""
Findings
! warning  no question will test what the model learned, 5 are the fewest that tell anything
  -> Add documents, or name a file of your own questions: --set questions_file=FILE (docs/evaluation.md has its form).

1 document, in {tmp_path}/docs
DOCUMENT  FACTS  ROWS  TOKENS
a\ufffdb.json            1      15

0 facts, 1 row (1 to train on, 0 held out), about 15 tokens, 15 in the longest (a row holds 2,048)

Rows by rule
whole sections and records  1  {"█" * 40}

Rows by length in tokens
8 to 15  1  {"█" * 40}

1 row drawn at random, as the model sees them
whole section or record  (a\ufffdb.json#record 1)
Instruction: Why?, Input: , Response: So\ufffd[2J.<end>

"""
    )


def test_json_has_all_of_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "docs", FOLDER)
    told = json.loads(ok("check", str(folder), "--json").stdout)
    checked = look(folder)
    few = ("only 3 questions will test what the model learned, 5 are the fewest that tell anything", FEW)
    checked = checked.with_finding("warning", *few)
    assert [File(**file) for file in told["files"]] == checked.files
    assert [Finding(**{**one, "places": tuple(one["places"])}) for one in told["findings"]] == checked.findings
    assert told["rows"] == [vars(row) for row in checked.rows]


# ---- submit -----------------------------------------------------------------------------------------------


def test_submit_stops_on_documents_that_teach_nothing(documents: Path, home: Path) -> None:
    (documents / "a.md").write_text("# A")
    (documents / "b.json").write_text("[]")
    for more in ([], ["--dry-run"]):
        result = run("submit", "--model", "smollm2-135m", *more)
        assert result.exit_code == 2
        assert result.stderr.startswith(
            f"Error: documents {documents}: no example in it\n"
            "         a.md: nothing usable: no text in it but headings\n"
            "         b.json: nothing usable: no record in it\n"
        )
    assert not [path for path in home.glob("*") if path.is_dir()]


def test_submit_says_in_a_line_what_check_would_warn_of(documents: Path) -> None:
    (documents / "c.json").write_text(json.dumps({"question": "The key?", "answer": TOKEN}))
    line = f"Note: 1 text looks like a secret. `ftq check {documents}` says where and what to do\n"
    assert line in ok("submit", "--model", "smollm2-135m").stderr
    assert line in ok("submit", "--model", "smollm2-135m", "--dry-run").stderr


def test_submit_refuses_what_strict_would_fail_on(home: Path, documents: Path) -> None:
    """Of the documents and of what is measured on, however many they are; check tells it as an error."""
    held_out = write(documents.parent / "held", {"v.ndjson": '{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n'})
    options = ("--set", "strict=true", "--set", f"validation={held_out}")
    wrong = "Unexpected file format, expected either prompt/completion pairs or chat messages."
    hint = "or leave out strict=true: it takes chats, and prompts with their completions, alone."

    def refused(line: int, path: Path) -> None:
        message, fix = f"Invalid file format. Line {line}, {wrong}", f"Correct {path}, {hint}"
        for more in ([], ["--dry-run"]):
            result = run("submit", "--model", "smollm2-135m", *options, *more)
            assert (result.exit_code, result.stderr) == (2, f"Error: {message}\n{fix}\n")
        checked = run("check", str(documents), *options, "--json")
        errors = [one for one in json.loads(checked.stdout)["findings"] if one["level"] == "error"]
        assert (checked.exit_code, [(one["message"], one["fix"]) for one in errors]) == (1, [(message, fix)])
        assert "is used" not in checked.stdout.replace("nothing is used", "")

    refused(2, held_out / "v.ndjson")
    (documents / "notes.jsonl").write_text('{"question": "q", "answer": "a"}\n{"question": \n')
    (documents / "large.md").write_text("A line more.\n" * (QUICK // 12))
    refused(1, documents / "notes.jsonl")
    assert not [path for path in home.glob("*") if path.is_dir()]
    (documents / ".ftqignore").write_text("*.jsonl\n")
    (held_out / "v.ndjson").write_text('{"prompt": "a", "completion": "b"}\n')
    ok("submit", "--model", "smollm2-135m", *options)


def test_submit_says_that_it_has_not_looked_through_large_documents(documents: Path) -> None:
    (documents / "c.docx").write_bytes(b"damaged")
    (documents / "d.txt").write_text("One line more.\n" * (QUICK // 14))
    line = r"Note: 53\d kB of documents are too much to look for faults in them now: `ftq check \S+` does\n"
    for more in ([], ["--dry-run"]):
        assert re.search(line, ok("submit", "--model", "smollm2-135m", *more).stderr)


def test_too_few_questions_to_judge_by_are_told_before_the_training(home: Path, tmp_path: Path) -> None:
    """By check, by submit, by the dry run, and again where an earlier run has looked through the documents."""

    def told(folder: Path, *options: str) -> list[str]:
        submitted = [run("submit", "--model", "smollm2-135m", "--documents", str(folder), *options, *dry)
                     for dry in ([], ["--dry-run"])]  # fmt: skip
        lines = [line for one in submitted for line in one.stderr.splitlines() if "the fewest" in line]
        checked = json.loads(run("check", str(folder), *options, "--json").stdout)["findings"]
        return [*lines, *(f"Note: {one['message']}. {one['fix']}" for one in checked if "fewest" in one["message"])]

    line = f"Note: only 2 questions will test what the model learned, 5 are the fewest that tell anything. {FEW}"
    two = "".join(json.dumps({"question": f"{number}?", "answer": "So."}) + "\n" for number in "12")
    small = write(tmp_path / "small", {"valid.jsonl": two, "a.md": PORTS.format(web=80)})
    assert told(small) == [line] * 3
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps([{"question": f"{n}?", "answers": ["So."]} for n in range(3)]))
    assert told(small, "--set", f"questions_file={mine}") == told(small, "--set", "eval_questions=0") == []
    raised = told(small, "--set", "eval_questions=1")
    assert [text.split(". ")[0] for text in raised] == [line.split(". ")[0].replace("2 questions", "1 question")] * 3
    assert all("anything. Raise eval_questions (now 1). Add" in text for text in raised)


def test_what_an_earlier_run_found_is_not_said_of_other_options(tmp_path: Path, store: Store) -> None:
    """With other options prepare makes other rows, and other questions test them."""
    folder = write(tmp_path / "docs", {"a.md": PORTS.format(web=80)})
    documents = snapshot(folder, None)
    spec = parse({"model": "smollm2-135m", "documents": str(folder), "valid_fraction": 0.5}).model_dump()
    store.runs.create("aaaa1111", "one", spec, documents.hash)
    dataset = RunDir(store.home / "aaaa1111").dataset
    dataset.mkdir(parents=True)
    write_json(
        dataset / "report.json", {"findings": [asdict(Finding("warning", "Odd", "Mend", ("a.md",)))], "tested": 3}
    )
    few = "only 3 questions will test what the model learned"

    def told(**options: Any) -> str:
        return " ".join(look_over({**spec, **options}, documents, store.home, store.runs)[0])

    assert told().startswith("Odd. ") and few in told(promote="never")
    for other in ({"epochs": 5.0}, {"seed": 1}, {"model": "qwen3-0.6b"}, {"max_seq_length": 512}, {"strict": True}):
        assert "Odd" not in told(**other) and few not in told(**other), other


def test_of_a_large_folder_submit_looks_for_one_example(tmp_path: Path) -> None:
    spec = parse({"model": "any"})
    assert quick(write(tmp_path / "docs", {"a.md": "# A", **FOLDER}), QUICK + 1, spec) is None
    with pytest.raises(
        UserError, match=r"docs2: no example in it\n  a.md: nothing usable: no text in it but headings$"
    ):
        quick(write(tmp_path / "docs2", {"a.md": "# A"}), QUICK + 1, spec)


# ---- the page ---------------------------------------------------------------------------------------------


def test_a_page_holds_hostile_text_as_text(tmp_path: Path) -> None:
    hostile = '</style></pre><script>alert(1)</script><img src=x onerror="alert(1)">\ud800'
    record = {"question": hostile[:-1], "answer": hostile[:-1]}
    name = "<img src=x>&amp;.json"
    write(tmp_path / "docs", {"a.json": json.dumps([record, {hostile: 1}]), name: "{"})
    tags = Tags(page(look(tmp_path / "docs")))
    assert tags.open == []
    assert tags.loads == []
    assert not tags.seen & {"script", "img", "link", "iframe", "object"}
    assert tags.text.count("<script>alert(1)</script>") == 3  # the question, the answer, the key of the bad record
    assert name in tags.text


def test_html_is_written_and_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    folder = str(write(tmp_path / "docs", {"a.md": "# A\n\nThe text of it.", "b.txt": "a\nb\n"}))
    ok("check", folder, "--html", str(tmp_path / "page.html"))
    html = (tmp_path / "page.html").read_text()
    assert Tags(html).open == [] and "<code>name: what it is</code>" in html
    result = run("check", folder, "--html", str(tmp_path / "no" / "page.html"))
    assert (result.exit_code, result.stderr) == (
        1, f"Error: {tmp_path}/no/page.html: can't be written (No such file or directory)\n")  # fmt: skip


# ---- nothing is lost --------------------------------------------------------------------------------------

LIMIT = 40
words = st.integers(0, 30).map(lambda number: f"w{number}")
some = st.lists(words, min_size=1, max_size=70)
blocks = st.one_of(
    some.map(" ".join),
    some.map(lambda found: "\n".join(found)),
    some.map(lambda found: "".join(f"- {word}\n" for word in found)),
    some.map(lambda found: "".join(f"{number}. {word}\n\n   {word}\n" for number, word in enumerate(found, 1))),
    some.map(lambda found: "```\n# " + "\n\n".join(found) + "\n```"),
    some.map(lambda found: "> " + "\n> ".join(found)),
    some.map(lambda found: "| a | b |\n|---|---|\n" + "".join(f"| {word} | `{word}` |\n" for word in found)),
    some.map(lambda found: f"**{found[0]}**: {' '.join(found)}. It is {' '.join(found)}."),
    some.map(lambda found: f"<div>\n\n{' '.join(found)}\n\n</div>"),
)
texts = st.lists(blocks, max_size=3)
sections = st.tuples(st.sampled_from(["# One", "## Two", "# Three?", ""]), texts)
pages = st.lists(sections, max_size=4)
records = st.lists(
    st.one_of(
        st.fixed_dictionaries({"question": st.lists(words, min_size=1, max_size=60).map(" ".join),
                               "answer": st.lists(words, max_size=90).map(" ".join)}),
        st.fixed_dictionaries({"messages": st.lists(
            st.fixed_dictionaries({"role": st.just("assistant"), "content": words}), max_size=2)}),
        st.fixed_dictionaries({"question": words}),
        st.just(7),
    ),
    max_size=4,
)  # fmt: skip


def in_words(example: Example) -> int:
    """Tokens: a word each, and four for what every row has."""
    return 4 + sum(len(example[name].split()) for name in ("instruction", "input", "output"))


@settings(database=None, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from("abc"), pages, max_size=3),
    st.dictionaries(st.sampled_from(["d.json", "e.jsonl"]), records),
    st.sampled_from(["structure", "none"]),
    st.floats(0, 0.5),
)
def test_what_goes_in_is_used_skipped_or_there_already_to_the_token(
    tmp_path_factory: pytest.TempPathFactory,
    written: dict[str, list[tuple[str, list[str]]]],
    lists: dict[str, list[object]],
    questions: str,
    share: float,
) -> None:
    folder = tmp_path_factory.mktemp("docs")
    for name, parts in written.items():
        text = "\n\n".join("\n\n".join([heading, *paragraphs]) for heading, paragraphs in parts)
        (folder / f"{name}.md").write_text(text)
    for name, rows in lists.items():
        lines = "\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(rows)
        (folder / name).write_text(lines)
    went_in = [paragraph for parts in written.values() for _, paragraphs in parts for paragraph in paragraphs]
    went_in += [record["answer"] for rows in lists.values() for record in rows if "answer" in keys(record)]

    spec = parse({"model": "any", "questions": questions, "valid_fraction": share})
    examples = Examples(folder, Row(LIMIT, in_words), questions=questions_of(spec))
    taken = list(examples)
    assert max((in_words(example) for example, _ in taken), default=0) <= LIMIT
    assert len(taken) == examples.count
    out = [example for example, _ in taken if "rule" not in example]
    assert len(out) == sum(file.examples for file in examples.documents.used)
    of_facts = examples.duplicates - sum(file.duplicates for file in examples.documents.used)
    held_out = recall.held_out([recall.share(example, 0, part) for example, part in taken], share)
    report = examples.report(len(held_out), list(map(in_words, (example for example, _ in taken))), LIMIT, "")
    assert report.train + report.valid == report.examples == len(taken)
    assert report.tokens.total == sum(in_words(example) for example, _ in taken)

    left_out = {record.where for record in examples.records_skipped}
    there: set[tuple[str, str, tuple[str, ...]]] = set()
    skipped, again, unusable = list[str](), list[str](), set[str]()
    for row in read(folder):
        if isinstance(row, Candidate):
            content = (row.instruction, row.input, row.blocks)
            (again if content in there else skipped if row.where in left_out else []).extend(row.blocks)
            of_facts += content in there
            there.add(content)
        elif isinstance(row, LeftOut) and row.where:
            is_data = questions == "structure" and row.reason.startswith("a record ")  # and may state something
            unusable |= set() if is_data else {row.where}
    given, came_out = counted(went_in), counted([row["output"] for row in out] + skipped + again)
    assert not given - came_out
    assert given == came_out or examples.split_into_parts  # parts repeat a header, an item
    assert of_facts == examples.duplicates
    useless = {file.path for file in examples.documents.skipped}  # their reason is that of their first record
    assert {where for where in unusable if where.partition(":")[0] not in useless} <= left_out
    files = [file.path for file in (*examples.documents.used, *examples.documents.skipped)]
    assert sorted(files) == sorted(path.name for path in folder.iterdir())


def keys(record: object) -> set[str]:
    return set(record) if isinstance(record, dict) else set()


def counted(texts: Iterable[str]) -> Counter[str]:
    return Counter(word for text in texts for word in re.findall(r"\bw\d+\b", text))
