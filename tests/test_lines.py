"""Lines end at line feeds: U+2028, a form feed and others that `str.splitlines` ends them at are part of a text."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from cli_tools import run
from test_messages import ROOT, SOURCES

from ftq.errors import FtqError, first_line, in_line, lines
from ftq.examples.dataset import questions_of
from ftq.examples.read import read
from ftq.examples.records.given import Stated
from ftq.formats import headings
from ftq.spec.options import parse
from ftq.store.gateway.keys import Key, Limits
from ftq.words import LineBuffer
from gateway.chat.answer import event
from gateway.page import submit

SIGNS = "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e"
EACH = [pytest.param(sign, id=f"{ord(sign):x}") for sign in SIGNS]


def test_lines_are_those_of_an_editor() -> None:
    assert lines(f"a{SIGNS}\r\nb\rc\n\nd\n") == [f"a{SIGNS}", "b\rc", "", "d"]
    assert (lines(""), lines("\n"), lines("a")) == ([], [""], ["a"])


def test_lines_come_in_pieces() -> None:
    text = f"a{SIGNS}\n\nb\r\nc".encode()
    for size in (1, 2, 5, len(text)):
        whole = LineBuffer()
        pieces = [text[begin : begin + size] for begin in range(0, len(text), size)]
        assert [line for piece in pieces for line in whole.take(piece)] == [f"a{SIGNS}".encode(), b"", b"b\r"]
        assert whole.rest == b"c"


# Of machines: ASCII, or bytes, whose `splitlines` ends them at \n and \r alone.
OTHERS = {
    "ftq/delivery/pull.py", "ftq/doctor/database.py", "ftq/doctor/machine.py", "ftq/files/log_head.py",
    "ftq/formats/child.py", "ftq/formats/convert.py", "worker/llama/check.py", "worker/llama/base.py",
    "worker/llama/logits.py", "worker/llama/server.py", "worker/doctor/limits.py", "worker/doctor/gpu.py",
    "worker/doctor/deep.py", "worker/gguf/quantize.py", "worker/stages/model/check/loads.py",
    "worker/stages/process/main.py", "worker/stages/process/ranks.py", "worker/stages/engine/fp8.py",
    "worker/stages/train/watcher.py", "worker/stages/train/train.py", "worker/machine/cgroup.py",
    "worker/machine/nvidia_smi.py", "worker/machine/hardware.py", "worker/flower/login.py", "worker/host/broker.py",
    "gateway/jobs/results.py", "cli/commands/doctor.py",
}  # fmt: skip


def test_what_people_write_is_not_split_at_other_signs() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("splitlines", "iter_lines")
    }
    assert found == OTHERS


@pytest.mark.parametrize("sign", EACH)
def test_a_message_is_not_torn(sign: str) -> None:
    name = f"a{sign}b"
    assert first_line(ValueError(f"{name} is bad\nmore")) == f"{name} is bad"
    assert in_line(f"{name} is bad", "Go.") == f"{name} is bad. Go."
    shown = name if ord(sign) > 255 else "a\ufffdb"
    told = run("check", name)
    assert (told.exit_code, told.stderr.split("\n")[0]) == (2, f"Error: documents {shown}: there is no such folder")


def test_an_error_without_words_is_called_by_its_name() -> None:
    assert (first_line(MemoryError()), first_line(FtqError("\n\na"))) == ("MemoryError", "a")


# Documents

DOCUMENTS = {
    "a.md": "# Guide\n\nIntro here.\n\n"
    "## Timeout of@the pump\n\nThe default@timeout is 30 seconds.\n\n- **Colour@tone**: red\n\n"
    "| Name | Value |\n|---|---|\n| a@b | 5 kg |\n| d | 6 kg |\n\n```\ncode@line\n```\n\n## After\n\n"
    "The warranty lasts 24 months.\n",
    "a.mdx": "---\ntitle: A b\n---\nimport x from 'y'\n\n# Head\n\nText with@``` inside.\n\nIt has {1 + 1} parts.\n\n"
    "## After\n\nThe warranty lasts 24 months.\n",
    "a.txt": "Pump manual\n===========\n\nThe timeout@is 30 seconds.\n\nOther\n-----\n\nThe weight is 3 kg.\n",
    "a.html": "<h1>Pump</h1><p>The timeout@is 30 seconds.</p><pre>a@b</pre><h2>After</h2><p>It lasts 24 months.</p>",
    "a.csv": 'question,answer\nWhat is a@b?,It is@so\n"What is@c?","The@answer"\nWhat is d?,It is d\n',
    "b.csv": "name,weight,colour\nalpha@one,3 kg,red\nbeta,4 kg,blue\ngamma,5 kg,green\n",
}  # fmt: skip
RECORDS = [{"instruction": f"What is {number}@x?", "output": f"It is@{number}."} for number in range(3)]


@pytest.mark.parametrize("sign", EACH)
def test_a_document_reads_as_with_a_blank_there(sign: str, tmp_path: Path) -> None:
    """As many examples, in the same places."""
    for name, text in DOCUMENTS.items():
        assert _read(tmp_path, name, text, sign) == _read(tmp_path, name, text, " ")
    rows = [{key: text.replace("@", sign) for key, text in row.items()} for row in RECORDS]
    records = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    plain = "".join(json.dumps(row) + "\n" for row in RECORDS)
    assert _read(tmp_path, "a.jsonl", records, sign) == _read(tmp_path, "a.jsonl", plain, " ")


def test_a_fact_of_front_matter_has_its_line(tmp_path: Path) -> None:
    front = '---\ntitle: "The@pump"\ndescription: All that the green pump needs.\n---\n# Pump\n\nIt pumps.\n'
    assert "line=3, rule='F'" in _read(tmp_path, "a.md", front, "\u2028")[-1]


def _read(folder: Path, name: str, text: str, sign: str) -> list[str]:
    (folder / name).write_text(text.replace("@", sign), encoding="utf-8")
    options = questions_of(parse({"model": "smollm2-135m"}))
    assert options
    found = [row if not isinstance(row, Stated) else (row.facts, row.cuts) for row in read(folder, rules=options.rules)]
    (folder / name).unlink()
    return [str(row).replace(repr(sign)[1:-1], " ") for row in found]


def test_pages_of_a_text_begin_paragraphs_and_leave_its_lines_where_they_are() -> None:
    text = "The end\nof a page.\n\fINTRODUCTION\n\nOf the next.\n\n\f\nA third\n\fgoes on.\n\fTITLE\n=====\n\nA\fB.\n"
    assert headings.of_text(text) == (
        "The end\nof a page.\n# INTRODUCTION\n\nOf the next.\n\n\nA third\ngoes on.\n# TITLE\n\n\nA B.\n"
    )
    assert headings.of_text(text).count("\n") == text.count("\n")


# What goes out


@pytest.mark.parametrize("sign", EACH)
def test_a_stream_of_events_is_read_whole_by_every_client(sign: str) -> None:
    told = event({"delta": f"a{sign}b"})
    assert told.decode().splitlines() == [f"data: {json.dumps({'delta': f'a{sign}b'}, separators=(',', ':'))}", ""]


def test_options_of_the_form_are_a_line_each() -> None:
    key = Key("key_1", "ana", "sk-...", False, Limits(), 0.0)
    assert submit._more_options('prompts=["a\u2028b"]\r\n\r\nepochs=5\r\n', key) == {
        "prompts": '["a\u2028b"]', "epochs": "5",
    }  # fmt: skip
