"""A check as one page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Iterable

from ftq.check.check import ROWS, Bin, Check, File, told_of
from ftq.check.finding import Finding
from ftq.check.survey import Shown
from ftq.page.frame import code, document, section, text

FILES, LONG = 2_000, 700  # documents that are listed; characters of a row that are shown before a click
SYMBOLS = {"error": "✗", "warning": "!", "note": "i"}


def page(check: Check) -> str:
    """The page's HTML."""
    parts = [
        _header(check),
        "<main>",
        section("Findings", _findings(check.findings)),
        section("Documents", _documents(check.files)),
        section("Rows by rule", _rules(check.rules)),
        section("Rows by length", _histogram(check.lengths, check.report.max_seq_length)),
        section(f"{len(check.rows)} rows drawn at random, exactly as the model sees them", _rows(check.rows)),
        "</main>",
    ]
    return document(f"{_name(check.folder)}: the dataset", "check", parts)


def _name(folder: str) -> str:
    return folder.rstrip("/").rpartition("/")[2] or folder


def _header(check: Check) -> str:
    report = check.report
    numbers = [
        (f"documents, {len(report.documents.used):,} of them used", f"{report.documents.taken:,}"),
        ("facts", f"{check.facts:,}"),
        ("rows to train on", f"{report.train:,}"),
        ("rows held out", f"{report.valid:,}"),
        ("tokens" if check.exact else "tokens, a guess", f"{report.tokens.total:,}"),
        (f"tokens in the longest row, of {report.max_seq_length:,}", f"{report.tokens.longest:,}"),
    ]
    tiles = "".join(f"<div><dd>{text(value)}</dd><dt>{text(name)}</dt></div>" for name, value in numbers)
    for_model = f" for {text(check.model)}" if check.model != "any" else ""
    return f"<header><h1>{text(_name(check.folder))}</h1><p>The dataset{for_model}</p><dl>{tiles}</dl></header>"


def _findings(findings: Iterable[Finding]) -> str:
    return "\n".join(map(_finding, findings)) or '<p class="good">Nothing stands in the way.</p>'


def _finding(finding: Finding) -> str:
    places = "".join(f"<li>{text(place)}</li>" for place in finding.places)
    if more := finding.count - len(finding.places):
        places += f'<li class="dim">and {more:,} more</li>' if finding.places else ""
    opened = " open" if finding.level != "note" else ""
    listed = f"<details{opened}><summary>where</summary><ul>{places}</ul></details>" if places else ""
    return (
        f'<article class="{finding.level}"><h3><span aria-label="{finding.level}">{SYMBOLS[finding.level]}</span>'
        f"{text(finding.message)}</h3><p>{code(finding.fix)}</p>{listed}</article>"
    )


def _documents(files: list[File]) -> str:
    ranked = sorted(files, key=lambda file: file.outcome in ("used", "left out"))[:FILES]
    listed = set(map(id, ranked))
    most = max((file.tokens for file in files), default=0) or 1
    rows = "\n".join(_document(file, most) for file in files if id(file) in listed)
    more = f'<p class="dim">and {len(files) - FILES:,} more</p>' if len(files) > FILES else ""
    head = "".join(f"<th>{name}</th>" for name in ("Document", "Facts", "Rows", "Tokens", ""))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>{more}'


def _document(file: File, most: int) -> str:
    numbers = "".join(
        f"<td>{number:,}</td>" if number else "<td></td>" for number in (file.facts, file.rows, file.tokens)
    )
    kind = {"used": "used", "left out": "dim"}.get(file.outcome, "odd")
    bar = _bar(file.tokens, most) if file.tokens else ""
    told = told_of(file)
    small = f"<small>{text(told)}</small>" if told else ""
    return f'<tr class="{kind}"><th>{text(file.path)}{small}</th>{numbers}<td>{bar}</td></tr>'


def _rules(rules: dict[str, int]) -> str:
    most = max(rules.values(), default=0) or 1
    rows = "".join(
        f"<tr><th>{text(name)}</th><td>{number:,}</td><td>{_bar(number, most)}</td></tr>"
        for name, number in rules.items()
    )
    return f'<table class="bars"><tbody>{rows}</tbody></table>' if rows else ""


def _bar(number: int, most: int) -> str:
    return f'<i style="width:{max(1, 100 * number // most)}%"></i>'


def _histogram(bins: list[Bin], limit: int) -> str:
    """Columns as SVG, with a word for each and the numbers above."""
    if not bins:
        return ""
    width, height, most = 64, 160, max(one.rows for one in bins) or 1
    columns = []
    for place, one in enumerate(bins):
        tall = round(height * one.rows / most, 1)
        left, top = place * width, 20 + height - tall
        middle = left + width / 2
        label = f"{one.low}-{min(one.high, limit)}" if one.high > one.low else str(one.low)
        columns.append(
            f'<rect x="{left + 6}" y="{top}" width="{width - 12}" height="{tall}" rx="3"/>'
            f'<text x="{middle}" y="{top - 6}">{one.rows:,}</text>'
            f'<text class="dim" x="{middle}" y="{height + 38}">{label}</text>'
        )
    size = f"0 0 {len(bins) * width} {height + 46}"
    title = "How many rows have how many tokens"
    return (
        f'<svg viewBox="{size}" style="max-width:{len(bins) * width * 1.25}px" role="img" aria-label="{title}">'
        f'{"".join(columns)}</svg>\n<p class="dim">tokens of a row, prompt and stop token included</p>'
    )


def _rows(rows: Iterable[Shown]) -> str:
    return "\n".join(map(_row, rows))


def _row(row: Shown) -> str:
    named = ROWS.get(row.rule, "")
    rule = f"<b>{row.rule}</b> {text(named)}" if row.rule else "whole section or record"
    told = f"<p>{rule} <span>{text(row.source)}, {row.tokens:,} tokens</span></p>"
    whole = f"<pre>{text(row.prompt)}<mark>{text(row.answer)}</mark></pre>"
    if len(row.prompt + row.answer) > LONG:
        start = f"<pre>{text((row.prompt + row.answer)[:LONG])}...</pre>"
        whole = f"<details><summary>{start}</summary>{whole}</details>"
    return f'<article class="row">{told}{whole}</article>'
