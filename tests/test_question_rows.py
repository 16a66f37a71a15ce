"""Facts into training rows: wordings, directions, caps, refusals, one answer for each question."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftq.examples.dataset import questions_of
from ftq.facts import Fact, facts_of, facts_of_json
from ftq.facts.rules.english import as_purpose
from ftq.questions import Contradiction, Options, Stated, rows_of
from ftq.questions.conflicts import asked
from ftq.questions.english.sentence import questions_on
from ftq.questions.kinds import kind_of
from ftq.questions.row import Row
from ftq.questions.together import words_of
from ftq.questions.wordings import language, language_of, spoken_in
from ftq.spec.options import parse

LANGUAGES = ["en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "zh", "ja"]
RELATIONS = ["attribute", "meaning", "command", "answer", "list", "lead", "default", "set", "term", "page"]
MANUAL = """# Mill

The mill is a machine for grain. It runs by water.

## Settings

| Setting | Default | Description | Unit |
|---|---|---|---|
| `grind_speed` | 40 | how fast the stones turn | rpm |
| `water_gate` | open | which gate lets the water in | position |
| `stone_gap` | 2 | the room between both stones | mm |

## Starting the mill

To start the mill, run:

```sh
mill start --gate open
```

## Who may use the mill?

Everybody in the village may use it on weekdays.

- **Hopper**: the box that holds the grain before it is ground.
- `--dry` stops the water and keeps the stones turning.
"""


def fact(subject: str, value: str, file: str = "a.md", path: tuple[str, ...] = ("Tills",), **more: str) -> Fact:
    given = Fact(subject, "attribute", value, "", path, file, 3, "T", "Limit", "Till")
    return replace(given, **more)  # type: ignore[arg-type]


def test_a_number_is_asked_for_in_several_ways_and_back() -> None:
    train, valid, report = rows_of(
        [fact("`till_1`", "500 euros")], Options(language="en", refusals=0, seed=3, valid_every=1)
    )
    assert {row.rule for row in train} == {"T"} and report.rows == {"T": len(train)}
    assert len({row.instruction for row in train}) == len(train) >= 4
    assert {row.output for row in train} <= {
        "500 euros", "`till_1`: 500 euros", "The limit of `till_1` is 500 euros.", "`till_1`",
    }  # fmt: skip
    assert any("500 euros" in row.instruction and "till_1" in row.output for row in train)
    assert [row.output for row in valid if "500 euros" in row.output] and valid[0].instruction not in {
        row.instruction for row in train
    }


def test_few_facts_give_enough_questions_to_tell_and_train_loses_none_for_them() -> None:
    table = "| Pump | Weight | Pressure | Price |\n|---|---|---|---|\n"
    table += "".join(
        f"| Pump {number} | {number} kg | {number + 100} bar | {number + 500} EUR |\n" for number in range(25)
    )
    for text, most in ((f"# Pumps\n\n{table}", 20), (MANUAL, 20), ("# Pumps\n\nThe pump P1 weighs 12 kg.\n", 1)):
        facts = facts_of(text, "a.md")
        train, valid, _ = rows_of(facts, Options(refusals=0))
        before, few, _ = rows_of(facts, Options(refusals=0, valid_least=0))
        assert train == before, "what goes to valid is of no use to train"
        assert len(few) < 5 and 1 <= len(valid) <= most and (len(facts) < 40 or len(valid) == most)
        assert few == [row for row in valid if row in few], "in their order"
        asked_in_train = {asked(row.instruction) for row in train}
        assert {row.fact for row in valid} <= {row.fact for row in train}
        assert not asked_in_train & {asked(row.instruction) for row in valid}
        assert len({row.fact for row in valid}) == len(valid), "one of a fact"
    for fraction, least in ((0.05, 20), (0.0, 0)):
        options = questions_of(parse({"model": "smollm2-135m", "valid_fraction": fraction}))
        assert options and options.valid_least == least


def test_the_same_seed_gives_the_same_rows_and_another_one_others() -> None:
    facts = facts_of(MANUAL, "mill.md")
    first = rows_of(facts, Options(topic="Mill", seed=1))
    assert first == rows_of(list(facts), Options(topic="Mill", seed=1))
    assert first[0] != rows_of(facts, Options(topic="Mill", seed=2))[0]


def test_more_exposures_or_fewer_epochs_give_more_wordings() -> None:
    facts = facts_of(MANUAL, "mill.md")
    few, many = Options(exposures=4, epochs=4, refusals=0), Options(exposures=12, epochs=2, refusals=0)
    assert len(rows_of(facts, many)[0]) > 2 * len(rows_of(facts, few)[0])
    assert len(rows_of(facts, few)[2].few) > len(rows_of(facts, many)[2].few)


def test_the_topic_stands_in_about_half_of_the_questions() -> None:
    train, _, _ = rows_of(facts_of(MANUAL, "a.md"), Options(topic="Watermill", refusals=0))
    share = sum("Watermill" in row.instruction for row in train) / len(train)
    assert 0.3 < share < 0.7


def test_a_question_with_two_answers_gets_its_heading() -> None:
    facts = [
        fact("`till_2`", "5 mm", path=("Shop", "Tills")),
        fact("`till_2`", "7 mm", path=("Shop", "Doors"), file="b.md"),
    ]
    train, _, report = rows_of(facts, Options(language="en", refusals=0))
    forward = [row for row in train if "mm" not in row.instruction]
    assert forward and all("Tills" in row.instruction or "Doors" in row.instruction for row in forward)
    assert report.contradictions == (
        Contradiction("`till_2`", "Limit", (Stated("5 mm", "a.md", 3), Stated("7 mm", "b.md", 3))),
    )


@pytest.mark.parametrize(
    ("value", "attribute", "asked", "answers"),
    [
        ("`10`", "Maximum number of workers that run", "ow many workers run", {"`10`", "`x` is `10` by default."}),
        ("false", "Send news before each step", "it send news before each step", {"No. `x` is false by default."}),
        ("`a.toml`", "URL of the server", "URL of the server", {"`a.toml`", "`x` is `a.toml` by default."}),
    ],
)
def test_a_default_is_asked_for_by_what_it_is_of(value: str, attribute: str, asked: str, answers: set[str]) -> None:
    given = fact("`x`", value, relation="default", attribute=attribute, kind="", rule="K")
    train, _, _ = rows_of([given], Options(language="en", refusals=0, exposures=30, epochs=3))
    assert answers <= {row.output for row in train if asked in row.instruction}


@pytest.mark.parametrize(
    ("subject", "value", "purpose"),
    [
        ("`sack test`", "Test sack seams.", "test sack seams"),
        ("`--dir`", "Specifies the folder of the sacks", "specify the folder of the sacks"),
        ("`--sack`", "Test sack of a mill", ""),  # a sack
    ],
)
def test_what_code_is_for_is_what_one_looks_for(subject: str, value: str, purpose: str) -> None:
    given = fact(subject, value, relation="meaning", attribute="", kind="", rule="O")
    train, _, _ = rows_of([given], Options(language="en", refusals=0, epochs=1))
    for_it = [row.instruction for row in train if row.value == subject]
    assert for_it and (any(purpose in one for one in for_it) if purpose else all(value[:9] in one for one in for_it))


def test_what_has_to_be_given_is_answered_by_yes_or_no() -> None:
    facts = [fact("`--corn`", "required", attribute="required"), fact("`--gate`", "optional", attribute="required")]
    train, _, _ = rows_of(facts, Options(language="en", refusals=0))
    assert {row.output for row in train} == {"Yes. `--corn` is required.", "No. `--gate` is optional."}
    asked = {row.instruction.replace("`", "") for row in train}
    assert {"--corn: required or not?", "Is --gate required or not?"} <= asked


def test_what_several_rows_list_is_answered_with_all_of_them() -> None:
    table = "# Alarms\n\n| Alarm | Act |\n|---|---|\n| Red | call the miller<br>stop all stones |\n"
    facts = facts_of(f"{table}| Blue | Call the miller.<br>shut the water gate |\n", "a.md", frozenset("T"))
    train, _, _ = rows_of(facts, Options(language="en", refusals=0))
    calls = {row.output for row in train if "all the miller" in row.instruction and "stop" not in row.instruction}
    assert calls == {"Red, Blue"}


def test_a_heading_that_is_the_subject_tells_nothing() -> None:
    source = "# Watch\n\n## Configuration\n\n### `jitter`\n\nA random delay of up to one minute.\n"
    facts = [*facts_of(source, "watch.md", frozenset("O")), *facts_of("# `jitter`\n\nNoise in sound.\n", "noise.md")]
    train, _, report = rows_of(facts, Options(language="en", refusals=0))
    places = {row.instruction.rpartition(" (")[2] for row in train if "itter" in row.instruction}
    assert places == {"Watch)", "noise)"}
    assert "two answers" not in report.left_out or not report.left_out["two answers"]


def test_a_question_that_still_has_two_answers_is_dropped() -> None:
    facts = [fact("`x`", "5 mm"), fact("`x`", "7 mm")]
    train, valid, report = rows_of(facts, Options(language="en", refusals=0))
    assert not [row for row in [*train, *valid] if "mm" in row.output and "mm" not in row.instruction]
    assert report.left_out["two answers"] > 0


def test_refusals_are_about_what_is_nowhere() -> None:
    facts, known = facts_of(MANUAL, "mill.md"), words_of(MANUAL)
    train, _, _ = rows_of(facts, Options(refusals=0.2, seed=5), known | {"price", "author", "slack"})
    silent = [row for row in train if row.rule == "N"]
    assert 0.1 < len(silent) / len(train) <= 0.21
    assert {row.output for row in silent} == {"The documents don't say."}
    assert not [
        row
        for row in silent
        if "author" in row.instruction or "Slack" in row.instruction or "the price" in row.instruction
    ]
    named = {word for row in silent for word in words_of(row.instruction) if "_" in word}
    assert named - known and named & known  # invented ones, and real ones of which something isn't said
    assert not rows_of(facts, Options(refusals=0))[2].rows.get("N")


@pytest.mark.parametrize("sentence, part, questions", [
    ("The broker keeps messages for 30 days.", "30 days", [
        "For how many days does the broker keep messages?", "Does the broker keep messages for 30 days?",
        "What does the broker do?", "What keeps messages for 30 days?", "The broker keeps messages for how many days?",
    ]),
    ("By default, results are written to `out/log.txt`.", "`out/log.txt`", [
        "Where are results written by default?", "To which file are results written by default?",
        "Are results written to `out/log.txt` by default?", "By default, results are written to which file or folder?",
    ]),
    ("If a mill stands still, you can use `--turn` to start it.", "`--turn`", [
        "Which option can I use to start it if a mill stands still?",
        "Can I use `--turn` to start it if a mill stands still?",
        "How can I use `--turn` to start it if a mill stands still?",
        "Is there a way to use `--turn` to start it if a mill stands still?",
        "What should I do if a mill stands still?",
        "If a mill stands still, I can use which option to start it?",
    ]),
    ("Visitors can't change the gate.", "", ["Can visitors change the gate?"]),
    ("Don't open your gate unless the stones turn.", "", [
        "Should I open my gate unless the stones turn?", "May I open my gate unless the stones turn?",
        "What should I do about my gate?",
    ]),
    ("Grain, water and patience.", "", []),
    ("The mill can show Dutch sails on its door.", "Dutch", [
        "Which sails can the mill show on its door?", "Can the mill show Dutch sails on its door?",
    ]),
    ("The mill can show Dutch art on its door.", "Dutch", ["Can the mill show Dutch art on its door?"]),
    ("The mill has two stones of the same size.", "", [
        "Does the mill have two stones of the same size?", "What has two stones of the same size?",
    ]),
    ("If the wind drops, the manager has to call you to the mill.", "", [
        "Does the manager have to call me to the mill if the wind drops?",
        "Who has to call me to the mill if the wind drops?",
    ]),
    ("The board shows the list of all stones in the column `stones`.", "`stones`", [
        "In which column does the board show the list of all stones?",
        "Does the board show the list of all stones in the column `stones`?",
        "What does the board do?", "What shows the list of all stones in the column `stones`?",
    ]),
    ("If the wind drops, or the miller sleeps for an hour, stop the mill.", "", []),
    ("Make sure the gates of the mill are closed.", "", [
        "Should I make sure the gates of the mill are closed?",
        "Do I have to make sure the gates of the mill are closed?",
    ]),
    ("The mill runs by water all day and does nothing at night.", "", [
        "Does the mill run by water all day?", "What does the mill do?", "What runs by water all day?",
    ]),
    ("The page is for a miller in the valley.", "", ["Is the page for a miller in the valley?"]),
    ("The purpose of the miller is to watch the stones at night.", "", [
        "Is the purpose of the miller to watch the stones at night?",
    ]),
    ("Some names have been changed in the mill.", "", ["Have some names been changed in the mill?"]),
    ("Under the roof this turns the stones.", "", []),
    ("Nobody has run the mill with more than 20 stones.", "", []),
    ("No miller turns the stones by hand at night.", "", []),
    ("To rest, stop the mill, or leave it, you can use the gate.", "", []),
])  # fmt: skip
def test_an_english_sentence_answers_questions(sentence: str, part: str, questions: list[str]) -> None:
    asked = questions_on(sentence, part)
    assert [one.question for one in asked] == questions
    assert all(one.answer.removeprefix("Yes. ").removeprefix("No. ") == sentence for one in asked)
    assert {one.answer[:3] for one in asked if one.form == "whether"} <= {"No." if "n't" in sentence else "Yes"}


@pytest.mark.parametrize("value, kind", [
    ("30 seconds", "duration"), ("5s", "duration"), ("`1h30m`", "duration"), ("8 GB", "size"), ("12 %", "percent"),
    ("`--wait`", "option"), ("`MILL_HOME`", "variable"), ("/etc/mill", "path"), ("`mill.toml`", "path"),
    ("`a.b`", "setting"),
    ("`mill start --dry`", "command"), ("1.2.3", "version"), ("42", "number"), ("yes", "yes_no"), ("a long way", ""),
])  # fmt: skip
def test_a_value_is_asked_for_by_its_kind(value: str, kind: str) -> None:
    assert kind_of(value) == kind


def test_what_stands_together_is_never_refused() -> None:
    source = MANUAL + "".join(f"## Part {n}\n\nThe stone number {n} needs {n} GB of memory.\n\n" for n in range(20))
    train, _, _ = rows_of(facts_of(source, "mill.md"), Options(refusals=0.1))
    silent = [row.instruction.lower() for row in train if row.rule == "N"]
    assert silent and not [question for question in silent if "memory" in question and "part" in question]
    answered, refused = (
        Counter(" ".join(row.instruction.lower().split()[:2]) for row in train if (row.rule == "N") is is_refused)
        for is_refused in (False, True)
    )
    assert all(times <= max(3, answered[opening] / 2) for opening, times in refused.items())


def test_a_sentence_that_needs_its_heading_has_it_in_question_and_answer() -> None:
    facts = facts_of("# Leases\n\nIt is never renewed by the old broker.\n", "a.md", frozenset("P"))
    train, _, _ = rows_of(facts, Options(language="en", refusals=0))
    assert train and all("Leases" in row.instruction for row in train)
    assert {row.output for row in train} == {"Leases: It is never renewed by the old broker."}


def test_code_keeps_its_words_in_other_wordings() -> None:
    facts = [fact("`timeout`", "5 directories", attribute="Directory limit")]
    train, _, _ = rows_of(facts, Options(language="en", refusals=0, exposures=40))
    assert all("timeout" in row.instruction or "5" in row.instruction for row in train)
    assert any("folder" in row.instruction for row in train)


def test_questions_of_a_model_are_asked_and_capped_as_all_others() -> None:
    stated = fact("What is a till?", "A box for money.", relation="answer", rule="Q", attribute="")
    written = [replace(stated, value="A machine.", rule="W")]
    written += [replace(stated, subject=f"What is till {n}?", value="Nobody knows.", rule="W") for n in range(40)]
    train, _, report = rows_of([stated, *written], Options(language="en", refusals=0))
    assert {row.output for row in train if "a till" in row.instruction.lower()} == {"A box for money."}
    assert Counter(row.rule for row in train) == report.rows and report.rows["W"] == 12  # with one same answer
    assert max(Counter(row.fact for row in train if row.rule == "W").values()) <= 2


def test_rules_can_be_switched_off() -> None:
    facts = facts_of(MANUAL, "mill.md")
    assert set(rows_of(facts, Options(rules=frozenset("TQ")))[2].rows) == {"T", "Q"}


def test_cloze_rows_keep_to_their_share() -> None:
    text = "".join(
        f"The part number {n} of the mill weighs {n * 3 + 1000} kilograms in the summer.\n\n" for n in range(200)
    )
    facts = facts_of(MANUAL + text, "mill.md")
    train, _, report = rows_of(facts, Options(refusals=0, cloze_share=0.15))
    size = Counter[bool]()
    for row in train:
        size["____" in row.instruction] += len(row.instruction + row.output)
    assert size[True] <= 0.15 * size.total() and report.left_out["cloze"] > 0


@pytest.mark.parametrize(
    ("sentence", "value", "question"),
    [
        ("The server listens on port 8080.", "8080", "On which port does the server listen?"),
        ("The mill uses port 80.", "80", "Which port does the mill use?"),
        ("The list is updated every 24 hours.", "24 hours", "How often is the list updated?"),
        ("The queue holds up to 500 messages.", "500", "How many messages does the queue hold?"),
        ("The trial period is 14 days long.", "14 days", "How long is the trial period?"),
        ("The limit is 50 requests per second.", "50", "What is the limit?"),
        (
            "A voucher expires one year after it is issued.",
            "one year",
            "How long after it is issued does a voucher expire?",
        ),
        ("The meeting takes 15 to 30 minutes.", "30 minutes", ""),  # whose end alone says nothing
        ("The option is to close the port 25/tcp.", "25", ""),
        ("The 12 week period begins in spring.", "12 week", ""),
    ],
)
def test_a_figure_is_asked_for_with_what_stands_around_it(sentence: str, value: str, question: str) -> None:
    asked = [one.question for one in questions_on(sentence, value) if one.form in ("which", "in place")]
    assert asked[:1] == [question] if question else asked == []


@pytest.mark.parametrize(
    ("sentence", "question"),
    [
        ("The pump weighs 3 kg.", "How much does the pump weigh?"),
        ("The pump weighs about 3.5 kg without the hose.", "How much does the pump weigh without the hose?"),
        ("A licence costs €20 per month.", "How much does a licence cost per month?"),
        ("A licence costs 20 euros a month.", "How much does a licence cost a month?"),
        ("The warranty lasts two years.", "How long does the warranty last?"),
        ("The battery lasts 8 h when the lamp is off.", "How long does the battery last when the lamp is off?"),
        ("If the tank is full, the pump lasts 8 hours.", "How long does the pump last if the tank is full?"),
        ("Standard delivery takes 3-5 business days.", "How long does Standard delivery take?"),
        ("Saving the log can take 2 or 3 minutes.", "How long can saving the log take?"),
        ("A refund usually takes between 5 and 10 days to arrive.", "How long does a refund take to arrive?"),
        ("The hose measures 8 mm at the joint.", "What does the hose measure at the joint?"),
        ("The room measures 4 by 5 metres.", "What does the room measure?"),
        ("The tank holds 40 litres.", "How much does the tank hold?"),
        ("The fridge can hold 40 kg of ice.", "How much ice can the fridge hold?"),
        ("The proof server needs at least 4 GB of RAM.", "How much RAM does the proof server need?"),
        ("The glue needs 24 hours to dry.", "How long does the glue need to dry?"),
        # another thing is said, or of another thing
        ("It takes 5 minutes to charge the lamp.", ""),
        ("This model weighs 2 kg.", ""),
        ("The lamp never takes 5 minutes to charge.", ""),
        ("The mill can't hold 5 kg of rye.", ""),
        ("The upgrade takes 5 minutes longer than the first one.", ""),
        ("The upgrade takes 5 minutes and restarts the router.", ""),
        ("The device weighs 4 kg, runs for 12 hours and ships in March.", ""),
        ("Travel costs more than 50 euros must be approved.", ""),
        ("The window measures 5 mm wide, 10 mm high and 2 mm deep.", ""),
        ("A bag weighs 2 kg 500 g.", ""),
        ("The particle weighs about 26 times what its shell does.", ""),
        ("The call holds 5 seconds.", ""),
        ("The app costs 5 points.", ""),
        ("The pump takes 3 m/s at the joint.", ""),
        ("The job needs 20 GB.", ""),
        ("The notice takes effect 2 days after the post.", ""),
    ],
)
def test_an_amount_is_asked_for_by_its_verb_and_its_unit(sentence: str, question: str) -> None:
    asked = [one.question for one in questions_on(sentence, "") if one.form == "amount"]
    assert asked == [question] * bool(question)


def test_a_question_on_an_amount_stands_once() -> None:
    asked = [one.question for one in questions_on("The reply takes 5 ms.", "5 ms")]
    assert asked.count("How long does the reply take?") == 1


def test_a_short_sentence_with_an_amount_is_taught() -> None:
    train, _, _ = rows_of(facts_of("# Manual\n\nThe pump weighs 3 kg.\n", "a.md"), Options())
    asked = [row.instruction.lower() for row in train if row.rule == "P"]
    assert any("how much does the pump weigh" in question for question in asked)


def test_a_duration_in_words_is_a_figure() -> None:
    (said, *_) = [one for one in facts_of("A voucher of the mill expires after two years.", "a.md") if one.rule == "P"]
    assert said.attribute == "two years"
    assert "After how many years does a voucher of the mill expire?" in map(
        lambda one: one.question, questions_on(said.value, said.attribute)
    )


def test_an_examples_values_are_asked_for_under_its_headings_and_what_it_is_for() -> None:
    about = {"relation": "set", "rule": "K", "kind": "", "attribute": ""}
    given = fact("`gate.at_night`", "`mill/closed`", path=("Mill", "Gate"), **about)
    rows, _, _ = rows_of([given], Options(language="en", refusals=0, exposures=40))
    assert rows and all("Mill, Gate" in row.instruction for row in rows)
    whole = {"`gate.at_night`: `mill/closed`", "In the example `gate.at_night` is `mill/closed`."}
    assert {row.output for row in rows} <= {"`mill/closed`", "`gate.at_night`", *whole}
    (own, *_), _, _ = rows_of([replace(given, attribute="close the gate at night")], Options(language="en", refusals=0))
    assert "close the gate at night" in own.instruction and "`mill/closed`" in own.output


def test_an_example_with_two_values_under_the_same_headings_isnt_asked_for() -> None:
    given = fact("`gate.width`", "`2`", relation="set", rule="K", kind="", attribute="", path=("Mill", "Gate"))
    rows, _, report = rows_of([given, replace(given, value="`3`")], Options(refusals=0))
    assert (rows, report.left_out["two answers"] > 0) == ([], True)


@pytest.mark.parametrize("code", ["*", *LANGUAGES])
def test_each_language_words_each_relation(code: str) -> None:
    spoken = language(code)
    for relation in RELATIONS:
        assert len(set(spoken.templates(relation, "ask"))) >= (6 if code == "en" else 3), relation
    assert len(spoken.templates("term", "about")) >= 3 and len(spoken.without) >= 3 and spoken.word("silent")


@pytest.mark.parametrize("text, code", [
    ("The worker takes a stage from the queue and is done with it when the lease ends.", "en"),
    ("Der Laden ist am Samstag bis um eins geöffnet und wird dann von der Leitung geschlossen.", "de"),
    ("Le magasin est ouvert dans la ville et il ne ferme pas avec les autres.", "fr"),
    ("La tienda de la ciudad no es grande y se abre para los que llegan con el tren.", "es"),
    ("Магазин в городе открыт для всех и не закрывается, если это не праздник.", "ru"),
    ("商店在星期一到星期五开门，星期六只开到下午一点。", "zh"), ("店は月曜日から開いています。", "ja"),
    ("xyzzy 42", "*"), ("Oil it every week.", "en"), ("Set port to 53. Default: 8080", "en"), ("Nicht rauchen!", "de"),
    ("Non fumare.", "it"), ("¿Cómo se abre la puerta?", "es"), ("Нажмите красную кнопку.", "ru"), ("{\"a\": 1}", "*"),
    ("La valvola pesa 3 kg.", "*"), ("Değirmen buğday öğütür.", "*"),
])  # fmt: skip
def test_the_language_is_told_by_its_common_words(text: str, code: str) -> None:
    assert language_of(text) == code


def test_json_records_become_questions() -> None:
    facts = facts_of_json('{"planets": [{"name": "Mars", "color": "red", "moons": 2}]}', "planets.json")
    train, _, _ = rows_of(facts, Options(language="en", refusals=0))
    assert [row for row in train if row.output == "red" and "Mars" in row.instruction and "color" in row.instruction]


WORDS = st.sampled_from(
    ["`a_b`", "`c_d`", "Mill", "Gate", "water gate", "5", "6 mm", "open", "closed", "a long way down"]
)
RELATED = st.sampled_from(
    ["attribute", "meaning", "default", "answer", "list", "lead", "command", "condition", "purpose", "page"]
)
FACTS = st.builds(
    Fact, WORDS, RELATED, WORDS, st.just(""), st.sampled_from([(), ("One",), ("One", "Two")]),
    st.sampled_from(["a.md", "b.md"]),
    st.integers(1, 9), st.sampled_from("TDQJ"), st.sampled_from(["", "size", "Limit of it"]),
    st.sampled_from(["", "part"]),
)  # fmt: skip


@settings(database=None, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(FACTS, max_size=40), st.sampled_from(["", "Mill"]), st.sampled_from(["*", *LANGUAGES]), st.integers(0, 3)
)
def test_no_question_has_two_answers_and_the_caps_hold(facts: list[Fact], topic: str, code: str, seed: int) -> None:
    options = Options(language=code, topic=topic, seed=seed, exposures=40)
    train, valid, report = rows_of(facts, options)
    questions = Counter(asked(row.instruction) for row in [*train, *valid])
    assert not [question for question, times in questions.items() if times > 1]
    assert all(row.instruction.strip() and row.output.strip() for row in [*train, *valid])
    of_fact = Counter(row.fact for row in train if row.rule != "N")
    assert max(of_fact.values(), default=0) <= options.fact_rows
    answers = Counter(row.output for row in train if row.rule != "N")
    assert max(answers.values(), default=0) <= max(12, 0.03 * (len(train) + sum(report.left_out.values())))
    assert {row.fact for row in valid if row.rule != "N"} <= set(of_fact)
    sections: dict[str, int] = defaultdict(int)
    for row in train:
        sections[row.source] += row.rule != "N"
    assert max(sections.values(), default=0) <= 3 * 400


@pytest.mark.parametrize(
    ("sentence", "value", "question"),
    [
        ("The maximum altitude is 4000.", "4000", "What is the maximum altitude?"),
        ("The maximum altitude is 4000 m.", "4000 m", "What is the maximum altitude?"),
        ("The share is 80 %.", "80 %", "What is the share?"),
        ("The memory is 8 GB.", "8 GB", "What is the memory?"),
        ("The lease time is 60 seconds.", "60 seconds", "How long is the lease time?"),
        ("The battery has 14 cells.", "14", "How many cells does the battery have?"),
        ("The worker uses 8 GB.", "8 GB", "How much does the worker use?"),
    ],
)
def test_a_number_is_asked_for_as_the_grammar_allows(sentence: str, value: str, question: str) -> None:
    asked = [one.question for one in questions_on(sentence, value)]
    assert question in asked
    assert not [one for one in asked if "ow many is" in one or "ow much is" in one or one.endswith("is how many?")]


def test_a_number_with_a_unit_that_is_not_known_is_not_cut_from_it() -> None:
    asked = [one.question for one in questions_on("The speed is 4000 rpm.", "4000")]
    assert asked == ["Is the speed 4000 rpm?"]


ENGLISH = [
    "# Pump manual\n\nThe pump is a machine for water. It runs on 230 V and needs a filter. When the lamp is red, the "
    "tank is empty and you have to fill it again.\n",
    "# Care\n\nClean the filter once a week. Use a soft cloth for the lamp and dry it with air.\n",
]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("# Technische Daten\n\n| Eigenschaft | Wert |\n|---|---|\n| Gewicht | 87 kg |\n| Farbe | Rot |\n", "de"),
        ("# Daten\n\n- **Gewicht**: 87 kg\n- **Farbe**: Rot\n- **Garantie**: 24 Monate\n", "de"),
        ("# Namen\n\n| Name | Abteilung | Telefon |\n|---|---|---|\n| Anna Berg | Einkauf | 100 |\n", "de"),
        ("# Fragen\n\n## Wie lange dauert das Laden?\n\nDrei Stunden.\n\n## Was kostet ein Filter?\n\n9 Euro.\n", "de"),
        ("# Reinigung\n\nReinigen Sie den Filter jede Woche. Trocknen Sie ihn.\n", "de"),
        ("# Caractéristiques\n\n| Propriété | Valeur |\n|---|---|\n| Poids | 87 kg |\n| Couleur | rouge |\n", "fr"),
        ("# Datos\n\n| Propiedad | Valor |\n|---|---|\n| Peso | 87 kg |\n| Potencia | 2 kW |\n", "es"),
        ("# Pulizia\n\nPulire il filtro ogni settimana. Asciugare la lampada, il tubo e il serbatoio.\n", "it"),
        # English: names in another language, and too little to tell
        ("# Branches\n\n| City | Street |\n|---|---|\n| München | Hauptstraße 3 |\n| Köln | Am Ring 5 |\n", "en"),
        (
            "# Offices\n\n| Office | Address |\n|---|---|\n| Paris | 3 rue de la Paix |\n| Lyon | 5 place du Bac |\n",
            "en",
        ),
        (
            "# Dishes\n\n| Dish | Wine |\n|---|---|\n| Pasta alla Norma | Barolo |\n| Pizza con funghi | Chianti |\n",
            "en",
        ),
        ("# Ports\n\n| Service | Port |\n|---|---|\n| web | 80 |\n| api | 9000 |\n", "en"),
        ("# Codes\n\n| Code | Die |\n|---|---|\n| E1 | das |\n", "en"),
    ],
)
def test_a_file_of_few_words_is_in_the_language_of_its_headings_and_headers(source: str, code: str) -> None:
    pages = [*ENGLISH, source]
    spoken = spoken_in(fact for number, page in enumerate(pages) for fact in facts_of(page, f"{number}.md"))
    assert (spoken.most.code, spoken.of(f"{len(ENGLISH)}.md").code) == ("en", code)


@pytest.mark.parametrize(
    ("attribute", "value", "questions"),
    [
        ("motors", "4", {"How many motors does Falcon have?", "What is the number of motors of Falcon?"}),
        ("maximum altitude", "4000", {"What is the maximum altitude of Falcon?"}),
        ("features", "gps and sonar", {"What are the features of Falcon?"}),
        ("status", "new", {"What is the status of Falcon?"}),
        ("is active", "true", {'What is given under "is active" for Falcon?'}),
    ],
)
def test_an_attribute_is_asked_for_in_its_number(attribute: str, value: str, questions: set[str]) -> None:
    facts = [Fact("Falcon", "attribute", value, "", (), "a.json", 1, "J", attribute, "drone")]
    train, _, _ = rows_of(facts, Options(language="en", refusals=0, exposures=200, fact_rows=60))
    asked = {row.instruction for row in train}
    assert questions <= asked
    broken = ("the motors is", "is the motors", "is the features", "the features is", "motors is given", "is active of")
    assert not [text for row in train for text in broken if text in f"{row.instruction} {row.output}"]


def test_a_fact_that_no_question_fits_is_told_with_its_place() -> None:
    asked_for = fact("`till_1`", "500 euros")
    lone = Fact("`a` b.", "said", "`a` b.", "`a` b.", (), "b.txt", 1, "P", "", "")
    train, _, report = rows_of([asked_for, lone], Options(language="de", refusals=0))
    assert {row.fact for row in train} == {asked_for.key} and report.facts == 2
    assert report.left_out["unasked"] == 1 and report.left_out_of["unasked"] == {"b.txt:1": 1}


def test_values_of_one_chinese_character_are_asked_for() -> None:
    facts = facts_of("# 零件\n\n| 零件 | 颜色 | x |\n|---|---|---|\n| 水泵 | 红 | J |\n| 阀门 | 绿 | N |\n", "a.md")
    assert [(one.subject, one.attribute, one.value) for one in facts] == [
        ("水泵", "颜色", "红"),
        ("阀门", "颜色", "绿"),
    ]
    train, _, _ = rows_of(facts, Options(refusals=0))
    assert {row.fact for row in train} == {one.key for one in facts}


def answers_of(train: list[Row]) -> dict[str, str]:
    return {row.instruction: row.output for row in train}


def test_what_several_rows_of_a_table_have_is_answered_with_all_of_them() -> None:
    """However the question is worded: no row alone is the answer, nor one row in one wording and one in another."""
    table = "# Dough\n\n| Step | Duration |\n|---|---|\n| Rest | 45 min |\n| Knead | 9 min |\n| Bake | 45 min |\n"
    for source, names in ((table, ["Rest", "Bake"]), (table + "".join(f"| S{n} | 45 min |\n" for n in range(9)), [])):
        for seed in range(5):
            answers = answers_of(rows_of(facts_of(source, "a.md"), Options(refusals=0, exposures=48, seed=seed))[0])
            back = {answer for question, answer in answers.items() if '"45 min"' in question}
            assert back == ({", ".join(names)} if names else set())
            assert any('"9 min"' in question for question in answers)
    bugs = {"bugs": [{"name": name, "colour": "red"} for name in ("Ant", "Bee")]}
    answers = answers_of(rows_of(facts_of_json(json.dumps(bugs), "a.json"), Options(language="en", refusals=0))[0])
    assert {answer for question, answer in answers.items() if '"red"' in question} == {"Ant, Bee"}


def test_what_two_files_say_under_equal_headings_is_asked_for_with_the_file() -> None:
    """No wording of a question has the one's answer, and another wording the other's."""
    pages = {"a.md": "30", "b/c.md": "35"}
    shapes = (
        "# Fees\n\nThe membership fee is {} EUR per month.\n",
        "# Club\n\n## Fees\n\nGuests pay nothing. The membership costs {} EUR per month.\n",
        "# Club\n\n## Fees\n\n| Member | Fee |\n|---|---|\n| Adult | {} EUR |\n",
    )
    for shape in shapes:
        facts = [fact for name, fee in pages.items() for fact in facts_of(shape.format(fee), name)]
        train, _, report = rows_of(facts, Options(refusals=0, exposures=48))
        about = [
            row for row in train if re.search(r"\b3[05]\b", row.output) and not re.search(r"\b3[05]\b", row.instruction)
        ]
        assert about and all(row.document in row.instruction for row in about)
        (told,) = report.contradictions
        assert [(stated.file, stated.line) for stated in told.stated] == [
            (name, facts_of(shape.format(fee), name)[-1].line) for name, fee in pages.items()
        ]
    alike = "# Fees\n\nStep 1 takes 3 minutes here. Step 2 takes 5 minutes here.\n"
    train, _, report = rows_of(facts_of(alike, "a.md"), Options(language="en", refusals=0))
    assert not report.contradictions and {"Step 1", "Step 2"} <= {row.output[:6] for row in train}


def test_each_file_is_asked_in_its_own_language() -> None:
    english = MANUAL
    german = (
        "# Bücherei\n\nDie Bücherei ist montags bis freitags von 10 bis 19 Uhr geöffnet und am Samstag geschlossen.\n\n"
        "| Medium | Leihfrist |\n|---|---|\n| Buch | 4 Wochen |\n"
    )
    russian = "# Прокат\n\nПрокат открыт с апреля по октябрь.\n\n| Велосипед | Час |\n|---|---|\n| Горный | 250 ₽ |\n"
    terse = "# Codes\n\n| Code | Die |\n|---|---|\n| E1 | das |\n"  # too little to tell a language
    pages = {"a.md": english, "b.md": german, "c.md": russian, "d.md": terse}
    alone = {name: rows_of(facts_of(source, name), Options(refusals=0))[0] for name, source in pages.items()}
    together, _, report = rows_of(
        [fact for name, source in pages.items() for fact in facts_of(source, name)], Options(refusals=0.05)
    )
    assert report.language == "en"
    for name in ("a.md", "b.md", "c.md"):
        asked_alone = {row.instruction for row in alone[name]}
        assert {row.instruction for row in together if row.document == name and row.rule not in "NB"} <= asked_alone
    assert {row.instruction for row in alone["b.md"] if "„Buch“" in row.instruction}
    silent = [row for row in together if row.rule == "N"]
    assert silent and {row.output for row in silent} == {language("en").word("silent")}
    assert any("Which" in row.instruction or "What" in row.instruction for row in together if row.document == "d.md")


@pytest.mark.parametrize(
    ("sentence", "value", "right", "wrong"),
    [
        ("The leave must start within 12 months of the birth.", "12 months",
         "Within how many months of the birth must the leave start?", "start of the birth"),
        ("The tank holds 500 litres of oil.", "500", "How many litres of oil does the tank hold?", "do?"),
        ("Refunds take 10 working days.", "10", "How many working days do refunds take?", "do?"),
        ("Skua requires Node 20 or higher.", "20", "Does Skua require Node 20 or higher?", "What does"),
        ("The press has a force of 200 kN.", "200", "Does the press have a force of 200 kN?", "What does"),
        ("The page was made in 1994 by Ann.", "1994", "In which year was the page made by Ann?", "In what"),
        ("The bus starts at 9 each day.", "9", "Does the bus start at 9 each day?", "At what"),
        ("The pump moves the water up.", "", "What does the pump do?", "Which"),
    ],
)  # fmt: skip
def test_a_sentence_answers_questions_that_one_would_ask(sentence: str, value: str, right: str, wrong: str) -> None:
    questions = [asked.question for asked in questions_on(sentence, value)]
    assert right in questions and not [question for question in questions if wrong in question]


@pytest.mark.parametrize("name", ["Opening hours", "Working conditions", "Shipping costs", "Operating system"])
def test_what_kind_of_thing_a_heading_names_is_no_act(name: str) -> None:
    facts = facts_of(f"# Shop\n\n## {name}\n\nThey are the same in each shop of the town.\n", "a.md")
    questions = [row.instruction for row in rows_of(facts, Options(language="en", refusals=0))[0] if row.rule == "H"]
    assert questions and all(name.lower() in question.lower() for question in questions)
    assert as_purpose("Opening a shop") == "open a shop" and as_purpose("Setting options") == "set options"


def test_only_values_in_programs_are_asked_for_as_types() -> None:
    """A tree isn't `a number, a text or something else`."""
    trees = "| Plant | Type |\n|---|---|\n| Oak | tree |\n| Rose | bush |\n"
    keys = "| Key | Type |\n|---|---|\n| limit | integer |\n| `tree` | Tree |\n"
    for source, is_value in ((trees, False), (keys, True)):
        rows, _, _ = rows_of(facts_of(source, "a.md"), Options(language="en", refusals=0, exposures=48))
        assert any("something else" in row.instruction for row in rows) is is_value


def test_a_kind_has_its_article() -> None:
    an, a = ("Article", "Hour", "SKU"), ("Unit", "URL", "Pump", "Note", "Setting")
    for kind, article in [*((kind, "an") for kind in an), *((kind, "a") for kind in a)]:
        table = f"| {kind} | Price |\n|---|---|\n| Oak | 5 EUR |\n| Elm | 7 EUR |\n"
        rows, _, _ = rows_of(facts_of(table, "a.md"), Options(language="en", refusals=0, exposures=48))
        there = [row.instruction for row in rows if "s there a" in row.instruction]
        assert there and all(f"here {article} {kind}".lower() in question.lower() for question in there)


def test_a_column_of_names_says_nothing_of_what_they_are() -> None:
    for kind, is_told in (("Name", False), ("Setting", True)):
        table = f"| {kind} | Description |\n|---|---|\n| `port` | Where it listens for others. |\n"
        rows, _, _ = rows_of(facts_of(table, "a.md"), Options(language="en", refusals=0, exposures=48))
        assert any(f" {kind.lower()} " in row.instruction.lower() for row in rows) is is_told


def test_names_stay_as_they_are_given() -> None:
    """Small isn't Little, and a creation isn't made: only the words of a question are exchanged."""
    page = (
        "# Installing the machine\n\n- **Small**: a pump for gardens and yards.\n"
        "- **Send**: a pump for cellars and halls.\n\n"
        "| Size | Start | Users |\n|---|---|---|\n| Large | yes | 5 |\n| Fast | no | 7 |\n\n"
        "Use it to delete a directory.\n"
    )
    data = json.dumps({"trips": [{"name": "Large", "create_time": "5 h"}, {"name": "Send", "create_time": "7 h"}]})
    facts = [*facts_of(page, "a.md"), *facts_of_json(data, "b.json")]
    others = re.compile(r"\b(?:Little|Pass|Big|Quick|computer|make time|set up)\b", re.IGNORECASE)
    for seed in range(20):
        rows, _, _ = rows_of(facts, Options(language="en", refusals=0, exposures=48, seed=seed))
        assert not [row.instruction for row in rows if others.search(row.instruction)]
    assert (
        language("en").reworded("How do I delete Large delete?", 0, ["Large delete"]) == "How do I remove Large delete?"
    )


@pytest.mark.parametrize(
    ("sentence", "verb"),
    [
        ("Pass the birth certificate to the clerk at the second window.", "Pass"),
        ("Bring two photographs and the old passport of each child.", "Bring"),
        ("If you come by train, show the ticket at the northern gate.", "show"),
        ("Never store the printed receipts in a damp cellar room.", "store"),
    ],
)
def test_keywords_have_no_order_in_them(sentence: str, verb: str) -> None:
    questions = _asked_of(sentence)
    with_verb = [question for question in questions if verb.lower() in re.findall(r"\w+", question.lower())]
    assert len(questions) > 8 and all(re.search(rf"\b(?:I|to) {verb.lower()}\b", question) for question in with_verb)


def test_keywords_of_a_statement_keep_what_is_no_order() -> None:
    assert any("Access cards" in question for question in _asked_of("Access cards open the doors of all buildings."))


def _asked_of(sentence: str) -> set[str]:
    """Its questions, of several seeds."""
    said = Fact(sentence, "said", sentence, sentence, ("Town",), "a.md", 3, "P")
    runs = [rows_of([said], Options(language="en", refusals=0, seed=seed))[0] for seed in range(12)]
    return {row.instruction for train in runs for row in train}


@pytest.mark.parametrize(("attribute", "asked"), [("Weight", "What is the weight of Pump?"), ("Salt", "Pump: salt?")])
def test_a_figure_is_asked_for_as_one_would(attribute: str, asked: str) -> None:
    facts = facts_of(f"# Pump\n\n- {attribute}: 87 kg\n", "a.md", frozenset("D"))
    runs = [rows_of(facts, Options(language="en", refusals=0, seed=seed))[0] for seed in range(6)]
    rows = {(row.instruction, row.output) for train in runs for row in train}
    assert asked in {question for question, _ in rows}
    assert all("87 kg" in answer and "table" not in question for question, answer in rows)
