"""The bucket itself: bytes under keys, through fsspec. Every error says what to do about it.

OutOfReach means that the same call may succeed later; Gone that there is no such object.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from ftq.errors import FtqError, Unavailable, UserError, first_line
from ftq.files.remote.parts import kinds
from ftq.files.remote.parts.kinds import Begun
from ftq.files.remote.parts.parts import Parts

PROBE_SECONDS = 4.5  # a person waits for it
CONNECT_SECONDS, READ_SECONDS = 5, 30
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}  # the scheme's package
INSTALL = "pip install -r requirements/cluster.txt   (or: pip install 'ftq[s3]')"
LOCAL = "file"
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) name the user; AWS_ENDPOINT_URL a server that "
    "isn't Amazon's",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS names the key's file",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY name the account",
}
Value = TypeVar("Value")


class OutOfReach(Unavailable):
    """The bucket can't be used now: it is missing, closed or unreachable."""

    is_lasting = False  # whether somebody has to mend a setting first


class Misnamed(OutOfReach):
    """There is no such bucket, or it is closed to these credentials."""

    is_lasting = True


class Gone(FtqError):
    """There is no such object."""


class Interrupted(Exception):
    """Nobody waits for the transfer any more."""


def check_installed(url: str) -> None:
    """UserError if the package for the URL's scheme is missing, with what to type."""
    scheme = url.partition("://")[0]
    if scheme not in (*PACKAGES, LOCAL):
        known = ", ".join(f"{name}://" for name in ("s3", "gs", "az", LOCAL))
        raise UserError(f"FTQ_ARTIFACTS_URL={url}: no such kind of bucket", f"Known: {known}")
    for package in ("fsspec", PACKAGES.get(scheme, "fsspec")):
        if sys.modules.get(package, package) is None or find_spec(package) is None:
            fix = INSTALL if package in ("fsspec", "s3fs") else f"pip install {package}"
            raise UserError(f"{package} isn't installed here: {url} needs it", fix)


class Bucket:
    """Keys are relative to the URL. Threads may share it; a forked process has to make its own."""

    def __init__(self, url: str, patient: bool = True) -> None:
        """Without patience an unreachable bucket is told of in seconds: a person waits."""
        self.url, self._patient = url, patient
        self.scheme, _, place = url.partition("://")
        self._root = place if self.scheme != LOCAL else os.path.abspath(place)

    @cached_property
    def _fs(self) -> Any:
        return self._open(CONNECT_SECONDS, READ_SECONDS, attempts=3) if self._patient else self._open(2, 10, attempts=1)

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        data: bytes = self._do(key, lambda fs, path: fs.cat_file(path, start=start, end=end))
        return data

    def write(self, key: str, data: bytes) -> None:
        """Put a small object there, whole or not at all."""

        def write(fs: Any, path: str) -> None:
            if self.scheme != LOCAL:
                fs.pipe_file(path, data)
                return
            fs.makedirs(os.path.dirname(path), exist_ok=True)
            fs.pipe_file(path + ".partial", data)
            os.replace(path + ".partial", path)

        self._do(key, write)

    def put(self, key: str, file: Path) -> None:
        """Put a file there, whole or not at all."""

        def put(fs: Any, path: str) -> None:
            if self.scheme != LOCAL:
                fs.put_file(str(file), path)
                return
            fs.makedirs(os.path.dirname(path), exist_ok=True)
            fs.put_file(str(file), path + ".partial")
            os.replace(path + ".partial", path)

        self._do(key, put)

    def parts(self, key: str) -> Parts | None:
        """The object as one that goes up in parts; None where this kind of bucket takes it whole."""
        return kinds.parts_of(self.scheme, lambda action: self._do(key, action))

    def begun(self, prefix: str = "") -> list[Begun]:
        """What has begun to go up in parts below the prefix, which is a folder's name, and isn't whole."""
        return self._do(prefix, lambda fs, path: kinds.begun(self.scheme, fs, path, self._path("")))

    def give_up(self, *uploads: Begun) -> None:
        for upload in uploads:
            self._do(upload.key, lambda fs, path, upload=upload: kinds.end(fs, path, upload))  # type: ignore[misc]

    def copy(self, source: str, key: str) -> None:
        """Copy an object on the server's side. Gone if it isn't there."""

        def copy(fs: Any, path: str) -> None:
            if self.scheme == LOCAL:
                fs.makedirs(os.path.dirname(path), exist_ok=True)
            fs.cp_file(self._path(source), path)

        self._do(source, lambda fs, _: copy(fs, self._path(key)))

    def sizes(self, prefix: str) -> dict[str, int]:
        """{key: bytes} of every object below the prefix, which is a folder's name."""

        def sizes(fs: Any, path: str) -> dict[str, int]:
            top = len(self._path("")) + 1
            found = fs.find(path, detail=True)
            return {name[top:]: int(info["size"] or 0) for name, info in found.items() if info["type"] == "file"}

        try:
            return {key: size for key, size in self._do(prefix, sizes).items() if not key.endswith(".partial")}
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

    def delete(self, *keys: str) -> None:
        """Delete objects, or everything below folders; what isn't there is no error."""

        def delete(fs: Any, path: str) -> None:
            with _ignoring(FileNotFoundError):
                fs.rm(path, recursive=True)

        for key in keys:
            self._do(key, delete)

    def probe(self, *, write: bool = False) -> None:
        """OutOfReach within five seconds if the bucket can't be used; with `write`, if nothing can be put there."""
        outcome, fs = list[BaseException | None](), self._open(2, 3, attempts=1)  # a busy machine imports for seconds

        def look() -> None:
            try:
                self._probe(fs, write)
                outcome.append(None)
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=look, name="bucket probe", daemon=True)
        thread.start()
        thread.join(PROBE_SECONDS)
        if not outcome:
            raise self._unreachable(f"no answer within {PROBE_SECONDS:g} s")
        if outcome[0]:
            raise outcome[0]

    # ---- inside -----------------------------------------------------------------------------------------

    def _probe(self, fs: Any, write: bool) -> None:
        try:
            self._check_place(fs)
            if write:
                path = self._path(f".ftq-doctor-{os.urandom(6).hex()}")
                fs.pipe_file(path, b"ftq")
                if fs.cat_file(path) != b"ftq":
                    raise OSError("it gives back other bytes than it was given")
                fs.rm_file(path)
        except FtqError:
            raise
        except Exception as error:
            raise self._translated(error) from error

    def _check_place(self, fs: Any) -> None:
        """Whether the bucket is there and may be listed; so has file://'s folder to be: its mount may be missing."""
        if self.scheme == LOCAL:
            if not os.path.isdir(self._root):
                hint = f"Mount its disk, or make it: mkdir -p {self._root}"
                raise OutOfReach(f"bucket {self.url}: there is no such folder", hint)
            return
        with _ignoring(FileNotFoundError, unless=_is_no_bucket):
            next(iter(fs.ls(self._root, detail=False)), None)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}".rstrip("/")

    def _do(self, key: str, action: Callable[[Any, str], Value]) -> Value:
        try:
            return action(self._fs, self._path(key))
        except (FtqError, Interrupted):
            raise
        except FileNotFoundError as error:
            if _is_no_bucket(error):
                raise self._translated(error) from error
            if self.scheme == LOCAL:
                self._check_place(self._fs)
            raise Gone(f"{self.url}/{key} isn't there", "Somebody has deleted it from the bucket.") from error
        except Exception as error:
            raise self._translated(error) from error

    def _open(self, connect: int, read: int, attempts: int) -> Any:
        """The file system of the URL's scheme. UserError where its package is missing."""
        check_installed(self.url)
        import fsspec

        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if self.scheme == "s3":
            retries = {"mode": "standard", "total_max_attempts": attempts}
            timeouts = {"connect_timeout": connect, "read_timeout": read}
            options["config_kwargs"] = {**timeouts, "retries": retries}
        fs = fsspec.filesystem(self.scheme, **options)
        if self.scheme == "s3":
            fs.retries = attempts
            for name in ("botocore", "aiobotocore"):  # they tell at each start where they have found the credentials
                logging.getLogger(name).setLevel(logging.WARNING)
        return fs

    def _translated(self, error: BaseException) -> OutOfReach:
        names = {type(one).__name__ for one in _chain(error)}
        text = first_line(error).partition(': "http')[0] or type(error).__name__  # no address of a single request
        who = CREDENTIALS.get({"gcs": "gs", "abfs": "az"}.get(self.scheme, self.scheme), "")
        if _is_no_bucket(error):
            name = self._root.partition("/")[0]
            make = f"aws s3 mb s3://{name}, or correct" if self.scheme == "s3" else "Make it, or correct"
            return Misnamed(f"bucket {self.url}: there is no bucket {name}", f"{make} FTQ_ARTIFACTS_URL.")
        if names & {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenRetrievalError"}:
            return Misnamed(f"bucket {self.url}: no credentials ({text})", f"{who}.")
        if isinstance(error, PermissionError):
            hint = f"{who}. The user has to list, read, write and delete below the URL."
            if self.scheme == LOCAL:
                hint = f"Correct the owner and mode of {self._root}."
            return Misnamed(f"bucket {self.url} is closed ({text})", hint)
        return self._unreachable(text)

    def _unreachable(self, text: str) -> OutOfReach:
        server = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        where = f" at {server}" if self.scheme == "s3" and server else ""
        hint = "Is its server up, and AWS_ENDPOINT_URL right?" if self.scheme == "s3" else "Is it up?"
        if "Invalid endpoint" in text or "WRONG_VERSION_NUMBER" in text:
            hint = "AWS_ENDPOINT_URL begins with http://, or with https:// if the server has a certificate."
        return OutOfReach(f"bucket {self.url}{where} is unreachable ({text})", f"{hint} `ftq doctor` looks again.")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _is_no_bucket(error: BaseException) -> bool:
    return any(type(one).__name__ == "NoSuchBucket" or "bucket is not valid" in str(one) for one in _chain(error))


class _ignoring:
    """Ignore errors of this kind, unless they mean something else."""

    def __init__(self, kind: type[Exception], unless: Callable[[BaseException], bool] = lambda error: False) -> None:
        self.kind, self.unless = kind, unless

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, self.kind) and not self.unless(error)
