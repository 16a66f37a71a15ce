"""Small real files of each format, written by hand: what a test needs of them and no library more."""

from __future__ import annotations

import io
import random
import zipfile
import zlib
from pathlib import Path

XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
OFFICE = "http://schemas.openxmlformats.org"
WORD = f'xmlns:w="{OFFICE}/wordprocessingml/2006/main"'
RELATION = f"{OFFICE}/officeDocument/2006/relationships"
TABLE = [["Part", "Weight"], ["pump", "12 kg"], ["valve", "3 kg"]]


def packed(files: dict[str, str | bytes]) -> bytes:
    """A zip; an entry `mimetype` isn't compressed, as EPUB and OpenDocument demand."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return out.getvalue()


def types(parts: dict[str, str]) -> str:
    rows = "".join(f'<Override PartName="/{part}" ContentType="{kind}"/>' for part, kind in parts.items())
    defaults = '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    defaults += '<Default Extension="xml" ContentType="application/xml"/>'
    return f'{XML}<Types xmlns="{OFFICE}/package/2006/content-types">{defaults}{rows}</Types>'


def relations(*targets: tuple[str, str]) -> str:
    rows = "".join(
        f'<Relationship Id="rId{number}" Type="{RELATION}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets, start=1)
    )
    return f'{XML}<Relationships xmlns="{OFFICE}/package/2006/relationships">{rows}</Relationships>'


def docx(body: str = "") -> bytes:
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml"
    table = "".join(f"<w:tr>{''.join(f'<w:tc>{word(cell)}</w:tc>' for cell in row)}</w:tr>" for row in TABLE)
    body = body or (
        word("Care of the pump", "Heading1") + word("Oil it every week.") + word("Spare parts", bold=True)
        + word("The shop has them.") + f"<w:tbl>{table}</w:tbl>"
    )  # fmt: skip
    style = '<w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style>'
    return packed({
        "[Content_Types].xml": types({"word/document.xml": f"{kind}.document.main+xml",
                                      "word/styles.xml": f"{kind}.styles+xml"}),
        "_rels/.rels": relations(("officeDocument", "word/document.xml")),
        "word/_rels/document.xml.rels": relations(("styles", "styles.xml")),
        "word/styles.xml": f"{XML}<w:styles {WORD}>{style}</w:styles>",
        "word/document.xml": f"{XML}<w:document {WORD}><w:body>{body}</w:body></w:document>",
    })  # fmt: skip


def word(text: str, style: str = "", bold: bool = False) -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    weight = "<w:rPr><w:b/></w:rPr>" if bold else ""
    return f"<w:p>{properties}<w:r>{weight}<w:t>{text}</w:t></w:r></w:p>"


def pptx() -> bytes:
    kind = "application/vnd.openxmlformats-officedocument.presentationml"
    spaces = f'xmlns:a="{OFFICE}/drawingml/2006/main" xmlns:p="{OFFICE}/presentationml/2006/main" xmlns:r="{RELATION}"'
    shapes = slide_shape(1, "Care of the pump", '<p:nvPr><p:ph type="title"/></p:nvPr>')
    shapes += slide_shape(2, "Oil it every week.", "<p:nvPr/>")
    return packed({
        "[Content_Types].xml": types({"ppt/presentation.xml": f"{kind}.presentation.main+xml",
                                      "ppt/slides/slide1.xml": f"{kind}.slide+xml"}),
        "_rels/.rels": relations(("officeDocument", "ppt/presentation.xml")),
        "ppt/_rels/presentation.xml.rels": relations(("slide", "slides/slide1.xml")),
        "ppt/presentation.xml": f'{XML}<p:presentation {spaces}><p:sldIdLst><p:sldId id="256" r:id="rId1"/>'
                                "</p:sldIdLst></p:presentation>",
        "ppt/slides/slide1.xml": f"{XML}<p:sld {spaces}><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld></p:sld>",
    })  # fmt: skip


def slide_shape(number: int, text: str, place: str) -> str:
    name = f'<p:nvSpPr><p:cNvPr id="{number}" name="shape {number}"/><p:cNvSpPr/>{place}</p:nvSpPr>'
    return f"<p:sp>{name}<p:spPr/><p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"


def xlsx(rows: int = 0) -> bytes:
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    space = f'xmlns="{OFFICE}/spreadsheetml/2006/main" xmlns:r="{RELATION}"'
    table = [*TABLE, *([["washer", "1 g"]] * rows)]
    cells = "".join(
        f'<row r="{number}">'
        + "".join(f'<c r="{"AB"[at]}{number}" t="inlineStr"><is><t>{cell}</t></is></c>' for at, cell in enumerate(row))
        + "</row>"
        for number, row in enumerate(table, start=1)
    )
    return packed({
        "[Content_Types].xml": types({"xl/workbook.xml": f"{kind}.sheet.main+xml",
                                      "xl/worksheets/sheet1.xml": f"{kind}.worksheet+xml"}),
        "_rels/.rels": relations(("officeDocument", "xl/workbook.xml")),
        "xl/_rels/workbook.xml.rels": relations(("worksheet", "worksheets/sheet1.xml")),
        "xl/workbook.xml": f'{XML}<workbook {space}><sheets><sheet name="Weights" sheetId="1" r:id="rId1"/></sheets>'
                           "</workbook>",
        "xl/worksheets/sheet1.xml": f"{XML}<worksheet {space}><sheetData>{cells}</sheetData></worksheet>",
    })  # fmt: skip


def workbook(sheets: dict[str, str], hidden: tuple[str, ...] = ()) -> bytes:
    """An XLSX with sheets of these rows (of XML); some of them are hidden."""
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    space = f'xmlns="{OFFICE}/spreadsheetml/2006/main" xmlns:r="{RELATION}"'
    parts = {f"xl/worksheets/sheet{number}.xml": rows for number, rows in enumerate(sheets.values(), start=1)}
    named = "".join(
        f'<sheet name="{name}" sheetId="{number}"{" state=" + chr(34) + "hidden" + chr(34) if name in hidden else ""} '
        f'r:id="rId{number}"/>'
        for number, name in enumerate(sheets, start=1)
    )
    of_parts = dict.fromkeys(parts, f"{kind}.worksheet+xml")
    return packed({
        "[Content_Types].xml": types({"xl/workbook.xml": f"{kind}.sheet.main+xml", **of_parts}),
        "_rels/.rels": relations(("officeDocument", "xl/workbook.xml")),
        "xl/_rels/workbook.xml.rels": relations(*(("worksheet", part.removeprefix("xl/")) for part in parts)),
        "xl/workbook.xml": f"{XML}<workbook {space}><sheets>{named}</sheets></workbook>",
        **{part: f"{XML}<worksheet {space}><sheetData>{rows}</sheetData></worksheet>" for part, rows in parts.items()},
    })  # fmt: skip


def epub() -> bytes:
    container = "urn:oasis:names:tc:opendocument:xmlns:container"
    page = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>Care</title></head><body>{}</body></html>'
    return packed({
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": f'{XML}<container version="1.0" xmlns="{container}"><rootfiles><rootfile '
                                  'full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles>'
                                  "</container>",
        "book.opf": f'{XML}<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata/><manifest><item '
                    'id="one" href="one.xhtml" media-type="application/xhtml+xml"/></manifest><spine><itemref '
                    'idref="one"/></spine></package>',
        "one.xhtml": XML + page.format("<h1>Care of the pump</h1><p>Oil it every week.</p>"),
    })  # fmt: skip


def odt() -> bytes:
    space = "urn:oasis:names:tc:opendocument:xmlns"
    text = '<text:h text:outline-level="1">Care of the pump</text:h><text:p>Oil it every week.</text:p>'
    mime = "application/vnd.oasis.opendocument.text"
    return packed({
        "mimetype": mime,
        "META-INF/manifest.xml": f'{XML}<manifest:manifest xmlns:manifest="{space}:manifest:1.0"><manifest:file-entry '
                                 f'manifest:full-path="/" manifest:media-type="{mime}"/></manifest:manifest>',
        "content.xml": f'{XML}<office:document-content xmlns:office="{space}:office:1.0" xmlns:text="{space}:text:1.0">'
                       f"<office:body><office:text>{text}</office:text></office:body></office:document-content>",
    })  # fmt: skip


RTF = rb"{\rtf1\ansi {\fonttbl{\f0 Arial;}}\f0 Oil it every week.\par The shop has {\b spare parts}.\par}"
HTML = b"""<!DOCTYPE html>
<html><head><title>Care of the pump | The works</title><style>p { color: red }</style></head>
<body><nav><a href="/">Home</a></nav>
<header><h1>Care of the pump</h1><p>Menu</p></header>
<p>Oil it every week.</p>
<h2 id="parts">Spare parts<a class="headerlink" href="#parts">&para;</a></h2>
<table><tr><th>Part</th><th>Weight</th></tr><tr><td>pump</td><td>12 kg</td></tr></table>
<div class="highlight-python"><pre>import pump
pump.oil()</pre></div>
<script>track()</script><footer>Imprint</footer></body></html>
"""


def pdf(*pages: str | None) -> bytes:
    """A page for each text: its lines, the first in large letters. None is a page that shows only a picture."""
    parts = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
             b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold >>"]  # fmt: skip
    pixels = zlib.compress(bytes(range(256)) * 256)
    picture = b"<< /Type /XObject /Subtype /Image /Width 256 /Height 256 /ColorSpace /DeviceGray /BitsPerComponent 8 "
    parts.append(picture + b"/Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (len(pixels), pixels))
    kids = []
    for text in pages:
        stream = b"q 500 0 0 700 50 50 cm /I1 Do Q" if text is None else page_text(text)
        parts.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        resources = b"/XObject << /I1 5 0 R >>" if text is None else b"/Font << /F1 3 0 R /F2 4 0 R >>"
        parts.append(b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R /Resources << %s >> >>"
                     % (len(parts), resources))  # fmt: skip
        kids.append(b"%d 0 R" % len(parts))
    parts[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(kids))
    return written(parts)


def page_text(text: str) -> bytes:
    title, *lines = text.split("\n")
    said = b" ".join(b"0 -20 Td (%s) Tj" % line.encode() for line in lines)
    return b"BT /F2 24 Tf 72 720 Td (%s) Tj /F1 12 Tf %s ET" % (title.encode(), said)


def written(parts: list[bytes]) -> bytes:
    """A PDF of these objects, the first of which is its catalog."""
    out, offsets = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    table = b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(parts) + 1, table)
    return out + table + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(parts) + 1, len(out))


PAGES = ("Care of the pump\nOil it every week.", "Spare parts\nThe shop on the hill has them all.")
SAMPLES = {
    "a.docx": docx(),
    "a.pptx": pptx(),
    "a.xlsx": xlsx(),
    "a.epub": epub(),
    "a.odt": odt(),
    "a.rtf": RTF,
    "a.html": HTML,
    "a.csv": b"Part,Weight\npump,12 kg\nvalve,3 kg\n",
    "a.pdf": pdf(*PAGES),
    "a.txt": b"CARE OF THE PUMP\n\nOil it every week.\n",
    "a.md": b"# Care of the pump\n\nOil it every week.\n",
}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The file with bytes changed, cut, doubled or inserted; of a zip half the time inside one of its packed parts."""
    if data.startswith(b"PK") and rng.random() < 0.5:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice(list(parts))
        content = parts[name]
        assert isinstance(content, bytes)
        return packed({**parts, name: mutated(content, rng)})
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        start, size = rng.randrange(len(data) or 1), rng.choice((1, 2, 8, 100))
        middle = rng.choice((
            b"", rng.randbytes(size), data[start : start + size] * rng.choice((2, 50)),
            rng.choice((b"\0", b"\xff" * 4, b"%", b"<", b">", b"999999999", b"-1", b"<<", b"[" * 100, b"&x;", b"\x80")),
        ))  # fmt: skip
        data = data[:start] + middle + data[start + size :]
    return data
