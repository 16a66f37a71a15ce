"""S3: one client for all threads, and an upload in parts. The server keeps these until it is completed or aborted."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

from ftq.files.remote.kinds.parts import Do, Sums


class S3Parts:
    """A part's ETag is the MD5 of its bytes, unless the bucket encrypts with KMS: then only this process knows them."""

    def __init__(self, do: Do) -> None:
        self._do = do
        self._upload = ""
        self._etags = dict[int, str]()
        self._sent = dict[int, tuple[bytes, str]]()

    def left(self, sums: Sums) -> list[int] | None:
        if self._do(_etag_of) == sums.joined:
            return None
        self._upload, self._etags = "", {}
        for upload in self._do(lambda fs, path: unfinished(fs, path, exactly=True)):
            parts = self._do(partial(_parts, upload=upload))
            etags = {part["PartNumber"] - 1: part["ETag"] for part in parts}
            if not self._upload or len(etags) > len(self._etags):
                self._upload, self._etags = upload["UploadId"], etags
        return [index for index, part in enumerate(sums.parts) if not self._has(index, part)]

    def begin(self) -> None:
        if not self._upload:
            self._upload = self._call("create_multipart_upload")["UploadId"]

    def send(self, index: int, data: bytes, part: bytes) -> None:
        checked = {"Body": data, "ContentMD5": base64.b64encode(part).decode()}
        etag = self._call("upload_part", UploadId=self._upload, PartNumber=index + 1, **checked)["ETag"]
        self._etags[index] = etag
        self._sent[index] = (part, etag)

    def finish(self, sums: Sums) -> None:
        parts = [{"PartNumber": index + 1, "ETag": self._etags[index]} for index in range(len(sums.parts))]
        self._call("complete_multipart_upload", UploadId=self._upload, MultipartUpload={"Parts": parts})
        self._do(_abort_others)

    def _has(self, index: int, part: bytes) -> bool:
        etag = self._etags.get(index)
        return etag is not None and (etag.strip('"') == part.hex() or self._sent.get(index) == (part, etag))

    def _call(self, verb: str, **named: Any) -> dict[str, Any]:
        def call(fs: Any, path: str) -> dict[str, Any]:
            bucket, key, _ = fs.split_path(path)
            answer: dict[str, Any] = fs.call_s3(verb, Bucket=bucket, Key=key, **named)
            return answer

        return self._do(call)


@cache
def with_one_client(opens: Any) -> Any:
    """s3fs's file system, which makes a client for every thread that asks before the first has sent its request.

    A client is kept as long as the file system, and only the first knows the session that was given. What all clients
    know of S3 takes 12 MB and is shared here.
    """
    from aiobotocore.session import AioSession
    from fsspec.asyn import sync_wrapper

    class OneClient(opens):  # type: ignore[misc]
        session: Any

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._making = asyncio.Lock()
            self.session = self.session or AioSession()
            self.session.register_component("data_loader", _descriptions(self.session.get_config_variable("data_path")))

        async def set_session(self, refresh: bool = False, **options: Any) -> Any:
            async with self._making:
                is_new = self._s3 is not None and not self._s3._endpoint.http_session._sessions
                return self._s3 if is_new and not refresh else await super().set_session(refresh, **options)

        connect = sync_wrapper(set_session)

    return OneClient


@cache
def _descriptions(folders: str | None) -> Any:
    from botocore.loaders import create_loader

    return create_loader(folders)


def unfinished(fs: Any, path: str, exactly: bool = False) -> list[dict[str, Any]]:
    """{Key, UploadId, Initiated} of uploads below the path; of this very key with `exactly`: MinIO lists no others."""
    bucket, key, _ = fs.split_path(path)
    uploads, after = list[dict[str, Any]](), dict[str, str]()
    with _unless_told():
        while True:
            prefix = key if exactly or not key else f"{key}/"
            page = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **after)
            uploads += [one for one in page.get("Uploads", []) if not exactly or one["Key"] == key]
            if not page.get("IsTruncated"):
                break
            after = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    return uploads


def size(fs: Any, path: str, upload: dict[str, Any]) -> int:
    """Bytes that it has so far."""
    return sum(part["Size"] for part in _parts(fs, path, upload))


def abort(fs: Any, path: str, upload: dict[str, Any]) -> None:
    bucket, _, _ = fs.split_path(path)
    with contextlib.suppress(FileNotFoundError):  # it has just been ended
        fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def _parts(fs: Any, path: str, upload: dict[str, Any]) -> list[dict[str, Any]]:
    """{PartNumber, ETag, Size} of what an upload has; nothing if it has just been ended."""
    bucket, _, _ = fs.split_path(path)
    which, after = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}, 0
    parts = list[dict[str, Any]]()
    with contextlib.suppress(FileNotFoundError), _unless_told():
        while True:
            page = fs.call_s3("list_parts", **which, PartNumberMarker=after)
            parts += page.get("Parts", [])
            if not page.get("IsTruncated"):
                break
            after = page["NextPartNumberMarker"]
    return parts


@contextlib.contextmanager
def _unless_told() -> Iterator[None]:
    """A server that doesn't list uploads, or not to this user, takes them all the same: none is gone on with."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, PermissionError) and error.errno != errno.ENOSYS:
            raise


def _abort_others(fs: Any, path: str) -> None:
    """An upload is begun twice when the first answer was lost."""
    for upload in unfinished(fs, path, exactly=True):
        abort(fs, path, upload)


def _etag_of(fs: Any, path: str) -> str:
    """Empty where there is no such object."""
    try:
        return str(fs.info(path).get("ETag", "")).strip('"')
    except FileNotFoundError:
        return ""
