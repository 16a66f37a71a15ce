"""Any file as Markdown: what it is, how it is decoded, and what it becomes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import office_files
import pytest
from office_files import PAGES, SAMPLES, write

from ftq.examples.read import read
from ftq.examples.records.given import LeftOut
from ftq.formats import convert, decode, documents, headings, kind
from ftq.formats.convert import Converted, Converter
from ftq.formats.kind import Kind, Unusable

WITH_UTF_16 = "Öl\nfür die Pumpe\n"


# What a file is


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_is_what_its_content_says_whatever_its_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(SAMPLES[name])
    expected = kind.SUFFIXES[path.suffix]
    assert kind.of(path) is expected
    if expected not in (Kind.MARKDOWN, Kind.TEXT, Kind.CSV):
        assert kind.of(path.rename(tmp_path / "a.bin")) is expected


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0", "binary: a picture: run OCR on it first, if it shows text"),
        ("a.md", b"\x7fELF\2\1\1\0", "binary: a program"),
        ("a.txt", b"text\0text", "binary, not a text"),
        ("a.mp4", b"\0\0\0\x20ftypisom", "binary: audio or video: put its transcript here as text"),
        ("a.zip", office_files.packed({"a.md": "# A"}), "an archive: unpack it into the folder"),
        ("a.gz", b"\x1f\x8b\x08\0", "binary: an archive: unpack it into the folder"),
        ("a.py", b"print()\n", "a .py file: if it is a text to learn, rename it to .txt"),
        ("Makefile", b"all:\n", "its name has no suffix: if it is a text to learn, rename it to .txt"),
        ("a.pdf", b"Not found\n", "named .pdf, but not PDF inside: save it again"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
         "an Office file from before 2007, or encrypted: save it as .docx without a password"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le"),
         "encrypted: save it without a password"),
        ("a.md", b"", "empty"),
    ],
)  # fmt: skip
def test_what_is_no_document_is_named(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Unusable) as raised:
        kind.of(path)
    assert str(raised.value) == reason


def test_a_file_of_a_gigabyte_is_told_by_its_size_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_bytes(b"<html>" + b" " * kind.HEAD)
    with path.open("r+b") as file:
        file.truncate(1_000_000_000)
    with pytest.raises(Unusable, match="1,000 MB is too big \\(at most 20 MB\\): split it"):
        kind.of(path)


def test_a_text_may_begin_as_a_program_does(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("MZ is a mark. BM is another.\n")
    assert kind.of(tmp_path / "a.txt") is Kind.TEXT


# Bytes become text


@pytest.mark.parametrize(
    ("data", "text", "note"),
    [
        ("Öl".encode(), "Öl", ""),
        (b"\xef\xbb\xbf\xc3\x96l", "Öl", ""),
        (WITH_UTF_16.encode("utf-16"), WITH_UTF_16, ""),
        (b"\xfe\xff" + WITH_UTF_16.encode("utf-16-be"), WITH_UTF_16, ""),
        ("Öl für die Pumpe – „täglich“".encode("cp1252"), "Öl für die Pumpe – „täglich“",
         "read as Windows-1252, for it isn't UTF-8"),
        ("L’huile coûte 5 € à Noël".encode("cp1252"), "L’huile coûte 5 € à Noël",
         "read as Windows-1252, for it isn't UTF-8"),
        ("Öl für die Pumpe".encode().decode("cp1252").encode(), "Öl für die Pumpe",
         "its letters were encoded twice ('Ã¼' for 'ü'): undone"),
        ("Ein Ã¼ ist ein kaputtes ü, ein Ã¶ ein ö".encode(), "Ein Ã¼ ist ein kaputtes ü, ein Ã¶ ein ö", ""),
    ],
)  # fmt: skip
def test_text_is_decoded(data: bytes, text: str, note: str) -> None:
    assert decode.text(data) == decode.Decoded(text, note)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Насос смазывают каждую неделю", "cp1251"),
        ("Насос смазывают каждую неделю", "koi8-r"),
        ("Čerpadlo mažte každý týden, příručka říká víc než štítek", "cp1250"),
        ("Pompę należy smarować co tydzień, a łożysko co miesiąc", "cp1250"),
        ("Pompayı her hafta yağlayın, şişeyi ısıtmayın", "cp1254"),
        ("Die Pumpe täglich ölen, für größere Mengen", "cp437"),
        ("Die Pumpe täglich ölen, für größere Mengen", "mac-roman"),
        ("ポンプに毎週油を差す", "shift-jis"),
        ("ポンプに毎週油を差す", "euc-jp"),
        ("每周给水泵加油", "gb18030"),
        ("Pumpe täglich ölen; l’huile coûte 5 € à Noël; el año que viene", "cp1252"),
        ("펌프에 매주 기름을 칠하십시오", "euc-kr"),
        ("Насос смазывают каждую неделю", "cp866"),
        ("Pompę należy smarować co tydzień, a łożysko co miesiąc", "iso-8859-2"),
    ],
)
def test_another_code_page_is_named_with_what_to_type_and_not_guessed(text: str, encoding: str, tmp_path: Path) -> None:
    data = b"first\n" + text.encode(encoding)
    with pytest.raises(Unusable) as raised:
        decode.text(data)
    reason = re.fullmatch(r"line 2: not UTF-8 text \(byte 0x..\): it looks like \S+; (iconv .*)", str(raised.value))
    assert reason is not None
    assert _converted(reason[1], data, tmp_path) == f"first\n{text}"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "text", ["The pump is oiled.\r\n", "Öl für die Pumpe\n", "Насос смазывают каждую неделю\n" * 400]
)
@pytest.mark.parametrize("name", ["a.txt", "a.json"])
def test_utf_16_without_a_mark_is_named(name: str, text: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text.encode(encoding))
    [row] = read(tmp_path)
    assert isinstance(row, LeftOut)
    told, _, command = row.reason.partition(": ")
    assert told == "UTF-16 without a byte order mark"
    assert _converted(command, text.encode(encoding), tmp_path) == text


def test_records_in_another_encoding_are_named_with_what_to_type(tmp_path: Path) -> None:
    records = '{"question": "Как часто смазывают насос?", "answer": "Насос смазывают каждую неделю."}'
    for name, encoding in (("a.json", "cp1251"), ("b.jsonl", "cp1251"), ("c.json", "utf-16"), ("d.jsonl", "utf-16")):
        (tmp_path / name).write_bytes(records.encode(encoding))
    commands = [row.reason.rpartition("iconv ")[2] for row in read(tmp_path) if isinstance(row, LeftOut)]
    assert commands == [f"-f {name} -t UTF-8 FILE > NEW" for name in ("CP1251", "CP1251", "UTF-16", "UTF-16")]


def _converted(command: str, data: bytes, folder: Path) -> str:
    """What the command that was told makes of the file."""
    (folder / "FILE").write_bytes(data)
    subprocess.run(command, shell=True, cwd=folder, check=True)
    return (folder / "NEW").read_bytes().decode()


def test_a_damaged_utf_8_file_is_named() -> None:
    with pytest.raises(Unusable, match=r"^line 2: not UTF-8 text \(byte 0xff\)$"):
        decode.text("für\nÖl ".encode() + b"\xff")
    with pytest.raises(Unusable, match=r"^line 2: not UTF-8 text \(byte 0xff\)"):
        decode.utf_8('{"a":\n"'.encode("utf-8-sig") + b'\xff"}')
    with pytest.raises(Unusable, match=r"^line 2: not UTF-16 text \(byte 0x00\)$"):
        decode.text("a\nb".encode("utf-16") + b"\0")


# Headings


def test_plain_text_has_headings_and_keeps_its_lines() -> None:
    text = (
        "======\nManual\n======\n\nOil it.\n\nParts\n-----\nThe shop\nhas them.\n\nValves\n~~~~~~\n\nSAFETY FIRST\n\n"
        "1. Gloves\n\n2. Goggles\n\n2.1 Rules\n\nWear them.\n\nNOTE\n\nThis is no heading:\n\n    4.2 Code\n"
    )
    expected = (
        "\n# Manual\n\n\nOil it.\n\n## Parts\n\nThe shop\nhas them.\n\n### Valves\n\n\n# SAFETY FIRST\n\n"
        "1. Gloves\n\n2. Goggles\n\n## 2.1 Rules\n\nWear them.\n\n# NOTE\n\nThis is no heading:\n\n    4.2 Code\n"
    )
    assert headings.of_text(text) == expected


def test_a_paragraph_of_one_short_bold_run_is_a_heading() -> None:
    markdown = "# A\n\n**Spare parts**\n\nText **bold**.\n\n**A sentence.**\n\n**Note:**\n\n```\n\n**code**\n\n```\n"
    expected = "# A\n\n## Spare parts\n\nText **bold**.\n\n**A sentence.**\n\n**Note:**\n\n```\n\n**code**\n\n```\n"
    assert headings.of_bold_lines(markdown) == expected


# Conversion

TABLE = "| Part | Weight |\n| --- | --- |\n| pump | 12 kg |\n| valve | 3 kg |\n"
PUMP = "# Care of the pump\n\nOil it every week.\n"
MARKDOWN = {
    "a.docx": f"{PUMP}\n## Spare parts\n\nThe shop has them.\n\n{TABLE}",
    "a.pptx": f"#{PUMP}",
    "a.xlsx": TABLE,
    "a.epub": PUMP,
    "a.odt": PUMP,
    "a.rtf": "Oil it every week.\n\nThe shop has **spare parts**.\n",
    "a.html": f"{PUMP}\n## Spare parts\n\n| Part | Weight |\n| --- | --- |\n| pump | 12 kg |\n\n"
              "```python\nimport pump\npump.oil()\n```\n",
    "a.csv": TABLE,
    "a.pdf": f"{PUMP}\n# Spare parts\n\nThe shop on the hill has them all.\n",
    "a.txt": "# CARE OF THE PUMP\n\nOil it every week.\n",
    "a.md": PUMP,
}  # fmt: skip


def test_every_format_becomes_markdown_in_one_process(tmp_path: Path) -> None:
    with Converter() as converter:
        given = {name: converter.convert(write(tmp_path / name, SAMPLES[name])) for name in SAMPLES}
        child = converter._child
        assert child is not None
        assert child._process.poll() is None
    assert {name: converted.markdown for name, converted in given.items()} == MARKDOWN
    assert {converted.notes for converted in given.values()} == {()}
    assert child._process.returncode is not None


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_a_row_with_a_cell_too_many_costs_a_table_only_itself(sign: str, tmp_path: Path) -> None:
    rows = [["part", "price", "weight"], *([f"pump{n}", f"{n} EUR", "a\nb" if n == 3 else "2 kg"] for n in range(20))]
    odd = [*rows, ["pump20", "3", " 1 EUR", "9 kg"], ["pump21", "4 EUR", "9 kg", ""]]
    whole, torn = (
        "".join(sign.join(f'"{cell}"' if "\n" in cell else cell for cell in row) + "\n" for row in table)
        for table in ([*rows, ["pump21", "4 EUR", "9 kg"]], odd)
    )
    expected = convert.convert(write(tmp_path / "a.csv", whole.encode()))
    converted = convert.convert(write(tmp_path / "b.csv", torn.encode()))
    assert converted.markdown == expected.markdown
    told = "line 23: more cells than the header's 3, left out: "
    assert (expected.notes, converted.notes) == (
        (),
        (f"{told}put a text that holds the separator between double quotes",),
    )


def test_a_table_without_a_header_stays_as_it_is(tmp_path: Path) -> None:
    text = b"Prices\npump,1 EUR\nvalve,2 EUR\n"
    assert "valve" in convert.convert(write(tmp_path / "a.csv", text)).markdown


def test_a_line_of_markdown_knows_where_it_comes_from(tmp_path: Path) -> None:
    with Converter() as converter:
        html = converter.convert(write(tmp_path / "a.html", SAMPLES["a.html"]))
        paper = converter.convert(write(tmp_path / "a.pdf", SAMPLES["a.pdf"]))
    assert [html.where(line) for line in (1, 3, 5, 9)] == ["line 4", "line 4", "line 6", "line 6"]
    assert [paper.where(line) for line in (1, 5, 7)] == ["page 1", "page 2", "page 2"]
    assert Converted("text").where(7) == "line 7"


def test_pages_that_are_pictures_are_left_out_and_named(tmp_path: Path) -> None:
    data = office_files.pdf(PAGES[0], None, PAGES[1])
    converted = convert.convert(write(tmp_path / "a.pdf", data))
    note = "page 2 of 3: a picture, left out; run OCR on it first (ocrmypdf IN.pdf OUT.pdf)"
    assert converted == Converted(MARKDOWN["a.pdf"], (note,), (2,), ((1, ""), (1, "page 1"), (5, "page 3")))
    with pytest.raises(Unusable, match="its 2 pages are pictures: run OCR on it first"):
        convert.convert(write(tmp_path / "b.pdf", office_files.pdf(None, None)))


def test_a_damaged_pdf_gives_the_text_of_its_whole_pages(tmp_path: Path) -> None:
    """Its table of objects is damaged, which stops one converter and not the other; and its second page is."""
    data = office_files.pdf(*PAGES).replace(b"00000 n", b"00000 x")
    notes = ("read as plain text: its headings and tables may be lost", "page 2 of 2: damaged, left out")
    converted = convert.convert(write(tmp_path / "a.pdf", data.replace(b"8 0 obj\n<<", b"8 0 obj\n((")))
    assert converted == Converted("Care of the pump\nOil it every week.\n", notes, (2,), ((1, "page 1"),))


def test_a_wrong_name_is_told(tmp_path: Path) -> None:
    converted = convert.convert(write(tmp_path / "a.pdf", SAMPLES["a.docx"]))
    assert (converted.markdown, converted.notes) == (MARKDOWN["a.docx"], ("named .pdf, but DOCX inside",))


def test_html_comes_in_the_encoding_that_it_names(tmp_path: Path) -> None:
    page = '<html><meta charset="{}"><title>{}</title><body><p>{}</p></body></html>'
    russian = page.format("windows-1251", "Насос", "Смазка").encode("cp1251")
    assert convert.convert(write(tmp_path / "a.html", russian)).markdown == "# Насос\n\nСмазка\n"
    wrong = page.format("utf-8", "Насос", "Смазка").encode("cp1251")
    with pytest.raises(Unusable, match="it says that it is utf-8, but isn't: save it as UTF-8"):
        convert.convert(write(tmp_path / "b.html", wrong))


def test_html_that_shows_marks_of_markdown_keeps_them_as_text(tmp_path: Path) -> None:
    page = (
        "<html><p>a_b, 2 * 3, __init__, &lt;b&gt;, 1 &lt; 2, *x*, [a](b) <code>*p</code></p><p># one</p><p>1. two</p>"
    )
    expected = "a_b, 2 * 3, \\_\\_init\\_\\_, \\<b>, 1 < 2, \\*x\\*, \\[a](b) `*p`\n\n\\# one\n\n1\\. two\n"
    assert convert.convert(write(tmp_path / "a.html", page.encode())).markdown == expected


def test_without_the_extra_the_file_is_named_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "site-packages" not in place])
    for module in ("anydoc", "pypdf", "markdownify"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(Unusable) as raised:
        convert.convert(write(tmp_path / "a.docx", SAMPLES["a.docx"]))
    assert str(raised.value) == "DOCX needs a converter: pip install -r requirements/formats.txt"
    assert convert.convert(write(tmp_path / "a.md", SAMPLES["a.md"])).markdown == PUMP


def test_a_question_in_html_stands_before_the_answer_that_it_opens(tmp_path: Path) -> None:
    page = (
        "<h1>Shop</h1><details><summary>May I come in?</summary>No, book first.</details>"
        "<details><summary>Is it new?</summary>No.</details>"
        "<details><summary><b>Is it old?</b></summary>\n<p>Yes, it is.</p></details>"
        "<details><summary>What is sold?</summary><ul><li>corn</li></ul></details>"
        "<details><summary>How to get here</summary><p>By bus.</p></details>"
    )
    assert convert.convert(write(tmp_path / "a.html", page.encode())).markdown == (
        "# Shop\n\n**May I come in?** No, book first.\n\n**Is it new?** No.\n\n**Is it old?** Yes, it is.\n\n"
        "## What is sold?\n\n- corn\n\nHow to get here\n\nBy bus.\n"
    )


@pytest.mark.parametrize(
    "beside",
    [
        '<div id="breadcrumb-section"><ol id="breadcrumbs"><li><a href="i.html">Space</a></li></ol></div>',
        '<div class="page-metadata">Created by Ada, last modified on Mar 03, 2026</div>',
        '<div id="footer"><p>Document generated by a wiki on Apr 02, 2026</p></div>',
        '<div role="contentinfo"><h2>Imprint</h2><p>A long text. A long text.</p></div>',
        '<div class="toc-macro"><ul><li><a href="#x">Per diem</a></li></ul></div>',
        '<p class="pagination"><a href="1">Previous</a> | <a href="2">Next</a></p>',
        '<ul role="navigation"><li>Home</li></ul>',
        '<sup><a href="#fn1">1</a></sup>',
    ],
)
def test_parts_beside_the_text_of_a_page_are_no_text(tmp_path: Path, beside: str) -> None:
    page = f"<html><body><div>{beside}</div><h1>Travel</h1><p>It costs 5 EUR.</p>{beside}</body></html>"
    assert convert.convert(write(tmp_path / "a.html", page.encode())).markdown == "# Travel\n\nIt costs 5 EUR.\n"


def test_parts_that_are_only_called_like_those_beside_the_text_stay(tmp_path: Path) -> None:
    for part in (
        '<div class="has-sidebar toc"><h2>Toc</h2><p>The list is <a href="x">here</a>, on the first page.</p></div>',
        f'<div class="footer"><p>{"The terms of the sale hold for each order. " * 9}</p></div>',
        '<div id="contents"><h2>Menu</h2><table><tr><th>Dish</th></tr><tr><td>Soup</td></tr></table></div>',
        '<ul class="links"><li><a href="a">Apples</a></li></ul>',
    ):
        page = f"<html><body><h1>Shop</h1>{part}</body></html>"
        assert len(convert.convert(write(tmp_path / "a.html", page.encode())).markdown) > len("# Shop\n\n")
    page = '<h1><span id="title-text">Space : Travel : Europe</span></h1>'
    page = page + "<p>It costs 10<sup>6</sup> EUR, <del>no</del>.</p>"
    page = page + '<p>Write to <a href="mailto:a@b.c">us</a>. - Or not.</p>'
    assert convert.convert(write(tmp_path / "a.html", page.encode())).markdown == (
        "# Europe\n\nIt costs 10⁶ EUR, ~~no~~.\n\nWrite to [us](mailto:a@b.c). - Or not.\n"
    )


TITLED = "Report for 2025,,,\nExported by,Karin,,\n,,,\nRegion,Q1,Q2,Note\nNorth,100,120,\n"
SHEETS = {
    TITLED: "Report for 2025\n\nExported by: Karin\n\n| Region | Q1 | Q2 | Note |\n| --- | --- | --- | --- |\n|",
    "Plan,,\nDay,Early,Late\nMonday,Kim,Lee\n": "Plan\n\n| Day | Early | Late |\n| --- | --- | --- |\n| Monday |",
    f"{TITLED},,,\nSouth,90,80,\n": "| North | 100 | 120 |  |\n| South | 90 | 80 |",
    f"{TITLED},,,\nShop,City,,\nA1,Bern,,\n": "120 |  |\n\n| Shop | City |  |  |\n| --- | --- | --- | --- |\n| A1",
    "Prices,\npump,red\nvalve,blue\n": "|  |  |\n| --- | --- |\n| Prices |  |\n| pump | red |",
    "Prices,\npump,1 EUR\nvalve,2 EUR\n": "|  |  |\n| --- | --- |\n| Prices |  |\n| pump | 1 EUR |",
}  # fmt: skip


@pytest.mark.parametrize("sheet", SHEETS)
def test_what_stands_above_the_header_of_a_sheet_is_text(sheet: str, tmp_path: Path) -> None:
    assert SHEETS[sheet] in convert.convert(write(tmp_path / "a.csv", sheet.encode())).markdown


def test_a_pdf_has_whole_words_and_no_numbers_of_pages() -> None:
    text = (
        "# Rules\n\nIt is inspec- ted by a well- known engineer. A well-known rule: Vor- und Nachteile, A- b, 3- fold."
        "\n\nPage 1 of 3\n\n## Seite 2 von 5\n\nPage 7 has more.\n\n3 / 10\n\n2024\n\nGroß- Gerau\n"
    )
    assert " ".join(documents._whole(text).split()) == (
        "# Rules It is inspected by a well-known engineer. A well-known rule: Vor- und Nachteile, A- b, 3- fold. "
        "Page 7 has more. 2024 Groß- Gerau"
    )


CELL = '<c r="{}" t="inlineStr"><is><t>{}</t></is></c>'
ROWS = f'<row r="1">{CELL.format("A1", "Part")}{CELL.format("B1", "Price")}</row>'


def test_what_a_workbook_hides_and_has_not_computed_is_told(tmp_path: Path) -> None:
    row = f'<row r="2">{CELL.format("A2", "pump")}'
    formula = '<c r="B2"><f>A1*2</f>{}</c></row>'
    sheets = {
        "Prices &amp; more": ROWS + row + formula.format("") + row.replace("2", "3") + formula.format("<v></v>"),
        "Computed": ROWS + row + formula.format("<v>12</v>"),
        "Old": ROWS + row + formula.format(""),
    }
    (tmp_path / "a.xlsx").write_bytes(office_files.workbook(sheets, hidden=("Old",)))
    assert convert.convert(tmp_path / "a.xlsx").notes == (
        "sheet Old is hidden and left out: unhide what is to be learned",
        "sheet Prices & more: 2 formulas without a stored value, left empty: open it in Excel or LibreOffice and "
        "save it again",
    )
    (tmp_path / "b.xlsx").write_bytes(office_files.workbook({"Computed": sheets["Computed"]}))
    assert convert.convert(tmp_path / "b.xlsx").notes == ()
    (tmp_path / "c.xlsx").write_bytes(office_files.workbook(sheets | {"B": ROWS}, hidden=("Old", "Computed", "B")))
    assert convert.convert(tmp_path / "c.xlsx").notes[0].startswith("sheets Computed, Old, B are hidden and left out")
    (tmp_path / "d.xlsx").write_bytes(office_files.workbook({"Old": ROWS, "B": ROWS}, hidden=("Old", "B")))
    with pytest.raises(Unusable, match=r"^no text in it; all sheets are hidden and left out: unhide"):
        convert.convert(tmp_path / "d.xlsx")


MAIL = """Subject: Pump

The pump needs oil.

{}
> The pump is broken.
>> It is old.

> Really.

I come tomorrow.

> No quote without a name above it.

-- 
Anna Meier
Head of Pumps
"""


@pytest.mark.parametrize(
    "above",
    [
        "On Mon, Mar 11, 2024 at 9:12 AM Bert <bert@example.com> wrote:",
        "On Mon, Mar 11, 2024 at 9:12 AM Bert <bert@example.com>\nwrote:",
        "Am 11.03.24 um 09:12 schrieb Bert Kern:",
        "Le 11 mars 2024, Bert a écrit :",
        "-----Original Message-----",
    ],
)
def test_of_a_mail_its_own_words_stay(above: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(MAIL.format(above))
    converted = convert.convert(tmp_path / "a.txt")
    own = ["Subject: Pump", "The pump needs oil.", "I come tomorrow.", "> No quote without a name above it."]
    assert [line for line in converted.markdown.split("\n") if line] == own
    assert converted.markdown.count("\n") == MAIL.format(above).count("\n")
    assert converted.notes == (f"{7 + above.count(chr(10))} lines of quoted mail and signatures left out",)


def test_what_follows_two_dashes_in_a_longer_text_stays(tmp_path: Path) -> None:
    text = "The pump needs oil.\n\n--\n\n" + "Every week.\n" * 20
    (tmp_path / "a.txt").write_text(text)
    assert convert.convert(tmp_path / "a.txt") == Converted(text)
