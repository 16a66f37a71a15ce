"""Documents that a browser uploads: a folder of their own, until they are submitted or nobody has for a day."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from ftq.store.gateway.keys import Key
from gateway.errors import ApiError
from gateway.files.arrival import clear_errors, too_large

MOST_FILES, MOST_FIELDS, FIELD_BYTES = 300, 30, 2**16
MOST_BYTES = 500 * 10**6  # of one form; until it is whole it is in the system's folder for temporary files
LONGEST_NAME = 120  # characters
KEPT, FORMS = 86_400.0, 4  # seconds that uploads are kept, and how many of a key's, the newest
TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")


class _Parser(MultiPartParser):
    spool_max_size = 2**16  # bytes of a file that are in memory


async def read_form(request: Request, most: int) -> FormData:
    """The form's fields and files. ApiError 413 if there is more than `most` bytes, 400 for a body that is no form."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ApiError(400, "The form has to be multipart/form-data.")
    try:
        with clear_errors():
            return await _Parser(
                request.headers,
                _counted(request, most),
                max_files=MOST_FILES,
                max_fields=MOST_FIELDS,
                max_part_size=FIELD_BYTES,
            ).parse()
    except (MultiPartException, KeyError) as error:
        raise ApiError(400, f"The form can't be read: {getattr(error, 'message', 'it has no boundary')}") from None
    except ClientDisconnect:
        raise ApiError(400, "The connection ended before the form did.") from None


def keep(home: Path, key: Key, files: list[UploadFile]) -> str:
    """Put the files in a folder of the key's, by their names: the token that `folder_of` takes."""
    _forget_old(home, key)
    token = secrets.token_urlsafe(16)
    folder = _place(home, key, token)
    try:
        with clear_errors():
            folder.mkdir(parents=True)
            for number, file in enumerate(files, 1):
                with (folder / _free(folder, file.filename or "", number)).open("xb") as target:
                    shutil.copyfileobj(file.file, target)
    except BaseException:
        shutil.rmtree(folder.parent, ignore_errors=True)
        raise
    return token


def folder_of(home: Path, key: Key, token: str) -> Path:
    """Where the key's uploaded documents are. ApiError 400 if they aren't there any more."""
    folder = _place(home, key, token) if TOKEN.fullmatch(token) else None
    if folder is None or not folder.is_dir():
        raise ApiError(400, "The uploaded files are gone: only the newest are kept, for a day. Choose them again.")
    return folder


def forget(folder: Path) -> None:
    shutil.rmtree(folder.parent, ignore_errors=True)


async def _counted(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    total = 0
    async for piece in request.stream():
        total += len(piece)
        if total > most:
            raise too_large(most)
        yield piece


def _place(home: Path, key: Key, token: str) -> Path:
    """`ftq gc` knows such a name, and no snapshot of another folder takes it in."""
    return home / f".page-{key.id}-{token}.partial" / "documents"


def _free(folder: Path, name: str, number: int) -> str:
    """The file's own name as far as it can be one of a document here; the formats are told by its ending."""
    name = re.sub(r"[^\w. ()+,=@-]", "_", re.split(r"[/\\]", name)[-1]).lstrip(". ").strip()
    stem, dot, suffix = name.rpartition(".")
    stem = (stem if dot else name)[-LONGEST_NAME:] or f"file {number}"
    while len(stem.encode()) > 2 * LONGEST_NAME:  # a name has 255 bytes at most
        stem = stem[1:]
    ending = f".{suffix[:10]}" if dot else ""
    free = f"{stem}{ending}"
    return f"{stem} ({number}){ending}" if (folder / free).exists() else free


def _forget_old(home: Path, key: Key) -> None:
    """Make room for one more: what is too old goes, and what is too much."""
    made = list[tuple[float, Path]]()
    for folder in home.glob(f".page-{key.id}-*.partial"):
        with contextlib.suppress(FileNotFoundError):  # another form of the same key has made room meanwhile
            made.append((folder.stat().st_mtime, folder))
    for number, (at, folder) in enumerate(sorted(made, reverse=True), 1):
        if time.time() - at > KEPT or number >= FORMS:
            shutil.rmtree(folder, ignore_errors=True)
