"""The bucket itself: bytes under keys, through fsspec. Every error says what to do about it.

OutOfReach means that the same call may succeed later; Gone that there is no such object.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from ftq.errors import FtqError
from ftq.files.remote.kinds import errors, kinds, opening
from ftq.files.remote.kinds.errors import OutOfReach as OutOfReach
from ftq.files.remote.kinds.kinds import LOCAL, Begun, Object
from ftq.files.remote.kinds.opening import opener
from ftq.files.remote.kinds.parts import Parts
from ftq.files.remote.kinds.silence import MOVING, PROBE_SECONDS, Silence

CONNECT_SECONDS, READ_SECONDS = 5, 30
OPEN_SECONDS = 3.5  # for the library to be ready, which may ask a server for credentials
WRITE_SECONDS = 0.5  # more than PROBE_SECONDS, for three more requests
TRIED = ".ftq-doctor-"  # begins the name of what a probe puts there
MOVED = "Somebody has deleted it from the bucket, or FTQ_ARTIFACTS_URL was another one when it was made."
Value = TypeVar("Value")


class Gone(FtqError):
    """There is no such object."""


class Interrupted(Exception):
    """Nobody waits for the transfer any more."""


class Bucket:
    """Keys are relative to the URL. Threads may share it; a forked process has to make its own."""

    def __init__(
        self, url: str, patient: bool = True, advise: Callable[[OutOfReach], OutOfReach] = lambda error: error
    ) -> None:
        """Without patience an unreachable or silent bucket is told of in seconds: a person waits.

        With it, whoever waits can look at `silence`. `advise` adds to an error what else is known.
        """
        self.url, self._patient, self._advise = url, patient, advise
        scheme, _, place = url.partition("://")
        self.kind = kinds.kind_of(scheme)
        self._root = place if self.kind != LOCAL else os.path.abspath(place)
        self.silence = Silence(self.ask)
        self._opening = threading.Lock()
        self._tried = f"{TRIED}{os.urandom(6).hex()}"  # one name: who may not delete leaves one object

    @property
    def _fs(self) -> Any:
        with self._opening:  # one for all threads
            return self._opened

    @cached_property
    def _opened(self) -> Any:
        if self._patient:
            return opener(self.url, CONNECT_SECONDS, READ_SECONDS, attempts=2)()
        return opener(self.url, MOVING[1], READ_SECONDS, attempts=1)()

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        is_piece = start is not None
        data: bytes = self._do(key, lambda fs, path: fs.cat_file(path, start=start, end=end), moves_file=is_piece)
        return data

    def write(self, key: str, data: bytes) -> None:
        """Put a small object there, whole or not at all."""

        def write(fs: Any, path: str) -> None:
            if self.kind != LOCAL:
                fs.pipe_file(path, data)
                return
            fs.makedirs(os.path.dirname(path), exist_ok=True)
            fs.pipe_file(path + ".partial", data)
            os.replace(path + ".partial", path)

        self._do(key, write, puts=True)

    def put(self, key: str, file: Path) -> None:
        """Put a file there, whole or not at all."""

        def put(fs: Any, path: str) -> None:
            if self.kind != LOCAL:
                fs.put_file(str(file), path)
                return
            fs.makedirs(os.path.dirname(path), exist_ok=True)
            fs.put_file(str(file), path + ".partial")
            os.replace(path + ".partial", path)

        self._do(key, put, moves_file=True, puts=True)

    def parts(self, key: str) -> Parts | None:
        """The object as one that goes up in parts; None where this kind of bucket takes it whole."""
        return kinds.parts_of(self.kind, lambda action: self._do(key, action, moves_file=True, puts=True))

    def begun(self, prefix: str = "") -> list[Begun]:
        """What has begun to go up in parts below the prefix, which is a folder's name, and isn't whole."""
        return self._do(prefix, lambda fs, path: kinds.begun(self.kind, fs, path, self._path("")))

    def give_up(self, *uploads: Begun) -> None:
        for upload in uploads:
            self._do(upload.key, lambda fs, path, upload=upload: kinds.end(fs, path, upload))  # type: ignore[misc]

    def copy(self, source: str, key: str) -> None:
        """Copy an object on the server's side. Gone if it isn't there."""

        def copy(fs: Any, path: str) -> None:
            if self.kind == LOCAL:
                fs.makedirs(os.path.dirname(path), exist_ok=True)
            kinds.copy(self.kind, fs, self._path(source), path)

        self._do(source, lambda fs, _: copy(fs, self._path(key)), puts=True)

    def sizes(self, prefix: str) -> dict[str, int]:
        """{key: bytes} of every object below the prefix, which is a folder's name."""
        return {key: one.bytes for key, one in self.objects(prefix).items()}

    def objects(self, prefix: str) -> dict[str, Object]:
        """{key: what is known of it} of every object below the prefix, which is a folder's name."""

        def objects(fs: Any, path: str) -> dict[str, Object]:
            top, found = len(self._path("")) + 1, fs.find(path, detail=True)
            return {name[top:]: kinds.object_of(info) for name, info in found.items() if info["type"] == "file"}

        try:
            return {key: one for key, one in self._do(prefix, objects).items() if not key.endswith(".partial")}
        except Gone:
            return {}

    def names(self, prefix: str = "") -> list[str]:
        """The names directly below the prefix, folders without their slash."""

        def names(fs: Any, path: str) -> list[str]:
            return sorted({str(name).rstrip("/").rpartition("/")[2] for name in fs.ls(path, detail=False)})

        try:
            return [name for name in self._do(prefix, names) if not name.endswith(".partial")]
        except Gone:
            return []

    def tried(self) -> dict[str, Object]:
        """{key: what is known of it} of what `probe` has put there, and hasn't deleted (yet)."""

        def tried(fs: Any, path: str) -> dict[str, Object]:
            infos = [(str(one["name"]).rpartition("/")[2], one) for one in fs.ls(path, detail=True)]
            return {name: kinds.object_of(info) for name, info in infos if name.startswith(TRIED)}

        try:
            return self._do("", tried)
        except Gone:
            return {}

    def delete(self, *keys: str) -> None:
        """Delete objects, or everything below folders; what isn't there is no error."""

        def delete(fs: Any, path: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                fs.rm(path, recursive=True)

        for key in keys:
            self._do(key, delete)

    def probe(self, *, write: bool = False, seconds: float | None = None) -> None:
        """OutOfReach within five seconds if the bucket can't be used; with `write`, if nothing can be put there.

        `seconds`: within so many. It connects anew.
        """
        limit = seconds or PROBE_SECONDS + (WRITE_SECONDS if write else 0)
        open_it = opener(self.url, limit, limit, attempts=1)  # imports the library
        fs = self._within(max(limit, OPEN_SECONDS), lambda: self._ready(open_it))
        self._try(fs, limit, write)

    def ask(self, seconds: float, write: bool = False) -> None:
        """OutOfReach unless the bucket answers something small, or takes it, within so many seconds."""
        self._try(self._asker, seconds, write)

    # ---- inside -----------------------------------------------------------------------------------------

    @cached_property
    def _asker(self) -> Any:
        """A file system of its own: those who move files may use all connections of the other."""
        return self._ready(opener(self.url, MOVING[1], MOVING[1], attempts=1))

    def _ready(self, open_it: Callable[[], Any]) -> Any:
        """A file system that has all that its first request needs: a busy machine may take seconds for that."""
        with self._translating():
            fs = open_it()
            opening.connect(self.kind, fs)
            return fs

    def _try(self, fs: Any, seconds: float, write: bool) -> None:
        lists = threading.Event()
        self._within(seconds, lambda: self._probe(fs, write, lists), lists)

    def _within(self, seconds: float, action: Callable[[], Value], lists: threading.Event | None = None) -> Value:
        done = _begun(action)
        if not wait([done], timeout=seconds).done:
            kind = errors.takes_nothing if lists and lists.is_set() else errors.unreachable
            raise self._advise(kind(f"no answer within {seconds:g} s", self.url))
        return done.result()

    def _probe(self, fs: Any, write: bool, lists: threading.Event) -> None:
        with self._translating():
            self._check_place(fs)
        lists.set()
        if write:
            with self._translating(gives=True):
                path = self._path(self._tried)
                fs.pipe_file(path, b"ftq")
                if fs.cat_file(path) != b"ftq":
                    raise OSError("it gives back other bytes than it was given")
                fs.rm_file(path)

    def _check_place(self, fs: Any) -> None:
        """Whether the bucket is there and may be listed; so has file://'s folder to be: its mount may be missing."""
        if self.kind == LOCAL:
            if not os.path.isdir(self._root):
                hint = f"Mount its disk, or make it: mkdir -p {self._root}"
                raise self._advise(OutOfReach(f"bucket {self.url}: there is no such folder", hint))
            return
        opening.look(self.kind, fs, self._root)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}".rstrip("/")

    def _do(self, key: str, action: Callable[[Any, str], Value], moves_file: bool = False, puts: bool = False) -> Value:
        if self._patient:
            return self._call(key, action, moves_file, puts)
        self.silence.refuse(puts)
        answer = _begun(lambda: self._call(key, action, moves_file, puts))
        while not wait([answer], timeout=0.1).done:
            self.silence.check(puts)
        return answer.result()

    def _call(self, key: str, action: Callable[[Any, str], Value], moves_file: bool, puts: bool) -> Value:
        try:
            with self.silence.during(moves_file, puts):
                return action(self._fs, self._path(key))
        except (FtqError, Interrupted):
            raise
        except Exception as error:
            if not errors.is_missing(error) or errors.is_no_bucket(error):
                raise self._advise(errors.explain(error, self.url, gives=puts and self._gives(error))) from error
            if self.kind != "s3":  # others tell as much of a bucket that is missing
                with self._translating():
                    self._check_place(self._fs)
            raise Gone(f"{self.url}/{key} isn't there", MOVED) from error

    def _gives(self, error: BaseException) -> bool:
        """Whether a bucket that hasn't taken something can be read: it is asked where its error leaves that open."""
        if errors.is_full(error):
            return True
        if not (errors.is_closed(error) or errors.is_silent(error)):
            return False
        try:
            self.ask(PROBE_SECONDS)
            return True
        except FtqError:
            return False

    @contextlib.contextmanager
    def _translating(self, gives: bool = False) -> Iterator[None]:
        try:
            yield
        except FtqError:
            raise
        except Exception as error:
            raise self._advise(errors.explain(error, self.url, gives=gives)) from error


def _begun(action: Callable[[], Value]) -> Future[Value]:
    """The action in a thread that nobody has to wait for, not even the end of the process."""
    answer = Future[Value]()

    def act() -> None:
        try:
            answer.set_result(action())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=act, name="bucket", daemon=True).start()
    return answer
