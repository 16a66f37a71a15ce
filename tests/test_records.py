"""JSON: numbers as they are written, keys that stand twice, what names a record, answers that are not learned."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftq.examples import json_records
from ftq.examples.json_records import KNOWN, values
from ftq.examples.read import read
from ftq.examples.records.called import line_of
from ftq.examples.records.checked import message_of
from ftq.examples.records.given import Candidate, LeftOut, Stated
from ftq.examples.records.texts import key_of
from ftq.facts import ALL, facts_of_json
from tests.looked import looked, told


def stated(source: str, file: str = "a.json") -> list[tuple[str, str, str]]:
    return [(fact.subject, fact.attribute, fact.value) for fact in facts_of_json(source, file)]


@pytest.mark.parametrize("number", ["7" * 5000, "12345678901234567890", "1e400", "-2.50", "1E-7"])
def test_a_number_is_told_as_it_is_written_and_ends_no_file(number: str, tmp_path: Path) -> None:
    line = f'{{"name": "a", "n": {number}, "m": 3}}'
    for source, name in ((line, "a.json"), (f"{line}\n{line.replace('a', 'b')}", "a.jsonl")):
        values = {attribute: value for _, attribute, value in stated(source, name)}
        assert values == {"m": "3"} | ({"n": number} if len(number) < 400 else {})
    rows = f'{{"question": "p", "answer": "a"}}\n{{"question": "q", "answer": "b", "n": {number}}}\n'
    assert looked(tmp_path, {"rows.jsonl": rows})[0] == [("p", "a"), ("q", "b")]


def test_no_number_states_nothing() -> None:
    assert stated('{"name": "a", "x": NaN, "y": Infinity, "z": -Infinity, "w": null, "m": 1}') == [("a", "m", "1")]


def test_a_key_that_stands_twice_is_told(tmp_path: Path) -> None:
    rows = '{"question": "a", "question": "b", "answer": "x"}\n{"question": "c", "answer": "y", "id": 1, "id": 2}\n'
    chat = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "content": "b"}]}\n'
    data = '{"name": "pump", "weight": "1 kg", "weight": "2 kg", "color": "red", "color": "red", "x": "\\ud800"}'
    taken, checked = looked(tmp_path, {"rows.jsonl": rows + chat, "pump.json": data})
    assert taken == [("c", "y")]
    assert [(record.where, record.reason) for record in checked.report.records_skipped] == [
        ("rows.jsonl: line 1", "the key question stands twice in it, with different values: keep one"),
        ("rows.jsonl: line 3", "the key content stands twice in it, with different values: keep one"),
    ]
    assert told(checked)["1 value of a key that stands twice left out"] == ("pump.json:1",)
    assert told(checked)["1 value with half a character in it left out"] == ("pump.json:1",)
    assert stated(data) == [("pump", "color", "red")]


@pytest.mark.parametrize(
    ("source", "facts"),
    [
        ('[{"part": "P-1", "kg": 3}, {"part": "P-2", "kg": 3}]', [("P-1", "kg", "3"), ("P-2", "kg", "3")]),
        ('[{"kg": 3, "sku": 17}, {"kg": 3, "sku": 18}]', [("sku 17", "kg", "3"), ("sku 18", "kg", "3")]),
        ('[{"city": "Rome", "x": 1}, {"city": "Oslo", "x": 1}]', [("Rome", "x", "1"), ("Oslo", "x", "1")]),
        (
            '[{"name": "Bolt", "no": "B4", "kg": 1}, {"name": "Bolt", "no": "B5", "kg": 2}]',
            [("B4", "name", "Bolt"), ("B4", "kg", "1"), ("B5", "name", "Bolt"), ("B5", "kg", "2")],
        ),
        (
            '[{"price": 2.5, "row": 7, "x": "a b"}, {"price": 3.5, "row": 8, "x": "a b"}]',
            [("row 7", "price", "2.5"), ("row 7", "x", "a b"), ("row 8", "price", "3.5"), ("row 8", "x", "a b")],
        ),
        ('{"parts": [{"part": "P-1", "kg": 3}]}', [("P-1", "kg", "3")]),
        ('{"server": {"host": "a.b", "port": 80}}', [("server", "host", "a.b"), ("server", "port", "80")]),
        ('{"port": 80}', [("a", "port", "80")]),
        ('{"part": "P-1", "kg": 3}\n{"part": "P-2", "kg": 3}', [("P-1", "kg", "3"), ("P-2", "kg", "3")]),
    ],
    ids=["text", "number", "any text", "no unique name", "any number", "alone", "inside", "settings", "lines"],
)
def test_any_field_that_tells_records_apart_names_them(source: str, facts: list[tuple[str, str, str]]) -> None:
    assert stated(source) == facts


def test_records_that_nothing_names_are_told_with_what_to_write(tmp_path: Path) -> None:
    documents = {
        "lines.jsonl": '{"part": "P-1", "kg": 3}\n{"part": "P-2", "kg": 3}\n{"kg": 3}\n',
        "none.json": '[{"kg": 3}, {"kg": 3}]',
        "typo.json": '[{"question": "a", "anwser": "b"}]',
    }
    _, checked = looked(tmp_path, documents)
    known = "instruction/output, prompt/completion, question/answer or messages"
    unnamed = (
        "no field tells this record from the others: give each one a name, title, id, key, label, slug or code of its "
        f"own, or {known}; this one has kg"
    )
    assert [(record.where, record.reason) for record in checked.report.records_skipped] == [
        ("lines.jsonl: line 3", unnamed),
        ("none.json: record 1", unnamed),
        ("none.json: record 2", unnamed),
        ("typo.json: record 1", f"a record needs {known}; this one has question, anwser"),
    ]
    assert [(file.path, file.facts) for file in checked.report.documents.used] == [("lines.jsonl", 2)]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({}, ""),
        ({"weight": 1}, ""),
        ({"train": True}, ""),
        ({"weight": 0}, "of weight 0"),
        ({"train": False}, "with train: false"),
        ({"weight": 1, "train": False}, "with train: false"),
        ({"weight": 0, "train": True}, "of weight 0"),
        ({"training": False}, "with training: false"),
        ({"weight": False}, "of weight 0"),
        ({"weight": None, "train": None}, ""),
    ],
)
def test_either_way_to_say_that_an_answer_is_not_learned_suffices(keys: dict[str, object], why: str) -> None:
    assert message_of({"role": "assistant", "content": "a", **keys}) == ("assistant", "a", why)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"weight": 0.5}, "a message's weight must be 0 or 1, not 0.5"),
        ({"weight": "0"}, "a message's weight must be 0 or 1, not 0"),
        ({"train": "no"}, "a message's train must be true or false, not text"),
    ],
)
def test_what_says_neither_is_refused(keys: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        message_of({"role": "assistant", "content": "a", **keys})


def test_keys_of_messages_that_nothing_reads_are_told(tmp_path: Path) -> None:
    """Real collections have ids and languages in their messages: these are used, and a misspelt key is seen."""
    user, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    plain = {"role": "user", "content": [{"type": "text", "text": "q", "lang": "en"}]}
    rows = [
        [user | {"contnet": "more", "tool_calls": None, "id": ""}, answer],
        [plain, answer | {"wieght": 0, "tool_calls": [{"id": "c"}]}],
        [user, answer | {"tool_calls": [{"id": "d"}]}],
    ]
    lines = "".join(json.dumps({"messages": row, "id": 7}) + "\n" for row in rows)
    shared = [{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "markdown": True}]}]
    taken, checked = looked(tmp_path, {"a.jsonl": lines, "b.json": json.dumps(shared)})
    assert taken == [("q", "a")]
    assert told(checked)["2 documents whose messages have keys that nothing reads"] == (
        "a.jsonl: messages have keys that nothing reads: contnet (line 1: did you mean content?), "
        "content.lang (line 2), tool_calls (line 2 and 1 more), wieght (line 2: did you mean weight?)",
        "b.json: messages have keys that nothing reads: markdown (record 1)",
    )
    assert {one.level for one in checked.findings if "nothing reads" in one.message} == {"warning"}
    (tmp_path / "a.jsonl").unlink()
    _, checked = looked(tmp_path, {"b.json": json.dumps(shared)})
    assert {one.level for one in checked.findings if "nothing reads" in one.message} == {"note"}


TEXTS = {
    "alone": '{"text": "The pump moves water."}\n{"text": "The valve holds it back."}\n',
    "content": '{"content": "The pump moves water."}\n{"content": "The valve holds it back."}\n',
    "with metadata": '{"id": 1, "url": "http://a", "text": "The pump moves water.", "meta": {"set": "x"}}\n'
    '{"id": 2, "url": "http://b", "text": "The valve holds it back.", "meta": {}}\n',
}


@pytest.mark.parametrize("source", TEXTS.values(), ids=TEXTS.keys())
def test_each_text_of_json_lines_is_a_document(source: str, tmp_path: Path) -> None:
    taken, checked = looked(tmp_path, {"corpus.jsonl": source})
    assert taken == [
        ('Explain "The pump moves water".', "The pump moves water."),
        ('Explain "The valve holds it back".', "The valve holds it back."),
    ]
    assert checked.report.records_skipped == [] and checked.report.documents.skipped == []
    [used] = checked.report.documents.used
    assert (used.path, used.examples) == ("corpus.jsonl", 2) and used.facts > 0


def test_a_text_has_sections_facts_and_the_line_of_its_file(tmp_path: Path) -> None:
    long = "# Pump\\n\\nThe pump lifts water.\\n\\n## Care\\n\\n| part | interval |\\n|---|---|\\n| seal | 90 days |"
    lines = [
        '{"text": "Short and plain."}',
        f'{{"title": "Handbook", "text": "{long}", "url": "http://a"}}',
        '{"text": ""}',
        '{"text": "x \\ud800"}',
        '{"instruction": "Who?", "output": "Me."}',
        '{"url": "http://a"}',
        "7",
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    rows = list(read(tmp_path, rules=ALL))
    taken = [row for row in rows if isinstance(row, Candidate)]
    assert [(row.where, row.instruction, row.is_record) for row in taken] == [
        ("a.jsonl: line 1", 'Explain "Short and plain".', False),
        ("a.jsonl: line 2", 'Explain "Pump" (Handbook).', False),
        ("a.jsonl: line 2", 'Explain "Care" (Handbook, Pump).', False),
        ("a.jsonl: line 5", "Who?", True),
    ]
    assert [(row.where, row.reason) for row in rows if isinstance(row, LeftOut)] == [
        ("a.jsonl: line 3", "text is empty"),
        ("a.jsonl: line 4", "text holds half a character (a lone surrogate)"),
        ("a.jsonl: line 6", f"a record needs {KNOWN}; this one has url"),
        ("a.jsonl: line 7", "a record must be an object, not a number"),
    ]
    [stated] = [row for row in rows if isinstance(row, Stated)]
    assert ("seal", "interval", "90 days", "a.jsonl", 2) in [
        (fact.subject, fact.attribute, fact.value, fact.file, fact.line) for fact in stated.facts
    ]


LONG = "word " * 100


def test_numbers_beside_a_long_text_make_it_no_data(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"id": "<urn:1>", "text": "{LONG}", "token_count": 100, "score": 0.9}}')
    assert key_of(values(tmp_path / "a.jsonl")) == "text"


NO_TEXTS = {
    "record": '{"instruction": "q", "output": "a", "text": "whole"}',
    "half a record": f'{{"prompt": "q", "text": "{LONG}"}}',
    "chat": '{"messages": [], "text": "whole"}',
    "data": '{"name": "Pump", "text": "It moves water well.", "kg": 3}',
    "data with a title": f'{{"title": "Pump", "text": "{LONG}", "kg": 3}}',
    "data with a long text": f'{{"sku": "P-1", "text": "{LONG}", "kg": 3}}',
    "titled": '{"title": "Pump", "text": "It moves water well."}',
    "labelled": '{"text": "bad film", "label": 0}',
    "no text": '{"text": 7}',
}


@pytest.mark.parametrize("source", NO_TEXTS.values(), ids=NO_TEXTS.keys())
def test_what_other_keys_make_a_record_or_data_stays_so(source: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(source + "\n")
    assert key_of(values(tmp_path / "a.jsonl")) == ""


def test_texts_in_json_are_documents_too(tmp_path: Path) -> None:
    documents = {"list.json": '[{"text": "The pump moves water."}]', "one.json": '{"content": "The valve holds."}'}
    assert looked(tmp_path, documents)[0] == [
        ('Explain "The pump moves water".', "The pump moves water."),
        ('Explain "The valve holds".', "The valve holds."),
    ]


@pytest.mark.parametrize("record", [{"text": "The pump moves water."}, {"question": "Who?", "answer": "The shop."}])
def test_json_of_records_is_parsed_once(
    record: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text(json.dumps([record] * 2_000))
    parsed, text_of = list[Path](), json_records.text_of
    monkeypatch.setattr(json_records, "text_of", lambda path: parsed.append(path) or text_of(path))
    assert sum(isinstance(row, Candidate) for row in read(tmp_path, rules=ALL)) == 2_000
    assert parsed == [tmp_path / "a.json"]


PICTURE = {"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}
VISION = {
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, PICTURE]},
        {"role": "assistant", "content": "A pump."},
    ]
}
FAULTY = {
    "vision": VISION,
    "no list": {"messages": {"role": "user", "content": "Hi."}},
    "empty chat": {"messages": [], "name": "pump"},
    "no answer": {"Question": "Who?", "name": "Ann", "details": {"city": "Rome"}},
    "empty answer": {"instruction": "Who?", "output": "", "name": "Ann"},
    "typo": {"prompt": "Who?", "compeltion": "Me.", "name": "Ann"},
}


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize("record", FAULTY.values(), ids=FAULTY.keys())
def test_a_faulty_record_is_told_once_and_never_taught_as_data(
    record: dict[str, object], name: str, tmp_path: Path
) -> None:
    rows = [{**record, "n": number} for number in range(12)]
    text = "\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(rows)
    taken, checked = looked(tmp_path, {name: text, "b.md": "# B\n\nText.\n"})
    word = "line" if name.endswith("l") else "record"
    assert [one.where for one in checked.report.records_skipped] == [f"{name}: {word} {n}" for n in range(1, 13)]
    assert [file.path for file in checked.report.documents.used] == ["b.md"]
    assert taken == [('Explain "B".', "Text.")]


def test_parts_of_a_message_that_are_all_text_are_its_text() -> None:
    parts = [{"type": "text", "text": "One."}, {"type": "input_text", "text": "Two."}, "Three."]
    assert message_of({"role": "user", "content": parts}) == ("user", "One.\nTwo.\nThree.", "")
    with pytest.raises(ValueError, match=r"the user message's content has a part that is no text \(image_url\)"):
        message_of(VISION["messages"][0])


lines = st.one_of(
    st.sampled_from(
        ["42", "null", "true", '"just a string"', '["x", "list"]', "[]", "{}", "[{}]", "{bad", '{"name": "z"}']
    ),
    st.just('{"name": "pump N", "weight": "N kg"}'),
    st.just('{"name": "pump N", "parts": [{"seal": "N mm"}, 7]}'),
    st.just('{"name": "pump N", "text": "It moves water."}'),
    st.just('{"question": "What is N?", "answer": "It is N."}'),
    st.just('{"data": {"faq": [{"q": "What is N?", "a": "It is N."}]}}'),
    st.just('{"question": "What is N?"}'),
    st.just(json.dumps(VISION)),
    st.just('{"text": "The pump N moves water."}'),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(lines, min_size=1, max_size=12))
def test_each_line_of_json_lines_is_used_or_skipped_once(
    tmp_path_factory: pytest.TempPathFactory, written: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    (folder / "a.jsonl").write_text("\n".join(line.replace("N", str(n)) for n, line in enumerate(written, start=1)))
    used, skipped = set[int](), list[int]()
    for row in read(folder, rules=ALL):
        if isinstance(row, Candidate):
            used.add(line_of(row.where.removeprefix("a.jsonl: ")))
        elif isinstance(row, Stated):
            used |= {fact.line for fact in row.facts}
        elif isinstance(row, LeftOut):
            skipped.append(line_of(row.where.removeprefix("a.jsonl: ")))
    assert sorted([*used, *skipped]) == list(range(1, len(written) + 1))


LAST = [("Which key?", "Enter."), ("How long?", "Two hours.")]
SHAPES = {
    "cases.jsonl": '{"Question": "Which key?", "ANSWER": "Enter."}\n{"question": "How long?", "Answer": "Two hours."}',
    "short.jsonl": '{"q": "Which key?", "a": "Enter."}\n{"Q": "How long?", "A": "Two hours."}',
    "german.jsonl": '{"frage": "Which key?", "antwort": "Enter."}\n{"Frage": "How long?", "Antwort": "Two hours."}',
    "deep.json": '{"v": 1, "data": {"faq": [{"question": "Which key?", "answer": "Enter."}], "more": {"x": [{"y":'
    '{"question": "How long?", "answer": "Two hours."}}]}}}',
    "lists.json": '[{"x": "a", "faq": [{"q": "Which key?", "a": "Enter."}, {"q": "How long?", "a": "Two hours."}]}]',
    "lists.jsonl": '[{"q": "Which key?", "a": "Enter."}]\n{"x": [{"q": "How long?", "a": "Two hours."}]}',
}


@pytest.mark.parametrize("name", SHAPES)
def test_pairs_of_question_and_answer_are_records_in_any_case_and_depth(name: str, tmp_path: Path) -> None:
    taken, checked = looked(tmp_path, {name: SHAPES[name]})
    assert taken == LAST
    assert checked.report.records_skipped == [] and checked.facts == 0


def test_a_key_in_two_cases_with_two_values_is_refused(tmp_path: Path) -> None:
    _, checked = looked(tmp_path, {"a.jsonl": '{"question": "Who?", "Question": "What?", "answer": "Me."}'})
    assert [file.reason for file in checked.report.documents.skipped] == [
        "nothing usable: line 1: the key question stands twice in it, with different values: keep one"
    ]


@pytest.mark.parametrize("source", ['{"a": "alpha", "b": "bravo", "q": "quebec"}', '{"q": 3, "a": 4}'])
def test_letters_of_other_things_are_no_question_and_answer(source: str, tmp_path: Path) -> None:
    assert looked(tmp_path, {"letters.json": source})[0] == []


def test_a_question_in_data_neither_names_a_record_nor_answers(tmp_path: Path) -> None:
    rows = '[{"x": "Which key?", "y": "Enter.", "n": 3}, {"x": "How long?", "y": "An hour.", "n": 4}]'
    assert stated(rows) == [("Enter.", "n", "3"), ("An hour.", "n", "4")]
    _, checked = looked(tmp_path, {"a.json": rows})
    assert told(checked)["2 questions in data of JSON left out"] == ("a.json:1: 2",)


@pytest.mark.parametrize("rest", ["", ', "caption": "A pump."'])
def test_what_is_no_text_in_data_is_told(rest: str, tmp_path: Path) -> None:
    blob = base64.b64encode(random.Random(0).randbytes(3000)).decode()
    rows = ", ".join(
        f'{{"id": "p{n}"{rest}, "image": "{blob}", "deep": {{"a": {{"b": ["x", "{blob}"]}}}}}}' for n in (1, 2)
    )
    _, checked = looked(tmp_path, {"a.json": f"[{rows}]", "b.md": "# B\n\nText.\n"})
    assert told(checked)["16,000 characters of pictures, keys and dumps left out"] == ("a.json: 16,000",)


TABLES = {
    "a.csv": 'question,answer\nWhich key?,Enter.\n\n"How\n long?","Two, hours."\nNone?,\nA?,B,C\n',
    "b.csv": "id;Question ; Answer;context\n1;Which key?;Enter.;\n\n"
    '2;"How\n long?";Two, hours.;\n3;None?;;\n4;A?;B;;C\n',
    "c.tsv": 'Prompt\tCompletion\nWhich key?\tEnter.\n\n"How\n long?"\tTwo, hours.\nNone?\t\nA?\tB\tC\n',
    "d.csv": "\ufeffinstruction,output\r\n"
    'Which key?,Enter.\r\n\r\n"How\r\n long?","Two, hours."\r\nNone?,\r\nA?,B,C\r\n',
}


@pytest.mark.parametrize("name", TABLES)
def test_rows_below_a_pair_of_names_are_records(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TABLES[name].encode())
    taken, checked = looked(tmp_path, {})
    assert [(question.split(), answer) for question, answer in taken] == [
        (["Which", "key?"], "Enter."),
        (["How", "long?"], "Two, hours."),
    ]
    second, fourth = checked.report.records_skipped
    assert (second.where, fourth.where) == (f"{name}: line 6", f"{name}: line 7")
    assert second.reason in [f"{answer} is empty" for answer in ("answer", "output", "completion")]
    assert fourth.reason.endswith(": put a text that holds the separator between double quotes")
    assert checked.findings[0].count == 2


def test_a_table_of_other_things_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("Part\tWeight\npump\t12 kg\nvalve\t3 kg\n")
    facts = [fact for row in read(tmp_path, rules=ALL) if isinstance(row, Stated) for fact in row.facts]
    assert [(fact.subject, fact.attribute, fact.value) for fact in facts] == [
        ("pump", "Weight", "12 kg"),
        ("valve", "Weight", "3 kg"),
    ]


MILL = "The mill was built in 1820 by Anna Kern."
SQUAD = {"version": "2.0", "data": [{"title": "Mill", "paragraphs": [{"context": MILL, "qas": [
    {"id": "1", "question": "When?", "answers": [{"text": "1820", "answer_start": 22}, {"text": "in 1820"}]},
    {"id": "2", "question": "Who sold it?", "is_impossible": True, "answers": []},
]}]}]}  # fmt: skip


@pytest.mark.parametrize(
    "source",
    [
        json.dumps(SQUAD),
        json.dumps([
            {"context": MILL, "question": "When?", "answers": {"text": ["1820", "in 1820"], "answer_start": [22]}},
            {"context": MILL, "question": "Who sold it?", "answers": {"text": [], "answer_start": []}},
        ]),
        json.dumps([
            {"context": MILL, "question": "When?", "answers": ["1820", "in 1820"]},
            {"context": MILL, "question": "Who sold it?", "answers": []},
        ]),
    ],
)  # fmt: skip
def test_of_several_answers_the_first_is_taught(source: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(source)
    rows = list(read(tmp_path))
    assert [(row.instruction, row.input, row.blocks) for row in rows if isinstance(row, Candidate)] == [
        ("When?", MILL, ("1820",))
    ]
    assert [row.reason for row in rows if isinstance(row, LeftOut)] == ["answer is empty"]


def test_an_answer_of_its_own_is_not_replaced() -> None:
    record = {"question": "When?", "answer": "In 1820.", "answers": ["1820"]}
    assert json_records.read(record) == [{"instruction": "When?", "input": "", "output": "In 1820."}]


def _said(id: str, parent: str, role: str, *parts: object, **more: object) -> dict[str, object]:
    content = {"content_type": "text", "parts": list(parts)}
    return {"id": id, "parent": parent, "message": {"author": {"role": role}, "content": content, **more}}


def test_a_conversation_of_chatgpt_is_the_branch_that_was_shown(tmp_path: Path) -> None:
    nodes = [
        _said("a", "root", "system", ""),
        _said("b", "a", "user", "When was the mill built?", {"asset_pointer": "a picture"}),
        _said("x", "b", "assistant", "In another branch."),
        _said("c", "b", "assistant", "search(mill)", recipient="browser"),
        _said("d", "c", "tool", "found"),
        _said("e", "d", "assistant", "In 1820."),
        _said("f", "e", "user", "By whom?"),
        _said("g", "f", "assistant", "By Anna Kern."),
    ]
    mapping = {"root": {"id": "root", "parent": None, "message": None}} | {str(node["id"]): node for node in nodes}
    whole = {"title": "Mill", "create_time": 1.5, "mapping": mapping, "current_node": "g"}
    round = {
        **whole,
        "mapping": {"a": _said("a", "b", "user", "?"), "b": _said("b", "a", "user", "!")},
        "current_node": "a",
    }
    (tmp_path / "conversations.json").write_text(json.dumps([whole, round, {**whole, "current_node": "gone"}]))
    rows = list(read(tmp_path, rules=ALL))
    assert [(row.instruction, row.blocks) for row in rows if isinstance(row, Candidate)] == [
        ("When was the mill built?", ("In 1820.",)),
        ("By whom?", ("By Anna Kern.",)),
    ]
    reasons = {row.reason for row in rows if isinstance(row, LeftOut)}
    assert reasons == {"a chat without an assistant message teaches nothing"}
    assert [fact for row in rows if isinstance(row, Stated) for fact in row.facts] == []


def test_conversations_without_an_answer_are_no_data(tmp_path: Path) -> None:
    nodes = {"a": _said("a", "", "user", "When was the mill built?")}
    (tmp_path / "a.json").write_text(json.dumps([{"title": "Mill", "mapping": nodes, "current_node": "a"}] * 2))
    rows = list(read(tmp_path, rules=ALL))
    assert not any(isinstance(row, Candidate) or (isinstance(row, Stated) and row.facts) for row in rows)
    assert len([row for row in rows if isinstance(row, LeftOut)]) == 2


def test_an_api_is_asked_for_what_its_parts_are_said_to_be(tmp_path: Path) -> None:
    tag = {"type": "string", "description": "What the collar says"}
    pet = {"description": "An animal that is for sale", "properties": {"id": {"type": "integer"}, "tag": tag}}
    limit = {"name": "limit", "in": "query", "description": "How many pets to list", "schema": {"type": "integer"}}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}}
    operation = {"summary": "List all pets", "operationId": "listPets", "parameters": [limit, {"$ref": "#/x"}]}
    operation["responses"] = {"200": {"content": content}}
    info = {"title": "Pet shop", "version": "1"}
    expected = [
        ("`GET /pets`", "List all pets"),
        ("`limit`", "How many pets to list"),
        ("`Pet`", "An animal that is for sale"),
        ("`Pet.tag`", "What the collar says"),
    ]
    paths = {"/pets": {"get": operation, "parameters": []}, "/odd": None, "/more": {"get": {"parameters": 3}}}
    new = {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": {"Pet": pet}}}
    old = {"swagger": "2.0", "info": info, "paths": paths, "definitions": {"Pet": pet}}
    for source in (new, old):
        facts = facts_of_json(json.dumps(source), "api.json")
        assert [(fact.subject, fact.value) for fact in facts] == expected
    _, checked = looked(tmp_path, {"api.json": json.dumps(new)})
    assert told(checked)["13 values of OpenAPI beside the descriptions left out"] == ("api.json: 13",)
