"""Kinds of broken questions, and of rows that teach nothing, which were found by reading rows of real manuals."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ftq.facts import facts_of
from ftq.facts.fact import Fact
from ftq.facts.inline import inline
from ftq.facts.place import place_of
from ftq.facts.rules.english import as_purpose
from ftq.facts.sentences.split import sentences
from ftq.questions import Options, Row, rows_of
from ftq.questions.english.sentence import questions_on
from ftq.questions.kinds import plural
from ftq.questions.refusals import refusals
from ftq.questions.wordings import language


def rows_on(source: str, **options: object) -> list[Row]:
    given: dict[str, object] = {"language": "en", "refusals": 0, "exposures": 48, "epochs": 4, **options}
    return rows_of(facts_of(source, "mill.md"), Options(**given))[0]  # type: ignore[arg-type]


def asked_on(source: str) -> set[str]:
    return {row.instruction for row in rows_on(source)}


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Nothing is ground at night. mdMill comes as two wheels.", "Nothing is ground at night."),
        ("The mill is slow in winter. mill.cpp comes as two wheels.", "The mill is slow in winter."),
        ("Das Rad steht seit dem 21. März still.", "Das Rad steht seit dem 21. März still."),
    ],
)
def test_a_sentence_ends_before_a_name_that_begins_small_and_not_in_a_date(text: str, first: str) -> None:
    assert sentences(text, 1)[0].text == first


def test_what_helps_against_a_trouble_is_asked_with_it() -> None:
    source = (
        "# Lamp\n\n- **It flickers.** The bulb is loose.\n- **It doesn't switch on.** Check the fuse in the plug.\n"
    )
    rows = rows_on(source)
    asked = " ".join(row.instruction for row in rows)
    assert "if it flickers" in asked and "if it doesn't switch on" in asked
    assert not [row for row in rows if row.output.startswith(("Yes", "No"))]


def test_a_sentence_in_bold_is_quoted_in_questions() -> None:
    facts = facts_of("# Inn\n\nWelcome.\n\n**No dogs here.** The neighbours keep sheep.\n", "inn.md", frozenset("H"))
    asked = [row.instruction for row in rows_of(facts, Options(refusals=0))[0]]
    assert asked and all('"No dogs here"' in question for question in asked)


@pytest.mark.parametrize(
    ("sentence", "value", "asked"),
    [
        (
            "Turn off the alarm at the gate.",
            "",
            ["Should I turn off the alarm at the gate?", "Do I have to turn off the alarm at the gate?"],
        ),
        ("Free UK shipping over £150 on all orders.", "£150", []),
        ("Anything over £200 goes into the safe.", "£200", ["Does anything over £200 go into the safe?"]),
        ("Whoever leaves last makes the mill safe.", "", []),
        (
            "The room costs $95 in the summer months.",
            "$95",
            [
                "How much does the room cost in the summer months?",
                "What does the room cost in the summer months?",
                "Does the room cost $95 in the summer months?",
                "What costs $95 in the summer months?",
            ],
        ),
        (
            "Call +44 20 7946 for help.",
            "+44 20 7946",
            ["Should I call +44 20 7946 for help?", "Do I have to call +44 20 7946 for help?"],
        ),
    ],
)
def test_a_sentence_is_asked_in_whole_english(sentence: str, value: str, asked: list[str]) -> None:
    assert [fact.attribute for fact in facts_of(sentence, "a.md", frozenset("P"))] == [value]
    assert [one.question for one in questions_on(sentence, value)] == asked


@pytest.mark.parametrize("text", ["Free UK shipping", "Free parking behind the mill"])
def test_free_is_no_verb_before_a_noun(text: str) -> None:
    assert (as_purpose(text), as_purpose("Free the wheel"), as_purpose("Free disk space")) == (
        "",
        "free the wheel",
        "free disk space",
    )


@pytest.mark.parametrize(
    ("sentence", "blanked"),
    [
        ("The miller is called by +44 20 7946 0123 at night.", "The miller is called by ____ at night."),
        ("The miller is called by (0341) 555 210 at night.", "The miller is called by ____ at night."),
        ("A sack of the best rye costs £20 at the gate.", "A sack of the best rye costs ____ at the gate."),
    ],
)
def test_a_number_is_blanked_as_a_whole(sentence: str, blanked: str) -> None:
    facts = facts_of(f"# Mill\n\n{sentence}\n", "mill.md", frozenset("B"))
    asked = [row.instruction for row in rows_of(facts, Options(refusals=0))[0]]
    assert len(asked) == 2 and all(blanked[1:-1] in question for question in asked)


def test_questions_name_a_page_on_us_and_several_things_rightly() -> None:
    facts = facts_of("# Mill\n\n## About us\n\nWe grind all the rye of the town.\n", "mill.md", frozenset("H"))
    asked = [row.instruction for row in rows_of(facts, Options(refusals=0))[0]]
    assert asked and all('"About us"' in question for question in asked)
    assert place_of(facts[0]) == place_of(replace(facts[0], subject="we")) == "Mill"
    assert plural("Where does LEDs come in (Mill)?", "LEDs") == "Where do LEDs come in (Mill)?"
    assert plural("Where does menu of options come in?", "menu of options") == "Where does menu of options come in?"
    assert plural("Where does DNS come in (Mill)?", "DNS") == "Where does DNS come in (Mill)?"


@pytest.mark.parametrize(
    ("sentence", "asked"),
    [
        (
            "If there is no wheel, then the grain is ground by hand.",
            "Is the grain ground by hand if there is no wheel?",
        ),
        ("If you aren't sure of it, ask the miller at the gate.", "What should I do if I'm not sure of it?"),
        ("You can either turn the wheel, or open the gate.", "Is there a way to turn the wheel?"),
    ],
)
def test_a_sentence_is_asked_without_what_ties_its_clauses(sentence: str, asked: str) -> None:
    assert asked in [one.question for one in questions_on(sentence, "")]


@pytest.mark.parametrize(
    ("sentence", "wrong"),
    [
        ("Prepare finds grain in the rooms of the mill.", r"(?:I|to) prepare finds"),
        ("The mill writes `a/rye.csv`, `b/oats.csv` and `wheat.csv` for the baker.", "which file or folder"),
        ("The sacks come with labels, e.g. numbers, on the northern side.", r"\be\.g\b(?!\.)"),
        ("The sacks stand beside room(s) of the oldest northern wheel.", r"room\(s(?!\))"),
        ("The sacks stand beside (re-)ground rye for [MILL]'s baker.", r"re-\)|MILL\]"),
        ("Select the mill that you want to change the wheel for.", r"(?:How|way|need)\b.* change the wheel for\b"),
        ("Patterns between the mills Not supported by all bakers yet.", r": Not\?|about Not\b"),
        ("`mill --run` makes it anew and shows it; `--to` puts it elsewhere.", r"something that makes"),
        ("Sacks of sacks hold grain that has been ground twice.", r"[Ss]acks sacks"),
        ("A worker that has another wheel turns it again at the gate.", "worker that"),
        ("They rest, and the wheel turns on the telling call of,", r"telling"),
        ("`rest_all()` - Retrieves the oldest wheel of the mill from its place.", r"(?:Does|What does) \S+ - "),
        ("Use **rye** for the first of **the loaves in the oven.", r"\*\*"),
        ("Check Use the wheel in the settings of the mill.", r"\bUse \(|about Use\?|: Use\?"),
    ],
)
def test_a_broken_question_is_not_asked(sentence: str, wrong: str) -> None:
    asked = asked_on(f"# Mill\n\nThe mill grinds rye at night.\n\n{sentence}\n")
    assert [question for question in asked if re.search(wrong, question)] == []


@pytest.mark.parametrize(
    "sentence",
    [
        "You can read more about the oven in the manual of the baker.",
        "More information on rye is available on the page of the baker.",
        "Please see the oven page of the baker for loaves of rye.",
        "This guide explains how the baker gets rye from the mill.",
        "Let's go a little deeper into the loaves of the baker.",
        "Loaves of rye can be ordered from the baker as follows.",
        "The following loaves are available from the baker.",
        "This is as simple as telling the baker of the rye,",
    ],
)
def test_nothing_is_asked_of_a_sentence_that_only_leads_elsewhere(sentence: str) -> None:
    assert [question for question in asked_on(f"# Mill\n\n## Oven\n\n{sentence}\n") if "baker" in question] == []


@pytest.mark.parametrize(
    "sentence",
    [
        "The baker uses those loaves of rye for this purpose.",
        "If the loaf is there already, that loaf is given to the baker.",
        "Talking with the baker helps them rest beside the oven.",
        "The same loaves of rye are sold by the baker.",
        "Defaults to the 30 loaves of the oldest baker.",
    ],
)
def test_a_sentence_that_points_at_another_one_is_asked_for_under_its_heading(sentence: str) -> None:
    asked = {row.instruction for row in rows_on(f"# Mill\n\n## Oven\n\n{sentence}\n") if row.rule == "P"}
    assert asked and all("Oven" in question for question in asked)


def test_what_counts_as_a_name_only_under_its_heading_is_asked_with_it() -> None:
    asked = asked_on("# Leave\n\n- 15+ years: eight hours for each period\n")
    assert asked and all("Leave" in question for question in asked if "years" in question)
    told = asked_on("# Mill\n\n## How it turns\n\nThe wheel of the mill turns by water from the hill.\n")
    assert {"Tell me how it turns. (Mill)", "Tell me how it turns."} & told == {"Tell me how it turns. (Mill)"}


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("```sh\n# with npm\nnpm install mill\n```\n", "with npm"),
        ("For example, given these wheels and that grain:\n\n```toml\na = 1\n```\n", "given these"),
        (
            "You may see lines of the wheel like:\n\n```text\na\n```\n\nSee wheels like:\n\n```toml\na = 1\n```\n",
            "wheels like",
        ),
        ("You can use:\n\n```toml\na = 1\n```\n", "you can use"),
        ("Format the:\n\n```sh\nmkfs /dev/x\n```\n", "format the"),
        ("Confirm by looking at the wheel, e.g:\n\n```sh\nmill look\n```\n", r"e\.g\b"),
        ('Use the "mill" protocol) in your project:\n\n```sh\nmill add\n```\n', r"protocol\)"),
        ("Use these wheels in your mill like so:\n\n```sh\nmill turn\n```\n", "how do I use these"),
    ],
)
def test_no_piece_of_a_sentence_is_what_code_is_for(source: str, wrong: str) -> None:
    assert [question for question in asked_on(f"# Mill\n\n{source}") if re.search(wrong, question, re.I)] == []


def test_the_line_above_code_is_asked_without_what_ties_it_to_the_code() -> None:
    asked = asked_on("# Mill\n\nTurn the wheel of a mill with:\n\n```sh\nmill turn\n```\n")
    assert "How can I turn the wheel of a mill?" in asked and not any("mill with" in question for question in asked)


@pytest.mark.parametrize(
    ("heading", "wrong"),
    [("Blocking mode for DNS rules", "block mode"), ("Setting Up", "set Up"), ("Keep it dry!", r"!\?|!:")],
)
def test_a_heading_is_asked_for_as_it_is(heading: str, wrong: str) -> None:
    asked = asked_on(f"# Mill\n\n## {heading}\n\nIt says how the mill answers when the wheel stops at night.\n")
    assert asked and [question for question in asked if re.search(wrong, question)] == []


def test_what_markup_hides_is_in_no_question() -> None:
    assert inline("A `name <https://a.b/c>`__ and `other <x>`_ of `code`").text == "A name and other of `code`"
    assert inline("`turn`<sup>1.33.0</sup> and 10<sup>6</sup>").text == "`turn` and 10⁶"
    assert "{*" not in str(facts_of("# `Mill`\n\n{* ../../mill.py hl[1] *}\n\nThe wheel turns at night.\n", "a.md"))
    table = "# Mill\n\n| Wheel | a new `part` |\n|---|---|\n| north | when you say so |\n"
    assert {fact.attribute for fact in facts_of(table, "a.md")} == {"a new `part`"}
    front = '---\ntitle: "Mills <em>before</em> noon"\ndescription: How the mill turns before noon.\n---\n\n# A\n'
    assert any("Mills before noon" in question for question in asked_on(front))
    note = '# Mill\n\n{{< callout title="Safety Note" >}}\nThe wheel of the mill turns at night.\n{{< /callout >}}\n'
    assert {fact.value for fact in facts_of(note, "a.md")} >= {"The wheel of the mill turns at night."}


def test_chinese_text_leads_elsewhere_too_and_has_no_keywords() -> None:
    facts = facts_of(
        "# 磨坊\n\n上面代码中，`turn` 方法会返回磨坊的轮子。\n\nRye 的 `turn` 方法 返回 轮子 的 名字。\n", "a.md"
    )
    assert not any("上面" in fact.sentence for fact in facts if fact.rule in "PB")
    assert not [row for row in rows_of(facts, Options(refusals=0))[0] if row.rule == "P"]


def test_words_are_not_exchanged_for_what_means_something_else() -> None:
    for sentence in (
        "Avoid jargon.",
        "Replace x from an object.",
        "It is similar to y.",
        "Find z.",
        "Use the machine.",
        "The display, the store, the start, the produce and a permit of the results.",
    ):
        assert language("en").reworded(sentence, 0) == sentence


def test_a_plain_word_is_asked_for_with_its_article() -> None:
    about = [
        row.instruction for row in rows_on("# Queue\n\nA lost stage is tried again by the worker.\n") if row.rule == "B"
    ]
    assert any("the lost stage" in question for question in about)


def _lead(subject: str, line: int) -> Fact:
    text = f"About {subject.lower()} much is said in the records of the mill."
    return Fact(subject, "lead", text, text, ("Mill", subject), "a.md", line, "H")


def test_what_the_documents_do_not_say_is_asked_in_whole_words_of_real_things() -> None:
    names = ("Look at the wheel", "Grind the rye", "Require a certain order", "Gifts are awesome", "Being a lead")
    facts = [_lead(name, line) for line, name in enumerate([*names, "Set the gate", "Northern gate", 'The "gate'])]
    asked = [draft.question for draft in refusals(facts, set(), language("en"), Options(language="en", topic=""), 400)]
    assert any("Northern gate" in question for question in asked) and any("rye" in question for question in asked)
    wrong = r"[Ll]ook the|[Gg]rind at|set a certain|require the gate|awesome|Being|\"gate"
    assert [question for question in asked if re.search(wrong, question)] == []


def test_a_folder_in_two_languages_is_refused_in_that_of_most_files() -> None:
    english = "# Mill\n\nThe mill is open from noon to night, and the wheel turns with the water of the hill.\n"
    german = (
        "# Mühle\n\nDie Mühle ist von Mittag bis zur Nacht offen, und das Rad dreht sich mit dem Wasser des Hügels.\n"
    )
    pages = {"a.md": english, "b.md": german, "c.md": english.replace("mill", "oven").replace("wheel", "fire")}
    pages["d.md"] = german.replace("Mühle", "Bäckerei").replace("Rad", "Feuer")
    facts = [fact for name, source in pages.items() for fact in facts_of(source, name)]
    train = rows_of(facts, Options(refusals=0.2))[0]
    assert {row.output for row in train if row.rule == "N"} == {"The documents don't say."}
