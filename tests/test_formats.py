"""Any file as Markdown: what it is, how it is decoded and converted, and that its converter stays in its limits."""

from __future__ import annotations

import random
import subprocess
import sys
import zipfile
import zlib
from io import BytesIO
from pathlib import Path, PurePosixPath

import office_files
import pytest

from ftq.errors import UserError
from ftq.formats import convert, decode, headings, kind
from ftq.formats.convert import Converted, Converter, Limits
from ftq.formats.ignore import Ignore
from ftq.formats.kind import Kind, Unusable

OIL = "# Care of the pump\n\nOil it every week.\n"
TABLE = "| Part | Weight |\n| --- | --- |\n| pump | 12 kg |\n| valve | 3 kg |\n"
PAGES = ("Care of the pump\nOil it every week.", "Spare parts\nThe shop on the hill has them all.")
SAMPLES = {
    "a.docx": office_files.docx(),
    "a.pptx": office_files.pptx(),
    "a.xlsx": office_files.xlsx(),
    "a.epub": office_files.epub(),
    "a.odt": office_files.odt(),
    "a.rtf": office_files.RTF,
    "a.html": office_files.HTML,
    "a.csv": b"Part,Weight\npump,12 kg\nvalve,3 kg\n",
    "a.pdf": office_files.pdf(*PAGES),
    "a.txt": b"CARE OF THE PUMP\n\nOil it every week.\n",
    "a.md": OIL.encode(),
}
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
        ("每周给水泵加油", "gb18030"),
    ],
)
def test_another_code_page_is_named_and_not_guessed(text: str, encoding: str) -> None:
    data = b"first\n" + text.encode(encoding)
    with pytest.raises(Unusable) as raised:
        decode.text(data)
    assert str(raised.value).startswith("line 2: not UTF-8 text (byte 0x")


def test_a_damaged_utf_8_file_is_named() -> None:
    with pytest.raises(Unusable, match=r"^line 2: not UTF-8 text \(byte 0xff\)$"):
        decode.text("für\nÖl ".encode() + b"\xff")
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
    assert str(raised.value) == "DOCX needs a converter: pip install 'ftq[formats]'"
    assert convert.convert(write(tmp_path / "a.md", SAMPLES["a.md"])).markdown == OIL


# Limits

TRAPS = """
import ctypes, os, socket, subprocess, time
class ConvertError(Exception): pass
class EncryptedError(ConvertError): pass
class ResourceLimitError(ConvertError): pass
class NeedsOcrError(ConvertError): pass
def to_markdown_bytes(data, format):
    what = data.split(b"%")[-1].decode()
    if what == "crash": ctypes.string_at(0)
    if what == "hang": time.sleep(1000)
    if what == "spin":
        while True: pass
    if what == "memory": return "x" * 2_000_000_000
    if what == "text": return "x" * 2_000_000
    if what == "exit": os._exit(3)
    if what == "panic": raise BaseException("index out of bounds")
    if what == "file": open(os.environ["PYTHONPATH"].split(":")[1] + "/written", "w")
    if what == "process": subprocess.run(["true"])
    if what == "network": socket.create_connection(("127.0.0.1", 9))
    if what == "native": return str(socket.if_nameindex())
    if what == "secret": return str(sorted(name for name in os.environ if "FTQ" in name or "KEY" in name))
    return what
"""
REASONS = {
    "crash": "the converter died on it (SIGSEGV): save it again, or as another format",
    "exit": "the converter died on it (exit code 3): save it again, or as another format",
    "hang": "took more than 2 s to convert: split it",
    "memory": "needs more than 200 MB of memory to convert: split it",
    "text": "gives more than 1 million characters: split it",
    "panic": "damaged, or the converter can't read it (BaseException: index out of bounds)",
    "file": "damaged, or the converter can't read it (PermissionError: a converter may not write files)",
    "process": "damaged, or the converter can't read it (PermissionError: a converter may not use subprocess.Popen)",
    "network": "damaged, or the converter can't read it (PermissionError: a converter may not use socket.getaddrinfo)",
}


@pytest.fixture
def traps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for files that say what the converter shall do wrong; one that does so is in place of anydoc."""
    (tmp_path / "anydoc.py").write_text(TRAPS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_whatever_a_converter_does_its_file_is_named_and_the_next_one_converted(traps: Path) -> None:
    fine = write(traps / "fine.rtf", b"{\\rtf1%fine")
    given = {}
    with Converter(Limits(memory=200_000_000, cpu=60, wall=2, text=1_000_000)) as converter:
        for what in REASONS:
            with pytest.raises(Unusable) as raised:
                converter.convert(write(traps / "a.rtf", b"{\\rtf1%" + what.encode()))
            given[what] = str(raised.value)
            assert converter.convert(fine).markdown == "fine"
    assert given == REASONS
    assert not (traps / "written").exists()


def test_the_processor_s_time_is_limited(traps: Path) -> None:
    with pytest.raises(Unusable, match="took more than 1 s of processor time to convert: split it"):
        convert.convert(write(traps / "a.rtf", b"{\\rtf1%spin"), Limits(cpu=1))


def test_a_converter_sees_no_secret(traps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTQ_BROKER_URL", "redis://:secret@host")
    monkeypatch.setenv("FIRECRAWL_API_KEY", "secret")
    assert convert.convert(write(traps / "a.rtf", b"{\\rtf1%secret")).markdown == "[]"


def test_nothing_is_imported_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("anydoc", "json", "ftq"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('from the current folder')\n")
    monkeypatch.chdir(tmp_path)
    assert convert.convert(write(tmp_path / "a.rtf", office_files.RTF)).markdown == MARKDOWN["a.rtf"]


@pytest.mark.skipif(
    subprocess.run(["unshare", "--net", "--map-root-user", "true"], capture_output=True).returncode != 0,
    reason="this kernel gives no namespace: only the hook holds",
)
def test_native_code_has_no_network(traps: Path) -> None:
    assert convert.convert(write(traps / "a.rtf", b"{\\rtf1%native")).markdown == "[(1, 'lo')]"


def bombs() -> dict[str, tuple[bytes, str]]:
    """Files that grow, loop or nest, and what is said of each."""
    parts = office_files.docx()
    with zipfile.ZipFile(BytesIO(parts)) as archive:
        files: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
    text = str(files["word/document.xml"], "utf-8")  # type: ignore[arg-type]
    entities = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    laughs = text.replace("<w:document", f'<!DOCTYPE w [<!ENTITY a "{"lol" * 999}">{entities}]><w:document')
    tags = "<w:smartTag>" * 200_000
    deep = text.replace("<w:t>Oil", f"{tags}{tags.replace('<', '</')}<w:t>Oil")
    stream = zlib.compress(b"BT /F1 12 Tf 72 720 Td (Oil) Tj ET " * 6_000_000)
    catalog = b"<< /Type /Catalog /Pages 2 0 R >>"
    too_much = "needs more than 200 MB of memory to convert: split it"
    return {
        "zip.docx": (office_files.docx(office_files.word("x" * 300_000_000)), "unpacks to too much (max_entry_bytes)"),
        "words.docx": (office_files.docx(office_files.word("Oil it. ") * 1_000_000), too_much),
        "laughs.docx": (office_files.packed({**files, "word/document.xml": laughs.replace("Oil", "&j;Oil")}), ""),
        "deep.docx": (office_files.packed({**files, "word/document.xml": deep}), "unpacks to too much (max_xml_depth)"),
        "rows.xlsx": (office_files.xlsx(300_000), too_much),
        "loop.pdf": (office_files.written([catalog, b"<< /Type /Pages /Count 1 /Kids [2 0 R] >>"]), "damaged ("),
        "nest.pdf": (office_files.written([catalog, b"[" * 200_000 + b"]" * 200_000]), "nested too deeply"),
        "stream.pdf": (office_files.written([
            catalog, b"<< /Type /Pages /Count 1 /Kids [4 0 R] >>",
            b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(stream), stream),
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 3 0 R /Resources << /Font << "
            b"/F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>"]), too_much),
        "nest.html": (b"<html>" + b"<div>" * 5_000 + b"Oil", "nested too deeply"),
        "tags.html": (b"<html>" + b"<a " * 1_000_000, too_much),
    }  # fmt: skip


@pytest.mark.slow
def test_bombs_are_named_and_harm_nobody(tmp_path: Path) -> None:
    with Converter(Limits(memory=200_000_000)) as converter:
        for name, (data, reason) in bombs().items():
            try:
                said = "" if "lol" not in converter.convert(write(tmp_path / name, data)).markdown else "it laughs"
            except Unusable as error:
                said = str(error)
            assert said.startswith(reason), name
            assert bool(said) == bool(reason), name


# Fuzz


@pytest.mark.parametrize("count", [20, pytest.param(10_000 // len(SAMPLES), marks=pytest.mark.slow)])
def test_malformed_files_end_in_markdown_or_a_reason(count: int, tmp_path: Path) -> None:
    """No other exception, no hang and no growth: 200 MB and 10 s of processor are more than any of them needs."""
    rng = random.Random(count)
    ended = {"Markdown": 0, "a reason": 0}
    with Converter(Limits(memory=200_000_000, cpu=10, wall=60)) as converter:
        for name, data in SAMPLES.items():
            for _ in range(count):
                path = write(tmp_path / name, mutated(data, rng))
                try:
                    assert converter.convert(path).markdown.strip()
                    ended["Markdown"] += 1
                except Unusable as error:
                    assert "took more" not in str(error), path.read_bytes()
                    assert "died" not in str(error), path.read_bytes()
                    ended["a reason"] += 1
    assert min(ended.values()) > 0.05 * count * len(SAMPLES)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The file with bytes changed, cut, doubled or inserted; of a zip half the time inside one of its packed parts."""
    if data.startswith(b"PK") and rng.random() < 0.5:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            parts: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice(list(parts))
        content = parts[name]
        assert isinstance(content, bytes)
        return office_files.packed({**parts, name: mutated(content, rng)})
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        start, size = rng.randrange(len(data) or 1), rng.choice((1, 2, 8, 100))
        middle = rng.choice((
            b"", rng.randbytes(size), data[start : start + size] * rng.choice((2, 50)),
            rng.choice((b"\0", b"\xff" * 4, b"%", b"<", b">", b"999999999", b"-1", b"<<", b"[" * 100, b"&x;", b"\x80")),
        ))  # fmt: skip
        data = data[:start] + middle + data[start + size :]
    return data


# What is ignored


def test_ftqignore_is_read_as_git_reads_its_own(tmp_path: Path) -> None:
    """Compared with git itself on every file and folder of a tree."""
    lines = {
        "": "# no documents\n*.tmp\n/build/\n!keep.tmp\ndrafts/**\n!drafts/final.md\nsecret?.md\ndoc/*.html\n\\#a.md\n",
        "doc": "!index.html\n/local.md\n[a-c].txt\n",
        "drafts": "!*.md\n",
        "build": "!a.md\n",
    }
    files = ["a.md", "a.tmp", "keep.tmp", "build/a.md", "doc/build/a.md", "drafts/a.md", "drafts/final.md", "#a.md",
             "drafts/in/a.md", "secret1.md", "doc/secret12.md", "doc/a.html", "doc/index.html", "doc/deep/a.html",
             "doc/local.md", "doc/deep/local.md", "doc/a.txt", "doc/deep/b.txt", "doc/d.txt"]  # fmt: skip
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text\n")
    for folder, text in lines.items():
        (tmp_path / folder / ".ftqignore").write_text(text)
        (tmp_path / folder / ".gitignore").write_text(text)
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.run([*git, "check-ignore", "--stdin"], input="\n".join(files), capture_output=True, text=True)
    ignore = Ignore(tmp_path)
    assert {name for name in files if ignore.reason(PurePosixPath(name))} == set(listed.stdout.split())
    assert ignore.reason(PurePosixPath("doc/local.md")) == "doc/.ftqignore, line 2"
    assert ignore.reason(PurePosixPath("build"), is_folder=True) == ".ftqignore, line 3"


def test_a_line_that_is_no_pattern_is_named(tmp_path: Path) -> None:
    (tmp_path / ".ftqignore").write_text("*.tmp\n!\n")
    with pytest.raises(UserError) as raised:
        Ignore(tmp_path).reason(PurePosixPath("a.md"))
    assert raised.value.message == f"{tmp_path}/.ftqignore, line 2: not a pattern: '!'"


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
