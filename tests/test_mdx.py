"""Expressions of MDX: what a reader sees of them is taught, of others nothing is asked."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ftq.examples.read import read
from ftq.examples.records.given import Stated
from ftq.facts import ALL
from ftq.facts.text import mdx
from tests.looked import looked, told

EXPRESSIONS = [
    ("The pump holds {12} litres.", "The pump holds 12 litres."),
    ('This is {`a car pump`}, {\'a small\'}{" "}{"one"}.', "This is a car pump, a small one."),
    ("There are {meta.count} Pumps {items.map((one) => { return `}` })} here.", "There are ‹…› Pumps ‹…› here."),
    ("It costs {`${price} Euro`} in {/* all */}Rome.", "It costs ‹…› in Rome."),
    ("Type `{meta.count}` and \\{this}.", "Type `{meta.count}` and \\{this}."),
    ("```js\nlet a = {b}\n```", "```js\nlet a = {b}\n```"),
    ('<Tabs values={[{a: "x"}]}>\n\nText {one > two}.\n\n</Tabs>', "Text ‹…›."),
    ("export const meta = {\n  count: 3,\n}\n\nText.\n\n{meta\n.all}\n\nMore.", "Text.\n\nMore."),
]


@pytest.mark.parametrize(("source", "seen"), EXPRESSIONS)
def test_an_expression_of_mdx_is_what_a_reader_sees_or_is_told(source: str, seen: str, tmp_path: Path) -> None:
    text = f"# Pump\n\nFirst.\n\n{source}\n\nLast."
    taken, checked = looked(tmp_path, {"a.mdx": text})
    [(_, answer)] = taken
    assert answer == f"First.\n\n{seen}\n\nLast.".replace("<Tabs>", "")
    unknown = seen.count("‹…›") or source.count("meta\n")
    many = "1 expression" if unknown == 1 else f"{unknown} expressions"
    assert (f"{many} of MDX left out" in told(checked)) is bool(unknown)
    facts = [fact for row in read(tmp_path, rules=ALL) if isinstance(row, Stated) for fact in row.facts]
    assert not [fact for fact in facts if "{" in fact.sentence.replace("`{meta.count}`", "") or "‹" in fact.sentence]


@pytest.mark.parametrize("sign", ["{", "<a ", "{`", "}", "{'", "`{", "{{", "{a}"])
def test_expressions_without_an_end_take_no_time(sign: str) -> None:
    seconds = [0.0, 0.0]
    for number, size in enumerate((20_000, 80_000)):
        start = time.process_time()
        text, _ = mdx.without_expressions(sign * size)
        seconds[number] = time.process_time() - start
        assert text.count("\n") == 0
    assert seconds[1] < 8 * max(0.05, seconds[0])
