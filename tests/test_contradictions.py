"""What two files say differently is told where nothing tells that they speak of two things."""

from __future__ import annotations

import re

import pytest

from ftq.facts import facts_of
from ftq.questions import Options, Row, rows_of

FEES = "| Member | Fee |\n|---|---|\n| Adult | {} EUR |\n| Child | {} EUR |\n"
OLD, NEW = FEES.format(31, 17), FEES.format(35, 19)
HTML = (
    "<table><caption>Fees in {}</caption>\n<tr><th>Member</th><th>Fee</th></tr>\n<tr><td>Adult</td>"
    "<td>{} EUR</td></tr>\n</table>\n"
)


def told(pages: dict[str, str]) -> list[str]:
    facts = [fact for name, source in pages.items() for fact in facts_of(source, name)]
    _, _, report = rows_of(facts, Options(language="en", refusals=0))
    return [re.sub(r":\d+\)", ")", str(one)) for one in report.contradictions]


@pytest.mark.parametrize(
    "pages",
    [
        {"a.md": f"# Germany\n\n{OLD}", "b.md": f"# France\n\n{NEW}"},
        {"a.md": f"# Club\n\n## Germany\n\n### Fees\n\n{OLD}", "b.md": f"# Club\n\n## France\n\n### Fees\n\n{NEW}"},
        {"2023-report.md": f"# Fees\n\n{OLD}", "2024-report.md": f"# Fees\n\n{NEW}"},
        {"news/2023-05-01-fees.md": f"# Fees\n\n{OLD}", "news/2024-06-02-more-fees.md": f"# Fees\n\n{NEW}"},
        {"fees-de.md": f"# Fees\n\n{OLD}", "fees-fr.md": f"# Fees\n\n{NEW}"},
        {"de/fees.md": f"# Fees\n\n{OLD}", "fr/fees.md": f"# Fees\n\n{NEW}"},
        {"germany.md": f"# Fees\n\n{OLD}", "france.md": f"# Fees\n\n{NEW}"},
        {"a.md": f"# Fees\n\nFees in Germany:\n\n{OLD}", "b.md": f"# Fees\n\nFees in France:\n\n{NEW}"},
        {"a.md": f"# Fees\n\n**Germany**\n\n{OLD}", "b.md": f"# Fees\n\n**France**\n\n{NEW}"},
        {"a.md": f"# Fees\n\n{OLD}\nTable 1: Germany\n", "b.md": f"# Fees\n\n{NEW}\nTable 1: France\n"},
        {"a.md": "# Fees\n\n" + HTML.format("Germany", 31), "b.md": "# Fees\n\n" + HTML.format("France", 35)},
        {
            "1-2.md": "# Release 1.2\n\n`MILL_SLOTS` defaults to 5.\n",
            "x.md": "# Release 1.3\n\n`MILL_SLOTS` defaults to 6.\n",
        },
        {
            "2023-q.md": "# Sales\n\nThe fee of the mill is 31 EUR per month.\n",
            "2024-q.md": "# Sales\n\nThe fee of the mill is 35 EUR per month.\n",
        },
    ],
)
def test_what_names_headings_or_captions_tell_apart_is_no_contradiction(pages: dict[str, str]) -> None:
    assert told(pages) == []


ADULT, CHILD = "Adult, Fee: 31 EUR ({}), 35 EUR ({})", "Child, Fee: 17 EUR ({}), 19 EUR ({})"


@pytest.mark.parametrize(
    ("one", "other", "above", "below"),
    [
        ("a.md", "b/c.md", "# Fees\n\n", "# Fees\n\n"),
        ("part-1.md", "part-2.md", "# Fees\n\n", "# Fees\n\n"),
        ("fees.md", "fees-old.md", "# Fees\n\n", "# Fees\n\n"),
        ("fees-new.md", "fees-old.md", "# Fees\n\n", "# Fees\n\n"),
        ("guide.md", "manual.md", "# Fees\n\n", "# Fees\n\n"),
        ("a.md", "b.md", "# FAQ\n\n", "# Club\n\n## Prices\n\n"),  # many documents have such headings
        ("a.md", "b.md", "# Club\n\n## 2. Fees\n\n", "# Club\n\n## 3. Fees\n\n"),
        ("a.md", "b.md", "# Fees\n\nThese are the fees:\n\n", "# Fees\n\nThe following table shows all fees:\n\n"),
        ("a.md", "b.md", "# Fees\n\nFees:\n\n", "# Fees\n\nFees of members:\n\n"),
    ],
)
def test_what_nothing_tells_apart_is_a_contradiction(one: str, other: str, above: str, below: str) -> None:
    assert told({one: above + OLD, other: below + NEW}) == [ADULT.format(one, other), CHILD.format(one, other)]


def test_a_setting_is_one_thing_under_any_heading_unless_most_of_what_two_tables_say_differs() -> None:
    assert told(
        {"a.md": "# Leases\n\n`MILL_SLOTS` defaults to 5.\n", "b.md": "# Times\n\n`MILL_SLOTS` defaults to 6.\n"}
    ) == ["`MILL_SLOTS`, default: 5 (a.md), 6 (b.md)"]
    table = "| Setting | Value |\n|---|---|\n| `mill_slots` | {} |\n| `mill_rate` | {} |\n| `mill_age` | {} |\n"
    one, near, far = table.format(11, 12, 13), table.format(11, 12, 19), table.format(21, 22, 13)
    assert told({"a.md": f"# Small\n\n{one}", "b.md": f"# Large\n\n{near}"}) == [
        "`mill_age`, Value: 13 (a.md), 19 (b.md)"
    ]
    assert told({"a.md": f"# Small\n\n{one}", "b.md": f"# Large\n\n{far}"}) == []


def test_a_contradiction_is_told_beside_what_is_said_of_another_thing() -> None:
    pages = {"a.md": f"# Germany\n\n{OLD}", "b.md": f"# France\n\n{FEES.format(41, 27)}"}
    pages |= {"c.md": f"# Germany\n\n{FEES.format(31, 20)}", "d.md": f"# France\n\n{FEES.format(45, 28)}"}
    assert told(pages) == [
        "Adult, Fee: 41 EUR (b.md), 45 EUR (d.md)",
        "Child, Fee: 17 EUR (a.md), 20 EUR (c.md)",
        "Child, Fee: 27 EUR (b.md), 28 EUR (d.md)",
    ]
    assert told({"a.md": "# Fees\n\nA fee:\n\n| Club | Fee |\n|---|---|\n| Mill | 1,000 kg |\n",
                 "b.md": "# Fees\n\nA fee:\n\n| Club | Fee |\n|---|---|\n| Mill | 1000kg |\n"}) == []  # fmt: skip


def test_two_tables_of_one_section_are_asked_of_by_what_stands_above_them() -> None:
    source = f"# Fees\n\n**Germany**\n\n{OLD}\n**France**\n\n{NEW}"
    rows: list[Row] = rows_of(facts_of(source, "a.md"), Options(language="en", refusals=0))[0]
    about = [row for row in rows if re.search(r"\d\d EUR", row.output)]
    assert about and all(
        ("Germany" in row.instruction, "France" in row.instruction)
        == (bool(re.search("31|17", row.output)), bool(re.search("35|19", row.output)))
        for row in about
    )
