"""Documents that a browser uploads: a folder of their own, until they are submitted or nobody has for a day."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from ftq.store.gateway.keys import Key
from gateway.errors import ApiError
from gateway.files.arrival import clear_errors, too_large

MOST_FILES, MOST_FIELDS, FIELD_BYTES = 300, 30, 2**16
MOST_BYTES = 500 * 10**6  # of one form
ARRIVING = "arriving"  # the folder of files that have no names yet
LONGEST_NAME = 120  # characters
KEPT, FORMS = 86_400.0, 4  # seconds that uploads are kept, and how many of a key's, the newest
TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")


class _Parser(MultiPartParser):
    """Writes each file where it is to stay: 500 MB are neither written twice nor put on the disk of /tmp."""

    folder: Path

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if (upload := self._current_part.file) and upload.filename:
            upload.file.close()
            upload.file = (self.folder / str(len(self._files_to_close_on_error))).open("x+b")
            self._files_to_close_on_error.append(upload.file)  # type: ignore[arg-type]


@asynccontextmanager
async def arriving(request: Request, most: int, home: Path, key: Key) -> AsyncIterator[FormData]:
    """The form's fields and files, which are gone after the block unless `keep` has kept them.

    ApiError 413 if there is more than `most` bytes, 400 for a body that is no form.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ApiError(400, "The form has to be multipart/form-data.")
    folder = await run_in_threadpool(_begin, home, key)
    try:
        form = await _read(request, most, folder)
        try:
            yield form
        finally:
            await form.close()
    finally:
        await run_in_threadpool(_end, folder)


async def _read(request: Request, most: int, folder: Path) -> FormData:
    parser = _Parser(
        request.headers,
        _counted(request, most),
        max_files=MOST_FILES,
        max_fields=MOST_FIELDS,
        max_part_size=FIELD_BYTES,
    )
    parser.folder = folder
    try:
        with clear_errors():
            return await parser.parse()
    except (MultiPartException, KeyError) as error:
        raise ApiError(400, f"The form can't be read: {getattr(error, 'message', 'it has no boundary')}") from None
    except ClientDisconnect:
        raise ApiError(400, "The connection ended before the form did.") from None


def keep(home: Path, key: Key, files: list[UploadFile]) -> str:
    """Give the files their names, in a folder of the key's: the token that `folder_of` takes."""
    arrived = [Path(str(file.file.name)) for file in files]
    token = arrived[0].parent.parent.name.removeprefix(f".page-{key.id}-").removesuffix(".partial")
    _forget_old(home, key)
    folder = _place(home, key, token)
    try:
        with clear_errors():
            folder.mkdir()
            for number, (file, path) in enumerate(zip(files, arrived, strict=True), 1):
                path.rename(folder / _free(folder, file.filename or "", number))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
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


def _begin(home: Path, key: Key) -> Path:
    """A new place for files that arrive, beside that for those that are kept."""
    folder = _place(home, key, secrets.token_urlsafe(16)).with_name(ARRIVING)
    with clear_errors():
        folder.mkdir(parents=True)
    return folder


def _end(folder: Path) -> None:
    """Delete what wasn't kept, and the place if nothing was."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()


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
    """Make room for one more: what is too old goes, and what is too much of what has arrived."""
    made = list[tuple[float, Path]]()
    for folder in home.glob(f".page-{key.id}-*.partial"):
        with suppress(FileNotFoundError):  # another form of the same key has made room meanwhile
            made.append((folder.stat().st_mtime, folder))
    made.sort(reverse=True)
    kept = [folder for at, folder in made if time.time() - at <= KEPT and not (folder / ARRIVING).exists()]
    for folder in [*(folder for at, folder in made if time.time() - at > KEPT), *kept[FORMS - 1 :]]:
        shutil.rmtree(folder, ignore_errors=True)
