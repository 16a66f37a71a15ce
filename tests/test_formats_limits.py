"""Whatever a foreign file does to its converter: it is named, and the next one is converted."""

from __future__ import annotations

import random
import subprocess
import zipfile
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import office_files
import pytest
from office_files import SAMPLES, mutated, write

from ftq.formats import convert
from ftq.formats.convert import Converter, Limits
from ftq.formats.kind import Unusable

RTF = "Oil it every week.\n\nThe shop has **spare parts**.\n"
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
    "hang": "took more than 10 s to convert: split it",
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
    given, limits = {}, Limits(memory=200_000_000, cpu=60, wall=300, text=1_000_000)
    with Converter(limits) as converter:
        for what in REASONS:
            if what == "hang":  # the others end by themselves, however long a busy machine takes for it
                converter.close()
                converter.limits = replace(limits, wall=10)
            with pytest.raises(Unusable) as raised:
                converter.convert(write(traps / "a.rtf", b"{\\rtf1%" + what.encode()))
            given[what], converter.limits = str(raised.value), limits
            assert converter.convert(fine).markdown == "fine"
    assert given == REASONS
    assert not (traps / "written").exists()


def test_one_process_serves_many_files_however_big_its_parent_is(tmp_path: Path) -> None:
    path, ballast = write(tmp_path / "a.rtf", office_files.RTF), b"x" * 250_000_000
    with Converter() as converter:
        converter.convert(path)
        child = converter._child
        converter.convert(path)
        assert child is not None
        assert child is converter._child
    assert len(ballast) > converter.limits.memory // 2


def test_a_process_that_was_killed_between_two_files_is_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "a.rtf", office_files.RTF)
    with Converter() as converter:
        converter.convert(path)
        assert converter._child is not None
        converter._child._process.kill()
        converter._child._process.wait()
        assert converter.convert(path).markdown == RTF


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
    assert convert.convert(write(tmp_path / "a.rtf", office_files.RTF)).markdown == RTF


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
        "tags.html": (b"<html>" + b"<a>" * 1_000_000, "1,000,001 tags in 3.0 MB are too many"),
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


@pytest.mark.parametrize("count", [20, pytest.param(10_000 // len(SAMPLES) + 1, marks=pytest.mark.long)])
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
