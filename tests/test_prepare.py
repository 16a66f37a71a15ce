"""The prepare stage: documents in, examples out, and nothing cut silently."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ftq.errors import RunError, UserError
from ftq.examples import json_records
from ftq.examples.report import DatasetReport
from ftq.files.export_report import Parity
from ftq.files.run_dir import RunDir, read_jsonl
from ftq.files.snapshot import snapshot
from ftq.formats.convert import Converter
from ftq.plan import sizes
from ftq.plan.forecast import forecast
from ftq.spec import weights
from ftq.spec.options import parse
from tests import office_files
from tests.language_model import LanguageModel
from tests.tiny import make_run, make_tiny_model
from worker.stages.model import base_model
from worker.stages.model.check import convertible, tried
from worker.stages.model.tokens import Tokens
from worker.stages.prepare import prepare
from worker.stages.process.main import Report


class Quiet(Report):
    """Keeps what a stage reports."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def _send(self, event: str, values: dict[str, Any]) -> None:
        self.sent.append((event, values))

    def messages(self, event: str) -> list[str]:
        return [values["message"] for kind, values in self.sent if kind == event]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def run(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.setattr(tried, "once", lambda *_: Parity(0))  # it takes seconds; tested by itself
    return RunDir(make_run(tmp_path / "run", model, valid_fraction=0))


def prepared(run: RunDir, documents: dict[str, str | bytes], **options: Any) -> tuple[list[Any], Any, Quiet]:
    """(train and valid rows, report.json, what was reported)."""
    for name, content in documents.items():
        path = run.documents / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    out, report = run.partial("prepare", 0), Quiet()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    prepare.prepare(run, out, parse({**run.read_run()["spec"], **options}), report)
    written = ["dataset/questions.jsonl"] if options.get("questions") == "endpoint" else []
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.suffix != ".log") == [
        "dataset", "dataset/preview.html", *written, "dataset/report.json",
        "dataset/tokens.safetensors", "dataset/train.jsonl", "dataset/valid.jsonl",
    ]  # fmt: skip
    rows = [list(read_jsonl(out / "dataset" / name)) for name in ("train.jsonl", "valid.jsonl")]
    return rows, json.loads((out / "dataset/report.json").read_text()), report


def pairs(rows: list[Any]) -> list[tuple[str, str, str]]:
    return [(row["instruction"], row["input"], row["output"]) for row in rows]


PAGE = """\
---
title: front matter
---
Before any heading. <!-- a remark -->

# The *queue*

It waits.

<!-- gone
for good -->

## What does `ftq` do?

```sh
# not a heading
ftq up  # <!-- stays -->
```

- a list
  # not a heading either

Setext
------

| a | b |
|---|---|
| 1 | 2 |

### Deep

> # quoted

Deep text.

## Empty
"""


def test_half_a_character_in_a_document_costs_its_record_and_not_the_run(run: RunDir) -> None:
    """Valid JSON, but no file and no database takes it: as a key, as a role, in a text, in a file's name."""
    surrogate = "\\ud800"
    rows = [
        f'{{"{surrogate}": 1}}', f'{{"messages": [{{"role": "{surrogate}", "content": "x"}}]}}',
        f'{{"instruction": "a", "output": "{surrogate}"}}', '{"\\u0000": 1}', '{"instruction": "a", "output": "b"}',
        json.dumps({f"key {number}": number for number in range(1000)}), json.dumps({"k" * 1000: 1}),
    ]  # fmt: skip
    (run.documents / os.fsdecode(b"odd-\xff.md")).write_text("Some text.")
    (run.documents / os.fsdecode(b"odd-\xff.log")).write_text("Other text.")
    (train, _), summary, report = prepared(run, {"a.jsonl": "\n".join(rows)})
    assert pairs(train) == [("a", "", "b")]
    assert [row["source"] for row in train] == ["a.jsonl#line 5"]
    assert summary["documents"]["skipped"] == [
        {"path": "odd-?.log", "reason": "not a kind of document that ftq reads"},
        {"path": "odd-?.md", "reason": "its name isn't UTF-8"},
    ]
    needs, has = f"a record needs {json_records.KNOWN}; this one has ", [f"key {number}" for number in range(12)]
    assert [(row["where"], row["reason"]) for row in summary["records_skipped"]] == [
        ("a.jsonl: line 1", f"{needs}?"),
        ("a.jsonl: line 2", "a message's role must be system, user or assistant, not ?"),
        ("a.jsonl: line 3", "output holds half a character (a lone surrogate)"),
        ("a.jsonl: line 4", f"{needs}\0"),
        ("a.jsonl: line 6", f"{needs}{', '.join(has)}, 988 more"),
        ("a.jsonl: line 7", f"{needs}{'k' * 60}..."),
    ]
    assert len(report.messages("warning")) == 8


def test_markdown_becomes_sections_by_its_headings(run: RunDir) -> None:
    (train, valid), summary, _ = prepared(run, {"a-page.md": PAGE}, questions="none")
    assert pairs(train) == [
        ('Explain "a page".', "", "Before any heading."),
        ('Explain "The queue".', "", "It waits."),
        ("What does ftq do?", "", "```sh\n# not a heading\nftq up  # <!-- stays -->\n```\n\n"
         "- a list\n  # not a heading either"),
        ('Explain "Setext" (The queue).', "", "| a | b |\n|---|---|\n| 1 | 2 |"),
        ('Explain "Deep" (The queue, Setext).', "", "> # quoted\n\nDeep text."),
    ]  # fmt: skip
    assert [row["source"] for row in train] == [
        "a-page.md", "a-page.md#The queue", "a-page.md#What does ftq do?", "a-page.md#Setext", "a-page.md#Deep",
    ]  # fmt: skip
    assert valid == []
    assert summary["documents"] == {
        "used": [{"path": "a-page.md", "examples": 5, "facts": 0, "split": 0, "duplicates": 0, "same_as": ""}],
        "skipped": [], "notes": [],
    }  # fmt: skip
    assert (summary["examples"], summary["train"], summary["valid"], summary["stop"]) == (5, 5, 0, "<|im_end|>")


def test_every_json_form_gives_the_same_example(run: RunDir) -> None:
    chat = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    forms = [
        {"instruction": "Q", "input": "", "output": "A"},
        {"prompt": "Q", "completion": "A"},
        {"question": "Q", "answer": "A"},
        {"messages": chat},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"prompt": chat[:1], "completion": chat[1:]},
    ]
    for form in forms:
        assert json_records.read(form) == [{"instruction": "Q", "input": "", "output": "A"}]
    rows, summary, _ = prepared(run, {
        "list.json": json.dumps(forms), "wrapped.json": json.dumps({"version": 1, "items": forms}),
        "one.json": json.dumps(forms[0]), "lines.json": "\n".join(map(json.dumps, forms)),
        "lines.jsonl": "\ufeff" + "\r\n".join(map(json.dumps, forms)),
    })  # fmt: skip
    assert pairs(rows[0]) == [("Q", "", "A")]
    assert summary["duplicates"] == 4 * 6
    assert summary["documents"]["skipped"] == []


def test_what_of_a_chat_is_no_example_is_named_and_the_rest_is_used(run: RunDir) -> None:
    def chat(*turns: tuple[str, str]) -> dict[str, Any]:
        unlearned = {"weight": 0} if turns[-1][1] == "A0" else {}
        messages = [{"role": role, "content": text} for role, text in turns]
        return {"messages": [*messages[:-1], {**messages[-1], **unlearned}]}

    chats = [
        chat(("assistant", "Hello!"), ("user", "Q1"), ("assistant", "A1"), ("assistant", "And more."), ("user", "Q2")),
        chat(("user", "Q3"), ("assistant", "A3"), ("user", "Q0"), ("assistant", "A0")),
        chat(("user", "Q4")),
        chat(("system", "S")),
    ]
    chats[1]["messages"] += chat(("user", "Q5"), ("assistant", "A5"))["messages"]
    (train, _), summary, _ = prepared(run, {"a.json": json.dumps(chats)})
    assert pairs(train) == [
        ("Q1", "Assistant: Hello!", "A1\nAnd more."),
        ("Q3", "", "A3"),
        ("Q5", "User: Q3\nAssistant: A3\nUser: Q0\nAssistant: A0", "A5"),
    ]
    assert [(row["where"], row["reason"]) for row in summary["records_skipped"]] == [
        ("a.json: record 1", "an assistant message has no user message before it"),
        ("a.json: record 1", "the last user message has no answer"),
        ("a.json: record 2", "an answer of weight 0 isn't learned"),
        ("a.json: record 3", "a chat without an assistant message teaches nothing"),
        ("a.json: record 4", "a chat without an assistant message teaches nothing"),
    ]


def test_bad_files_and_records_are_named_and_the_others_go_on(run: RunDir, tmp_path: Path) -> None:
    outside = tmp_path / "secret.md"
    outside.write_text("# Secret\n\nNot yours.")
    (run.documents / "link.md").symlink_to(outside)
    (run.documents / "linked").symlink_to(tmp_path)
    rows, summary, report = prepared(run, {
        "good.md": "# T\n\nText.", "empty.md": " \n", "heads.md": "# Only\n\n## Headings",
        "cyrillic.md": "a\nнасос".encode("cp1251"),
        "broken.json": '[\n{"question": "x"; }\n]', "number.json": "3", ".hidden.md": "x", "notes.log": "x",
        "sub/.git/x.md": "x",
        "rows.jsonl": '{"question": "a", "answer": "b"}\n{oops\n{"question": "a"}\n{"question": 1, "answer": "b"}\n'
                      '{"question": "q", "answer": " "}\n[]\n{"question": "\\ud800", "answer": "b"}\n',
    }, questions="none")  # fmt: skip
    assert pairs(rows[0]) == [('Explain "T".', "", "Text."), ("a", "", "b")]
    assert {row["path"]: row["reason"] for row in summary["documents"]["skipped"]} == {
        ".hidden.md": "hidden",
        "broken.json": "line 2: malformed JSON (Expecting ',' delimiter, column 17)",
        "empty.md": "no text in it",
        "heads.md": "nothing usable: no text in it but headings",
        "cyrillic.md": "line 2: not UTF-8 text (byte 0xed): it looks like CP1251; iconv -f CP1251 -t UTF-8 FILE > NEW",
        "link.md": "a link that leads out of the folder",
        "linked": "a link that leads out of the folder",
        "notes.log": "not a kind of document that ftq reads",
        "number.json": "expected a list of records, not a number",
        "sub/.git": "hidden",
    }  # fmt: skip
    assert [(row["where"], row["reason"]) for row in summary["records_skipped"]] == [
        ("rows.jsonl: line 2", "malformed JSON (Expecting property name enclosed in double quotes, column 2)"),
        ("rows.jsonl: line 3", f"a record needs {json_records.KNOWN}; this one has question"),
        ("rows.jsonl: line 4", "question must be text, not a number"),
        ("rows.jsonl: line 5", "answer is empty"),
        ("rows.jsonl: line 6", "a record must be an object, not a list"),
        ("rows.jsonl: line 7", "question holds half a character (a lone surrogate)"),
    ]
    assert len(report.messages("warning")) == 16


MIXED: dict[str, str | bytes] = {
    ".ftqignore": "drafts/\n*.tmp.md\n", "drafts/a.md": "# Draft\n\nNot yet.", "b.tmp.md": "# Tmp\n\nNot this.",
    "a.md": "# Pump\n\n| Part | Weight |\n|---|---|\n" + "".join(f"| part {n} | {n} kg |\n" for n in range(1, 15)),
    "b.txt": "CARE OF THE VALVE\n\nOil it every week.\n".encode("utf-16"), "c.docx": office_files.docx(),
    "d.html": "<html><title>Motor</title><body><h1>Motor</h1><p>The motor turns the pump.</p></body></html>",
    "e.jsonl": "".join(f'{{"question": "Who sells part {n}?", "answer": "Shop {n}."}}\n' for n in range(30)),
    "f.json": '{"belts": [{"name": "short belt", "length": "2 m"}, {"name": "long belt", "length": "5 m"}]}',
    "g.md": "# Pump\n\n| Part | Weight |\n|---|---|\n| part 1 | 7 kg |\n", "h.pdf": "no PDF",
}  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"questions": "none"}, {"exposures": 3, "skip_rules": ["T"]}])
def test_a_mixed_folder_gives_what_the_dry_run_says(
    run: RunDir, tmp_path: Path, model: Path, options: dict[str, Any]
) -> None:
    """Ignored files stay behind at the submit, and the dry run leaves them out as well."""
    for name, content in MIXED.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    taken = snapshot(tmp_path / "mine", run.documents)
    assert (taken.files, taken.skipped, taken.others) == (8, [], "")
    (train, valid), summary, report = prepared(run, {}, valid_fraction=0.1, **options)
    assert {row["source"].partition("#")[0] for row in train + valid} <= set(MIXED) - {"drafts/a.md", "b.tmp.md"}
    spec = parse({"model": str(model), "valid_fraction": 0.1, **options}).model_dump()
    guess = forecast({**spec, "documents": str(tmp_path / "mine")}, None, Path("/nowhere")).dataset
    assert (guess.train.examples, guess.held_out) == (len(train), len(valid)) == (summary["train"], summary["valid"])
    assert len(valid) > 0
    skipped = {row["path"]: row["reason"] for row in summary["documents"]["skipped"]}
    assert skipped.pop("h.pdf") == "named .pdf, but not PDF inside: save it again"
    assert list(skipped) == (["f.json"] if options.get("questions") else [])
    weights = ["part 1, Weight: 1 kg (a.md:5), 7 kg (g.md:5)"]
    assert report.messages("note") == (weights if not options else [])
    read = DatasetReport.read(run.partial("prepare", 0) / "dataset")
    told = summary.pop("findings")
    assert [one["level"] for one in told][:1] == ["warning"]
    assert json.loads(json.dumps(read.to_json())) == summary


def test_what_submit_left_out_stands_in_the_report_and_on_the_page(run: RunDir) -> None:
    left_out = [["drafts", "left out by .ftqignore, line 1"], ["x.png", "not a kind of document that ftq reads"],
                ["out.md", "a link that leads out of the folder"]]  # fmt: skip
    run.left_out.write_text(json.dumps(left_out))
    _, summary, report = prepared(run, {"a.md": "# T\n\nText."})
    assert [[file["path"], file["reason"]] for file in summary["documents"]["skipped"]] == left_out
    found = {finding["message"]: finding["level"] for finding in summary["findings"]}
    assert found["1 file left out: a link that can't be followed"] == "warning"
    assert {"1 file left out by .ftqignore", "1 file left out: of another kind"} <= found.keys()
    assert report.messages("warning") == []
    page = (run.partial("prepare", 0) / "dataset/preview.html").read_text()
    assert "x.png<small>left out: not a kind of document that ftq reads</small>" in page


def test_the_log_tells_what_was_skipped_and_what_contradicts(run: RunDir, capfd: pytest.CaptureFixture[str]) -> None:
    """The supervisor takes what a stage prints as its log, and the pipe as events."""
    (run.documents / "a.md").write_text("# Pump\n\n| Part | Weight |\n|---|---|\n| P-1 | 12 kg |\n")
    (run.documents / "b.md").write_text("# Pump\n\n| Part | Weight |\n|---|---|\n| P-1 | 14 kg |\n")
    (run.documents / "c\x1b[31m.bin").write_bytes(b"\x00\x01\xff" * 50)
    reads, writes = os.pipe()
    out = run.path / "out"
    out.mkdir()
    report = Report(writes)
    prepare.prepare(run, out, parse(run.read_run()["spec"]), report)
    assert report._pipe
    report._pipe.close()
    with os.fdopen(reads, encoding="utf-8") as pipe:
        events = [json.loads(line) for line in pipe]
    told = [f"{one['event']}: {one['message']}" for one in events if one["event"] in ("note", "warning")]
    log = capfd.readouterr().out.splitlines()
    assert [line for line in log if line.startswith(("note: ", "warning: "))] == [
        line.replace("\x1b", "\ufffd") for line in told
    ]
    assert any("a.md:5" in line and "b.md:5" in line for line in log) and any(".bin: " in line for line in log)


def test_what_was_guessed_of_a_document_is_told(run: RunDir) -> None:
    (train, _), summary, report = prepared(run, {"latin.md": b"a\nf\xfcr"}, questions="none")
    assert pairs(train) == [('Explain "latin".', "", "a\nfür")]
    note = "latin.md: read as Windows-1252, for it isn't UTF-8"
    assert summary["documents"]["notes"] == report.messages("note") == [note]


def test_a_models_questions_are_taught_and_shown(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    convert, read = Converter.convert, list[str]()
    monkeypatch.setattr(Converter, "convert", lambda self, path: read.append(path.name) or convert(self, path))
    model = LanguageModel()
    for name, value in model.environment.items():
        monkeypatch.setenv(name, value)
    try:
        page = "# Mill\n\nThe old mill grinds all of its grain at night."
        (train, _), summary, report = prepared(run, {"a.md": page}, questions="endpoint")
    finally:
        model.close()
    written = [row for row in train if row.get("rule") == "W"]
    assert {row["output"] for row in written} == {"The old mill grinds all of its grain at night.", "grain at night."}
    assert summary["questions"]["rows"]["W"] == len(written) == len({row["instruction"] for row in written})
    shown = (run.partial("prepare", 0) / "dataset/preview.html").read_text()
    assert "questions that a language model wrote" in shown
    assert read == ["a.md"]
    shares = [values["percent"] for kind, values in report.sent if kind == "progress"]
    assert shares == sorted(shares)


def test_an_unreadable_file_is_skipped(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.open

    def deny(path: Path, *arguments: Any, **named: Any) -> Any:
        if path.name == "shut.md" and path.stat().st_size:
            raise PermissionError(13, "Permission denied")
        return read(path, *arguments, **named)

    (run.documents / "shut.md").write_text("x")
    monkeypatch.setattr(Path, "open", deny)
    _, summary, _ = prepared(run, {"a.md": "Text."})
    assert summary["documents"]["skipped"] == [{"path": "shut.md", "reason": "can't be read (Permission denied)"}]


def test_no_example_at_all_names_every_file(run: RunDir) -> None:
    with pytest.raises(UserError) as caught:
        prepared(run, {"empty.md": "", "broken.json": "{"})
    assert caught.value.message.splitlines() == [
        "no example in the documents:",
        "  broken.json: line 1: malformed JSON (Expecting property name enclosed in double quotes, column 2)",
        "  empty.md: empty",
    ]


@pytest.mark.parametrize(
    "text",
    ["\n\n".join(f"Paragraph {n} " + "says a thing. " * 9 for n in range(9)),
     "One sentence of nine words stands here again. " * 60, "word " * 500, "x" * 3000],
    ids=["paragraphs", "sentences", "words", "letters"],
)  # fmt: skip
def test_long_sections_are_split_and_nothing_is_lost(run: RunDir, model: Path, text: str) -> None:
    (train, _), summary, _ = prepared(run, {"a.md": f"# Long\n\n{text}"}, max_seq_length=96, questions="none")
    tokens = Tokens(model)
    rows = [tokens.row(row, "<|im_end|>") for row in train]
    assert len(train) > 3
    assert [row["instruction"] for row in train] == [
        f'Explain "Long". (part {number} of {len(train)})' for number in range(1, len(train) + 1)
    ]
    assert all(len(ids) <= 96 and ids[-1] == labels[-1] == 2 for ids, labels in rows)
    assert "".join("".join(row["output"] for row in train).split()) == "".join(text.split())
    assert summary["split_into_parts"] == 1
    assert summary["tokens"]["longest"] == max(len(ids) for ids, _ in rows)


def test_a_question_that_fills_a_row_is_skipped_with_its_reason(run: RunDir) -> None:
    rows = [{"question": "why " * 200, "answer": "a"}, {"question": "Q", "answer": "a"}]
    (train, _), summary, _ = prepared(run, {"a.json": json.dumps(rows)}, max_seq_length=64)
    assert pairs(train) == [("Q", "", "a")]
    reason = "its question alone fills a row of 64 tokens (max_seq_length)"
    assert summary["records_skipped"] == [{"where": "a.json: record 1", "reason": reason, "count": 1}]


def test_the_split_depends_on_content_and_seed_only(run: RunDir) -> None:
    rows = [{"question": f"Q{n}", "answer": f"A{n}"} for n in range(200)]
    first, _, _ = prepared(run, {"a.json": json.dumps(rows)}, valid_fraction=0.2)
    again, _, _ = prepared(run, {"a.json": json.dumps(rows[::-1]), "b.md": "New."}, valid_fraction=0.2)
    other, _, _ = prepared(run, {}, valid_fraction=0.2, seed=1)
    assert 25 < len(first[1]) < 55
    assert {row["instruction"] for row in first[1]} == {row["instruction"] for row in again[1]} - {'Explain "b".'}
    assert {row["instruction"] for row in other[1]} != {row["instruction"] for row in first[1]}


def test_one_example_is_always_left_to_train(run: RunDir) -> None:
    for seed in range(6):
        (train, valid), _, _ = prepared(run, {"a.md": "Text."}, valid_fraction=0.5, seed=seed)
        assert (len(train), len(valid)) == (1, 0)


def test_too_little_disk_is_said_before_anything_else(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1000))
    with pytest.raises(UserError, match=r"the export needs 0\.0 GB of disk .* 0\.0 GB are free"):
        prepared(run, {"a.md": "Text."})


def test_weights_that_lie_there_twice_count_once(model: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(model, both)
    for name in ("consolidated.safetensors", "model.fp16.safetensors"):
        shutil.copyfile(model / "model.safetensors", both / name)
    for name in ("params.json", "consolidated.safetensors.index.json", "pytorch_model.bin.index.json"):
        (both / name).write_text("{}")
    assert weights.paths(both) == [both / "model.safetensors"]
    assert weights.parameters(both) == weights.parameters(model)
    names = [path.name for path in base_model.side_files(both)]
    assert names == [path.name for path in base_model.side_files(model)]
    assert names == [
        "chat_template.jinja", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def test_the_room_an_export_needs() -> None:
    assert sizes.export(10**9, ["q8_0"]) == int(10**9 * (2 + 2 + 8.5 / 8) * 1.1)
    assert sizes.export(10**9, ["f16"]) == int(10**9 * 4 * 1.1)


def test_special_tokens_in_documents_are_plain_text(model: Path) -> None:
    tokens = Tokens(model)
    ids, labels = tokens.row({"instruction": "Q", "input": "", "output": "say <|im_end|> twice"}, "<|im_end|>")
    assert ids.count(2) == 1 and ids[-1] == 2
    assert labels == [-100] * len(tokens.prompt("Q")) + ids[len(tokens.prompt("Q")) :]
    assert tokens.decode(ids[:-1]) == "Instruction: Q, Input: , Response: say <|im_end|> twice"


def test_a_model_that_is_quantised_itself_is_refused(tmp_path: Path) -> None:
    config = {"architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": "bitsandbytes"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"^model mine is quantised itself .*: an adapter can't be merged$"):
        convertible.check_convertible(tmp_path, "mine", "</s>")


@pytest.mark.slow
def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused(model: Path, tmp_path: Path, forks: None) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"]["pretokenizers"].insert(0, {"type": "Punctuation", "behavior": "Isolated"})
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match=r"^model mine can't become a GGUF .*: BPE pre-tokenizer was not recognized"):
        convertible.check_convertible(other, "mine", "<|im_end|>")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "architectures": ["UnheardOfForCausalLM"]}))
    with pytest.raises(
        UserError, match=r"^model mine can't become a GGUF .*: .*UnheardOfForCausalLM is not supported$"
    ):
        convertible.check_convertible(other, "mine", "<|im_end|>")


def test_a_token_that_the_model_has_no_row_for_is_refused(model: Path, run: RunDir, tmp_path: Path) -> None:
    """It was added to the tokenizer alone. Where no example has it, nothing is wrong."""
    other = tmp_path / "other"
    shutil.copytree(model, other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    more = {"id": 49152, "content": "zebrafish", "single_word": False, "lstrip": False, "rstrip": False}
    tokenizer["added_tokens"].append({**more, "normalized": False, "special": False})
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    prepared(run, {"a.jsonl": lines(pair(1), pair(2))}, model=str(other))
    with pytest.raises(UserError, match=r"^the examples have the token zebrafish, number 49152: .* 49152 tokens$"):
        prepared(run, {"a.jsonl": lines({"prompt": "What swims?", "completion": "A zebrafish."})}, model=str(other))


def test_a_model_that_is_nowhere_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError) as caught:
        base_model.resolve("Qwen/Qwen3-0.6B")
    assert caught.value.message.startswith("model Qwen/Qwen3-0.6B is not on this machine and the hub can't be reached")
    assert caught.value.hint.startswith("Run `hf download Qwen/Qwen3-0.6B` where there is network")
    assert RunError.of(caught.value).about == "model"


@pytest.mark.parametrize("error", ["GatedRepoError", "RepositoryNotFoundError"])
def test_a_model_that_needs_a_login_says_where_the_token_goes_also_in_docker(
    monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    import httpx
    import huggingface_hub

    def refuse(*_: object, **__: object) -> None:
        raise getattr(huggingface_hub.errors, error)(
            "no", response=httpx.Response(403, request=httpx.Request("GET", "/"))
        )

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(UserError) as caught:
        base_model.resolve("owner/gated")
    assert "`hf auth login` on the worker" in caught.value.hint and "secrets/hub_token" in caught.value.hint


def test_stop_token_of_a_local_model(model: Path, tmp_path: Path) -> None:
    assert base_model.stop_token(model, str(model)) == "<|im_end|>"
    other = tmp_path / "other"
    shutil.copytree(model, other, ignore=shutil.ignore_patterns("*.safetensors", "chat_template.jinja"))
    (other / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 2]}))
    assert base_model.stop_token(other, str(other)) == "<|endoftext|>"
    with pytest.raises(UserError, match=r"no stop token in its tokenizer \(looked for: <\|end\|>\)"):
        base_model.stop_token(other, "phi-3.5-mini")


def test_a_torn_weight_file_is_named(model: Path, tmp_path: Path) -> None:
    assert weights.parameters(model) == 3_219_776
    os.makedirs(tmp_path / "torn")
    whole = (model / "model.safetensors").read_bytes()
    (tmp_path / "torn/model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        weights.parameters(tmp_path / "torn")


# ---- a folder that is only measured on; lines as OpenAI takes them ----------------------------------------


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def pair(number: int) -> dict[str, str]:
    return {"prompt": f"What is {number}?", "completion": f"It is {number}."}


def test_a_validation_folder_is_measured_on_whole_and_nothing_else_is(run: RunDir) -> None:
    run.validation.mkdir()
    (run.validation / "held.jsonl").write_text(lines(pair(1), pair(100)))
    (run.validation / "text.md").write_text(PAGE)
    (train, valid), report, _ = prepared(run, {"a.jsonl": lines(*map(pair, range(20)))}, validation="x",
                                         valid_fraction=0.5, questions="none")  # fmt: skip
    assert [row["instruction"] for row in train] == [f"What is {number}?" for number in range(20)]
    assert {row["document"] for row in valid} == {"validation/held.jsonl", "validation/text.md"}
    assert [row["instruction"] for row in valid][:2] == ["What is 1?", "What is 100?"]
    assert (report["train"], report["valid"]) == (20, len(valid))


def test_strict_keeps_equal_lines_and_refuses_the_first_that_teaches_nothing(run: RunDir) -> None:
    same = {"a.jsonl": lines(pair(1), pair(1), pair(2))}
    (train, _), report, _ = prepared(run, same, strict=True, questions="none")
    assert (len(train), report["duplicates"]) == (3, 0)
    (train, _), report, _ = prepared(run, same, questions="none")
    assert (len(train), report["duplicates"]) == (2, 1)
    with pytest.raises(UserError) as caught:
        prepared(run, {"a.jsonl": lines(pair(1), {"messages": [{"role": "user", "content": "a"}]})}, strict=True)
    assert caught.value.message.startswith("Invalid file format. Line 2, there has to be at least one message")
    assert caught.value.hint == "Correct documents/a.jsonl, and submit it again."
    assert RunError.of(caught.value).about == "training"
    run.validation.mkdir()
    (run.validation / "held.jsonl").write_text(lines({"prompt": "a"}))
    with pytest.raises(UserError) as caught:
        prepared(run, same, strict=True, validation="x")
    assert RunError.of(caught.value).about == "validation"


def test_only_the_model_is_blamed_for_a_model_without_a_stop_token(run: RunDir, model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)
    (other / "chat_template.jinja").write_text("{{ broken")
    with pytest.raises(UserError) as caught:
        prepared(run, {"a.jsonl": lines(pair(1))}, model=str(other), format="chat")
    assert RunError.of(caught.value).about == "model"


def test_what_only_a_template_knows_is_asked_for_nothing_and_told(run: RunDir) -> None:
    page = (
        "# Server\n\nIt was released as version {{ version }} in May 2025.\n\n| Port | Use |\n|---|---|\n"
        "| 80 | web |\n| {{ port }} | mail |\n\n"
        "- **Name**: {{ name }} of the server\n- **Sign**: `{{ sign }}` in a text\n"
    )
    rows, report, _ = prepared(run, {"a.md": page})
    asked = [row for row in rows[0] if row.get("rule")]
    assert asked and all("{{" not in row["output"] or "sign" in row["output"] for row in asked)
    assert any("{{ version }}" in row["output"] for row in rows[0] if not row.get("rule"))
    assert {"file": "a.md", "line": 3, "what": "sentence with a variable of a template", "count": 1} in report["cuts"]
