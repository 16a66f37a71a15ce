"""Rows of the documents that small businesses have: lists of contacts and prices, settings, minutes, plans."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftq.examples.read import read
from ftq.examples.records.given import Candidate
from ftq.facts import facts_of
from ftq.formats import convert
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
    mobile = [answer for question, answer in rows.items() if {"mobile", "Cleo"} <= set(question.strip("?").split())]
    assert mobile and all("+44 7700 900123" in answer for answer in mobile)
    assert [question for question in rows if not question.strip("?").isascii() or "??" in question] == []
    assert "-" not in rows.values()


def test_wordings_of_no_language_name_no_kind_where_none_is_known() -> None:
    rows = asked(contacts=CONTACTS.replace("Mobile", "Κινητό").replace("E-mail", "Τηλέφωνο Ά"))
    assert 'Κινητό = "+44 7700 900123"?' in rows
    assert [question for question in rows if "??" in question or question.startswith("?,")] == []


def test_questions_without_an_answer_are_in_a_language_that_is_known() -> None:
    swedish = "# {0}\n\n{0} står på gården och målas våren därpå. Både båten och bågen får ny färg då.\n"
    pages = {name: swedish.format(name) for name in ("Båten", "Stugan", "Bryggan", "Ladan", "Skjulet")}
    german = "# Laden\n\nDer Laden ist von neun bis zehn Uhr für alle offen und liegt bei der Kirche.\n"
    answers = set(asked(**pages, d=german).values())
    assert answers & {*silent(), "-"} == {"Das steht nicht in den Dokumenten."}


def markdown_of(folder: Path, body: str) -> str:
    page = folder / "a.html"
    page.write_text(f"<!doctype html><html><body><h1>Hall Shop</h1>{body}</body></html>", encoding="utf-8")
    return convert.convert(page).markdown.removeprefix("# Hall Shop").strip()


@pytest.mark.parametrize(
    "unseen",
    [
        '<div style="display:none"><p>Half for staff.</p></div>',
        '<div style="color: red; DISPLAY : none !important">Half for staff.</div>',
        '<span style="visibility:hidden">Half for staff.</span>',
        "<p hidden>Half for staff.</p>",
        "<template><p>Half for staff.</p></template><noscript>No script.</noscript>",
        '<p aria-hidden="true">Open <span>from nine.</span></p>',  # stands there twice
        '<p>Open</p><span aria-hidden="true">\u2192</span>',
        '<p>Share this:</p><ul><li><a href="#">Facebook</a></li><li><a href="#">E-Mail</a></li></ul>',
        '<p>Share: <a href="#">Twitter</a> | <a href="#">LinkedIn</a></p>',
    ],
)
def test_what_no_reader_of_a_page_sees_is_left_out(tmp_path: Path, unseen: str) -> None:
    assert markdown_of(tmp_path, f"{unseen}<p>Open</p><p>from nine.</p>").replace("Open\n\nOpen", "Open") == (
        "Open\n\nfrom nine."
    )


@pytest.mark.parametrize(
    ("seen", "markdown"),
    [
        ('<p aria-hidden="true">From nine.</p>', "From nine."),
        ('<p hidden="until-found">From nine.</p>', "From nine."),
        ('<p style="display: block; x-display:none">From nine.</p>', "From nine."),
        ('<h2>Comments</h2><div class="comments"><p>Jane: a good lamp.</p></div>', "## Comments\n\nJane: a good lamp."),
        ('<ul><li><a href="#">Facebook</a></li><li>Milk</li></ul>', "- [Facebook](#)\n- Milk"),
        ('<p>We answer on <a href="#">Facebook</a> and all day by <a href="#">mail</a>.</p>',
         "We answer on [Facebook](#) and all day by [mail](#)."),
    ],
)  # fmt: skip
def test_what_a_reader_sees_stays(tmp_path: Path, seen: str, markdown: str) -> None:
    assert markdown_of(tmp_path, seen) == markdown


@pytest.mark.parametrize(
    "body",
    [
        "<p>VAT number : GB123456789</p>",
        "<p><b>VAT number</b>: GB123456789<br>Phone: 020 123</p>",
        "<dl><dt>VAT number:</dt><dd>GB123456789</dd></dl>",
        "<ul><li>VAT number : GB123456789</li></ul>",
        "<table><tr><th>VAT number</th><td>GB123456789</td></tr></table>",
    ],
)
def test_a_number_is_asked_for_by_its_name_however_it_is_written(tmp_path: Path, body: str) -> None:
    facts = facts_of(f"# Hall Shop\n\n{markdown_of(tmp_path, body)}\n", "a.html")
    assert ("Hall Shop", "attribute", "VAT number", "GB123456789") in [
        (fact.subject, fact.relation, fact.attribute, fact.value) for fact in facts
    ]
    assert [fact.value for fact in facts if fact.relation == "lead"] == []


SETTINGS = """# how many orders go in one batch
BATCH_LIMIT=25

# seconds between two tries
RETRY_WAIT=30

[mail]
smtp_host = mail.example.com
"""


@pytest.mark.parametrize("text", [SETTINGS, SETTINGS.replace("\n", "\r\n")])
def test_a_text_of_settings_is_read_as_settings(tmp_path: Path, text: str) -> None:
    file = tmp_path / "shop.txt"
    file.write_bytes(text.encode())
    converted = convert.convert(file)
    assert converted.markdown == f"```env\n{SETTINGS}```\n"
    meanings = [(fact.subject, fact.value, converted.where(fact.line)) for fact in facts_of(converted.markdown, "a")]
    assert meanings == [
        ("`BATCH_LIMIT`", "how many orders go in one batch", "line 2"),
        ("`RETRY_WAIT`", "seconds between two tries", "line 5"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "# Orders\n\nTen orders go in one batch.\nBATCH_LIMIT=25\n",
        "Set it so:\n\nBATCH_LIMIT=25\nRETRY_WAIT=30\n",
        "a == b\nc == d\n",
    ],
)
def test_a_text_with_a_setting_in_it_stays_a_text(tmp_path: Path, text: str) -> None:
    file = tmp_path / "shop.txt"
    file.write_text(text, encoding="utf-8")
    assert convert.convert(file).markdown == text


PRICES = """# Price list

| Article no. | Name | Price GBP | Weight (kg) |
|---|---|---|---|
| HF-A1-BR | Aria desk lamp | 49.00 | 1.2 |
| HF-B2-BK | Bora floor lamp | 129.00 | 4.0 |
"""


def test_an_article_is_asked_for_by_its_number_and_by_its_name() -> None:
    rows = asked(prices=PRICES)
    for name in ("Aria desk lamp", "HF-A1-BR"):
        prices = [answer for question, answer in rows.items() if name in question and "price in GBP" in question]
        assert prices and all("49.00" in answer for answer in prices)
    assert [question for question in rows if "weight in kg" in question and "Bora floor lamp" in question]
    assert [question for question in rows if "listed under" in question or "GBP in" in question] == []


@pytest.mark.parametrize(
    ("old", "new", "subjects"),
    [
        ("", "", ["Aria desk lamp", "Bora floor lamp"]),
        ("Name", "Description", ["Aria desk lamp", "Bora floor lamp"]),  # of a price list
        ("Bora floor", "Aria desk", []),  # two are called so
        ("Name", "Fault", []),  # says something of the first column, and names nothing
        ("HF-A1-BR", "Lamp", []),  # the first column has names already
        ("Aria desk lamp", "12", []),
    ],
)
def test_names_beside_numbers_are_subjects_where_they_name_one_each(old: str, new: str, subjects: list[str]) -> None:
    facts = facts_of(PRICES.replace(old, new) if old else PRICES, "a.md")
    named = [fact.subject for fact in facts if "lamp" in fact.subject and fact.attribute == "Price GBP"]
    assert named == subjects


ROWS = "<tr><th>Weight</th><td>87 kg</td></tr><tr><th>Colour</th><td>red</td></tr>"
TABLE = f"<table><caption>Key facts</caption>{ROWS}</table>"


def test_a_table_whose_rows_begin_with_headers_has_pairs(tmp_path: Path) -> None:
    for source in (markdown_of(tmp_path, TABLE), TABLE.replace("<tr>", "\n<tr>")):
        facts = facts_of(f"# Hall Shop\n\n{source}\n", "a.md")
        told = [(fact.subject, fact.attribute, fact.value, fact.caption) for fact in facts]
        assert told == [("Hall Shop", "Weight", "87 kg", "Key facts"), ("Hall Shop", "Colour", "red", "Key facts")]


MINUTES = """# Team meeting

Attendees:

- Priya: chair of the day
- Joe: minutes

## Actions

- Joe: order new bulbs until Friday
- **Tom and Priya**: insurance renewal
- the roof: call the landlord about it
"""


def test_people_in_minutes_are_no_terms() -> None:
    facts = facts_of(MINUTES, "a.md")
    assert [(fact.subject, fact.attribute, fact.value) for fact in facts if fact.relation == "attribute"] == [
        ("Priya", "Attendees", "chair of the day"),
        ("Joe", "Attendees", "minutes"),
        ("Joe", "Actions", "order new bulbs until Friday"),
        ("Tom and Priya", "Actions", "insurance renewal"),
    ]
    assert [fact.subject for fact in facts if fact.relation == "meaning"] == ["the roof"]
    rows = asked(minutes=MINUTES)
    about = {question for question, answer in rows.items() if "Joe" in question and "minutes" not in question}
    assert about and all("Actions" in question or "Attendees" in question for question in about)
    assert [question for question in rows if "insurance renewal" in question] == []
    german = asked(a=MINUTES.replace("Actions", "Aufgaben / Beschlüsse") + "\nDer Raum ist nicht für alle offen.\n")
    assert [question for question in german if question.startswith(("Was ist „Joe“", "Wozu dient „Joe“"))] == []


def test_the_same_list_elsewhere_defines_terms() -> None:
    facts = facts_of("# Parts\n\n- Hopper: the box that holds the grain\n", "a.md")
    assert [(fact.subject, fact.relation) for fact in facts] == [("Hopper", "meaning")]


def test_nothing_is_asked_of_people_as_of_things() -> None:
    contacts = CONTACTS + "".join(f"| Ann Poe{n} Hill | 0{n} | a{n}@x.example |\n" for n in range(30))
    rows = asked(contacts=contacts)
    unanswered = [question for question, answer in rows.items() if answer in silent()]
    assert unanswered
    assert [question for question in unanswered if "Poe" in question or "May" in question or "Hall" in question] == []


HYGIENE = """# Hygieneplan der Praxis

Der Plan gilt für alle Räume und wird einmal im Jahr geprüft.

## Reinigung

- Instrumente: im Autoklaven bei 134 °C, 5 Minuten
- Autoklav: ein Gerät, das mit Dampf reinigt
- `--dampf`: mehr Dampf als sonst im Gerät

| Position | Betrag | Fällig am | Wie |
|---|---|---|---|
| Pacht | 1.200 € | 3. des Monats | per Bank |
| Strom | 240 € | 15. des Monats | per Karte |
"""


def test_german_questions_fit_what_they_ask_for() -> None:
    rows = asked(a=HYGIENE)
    assert {subject for subject in ("Instrumente", "Autoklav", "`--dampf`") for question in rows if subject in question}
    assert [
        question for question in rows if question.startswith(("Was ist „Instr", "Was bedeutet „Instr", "Wozu dient „"))
    ] == []
    assert [question for question in rows if "zu „Instrumente“" in question or "„Instrumente“: was" in question]
    assert [question for question in rows if question in ("Was ist „Autoklav“?", "Was bedeutet „Autoklav“?")]
    assert [
        question for question in rows if "am von „" in question or "Wie von" in question or "Wie ist" in question
    ] == []
    assert "Betrag von „Pacht“?" in rows


def test_what_code_is_for_is_asked_in_german_too() -> None:
    option = "# Optionen\n\nSo wird das Gerät bei der Arbeit bedient.\n\n" + "".join(
        f"- `--{name}`: mehr {name} als sonst im Gerät\n" for name in ("dampf", "druck", "licht", "luft", "strom")
    )
    assert [question for question in asked(a=option) if question.startswith("Wozu dient `--")]


@pytest.mark.parametrize(
    ("text", "instruction"),
    [
        (HYGIENE, "Erkläre „Reinigung“ (Hygieneplan der Praxis)."),
        ("# Plan\n\nLe plan est pour tous les jours de la semaine.\n", "Explique « Plan »."),
        ("# План\n\nЭтот план на все дни недели.\n", "Объясни «План»."),
        ("# Plan\n\nThe plan is for all of the days.\n", 'Explain "Plan".'),
        (CONTACTS, 'Explain "a".'),
        ("# Plan\n\nDen Haag, Van Gogh, Jan de Vries\n", 'Explain "Plan".'),
    ],
)
def test_sections_are_asked_for_in_the_language_of_their_file(tmp_path: Path, text: str, instruction: str) -> None:
    (tmp_path / "a.md").write_text(text, encoding="utf-8")
    assert [row.instruction for row in read(tmp_path) if isinstance(row, Candidate)][-1] == instruction
