"""A document of any format becomes Markdown. Foreign formats are parsed in a process of its own, with limits."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from ftq.errors import printable
from ftq.formats import decode, headings, kind
from ftq.formats.kind import Kind, Unusable
from ftq.formats.plain import mail, settings
from ftq.version import install

INSTALL = install("formats")
MODULES = {Kind.HTML: ("bs4", "markdownify"), Kind.PDF: ("anydoc", "pypdf")}  # which convert it; else anydoc alone
HERE = Path(__file__).resolve().parents[2]  # where the package ftq lies: never the current folder, which is anybody's
LENGTH = 8  # bytes before an answer: how long it is
# What the process sees of the environment: no secret, and no key of a service that could convert instead.
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "SYSTEMROOT")


@dataclass(frozen=True)
class Limits:
    """What a file may take: bytes on disk and of memory, seconds of processor and of clock; characters it may give."""

    file: int = kind.MOST_BYTES
    memory: int = 400_000_000
    cpu: int = 60
    wall: int = 300
    text: int = 50_000_000


@dataclass(frozen=True)
class Converted:
    """`marks` are (line of the Markdown, where that lies in the file), ascending; without any, the lines are alike."""

    markdown: str
    notes: tuple[str, ...] = ()
    skipped_pages: tuple[int, ...] = ()
    marks: tuple[tuple[int, str], ...] = ()

    def where(self, line: int) -> str:
        """Where a line of the Markdown comes from: 'line 12', 'page 3'; empty where that isn't known."""
        if not self.marks:
            return f"line {line}"
        index = bisect_right(self.marks, line, key=lambda mark: mark[0])
        return self.marks[index - 1][1] if index else ""


def convert(path: Path, limits: Limits | None = None) -> Converted:
    """One file as Markdown. Raises Unusable with what to do, OSError if it can't be read."""
    with Converter(limits) as converter:
        return converter.convert(path)


class Converter:
    """`with Converter() as converter`: converts many files by one process, replaced when it dies on one."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._child: _Child | None = None

    def convert(self, path: Path) -> Converted:
        """Markdown of a file. Raises Unusable with what to do, OSError if it can't be read."""
        what, head = kind.begun(path, self.limits.file)
        if what in (Kind.JSON, Kind.JSONL):
            raise Unusable(f"{what} holds records, not text")
        if what in (Kind.MARKDOWN, Kind.TEXT):
            decoded = decode.text(head if len(head) < kind.HEAD else path.read_bytes())
            if (lines := 1 + decoded.text.count("\n") + decoded.text.count("\r")) > kind.MOST_LINES:
                raise Unusable(f"{lines:,} lines are too many (at most {kind.MOST_LINES:,}): split it")
            converted = _plain(decoded) if what is Kind.TEXT else Converted(decoded.text, decoded.notes)
        else:
            converted = self._by_child(path, what)
        if not converted.markdown.strip():
            raise Unusable("; ".join(("no text in it", *converted.notes)))
        named = kind.SUFFIXES.get(path.suffix.lower(), what)
        note = (f"named {path.suffix}, but {what} inside",) if named is not what else ()
        return replace(converted, notes=note + converted.notes) if note else converted

    def close(self) -> None:
        if self._child:
            self._child.end()
            self._child = None

    def __enter__(self) -> Converter:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _by_child(self, path: Path, what: Kind) -> Converted:
        if not all(map(find_spec, MODULES.get(what, ("anydoc",)))):
            raise Unusable(f"{what} needs a converter: {INSTALL}")
        if self._child and not self._child.alive:  # something killed it meanwhile, and not this file
            self.close()
        self._child = self._child or _Child(self.limits)
        try:
            answer = self._child.ask(path, what)
        except BaseException:  # it is dead, or its answer would be taken for that on the next file
            self.close()
            raise
        if answer.pop("spent"):
            self.close()
        if reason := answer.get("reason"):
            raise Unusable(reason)
        marks = tuple((int(line), str(where)) for line, where in answer["marks"])
        return Converted(answer["markdown"], tuple(answer["notes"]), tuple(answer["skipped_pages"]), marks)


def _plain(decoded: decode.Decoded) -> Converted:
    """Plain text with its headings, without what a mail quotes; settings as code."""
    if code := settings.fenced(decoded.text):
        return Converted(code, decoded.notes, marks=settings.marks(code))
    text, count = mail.without(decoded.text)
    quoted = (f"{count} lines of quoted mail and signatures left out",) if count else ()
    return Converted(headings.of_text(text), (*decoded.notes, *quoted))


class _Child:
    """The process. It gets open files, never paths, over a socket of its own."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 — as long as the process
        self._socket, theirs = socket.socketpair()
        known = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        known["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-P", "-m", "ftq.formats.child", str(theirs.fileno()), json.dumps(asdict(limits))]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env=known,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            self._socket.close()
            self._errors.close()
            raise
        finally:
            theirs.close()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, path: Path, what: Kind) -> dict[str, Any]:
        """Its answer on a file. Raises Unusable if it dies on it or doesn't answer in time."""
        until = time.monotonic() + self._limits.wall
        question = json.dumps({"kind": what}).encode()
        try:
            with path.open("rb") as file:
                self._socket.settimeout(self._limits.wall)
                socket.send_fds(self._socket, [question], [file.fileno()])
            length = int.from_bytes(self._receive(LENGTH, until), "big")
            if length > 6 * self._limits.text + 1_000_000:  # JSON writes a character in up to six bytes
                raise Unusable(f"gives more than {self._limits.text / 1e6:,.0f} million characters: split it")
            answer = json.loads(self._receive(length, until))
        except TimeoutError:
            raise Unusable(f"took more than {self._limits.wall} s to convert: split it") from None
        except ConnectionError:
            raise Unusable(self._why_dead()) from None
        assert isinstance(answer, dict)
        return answer

    def _receive(self, length: int, until: float) -> bytearray:
        buffer = bytearray()
        while len(buffer) < length:
            self._socket.settimeout(max(0.001, until - time.monotonic()))
            chunk = self._socket.recv(min(length - len(buffer), 1 << 20))
            if not chunk:
                raise ConnectionResetError
            buffer += chunk
        return buffer

    def _why_dead(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 0  # it closed its socket and lives on: the end of this object kills it
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 4096))
        said = self._errors.read().decode(errors="replace")
        if code == -signal.SIGXCPU:
            return f"took more than {self._limits.cpu} s of processor time to convert: split it"
        if code == -signal.SIGALRM:
            return f"took more than {self._limits.wall} s to convert: split it"
        if code == -signal.SIGKILL:
            return "the converter was killed: this machine may have too little memory for it"
        if "memory allocation of" in said or "MemoryError" in said:
            return f"needs more than {self._limits.memory / 1e6:,.0f} MB of memory to convert: split it"
        ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        last = f": {printable(said.splitlines()[-1])[:200]}" if code > 0 and said else ""
        return f"the converter died on it ({ended}{last}): save it again, or as another format"

    def end(self) -> None:
        """End it and all that it started."""
        self._socket.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._errors.close()
