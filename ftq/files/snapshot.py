"""The snapshot of a documents folder: taken at submit, so that later edits don't change a run."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ftq.errors import NotFound, UserError, utf8
from ftq.formats.ignore import NAME as IGNORE
from ftq.formats.ignore import Ignore
from ftq.formats.kind import SUFFIXES
from ftq.words import listed, plural

SHOWN = 5  # kinds of other files that are named
HIDDEN, OTHER, IGNORED = "hidden", "not a kind of document that ftq reads", "left out by "  # reasons for leaving out
LINK, NAME, KIND, UNREADABLE = "a link ", "its name isn't UTF-8", "not a file", "can't be read ("
# What a disk says of a name that it doesn't take.
NO_NAME = (errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG, errno.ENOENT)
FIRST, PIECE = 2**16, 2**22  # bytes of a file that are in memory at once: most files end within the first
OURS = ("logs", "broker", "flower")  # in the artifacts folder, beside the runs and the database


@dataclass
class Snapshot:
    """What was taken. `hash` covers names and contents, `skipped` names documents that weren't taken and why.

    `others` says how many files of other kinds there are. `left_out` has (name, reason) of all that isn't hidden.
    """

    files: int = 0
    bytes: int = 0
    hash: str = ""
    skipped: list[str] = field(default_factory=list)
    others: str = ""
    left_out: list[tuple[str, str]] = field(default_factory=list)


def snapshot(folder: Path, target: Path | None, home: Path | None = None, earlier: Path | None = None) -> Snapshot:
    """Copy the documents into `target` (None: only read them). Those that can't be read are named and left out.

    `home` is the artifacts folder: `--documents .` shall not take in what earlier runs wrote. What an `earlier`
    snapshot has under the same name with the same bytes is linked, not copied: nobody writes to it. So is what ftq
    itself has put into a folder of `home` for this run.
    """
    documents, left_out = _look(folder, home)
    staged = _is_staged(folder, home)
    result, digest = Snapshot(), hashlib.sha256()
    for path, relative in documents:
        copy = os.path.join(target, relative) if target else ""
        same = os.path.join(earlier, relative) if earlier else ""
        try:
            hashed, size = _taken(path, copy, same, staged)
        except _Unreadable as error:
            left_out.append((Path(path), str(error)))
            continue
        digest.update(os.fsencode(relative) + b"\0" + hashed)
        result.files, result.bytes = result.files + 1, result.bytes + size
    result.left_out = [(_name(path, folder), reason) for path, reason in left_out]
    result.skipped, result.others = _skipped(left_out), _others(left_out)
    if not result.files:
        raise _nothing(folder, left_out)
    result.hash = digest.hexdigest()
    return result


def is_left_out(reason: str) -> bool:
    """Whether a file with this reason isn't taken at all; other reasons are told of documents that are."""
    return reason in (HIDDEN, OTHER, NAME, KIND) or reason.startswith((IGNORED, LINK, UNREADABLE))


class _Unreadable(Exception):
    pass


def _is_staged(folder: Path, home: Path | None) -> bool:
    """Whether the folder is one that `ftq serve` has made for what is sent to it: nobody else writes there."""
    if home is None:
        return False
    place, above = Path(os.path.realpath(folder)), Path(os.path.realpath(home))
    top = place.relative_to(above).parts[:1] if place.is_relative_to(above) else ()
    return any(name.startswith(".") and name.endswith(".partial") for name in top)


def _taken(path: str, target: str, earlier: str, staged: bool) -> tuple[bytes, int]:
    """(the content's hash, its bytes), copied to `target` if there is one. A large file is never in memory whole.

    A `staged` file is linked instead.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _Unreadable(_unreadable(error)) from None
    try:
        piece = _read(file, FIRST)
        more = _read(file, FIRST) if piece else b""  # a disk may give less than there is
        if not more:
            known = target and earlier and _has(piece, earlier) and _is_linked(earlier, target)
            if target and not (known or (staged and _is_linked(path, target))):
                with _new(target) as copy:
                    copy.write(piece)
            return hashlib.sha256(piece).digest(), len(piece)
        return _streamed(file, piece + more, "" if target and staged and _is_linked(path, target) else target)
    finally:
        os.close(file)


def _streamed(file: int, piece: bytes, target: str) -> tuple[bytes, int]:
    digest, size = hashlib.sha256(), 0
    with _new(target) if target else nullcontext() as copy:
        while piece:
            digest.update(piece)
            size += len(piece)
            if copy:
                copy.write(piece)
            piece = os.read(file, PIECE)
    return digest.digest(), size


def _read(file: int, most: int) -> bytes:
    try:
        return os.read(file, most)
    except OSError as error:
        raise _Unreadable(_unreadable(error)) from None


def _has(content: bytes, earlier: str) -> bool:
    """Whether there is an earlier copy, with these very bytes."""
    try:
        with open(earlier, "rb", buffering=0) as file:
            return file.read(FIRST + 1) == content
    except OSError:
        return False


def _is_linked(path: str, target: str) -> bool:
    """Whether the file has the target's name now, too."""
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.link(path, target)
    except OSError:  # a disk without links, too many of them, a name that this disk doesn't take
        return False
    return True


def _new(target: str) -> BinaryIO:
    """The copy's file. A disk may know no upper and lower case, and refuses names that others take."""
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        return open(target, "xb")
    except FileExistsError:
        raise _Unreadable("the artifacts' disk can't tell its name from another document's") from None
    except OSError as error:
        if error.errno not in NO_NAME:
            raise
        raise _Unreadable(f"its name can't be on the artifacts' disk ({error.strerror})") from None


def walk(folder: Path, home: Path | None = None) -> Iterator[tuple[Path, str]]:
    """(path, why it is no document; empty for a document) for everything below a folder, in a fixed order.

    A folder's files come before its folders. The runs in `home` are left out.
    """
    yield from ((Path(path), reason) for path, reason in _walk(folder, home))


def _walk(folder: Path, home: Path | None) -> Iterator[tuple[str, str]]:
    """The same with paths as texts: of many files, making a Path of each takes longest."""
    root, unreadable, ignore = Path(os.path.realpath(folder)), list[OSError](), Ignore(folder)
    for place, folders, names in os.walk(folder, onerror=unreadable.append):
        ours = home is not None and os.path.realpath(place) == str(home)
        folders[:] = [name for name in folders if not (ours and name in OURS) and not _is_run(Path(place, name), home)]
        inside = PurePosixPath(Path(place).relative_to(folder).as_posix())
        has_rules = ignore.has_rules(inside)
        ignored = {
            name: line for name in folders if has_rules and (line := ignore.reason(inside / name, is_folder=True))
        }
        barred = [name for name in folders if name in ignored or _is_barred(Path(place, name))]
        folders[:] = sorted(set(folders) - set(barred))
        for name in [*sorted(barred), *sorted(names)]:
            path = os.path.join(place, name)
            line = ignored.get(name, "") or (ignore.reason(inside / name) if has_rules else "")
            reason = f"{IGNORED}{line}" if line else _why_not(name, path, root)
            if not (ours and reason == OTHER):
                yield path, reason
    yield from ((str(error.filename), _unreadable(error)) for error in unreadable)


def _look(folder: Path, home: Path | None) -> tuple[list[tuple[str, str]], list[tuple[Path, str]]]:
    """(the documents with their names below the folder, what is left out and why). Hidden files don't count."""
    _check(folder)
    documents, left_out, top = list[tuple[str, str]](), list[tuple[Path, str]](), len(os.path.join(folder, ""))
    for path, reason in _walk(folder, home):
        if not reason:
            documents.append((path, path[top:]))
        elif reason != HIDDEN:
            left_out.append((Path(path), reason))
    if not documents:
        raise _nothing(folder, left_out)
    return sorted(documents, key=_in_order), left_out


def _in_order(document: tuple[str, str]) -> list[str]:
    return document[1].split(os.sep)  # as paths are compared, in a tenth of the time


def _name(path: Path, folder: Path) -> str:
    """Below the folder, with forward slashes; a folder that can't be read may lie elsewhere."""
    return utf8(path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path))


def _skipped(left_out: list[tuple[Path, str]]) -> list[str]:
    """The documents that can't be taken, with their reasons: neither ignored nor of another kind."""
    told = [(path, reason) for path, reason in left_out if reason != OTHER and not reason.startswith(IGNORED)]
    return sorted(utf8(f"{path}: {reason}") for path, reason in told)


def _check(folder: Path) -> None:
    """NotFound if the path is no folder, UserError if the folder can't be read."""
    try:
        os.scandir(folder).close()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        kind = "is a file, not a folder" if os.path.exists(folder) else "there is no such folder"
        hint = "Name a folder of documents: --documents DIR"
        raise NotFound(f"documents {folder}: {kind}", hint) from None
    except OSError as error:
        hint = "Name a folder that you may read: --documents DIR"
        raise UserError(f"documents {folder}: {_unreadable(error)}", hint) from None


def _is_run(path: Path, home: Path | None) -> bool:
    """Whether ftq wrote this folder for a run. Other folders may be in the artifacts folder, too."""
    return home is not None and os.path.isfile(path / "run.json") and os.path.realpath(path.parent) == str(home)


def _is_barred(folder: Path) -> bool:
    """Whether the folder's files aren't documents: it is hidden, a link, or its name isn't UTF-8."""
    return folder.name.startswith(".") or os.path.islink(folder) or utf8(folder.name) != folder.name


def _why_not(name: str, place: str, root: Path) -> str:
    """Why the path is no document; empty for a plain file and for a link to one below `root`."""
    if name.startswith("."):
        return HIDDEN
    if os.path.splitext(name)[1].lower() not in SUFFIXES and os.path.exists(place) and not os.path.isdir(place):
        return OTHER
    if not name.isascii() and utf8(name) != name:
        return NAME
    try:
        mode = os.lstat(place).st_mode
        if stat.S_ISLNK(mode):
            if not Path(os.path.realpath(place)).is_relative_to(root):
                return f"{LINK}that leads out of the folder"  # in a shared folder, it could lead to anybody's files
            mode = os.stat(place).st_mode
    except FileNotFoundError:
        return f"{LINK}to nothing"
    except OSError as error:
        return _unreadable(error)
    return "" if stat.S_ISREG(mode) else f"{LINK}to a folder" if stat.S_ISDIR(mode) else KIND


def _unreadable(error: OSError) -> str:
    return f"{UNREADABLE}{error.strerror})"


def _nothing(folder: Path, left_out: list[tuple[Path, str]]) -> UserError:
    skipped, others = _skipped(left_out), _others(left_out)
    ignored = [(path, reason.removeprefix(IGNORED)) for path, reason in left_out if reason.startswith(IGNORED)]
    number = sum(_files_in(path) for path, _ in ignored)
    why = "none of its documents can be taken" if skipped else "no document in it"
    hint = "Save what you have as text, HTML, PDF, an Office format or JSON, or name another folder: --documents DIR"
    if number:
        others = "; ".join(filter(None, (others, f"{plural(number, 'file')} left out by {IGNORE}")))
        hint = f"Correct {listed(sorted({line for _, line in ignored}))}, or name another folder: --documents DIR"
    if number and not skipped and len(ignored) == len(left_out):
        why, others = f"{IGNORE} leaves out all that is in it, {plural(number, 'file')}", ""
    return UserError(f"documents {folder}: {why}{f' ({others})' if others else ''}", "\n".join(skipped) or hint)


def _files_in(path: Path) -> int:
    """How many files an ignored one, or an ignored folder, is; hidden ones don't count."""
    if not path.is_dir() or path.is_symlink():
        return not path.name.startswith(".")
    return sum(not name.startswith(".") for _, _, names in os.walk(path) for name in names)


def _others(left_out: list[tuple[Path, str]]) -> str:
    """A text such as '3 other files left out: .exe, .log'; empty for none."""
    others = Counter(path.suffix.lower() for path, reason in left_out if reason == OTHER)
    number, kinds = others.total(), sorted(filter(None, others), key=lambda kind: (-others[kind], kind))
    named = ", ".join([*kinds[:SHOWN], "..."] if len(kinds) > SHOWN else kinds)
    files = f"{number:,} other {'file' if number == 1 else 'files'} left out"
    return utf8(f"{files}: {named}" if named else files) if number else ""
