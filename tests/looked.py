"""A folder of documents, read for a dataset and looked through by `ftq check`: both have to take the same."""

from __future__ import annotations

from pathlib import Path

from ftq.check.check import Check, check
from ftq.examples import dataset
from ftq.examples.dataset import Examples
from ftq.examples.split import Row
from ftq.spec.options import parse


def looked(folder: Path, documents: dict[str, str], **options: object) -> tuple[list[tuple[str, str]], Check]:
    """(sections and records as (question, answer), the check), which have to agree on what is taken."""
    for name, text in documents.items():
        (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")
    spec = parse({"model": "any", "max_seq_length": 512, **options})
    row = Row(512, lambda example: sum(len(text) for name, text in example.items() if name != "turns") // 4 + 20)
    examples = Examples(folder, row, questions=dataset.questions_of(spec))
    taken = [(one["instruction"], one["output"]) for one, _ in examples if "rule" not in one]
    checked = check(folder, spec)
    assert checked.report.documents == examples.documents
    assert checked.report.records_skipped == examples.records_skipped
    return taken, checked


def told(checked: Check) -> dict[str, tuple[str, ...]]:
    return {finding.message: finding.places for finding in checked.findings}
