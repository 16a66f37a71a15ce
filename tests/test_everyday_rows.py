"""Rows of the documents that small businesses have: lists of contacts and prices, settings, minutes, plans."""

from __future__ import annotations

import pytest

from ftq.facts import facts_of
from ftq.questions import Options, rows_of
from ftq.questions.likely import spoken_or_likely
from ftq.questions.wordings import silent

CONTACTS = """| Name | Mobile | E-mail |
|---|---|---|
| Cleo May | +44 7700 900123 | cleo@x.example |
| Bob Hall | +44 7700 900456 | bob@x.example |
"""
SEASONS = (
    "| Season | From | To |\n|---|---|---|\n| Low | 2026-11-01 | 2027-03-31 |\n| Mid | 2027-04-01 | 2027-06-30 |\n"
)
PREISE = "| Artikel | Preis | Menge |\n|---|---|---|\n| A 100 | 12,50 | 4 |\n| B 200 | 13,50 | 7 |\n"


def asked(**pages: str) -> dict[str, str]:
    """The questions with their answers."""
    facts = [fact for name, page in pages.items() for fact in facts_of(page, f"{name}.md")]
    train, valid, _ = rows_of(facts, Options())
    return {row.instruction: row.output for row in [*train, *valid]}


@pytest.mark.parametrize(
    ("pages", "code"),
    [
        ([CONTACTS], "en"),
        ([SEASONS], "en"),
        ([PREISE], "de"),
        ([CONTACTS, PREISE], "de"),  # the other file tells
        (["| Código | Precio | Cantidad |\n|---|---|---|\n| A 100 | 12,50 | 4 |\n"], "es"),
        (["| Name | City |\n|---|---|\n| Jan de Vries | Den Haag |\n| Eva Berg | Bonn |\n"], "en"),
        (["| Größe | GmbH |\n|---|---|\n| A 100 | 12,50 |\n"], "*"),  # another one, which can't be told
        (["| Όνομα | Τηλέφωνο |\n|---|---|\n| Ελένη Α | 2310 |\n"], "*"),
        (
            ["# Duka\n\nDuka letu hufunguliwa kila siku asubuhi hadi jioni isipokuwa sikukuu zote kubwa.\n"],
            "*",
        ),
    ],
)
def test_tables_without_sentences_have_a_language(pages: list[str], code: str) -> None:
    facts = [fact for number, page in enumerate(pages) for fact in facts_of(page, f"{number}.md")]
    assert facts
    assert spoken_or_likely(facts).most.code == code


def test_a_list_of_contacts_is_asked_for_in_english() -> None:
    rows = asked(contacts=CONTACTS)
    assert rows['What is given under "Mobile" for Cleo May?'].endswith("+44 7700 900123")
    assert [question for question in rows if not question.strip("?").isascii() or "??" in question] == []
    assert "-" not in rows.values()


def test_wordings_of_no_language_name_no_kind_where_none_is_known() -> None:
    rows = asked(contacts=CONTACTS.replace("Mobile", "Κινητό").replace("E-mail", "Τηλέφωνο Ά"))
    assert 'Κινητό = "+44 7700 900123"?' in rows
    assert [question for question in rows if "??" in question or question.startswith("?,")] == []


def test_questions_without_an_answer_are_in_a_language_that_is_known() -> None:
    greek = "| Όνομα | Τηλέφωνο |\n|---|---|\n" + "".join(
        f"| Ελένη {sign} | {n}10 |\n" for n, sign in enumerate("ΑΒΓΔΕ")
    )
    german = "# Laden\n\nDer Laden ist von neun bis zehn Uhr offen und liegt bei der Kirche.\n"
    rows = asked(a=greek, b=greek.replace("Ελένη", "Μαρία"), c=greek.replace("Ελένη", "Άννα"), d=german)
    assert "-" not in rows.values()
    assert set(rows.values()) & set(silent()) == {"Das steht nicht in den Dokumenten."}
